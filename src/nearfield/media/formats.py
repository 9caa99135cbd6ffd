"""File formats of pictures, recognised by their first bytes: names and declared media types do not count."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from nearfield.errors import InputError

#: Formats that are decoded. Others stay off even where Pillow knows them: the decoder of EPS runs a program, those of
#: old formats are hardly tested, and no browser shows JPEG 2000.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

#: Tags of a TIFF (TIFF 6.0, section 8), the first orientation that is turned by 90 degrees, and the bytes of whole
#: numbers by type.
_WIDTH, _HEIGHT, _ORIENTATION, _FIRST_TURNED = 256, 257, 274, 5
_TIFF_NUMBERS = {3: 2, 4: 4}
#: First bytes of formats that are decoded.
_DECODED = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
#: First bytes of formats that are not, and what they are.
_REFUSED = (
    (b"%PDF", "a PDF file"),
    (b"%!PS", "a PostScript (EPS) file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript (EPS) file"),
    (b"8BPS", "a Photoshop (PSD) file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\x01\0", "an icon (ICO)"),
    (b"icns", "an icon (ICNS)"),
    (b"SIMPLE  =", "a FITS file"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI picture"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (b"\x01\0\0\0", "a Windows metafile (EMF)"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"fLaC", "a FLAC file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<svg", "an SVG drawing"),
)
#: Formats whose decoders are tested so much that they run in threads of this process. The time of the others, or what a
#: damaged file does to them, is less certain.
_IN_THREADS = ("JPEG", "PNG", "WEBP")
#: Segments of a JPEG before its pixels, its scans, and chunks of a PNG, up to which a file is decoded in a thread.
#: Pillow joins segments in time that grows with the square of their number, and each scan visits every pixel.
_MAX_SEGMENTS, _MAX_SCANS, _MAX_CHUNKS = 300, 24, 10_000
_START_OF_SCAN = b"\xff\xda"
HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
#: Bytes at the start of a file that are looked at, and those of its list of compatible formats.
_HEAD, _MAX_BRANDS = 1024, 256


def find_format(data: bytes) -> str | None:
    """Return the format of a file, one of ``FORMATS``, or None."""
    head = data[:_HEAD]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return "AVIF" if {b"avif", b"avis"} & find_brands(head) else None
    return next((name for start, name in _DECODED if head.startswith(start)), None)


def require_format(data: bytes, name: str) -> str:
    """Return the format of a file, one of ``FORMATS``.

    Raises:
        InputError: it has another; the message says which, where it can be recognised.
    """
    known = find_format(data)
    if known is None:
        raise InputError(f"{name} is {_describe(data[:_HEAD])}. Pictures are read from {', '.join(FORMATS)}.")
    return known


def is_bounded(data: bytes, kind: str) -> bool:
    """Return whether a file takes no more time than its bytes and pixels explain, and a decoder that can be trusted."""
    scans = data.count(_START_OF_SCAN) if kind == "JPEG" else 0
    return scans <= _MAX_SCANS and has_bounded_header(io.BytesIO(data), kind, to_end=True)


def has_bounded_header(file: BinaryIO, kind: str, *, to_end: bool = False) -> bool:
    """Return whether that is so for the header of a file; with ``to_end``, for the chunks after it too."""
    if kind not in _IN_THREADS:
        return False
    if kind == "JPEG":
        return _has_plain_segments(file)
    return kind == "WEBP" or _has_few_chunks(file, to_end)


def _has_plain_segments(file: BinaryIO) -> bool:
    """Return whether a JPEG has few segments before its first scan, and nothing between them (ITU T.81, annex B)."""
    file.seek(2)
    for _ in range(_MAX_SEGMENTS):
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (0, 0xFF) or 0xD0 <= head[1] <= 0xD9:
            return False
        if head[:2] == _START_OF_SCAN:
            return True
        file.seek(int.from_bytes(head[2:], "big") - 2, io.SEEK_CUR)
    return False


def _has_few_chunks(file: BinaryIO, to_end: bool) -> bool:
    """Return whether a PNG has few chunks before its pixels, or before its end."""
    file.seek(8)
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND" or (head[4:] == b"IDAT" and not to_end):
            return True
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False


def _describe(head: bytes) -> str:
    if not head:
        return "empty (0 bytes)"
    if head[4:8] == b"ftyp":
        heic = "a HEIC picture (convert it to JPEG or PNG)"
        return heic if HEIC_BRANDS & find_brands(head) else "a video or sound (MP4)"
    if head[8:12] == b"WAVE":
        return "a sound (WAV)"
    if head[:4] == b"RIFF":
        return f"a RIFF file of type {head[8:12].decode('latin-1')!r}, not WebP"
    if re.match(rb"P[1-7]\s", head):
        return "a Netpbm (PPM) picture"
    known = next((what for start, what in _REFUSED if head.startswith(start)), None)
    return known or _describe_text(head) or f"no known picture (it starts with {head[:8].hex(' ')})"


def _describe_text(head: bytes) -> str | None:
    """Return what a text is; None if it is none."""
    try:
        text = head.decode("utf-8-sig", "ignore" if len(head) == _HEAD else "strict").lstrip()
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return None
    if "<svg" in text:
        return "an SVG drawing"
    return "HTML or XML" if text.startswith("<") else "a text, no picture"


def find_brands(head: bytes) -> set[bytes]:
    """Return the formats that an ISO media file says it is compatible with."""
    size = min(int.from_bytes(head[:4], "big"), _MAX_BRANDS)
    return {head[8:12], *(head[start : start + 4] for start in range(16, size, 4))}


def count_frames(data: bytes, kind: str, limit: int) -> int:
    """Return the number of frames of a GIF, or of pages of a TIFF, but at most ``limit + 1``; 1 for other formats.

    Pillow decodes or parses each frame to count them, in time that grows with their square for TIFF.
    A damaged file ends where its damage is.
    """
    steps = {"GIF": _gif_frames, "TIFF": _tiff_pages}.get(kind)
    if steps is None:
        return 1
    count = 0
    try:
        for _ in steps(data):
            count += 1
            if count > limit:
                break
    except (IndexError, ValueError):
        pass
    return max(count, 1)


def _gif_frames(data: bytes) -> Iterator[int]:
    """Yield the positions of the frames of a GIF (GIF89a specification, sections 18 to 27)."""
    position = _after_colours(13, data[10])
    while data[position] in (0x21, 0x2C):
        if data[position] == 0x2C:
            yield position
            position = _after_colours(position + 10, data[position + 9]) + 1
        else:
            position += 2
        while data[position]:
            position += data[position] + 1
        position += 1


def _after_colours(position: int, flags: int) -> int:
    """Return the position after a table of colours, if there is one."""
    return position + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def tiff_page_sizes(data: bytes, limit: int) -> list[tuple[int, int]]:
    """Return the width and height of each page of a TIFF as it is shown, in pixels, of at most ``limit + 1`` pages.

    They are 0 where the file does not say. A damaged file ends where its damage is.
    """
    sizes: list[tuple[int, int]] = []
    try:
        for position in islice(_tiff_pages(data), limit + 1):
            tags = _tiff_tags(data, position)
            width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
            sizes.append((height, width) if tags.get(_ORIENTATION, 1) >= _FIRST_TURNED else (width, height))
    except (IndexError, ValueError):
        pass
    return sizes


def _tiff_tags(data: bytes, position: int) -> dict[int, int]:
    """Return the tags of a directory of a TIFF that have one whole number, by their numbers."""
    little, (_, counter, width, entry) = _tiff_layout(data)
    tags = {}
    for at in range(_number(data, position, counter, little)):
        start = position + counter + entry * at
        tag, kind = _number(data, start, 2, little), _number(data, start + 2, 2, little)
        if kind in _TIFF_NUMBERS and tag in (_WIDTH, _HEIGHT, _ORIENTATION):
            tags[tag] = _number(data, start + 4 + width, _TIFF_NUMBERS[kind], little)
    return tags


def _tiff_layout(data: bytes) -> tuple[bool, tuple[int, int, int, int]]:
    """Return whether numbers begin with their lowest byte, the place of the first directory, and sizes in bytes.

    The sizes are those of a number of entries, of a position, and of an entry.
    """
    return data[:2] == b"II", (8, 8, 8, 20) if b"+" in data[2:4] else (4, 2, 4, 12)


def _tiff_pages(data: bytes) -> Iterator[int]:
    """Yield the positions of the directories of a TIFF (TIFF 6.0, section 2), or of a BigTIFF, until one repeats."""
    little, (first, counter, width, entry) = _tiff_layout(data)
    seen = {0}
    position = _number(data, first, width, little)
    while position not in seen:
        yield position
        seen.add(position)
        entries = _number(data, position, counter, little)
        position = _number(data, position + counter + entry * entries, width, little)


def _number(data: bytes, position: int, width: int, little: bool) -> int:
    if position + width > len(data):
        raise ValueError(f"{position} is outside the file")
    return int.from_bytes(data[position : position + width], "little" if little else "big")
