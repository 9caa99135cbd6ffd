"""What a person sees or hears of a place in a document: thumbnails of pictures, pages and frames, and clips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nearfield.corpus.extractors.media.inputs import TiffPageImage
from nearfield.corpus.extractors.media.kinds import PDF, PICTURE, SOUND, VIDEO, media_type
from nearfield.corpus.extractors.media.segments import with_name
from nearfield.corpus.extractors.pdf.pages import known_passwords
from nearfield.errors import InputError, TooLarge
from nearfield.media.decoding import ThumbnailFormat
from nearfield.media.image import Image
from nearfield.media.limits import LONG_SOUND_LIMITS, LONG_VIDEO_LIMITS
from nearfield.media.picture.pdf_pages import PdfPageImage, page_sizes
from nearfield.media.sound.sound_decoding import SoundFileFormat
from nearfield.media.video.time_ranges import check_range
from nearfield.media.video.track_audio import open_sound
from nearfield.media.video.video import Video
from nearfield.message_text import count_of

#: Seconds of a clip.
MAX_CLIP_SECONDS = 600.0
_MEDIA_TYPES: dict[SoundFileFormat, str] = {"WAV": "audio/wav", "OGG": "audio/ogg"}


@dataclass(frozen=True)
class RecordingClip:
    """A part of a recording as a file: its bytes, its media type, and the second at which it begins."""

    data: bytes
    media_type: str
    start: float


def document_thumbnail(
    source: Path | bytes,
    name: str,
    *,
    page: int = 1,
    at: float = 0.0,
    max_side: int = 256,
    form: ThumbnailFormat = "JPEG",
) -> bytes:
    """Return the bytes of a small picture of a document: of a picture, of a page, or of a frame of a video.

    Args:
        source: the path or the bytes of the file.
        name: its name, whose suffix says what it is.
        page: the page of a PDF or TIFF, from 1.
        at: the second of a video.
        max_side: pixels of the longer side, 1 to 4,096. What is smaller keeps its size.
        form: the format of the thumbnail.

    Raises:
        InputError: a document of this kind has no picture; it is damaged; or it ends before the place.
        TooLarge: it is larger than what is decoded.
        MissingExtra: the library that decodes it is not installed.
    """
    with _errors_with_name(source, name):
        return _thumbnail(source, name, page, at, max_side, form)


def _thumbnail(source: Path | bytes, name: str, page: int, at: float, max_side: int, form: ThumbnailFormat) -> bytes:
    kind = media_type(name)
    if kind == PICTURE:
        return _picture(source, page).thumbnail(max_side, form)
    if kind == VIDEO:
        return Video(source).thumbnail(at, max_side, form, LONG_VIDEO_LIMITS)
    if kind == PDF:
        return _page(source, name, page).thumbnail(max_side, form)
    raise InputError(f"{name}: thumbnails are of pictures, PDF files and videos.", param="name")


@contextmanager
def _errors_with_name(source: Path | bytes, name: str) -> Iterator[None]:
    """Give errors the name of the document: the path of its file is for those who may read its folder."""
    try:
        yield
    except InputError as error:
        error.args = (with_name(str(error), name, "" if isinstance(source, bytes) else str(source)),)
        raise


def _picture(source: Path | bytes, page: int) -> Image:
    return Image(source) if page == 1 else TiffPageImage(source, page)


def _page(source: Path | bytes, name: str, page: int) -> PdfPageImage:
    passwords = known_passwords()
    count = len(page_sizes(source, name, passwords))
    if isinstance(page, bool) or not isinstance(page, int) or not 1 <= page <= count:
        raise InputError(f"{name} has {count_of(count, 'page')}, from 1: there is no page {page!r}.", param="page")
    return PdfPageImage(source, page, passwords)


def document_clip(
    source: Path | bytes, name: str, start: float, end: float, form: SoundFileFormat | None = None
) -> RecordingClip:
    """Return a part of a sound or video, of at most ten minutes.

    A sound is written again, mono, in ``form``. Of a video, nothing is coded again: the clip has the format of the
    video, and begins at the keyframe at or before ``start``. With ``form``, it is the sound of the video.

    Args:
        source: the path or the bytes of the file.
        name: its name, whose suffix says what it is.
        start: the second at which the part begins.
        end: the second before which it ends.
        form: the format of a sound, by default OGG.

    Raises:
        InputError: it is neither sound nor video, is damaged, ends before ``start``, or has no sound where one is
            requested; or the times are none.
        TooLarge: the part is longer than ten minutes, or has more than 256 MiB.
        MissingExtra: the library that decodes it is not installed.
    """
    check_range(start, end)
    if end - start > MAX_CLIP_SECONDS:
        raise TooLarge(f"A clip has at most {MAX_CLIP_SECONDS:g} seconds, and not {end - start:g}.", param="end")
    with _errors_with_name(source, name):
        return _clip(source, name, start, end, form)


def _clip(source: Path | bytes, name: str, start: float, end: float, form: SoundFileFormat | None) -> RecordingClip:
    kind = media_type(name)
    if kind == VIDEO and form is None:
        clip = Video(source, start=start, end=end).clip(limits=LONG_VIDEO_LIMITS)
        return RecordingClip(clip.data, clip.media_type, clip.start)
    if kind in (SOUND, VIDEO):
        form = form or "OGG"
        data = open_sound(source, start, end).to_file(LONG_SOUND_LIMITS, form)
        return RecordingClip(data, _MEDIA_TYPES[form], start)
    raise InputError(f"{name}: clips are of sounds and videos.", param="name")
