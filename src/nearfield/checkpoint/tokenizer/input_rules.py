"""Rules of two-tower models for texts (``recipe.TextRules``): canonical punctuation, the end token, padding."""

from __future__ import annotations

from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, normalizers, processors

from nearfield.checkpoint.tokenizer.truncation import Tokens
from nearfield.errors import ModelRefused
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


def append_tail(backend: tokenizers.Tokenizer, tail: str) -> None:
    """Put the tokens of ``tail`` after each text: they count as special.

    Raises:
        ModelRefused: the tokenizer puts other tokens around a text, for which the template has no place.
    """
    if backend.encode("a").ids != backend.encode("a", add_special_tokens=False).ids:
        raise ModelRefused("the tokenizer puts special tokens around a text, and the model has a template for that")
    encoding = backend.encode(tail, add_special_tokens=False)
    token = {"id": "tail", "ids": encoding.ids, "tokens": encoding.tokens}
    backend.post_processor = processors.TemplateProcessing(single="$A tail", special_tokens=[token])


def surround(backend: tokenizers.Tokenizer, rules: TextRules) -> None:
    """Put the tokens of ``end`` after each text, before the tokenizer's own last ones: they count as special.

    Where there is a ``begin``, its tokens come before each text, and the tokenizer's own ones are left out.
    """
    whole, bare = backend.encode("a"), backend.encode("a", add_special_tokens=False)
    head = whole.special_tokens_mask.index(0) if 0 in whole.special_tokens_mask else len(whole.ids)
    first, last = (whole.ids[:head], whole.ids[head + len(bare.ids) :])
    if rules.begin:
        first, last = backend.encode(rules.begin, add_special_tokens=False).ids, []
    last = [*backend.encode(rules.end, add_special_tokens=False).ids, *last]
    tokens = [
        {"id": name, "ids": ids, "tokens": [backend.id_to_token(number) for number in ids]}
        for name, ids in (("begin", first), ("end", last))
    ]
    used = [token for token in tokens if token["ids"]]
    single = [piece for piece in ("begin", "$A", "end") if piece == "$A" or any(t["id"] == piece for t in used)]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=used)


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
