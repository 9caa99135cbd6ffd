"""Thumbnails and clips of the documents of a collection, and their addresses for hits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from nearfield.errors import NotThere

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.manifest.records import DocumentRecord

#: Media types by the format of a thumbnail and of a clip of a sound.
THUMBNAIL_TYPES: Mapping[str, str] = {"jpeg": "image/jpeg", "webp": "image/webp"}
SOUND_FORMATS = ("ogg", "wav")


@dataclass(frozen=True)
class DocumentFile:
    """The file of a document: where it is, its name, and the digest of its content when it was indexed."""

    path: Path
    name: str
    digest: str

    def tag(self, *settings: object) -> str:
        """Return the entity tag of what is rendered of it with some settings."""
        return f'"{hashlib.sha256(repr((self.digest, settings)).encode()).hexdigest()[:32]}"'


@dataclass(frozen=True)
class Rendering:
    """A file that was rendered of a document; ``start`` is the second at which a clip begins."""

    data: bytes
    media_type: str
    start: float = 0.0


@dataclass(frozen=True)
class ThumbnailPlace:
    """What a thumbnail shows: a page or a second, pixels of the longer side, and the format."""

    page: int = 1
    time: float = 0.0
    size: int = 256
    form: Literal["jpeg", "webp"] = "jpeg"

    def render(self, file: DocumentFile) -> Rendering:
        """Return the thumbnail. Raises what ``document_thumbnail`` raises."""
        from nearfield.corpus.extractors.renderings import document_thumbnail

        data = document_thumbnail(
            file.path,
            file.name,
            page=self.page,
            at=self.time,
            max_side=self.size,
            form="WEBP" if self.form == "webp" else "JPEG",
        )
        return Rendering(data, THUMBNAIL_TYPES[self.form])


@dataclass(frozen=True)
class ClipPlace:
    """The seconds of a clip, and the format of sounds."""

    start: float
    end: float
    form: Literal["ogg", "wav"] = "ogg"

    def render(self, file: DocumentFile) -> Rendering:
        """Return the clip. Raises what ``document_clip`` raises."""
        from nearfield.corpus.extractors.renderings import document_clip

        clip = document_clip(file.path, file.name, self.start, self.end, "WAV" if self.form == "wav" else "OGG")
        return Rendering(clip.data, clip.media_type, clip.start)


def find_document_file(collection: Collection, document: str) -> DocumentFile:
    """Return the file of a document that is indexed.

    Raises:
        NotThere: there is no such document, it is no file, or the file is not the one that was indexed.
    """
    collection.document(document)
    record = collection.manifest.document(document)
    path = None if record is None else _path_of(collection, record)
    if record is None or path is None:
        raise NotThere(f"The document {document[:200]!r} is no file that can be shown.", param="id")
    try:
        status = path.stat()
    except OSError as error:
        raise NotThere(f"The file of {document[:200]!r} cannot be read.", param="id") from error
    if not (record.stamp or "").startswith(f"{status.st_size}-{status.st_mtime_ns}-"):
        raise NotThere(f"The file of {document[:200]!r} has changed since it was indexed: index it again.", param="id")
    return DocumentFile(path, record.key, record.digest)


def _path_of(collection: Collection, record: DocumentRecord) -> Path | None:
    from nearfield.corpus.indexing.indexer import open_sources
    from nearfield.corpus.sources.files import FileSource

    sources = open_sources(collection.config, collection.manifest, collection.own_folders())
    source = next((source for source in sources if source.name == record.source), None)
    return source.path_of(record.key) if isinstance(source, FileSource) else None


def rendering_addresses(collection: str, hit: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the addresses of the ``thumbnail`` and the ``clip`` of a hit on this server; None where it has none."""
    source, _, key = str(hit["document"]).partition("#")
    kind = _file_kind(key) if source.startswith(("files:", "upload:")) else ""
    base = f"/collections/{collection}/document"
    start, end, page = hit.get("start_time"), hit.get("end_time"), hit.get("page")
    thumbnail: dict[str, object] | None = None
    if kind == "picture" or (kind == "video" and start is not None):
        thumbnail = {"time": start} if kind == "video" else {}
    elif kind == "pdf" and page is not None:
        thumbnail = {"page": page}
    clip = {"start": start, "end": end} if kind in ("video", "sound") and None not in (start, end) else None
    return {
        name: None if place is None else f"{base}/{name}?{urlencode({'id': hit['document'], **place})}"
        for name, place in (("thumbnail", thumbnail), ("clip", clip))
    }


def _file_kind(key: str) -> str:
    """Return what a document is by its name: picture, pdf, video, sound, or nothing that is shown."""
    from nearfield.corpus import extractors
    from nearfield.corpus.sources.archive import ARCHIVES

    path = PurePosixPath(key)
    if any(PurePosixPath(part).suffix.lower() in ARCHIVES for part in path.parts):
        return ""
    return {
        extractors.PICTURE: "picture",
        extractors.VIDEO: "video",
        extractors.SOUND: "sound",
        "pdf": "pdf",
    }.get(extractors.kind_of(key) or "", "")
