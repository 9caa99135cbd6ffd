"""Facts about a picture from the header of its file; no pixel is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module

from nearfield.media.decoding import own_errors, plugin_of, require_pillow
from nearfield.media.formats import require_format
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits

#: Bits of a pixel by Pillow's modes: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#modes
_BITS = {"1": 1, "L": 8, "P": 8, "LA": 16, "PA": 16, "RGB": 24, "YCbCr": 24, "LAB": 24, "HSV": 24}
_OTHER_BITS = 32


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What the file of a picture says of itself.

    Args:
        width: pixels as they are stored, before the picture is turned upright.
        height: the same.
        format: one of ``media.formats.FORMATS``.
        bits: bits of a pixel, such as 24 for RGB.
    """

    width: int
    height: int
    format: str
    bits: int


def read_header(
    data: bytes, limits: PictureLimits = DEFAULT_PICTURE_LIMITS, name: str = "The picture"
) -> PictureHeader:
    """Return the header of a picture's file.

    Raises:
        InputError: it is no picture of a format that is read, or its header is damaged. ``name`` begins the message.
        MissingExtra: Pillow is not installed.
    """
    kind = require_format(data, name)
    image = require_pillow()
    import_module(f"PIL.{plugin_of(kind)}")
    with own_errors(name, kind, limits), image.open(io.BytesIO(data), formats=(kind,)) as file:
        bits = 16 if file.mode.startswith("I;16") else _BITS.get(file.mode, _OTHER_BITS)
        return PictureHeader(file.width, file.height, kind, bits)
