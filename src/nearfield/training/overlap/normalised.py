"""The form in which texts are compared: without differences of case, width, accents of form, punctuation and space."""

from __future__ import annotations

import re
import unicodedata

_NO_WORDS = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Return a text in Unicode's compatibility form, folded, with one space for whatever is not a letter or digit.

    A text of signs alone is returned folded only, so that different signs stay different.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NO_WORDS.sub(" ", folded).strip() or folded.strip()
