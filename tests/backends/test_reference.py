"""The reference backend: the memory of its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nearfield.backends.reference import NumpyOps
from tests.support.mapped_file import needs_smaps, resident_bytes


@needs_smaps
def test_weights_are_in_memory_only_while_an_operation_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    np.ones((1024, 512), np.float32).tofile(path)
    weight = np.asarray(np.memmap(path, np.float32, "r", shape=(1024, 512)))
    ops = NumpyOps()
    assert ops.affine(np.ones((1, 512)), weight, None).tolist() == [[512.0] * 1024]
    assert resident_bytes(path) == 0
    assert ops.rows(weight, np.asarray([[0, 1023]])).sum() == 1024
    assert resident_bytes(path) == 0
