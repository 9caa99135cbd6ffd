"""The benchmark of sounds: all engines give the same vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import media_engines, sounds
from tests.support import tiny_sounds

pytestmark = pytest.mark.slow


def test_engines_do_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "SECONDS", 1)
    folder = tiny_sounds.write_clap(tmp_path / "clap")
    files = [file for name in sounds.FILES for file in sounds.write_sounds(tmp_path, name, quick=True)]
    assert [file.suffix for file in files] == [".wav", ".wav", ".flac", ".flac"]
    engines = {name: create(folder) for name, create in sounds.ENGINES.items()}
    media_engines.require_same({name: engine.sounds(files) for name, engine in engines.items()})
    shares = engines[media_engines.OURS].shares(files)
    assert 0.98 < shares["decode"] + shares["mel"] + shares["model"] < 1.02
