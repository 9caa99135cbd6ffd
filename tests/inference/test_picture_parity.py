"""Pictures from files on disk to vectors, in each family and layout, beside the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.pictures import CASES
from tests.parity.pictures.case import PictureCase
from tests.parity.pictures.measure import measure, write_files
from tools import parity

IDS = [f"{case.family}: {case.name}" for case in CASES]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_files(tmp_path_factory.mktemp("pictures"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_parity(case: PictureCase, files: list[Path], tmp_path: Path) -> None:
    folder = case.write(tmp_path)
    truth = [np.atleast_2d(rows).mean(0) for rows in case.of_files(folder, files)]
    assert np.corrcoef(truth).min() < 0.9, "the pictures' vectors are all alike: nothing is shown"
    for way, found in measure(case, folder, files).items():
        assert found.least >= 0.99999 and found.apart <= 5e-5, (way, found)


def test_the_table_names_every_case() -> None:
    page = parity.PAGE.read_text(encoding="utf-8")
    missing = [case.name for case in CASES if f"| {case.family} | {case.name} |" not in page]
    assert not missing, "docs/reference/parity.md is stale: run python -m tools.parity"
