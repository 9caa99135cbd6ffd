"""The tokenizer of a model: texts to token ids equal to the reference's, truncated with a count of what was dropped."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import tokenizers
from tokenizers import normalizers, processors

from nearfield.checkpoint.tokenizer import builder, long_texts
from nearfield.checkpoint.tokenizer.truncation import (
    TRUNCATIONS,
    Tokens,
    Truncate,
    UntruncatedIds,
    drop_left,
    drop_right,
    too_long,
)
from nearfield.errors import InputError, ModelRefused

__all__ = ["TRUNCATIONS", "Tokenizer", "Tokens", "Truncate"]


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads: nothing in it changes after loading."""

    def __init__(
        self,
        vocab: builder.TokenizerFiles,
        *,
        max_length: int,
        lowercase: bool = False,
        bare: bool = False,
        drop_unknown: bool = False,
        blank: int | None = None,
    ) -> None:
        self._backend = vocab.tokenizer
        if bare:
            self._backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        self._unknown = _unknown(self._backend) if drop_unknown else None
        self._blank = blank
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
    def load(cls, folder: Path, *, max_length: int, lowercase: bool = False, **options: Any) -> Tokenizer:
        """Load a folder's tokenizer. Padding and truncation settings in its file are ignored; ``max_length`` counts.

        ``bare`` puts no special tokens around a text, ``drop_unknown`` leaves the unknown token out of it, and
        ``blank`` is the id that is used for a text without tokens.
        """
        return cls(builder.build_tokenizer(folder), max_length=max_length, lowercase=lowercase, **options)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The ``tokenizers`` object, for callers that need more than ids: pairs, offsets, single tokens."""
        return self._backend

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        truncate: Truncate | None = None,
        max_length: int | None = None,
    ) -> list[Tokens]:
        """Tokenise ``prompt + text`` for each text, special tokens included, truncated to ``max_length`` ids.

        ``truncate`` drops the end ("right"), drops the beginning of the text but keeps the prompt ("left"), or raises
        InputTooLong ("error"); None does what the model's own files say, which is nearly always "right".

        A text far longer than ``max_length`` is tokenised in pieces, in bounded memory (see ``long_texts``). Its ids
        and ``dropped`` are those of the whole text wherever a token depends only on the 512 characters around it;
        beyond that, as in one endless word, ``dropped`` is an estimate.
        """
        limit = self._limit(max_length)
        side = self._side(truncate)
        _check_types(texts)
        inputs = [prompt + text for text in texts] if prompt else list(texts)
        result = []
        for index, text in enumerate(self._encode_untruncated(inputs, limit, strict=side == "error")):
            fits = len(text.ids) <= limit
            result.append(Tokens(text.ids, 0) if fits else self._truncate(text, limit, side, prompt, index))
        return result if self._blank is None else [self._filled(tokens) for tokens in result]

    def _filled(self, tokens: Tokens) -> Tokens:
        """Drop unknown tokens, and use the blank token for a text without any (static embeddings)."""
        known = [number for number in tokens.ids if number != self._unknown]
        return Tokens(known or [cast(int, self._blank)], tokens.dropped)

    def from_ids(
        self, ids: Iterable[int], *, truncate: Truncate | None = None, max_length: int | None = None
    ) -> Tokens:
        """Take token ids from the caller; special tokens are added around them unless they are there already."""
        limit = self._limit(max_length)
        side = self._side(truncate)
        text = UntruncatedIds(self._framed(self._checked(ids)))
        return Tokens(text.ids, 0) if len(text.ids) <= limit else self._truncate(text, limit, side, "", None)

    def shorten(self, texts: Sequence[str], max_tokens: int) -> tuple[list[str], int]:
        """Truncate texts after ``max_tokens`` tokens, special ones not counted.

        Returns the texts and how many tokens were dropped from all of them.
        """
        shortened, dropped = [], 0
        try:
            for batch in long_texts.batches(list(texts)):
                encodings = self._backend.encode_batch(batch, add_special_tokens=False)
                for text, encoding in zip(batch, encodings, strict=True):
                    excess = max(0, len(encoding.ids) - max_tokens)
                    shortened.append(text[: encoding.offsets[max_tokens - 1][1]] if excess else text)
                    dropped += excess
        except TypeError as error:
            raise _surrogate(texts, error) from error
        return shortened, dropped

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens pooling leaves out when a model excludes its prompt.

        As in the reference: the prompt tokenised alone, its leading special tokens counted, a trailing one not.
        """
        if not prompt:
            return 0
        ids = next(self._encode_untruncated([prompt], self.max_length)).ids[: self.max_length]
        return len(ids) - (1 if ids and (ids[-1] in self._special or self.suffix) else 0)

    def _encode_untruncated(self, inputs: list[str], limit: int, *, strict: bool = False) -> Iterator[UntruncatedIds]:
        """Tokenise each text, in calls whose memory is bounded.

        ``strict``: a text with more than ``limit`` ids will be refused, so those of a long one need not be counted.
        """
        size = long_texts.piece_size(limit)
        done = 0
        try:
            for batch in long_texts.batches(inputs, size):
                if len(batch[0]) > size:
                    yield self._encode_long(batch[0], limit, done if strict else None)
                else:
                    yield from [UntruncatedIds(encoding.ids) for encoding in self._run(batch)]
                done += len(batch)
        except TypeError as error:  # Rust refuses a lone surrogate, and its message names no position
            raise _surrogate(inputs, error) from error

    def _encode_long(self, text: str, limit: int, refused_as: int | None) -> UntruncatedIds:
        untruncated = long_texts.encode_in_pieces(self._run, text, limit, refused_as)
        return UntruncatedIds([*self.prefix, *untruncated.ids, *self.suffix], untruncated.missing)

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

    def _truncate(self, text: UntruncatedIds, limit: int, side: Truncate, prompt: str, index: int | None) -> Tokens:
        """Shorten to ``limit``; the special tokens at both ends stay."""
        if side == "error":
            raise too_long(str(len(text.ids) + text.missing), limit, index)
        if side == "right":
            return drop_right(text, limit, self.suffix)
        return drop_left(text, limit, self.suffix, max(self.prompt_length(prompt), len(self.prefix)))

    def _checked(self, ids: Iterable[int]) -> list[int]:
        checked = []
        for value in ids:
            try:
                number = -1 if isinstance(value, bool) else operator.index(value)
            except TypeError:
                raise InputError(f"token ids must be whole numbers, and {value!r} is none", param="input") from None
            if not 0 <= number < self.vocab_size:
                raise InputError(f"token id {value!r} is out of range: 0 to {self.vocab_size - 1} exist", param="input")
            checked.append(number)
        return checked

    def _framed(self, ids: list[int]) -> list[int]:
        head, tail = len(self.prefix), len(self.suffix)
        complete = ids[:head] == self.prefix if head else tail == 0 or ids[-tail:] == self.suffix
        return ids if complete else [*self.prefix, *ids, *self.suffix]


def _check_types(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InputError("encode takes a sequence of texts, not one text", param="input")
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


def _unknown(backend: tokenizers.Tokenizer) -> int | None:
    """Return the id of the unknown token, or None where the tokenizer has none."""
    stated = json.loads(backend.to_str()).get("model", {})
    if isinstance(stated.get("unk_id"), int):
        return int(stated["unk_id"])
    token = stated.get("unk_token")
    return backend.token_to_id(token) if token else None


def _lowercase(backend: tokenizers.Tokenizer) -> None:
    """Lower-case before other steps, as sentence-transformers does, unless the tokenizer's normalizer already does."""
    own = backend.normalizer
    steps: list[Any] = [] if own is None else [own]
    if isinstance(own, normalizers.Sequence):
        steps = [own[index] for index in range(len(own))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _frame(backend: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text, found out by trying."""
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
    """Return the largest id plus one; ids may have gaps, so their count is not enough."""
    count = backend.get_vocab_size(with_added_tokens=True)
    if count and backend.id_to_token(count - 1) is not None:
        return count
    return max(backend.get_vocab().values(), default=-1) + 1
