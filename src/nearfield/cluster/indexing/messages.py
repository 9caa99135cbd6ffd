"""What the process that indexes and its workers send each other. All of it can be pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nearfield.cluster.model_parcel import ModelParcel
from nearfield.corpus.document import Document, MediaContent
from nearfield.corpus.indexing.document_task import DocumentTask, ItemContent
from nearfield.corpus.indexing.stages.chunk_encoder import ChunkVectors
from nearfield.corpus.indexing.stages.media_encoder import SegmentResult
from nearfield.errors import InputError

#: Bytes of a file up to which it is sent to workers that do not see it.
_MAX_SENT_BYTES = 2**28


@dataclass(frozen=True)
class ModelOrder:
    """A model of a collection: its files, the keywords of ``Encoder``, and its number format."""

    parcel: ModelParcel
    loading: Mapping[str, Any]
    precision: str


@dataclass(frozen=True)
class IndexOrder:
    """What a worker needs before its first document.

    Attributes:
        version: of Nearfield.
        definition: the definition of the collection, without its store.
        models: the models by their names in the definition.
        identity: the digest of all settings that change chunks.
        spaces: the vector space of each feature.
    """

    version: str
    definition: Mapping[str, Any]
    models: Mapping[str, ModelOrder]
    identity: str
    spaces: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class FileReference:
    """A file that workers may see at the same path, and the SHA-256 of the bytes that it must have."""

    path: Path
    size: int
    digest: str

    @classmethod
    def from_bytes(cls, path: Path, data: bytes) -> FileReference:
        """Return the reference of a file with these bytes."""
        return cls(path, len(data), hashlib.sha256(data).hexdigest())

    def read(self) -> bytes | None:
        """Return the bytes; None if this machine has no such file, or another one."""
        try:
            with self.path.open("rb") as file:
                data = file.read(self.size + 1)
        except OSError:
            return None
        return data if len(data) == self.size and hashlib.sha256(data).hexdigest() == self.digest else None


@dataclass(frozen=True)
class ContentMessage:
    """A content; if ``file`` is set, the bytes are those of the file, and not in ``content``."""

    content: ItemContent
    file: FileReference | None = None


@dataclass(frozen=True)
class ExtractReply:
    """A document and its type; None if it cannot be read. ``lacks_content``: the worker does not see the file."""

    extracted: tuple[Document, str] | None = None
    lacks_content: bool = False


@dataclass(frozen=True)
class SplitRequest:
    """A document to split. ``skip`` parts of it have arrived already; without ``message``, the worker continues."""

    task: DocumentTask
    message: ContentMessage | None
    skip: int = 0


@dataclass(frozen=True)
class SplitReply:
    """The next parts of a document; the last one is among them if ``is_complete``."""

    parts: tuple[DocumentTask, ...] = ()
    is_complete: bool = False
    lacks_content: bool = False


@dataclass(frozen=True)
class EmbedReply:
    """The vectors of a document's texts, or the reason why the model refuses one of them."""

    rows: list[ChunkVectors]
    error: str = ""


def with_bytes(media: MediaContent) -> MediaContent:
    """Return a media file for a worker that does not see it; raises as ``read_to_send`` does, or if it has changed."""
    source = media.source()
    return media if isinstance(source, bytes) else replace(media, data=read_to_send(source, media.name), path="")


def read_to_send(path: Path, name: str) -> bytes:
    """Return the bytes of a file for a worker that does not see it.

    Raises:
        InputError: it is too large to be sent, or cannot be read.
    """
    try:
        if path.stat().st_size <= _MAX_SENT_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}).") from error
    raise InputError(
        f"{name}: a worker does not see it at the same path, and files of more than {_MAX_SENT_BYTES:,} bytes are not "
        "sent. Mount its folder on all machines, or index without a cluster."
    )


@dataclass(frozen=True)
class MediaReply:
    """The vectors of segments, or why one has none. ``lacks_content``: the worker does not see their file."""

    rows: Sequence[SegmentResult] = ()
    lacks_content: bool = False
