"""`PictureHash`: what a picture looks like, in some hundred bytes that change little when it is saved again.

The hash is pHash of the library ImageHash: signs of the 256 lowest frequencies. A copy that was cropped is recognised
by hashes of parts: its whole is near one of the parts of the other picture. Colours are compared apart, because the
hash sees none: a red shoe and the same shoe in blue are two pictures, a photo and its copy in grey are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, MissingExtra
from nearfield.media.decoding import Picture, require_pillow

#: Bits of a side of the hash, and words of 64 bits of it. The first word has the lowest frequencies.
_SIDE, WORDS = 16, 4
_LOW = 8
#: Pixels of a side at which a picture is hashed, and those of JPEG files that are decoded for it.
THUMBNAIL, MIN_SIDE = 160, 320
#: Parts that are hashed beside the whole, as shares of the sides: left, top, right and bottom. They lack one side, two
#: that meet, a half of the margin on all sides, or all of it.
_MARGIN = 0.04
_END, _HALF = 1 - _MARGIN, _MARGIN / 2
_PARTS = (
    (0.0, 0.0, 1.0, 1.0),
    (_MARGIN, 0.0, 1.0, 1.0),
    (0.0, _MARGIN, 1.0, 1.0),
    (0.0, 0.0, _END, 1.0),
    (0.0, 0.0, 1.0, _END),
    (_MARGIN, _MARGIN, 1.0, 1.0),
    (0.0, _MARGIN, _END, 1.0),
    (_MARGIN, 0.0, 1.0, _END),
    (0.0, 0.0, _END, _END),
    (_HALF, _HALF, 1 - _HALF, 1 - _HALF),
    (_MARGIN, _MARGIN, _END, _END),
)
PARTS = len(_PARTS)
#: Colours of a side that are compared.
COLOURS = 8
#: Standard deviation of brightness, of 255, below which a picture has too little in it to be recognised.
_FLAT = 3.0
_SIZE = PARTS * WORDS * 8 + COLOURS * COLOURS * 3 + 1


@dataclass(frozen=True, eq=False)
class PictureHash:
    """What a picture looks like.

    Args:
        words: uint64 [PARTS, WORDS], the bits of the whole and of parts of it.
        colours: uint8 [COLOURS, COLOURS, 3], its colours in YCbCr.
        is_flat: whether it has too little in it to be recognised, such as a blank page. It has no copies then.
    """

    words: Array
    colours: Array
    is_flat: bool

    @classmethod
    def blank(cls) -> PictureHash:
        """Return the hash of a picture that has no copies."""
        return cls(np.zeros((PARTS, WORDS), np.uint64), np.zeros((COLOURS, COLOURS, 3), np.uint8), True)

    def to_bytes(self) -> bytes:
        """Return the hash as bytes, of the same number for each."""
        return bytes([self.is_flat]) + self.words.astype("<u8").tobytes() + self.colours.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> PictureHash:
        """Return the hash that ``to_bytes`` wrote.

        Raises:
            InputError: the bytes are of another number.
        """
        if len(data) != _SIZE:
            raise InputError(f"A hash of a picture has {_SIZE} bytes, not {len(data):,}.")
        split = 1 + PARTS * WORDS * 8
        words = np.frombuffer(data[1:split], "<u8").astype(np.uint64).reshape(PARTS, WORDS)
        colours = np.frombuffer(data[split:], np.uint8).reshape(COLOURS, COLOURS, 3)
        return cls(words, colours, bool(data[0]))


def hash_picture(picture: Picture) -> PictureHash:
    """Return the hash of a decoded picture.

    Raises:
        MissingExtra: ImageHash is not installed.
    """
    image = picture.source
    if isinstance(image, np.ndarray):
        image = require_pillow().fromarray(image)
    small = image.resize((THUMBNAIL, THUMBNAIL), require_pillow().Resampling.LANCZOS, reducing_gap=3.0)
    grey = small.convert("L")
    words = np.stack([_hash_part(grey, part) for part in _PARTS])
    colours = small.resize((COLOURS, COLOURS), require_pillow().Resampling.BOX).convert("YCbCr")
    return PictureHash(words, np.asarray(colours), float(np.asarray(grey).std()) < _FLAT)


def require_imagehash() -> Any:
    """Return the module ``imagehash``.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module("imagehash")
    except ModuleNotFoundError as error:
        raise MissingExtra("Near-copies need ImageHash: pip install 'nearfield[dedupe]'") from error


def _hash_part(grey: Any, part: tuple[float, float, float, float]) -> Array:
    """Return the bits of a part of a picture, uint64 [WORDS]."""
    box = tuple(round(THUMBNAIL * share) for share in part)
    bits = require_imagehash().phash(grey.crop(box), hash_size=_SIDE).hash
    low = np.zeros_like(bits)
    low[:_LOW, :_LOW] = True
    return np.packbits(np.concatenate([bits[low], bits[~low]])).view(np.uint64)
