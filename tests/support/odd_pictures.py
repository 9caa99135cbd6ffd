"""Picture files of all modes, sizes, orientations and formats, written by Pillow for the tests."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

#: Sizes (width, height), from one pixel to 48 megapixels, and aspects of 1:50 and 50:1.
SIZES = ((1, 1), (1, 7), (7, 1), (2, 3), (223, 225), (224, 224), (225, 300), (640, 427), (20, 1000), (1000, 20))
LARGE = (8000, 6000)


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a picture in RGB with edges and gradients, as photographs have them."""
    small = np.random.default_rng(seed).integers(0, 256, (max(1, height // 16), max(1, width // 16), 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(orientation: int, kind: str = "JPEG") -> bytes:
    """Return a picture that is to be displayed with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(smooth(97, 61, orientation), kind, exif=exif)


def ramp16(big: bool = False) -> Image.Image:
    """Return a grey picture of 16 bits that has each value from 0 to 65,535 once."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    return Image.fromarray(values.astype(">u2") if big else values)


def translucent(width: int = 90, height: int = 70) -> Image.Image:
    """Return a picture in RGBA whose transparent part hides a red."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., 0] = 255
    pixels[..., 3] = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(pixels)


def animation(kind: str, frames: int = 3, size: int = 40) -> bytes:
    """Return an animation whose frames differ."""
    images = [smooth(size, size, seed) for seed in range(frames)]
    return encode(images[0], kind, save_all=True, append_images=images[1:], duration=50)


def gif_of(frames: int) -> bytes:
    """Return a GIF of one pixel with this many frames, each of 21 bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"\x21\xf9\x04\0\0\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * frames + b";"


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that says how large it is, and has almost no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def odd_pictures() -> Iterator[tuple[str, bytes]]:
    """Yield names and files of pictures in which 8-bit pixels are opaque and upright: all readers agree on those."""
    photo = smooth(180, 130)
    for width, height in SIZES:
        yield f"{width}x{height}", encode(smooth(width, height), "PNG")
    for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        yield f"TIFF {mode}", encode(photo.convert(mode), "TIFF")
    for mode in ("1", "L", "P", "RGB"):
        yield f"PNG {mode}", encode(photo.convert(mode), "PNG")
        yield f"BMP {mode}", encode(photo.convert(mode), "BMP")
    for mode in ("L", "RGB", "CMYK"):
        yield f"JPEG {mode}", encode(photo.convert(mode), "JPEG")
    yield "JPEG progressive", encode(photo, "JPEG", progressive=True)
    yield "JPEG 4:4:4", encode(photo, "JPEG", subsampling=0, quality=95)
    yield "PNG interlaced", interlaced_png()
    yield "WEBP lossy", encode(photo, "WEBP")
    yield "WEBP lossless", encode(photo, "WEBP", lossless=True)
    yield "AVIF", encode(photo, "AVIF")
    yield "GIF", encode(photo, "GIF")
    yield "GIF interlaced", encode(photo.convert("P"), "GIF", interlace=1)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"TIFF {compression}", encode(photo, "TIFF", compression=compression)
    yield "TIFF pages", encode(photo, "TIFF", save_all=True, append_images=[smooth(30, 30, 5)])
    for name in ("GIF", "PNG", "WEBP"):
        yield f"{name} animated", animation(name)


def transparent_pictures() -> Iterator[tuple[str, bytes]]:
    """Yield names and files of pictures that are transparent in parts."""
    rgba, keyed = translucent(), smooth(60, 50)
    keyed.paste((1, 2, 3), (10, 10, 30, 30))
    yield "PNG RGBA", encode(rgba, "PNG")
    yield "PNG LA", encode(rgba.convert("LA"), "PNG")
    yield "PNG RGB with a transparent colour", encode(keyed, "PNG", transparency=(1, 2, 3))
    yield "PNG L with a transparent value", encode(smooth(60, 50).convert("L"), "PNG", transparency=100)
    yield "PNG palette", encode(rgba.convert("RGB").quantize(8), "PNG", transparency=bytes([0, 128, 255]))
    yield "GIF palette", encode(smooth(60, 50).quantize(16), "GIF", transparency=3)
    yield "WEBP RGBA", encode(rgba, "WEBP", lossless=True)
    yield "TIFF RGBA", encode(rgba, "TIFF")
    yield "AVIF RGBA", encode(rgba, "AVIF")


def interlaced_png() -> bytes:
    """Return a PNG in Adam7 order (PNG 1.2, section 2.6): Pillow reads it, and writes none."""
    pixels = np.asarray(smooth(37, 29))
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for left, top, across, down in passes:
        part = pixels[top::down, left::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 37, 29, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
