"""Segments of media files: pictures, pages of PDF files, parts of sounds and of videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.corpus.document import MediaContent
from nearfield.corpus.extractors.media.kinds import PDF, PICTURE, SOUND, VIDEO
from nearfield.corpus.extractors.media.settings import MediaScope, SegmentSettings
from nearfield.corpus.extractors.pdf.pages import known_passwords
from nearfield.errors import InputError, NearfieldError
from nearfield.media.audio import Audio
from nearfield.media.formats import count_frames, find_format
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, LONG_VIDEO_LIMITS, MediaLimits
from nearfield.media.picture.pdf_pages import page_sizes
from nearfield.media.segmentation import split_audio, split_video
from nearfield.media.video.video import Video

#: Digits of seconds: a thousandth is less than a frame.
_DIGITS = 3


@dataclass(frozen=True)
class Segment:
    """A part of a media file that becomes a chunk.

    Args:
        kind: image, page, audio or video.
        page: the number of the page, from 1, of a file with pages.
        start_time: the second at which it begins, in a sound or video.
        end_time: the second before which it ends.
        duration: seconds of the whole sound or video.
        width: pixels.
        height: pixels.
    """

    kind: str
    page: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    duration: float | None = None
    width: int | None = None
    height: int | None = None

    @property
    def key(self) -> str:
        """What identifies it within its file."""
        return f"{self.kind} {self.page or ''} {self.start_time} {self.end_time}"

    def fields(self) -> dict[str, Any]:
        """Return the values for filters; None is left out."""
        values = {**vars(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class SegmentList:
    """The segments of a file, in order; and warnings, such as that a video ends before its time."""

    segments: Sequence[Segment] = ()
    warnings: tuple[str, ...] = ()


def list_segments(content: MediaContent, reading: MediaScope) -> SegmentList:
    """Return the segments of a file; none if the collection reads nothing of its type.

    Raises:
        InputError: it cannot be read.
        MissingExtra: a library is not installed.
    """
    if not reading.kinds_of(content.type):
        return SegmentList()
    try:
        return _LISTS[content.type](content, reading.settings)
    except InputError as error:
        raise _renamed(error, content) from error


def _picture(content: MediaContent, _: SegmentSettings) -> SegmentList:
    source = content.source()
    header = Image(source).header()
    if header.format != "TIFF":
        return SegmentList([Segment("image", width=header.width, height=header.height)])
    data = source if isinstance(source, bytes) else source.read_bytes()
    most = DEFAULT_PICTURE_LIMITS.max_frames
    count = count_frames(data, find_format(data) or "", most)
    if count > most:
        raise InputError(f"{content.name} has more than {most:,} pages.")
    if count == 1:
        return SegmentList([Segment("image", width=header.width, height=header.height)])
    return SegmentList([Segment("image", page=number) for number in range(1, count + 1)])


def _pages(content: MediaContent, _: SegmentSettings) -> SegmentList:
    sizes = page_sizes(content.source(), content.name, known_passwords())
    pages = [Segment("page", page=number, width=w, height=h) for number, (w, h) in enumerate(sizes.tolist(), 1)]
    return SegmentList(pages)


def _sound_parts(content: MediaContent, settings: SegmentSettings) -> SegmentList:
    sound = Audio(content.source())
    seconds = _rounded(sound.header().seconds)
    parts = split_audio(sound, settings.audio.rule)
    return SegmentList([Segment("audio", None, *_times(part, seconds), seconds) for part in parts])


def _video_parts(content: MediaContent, settings: SegmentSettings) -> SegmentList:
    video = Video(content.source())
    header = video.header(LONG_VIDEO_LIMITS)
    seconds = _rounded(header.seconds)
    parts = split_video(video, settings.video.rule, MediaLimits(videos=LONG_VIDEO_LIMITS))
    segments = [Segment("video", None, *_times(part, seconds), seconds, header.width, header.height) for part in parts]
    return SegmentList(segments, header.warnings)


def _times(part: Audio | Video, end: float) -> tuple[float, float]:
    return _rounded(part.start), end if part.end is None else _rounded(part.end)


def _rounded(seconds: float) -> float:
    return round(float(seconds), _DIGITS)


def _renamed(error: NearfieldError, content: MediaContent) -> InputError:
    """Return the error of a file with its name: those of bytes in memory do not have it."""
    text = str(error)
    for noun in ("The picture", "The sound", "The video", "The PDF file", content.path):
        if noun and text.startswith(noun):
            return InputError(f"{content.name}{text[len(noun) :]}")
    return InputError(text if content.name in text else f"{content.name}: {text}")


_LISTS: Mapping[str, Callable[[MediaContent, SegmentSettings], SegmentList]] = {
    PICTURE: _picture,
    PDF: _pages,
    SOUND: _sound_parts,
    VIDEO: _video_parts,
}
