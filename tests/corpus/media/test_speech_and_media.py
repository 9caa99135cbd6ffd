"""Recordings that are searched by what is said in them and by how they sound, at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from tests.support import media_files
from tests.support.recordings import ToneTranscriber, read_tones, sound_of, write_recording, write_wav

pytest.importorskip("transformers")
pytest.importorskip("soundfile")
pytest.importorskip("av")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return media_files.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def encoders(models: dict[str, str]) -> Iterator[dict[str, Encoder]]:
    loaded = {path: Encoder(path, compile_cache=False, precision="float32") for path in models.values()}
    yield loaded
    for encoder in loaded.values():
        encoder.close()


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToneTranscriber:
    return read_tones(monkeypatch, tmp_path / "model")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "talk.wav").write_bytes(write_wav(sound_of([("alpha", 1, 2), ("delta", 4, 5)], 6)))
    (folder / "quiet.wav").write_bytes(write_wav(sound_of([], 3)))
    (folder / "film.mp4").write_bytes(write_recording(sound_of([("echo", 2, 3)], 4), ".mp4"))
    (folder / "silent.mp4").write_bytes(write_recording(sound_of([], 4), ".mp4", tracks=0))
    (folder / "note.m4a").write_bytes(write_recording(sound_of([("bravo", 1, 2)], 3), ".m4a"))
    return folder


@pytest.fixture
def collection(
    tmp_path: Path, files: Path, models: dict[str, str], encoders: dict[str, Encoder], tones: ToneTranscriber
) -> Iterator[Collection]:
    config = {**media_files.media_config(models, f"memory:{tmp_path}"), "speech": True}
    with Collection.create("media", config, home=tmp_path / "home", encoder_of=encoders.__getitem__) as created:
        report = created.index([parse_source(str(files))])
        assert not report.failures, report.to_text()
        yield created


def kinds_of(collection: Collection) -> dict[str, set[str]]:
    chunks = {each.key: collection.manifest.chunks(each.id) for each in collection.documents()}
    return {key: {chunk.kind for chunk in rows} for key, rows in chunks.items()}


def test_a_recording_has_a_transcript_and_segments(collection: Collection) -> None:
    assert kinds_of(collection) == {
        "talk.wav": {"text", "audio"},
        "quiet.wav": {"audio"},
        "film.mp4": {"text", "video", "audio"},
        "silent.mp4": {"video"},
        "note.m4a": {"text", "audio"},
    }
    assert Counter(info.state for info in collection.documents()) == {"done": 5}
    assert collection.verify()["whole"]
    (hit,) = [hit for hit in collection.search("delta", 10, mode="bm25") if "Delta" in hit.text]
    assert (hit.kind, hit.location.describe()) == ("text", "0:01-0:05")


def test_transcripts_are_filtered_by_their_times(collection: Collection) -> None:
    said = {"path": "talk.wav", "kind": "text"}
    for times, count in (
        ({"start_time": {"lt": 2.0}, "end_time": {"gt": 4.0}}, 1),
        ({"start_time": {"gte": 2.0}}, 0),
        ({"duration": {"gt": 5.5, "lt": 6.5}}, 1),
        ({"duration": {"gt": 6.5}}, 0),
    ):
        for mode in ("bm25", "text"):
            assert len(collection.search("alpha delta", 9, mode=mode, where={**said, **times})) == count, (mode, times)


def test_speech_that_is_switched_off_and_on_keeps_the_segments(collection: Collection) -> None:
    def segments() -> set[str]:
        rows: list[Any] = [chunk for each in collection.documents() for chunk in collection.manifest.chunks(each.id)]
        return {chunk.id for chunk in rows if chunk.kind != "text"}

    before = segments()
    collection.configure({"speech": False})
    report = collection.index()
    assert set().union(*kinds_of(collection).values()) == {"audio", "video"}
    assert segments() == before
    assert report.embedded == 0
    collection.configure({"speech": True})
    collection.index()
    assert segments() == before
    assert "text" in kinds_of(collection)["film.mp4"]
