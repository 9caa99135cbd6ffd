"""Copies of pictures and of parts of videos: what looks the same, by perceptual hashes, has the same text, and is near.

A hash sees shapes, not details: forms that differ in a number look the same. So copies must also have the same text, if
OCR reads it, and the caller compares their vectors.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from nearfield.corpus.manifest.sqlite import Row, SharedConnection
from nearfield.media.copies.hash_index import PictureHashIndex
from nearfield.media.copies.picture_hash import PictureHash, hash_picture
from nearfield.media.copies.video_hash import VideoHash, VideoHashIndex, hash_video
from nearfield.media.image import Image
from nearfield.media.video.video import Video

#: Kinds of chunks that may be copies. Pages of forms differ too little to decide it by their looks.
COPIED_KINDS = ("image", "video")
#: Bits of 256 in which copies differ at most. Of pictures, forms that differ in a number are not within 8, and some are
#: within 16 (docs/guides/duplicates.md). Videos agree in several frames.
_MAX_DISTANCE, _MAX_FRAME_DISTANCE = 8, 16
_TABLES = (
    """CREATE TABLE IF NOT EXISTS media_hashes(number INTEGER PRIMARY KEY, chunk TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL, kind TEXT NOT NULL, family TEXT NOT NULL, hash BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS media_hashes_document ON media_hashes(document)",
)
_CHUNKS = "SELECT chunk, kind, family FROM media_hashes WHERE document = ?"
_ALL = "SELECT chunk, kind, family, hash FROM media_hashes ORDER BY number"
_DEPENDENT = """SELECT DISTINCT d.document FROM duplicates d JOIN media_hashes m ON m.chunk = d.kept_chunk
    WHERE m.document = ?"""


@dataclass(frozen=True)
class MediaLook:
    """What a picture or a part of a video looks like; a picture has one frame and no length."""

    kind: str
    value: VideoHash

    @classmethod
    def from_input(cls, media: Image | Video, seconds: float) -> MediaLook:
        """Return the look of a picture, or of a part of a video of so many seconds. Raises what decoding raises."""
        if isinstance(media, Video):
            return cls("video", hash_video(media, seconds))
        return cls("image", VideoHash(0.0, (hash_picture(media.read()),)))

    @classmethod
    def from_bytes(cls, kind: str, data: bytes) -> MediaLook:
        """Return the look that ``to_bytes`` wrote."""
        seconds, frames = msgspec.msgpack.decode(data, type=tuple[float, list[bytes]])
        return cls(kind, VideoHash(seconds, tuple(map(PictureHash.from_bytes, frames))))

    def to_bytes(self) -> bytes:
        """Return the look as bytes."""
        return msgspec.msgpack.encode((self.value.seconds, [frame.to_bytes() for frame in self.value.frames]))


class LookIndex:
    """Looks of one kind in memory, each with the id of its chunk and its family."""

    def __init__(self, kind: str) -> None:
        self._pictures = PictureHashIndex(_MAX_DISTANCE) if kind == "image" else None
        self._videos = VideoHashIndex(_MAX_FRAME_DISTANCE)
        #: The chunks in the order of their numbers, and the numbers by family and chunk.
        self._chunks: list[str] = []
        self._families: dict[str, dict[str, int]] = defaultdict(dict)

    def add(self, chunk: str, family: str, look: MediaLook) -> None:
        """Add the look of a chunk."""
        frames = look.value.frames
        number = self._videos.add(look.value) if self._pictures is None else self._pictures.add(frames[0])
        self._chunks.append(chunk)
        self._families[family][chunk] = number

    def remove(self, chunk: str, family: str) -> None:
        """Leave a chunk out of later comparisons."""
        self._families[family].pop(chunk, None)

    def near(self, chunk: str, family: str) -> Iterator[str]:
        """Yield the other chunks of a family that look like one, the nearest first."""
        numbers = self._families[family]
        others = np.fromiter(numbers.values(), np.int64, len(numbers))
        index = self._videos if self._pictures is None else self._pictures
        for matches in index.search(np.array([numbers[chunk]]), others):
            for place in np.lexsort((matches.numbers, matches.values)).tolist():
                yield self._chunks[int(matches.numbers[place])]


class MediaCopyIndex:
    """The pictures and parts of videos that are no copies, in a table of the manifest.

    The caller opens the transactions. The result depends only on the order of the chunks.
    """

    def __init__(self, connection: sqlite3.Connection | SharedConnection) -> None:
        self._connection = connection
        for table in _TABLES:
            connection.execute(table)

    @cached_property
    def _indexes(self) -> dict[str, LookIndex]:
        indexes = {kind: LookIndex(kind) for kind in COPIED_KINDS}
        for chunk, kind, family, data in self._rows(_ALL):
            indexes[kind].add(chunk, family, MediaLook.from_bytes(kind, data))
        return indexes

    def add(
        self, chunk: str, document: str, family: str, look: MediaLook, is_same: Callable[[str], bool]
    ) -> str | None:
        """Return the id of the chunk that a chunk is a copy of; if there is none, add the chunk and return None.

        Args:
            chunk: its id.
            document: that of its document.
            family: what copies have in common besides their looks.
            look: what it looks like.
            is_same: whether it is a copy of the chunk with an id that looks the same.
        """
        index = self._indexes[look.kind]
        index.add(chunk, family, look)
        original = next(filter(is_same, index.near(chunk, family)), None)
        if original is not None:
            index.remove(chunk, family)
        else:
            sql = "INSERT OR REPLACE INTO media_hashes(chunk, document, kind, family, hash) VALUES (?, ?, ?, ?, ?)"
            self._rows(sql, chunk, document, look.kind, family, look.to_bytes())
        return original

    def remove(self, documents: Sequence[str]) -> list[str]:
        """Remove all chunks of documents; return the other documents with copies of them, sorted.

        These documents must be processed again, because the chunks that they are copies of may no longer exist.
        """
        dependent: set[str] = set()
        for document in documents:
            dependent |= {name for (name,) in self._rows(_DEPENDENT, document)}
            for chunk, kind, family in self._rows(_CHUNKS, document):
                self._indexes[kind].remove(chunk, family)
            self._rows("DELETE FROM media_hashes WHERE document = ?", document)
        return sorted(dependent.difference(documents))

    def _rows(self, statement: str, *values: object) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()
