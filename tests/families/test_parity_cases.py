"""Every family and head beside its reference: alone, batched with other lengths, over-length, padded on either side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity import Case, cases
from tests.parity.measure import inputs, nearness, ours
from tools import parity

CASES = cases()
IDS = [f"{case.family}: {case.name}" for case in CASES]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_parity(case: Case, tmp_path: Path) -> None:
    folder = case.write(tmp_path)
    items = inputs(case)
    batched = ours(case, folder, items, precision="float32")
    scale = max(1.0, max(float(np.abs(row).max(initial=0)) for row in batched))
    for padding in case.paddings:
        found = nearness(batched, case.expect(folder, items, padding=padding))
        assert found.least >= 0.99999 and found.apart <= 5e-4 * scale, (padding, found)
    alone = nearness(ours(case, folder, items[:3], alone=True, precision="float32"), batched[:3])
    assert alone.least >= 0.99999 and alone.apart <= 5e-4 * scale, alone


def test_the_table_names_every_case() -> None:
    page = parity.PAGE.read_text(encoding="utf-8")
    missing = [case.name for case in CASES if f"| {case.family} | {case.name} |" not in page]
    assert not missing, "docs/reference/parity.md is stale: run python -m tools.parity"
