"""Rules of two-tower models for texts (``recipe.TextRules``): canonical punctuation, the end token, padding."""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, normalizers

from nearfield.checkpoint.tokenizer.truncation import Tokens
from nearfield.recipe import TextRules

#: ASCII punctuation, all of it: Python's ``string.punctuation``.
_PUNCTUATION = r"[!-/:-@\[-`{-~]"


def canonicalize(backend: tokenizers.Tokenizer) -> None:
    """Remove ASCII punctuation and make runs of white space one space, before the tokenizer's other steps.

    SigLIP's training did so (``canonicalize_text`` of big_vision), and its tokenizer class in transformers does.
    """
    steps = [
        normalizers.Replace(Regex(_PUNCTUATION), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    own = backend.normalizer
    backend.normalizer = normalizers.Sequence(steps if own is None else [*steps, own])


@dataclass(frozen=True)
class InputRules:
    """What is done to the ids of a text when it is tokenised: ``eos`` is its end token, ``pad`` its padding token."""

    rules: TextRules
    eos: int | None
    pad: int

    def apply(self, tokens: Tokens) -> Tokens:
        """Return tokens that end at the first end token, and are padded, where the rules say so."""
        if self.rules.ends_at_eos and self.eos is not None and self.eos in tokens.ids:
            # CLIP pools the state of the first end token, and no token sees those after it.
            end = tokens.ids.index(self.eos) + 1
            unread = tokens.ids[end:]
            dropped = len(unread) - (unread[-1:] == [self.eos])
            tokens = Tokens(tokens.ids[:end], tokens.dropped + dropped, tokens.unknown)
        padding = max(0, (self.rules.pad_to or 0) - len(tokens.ids))
        return Tokens([*tokens.ids, *[self.pad] * padding], tokens.dropped, tokens.unknown, padding)
