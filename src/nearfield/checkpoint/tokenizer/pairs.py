"""Tokenise pairs of texts as one input, for rerankers and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.checkpoint.tokenizer.guarded_tokenizer import UntokenizableError
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.tokenizer.truncation import UntruncatedIds
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
        tokenizer.check_special_tokens([*self._head, *self._middle, *self._tail])
        self._room = tokenizer.max_length - special
        if self._room < 2:
            raise ModelRefused(f"a maximum length of {tokenizer.max_length} leaves no room for two texts")

    def encode(
        self, firsts: Sequence[str], seconds: Sequence[str], *, truncate: str = "report", first_index: int = 0
    ) -> list[PairTokens]:
        """Tokenise pairs; a pair that is too long loses tokens from the end of its longer text, as in the reference.

        ``first_index`` is the number of the first pair in messages.

        Raises:
            InputError: a text cannot be tokenised, or has a token for which the model has no embedding.
            InputTooLong: it is too long, and ``truncate`` is "error".
        """
        # Both sides in one call: the tokenizer works on them in parallel.
        ids_of = _bare(self._tokenizer, [*firsts, *seconds], self._room, first_index)
        pairs = zip(ids_of, ids_of[len(firsts) :], strict=False)
        return [self._join(first, second, truncate, index) for index, (first, second) in enumerate(pairs, first_index)]

    @staticmethod
    def sizes(firsts: Sequence[str], seconds: Sequence[str]) -> list[int]:
        """Return the characters to tokenise of each pair; a query that pairs share is tokenised once."""
        pairs = zip(("", *firsts), firsts, seconds, strict=False)
        return [len(second) + (len(first) if first is not previous else 0) for previous, first, second in pairs]

    def _join(self, first: UntruncatedIds, second: UntruncatedIds, truncate: str, index: int) -> PairTokens:
        dropped = max(0, first.count + second.count - self._room)
        if dropped and truncate == "error":
            raise _too_long(index, first.count + second.count, self._room)
        keep = _shares(first.count, second.count, self._room)
        ids = [*self._head, *first.ids[: keep[0]], *self._middle]
        pair = PairTokens([*ids, *second.ids[: keep[1]], *self._tail], len(ids), dropped)
        self._tokenizer.check_rows(pair.ids, f"pair {index}")
        return pair


class Prompted:
    """Writes pairs into a language model's template; only the body is ever truncated."""

    def __init__(self, tokenizer: Tokenizer, template: Template, instruction: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._instruction = template.instruction if instruction is None else instruction
        head, tail = _bare(tokenizer, [template.head, template.tail], tokenizer.max_length)
        self._head, self._tail = [*tokenizer.prefix, *head.ids], [*tail.ids, *tokenizer.suffix]
        tokenizer.check_special_tokens([*self._head, *self._tail])
        self._room = tokenizer.max_length - len(self._head) - len(self._tail)
        if self._room < 1:
            raise ModelRefused(f"a maximum length of {tokenizer.max_length} leaves no room beside the template")

    def encode(
        self, firsts: Sequence[str], seconds: Sequence[str], *, truncate: str = "report", first_index: int = 0
    ) -> list[PairTokens]:
        """Tokenise pairs within the template. ``first_index`` is the number of the first pair in messages.

        Raises:
            InputError: a text cannot be tokenised, or has a token for which the model has no embedding.
            InputTooLong: one is too long, and ``truncate`` is "error".
        """
        bodies = [
            self._template.body.format(instruction=self._instruction, query=first, document=second)
            for first, second in zip(firsts, seconds, strict=True)
        ]
        results = []
        for index, body in enumerate(_bare(self._tokenizer, bodies, self._room, first_index), first_index):
            dropped = max(0, body.count - self._room)
            if dropped and truncate == "error":
                raise _too_long(index, body.count, self._room)
            ids = [*self._head, *body.ids[: self._room], *self._tail]
            self._tokenizer.check_rows(ids, f"pair {index}")
            results.append(PairTokens(ids, 0, dropped))
        return results

    def sizes(self, firsts: Sequence[str], seconds: Sequence[str]) -> list[int]:
        """Return the characters to tokenise of each pair."""
        template = len(self._template.body) + len(self._instruction)
        return [template + len(first) + len(second) for first, second in zip(firsts, seconds, strict=True)]


def _bare(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, first_index: int = 0) -> list[UntruncatedIds]:
    """Tokenise texts without special tokens; equal ones, such as the query of all pairs, once."""
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {index} of the pairs must be a text, and is {type(text).__name__}", param="input")
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    try:
        ids = tokenizer.encode_bare(list(places), max_tokens)
    except UntokenizableError as error:
        place = texts.index(list(places)[error.index])
        which = f"pair {first_index + place % max(1, len(texts) // 2)}"
        raise UntokenizableError(place, error.reason, which) from error
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
