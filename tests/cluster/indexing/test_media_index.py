"""Collections of pictures, sounds and videos, whose segments workers decode and encode."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from nearfield.cluster import RayWorkers
from nearfield.corpus.collection import Collection
from nearfield.corpus.document import MediaContent, StoredFile
from nearfield.corpus.indexing.stages.media_encoder import MediaEncoder
from nearfield.corpus.sources.spec import parse_source
from nearfield.errors import InputError
from tests.corpus.conftest import *  # noqa: F403 - they compute in float32
from tests.support import media_files
from tests.support.collection_state import collection_state

pytest.importorskip("transformers")
pytestmark = [pytest.mark.process, pytest.mark.slow]

#: The thread that is a worker.
_WORKER = "ThreadPoolExecutor"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return media_files.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds; a picture and a sound are read from their paths, and a page cannot be decoded."""
    folder = media_files.write_media(tmp_path_factory.mktemp("files") / "media")
    (folder / "large.png").write_bytes(media_files.picture(9, size=(800, 600)))
    pages = media_files.tiff([20, 21])
    (folder / "torn.tiff").write_bytes(pages[: len(pages) // 2 + 2000])
    return folder


@pytest.fixture(scope="module")
def index(models: dict[str, str], files: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that indexes the files into a new collection, and returns report and state."""

    def run(workers: RayWorkers | None) -> tuple[Any, dict[str, Any]]:
        place = tmp_path_factory.mktemp("collection")
        with Collection.create("media", media_files.media_config(models, f"memory:{place}"), home=place) as collection:
            report = collection.index([parse_source(str(files))], workers=workers)
            return report, collection_state(collection)

    return run


@pytest.fixture(scope="module")
def expected(index: Any) -> tuple[Any, dict[str, Any]]:
    """What a run without workers gives."""
    result: tuple[Any, dict[str, Any]] = index(None)
    return result


def _is_worker() -> bool:
    return threading.current_thread().name.startswith(_WORKER)


def _hide_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers see no file."""
    source = MediaContent.source

    def hidden(self: MediaContent) -> Path | bytes:
        if self.path and _is_worker():
            raise InputError(f"{self.name}: cannot be read.")
        return source(self)

    monkeypatch.setattr(MediaContent, "source", hidden)
    monkeypatch.setattr(StoredFile, "is_there", lambda self: not _is_worker())


@pytest.mark.parametrize("case", ["seen", "sent", "too large to send"])
def test_workers_give_the_chunks_and_vectors_of_a_run_without_them(
    index: Any, expected: Any, workers: RayWorkers, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, plain = expected
    encoded: list[bool] = []
    stream = MediaEncoder.stream_media

    def noted(self: MediaEncoder, inputs: Any) -> Any:
        encoded.append(_is_worker())
        return stream(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(MediaEncoder, "stream_media", noted)
        if case != "seen":
            _hide_files(patch)
        if case == "too large to send":
            patch.setattr("nearfield.cluster.indexing.remote_stages.with_bytes", lambda media: media)
        there, actual = index(workers)
    assert [reason for _, reason in here.failures] == [reason for _, reason in there.failures]
    assert (True in encoded, False in encoded) == (True, case == "too large to send")
    assert actual["documents"] == plain["documents"] and actual["chunks"] == plain["chunks"]
    for feature, vectors in plain["vectors"].items():
        assert actual["vectors"][feature].keys() == vectors.keys()
        for key, vector in vectors.items():
            assert actual["vectors"][feature][key] == pytest.approx(vector, abs=1e-5)


def test_a_recording_that_is_too_large_to_send_fails_alone(
    index: Any, workers: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide_files(monkeypatch)
    monkeypatch.setattr("nearfield.cluster.indexing.messages._MAX_SENT_BYTES", 2**10)
    report, state = index(workers)
    assert {key for key, row in state["documents"].items() if row[3] == "failed"} >= {"clip.mp4", "tone.wav"}
    assert any("Mount its folder on all machines" in reason for _, reason in report.failures)
    assert state["documents"]["beach.jpg"][3] == "done"
