"""The form in which texts are compared: without differences of case, width, accents of form, punctuation and space."""

from __future__ import annotations

import re
import unicodedata

_NO_WORDS = re.compile(r"[\W_]+")
#: What is no letter or digit in ASCII becomes a space.
_ASCII = {code: " " for code in range(128) if not chr(code).isalnum()}


def normalise(text: str) -> str:
    """Return a text in Unicode's compatibility form, folded, with one space for whatever is not a letter or digit.

    A text of signs alone is returned folded only, so that different signs stay different.
    """
    if text.isascii():  # the same, four times as fast
        return " ".join(text.lower().translate(_ASCII).split()) or text.lower().strip()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NO_WORDS.sub(" ", folded).strip() or folded.strip()
