"""Segments of media files: pictures, pages of PDF files, parts of sounds and of videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.corpus.document import Loss, MediaContent
from nearfield.corpus.extractors.media.settings import MediaScope, SegmentSettings
from nearfield.corpus.extractors.pdf.pages import known_passwords
from nearfield.corpus.extractors.speech.sound_blocks import track_losses
from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.formats import tiff_page_sizes
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, LONG_VIDEO_LIMITS, MediaLimits
from nearfield.media.picture.pdf_pages import page_sizes
from nearfield.media.segmentation import split_audio, split_video
from nearfield.media.video.track_audio import TrackAudio, open_sound
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
        number: which part of the sound or video it is, from 1.
    """

    kind: str
    page: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    duration: float | None = None
    width: int | None = None
    height: int | None = None
    number: int | None = None

    @property
    def key(self) -> str:
        """What identifies it within its file."""
        return f"{self.kind} {self.page or ''} {self.start_time} {self.end_time}"

    def fields(self) -> dict[str, Any]:
        """Return the values for filters; None is left out."""
        return {name: value for name, value in vars(self).items() if value is not None and name != "number"}

    def payload(self) -> dict[str, Any]:
        """Return its place in the file."""
        return {**self.fields(), **({} if self.number is None else {"segment": self.number})}


@dataclass(frozen=True)
class SegmentList:
    """The segments of a file, in order; and what of it is not read, such as further sound tracks.

    ``date`` is when it was taken, such as 2024-05-06T12:34:56; empty if it does not say.
    """

    segments: Sequence[Segment] = ()
    losses: tuple[Loss, ...] = ()
    date: str = ""


def list_segments(content: MediaContent, reading: MediaScope) -> SegmentList:
    """Return the segments of a file, in order by kind; none if the collection reads nothing of its type.

    Raises:
        InputError: it cannot be read.
        MissingExtra: a library is not installed.
    """
    kinds = reading.kinds_of(content.type)
    try:
        lists = [_LISTS[kind](content, reading.settings) for kind in kinds]
    except InputError as error:
        raise InputError(with_name(str(error), content.name, content.path)) from error
    segments = [segment for part in lists for segment in part.segments]
    if not segments and "audio" in kinds:
        raise InputError(f"{content.name} has no sound, and the collection reads nothing else of it.")
    date = next((part.date for part in lists if part.date), "")
    return SegmentList(segments, tuple(loss for part in lists for loss in part.losses), date)


def _picture(content: MediaContent, _: SegmentSettings) -> SegmentList:
    source = content.source()
    header = Image(source).header()
    width, height = header.upright_size
    if header.format != "TIFF":
        return SegmentList([Segment("image", width=width, height=height)], date=header.taken)
    data = source if isinstance(source, bytes) else source.read_bytes()
    most = DEFAULT_PICTURE_LIMITS.max_frames
    sizes = tiff_page_sizes(data, most)
    if len(sizes) > most:
        raise InputError(f"{content.name} has more than {most:,} pages.")
    if len(sizes) <= 1:
        return SegmentList([Segment("image", width=width, height=height)])
    pages = enumerate(sizes, 1)
    return SegmentList([Segment("image", page=number, width=w or None, height=h or None) for number, (w, h) in pages])


def _pages(content: MediaContent, _: SegmentSettings) -> SegmentList:
    sizes = page_sizes(content.source(), content.name, known_passwords())
    pages = [Segment("page", page=number, width=w, height=h) for number, (w, h) in enumerate(sizes.tolist(), 1)]
    return SegmentList(pages)


def _sound_parts(content: MediaContent, settings: SegmentSettings) -> SegmentList:
    sound = open_sound(content.source())
    losses = track_losses(sound.track()) if isinstance(sound, TrackAudio) else ()
    seconds = _rounded(sound.header().seconds)
    parts = split_audio(sound, settings.audio.rule) if seconds else []  # a video may have no sound
    numbered = enumerate(parts, 1)
    segments = [Segment("audio", None, *_times(part, seconds), seconds, number=number) for number, part in numbered]
    return SegmentList(segments, losses)


def _video_parts(content: MediaContent, settings: SegmentSettings) -> SegmentList:
    video = Video(content.source())
    header = video.header(LONG_VIDEO_LIMITS)
    seconds = _rounded(header.seconds)
    parts = split_video(video, settings.video.rule, MediaLimits(videos=LONG_VIDEO_LIMITS))
    segments = [
        Segment("video", None, *_times(part, seconds), seconds, header.width, header.height, number)
        for number, part in enumerate(parts, 1)
    ]
    return SegmentList(segments, tuple(Loss(f"the end ({why})") for why in header.warnings), header.taken)


def _times(part: Audio | Video, end: float) -> tuple[float, float]:
    return _rounded(part.start), end if part.end is None else _rounded(part.end)


def _rounded(seconds: float) -> float:
    return round(float(seconds), _DIGITS)


def with_name(message: str, name: str, path: str = "") -> str:
    """Return a message about a file with its name, in place of its path or of what bytes in memory are called."""
    text = message.replace(path, name) if path else message
    for noun in ("The picture", "The sound", "The video", "The PDF file"):
        if text.startswith(noun):
            return f"{name}{text[len(noun) :]}"
    return text if name in text else f"{name}: {text}"


_LISTS: Mapping[str, Callable[[MediaContent, SegmentSettings], SegmentList]] = {
    "image": _picture,
    "page": _pages,
    "audio": _sound_parts,
    "video": _video_parts,
}
