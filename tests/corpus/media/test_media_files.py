"""Collections read every format of pictures, pages, sounds and videos, and bad files among them cost nothing else."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.extractors.media.kinds import KINDS_BY_TYPE, suffixes_of
from nearfield.corpus.sources.spec import parse_source
from tests.support import media_files, recordings
from tests.support.films import Film, write_film

pytest.importorskip("transformers")
pytest.importorskip("soundfile")

#: Frames that are shown for different times.
_UNEVEN = tuple(np.cumsum([0.0, *(0.04 if number % 5 else 0.4 for number in range(23))]))
#: Type and suffix of each format.
FORMATS = [(kind, suffix) for kind in KINDS_BY_TYPE for suffix in suffixes_of(kind)]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _bomb() -> bytes:
    """Return a mail with a Word file that would unpack to a gibibyte, by the directory of its archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(2**20))
    data = bytearray(packed.getvalue())
    size = data.rindex(b"PK\x01\x02") + 24
    data[size : size + 4] = (2**30).to_bytes(4, "little")
    mail = EmailMessage()
    mail["Subject"], mail["From"] = "Invoice", "a@example.org"
    mail.set_content("The invoice is attached.")
    mail.add_attachment(bytes(data), maintype="application", subtype="octet-stream", filename="invoice.docx")
    return mail.as_bytes()


def _not_a_number() -> bytes:
    """Return a sound of three seconds whose first value is no number."""
    import soundfile  # type: ignore[import-untyped]

    file, samples = io.BytesIO(), np.zeros(3 * recordings.RATE, np.float32)
    samples[0] = np.nan
    soundfile.write(file, samples, recordings.RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def _locked() -> bytes:
    """Return a PDF with a password."""
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    canvas = Canvas(file, encrypt=StandardEncryption("secret"))
    canvas.drawString(72, 720, "secret")
    canvas.save()
    return file.getvalue()


def write_bad(folder: Path) -> None:
    """Write files that are damaged, encrypted or unusual."""
    film, noise = write_film(Film(count=48)), np.random.default_rng(0).bytes(20_000)
    files = {
        "cut.mp4": _half(film),
        "cut.mkv": _half(write_film(Film("mkv hevc", count=48))),
        "encrypted.mp4": film[:32] + noise,
        "encrypted.webm": write_film(Film("webm vp9"))[:48] + noise,
        "encrypted.pdf": _locked(),
        "uneven.mp4": write_film(Film(times=_UNEVEN)),
        "turned.mp4": write_film(Film(turn=90)),
        "tracks.mkv": recordings.write_recording(np.zeros(recordings.RATE, np.float32), ".mkv", tracks=3),
        "bomb.eml": _bomb(),
        "not_a_number.wav": _not_a_number(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)


#: Bad files that are set aside, with the reason, and those that are read in part, with what is missing.
REFUSED = {
    "cut.mp4": "cannot be read as MP4",
    "encrypted.mp4": "cannot be read as MP4",
    "encrypted.webm": "cannot be read as Matroska",
    "encrypted.pdf": "password",
}
PARTIAL = {"cut.mkv": "its frames end after", "bomb.eml": "would unpack to 1,073,741,824 bytes"}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    place = tmp_path_factory.mktemp("formats")
    models = media_files.write_models(place / "models")
    (files := place / "files").mkdir()
    for _, suffix in FORMATS:
        (files / f"good{suffix}").write_bytes(media_files.sample(suffix))
    write_bad(files)
    config = media_files.media_config(models, f"memory:{place}")
    with Collection.create("formats", config, home=place / "home") as created:
        created.index([parse_source(str(files))])
        yield created


def documents(collection: Collection) -> dict[str, Any]:
    return {document.key: document for document in collection.documents()}


def kinds(collection: Collection, name: str) -> list[str]:
    return [chunk.kind for chunk in collection.manifest.chunks(documents(collection)[name].id)]


def test_each_format_gives_chunks_of_its_kind(collection: Collection) -> None:
    assert {kind for kind, _ in FORMATS} == set(KINDS_BY_TYPE) and len(FORMATS) > 25
    read = {suffix: set(kinds(collection, f"good{suffix}")) for _, suffix in FORMATS}
    silent = {"video": {"video"}}  # the films have no sound
    assert read == {suffix: silent.get(kind, set(KINDS_BY_TYPE[kind])) for kind, suffix in FORMATS}
    assert collection.verify()["whole"]


def test_what_cannot_be_read_is_set_aside_with_the_reason(collection: Collection) -> None:
    listed = documents(collection)
    for name, reason in REFUSED.items():
        assert re.search(reason, listed[name].error), listed[name]
        assert not kinds(collection, name)
    for name, reason in PARTIAL.items():
        assert kinds(collection, name), listed[name]
        assert listed[name].state == "partial" and reason in str(listed[name].losses), listed[name]


def test_errors_name_the_document_and_not_its_path(collection: Collection) -> None:
    (loss,) = documents(collection)["not_a_number.wav"].losses
    assert "0:00-0:02, which cannot be decoded (not_a_number.wav from 0 s on has a value" in str(loss)


def test_unusual_videos_are_read_whole(collection: Collection) -> None:
    chunks = {
        name: collection.manifest.chunks(documents(collection)[name].id)
        for name in ("uneven.mp4", "turned.mp4", "tracks.mkv")
    }
    assert all(chunks.values())
    assert chunks["uneven.mp4"][-1].payload["end_time"] == pytest.approx(_UNEVEN[-1], abs=0.5)
    assert {(chunk.payload["width"], chunk.payload["height"]) for chunk in chunks["turned.mp4"]} == {(48, 64)}
