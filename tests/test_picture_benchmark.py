"""The benchmark of pictures: all engines give the same vectors, and one that does not is not compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import media_engines, pictures
from tests.support import tiny_pictures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


def test_engines_do_the_same_work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pictures.FILES, "web", (640, 427, 60))
    files = pictures.write_photos(tmp_path, "web", quick=True)
    engines = {name: pictures.ENGINES[name](folder) for name in pictures.engines_of(folder)}
    assert pictures.FASTEMBED not in engines
    assert len(files) == 5
    media_engines.require_same({name: engine.pictures(files) for name, engine in engines.items()})
    media_engines.require_same({name: engine.texts(list(pictures.CAPTIONS)) for name, engine in engines.items()})
    shares = engines[media_engines.OURS].shares(files)
    assert 0.98 < shares["decode"] + shares["resize"] + shares["model"] < 1.02
    memory = engines[media_engines.OURS].stream(files * 40)
    assert memory["photos"] == 200
    assert memory["rss_mib_peak"] >= memory["rss_mib_early"] > 0


def test_an_engine_with_other_vectors_is_refused() -> None:
    rows = np.eye(3, 8)
    with pytest.raises(RuntimeError, match="other vectors"):
        media_engines.require_same({"transformers": rows, "nearfield float32": rows + 0.1 * rows[::-1]})


def test_an_engine_in_its_process(folder: Path, tmp_path: Path) -> None:
    files = pictures.write_photos(tmp_path, "web", quick=True)
    contender = media_engines.MediaContender("benchmarks.pictures", media_engines.OURS, folder, files)
    assert contender.sample.shape == (4, 24)
    assert contender.ask("pictures", files)["seconds"] > 0
    assert contender.ask("texts", ["a", "b"])["seconds"] > 0
    contender.close()
