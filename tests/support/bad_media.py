"""Files of pictures and sounds that must be refused, and what the error says."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from tests.support import odd_pictures

PHOTO = odd_pictures.encode(odd_pictures.smooth(640, 427), "JPEG")
#: Pictures: name -> content, HTTP status, and a pattern of the message.
PICTURES: dict[str, tuple[bytes, int, str]] = {
    "truncated.jpg": (PHOTO[: len(PHOTO) // 2], 400, "cannot be decoded as JPEG"),
    "huge.png": (odd_pictures.png_header(60_000, 60_000), 413, "(60,000 x 60,000|3,600,000,000) pixels"),
    "large.png": (odd_pictures.png_header(12_000, 12_000), 413, "(12,000 x 12,000|144,000,000) pixels"),
    "frames.gif": (odd_pictures.gif_of(10_000), 413, "1,000 frames"),
    "drawing.svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", 400, "SVG"),
    "letter.jpg": (b"Dear Sir or Madam, this is a letter.", 400, "a text, no picture"),
    "empty.png": (b"", 400, "empty"),
    "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", 400, "EPS|PostScript"),
    "movie.jpg": (b"\0\0\0\x18ftypmp42" + bytes(64), 400, "no picture|video|MP4"),
    "page.pdf": (b"%PDF-1.7\n%%EOF\n", 400, "PDF"),
    "noise.png": (np.random.default_rng(0).bytes(5000), 400, "no known picture"),
    "cut.tiff": (odd_pictures.encode(odd_pictures.smooth(90, 60), "TIFF")[:4000], 400, "cannot be decoded as TIFF"),
    "cut.avif": (odd_pictures.encode(odd_pictures.smooth(90, 60), "AVIF")[:400], 400, "cannot be decoded as AVIF"),
}


def wav(rate: int, channels: int, samples: Any, claimed: int | None = None) -> bytes:
    """Return a WAV of float32 with any header: ``claimed`` bytes of samples."""
    data = np.asarray(samples, "<f4").tobytes()
    bytes_per_second = rate * channels * 4 & 0xFFFFFFFF
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, channels, rate, bytes_per_second, channels * 4, 32)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data) if claimed is None else claimed) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(claimed: int) -> bytes:
    """Return a FLAC file whose header claims a number of samples (36 bits: RFC 9639, section 8.2)."""
    import soundfile  # type: ignore[import-untyped]

    file = io.BytesIO()
    soundfile.write(file, np.zeros(24_000), 48_000, format="FLAC")
    data = bytearray(file.getvalue())
    packed = int.from_bytes(data[18:26], "big")
    data[18:26] = (packed >> 36 << 36 | claimed).to_bytes(8, "big")
    return bytes(data)


def sounds() -> dict[str, tuple[bytes, int, str]]:
    """Return sounds, as ``PICTURES`` has pictures."""
    some = np.zeros(4000)
    return {
        "empty": (b"", 400, "empty"),
        "text": (b"hello, this is no sound at all, really", 400, "no known sound"),
        "JPEG": (PHOTO, 400, "a picture"),
        "2^36 samples": (flac(2**36 - 1), 413, "68,719,476,735 samples"),
        "1 Hz": (wav(1, 1, some), 400, "1 samples a second"),
        "24 channels": (wav(8000, 24, np.zeros(2400)), 413, "24 channels"),
        "NaN": (wav(8000, 1, np.where(np.arange(4000) == 77, np.nan, 0)), 400, "at sample 77"),
        "no samples": (wav(8000, 1, []), 400, "no samples"),
        "damaged FLAC": (b"fLaC" + bytes(range(256)), 400, "cannot be decoded as FLAC"),
        "damaged OGG": (b"OggS" + bytes(range(256)), 400, "cannot be decoded as OGG"),
    }
