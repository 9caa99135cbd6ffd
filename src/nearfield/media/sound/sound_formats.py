"""File formats of sounds, recognised by their first bytes: names and declared media types do not count."""

from __future__ import annotations

from nearfield.errors import InputError
from nearfield.media.formats import find_format

#: Formats that are decoded. Others stay off even where libsndfile knows them: they are hardly tested there.
SOUND_FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "RF64", "W64")
#: Bytes at the start of a file that are looked at.
HEAD = 64

#: First bytes of formats that are decoded, and where they start.
_DECODED = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "OGG"),
    (0, b"ID3", "MP3"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"riff\x2e\x91\xcf\x11", "W64"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
)
#: First bytes of formats that are not, where they start, and what they are.
_REFUSED = (
    (4, b"ftyp", "an MP4 or M4A file"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
    (0, b"MThd", "a MIDI file"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"0&\xb2u", "a WMA file"),
    (0, b"MAC ", "a Monkey's Audio file"),
    (0, b"wvpk", "a WavPack file"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
)


def require_sound_format(head: bytes, name: str) -> str:
    """Return the format of a file that starts with ``head``, one of ``SOUND_FORMATS``.

    Raises:
        InputError: it has another; the message says which, where it can be recognised.
    """
    known = find_sound_format(head)
    if known is None:
        raise InputError(f"{name} is {_describe(head)}. Sounds are read from {', '.join(SOUND_FORMATS)}: convert it.")
    return known


def find_sound_format(head: bytes) -> str | None:
    """Return the format of a file that starts with ``head``, one of ``SOUND_FORMATS``, or None."""
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return "RF64" if head[:4] == b"RF64" else "WAV"
    if head[:1] == b"\xff" and len(head) > 2 and head[1] & 0xE6 == 0xE2:  # frame of MPEG layer III
        return "MP3"
    return next((kind for start, magic, kind in _DECODED if head[start:].startswith(magic)), None)


def _describe(head: bytes) -> str:
    if not head:
        return "empty (0 bytes)"
    known = next((what for start, magic, what in _REFUSED if head[start:].startswith(magic)), None)
    picture = find_format(head)
    if picture and not known:
        return f"a picture ({picture})"
    return known or f"no known sound (it starts with {head[:8].hex(' ')})"
