"""Pictures of passages for a chat model that reads them: pictures, pages of PDF files, and frames of videos."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearfield.argument_checks import require_count
from nearfield.corpus.extractors.renderings import document_thumbnail
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import NearfieldError

#: Pictures of one question, at most, and pixels of their longer side.
MAX_PICTURES, MAX_SIDE = 16, 1024
_VISIBLE = ("image", "page", "video")
_FILES = "files:"


@dataclass(frozen=True)
class PassagePicture:
    """A passage that is a picture, and the bytes of a JPEG of it."""

    passage: SearchHit
    data: bytes

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


def passage_pictures(manifest: Manifest, passages: Sequence[SearchHit], count: int) -> list[PassagePicture]:
    """Return pictures of the best passages that have one, at most ``count``, of at most 1,024 pixels a side.

    Files of folders are read again. Those in archives, and files that have gone or cannot be decoded, have none.

    Raises:
        InputError: ``count`` is no number from 0 to 16.
    """
    count = require_count("pictures", count, minimum=0, maximum=MAX_PICTURES)
    pictures: list[PassagePicture] = []
    for passage in _visible(passages):
        if len(pictures) == count:
            break
        data = passage_picture(manifest, passage)
        if data is not None:
            pictures.append(PassagePicture(passage, data))
    return pictures


def _visible(passages: Sequence[SearchHit]) -> Iterator[SearchHit]:
    """Yield the passages that are pictures, and those that are folded into others."""
    for passage in passages:
        yield from (one for one in (passage, *passage.others) if one.kind in _VISIBLE)


def passage_picture(manifest: Manifest, passage: SearchHit, max_side: int = MAX_SIDE) -> bytes | None:
    """Return a JPEG of a passage that is a picture; None if it is none, or its file has gone or cannot be decoded.

    Args:
        manifest: that of the collection.
        passage: a hit.
        max_side: pixels of the longer side.
    """
    path = _path_of(manifest, passage.document) if passage.kind in _VISIBLE else None
    if path is None:
        return None
    at = 0.0 if passage.start_time is None else (passage.start_time + (passage.end_time or passage.start_time)) / 2
    try:
        return document_thumbnail(path, path.name, page=passage.page or 1, at=at, max_side=max_side)
    except (NearfieldError, OSError):
        return None


def _path_of(manifest: Manifest, document: str) -> Path | None:
    """Return the file of a document; None if it is in no folder."""
    record = manifest.document(document)
    if record is None or not record.source.startswith(_FILES):
        return None
    place = Path(record.source.removeprefix(_FILES))
    path = place if place.is_file() else place / record.key
    return path if path.is_file() else None
