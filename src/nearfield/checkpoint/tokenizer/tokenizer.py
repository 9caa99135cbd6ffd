"""Tokenizer: texts to token ids as the reference makes them, cut to length with nothing silent about it."""

from __future__ import annotations

import hashlib
import json
import operator
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import tokenizers
from tokenizers import normalizers, processors

from nearfield.checkpoint.tokenizer import builder
from nearfield.errors import InputError, InputTooLong, ModelRefused

Truncate = Literal["right", "left", "error"]
TRUNCATIONS = ("right", "left", "error")
#: Characters of a piece of a text that is too long to be tokenised whole: the least, a token of the limit, the most.
_LEAST_PIECE, _PIECE_TOKEN, _LARGEST_PIECE = 2**16, 64, 2**19
#: Characters given to the tokenizer at once: it takes some 150 bytes for each.
_AT_ONCE = 2**20
#: Characters on either side of a cut that are tokenised together, to see what the cut changed.
_SEAM = 512


@dataclass(slots=True)
class Tokens:
    """One tokenised input: all ``ids`` that the model reads, and how many were ``dropped`` to fit."""

    ids: list[int]
    dropped: int


@dataclass(slots=True)
class _Whole:
    """A text's ids before it is cut: all of them, or its first and last, with ``missing`` more between them."""

    ids: list[int]
    missing: int = 0


class _Ends:
    """The first ids of a long text and its last, ``keep`` of each, and how many there are."""

    def __init__(self, keep: int) -> None:
        self.count = 0
        self.first: list[int] = []
        self.last: deque[int] = deque(maxlen=keep)
        self._keep = keep

    def add(self, ids: list[int]) -> None:
        """Take the ids that come next."""
        self.count += len(ids)
        free = self._keep - len(self.first)
        self.first += ids[:free]
        self.last.extend(ids[free:])


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
        """Load a folder's tokenizer. Padding and truncation baked into its file are not obeyed: ``max_length`` is.

        ``bare`` puts no special tokens around a text, ``drop_unknown`` leaves the unknown token out of it, and
        ``blank`` is the id that stands for a text without tokens.
        """
        return cls(builder.build_tokenizer(folder), max_length=max_length, lowercase=lowercase, **options)

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The library's own object, for what needs more than ids: pairs, offsets, single tokens."""
        return self._backend

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

        A text far longer than ``max_length`` can hold is tokenised in pieces, in bounded memory, and the cuts between
        them are mended. Its ids and ``dropped`` are those of the whole text wherever a token depends only on what lies
        within 512 characters; beyond that, as in one endless word, ``dropped`` is an estimate.
        """
        limit = self._limit(max_length)
        side = self._side(truncate)
        _check_types(texts)
        inputs = [prompt + text for text in texts] if prompt else list(texts)
        result = []
        for index, whole in enumerate(self._wholes(inputs, limit, strict=side == "error")):
            fits = len(whole.ids) <= limit
            result.append(Tokens(whole.ids, 0) if fits else self._cut(whole, limit, side, prompt, index))
        return result if self._blank is None else [self._filled(tokens) for tokens in result]

    def _filled(self, tokens: Tokens) -> Tokens:
        """Leave unknown tokens out, and let a text without any be the blank one: where a model is a mere table."""
        known = [number for number in tokens.ids if number != self._unknown]
        return Tokens(known or [cast(int, self._blank)], tokens.dropped)

    def from_ids(
        self, ids: Iterable[int], *, truncate: Truncate | None = None, max_length: int | None = None
    ) -> Tokens:
        """Take token ids from the caller: as they are if they bring the special tokens, else with these around them."""
        limit = self._limit(max_length)
        side = self._side(truncate)
        whole = _Whole(self._framed(self._checked(ids)))
        return Tokens(whole.ids, 0) if len(whole.ids) <= limit else self._cut(whole, limit, side, "", None)

    def shorten(self, texts: Sequence[str], most: int) -> tuple[list[str], int]:
        """Cut texts behind their first ``most`` tokens, special ones not counted; return how many tokens that cost."""
        kept, dropped = [], 0
        try:
            for batch in _batches(list(texts), _LARGEST_PIECE):
                found = self._backend.encode_batch(batch, add_special_tokens=False)
                for text, encoding in zip(batch, found, strict=True):
                    over = max(0, len(encoding.ids) - most)
                    kept.append(text[: encoding.offsets[most - 1][1]] if over else text)
                    dropped += over
        except TypeError as error:
            raise _surrogate(texts, error) from error
        return kept, dropped

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens pooling leaves out when a model excludes its prompt.

        As in the reference: the prompt tokenised alone, its leading special tokens counted, a trailing one not.
        """
        if not prompt:
            return 0
        ids = next(self._wholes([prompt], self.max_length)).ids[: self.max_length]
        return len(ids) - (1 if ids and (ids[-1] in self._special or self.suffix) else 0)

    def _wholes(self, inputs: list[str], limit: int, *, strict: bool = False) -> Iterator[_Whole]:
        """Tokenise each text, no more of them at once than memory has room for.

        ``strict``: a text with more than ``limit`` ids will be refused, so those of a long one need not be counted.
        """
        size = min(max(_LEAST_PIECE, _PIECE_TOKEN * limit), _LARGEST_PIECE)
        done = 0
        try:
            for batch in _batches(inputs, size):
                if len(batch[0]) > size:
                    yield self._in_pieces(batch[0], limit, size, done if strict else None)
                else:
                    yield from [_Whole(encoding.ids) for encoding in self._run(batch)]
                done += len(batch)
        except TypeError as error:  # Rust takes no lone surrogate, and says only that it wanted a string
            raise _surrogate(inputs, error) from error

    def _in_pieces(self, text: str, limit: int, size: int, strict: int | None) -> _Whole:
        """Tokenise a long text piece by piece; where ``strict`` is its index, only until it is known to be too long."""
        ends = _Ends(limit)
        held: list[int] = []
        spans = _spans(text, size)
        while group := list(islice(spans, max(1, _AT_ONCE // size))):
            for ids, seam in self._pieces(text, group):
                seam.mend(held, ids)
                ends.add(held)
                held = ids
            if strict is not None and ends.count > limit:
                raise _too_long(f"more than {limit}", limit, strict)
        ends.add(held)
        ids = [*self.prefix, *ends.first, *ends.last, *self.suffix]
        return _Whole(ids, ends.count - len(ends.first) - len(ends.last))

    def _pieces(self, text: str, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[list[int], _Seam]]:
        """Yield the ids of each piece, without special tokens, and the seam between it and the one before."""
        texts = [text[start:end] for start, end in spans]
        for start, _ in spans:
            low, high = max(0, start - _SEAM), start + _SEAM
            texts += [text[low:start], text[start:high], text[low:high]]
        found = self._run(texts, add_special_tokens=False)
        for index in range(len(spans)):
            after = len(spans) + 3 * index
            left, right, joined = (encoding.ids for encoding in found[after : after + 3])
            yield found[index].ids, _Seam.of(left, right, joined)

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

    def _cut(self, whole: _Whole, limit: int, side: Truncate, prompt: str, index: int | None) -> Tokens:
        """Shorten to ``limit``, leaving the special tokens at both ends where they are."""
        ids, count = whole.ids, len(whole.ids) + whole.missing
        if side == "error":
            raise _too_long(str(count), limit, index)
        tail = len(self.suffix) if self.suffix and ids[-len(self.suffix) :] == self.suffix else 0
        kept = limit - tail
        if side == "left":
            kept = min(max(self.prompt_length(prompt), len(self.prefix)), kept)
        return Tokens(ids[:kept] + ids[len(ids) - (limit - kept) :], count - limit)

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


@dataclass(slots=True)
class _Seam:
    """What a cut changed: ids at the ``end`` of one piece and at the ``start`` of the next, and those to ``put`` in."""

    end: list[int]
    put: list[int]
    start: list[int]

    @classmethod
    def of(cls, left: list[int], right: list[int], joined: list[int]) -> _Seam:
        """Compare the ids of both sides of a cut with those of the text across it."""
        if left + right == joined:
            return cls([], [], [])
        head = _same(left, joined)
        tail = _same(right[::-1], joined[head:][::-1])
        return cls(left[head:], joined[head : len(joined) - tail], right[: len(right) - tail])

    def mend(self, before: list[int], after: list[int]) -> None:
        """Undo the cut, if the pieces end and start as was seen."""
        kept = len(before) - len(self.end)
        if before[kept:] == self.end and after[: len(self.start)] == self.start:
            before[kept:] = self.put
            del after[: len(self.start)]


def _same(one: list[int], other: list[int]) -> int:
    """Return how many ids are the same from the start on."""
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _batches(inputs: list[str], size: int) -> Iterator[list[str]]:
    """Group texts by their characters; one that is longer than ``size`` stays alone."""
    batch: list[str] = []
    room = _AT_ONCE
    for text in inputs:
        if batch and (len(text) > room or len(text) > size or len(batch[0]) > size):
            yield batch
            batch, room = [], _AT_ONCE
        batch.append(text)
        room -= len(text)
    if batch:
        yield batch


def _spans(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Cut a text into pieces of at most ``size`` characters: before a space or at a line's end where there is one."""
    start = 0
    while start < len(text):
        low, high = start + size // 2, start + size
        space = max(text.rfind(" ", low, high), text.rfind("\n", low, high)) if high < len(text) else -1
        end = space if space > 0 else high
        yield start, end
        start = end


def _too_long(count: str, limit: int, index: int | None) -> InputTooLong:
    which = "the input" if index is None else f"input {index}"
    return InputTooLong(
        f"{which} has {count} tokens, and the model reads at most {limit}: shorten it or have it truncated",
        param="input",
    )


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


def _unknown(backend: tokenizers.Tokenizer) -> int | None:
    """Return the id of the unknown token, or None where the tokenizer has none."""
    stated = json.loads(backend.to_str()).get("model", {})
    if isinstance(stated.get("unk_id"), int):
        return int(stated["unk_id"])
    token = stated.get("unk_token")
    return backend.token_to_id(token) if token else None


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
