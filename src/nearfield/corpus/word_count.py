"""Words of a text: their number, and whether there are enough of them to have a meaning alone."""

from __future__ import annotations

import re
from collections import Counter

#: A text with fewer words has no meaning alone.
MIN_WORDS = 3
#: Words that are named of those that a document lacks.
MAX_MISSING = 8
#: Scripts without spaces between words.
UNSPACED = "\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
WORDS = re.compile(r"\w+")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_WORD = re.compile(rf"(?=\w)[{UNSPACED}]|[^\W{UNSPACED}]+")


def count_words(text: str) -> int:
    """Return the number of words in a text; in scripts without spaces, each letter counts as a word."""
    return sum(1 for _ in _WORD.finditer(text))


def missing_words(visible: str, text: str) -> tuple[str, ...]:
    """Return words of a visible text that another text lacks: at most as many as it is shorter, and at most eight.

    Words that are part of others there come last: the two texts may split words in different ways.
    """
    short = min(MAX_MISSING, count_words(visible) - count_words(text))
    folded = text.casefold()
    left = Counter(_WORD.findall(folded))
    missing: list[str] = []
    for word in _WORD.findall(visible) if short > 0 else ():
        key = word.casefold()
        left[key] -= 1
        if left[key] < 0:
            missing.append(word)
    missing.sort(key=lambda word: word.casefold() in folded)
    return tuple(missing[: max(short, 0)])


def has_meaning(text: str) -> bool:
    """Return whether a text has at least three words; in scripts without spaces, each character counts as a word."""
    if len(_UNSPACED.findall(text)) >= MIN_WORDS:
        return True
    return sum(1 for _, word in zip(range(MIN_WORDS), WORDS.finditer(text), strict=False)) >= MIN_WORDS
