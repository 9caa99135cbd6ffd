"""Segments as inputs of a model: decoded or rendered when the model reads them, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.corpus.document import MediaContent
from nearfield.corpus.extractors.media.settings import SegmentSettings
from nearfield.corpus.extractors.pdf.pages import known_passwords
from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.decoding import Picture, decode_file, encode_png
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits
from nearfield.media.picture.pdf_pages import PdfPageImage
from nearfield.media.video.video import Video


class TiffPageImage(Image):
    """A page of a TIFF file as a picture; ``page`` counts from 1."""

    __slots__ = ("_page",)

    def __init__(self, source: Path | bytes, page: int) -> None:
        super().__init__(source)
        self._page = page

    def read(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> Picture:
        """Return the decoded page; raises as ``Image.read`` does."""
        return decode_file(self._read_file(limits), limits, self.name, page=self._page)

    def to_file(self, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> bytes:
        """Return the page as the bytes of a PNG file; raises as ``read`` does."""
        return encode_png(self.read(limits))


def open_segment(content: MediaContent, payload: Mapping[str, Any], settings: SegmentSettings) -> Image | Audio | Video:
    """Return the input of a chunk of media.

    Args:
        content: the file.
        payload: that of the chunk.
        settings: of the collection.

    Raises:
        InputError: the file has changed since it was listed, or there is no such kind.
    """
    source, kind, page = content.source(), payload["kind"], payload.get("page")
    if kind == "page":
        return PdfPageImage(source, int(page or 1), known_passwords())
    if kind == "image":
        return Image(source) if page is None else TiffPageImage(source, int(page))
    start, end = float(payload["start_time"]), float(payload["end_time"])
    if kind == "audio":
        return Audio(source, start=start, end=end)
    if kind == "video":
        frames = settings.video
        return Video(source, start=start, end=end, fps=frames.fps, max_frames=frames.max_frames)
    raise InputError(f"There is no kind {kind!r} of chunks.")
