"""File formats of videos, recognised by their first bytes: names and declared media types do not count."""

from __future__ import annotations

from collections.abc import Mapping

from nearfield.errors import InputError
from nearfield.media.formats import HEIC_BRANDS, find_brands, find_format
from nearfield.media.sound.sound_formats import find_sound_format

#: Formats that are read, and FFmpeg's demuxer of each. It is never left to guess: some of its demuxers open other files
#: and addresses (playlists), and most are hardly tested.
VIDEO_FORMATS: Mapping[str, str] = {"MP4": "mp4", "Matroska": "matroska", "AVI": "avi", "MPEG-TS": "mpegts"}
#: What is read, for messages.
READ = "MP4 (also MOV), Matroska (also WebM), AVI and MPEG-TS"
#: FFmpeg's demuxers of sounds; M4A and AAC (ADTS) are read for their speech alone.
SOUND_DEMUXERS: Mapping[str, str] = {
    **{name: name.lower() for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "AAC")},
    "RF64": "wav",
    "M4A": "mp4",
}
#: Bytes at the start of a file that are looked at.
HEAD = 512

#: Types of the first box of an ISO media file or of a QuickTime file.
_FIRST_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"))
_SOUND_BRANDS = frozenset((b"M4A ", b"M4B ", b"M4P "))
#: Bytes of a packet of MPEG-TS, and the byte with which each begins.
_PACKET, _SYNC = 188, 0x47
#: First bytes of formats that are not read, where they start, and what they are.
_REFUSED = (
    (0, b"FLV", "a Flash video (FLV)"),
    (0, b"0&\xb2u", "a WMV file"),
    (0, b"\0\0\x01\xba", "an MPEG program stream (MPG)"),
    (0, b"OggS", "an Ogg file"),
    (0, b"#EXTM3U", "a playlist (M3U8)"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)


def find_video_format(head: bytes) -> str | None:
    """Return the format of a file that starts with ``head``, one of ``VIDEO_FORMATS``, or None."""
    if head[4:8] in _FIRST_BOXES:
        return None if head[4:8] == b"ftyp" and _is_other(head) else "MP4"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "Matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    places = range(0, 2 * _PACKET + 1, _PACKET)
    return "MPEG-TS" if len(head) > places[-1] and all(head[at] == _SYNC for at in places) else None


def find_recording_format(head: bytes) -> str | None:
    """Return the format of a video or sound, one of ``VIDEO_FORMATS`` or ``SOUND_DEMUXERS``, or None."""
    video = find_video_format(head)
    if video is not None:
        return video
    if head[4:8] == b"ftyp" and head[8:12] in _SOUND_BRANDS:
        return "M4A"
    if head[:1] == b"\xff" and len(head) > 2 and head[1] & 0xF6 == 0xF0:  # ADTS (ISO 13818-7, 6.2)
        return "AAC"
    return find_sound_format(head)


def require_video_format(head: bytes, name: str) -> str:
    """Return the format of a file that starts with ``head``, one of ``VIDEO_FORMATS``.

    Raises:
        InputError: it has another; the message says which, where it can be recognised.
    """
    known = find_video_format(head)
    if known is None:
        raise InputError(f"{name} is {_describe(head)}. Videos are read from {READ}: convert it.")
    return known


def _is_other(head: bytes) -> bool:
    """Return whether an ISO media file is a picture or a sound by its first format."""
    return find_format(head) is not None or bool({head[8:12]} & (HEIC_BRANDS | _SOUND_BRANDS))


def _describe(head: bytes) -> str:
    if not head:
        return "empty (0 bytes)"
    known = next((what for start, magic, what in _REFUSED if head[start:].startswith(magic)), None)
    if known:
        return known
    if head[4:8] == b"ftyp":
        return "a picture (HEIC or AVIF)" if _SOUND_BRANDS.isdisjoint(find_brands(head)) else "a sound (M4A)"
    if picture := find_format(head):
        return f"a picture ({picture})"
    if sound := find_sound_format(head):
        return f"a sound ({sound})"
    return f"no known video (it starts with {head[:8].hex(' ')})"
