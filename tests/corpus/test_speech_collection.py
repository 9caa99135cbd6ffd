"""Collections with speech: what is read when the option changes, times of hits, and what is reported."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.config import parse_config
from nearfield.corpus.extractors import speech
from nearfield.corpus.sources import files as file_source
from nearfield.corpus.sources.spec import parse_source
from nearfield.errors import InputError, MissingExtra
from nearfield.testing import write_tiny_model
from tests.support.recordings import ToneTranscriber, read_tones, sound_of, write_recording, write_wav

pytest.importorskip("av", reason="the extra speech is not installed")
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot")
#: Each word for a second, ten seconds after the one before.
TALK = [(word, 10.0 * number + 1, 10.0 * number + 2) for number, word in enumerate(WORDS)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    place = tmp_path / "files"
    place.mkdir()
    (place / "note.txt").write_text("A red dog sat on a blue mat and said hello.", encoding="utf-8")
    (place / "talk.wav").write_bytes(write_wav(sound_of(TALK, 62)))
    (place / "film.mp4").write_bytes(write_recording(sound_of([("echo", 2.0, 3.0)], 5), ".mp4"))
    return place


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToneTranscriber:
    return read_tones(monkeypatch, tmp_path / "model")


@pytest.fixture
def collection(tmp_path: Path, folder: Path) -> Iterator[Collection]:
    definition = {
        "features": {"dense": {"model": str(write_tiny_model(tmp_path / "tiny"))}},
        "store": f"memory:{tmp_path}",
        "chunks": {"tokens": 16, "overlap": 0},
        "fields": {"duration": "float", "language": "str"},
    }
    with Collection.create("docs", definition) as created:
        yield created


def states(collection: Collection) -> dict[str, str]:
    return {info.id.rpartition("#")[2]: info.state for info in collection.documents()}


def test_the_option_reads_recordings_and_nothing_else_again(
    collection: Collection, folder: Path, tones: ToneTranscriber
) -> None:
    first = collection.index([parse_source(str(folder))])
    assert states(collection) == {"note.txt": "done"}
    assert "--speech" in first.to_text()
    collection.configure({"speech": True})
    report = collection.index()
    assert states(collection) == {"note.txt": "done", "talk.wav": "done", "film.mp4": "done"}
    assert (report.new, report.changed, report.unchanged) == (2, 0, 1)
    calls = len(tones.calls)
    again = collection.index()
    assert (again.new, again.changed, again.unchanged) == (0, 0, 3)
    assert len(tones.calls) == calls
    (folder / "talk.wav").write_bytes(write_wav(sound_of(TALK[:2], 62)))
    assert collection.index().changed == 1
    collection.configure({"speech": False})
    collection.index()
    assert states(collection) == {"note.txt": "done"}


def test_hits_say_when_it_is_said(collection: Collection, folder: Path, tones: ToneTranscriber) -> None:
    collection.configure({"speech": "small"})
    collection.index([parse_source(str(folder))])
    hits = [hit for hit in collection.search("delta", 100, mode="bm25") if hit.document.endswith("talk.wav")]
    assert hits
    for hit in hits:
        assert "Delta" in hit.text
        assert hit.start_time is not None
        assert hit.end_time is not None
        assert hit.start_time <= 31
        assert hit.end_time >= 32
        assert hit.end_time - hit.start_time < 40
        assert collection.text(hit.document)[hit.start : hit.end] == hit.text
    (film,) = [hit for hit in collection.search("echo", 100, where={"type": "video"}) if "Echo" in hit.text]
    assert film.location.describe() == "0:02-0:03" or film.location.describe() == "0:01-0:03"
    (only,) = {hit.document for hit in collection.search("echo", 100, where={"duration": {"lt": 20}, "language": "en"})}
    assert only.endswith("film.mp4")


def test_the_model_and_the_language_of_the_collection_count(
    collection: Collection, folder: Path, tones: ToneTranscriber
) -> None:
    collection.configure({"speech": "small"})
    collection.index([parse_source(str(folder))])
    assert {language for _, language in tones.calls} == {""}
    collection.configure({"speech": "base"})
    assert collection.index().changed == 2
    calls = len(tones.calls)
    collection.configure({"language": "de"})
    collection.index()
    assert {language for _, language in tones.calls[calls:]} == {"de"}


def test_recordings_in_archives_are_read_and_unreadable_ones_reported(
    collection: Collection, folder: Path, tones: ToneTranscriber
) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inner.wav", write_wav(sound_of([("bravo", 1, 2)], 5)))
    (folder / "talks.zip").write_bytes(archive.getvalue())
    (folder / "broken.mp3").write_bytes(b"no sound at all")
    (folder / "empty.ogg").write_bytes(b"")
    (folder / "quiet.wav").write_bytes(write_wav(sound_of([], 3)))
    collection.configure({"speech": True})
    report = collection.index([parse_source(str(folder))])
    assert states(collection) == {
        "note.txt": "done",
        "talk.wav": "done",
        "film.mp4": "done",
        "talks.zip!/inner.wav": "done",
        "broken.mp3": "failed",
        "empty.ogg": "failed",
        "quiet.wav": "failed",
    }
    text = str(report.to_json())
    assert "no sound or video" in text
    assert "the file is empty" in text
    assert "no speech was recognised" in text


def test_large_recordings_are_never_read_into_memory(
    collection: Collection, folder: Path, tones: ToneTranscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.configure({"speech": True})
    source = parse_source(str(folder))
    monkeypatch.setattr(file_source, "_read", lambda path, _: path.read_bytes() if path.suffix == ".txt" else 1 / 0)
    collection.index([source])
    assert states(collection)["talk.wav"] == "done"
    monkeypatch.setattr(file_source, "MAX_RECORDING_BYTES", 5000)
    (folder / "talk.wav").write_bytes(write_wav(sound_of(TALK[:1], 62)))
    report = collection.index([source])
    assert "larger than 5,000 bytes" in str(report.to_json())


def test_without_the_packages_the_run_says_what_to_install(
    collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "find_spec", lambda _: None)
    collection.configure({"speech": True})
    with pytest.raises(MissingExtra, match=r"^Transcripts need 'faster_whisper': pip install 'nearfield\[speech\]'$"):
        collection.index([parse_source(str(folder))])
    assert not states(collection)


def test_values_of_the_option() -> None:
    assert [parse_config({"speech": value}).speech for value in (True, False, "small")] == [True, False, "small"]
    assert "speech" not in parse_config({"speech": False}).to_dict()
    for value in ("", 3, ["base"]):
        with pytest.raises(InputError, match="speech"):
            parse_config({"speech": value})
