"""nearfield demo media, as anyone runs it first: on what the installed packages ship, without any download."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield.cli.demo import demo_files, finds
from nearfield.cli.demo.finds import Find
from tests.support import cli_runner

for module in ("PIL", "av", "soundfile", "lancedb"):
    pytest.importorskip(module)


pytestmark = pytest.mark.slow


@pytest.fixture
def nearfield(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command without a network, and without models in a cache, OCR or the collections of this machine."""
    for name in ("NEARFIELD_CACHE", "HF_HUB_CACHE", "NEARFIELD_COLLECTIONS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("NEARFIELD_OFFLINE", "1")
    monkeypatch.setattr(demo_files, "find_spec", lambda name: None if name == "rapidocr" else find_spec(name))
    return lambda *words: cli_runner.run(capsys, monkeypatch, "demo", "media", *words)


def test_each_file_is_found_and_what_is_not_is_said(
    nearfield: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = nearfield("--output", tmp_path / "demo")
    assert ran.code == 0, ran.out + ran.err
    assert "understands nothing" in ran.out and "words in the scan: pip install" in ran.out
    by_frames = finds.by_frames

    def with_a_wrong_one(path: Path, means: str) -> Iterator[Find]:
        *right, last = by_frames(path, means)
        yield from [*right, Find("a wrong one", last.query, means, path.name, second=0.0)]

    monkeypatch.setattr(finds, "by_frames", with_a_wrong_one)
    again = nearfield("--output", tmp_path / "demo", "--json")
    report = json.loads(again.out)
    searches = report["searches"]
    assert again.code == 1
    assert [search["question"] for search in searches if not search["right"]] == ["a wrong one"]
    assert report["found"] == len(searches) - 1
    assert {search["means"] for search in searches} == {"example: pixels", "example: spectra"}
    assert all(model["computed"] for model in report["models"].values())
    found = {search["expected"]["file"] for search in searches if search["right"]}
    assert {"scenes.mp4", "scan.pdf"} < found and any(name.endswith(".wav") for name in found)
    assert {path.name for path in (tmp_path / "demo" / "files").iterdir()} == found
