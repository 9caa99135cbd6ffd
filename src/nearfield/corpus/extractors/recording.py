"""Extractors for sounds and videos: a transcript of what is said, in paragraphs with their times."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, ClassVar

from nearfield.corpus.document import Document, Loss, StoredFile
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.speech.transcript import SpeechReader, Transcript
from nearfield.corpus.extractors.spoken_passages import SpokenCue, add_passages, spoken_passages
from nearfield.errors import InputError
from nearfield.stores.filters import Value


class SoundExtractor(Extractor):
    """Sounds. They have text only with speech recognition."""

    suffixes: Mapping[str, str] = {
        ".wav": "audio/wav",
        ".flac": "audio/flac",
        ".ogg": "audio/ogg",
        ".oga": "audio/ogg",
        ".opus": "audio/opus",
        ".mp3": "audio/mpeg",
        ".aiff": "audio/aiff",
        ".aif": "audio/aiff",
        ".m4a": "audio/mp4",
        ".aac": "audio/aac",
    }
    uses_speech = True
    reads_stored = True
    medium = "audio"
    #: What it reads, for messages.
    noun: ClassVar[str] = "a sound"

    def parse(self, data: bytes, name: str) -> Document:
        """Return the transcript."""
        if not self.options.speech:
            raise InputError(
                f"{name}: {self.noun}. What is said in it is read with speech recognition: install it (pip install "
                "'nearfield[speech]') and set 'speech = true' in the collection's definition (--speech)."
            )
        reader = SpeechReader(self.options, self.on_page, name=name)
        try:
            with _opened(data, name) as file:
                transcript = reader.read(file, name)
        except InputError as error:
            if not self.is_searched_without_text:
                raise
            return Document("", losses=(Loss(f"what is said in it ({error})"),))
        if not transcript.segments and not self.is_searched_without_text:
            raise InputError(f"{name}: {_why_silent(transcript)}.")
        return _document(transcript, PurePosixPath(name).stem)


class VideoExtractor(SoundExtractor):
    """Videos: what is said in them. Their pictures are not read."""

    suffixes: Mapping[str, str] = {
        ".mp4": "video/mp4",
        ".m4v": "video/x-m4v",
        ".mov": "video/quicktime",
        ".mkv": "video/x-matroska",
        ".webm": "video/webm",
        ".avi": "video/x-msvideo",
    }
    medium = "video"
    noun = "a video"


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[BinaryIO]:
    """Open the bytes of a file, or the file that they stand for."""
    if not isinstance(data, StoredFile):
        yield io.BytesIO(data)
        return
    try:
        with data.opened() as file:
            yield file
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}).") from error


def _why_silent(transcript: Transcript) -> str:
    if not transcript.has_sound:
        return "a video without sound, in which nothing is said"
    reason = "; ".join(loss.reason for loss in transcript.losses)
    return f"no speech was recognised in it{f' ({reason})' if reason else ''}"


def _document(transcript: Transcript, title: str) -> Document:
    builder = DocumentBuilder()
    cues = (SpokenCue(segment.start, segment.end, [segment.text]) for segment in transcript.segments)
    add_passages(builder, spoken_passages(cues))
    builder.losses += transcript.losses
    meta: dict[str, Value] = {"duration": round(transcript.seconds, 2)}
    if transcript.languages:
        meta["language"] = ", ".join(transcript.languages)
    return builder.document("prose", title, meta)
