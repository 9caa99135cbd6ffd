"""`LazyTensor`: a tensor in a weight file, with its dtype and shape; its values are read on first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearfield.errors import WeightsError

#: How each dtype lies in memory. numpy has no bfloat16: its 16 bits are the upper half of a float32.
LAYOUT: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


def _nothing() -> None:
    """Keep what is in memory."""


@dataclass(frozen=True)
class LazyTensor:
    """One tensor of a file.

    ``load`` returns it in the file's own dtype, with ``shape``. ``release`` is called after a tensor was copied: its
    pages of the file need not be in memory any more.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]
    release: Callable[[], None] = _nothing

    def read(self, name: str) -> np.ndarray:
        """Return the tensor as C-contiguous float32; ``name`` is for the message when that cannot be done."""
        if self.dtype not in FLOATS:
            raise WeightsError(
                f"{name} in {self.file} is stored as {self.dtype}: quantised or integer weights cannot be loaded; "
                "use the float weights of this model"
            )
        stored = self.load()
        values = widen(stored, self.dtype)
        if not np.may_share_memory(values, stored):
            self.release()
        return values


def widen(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Return values of one of ``FLOATS`` as C-contiguous float32."""
    if dtype == "BF16":
        wide = raw.astype(np.uint32)
        wide <<= 16
        return np.ascontiguousarray(wide.view(np.float32).reshape(raw.shape))
    return np.require(raw, dtype=np.float32, requirements=["C", "A"])
