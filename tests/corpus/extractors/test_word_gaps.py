"""Spaces that OCR leaves out, on drawn lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearfield.corpus.extractors.ocr.word_gaps import with_spaces
from tests.support.scanned_pages import font

SIZE = 32


def drawn(text: str, *, spread: int = 0, dark: bool = False) -> tuple[list[float], np.ndarray]:
    """Return where the letters of a line are, and its pixels; ``spread`` pixels are between letters."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (2000, 48), "white")
    draw, letters, x, centres = ImageDraw.Draw(picture), font(SIZE), 4.0, []
    for letter in text:
        draw.text((x, 4), letter, "black", font=letters)
        width = letters.getlength(letter)
        centres += [] if letter.isspace() else [x + width / 2]
        x += width + spread
    right = round(x + 4)
    pixels = np.asarray(picture)[:, :right]
    return [centre / right for centre in centres], 255 - pixels if dark else pixels


@pytest.mark.parametrize("options", [{}, {"dark": True}, {"spread": 3}])
@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("Here we describe a knockin mouse", "Here wedescribe a knockinmouse"),
        ("SMC5, a ligase is 6 of (the) E3", "SMC5, aligase is 6of (the) E3"),
        ("of luminescence", "ofluminescence"),
        ("the mice in this study", "the mice in this study"),
    ],
)
def test_words_that_were_joined_are_apart(line: str, read: str, options: dict[str, Any]) -> None:
    assert with_spaces(read, *drawn(line, **options)) == line


@pytest.mark.parametrize("line", ["illuminating", "W.A.V.E. 1.5, 'it's'", "fl-i-ll (m)w"])
def test_words_are_not_cut(line: str) -> None:
    assert with_spaces(line, *drawn(line)) == line
    assert with_spaces(line, *drawn(line, spread=4)) == line


def test_lines_without_places_or_of_scripts_without_spaces_are_unchanged() -> None:
    places, pixels = drawn("ab cd")
    assert with_spaces("abcd", places[:2], pixels) == "abcd"
    assert with_spaces("漢字漢字", places, pixels) == "漢字漢字"
