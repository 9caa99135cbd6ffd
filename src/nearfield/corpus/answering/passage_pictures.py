"""Pictures of passages for a chat model that reads them: pictures, pages of PDF files, and frames of videos."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nearfield.argument_checks import require_count
from nearfield.corpus.document import DocumentFile
from nearfield.corpus.extractors.renderings import document_thumbnail
from nearfield.corpus.search.hit import SearchHit
from nearfield.errors import NearfieldError

#: Pictures of one question, at most, and pixels of their longer side.
MAX_PICTURES, MAX_SIDE = 16, 1024
_VISIBLE = ("image", "page", "video")
#: Returns the file of a document by its id; raises NotThere if it has none.
FileOpener = Callable[[str], DocumentFile]


@dataclass(frozen=True)
class PassagePicture:
    """A passage that is a picture, and the bytes of a JPEG of it."""

    passage: SearchHit
    data: bytes

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


def passage_pictures(open_file: FileOpener, passages: Sequence[SearchHit], count: int) -> list[PassagePicture]:
    """Return pictures of the best passages that have one, at most ``count``, of at most 1,024 pixels a side.

    Files are read again by ``Collection.document_file``. Those that have gone, have changed or cannot be decoded have
    none.

    Raises:
        InputError: ``count`` is no number from 0 to 16.
    """
    count = require_count("pictures", count, minimum=0, maximum=MAX_PICTURES)
    pictures: list[PassagePicture] = []
    for passage in _visible(passages):
        if len(pictures) == count:
            break
        data = passage_picture(open_file, passage)
        if data is not None:
            pictures.append(PassagePicture(passage, data))
    return pictures


def _visible(passages: Sequence[SearchHit]) -> Iterator[SearchHit]:
    """Yield the passages that are pictures, and those that are folded into others."""
    for passage in passages:
        yield from (one for one in (passage, *passage.others) if one.kind in _VISIBLE)


def passage_picture(open_file: FileOpener, passage: SearchHit, max_side: int = MAX_SIDE) -> bytes | None:
    """Return a JPEG of a passage that is a picture; None if it is none, or its file has gone or cannot be decoded.

    Args:
        open_file: ``Collection.document_file``.
        passage: a hit.
        max_side: pixels of the longer side.
    """
    if passage.kind not in _VISIBLE:
        return None
    try:
        file = open_file(passage.document)
        at = _second(passage)
        return document_thumbnail(file.source(), file.name, page=passage.page or 1, at=at, max_side=max_side)
    except (NearfieldError, OSError):
        return None


def _second(passage: SearchHit) -> float:
    """Return the second of a video that is shown: that of the frame in the middle of those that its vector has."""
    if passage.frames:
        return passage.frames[len(passage.frames) // 2].seconds
    start = passage.start_time or 0.0
    return (start + (passage.end_time or start)) / 2
