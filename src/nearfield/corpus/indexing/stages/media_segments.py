"""``SegmentLister``: the segments of media files, and the records of their chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Document, Loss, MediaContent, NamedBytes, StoredFile
from nearfield.corpus.extractors.media.kinds import media_type
from nearfield.corpus.extractors.media.segments import Segment, list_segments
from nearfield.corpus.extractors.media.settings import MediaScope
from nearfield.corpus.indexing.document_task import ItemContent, segment_records
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord
from nearfield.errors import InputError

#: Bytes of a file from which on it is read again when it is decoded, if it has a path.
_MAX_IN_MEMORY = 2**20


@dataclass(frozen=True)
class FileSegments:
    """The segments of a file, what of it could not be listed, and when it was taken.

    ``media`` is None if the collection reads none.
    """

    media: MediaContent | None = None
    segments: Sequence[Segment] = ()
    losses: tuple[Loss, ...] = ()
    date: str = ""


class SegmentLister:
    """Lists the segments of the files of one collection."""

    def __init__(self, config: CollectionConfig) -> None:
        self._reading, self._ocr, self._speech = config.reading, bool(config.ocr), bool(config.speech)

    def list(self, content: ItemContent) -> FileSegments:
        """Return the segments of a file.

        Raises:
            InputError: it cannot be read, and has no text that could be searched instead.
            MissingExtra: a library is not installed.
        """
        media = media_content(content, self._reading)
        if media is None:
            return FileSegments()
        try:
            listed = list_segments(_readable(media, content.data), self._reading)
            return FileSegments(media, listed.segments, listed.losses, listed.date)
        except InputError as error:
            if not media.may_have_text(self._ocr, self._speech):
                raise
            return FileSegments(media, losses=(Loss(f"it as {_PICTURES[media.type]} ({error})"),))

    def records(self, document: DocumentRecord, listed: FileSegments, ordinal: int) -> Sequence[ChunkRecord]:
        """Return the records of a file's segments; ``ordinal`` is that of the first one."""
        if listed.media is None:
            return []
        return segment_records(document, listed.media, listed.segments, ordinal, self._reading.salts())


_PICTURES = {"picture": "a picture", "pdf": "pictures of its pages", "sound": "a sound", "video": "a video"}


def type_of(content: ItemContent) -> str:
    """Return the type of the media file that an item is; empty if it is none."""
    data = content.data
    if isinstance(data, Document):
        return "" if data.media is None else data.media.type
    return media_type(data.name if isinstance(data, NamedBytes) else content.name, data)


def _readable(media: MediaContent, data: bytes | Document) -> MediaContent:
    """Return a file as it can be read here: by its bytes, if a worker got these and does not see the file."""
    if isinstance(data, Document | StoredFile) or media.is_there():
        return media
    return replace(media, data=data, path="")


def media_content(content: ItemContent, reading: MediaScope) -> MediaContent | None:
    """Return the media file of an item; None if the collection reads nothing of its type."""
    data, kind = content.data, type_of(content)
    if not reading.kinds_of(kind):
        return None
    if isinstance(data, Document):
        return data.media
    name = data.name if isinstance(data, NamedBytes) else content.name
    if isinstance(data, StoredFile):
        return MediaContent(name, kind, data.hex(), path=str(data.path), stamp=content.stamp)
    digest = hashlib.sha256(data).hexdigest()
    if content.path is not None and len(data) >= _MAX_IN_MEMORY:
        return MediaContent(name, kind, digest, path=str(content.path), stamp=content.stamp)
    return MediaContent(name, kind, digest, bytes(data))
