"""Tokenizer: texts to token ids as the reference makes them, cut to length with nothing silent about it."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import normalizers

from nearfield.checkpoint import vocabulary
from nearfield.errors import InputError, InputTooLong, ModelRefused

Truncate = Literal["right", "left", "error"]
TRUNCATIONS = ("right", "left", "error")


@dataclass(slots=True)
class Tokens:
    """One tokenised input: all ``ids`` that the model reads, and how many were ``dropped`` to fit."""

    ids: list[int]
    dropped: int


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads: nothing in it changes after loading."""

    def __init__(self, vocab: vocabulary.Vocabulary, *, max_length: int, lowercase: bool = False) -> None:
        self._backend = vocab.tokenizer
        if lowercase:
            _lowercase(self._backend)
        self._run = getattr(self._backend, "encode_batch_fast", self._backend.encode_batch)
        self.prefix, self.suffix = _frame(self._backend)
        if max_length <= len(self.prefix) + len(self.suffix):
            raise ModelRefused(f"a maximum length of {max_length} leaves no room for a text beside the special tokens")
        self.max_length = max_length
        self.vocab_size = _vocab_size(self._backend)
        self.pad_id = vocab.pad_id
        self.side: Truncate = "left" if vocab.side == "left" else "right"
        self.digest = hashlib.sha256(f"{vocab.digest} {lowercase}".encode()).hexdigest()
        added = self._backend.get_added_tokens_decoder()
        self._special = frozenset(number for number, token in added.items() if token.special) | {
            *self.prefix,
            *self.suffix,
        }

    @classmethod
    def load(cls, folder: Path, *, max_length: int, lowercase: bool = False) -> Tokenizer:
        """Load a folder's tokenizer. Padding and truncation baked into its file are not obeyed: ``max_length`` is."""
        return cls(vocabulary.load(folder), max_length=max_length, lowercase=lowercase)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        truncate: Truncate | None = None,
        max_length: int | None = None,
    ) -> list[Tokens]:
        """Tokenise ``prompt + text`` for each text, special tokens included, cut to at most ``max_length`` ids.

        ``truncate`` drops the end ("right"), drops the beginning of the text but keeps the prompt ("left"), or raises
        InputTooLong ("error"); None does as the model's own files say, which is nearly always "right".
        """
        limit = self._limit(max_length)
        side = self._side(truncate)
        encodings = self._encode(texts, prompt)
        result = []
        for index, encoding in enumerate(encodings):
            ids = encoding.ids
            result.append(Tokens(ids, 0) if len(ids) <= limit else self._cut(ids, limit, side, prompt, index))
        return result

    def from_ids(
        self, ids: Iterable[int], *, truncate: Truncate | None = None, max_length: int | None = None
    ) -> Tokens:
        """Take token ids from the caller: as they are if they bring the special tokens, else with these around them."""
        limit = self._limit(max_length)
        side = self._side(truncate)
        whole = self._framed(self._checked(ids))
        return Tokens(whole, 0) if len(whole) <= limit else self._cut(whole, limit, side, "", None)

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens pooling leaves out when a model excludes its prompt.

        As in the reference: the prompt tokenised alone, its leading special tokens counted, a trailing one not.
        """
        if not prompt:
            return 0
        ids = self._encode([""], prompt)[0].ids[: self.max_length]
        return len(ids) - (1 if ids and (ids[-1] in self._special or self.suffix) else 0)

    def _encode(self, texts: Sequence[str], prompt: str) -> list[Any]:
        _check_types(texts)
        inputs = [prompt + text for text in texts] if prompt else list(texts)
        try:
            return list(self._run(inputs))
        except TypeError as error:  # Rust takes no lone surrogate, and says only that it wanted a string
            raise _surrogate(inputs, error) from error

    def _side(self, truncate: Truncate | None) -> Truncate:
        if truncate is None:
            return self.side
        if truncate not in TRUNCATIONS:
            raise InputError(f"truncate={truncate!r}: choose one of {', '.join(TRUNCATIONS)}", param="truncate")
        return truncate

    def _limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        least = len(self.prefix) + len(self.suffix) + 1
        if not least <= max_length <= self.max_length:
            raise InputError(f"max_length={max_length}: choose {least} to {self.max_length}", param="max_length")
        return max_length

    def _cut(self, ids: list[int], limit: int, side: Truncate, prompt: str, index: int | None) -> Tokens:
        """Shorten to ``limit``, leaving the special tokens at both ends where they are."""
        if side == "error":
            which = "the input" if index is None else f"input {index}"
            raise InputTooLong(
                f"{which} has {len(ids)} tokens, and the model reads at most {limit}: shorten it or have it truncated",
                param="input",
            )
        tail = len(self.suffix) if self.suffix and ids[-len(self.suffix) :] == self.suffix else 0
        kept = limit - tail
        if side == "left":
            kept = min(max(self.prompt_length(prompt), len(self.prefix)), kept)
        return Tokens(ids[:kept] + ids[len(ids) - (limit - kept) :], len(ids) - limit)

    def _checked(self, ids: Iterable[int]) -> list[int]:
        checked = []
        for given in ids:
            try:
                number = -1 if isinstance(given, bool) else operator.index(given)
            except TypeError:
                raise InputError(f"token ids must be whole numbers, and {given!r} is none", param="input") from None
            if not 0 <= number < self.vocab_size:
                raise InputError(f"token id {given!r} is out of range: 0 to {self.vocab_size - 1} exist", param="input")
            checked.append(number)
        return checked

    def _framed(self, ids: list[int]) -> list[int]:
        head, tail = len(self.prefix), len(self.suffix)
        complete = ids[:head] == self.prefix if head else tail == 0 or ids[-tail:] == self.suffix
        return ids if complete else [*self.prefix, *ids, *self.suffix]


def _check_types(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InputError("encode takes a sequence of texts, and was given one text", param="input")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"input {index} must be a text, and is {type(text).__name__}", param="input")


def _surrogate(inputs: Sequence[str], error: TypeError) -> InputError:
    for index, text in enumerate(inputs):
        try:
            text.encode()
        except UnicodeEncodeError as wrong:
            return InputError(
                f"input {index} is not Unicode: character {wrong.start} is a lone surrogate, {text[wrong.start]!r}; "
                "repair it where the text was decoded",
                param="input",
            )
    return InputError(f"an input cannot be tokenised: {error}", param="input")


def _lowercase(backend: tokenizers.Tokenizer) -> None:
    """Lower-case before all else, where sentence-transformers would: not if a step of its own already says so."""
    own = backend.normalizer
    steps: list[Any] = [] if own is None else [own]
    if isinstance(own, normalizers.Sequence):
        steps = [own[index] for index in range(len(own))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _frame(backend: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Find out, by trying, which special tokens the model puts before and after a text."""
    try:
        whole, bare = backend.encode("a"), backend.encode("a", add_special_tokens=False)
        backend.encode("\N{SNOWMAN} \U0010fffd")  # a vocabulary without its own unknown token fails here, not later
    except Exception as error:
        raise ModelRefused(f"the tokenizer fails on a plain text: {error}") from error
    mask, content = whole.special_tokens_mask, len(bare.ids)
    head = mask.index(0) if 0 in mask else len(mask)
    if whole.ids[head : head + content] != bare.ids:
        raise ModelRefused("the tokenizer changes a text's own tokens when it adds the special ones: unknown here")
    return whole.ids[:head], whole.ids[head + content :]


def _vocab_size(backend: tokenizers.Tokenizer) -> int:
    """One more than the largest id; ids may have gaps, and then their count is not it."""
    count = backend.get_vocab_size(with_added_tokens=True)
    if count and backend.id_to_token(count - 1) is not None:
        return count
    return max(backend.get_vocab().values(), default=-1) + 1
