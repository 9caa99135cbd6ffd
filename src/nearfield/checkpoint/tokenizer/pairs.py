"""Tokenise pairs of texts as one input, for rerankers and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError, InputTooLong, ModelRefused
from nearfield.recipe import Template


@dataclass(slots=True)
class PairTokens:
    """One pair: all ``ids``, where the ``second`` text begins (0: not marked), and how many ids were dropped."""

    ids: list[int]
    second: int
    dropped: int


class PairEncoder:
    """Joins texts by the special tokens that the tokenizer's own file puts around a pair."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        whole = tokenizer.backend.encode("a", "a")
        bare = tokenizer.backend.encode("a", add_special_tokens=False).ids
        self._head, self._middle, self._tail = _around(whole.ids, bare)
        special = len(self._head) + len(self._middle) + len(self._tail)
        self._room = tokenizer.max_length - special
        if self._room < 2:
            raise ModelRefused(f"a maximum length of {tokenizer.max_length} leaves no room for two texts")

    def encode(self, firsts: Sequence[str], seconds: Sequence[str], *, truncate: str = "report") -> list[PairTokens]:
        """Tokenise pairs; a pair that is too long loses tokens from the end of its longer text, as in the reference.

        Raises:
            InputTooLong: it is too long, and ``truncate`` is "error".
        """
        count = len(firsts)
        # Both sides in one call: the tokenizer works on them in parallel.
        ids_of = _bare(self._tokenizer, [*firsts, *seconds])
        return [self._join(ids_of[index], ids_of[count + index], truncate, index) for index in range(count)]

    def _join(self, first: list[int], second: list[int], truncate: str, index: int) -> PairTokens:
        dropped = max(0, len(first) + len(second) - self._room)
        if dropped and truncate == "error":
            raise _too_long(index, len(first) + len(second), self._room)
        keep = _shares(len(first), len(second), self._room)
        ids = [*self._head, *first[: keep[0]], *self._middle]
        return PairTokens([*ids, *second[: keep[1]], *self._tail], len(ids), dropped)


class Prompted:
    """Writes pairs into a language model's template; only the body is ever truncated."""

    def __init__(self, tokenizer: Tokenizer, template: Template, instruction: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._instruction = template.instruction if instruction is None else instruction
        head, tail = _bare(tokenizer, [template.head, template.tail])
        self._head, self._tail = [*tokenizer.prefix, *head], [*tail, *tokenizer.suffix]
        self._room = tokenizer.max_length - len(self._head) - len(self._tail)
        if self._room < 1:
            raise ModelRefused(f"a maximum length of {tokenizer.max_length} leaves no room beside the template")

    def encode(self, firsts: Sequence[str], seconds: Sequence[str], *, truncate: str = "report") -> list[PairTokens]:
        """Tokenise pairs within the template.

        Raises:
            InputTooLong: one is too long, and ``truncate`` is "error".
        """
        bodies = [
            self._template.body.format(instruction=self._instruction, query=first, document=second)
            for first, second in zip(firsts, seconds, strict=True)
        ]
        results = []
        for index, ids in enumerate(_bare(self._tokenizer, bodies)):
            dropped = max(0, len(ids) - self._room)
            if dropped and truncate == "error":
                raise _too_long(index, len(ids), self._room)
            results.append(PairTokens([*self._head, *ids[: self._room], *self._tail], 0, dropped))
        return results


def _bare(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {index} of the pairs must be a text, and is {type(text).__name__}", param="input")
    try:
        encodings: Any = tokenizer.backend.encode_batch(list(texts), add_special_tokens=False)
    except TypeError as error:
        raise InputError(f"a text of the pairs is not Unicode: {error}", param="input") from error
    return [one.ids for one in encodings]


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
