"""Thumbnails and clips of the documents of a collection, and their addresses for hits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from nearfield.media.sound.sound_decoding import SoundFileFormat

if TYPE_CHECKING:
    from nearfield.corpus.document import DocumentFile

#: Media types by the format of a thumbnail and of a clip of a sound.
THUMBNAIL_TYPES: Mapping[str, str] = {"jpeg": "image/jpeg", "webp": "image/webp"}
SOUND_FORMATS: Mapping[str, SoundFileFormat] = {"ogg": "OGG", "wav": "WAV"}


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
            file.source(),
            file.name,
            page=self.page,
            at=self.time,
            max_side=self.size,
            form="WEBP" if self.form == "webp" else "JPEG",
        )
        return Rendering(data, THUMBNAIL_TYPES[self.form])


@dataclass(frozen=True)
class ClipPlace:
    """The seconds of a clip, and the format of a sound; None is the video itself, of a sound OGG."""

    start: float
    end: float
    form: SoundFileFormat | None = None

    def render(self, file: DocumentFile) -> Rendering:
        """Return the clip. Raises what ``document_clip`` raises."""
        from nearfield.corpus.extractors.renderings import document_clip

        clip = document_clip(file.source(), file.name, self.start, self.end, self.form)
        return Rendering(clip.data, clip.media_type, clip.start)


def rendering_tag(file: DocumentFile, place: ThumbnailPlace | ClipPlace) -> str:
    """Return the entity tag of what is rendered of a file."""
    return f'"{hashlib.sha256(repr((file.digest, place)).encode()).hexdigest()[:32]}"'


def rendering_addresses(collection: str, hit: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the addresses of the ``thumbnail`` and the ``clip`` of a hit on this server; None where it has none."""
    from nearfield.corpus.extractors.media.kinds import PDF, PICTURE, SOUND, VIDEO, media_type

    source, _, key = str(hit["document"]).partition("#")
    kind = media_type(key) if source.startswith(("files:", "upload:")) else ""
    base = f"/collections/{collection}/document"
    start, end, page = hit.get("start_time"), hit.get("end_time"), hit.get("page")
    thumbnail: dict[str, object] | None = None
    if kind == VIDEO and start is not None:
        thumbnail = {"time": start}
    elif kind == PICTURE or (kind == PDF and page is not None):
        thumbnail = {} if page is None else {"page": page}
    clip = {"start": start, "end": end} if kind in (VIDEO, SOUND) and None not in (start, end) else None
    return {
        name: None if place is None else f"{base}/{name}?{urlencode({'id': hit['document'], **place})}"
        for name, place in (("thumbnail", thumbnail), ("clip", clip))
    }
