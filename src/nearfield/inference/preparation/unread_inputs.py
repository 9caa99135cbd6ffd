"""Inputs of which a model knows nothing or little (`UnreadInputs`): their vectors say nothing, and are nearly equal."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from nearfield.checkpoint.tokenizer.pairs import PairTokens
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.inference.preparation.inputs import Text
from nearfield.message_text import count_of

LOG = logging.getLogger("nearfield")
#: Characters of a text that are looked at, and how many for each known token make it worth that.
_SAMPLE_CHARACTERS, _CHARACTERS_PER_TOKEN = 2000, 8
#: What counts the inputs of the calls in a block, in place of warnings of these calls.
_TOTAL: ContextVar[UnreadInputs | None] = ContextVar("nearfield_unread_total", default=None)


@contextmanager
def unread_unlogged() -> Iterator[UnreadInputs]:
    """Log no warnings of inputs that a model cannot read, in a block whose caller reports them itself.

    What is yielded counts the inputs of all calls of the block.
    """
    total = UnreadInputs()
    token = _TOTAL.set(total)
    try:
        yield total
    finally:
        _TOTAL.reset(token)


class UnreadInputs:
    """Counts the inputs of a call of which most tokens, or the tokens of most characters, are unknown.

    Inputs that have characters and no token count as well. Special tokens and the prompt do not count, and blank inputs
    are left out. Of a pair, the second text counts alone: all pairs of a query have its first text.
    """

    def __init__(self) -> None:
        #: Number of such inputs, and the position of the first one in the call.
        self.count, self.first = 0, -1
        #: Unknown tokens of all inputs.
        self.unknown = 0
        self._position = 0

    def add(self, tokenizer: Tokenizer, prompt: str, items: Sequence[Text], tokens: Sequence[Tokens]) -> None:
        """Count the inputs of one window, with their tokens."""
        # A prompt has at most as many tokens as characters: only inputs that may be empty beside it are looked at.
        short = len(tokenizer.prefix) + len(tokenizer.suffix) + max(1, len(prompt))
        places = [at for at, item in enumerate(tokens) if item.unknown or len(item.ids) <= short]
        if places:
            self.unknown += sum(tokens[at].unknown for at in places)
            frame = tokenizer.frame_size(prompt)
            places = [at for at in places if _is_unread(tokenizer, frame, items[at], tokens[at])]
        self._record(places, len(tokens))

    def add_pairs(
        self, tokenizer: Tokenizer, texts: Sequence[object], tokens: Sequence[PairTokens], frame: int
    ) -> None:
        """Count the inputs of one window, with the text of each that is judged and ``frame`` tokens around them."""
        places = [
            at
            for at, item in enumerate(tokens)
            if item.unknown
            and (item.unknown > len(item.ids) - frame - item.unknown or _is_mostly_unknown(tokenizer, texts[at]))
        ]
        self._record(places, len(tokens))

    def skip(self, size: int) -> None:
        """Count inputs that are no texts."""
        self._position += size

    def log(self, model: str) -> None:
        """Log one warning if there are such inputs."""
        total = _TOTAL.get()
        if total is not None:
            total._include(self)
        elif self.count:
            LOG.warning(
                "%s knows few or none of the tokens of %s of %d (the first is input %d): such vectors say little about "
                "their texts, and are nearly equal. Their unknown tokens are counted in `unknown`; use a model for "
                "their languages.",
                model,
                count_of(self.count, "input"),
                self._position,
                self.first,
            )

    def _include(self, call: UnreadInputs) -> None:
        self.unknown += call.unknown
        if call.count and not self.count:
            self.first = self._position + call.first
        self.count += call.count
        self._position += call._position

    def _record(self, places: Sequence[int], size: int) -> None:
        if places and not self.count:
            self.first = self._position + places[0]
        self.count += len(places)
        self._position += size


def _is_unread(tokenizer: Tokenizer, frame: int, item: Text, tokens: Tokens) -> bool:
    known = tokenizer.count_known(tokens, frame)
    if not tokens.unknown:
        return known <= 0 and isinstance(item, str) and bool(item.strip())
    has_long_tokens = len(item) > _CHARACTERS_PER_TOKEN * known
    return tokens.unknown > known or (has_long_tokens and _is_mostly_unknown(tokenizer, item))


def _is_mostly_unknown(tokenizer: Tokenizer, text: object) -> bool:
    """Return whether unknown tokens have most of a text's characters: a sentence without spaces may be one of them."""
    if not isinstance(text, str):
        return False
    sample = text[:_SAMPLE_CHARACTERS]
    encoding = tokenizer.backend.encode(sample, add_special_tokens=False)
    places = zip(encoding.ids, encoding.offsets, strict=True)
    unknown = sum(stop - start for number, (start, stop) in places if number == tokenizer.unknown_id)
    return 2 * unknown > len("".join(sample.split()))
