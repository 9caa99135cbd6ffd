"""Pictures, sounds and videos from files on disk to vectors, in each family and layout, beside the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.pictures import CASES, sounds, videos
from tests.parity.pictures.case import PictureCase
from tests.parity.pictures.measure import measure, write_files
from tools import parity

IDS = [f"{case.family}: {case.name}" for case in CASES]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The files of each modality."""
    pictures, recordings, films = (tmp_path_factory.mktemp(name) for name in ("pictures", "sounds", "films"))
    return {
        "image": write_files(pictures),
        "audio": sounds.write_files(recordings),
        "video": videos.write_files(films),
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_parity(case: PictureCase, files: dict[str, list[Path]], tmp_path: Path) -> None:
    folder, own = case.write(tmp_path), files[case.modality]
    truth = [np.atleast_2d(rows).mean(0) for rows in case.of_files(folder, own)]
    assert np.corrcoef(truth).min() < 0.9, "the vectors are all alike: nothing is shown"
    for way, found in measure(case, folder, own).items():
        assert found.least >= 0.99999 and found.apart <= 5e-5, (way, found)


def test_the_table_names_every_case() -> None:
    page = parity.PAGE.read_text(encoding="utf-8")
    missing = [case.name for case in CASES if f"| {case.family} | {case.name} |" not in page]
    assert not missing, "docs/reference/parity.md is stale: run python -m tools.parity"
