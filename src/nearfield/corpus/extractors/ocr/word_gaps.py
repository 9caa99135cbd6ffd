"""Spaces that the recognition model leaves out between words: they are seen in the picture of the line.

The model reads most letters right and joins some words ("wedescribe"). It says in which part of the line it saw each
letter, and between two words the part without ink is about as wide as where it saw a space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nearfield.arrays import Array

#: Letters from here on (Chinese, Japanese, Korean) are not separated by spaces.
_FIRST_UNSPACED = 0x2E80
#: Characters that follow a word without a space.
_NEVER_FIRST = frozenset(".,;:!?)]}%'\u2019")
#: Minimum width of a gap between words: relative to the usual space of the line, to most gaps between its letters, and
#: to the height of the line.
_OF_SPACES, _OF_LETTERS, _OF_HEIGHT = 0.6, 2.0, 0.12
#: The share of the gaps between letters that "most" are, and the height that a space has if a line has none.
_MOST, _SPACE_HEIGHT = 0.75, 0.3
#: Difference to the ground from which a pixel is ink, relative to the strongest one.
_INK = 0.35


def with_spaces(text: str, places: Sequence[float], crop: Array) -> str:
    """Return the text of a line with spaces where the picture has gaps as wide as those between words.

    Args:
        text: what the model reads.
        places: where it saw each character that is no space, as shares of the width from 0 to 1.
        crop: pixels of the line, [rows, columns, colours].
    """
    letters = [number for number, letter in enumerate(text) if not letter.isspace()]
    if len(letters) != len(places) or len(letters) < 3:
        return text
    spaced = np.diff(letters) > 1
    gaps = _gaps(np.asarray(places) * crop.shape[1], np.flatnonzero(_has_ink(crop)), spaced)
    missing = ~spaced & (gaps >= _limit(gaps[spaced], gaps[~spaced], crop.shape[0]))
    neighbours = [(letters[number], letters[number + 1]) for number in np.flatnonzero(missing)]
    starts = {second for first, second in neighbours if _may_be_apart(text[first], text[second])}
    return "".join(f" {letter}" if number in starts else letter for number, letter in enumerate(text))


def _has_ink(crop: Array) -> Array:
    """Return for each column of pixels whether it has ink."""
    grey = crop.mean(axis=2)
    contrast = np.abs(grey - np.median(grey))
    inked: Array = contrast.max(axis=0) >= _INK * contrast.max()
    return inked


def _gaps(centres: Array, inked: Array, spaced: Array) -> Array:
    """Return the longest run of blank columns between each two neighbouring letters, of which some have a space.

    A letter may be seen a little too late, behind the gap that is its space: that gap counts for the space alone.
    """
    inks = np.abs(centres[:, None] - inked).argmin(axis=1)  # the nearest ink is the letter's
    runs, gaps = np.diff(inked) - 1, np.zeros(len(spaced))
    for number in (*np.flatnonzero(spaced), *np.flatnonzero(~spaced)):
        start, stop = inks[max(0, number - spaced[number])], inks[number + 1]
        if stop > start:
            widest = start + runs[start:stop].argmax()
            gaps[number] = runs[widest]
            runs[widest] *= not spaced[number]
    return gaps


def _limit(spaces: Array, others: Array, height: int) -> float:
    """Return the width of a gap from which it is between words."""
    usual = float(np.median(spaces)) if len(spaces) else _SPACE_HEIGHT * height
    most = float(np.quantile(others, _MOST)) if len(others) else 0.0
    return max(_OF_SPACES * usual, _OF_LETTERS * most, _OF_HEIGHT * height)


def _may_be_apart(before: str, after: str) -> bool:
    """Return whether there may be a space between two letters: both of scripts that have spaces."""
    return max(ord(before), ord(after)) < _FIRST_UNSPACED and after not in _NEVER_FIRST
