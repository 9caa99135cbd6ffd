"""Pairs of texts as FlagEmbedding tokenises them: the query has a limit too, and only the passage is cut to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nearfield.checkpoint import json_file
from nearfield.checkpoint.tokenizer.pairs import PairEncoder, PairTokens
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError
from nearfield.recipe import Recipe

Pairs = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class PairLengths:
    """The largest numbers of tokens: of a query, and of a pair."""

    query: int
    pair: int


class PairTokenizer(Protocol):
    """Turns pairs of texts into token ids."""

    def encode_pairs(self, pairs: Pairs, lengths: PairLengths) -> list[PairTokens]:
        """Tokenise pairs."""


class CrossEncoderPairs(PairEncoder):
    """Pairs joined by the special tokens of the tokenizer's file."""

    def encode_pairs(self, pairs: Pairs, lengths: PairLengths) -> list[PairTokens]:
        """Tokenise pairs.

        Raises:
            InputError: a length leaves no place for a passage.
        """
        special = len(self._head) + len(self._middle) + len(self._tail)
        room = min(lengths.pair, self._tokenizer.max_length) - special
        if room < 2:
            raise InputError(f"max_length={lengths.pair} leaves no room for two texts.", param="max_length")
        queries, passages = _ids_of(self._tokenizer, pairs, lengths)
        rows = []
        for query, passage in zip(queries, passages, strict=True):
            # A query that fills the pair is cut too: FlagEmbedding then reads more tokens than max_length.
            first, second = query[: room - 1], passage[: max(1, room - len(query))]
            ids = [*self._head, *first, *self._middle]
            dropped = len(query) + len(passage) - len(first) - len(second)
            rows.append(PairTokens([*ids, *second, *self._tail], len(ids), dropped))
        return rows


class PromptedPairs:
    """Pairs as FlagEmbedding's language models read them: query, passage and prompt, with a line break between them.

    Each part is tokenised by itself.
    """

    def __init__(self, tokenizer: Tokenizer, recipe: Recipe, prompt: str) -> None:
        self._tokenizer = tokenizer
        self._start = begin_token(tokenizer, recipe)
        self._separator, prompt_ids = (bare_ids(tokenizer, text) for text in ("\n", prompt))
        self._tail = [*self._separator, *prompt_ids]

    def encode_pairs(self, pairs: Pairs, lengths: PairLengths) -> list[PairTokens]:
        """Tokenise pairs. The prompt does not count for the length of a pair."""
        queries, passages = _ids_of(self._tokenizer, pairs, lengths)
        room = min(lengths.pair + len(self._tail), self._tokenizer.max_length - len(self._tail))
        rows = []
        for query, passage in zip(queries, passages, strict=True):
            first, second = [*self._start, *query], [*self._separator, *passage]
            rest = second[: max(0, room - len(first))]
            rows.append(PairTokens([*first, *rest, *self._tail], 0, len(second) - len(rest)))
        return rows


def begin_token(tokenizer: Tokenizer, recipe: Recipe) -> list[int]:
    """Return the id of the token that begins a text, unless there is none or it is the one for padding."""
    stated = json_file.read_optional(recipe.folder / "tokenizer_config.json")
    begin, padding = (_content(stated.get(name)) for name in ("bos_token", "pad_token"))
    number = None if begin is None or begin == padding else tokenizer.backend.token_to_id(begin)
    return [] if number is None else [int(number)]


def bare_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text without special tokens."""
    ids: list[int] = tokenizer.backend.encode(text, add_special_tokens=False).ids
    return ids


def _content(token: object) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _ids_of(tokenizer: Tokenizer, pairs: Pairs, lengths: PairLengths) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ids of queries and passages; equal texts are tokenised once."""
    sides = []
    for place, length in ((0, lengths.query), (1, lengths.pair)):
        texts = [pair[place] for pair in pairs]
        unique = list(dict.fromkeys(texts))
        ids = dict(zip(unique, tokenizer.encode_bare(unique, length), strict=True))
        sides.append([ids[text].ids[:length] for text in texts])
    return sides[0], sides[1]
