"""Segments as inputs of a model: decoded or rendered when the model reads them, and not before."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nearfield.corpus.document import MediaContent
from nearfield.corpus.extractors.media.settings import SegmentSettings
from nearfield.corpus.extractors.pdf.pages import known_passwords
from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.decoding import Picture, decode_file, encode_png
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, LONG_VIDEO_LIMITS, PictureLimits, VideoLimits
from nearfield.media.picture.pdf_pages import PdfPageImage
from nearfield.media.video.frame_choice import FrameRule
from nearfield.media.video.frame_reading import VideoFrame
from nearfield.media.video.track_audio import open_sound
from nearfield.media.video.video import DEFAULT_RULE, Video


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


class VideoSegment(Video):
    """A part of a video of any length: no more than the part is read."""

    __slots__ = ()

    def frames(
        self, rule: FrameRule = DEFAULT_RULE, limits: VideoLimits = LONG_VIDEO_LIMITS
    ) -> Generator[VideoFrame, None, None]:
        """Yield the frames to read, as ``Video.frames`` does, of a video that may be longer than ``limits``."""
        long = LONG_VIDEO_LIMITS
        return super().frames(rule, replace(limits, max_seconds=long.max_seconds, max_bytes=long.max_bytes))


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
        return open_sound(source, start, end)
    if kind == "video":
        video = Video(source) if isinstance(source, bytes) else _opened(source)
        frames = settings.video
        return VideoSegment(video, start=start, end=end, fps=frames.fps, max_frames=frames.max_frames)
    raise InputError(f"There is no kind {kind!r} of chunks.")


@lru_cache(maxsize=4)
def _opened(path: Path) -> Video:
    """Return a video whose segments share the digest of its file: it is not hashed for each."""
    return Video(path)
