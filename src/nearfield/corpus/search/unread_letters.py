"""Letters of a text that a model cannot read: its tokenizer has no words, or no parts of words, for their script.

All such texts get nearly the same vector. Their cosine with each other is high, whatever they say.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer

#: With this share of letters that a model cannot read, the vector of a text says nothing.
MIN_SHARE = 0.5
#: Marks a part of a word that is not its start, in WordPiece.
_CONTINUED = "##"


class UnreadLetters:
    """Finds the letters of queries that a model's tokenizer leaves without a meaning."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._backend, self._unknown = tokenizer.backend, tokenizer.unknown_id

    def script(self, text: str) -> str | None:
        """Return the script of a text that the model cannot read; None if it can."""
        return script_of(text) if self.share(text) >= MIN_SHARE else None

    def share(self, text: str) -> float:
        """Return the share of a text's letters that the model cannot read; 0 if it has no letters."""
        if text.isascii():
            return 0.0
        letters = {at for at, letter in enumerate(text) if letter.isalpha()}
        encoding = self._backend.encode(text, add_special_tokens=False)
        unread = _split_letters(encoding.offsets)
        for number, token, (start, end) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True):
            if number == self._unknown or _is_single(token, text[start:end]):
                unread.update(range(start, end))
        return len(letters & unread) / len(letters) if letters else 0.0


def script_of(text: str) -> str:
    """Return the name of the script of most letters of a text, such as Thai."""
    names = Counter(unicodedata.name(letter, "unknown").split()[0] for letter in text if letter.isalpha())
    name = names.most_common(1)[0][0] if names else ""
    return name if name == "CJK" else name.capitalize()


def _split_letters(offsets: Sequence[tuple[int, int]]) -> set[int]:
    """Return the positions of letters of which single bytes are tokens."""
    counts = Counter(start for start, end in offsets if end - start == 1)
    return {start for start, count in counts.items() if count > 1}


def _is_single(token: str, part: str) -> bool:
    """Return whether a token is one letter within a word. In Latin script, that is the case for rare names too."""
    single = token.startswith(_CONTINUED) and len(token) == len(_CONTINUED) + 1
    return single and not unicodedata.name(part[:1], "").startswith("LATIN")
