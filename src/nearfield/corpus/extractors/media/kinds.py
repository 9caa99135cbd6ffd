"""Kinds of chunks and types of media files: what a feature of a collection reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

from nearfield.corpus import extractors
from nearfield.corpus.document import TEXT
from nearfield.stores.filters import FieldType

#: What a feature reads: chunks of text, pictures, pages of PDF files as pictures, parts of sounds, parts of videos.
Medium = Literal["text", "image", "page", "audio", "video"]
#: The same without text, as kinds of features.
MediaKind = Literal["image", "page", "audio", "video"]
MEDIA_KINDS: tuple[MediaKind, ...] = ("image", "page", "audio", "video")
#: What a model must read for each kind, where that has another name.
_MODALITIES: Mapping[str, str] = {"page": "image"}
#: What chunks of each kind are called in messages.
NOUNS: Mapping[str, str] = {
    TEXT: "texts", "image": "pictures", "page": "pages of PDF files", "audio": "sounds", "video": "videos"
}  # fmt: skip
#: Types of media files, and the kinds of their chunks.
PICTURE, PDF, SOUND, VIDEO = "picture", "pdf", "sound", "video"
KINDS_BY_TYPE: Mapping[str, tuple[MediaKind, ...]] = {
    PICTURE: ("image",), PDF: ("page",), SOUND: ("audio",), VIDEO: ("video", "audio")
}  # fmt: skip
#: Types of files that have no text, so that they are not read as a whole.
FILES_WITHOUT_TEXT = (SOUND, VIDEO)
_SUFFIXES: Mapping[str, str] = {
    ".avif": PICTURE,
    **dict.fromkeys(
        (
            *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".caf", ".w64"),
            *(".m4a", ".aac"),
        ),
        SOUND,
    ),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".m2ts"), VIDEO),
}
#: Fields of parts of recordings and of their transcripts that filters may use: seconds, the last of the whole file.
TIME_FIELDS: Mapping[str, FieldType] = {"start_time": "float", "end_time": "float", "duration": "float"}
#: Fields of chunks that filters may use in collections with features that read media. ``width`` and ``height`` are
#: pixels.
MEDIA_FIELDS: Mapping[str, FieldType] = {"kind": "str", **TIME_FIELDS, "width": "int", "height": "int"}


def modality_of(kind: str) -> str:
    """Return what a model must read that gives vectors to chunks of a kind."""
    return _MODALITIES.get(kind, kind)


def media_type(name: str, data: bytes = b"") -> str:
    """Return the type of a media file by its name, or by its first bytes if it is a PDF; empty for other files."""
    if data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-"):
        return PDF
    kind = extractors.kind_of(name)
    if kind in (PICTURE, PDF):
        return kind
    # Of the sounds and videos whose speech is recognised, models read some.
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower(), "") if kind in (None, SOUND, VIDEO) else ""


def suffixes_of(kind: str) -> list[str]:
    """Return the suffixes of the files of a type: picture, pdf, sound or video."""
    known = dict.fromkeys((*extractors.extractors_by_suffix(), *_SUFFIXES))
    return sorted(suffix for suffix in known if suffix.startswith(".") and media_type(f"a{suffix}") == kind)
