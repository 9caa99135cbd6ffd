"""Tokenise pairs of texts as one input, for rerankers and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.checkpoint.tokenizer.guarded_tokenizer import (
    UntokenizableError,
    find_lone_surrogate,
    surrogate_error,
)
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.tokenizer.truncation import UntruncatedIds, take
from nearfield.errors import InputError, InputTooLong, ModelRefused
from nearfield.features import Features
from nearfield.recipe import Template


@dataclass(slots=True)
class PairTokens:
    """One pair: all ``ids``, where the ``second`` text begins (0: not marked), and how many ids were dropped.

    ``unknown`` counts the unknown tokens among the ids. ``features`` are what the model reads where that is more than
    the ids: of pairs with pictures.
    """

    ids: list[int]
    second: int
    dropped: int
    unknown: int = 0
    features: Features | None = None


class PairEncoder:
    """Joins texts by the special tokens that the tokenizer's own file puts around a pair."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        whole = tokenizer.backend.encode("a", "a")
        bare = tokenizer.backend.encode("a", add_special_tokens=False).ids
        self._head, self._middle, self._tail = _around(whole.ids, bare)
        special = [*self._head, *self._middle, *self._tail]
        tokenizer.check_special_tokens(special)
        #: Number of special tokens around a pair.
        self.frame = len(special)
        if tokenizer.max_length < self.frame + 2:
            raise ModelRefused(f"a maximum length of {tokenizer.max_length} leaves no room for two texts")

    def encode(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str],
        *,
        truncate: str = "report",
        first_index: int = 0,
        prompt: str | None = None,
        max_length: int | None = None,
    ) -> list[PairTokens]:
        """Tokenise pairs; a pair that is too long loses tokens of its longer text, as in the reference.

        They are those at its end, unless the model's files name the left side.

        Args:
            firsts, seconds: the texts of the pairs.
            truncate: ``report`` or ``error``.
            first_index: the number of the first pair in messages.
            prompt: text before each first text.
            max_length: tokens to read of each pair, special ones included, if fewer than the model reads.

        Raises:
            InputError: a text cannot be tokenised, or has a token for which the model has no embedding.
            InputTooLong: it is too long, and ``truncate`` is "error".
        """
        room = _room(self._tokenizer, max_length, self.frame)
        starts = [prompt + first for first in firsts] if prompt else firsts
        # Both sides in one call: the tokenizer works on them in parallel.
        ids_of = _bare(self._tokenizer, [*starts, *seconds], room, len(starts), first_index)
        pairs = enumerate(zip(ids_of, ids_of[len(firsts) :], strict=False), first_index)
        return [self._join(first, second, room, truncate, index) for index, (first, second) in pairs]

    @staticmethod
    def sizes(firsts: Sequence[str], seconds: Sequence[str]) -> list[int]:
        """Return the characters to tokenise of each pair; a query that pairs share is tokenised once."""
        pairs = zip(("", *firsts), firsts, seconds, strict=False)
        return [len(second) + (len(first) if first is not previous else 0) for previous, first, second in pairs]

    def _join(self, first: UntruncatedIds, second: UntruncatedIds, room: int, truncate: str, index: int) -> PairTokens:
        dropped = max(0, first.count + second.count - room)
        if dropped and truncate == "error":
            raise _too_long(index, first.count + second.count, room)
        keep = _shares(first.count, second.count, room)
        side = self._tokenizer.side
        head = [*self._head, *take(first.ids, keep[0], side), *self._middle]
        ids = [*head, *take(second.ids, keep[1], side), *self._tail]
        self._tokenizer.check_rows(ids, f"pair {index}")
        return PairTokens(ids, len(head), dropped, self._tokenizer.count_unknown(ids))


class Prompted:
    """Writes pairs into a language model's template; only the body is ever truncated."""

    def __init__(self, tokenizer: Tokenizer, template: Template, instruction: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._instruction = template.instruction if instruction is None else instruction
        head, tail = _bare(tokenizer, [template.head, template.tail], tokenizer.max_length, 2)
        self._head, self._tail = [*tokenizer.prefix, *head.ids], [*tail.ids, *tokenizer.suffix]
        tokenizer.check_special_tokens([*self._head, *self._tail])
        #: Number of special tokens, and of tokens of the template, around the body.
        self.frame = len(self._head) + len(self._tail)
        if tokenizer.max_length <= self.frame:
            raise ModelRefused(f"a maximum length of {tokenizer.max_length} leaves no room beside the template")

    def encode(
        self,
        firsts: Sequence[str],
        seconds: Sequence[str],
        *,
        truncate: str = "report",
        first_index: int = 0,
        prompt: str | None = None,
        max_length: int | None = None,
    ) -> list[PairTokens]:
        """Tokenise pairs within the template. Arguments as for ``PairEncoder.encode``; a prompt is the instruction.

        Raises:
            InputError: a text cannot be tokenised, or has a token for which the model has no embedding.
            InputTooLong: one is too long, and ``truncate`` is "error".
        """
        room = _room(self._tokenizer, max_length, self.frame)
        instruction = prompt or self._instruction
        bodies = [
            self._template.body.format(instruction=instruction, query=first, document=second)
            for first, second in zip(firsts, seconds, strict=True)
        ]
        results = []
        for index, body in enumerate(_bare(self._tokenizer, bodies, room, len(bodies), first_index), first_index):
            dropped = max(0, body.count - room)
            if dropped and truncate == "error":
                raise _too_long(index, body.count, room)
            ids = [*self._head, *take(body.ids, room, self._tokenizer.side), *self._tail]
            self._tokenizer.check_rows(ids, f"pair {index}")
            results.append(PairTokens(ids, 0, dropped, self._tokenizer.count_unknown(ids)))
        return results

    def sizes(self, firsts: Sequence[str], seconds: Sequence[str]) -> list[int]:
        """Return the characters to tokenise of each pair."""
        template = len(self._template.body) + len(self._instruction)
        return [template + len(first) + len(second) for first, second in zip(firsts, seconds, strict=True)]


def _room(tokenizer: Tokenizer, max_length: int | None, special: int) -> int:
    """Return how many tokens the texts of a pair may have, beside ``special`` special ones.

    Raises:
        InputError: ``max_length`` is above the model's, or leaves no token.
    """
    if max_length is None:
        return tokenizer.max_length - special
    if not special < max_length <= tokenizer.max_length:
        raise InputError(f"max_length={max_length}: choose {special + 1} to {tokenizer.max_length}", param="max_length")
    return max_length - special


def _bare(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, pairs: int, first_index: int = 0
) -> list[UntruncatedIds]:
    """Tokenise texts without special tokens; equal ones, such as the query of all pairs, once.

    Text n belongs to pair n modulo ``pairs``; ``first_index`` is the number of the first pair in messages.
    """
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    try:
        ids = tokenizer.encode_bare(list(places), max_tokens, tokenizer.side)
    except UntokenizableError as error:
        place = texts.index(list(places)[error.index])
        raise UntokenizableError(place, error.reason, f"pair {first_index + place % pairs}") from error
    except InputError as error:
        wrong = next((place for place, text in enumerate(texts) if find_lone_surrogate(text) is not None), None)
        if wrong is None:
            raise
        raise surrogate_error(f"pair {first_index + wrong % pairs}", texts[wrong]) from error
    return [ids[places[text]] for text in texts]


def _around(whole: list[int], bare: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Find the special tokens before, between and after two equal texts."""
    size = len(bare)
    places = [at for at in range(len(whole) - size + 1) if whole[at : at + size] == bare]
    if not places or places[-1] < places[0] + size:
        raise ModelRefused("the tokenizer's file does not say how two texts are joined")
    return whole[: places[0]], whole[places[0] + size : places[-1]], whole[places[-1] + size :]


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text stay: the longer one gives first, then both in turn."""
    if first + second <= room:
        return first, second
    half = room // 2
    if min(first, second) <= half:
        return (first, room - first) if first <= second else (room - second, second)
    # The reference removes from the longer text token by token; of equal ones, from the first.
    return (room - half, half) if first > second else (half, room - half)


def _too_long(index: int, count: int, room: int) -> InputTooLong:
    return InputTooLong(
        f"pair {index} has {count} tokens, and the model reads at most {room}: shorten it or have it truncated",
        param="input",
    )
