"""The tokenizer of a model: texts to token ids equal to the reference's, truncated with a count of what was dropped."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers, processors

from nearfield.checkpoint.tokenizer import builder, long_texts
from nearfield.checkpoint.tokenizer.guarded_tokenizer import (
    GuardedTokenizer,
    UntokenizableError,
    check_unicode,
    find_lone_surrogate,
    surrogate_error,
)
from nearfield.checkpoint.tokenizer.input_rules import InputRules, append_tail, canonicalize, surround
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
from nearfield.recipe import TextRules

#: Tokens beyond the embedding table that are taken for additions, in a vocabulary so small that 1% of it is fewer.
_MAX_WITHOUT_ROW = 16

__all__ = ["TRUNCATIONS", "Tokenizer", "Tokens", "Truncate", "find_unknown_id"]


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
        table_rows: int | None = None,
        rules: TextRules | None = None,
    ) -> None:
        backend = vocab.tokenizer
        rules = rules or TextRules()
        if bare:
            backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        #: The id of the unknown token; None for tokenizers that have a token for every character or byte.
        self.unknown_id = _stated_unknown(backend) if drop_unknown else find_unknown_id(backend)
        self._drop_unknown = drop_unknown
        #: The token of a space that belongs to no word, as before what is unknown.
        self._space = backend.token_to_id("\u2581")
        self._blank = blank
        if rules.canonicalize:
            canonicalize(backend)
        if lowercase:
            _lowercase(backend)
        if rules.tail:
            append_tail(backend, rules.tail)
        if rules.begin or rules.end:
            surround(backend, rules)
        self._backend = GuardedTokenizer(backend)
        self._run = self._backend.encode_batch_fast
        self.prefix, self.suffix = _frame(self._backend)
        if self.unknown_id in (*self.prefix, *self.suffix):
            self.unknown_id = None  # CLIP's files name the end token, and its vocabulary has all bytes
        if max_length <= len(self.prefix) + len(self.suffix):
            raise ModelRefused(f"a maximum length of {max_length} leaves no room for a text beside the special tokens")
        self.max_length = max_length
        #: The largest id plus one. Ids may have gaps, so their count is not enough.
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._table_rows = self.vocab_size if table_rows is None else table_rows
        #: The tokens for which the embedding table has no row, by id.
        self.tokens_without_row = _tokens_without_row(backend, self._table_rows) if table_rows is not None else {}
        self.check_special_tokens([*self.prefix, *self.suffix])
        self.pad_id = vocab.pad_id
        self.side: Truncate = "left" if vocab.side == "left" else "right"
        own = "" if rules == TextRules() else f" {rules!r}{rules.tail}{rules.empty}{rules.begin}{rules.end}"
        self._empty, self._has_tail = rules.empty, bool(rules.tail)
        self.digest = hashlib.sha256(f"{vocab.digest} {lowercase}{own}".encode()).hexdigest()
        eos = self.suffix[-1] if self.suffix else None
        self._rules = InputRules(rules, eos, self.pad_id) if own else None
        added = self._backend.get_added_tokens_decoder()
        self._special = frozenset(number for number, token in added.items() if token.special) | {
            *self.prefix,
            *self.suffix,
        }

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        max_length: int,
        lowercase: bool = False,
        settings: Mapping[str, Any] | None = None,
        file_only: bool = False,
        **options: Any,
    ) -> Tokenizer:
        """Load a folder's tokenizer. Its own padding and maximum length are ignored; ``max_length`` counts.

        ``settings`` and ``file_only`` are those of ``build_tokenizer``. ``bare`` puts no special tokens around a text,
        ``drop_unknown`` leaves the unknown token out of it, and ``blank`` is the id that is used for a text without
        tokens. ``table_rows`` is the number of rows of the embedding table: a text with a token beyond it is refused.
        ``rules`` are those of a two-tower model's texts.

        Raises:
            ModelRefused: there is no tokenizer, it is damaged, or every text needs a token that the table lacks.
        """
        files = builder.build_tokenizer(folder, settings, file_only=file_only)
        return cls(files, max_length=max_length, lowercase=lowercase, **options)

    @property
    def backend(self) -> GuardedTokenizer:
        """The ``tokenizers`` object, for callers that need more than ids: pairs, offsets, single tokens."""
        return self._backend

    @property
    def is_bounded(self) -> bool:
        """Whether its time grows with the text's length and no faster, so that short texts may block an event loop."""
        return self._backend.slow_part is None

    def check_rows(self, ids: Iterable[int], which: str) -> None:
        """Raise InputError if the embedding table has no row for one of the ids; ``which`` names the input."""
        if self.tokens_without_row:
            number = next((number for number in ids if number in self.tokens_without_row), None)
            if number is not None:
                token = self.tokens_without_row[number]
                raise InputError(
                    f"{which} contains the token {token!r} (id {number}), for which the model has no embedding: its "
                    f"table has {self._table_rows} rows; remove that part of the text",
                    param="input",
                )

    def check_special_tokens(self, ids: Iterable[int]) -> None:
        """Raise ModelRefused if the embedding table has no row for a token that every text needs."""
        number = next((number for number in ids if number >= self._table_rows), None)
        if number is not None:
            raise ModelRefused(
                f"every text contains the token {self._backend.id_to_token(number)!r} (id {number}), and the embedding "
                f"table has {self._table_rows} rows: tokenizer and weights do not belong together"
            )

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        truncate: Truncate | None = None,
        max_length: int | None = None,
        first_index: int = 0,
    ) -> list[Tokens]:
        """Tokenise ``prompt + text`` for each text, special tokens included, truncated to ``max_length`` ids.

        ``truncate`` drops the end ("right"), drops the beginning of the text but keeps the prompt ("left"), or raises
        InputTooLong ("error"); None drops the side that the model's own files name, which is nearly always the end. If
        it is the beginning, the prompt is dropped too, as the reference does.
        ``first_index`` is the number of the first text in messages.

        Of a text far longer than ``max_length`` only the part is read that can matter (see ``long_texts``). Its ids are
        those of the whole text wherever a token depends only on the 512 characters around it, and its ``dropped`` is
        an estimate.

        Raises:
            InputError: an input is no text, cannot be tokenised, or has a token for which the model has no embedding.
        """
        limit = self._limit(max_length)
        side = self._side(truncate)
        _check_types(texts, first_index)
        if self._empty:
            texts = [text or self._empty for text in texts]
        inputs = [prompt + text for text in texts] if prompt else texts
        protected = prompt if truncate == "left" else ""
        result = []
        for index, text in enumerate(self._encode_untruncated(inputs, limit, side, first_index), first_index):
            fits = len(text.ids) <= limit and text.estimate is None
            result.append(Tokens(text.ids, 0) if fits else self._truncate(text, limit, side, protected, index))
        if self.unknown_id is not None:
            for tokens in result:
                tokens.unknown = tokens.ids.count(self.unknown_id)
        if self._drop_unknown:
            result = [self._without_unknown(tokens) for tokens in result]
        if self.tokens_without_row:
            for index, tokens in enumerate(result, first_index):
                self.check_rows(tokens.ids, f"input {index}")
        if self._blank is not None:
            result = [Tokens(tokens.ids or [self._blank], tokens.dropped, tokens.unknown) for tokens in result]
        return result if self._rules is None else [self._rules.apply(tokens) for tokens in result]

    def count_unknown(self, ids: list[int]) -> int:
        """Return how many of the ids are the unknown token."""
        return 0 if self.unknown_id is None else ids.count(self.unknown_id)

    def _without_unknown(self, tokens: Tokens) -> Tokens:
        ids = [number for number in tokens.ids if number != self.unknown_id]
        return Tokens(ids, tokens.dropped, tokens.unknown)

    def frame_size(self, prompt: str) -> int:
        """Return the number of special tokens and of the prompt's tokens around a text."""
        return max(self.prompt_length(prompt), len(self.prefix)) + len(self.suffix)

    def count_known(self, tokens: Tokens, frame: int) -> int:
        """Return how many tokens of an input are known and no mere space, without a ``frame`` around the text."""
        if self._blank is not None and tokens.ids == [self._blank]:
            return 0
        spaces = 0 if self._space is None else tokens.ids.count(self._space)
        return len(tokens.ids) - tokens.padding - frame - spaces - (0 if self._drop_unknown else tokens.unknown)

    def from_ids(
        self, ids: Iterable[int], *, truncate: Truncate | None = None, max_length: int | None = None
    ) -> Tokens:
        """Take token ids from the caller; special tokens are added around them unless they are there already."""
        limit = self._limit(max_length)
        side = self._side(truncate)
        text = UntruncatedIds(self._framed(self._checked(ids)))
        tokens = Tokens(text.ids, 0) if len(text.ids) <= limit else self._truncate(text, limit, side, "", None)
        tokens.unknown = self.count_unknown(tokens.ids)
        return tokens if self._rules is None else self._rules.apply(tokens)

    def encode_bare(self, texts: Sequence[str], max_tokens: int, side: Truncate = "right") -> list[UntruncatedIds]:
        """Tokenise texts without special tokens; the first ``max_tokens`` ids of each are exact, or the last ones.

        ``side`` is the one that will be cut.

        Raises:
            InputError: an input cannot be tokenised.
        """
        return list(self._encode_untruncated(texts, max_tokens, side, special_tokens=False))

    def shorten(self, texts: Sequence[str], max_tokens: int) -> tuple[list[str], int]:
        """Truncate texts after ``max_tokens`` tokens, special ones not counted.

        Returns the texts and how many tokens were dropped from all of them: of a long text, an estimate.
        """
        shortened, dropped = [], 0
        try:
            for text in texts:
                encoding, read = long_texts.read_start(self._backend.encode_batch, text, max_tokens)
                count = long_texts.estimate_count(len(encoding.ids), read, len(text))
                excess = max(0, count - max_tokens)
                known = excess and len(encoding.ids) >= max_tokens
                shortened.append(text[: encoding.offsets[max_tokens - 1][1] if known else read])
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
        ids = next(self._encode_untruncated([prompt], self.max_length, "right")).ids[: self.max_length]
        if self._has_tail:
            return len(ids) - len(self.suffix)
        return len(ids) - (1 if ids and (ids[-1] in self._special or self.suffix) else 0)

    def _encode_untruncated(
        self,
        inputs: Sequence[str],
        limit: int,
        side: Truncate,
        first_index: int = 0,
        *,
        special_tokens: bool = True,
    ) -> Iterator[UntruncatedIds]:
        """Tokenise each text, in calls whose memory and time are bounded."""
        size = long_texts.whole_size(limit)
        done = first_index
        batch: list[str] = []
        try:
            for batch in long_texts.batches(inputs, size):
                if len(batch[0]) > size:
                    yield self._encode_long(batch[0], limit, side, special_tokens)
                else:
                    encodings = self._run(batch, add_special_tokens=special_tokens)
                    yield from [UntruncatedIds(encoding.ids) for encoding in encodings]
                done += len(batch)
        except TypeError as error:  # Rust refuses a lone surrogate, and its message names no position
            raise _surrogate(inputs, error, first_index) from error
        except UntokenizableError as error:
            # Of a long text several parts are tokenised at once.
            raise UntokenizableError(done + (error.index if len(batch) > 1 else 0), error.reason) from error

    def _encode_long(self, text: str, limit: int, side: Truncate, special_tokens: bool) -> UntruncatedIds:
        check_unicode(text)
        encoding, read = long_texts.read_start(self._run, text, limit)
        ids, estimate = encoding.ids, None
        special = len(self.prefix) + len(self.suffix) if special_tokens else 0
        if read < len(text):
            estimate = long_texts.estimate_count(len(ids), read, len(text)) + special
            if side == "left":
                # Without enough tokens at the start the two parts must not overlap.
                ids = ids[:limit] + long_texts.read_end(self._run, text if len(ids) > limit else text[read:], limit)
            else:
                ids = ids[: limit + 1]
        return UntruncatedIds([*self.prefix, *ids, *self.suffix] if special_tokens else ids, estimate)

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
            count = str(len(text.ids)) if text.estimate is None else f"about {text.estimate}"
            raise too_long(f"more than {limit}" if text.estimate and len(text.ids) > limit else count, limit, index)
        if side == "right":
            return drop_right(text, limit, self.suffix)
        return drop_left(text, limit, self.suffix, max(self.prompt_length(prompt), len(self.prefix)))

    def _checked(self, ids: Iterable[int]) -> list[int]:
        checked, count = [], min(self.vocab_size, self._table_rows)
        for value in ids:
            try:
                number = -1 if isinstance(value, bool) else operator.index(value)
            except TypeError:
                raise InputError(f"token ids must be whole numbers, and {value!r} is none", param="input") from None
            if not 0 <= number < count:
                raise InputError(f"token id {value!r} is out of range: 0 to {count - 1} exist", param="input")
            checked.append(number)
        return checked

    def _framed(self, ids: list[int]) -> list[int]:
        head, tail = len(self.prefix), len(self.suffix)
        complete = ids[:head] == self.prefix if head else tail == 0 or ids[-tail:] == self.suffix
        return ids if complete else [*self.prefix, *ids, *self.suffix]


def _check_types(texts: Sequence[str], first_index: int) -> None:
    if isinstance(texts, str):
        raise InputError("encode takes a sequence of texts, not one text", param="input")
    for index, text in enumerate(texts, first_index):
        if not isinstance(text, str):
            raise InputError(f"input {index} must be a text, and is {type(text).__name__}", param="input")


def _surrogate(inputs: Sequence[str], error: TypeError, first_index: int = 0) -> InputError:
    for index, text in enumerate(inputs, first_index):
        if find_lone_surrogate(text) is not None:
            return surrogate_error(f"input {index}", text)
    return InputError(f"an input cannot be tokenised: {error}", param="input")


def find_unknown_id(backend: tokenizers.Tokenizer) -> int | None:
    """Return the id of the token for what the vocabulary lacks, or None where there is none, as with bytes."""
    model: Any = backend.model
    if hasattr(model, "unk_token"):
        return backend.token_to_id(model.unk_token) if model.unk_token else None
    try:
        # A unigram model keeps the number to itself: no vocabulary has the last character for private use.
        numbers = [token.id for token in model.tokenize("\U0010fffd")]
    except Exception:  # noqa: BLE001 - no unknown token and no bytes: refused when a plain text fails
        return None
    return numbers[0] if len(numbers) == 1 else None


def _stated_unknown(backend: tokenizers.Tokenizer) -> int | None:
    """Return the id of the unknown token as the tokenizer's JSON states it, or None where it states none."""
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


def _frame(backend: GuardedTokenizer) -> tuple[list[int], list[int]]:
    """Return the special tokens that the tokenizer puts before and after a text, found out by trying."""
    try:
        whole, bare = backend.encode("a"), backend.encode("a", add_special_tokens=False)
        backend.encode("\N{SNOWMAN} \U0010fffd")  # a vocabulary without its own unknown token fails here, not later
    except Exception as error:
        raise ModelRefused(f"the tokenizer fails on a plain text: {getattr(error, 'reason', error)}") from error
    mask, content = whole.special_tokens_mask, len(bare.ids)
    head = mask.index(0) if 0 in mask else len(mask)
    if whole.ids[head : head + content] != bare.ids:
        raise ModelRefused("the tokenizer changes a text's own tokens when it adds the special ones: unknown here")
    return whole.ids[:head], whole.ids[head + content :]


def _tokens_without_row(backend: tokenizers.Tokenizer, rows: int) -> dict[int, str]:
    """Return the tokens whose id is not below ``rows``, by id.

    Raises:
        ModelRefused: there are so many that the table is another model's.
    """
    vocabulary = backend.get_vocab(with_added_tokens=True)
    beyond = {number: token for token, number in vocabulary.items() if number >= rows}
    if len(beyond) > max(_MAX_WITHOUT_ROW, len(vocabulary) // 100):
        raise ModelRefused(
            f"The tokenizer has {max(beyond) + 1} tokens and the weights {rows}: some texts would read past the end of "
            "the table. Tokenizer and weights do not belong together."
        )
    return beyond
