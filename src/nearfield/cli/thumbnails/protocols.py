"""Pictures as escape sequences: the graphics protocol of kitty, inline images of iTerm2, and sixel."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

#: Lines of a terminal that a picture takes, and its pixels where the protocol counts pixels: a line has some 20.
LINES, PIXELS = 6, 120
#: Bytes of base64 in one sequence of kitty.
_KITTY_CHUNK = 4096
_SIXEL_COLOURS, _SIXEL_ROWS, _SIXEL_FIRST = 255, 6, 63
#: Repetitions of a sixel from which on their number is shorter.
_MIN_REPETITIONS = 4


def kitty_sequence(data: bytes) -> str:
    """Return the sequences that show a picture file in kitty, ``LINES`` high; the terminal does not answer.

    See https://sw.kovidgoyal.net/kitty/graphics-protocol/.
    """
    text = base64.b64encode(_to_png(data)).decode()
    chunks = [text[start : start + _KITTY_CHUNK] for start in range(0, len(text), _KITTY_CHUNK)]
    keys = [f"a=T,f=100,q=2,r={LINES},", *[""] * (len(chunks) - 1)]
    more = [1] * (len(chunks) - 1) + [0]
    parts = zip(keys, more, chunks, strict=True)
    return "".join(f"\x1b_G{key}m={follows};{chunk}\x1b\\" for key, follows, chunk in parts)


def iterm_sequence(data: bytes) -> str:
    """Return the sequence that shows a picture file in iTerm2, ``LINES`` high.

    See https://iterm2.com/documentation-images.html.
    """
    keys = f"inline=1;size={len(data)};height={LINES};preserveAspectRatio=1"
    return f"\x1b]1337;File={keys}:{base64.b64encode(data).decode()}\a"


def sixel_sequence(data: bytes) -> str:
    """Return the sequence that shows a picture file as sixels, ``PIXELS`` high or less, in at most 255 colours.

    See https://vt100.net/docs/vt3xx-gp/chapter14.html.
    """
    picture = _open(data)
    picture.thumbnail((4 * PIXELS, PIXELS))
    reduced = picture.quantize(_SIXEL_COLOURS)
    palette = np.array(reduced.getpalette()).reshape(-1, 3) * 100 / 255
    colours = "".join(f"#{number};2;{r:.0f};{g:.0f};{b:.0f}" for number, (r, g, b) in enumerate(palette))
    pixels = np.asarray(reduced)
    bands = (_sixel_band(pixels[top : top + _SIXEL_ROWS]) for top in range(0, len(pixels), _SIXEL_ROWS))
    return f'\x1bPq"1;1;{picture.width};{picture.height}{colours}{"-".join(bands)}\x1b\\'


def _sixel_band(pixels: Array) -> str:
    """Return the sixels of up to six rows of pixels, colour by colour."""
    values = 1 << np.arange(len(pixels))[:, None]
    rows = {number: ((pixels == number) * values).sum(0) for number in np.unique(pixels).tolist()}
    return "$".join(f"#{number}{_repeated(row)}" for number, row in rows.items())


def _repeated(row: Array) -> str:
    """Return the letters of a row of sixels, with numbers in place of long repetitions."""
    runs = ((chr(_SIXEL_FIRST + value), len(list(run))) for value, run in groupby(row.tolist()))
    return "".join(letter * count if count < _MIN_REPETITIONS else f"!{count}{letter}" for letter, count in runs)


def _open(data: bytes) -> PillowImage:
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB")


def _to_png(data: bytes) -> bytes:
    """Return a picture file as PNG, the only format of files that kitty reads."""
    file = io.BytesIO()
    _open(data).save(file, "PNG")
    return file.getvalue()


#: What shows a picture file, by the name of its protocol.
PROTOCOLS: Mapping[str, Callable[[bytes], str]] = {
    "kitty": kitty_sequence,
    "iterm": iterm_sequence,
    "sixel": sixel_sequence,
}
