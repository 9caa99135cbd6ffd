"""A bucket at a server on the loopback interface, and the command that writes to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearfield import Encoder
from nearfield.fileio.s3.path import S3Path
from tests.support.cli_runner import run
from tests.support.s3_bucket import Run
from tests.support.s3_server import BUCKET, Faults, environment, s3_server


@pytest.fixture
def faults() -> Faults:
    """What goes wrong at the server."""
    return Faults()


@pytest.fixture
def home(faults: Faults, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Path]:
    """A folder in a bucket; drafts go to a folder of the test."""
    (tmp_path / "drafts").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "drafts"))
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    with s3_server(faults) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        yield S3Path(BUCKET, "out")


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, home: S3Path) -> Run:
    """Run ``nearfield embed`` with the tiny model."""
    model = ["--model", str(tiny.recipe.folder), "--precision", "float32", "--id-field", "id"]
    return lambda *words: run(capsys, monkeypatch, "embed", *words, *model)
