"""Pictures of pages with known text, as a scanner or a screenshot produces them."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Pixels of an A4 page at 150 dots per inch.
A4 = (1240, 1754)
_MARGIN = 110


@dataclass(frozen=True)
class ScannedPage:
    """A picture of a page: its words in reading order, and what was done to it."""

    name: str
    picture: Any
    words: list[str]


def font(size: int, name: str = "DejaVuSans") -> Any:
    """Return a font that matplotlib ships."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def blank(size: tuple[int, int] = A4, colour: str = "white") -> Any:
    """Return a page without text."""
    from PIL import Image

    return Image.new("RGB", size, colour)


def draw(picture: Any, lines: Sequence[str], left: int, top: int, size: int, **options: Any) -> int:
    """Draw lines, and return the position below the last one. Options: ``name`` of a font, ``fill``."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(picture)
    letters = font(size, options.get("name", "DejaVuSans"))
    for line in lines:
        pen.text((left, top), line, font=letters, fill=options.get("fill", "black"))
        top += round(size * 1.45)
    return top


def wrap(text: str, size: int, width: int) -> list[str]:
    """Return the lines of a text in a column of some pixels."""
    return textwrap.wrap(text, max(8, int(width / (size * 0.6))))


def page(text: str, size: int = 24, *, name: str = "DejaVuSans", columns: int = 1, title: str = "") -> Any:
    """Return a page of paragraphs, which blank lines separate, in columns."""
    picture = blank()
    top = _MARGIN
    if title:
        top = draw(picture, [title], _MARGIN, top, size * 2, name="DejaVuSans-Bold") + size
    gap = 60
    width = (A4[0] - 2 * _MARGIN - gap * (columns - 1)) // columns
    parts = text.split("\n\n")
    share = -(-len(parts) // columns)
    for column in range(columns):
        below = top
        for part in parts[column * share : (column + 1) * share]:
            left = _MARGIN + column * (width + gap)
            below = draw(picture, wrap(part, size, width), left, below, size, name=name) + size
    return picture


def noisy(picture: Any, strength: float = 18.0, seed: int = 1) -> Any:
    """Return a picture with noise on all pixels, specks, and less contrast."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    pixels = np.asarray(picture, np.float32) * 0.75 + 40 + random.normal(0, strength, np.asarray(picture).shape)
    pixels[random.random(pixels.shape[:2]) < 0.002] = 60
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def skewed(picture: Any, degrees: float) -> Any:
    """Return a picture that was not put on the scanner straight."""
    from PIL import Image

    return picture.rotate(degrees, resample=Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def blurred(picture: Any, radius: float) -> Any:
    """Return a picture out of focus."""
    from PIL import ImageFilter

    return picture.filter(ImageFilter.GaussianBlur(radius))


def encode(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pdf(pictures: Sequence[Any], dots_per_inch: int = 150) -> bytes:
    """Return a PDF of scanned pages: pictures without a text layer."""
    file = io.BytesIO()
    # Copies: Pillow stores the options of one file in the picture, and uses them for the next.
    pictures[0].copy().save(file, "PDF", save_all=True, append_images=list(pictures[1:]), resolution=dots_per_inch)
    return file.getvalue()
