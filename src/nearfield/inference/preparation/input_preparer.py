"""Preparation of inputs for the engine: tokenise, format for late interaction, split long texts, create the ticket."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.guarded_tokenizer import UntokenizableError
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens, Truncate
from nearfield.engine.job import Ticket
from nearfield.errors import InputError
from nearfield.heads import OutputRequest
from nearfield.inference.encode_options import ResolvedOptions
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.inputs import Text, chunk_token_spans, refuse_vectors, split_long_text
from nearfield.inference.preparation.late_interaction import LateInteractionFormatter
from nearfield.inference.preparation.sparse_static import SparseStaticEmbedding

#: First and last token of each chunk of a document; the last one is excluded.
TokenSpans = list[tuple[int, int]]
#: The token ids of a document, and the spans of its chunks.
LateTokens = tuple[list[int], TokenSpans]


@dataclass(frozen=True, slots=True)
class InputCounts:
    """What is counted of an input that is no text: patches in place of tokens."""

    count: int
    dropped: int = 0
    unknown: int = 0


@dataclass(frozen=True)
class PreparedInputs:
    """Inputs of one modality with the ticket that computes them.

    Where inputs were split into pieces, ``owners`` has the input of each piece, and ``sizes`` the tokens of each piece.
    With ``unit_pieces``, each piece has a vector of unit length before they are averaged, and so has the mean.
    """

    items: Sequence[Any]
    tokens: Sequence[Tokens] | Sequence[InputCounts]
    ticket: Ticket
    owners: Array | None = None
    sizes: tuple[int, ...] = ()
    modality: str = "text"
    unit_pieces: bool = False


class InputPreparer:
    """Turns the inputs of an encoder into tickets.

    It holds no model, so that an encoder can be sent to a process that has none; methods take it as an argument.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        formatter: LateInteractionFormatter | None = None,
        query_weights: SparseStaticEmbedding | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._formatter = formatter
        self._query_weights = query_weights

    def prepare(
        self,
        model: ModelInfo,
        items: Sequence[Text],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        tokens: list[Tokens] | None = None,
        first_index: int = 0,
    ) -> PreparedInputs:
        """Tokenise inputs and create their ticket; ``expires_at`` is a time of ``time.monotonic``.

        ``tokens`` are those of ``tokenize``, if the inputs are tokenised already. ``first_index`` is the number of the
        first input in messages.

        Raises:
            InputError: an input is neither a text nor a list of token ids, or is too long where that is an error.
        """
        tokens = self.tokenize(items, options, first_index) if tokens is None else tokens
        if self._query_weights is not None and options.role == "query":
            ticket = Ticket.from_ids(model, [], bulk=bulk, deadline=expires_at)
            ticket.rows = self._query_weights.rows(tokens)
            return PreparedInputs(items, tokens, ticket)
        owners: Array | None = None
        jobs, requests = tokens, output_requests(model, options, len(tokens))
        if options.truncate == "chunk" and any(item.dropped for item in tokens):
            tokens, jobs, owners = self._split(items, tokens, options, first_index)
            requests = output_requests(model, options, len(jobs))
        elif (formatter := self._formatter_for(options)) is not None:
            jobs, formats = formatter.format(tokens, options.role)
            requests = [_output_request(model, options, like=request) for request in formats]
        skip = model.skip(options.prompt)
        if options.max_length is not None:
            # Of a prompt that is cut itself, the last token counts, as in the reference.
            skip = min(skip, options.max_length - 1)
        skips = [skip] * len(jobs) if skip else None
        ids = [job.ids for job in jobs]
        ticket = Ticket.from_ids(model, ids, skips, requests, bulk=bulk, deadline=expires_at, first_index=first_index)
        sizes = () if owners is None else tuple(map(len, ids))
        return PreparedInputs(items, tokens, ticket, owners, sizes)

    def prepare_late(
        self,
        model: ModelInfo,
        documents: Sequence[Sequence[str]],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        tokens: list[LateTokens] | None = None,
    ) -> tuple[Ticket, list[list[Tokens]]]:
        """Create a ticket with one job a document, whose chunks are pooled separately; return it with their tokens.

        Raises:
            InputTooLong: a document has more tokens than the model reads.
            InputError: a chunk contains no token.
        """
        tokens = self.tokenize_late(documents, options) if tokens is None else tokens
        ids, spans = [document for document, _ in tokens], [chunk_spans for _, chunk_spans in tokens]
        requests = [_output_request(model, options, spans=tuple(chunk_spans)) for chunk_spans in spans]
        chunks = [[self._span(document, *span) for span in chunk_spans] for document, chunk_spans in tokens]
        return Ticket.from_ids(model, ids, None, requests, bulk=bulk, deadline=expires_at), chunks

    def _span(self, ids: list[int], start: int, stop: int) -> Tokens:
        part = ids[start:stop]
        return Tokens(part, 0, self._tokenizer.count_unknown(part))

    def tokenize_late(self, documents: Sequence[Sequence[str]], options: ResolvedOptions) -> list[LateTokens]:
        """Return the token ids of documents and the spans of their chunks. Raises as ``prepare_late`` does."""
        tokens = []
        for chunks in documents:
            document, chunk_spans = chunk_token_spans(self._tokenizer, chunks, options.prompt)
            tokens.append((self._tokenizer.from_ids(document, truncate="error").ids, chunk_spans))
        return tokens

    def sizes(self, items: Sequence[Text], options: ResolvedOptions) -> list[int]:
        """Return how much there is to tokenise of each input, prompt included: characters, or token ids."""
        prompt = len(options.prompt)
        return [prompt + (len(item) if isinstance(item, Sized) else 0) for item in items]

    def tokenize(self, items: Sequence[Text], options: ResolvedOptions, first_index: int = 0) -> list[Tokens]:
        """Return the token ids of texts, and those of inputs that are token ids already, in order.

        ``first_index`` is the number of the first input in messages.

        Raises:
            InputError: an input is neither a text nor a list of token ids, or is too long where that is an error.
        """
        policy = cast(Truncate | None, None if options.truncate in ("report", "chunk") else options.truncate)
        formatter = self._formatter_for(options)
        limit = None if formatter is None else formatter.limit(options.role)
        if options.max_length is not None:
            limit = min(options.max_length, limit or self._tokenizer.max_length)
        if all(isinstance(item, str) for item in items):
            texts = cast(Sequence[str], items)
            distinct = list(dict.fromkeys(texts))
            if len(distinct) < len(texts):
                return self._tokenize_distinct(texts, distinct, options, policy, limit, first_index)
            return self._tokenizer.encode(
                texts, prompt=options.prompt, truncate=policy, max_length=limit, first_index=first_index
            )
        numbered = enumerate(items, first_index)
        return [self._tokenize_one(index, item, options, policy, limit) for index, item in numbered]

    def _tokenize_distinct(
        self,
        texts: Sequence[str],
        distinct: Sequence[str],
        options: ResolvedOptions,
        policy: Truncate | None,
        limit: int | None,
        first_index: int,
    ) -> list[Tokens]:
        """Tokenise equal texts once."""
        try:
            tokens = self._tokenizer.encode(distinct, prompt=options.prompt, truncate=policy, max_length=limit)
        except InputError:  # its message has the number of another input
            return self._tokenizer.encode(
                texts, prompt=options.prompt, truncate=policy, max_length=limit, first_index=first_index
            )
        by_text = dict(zip(distinct, tokens, strict=True))
        return [by_text[text].copy() for text in texts]

    def _tokenize_one(
        self, index: int, item: Text, options: ResolvedOptions, policy: Truncate | None, limit: int | None
    ) -> Tokens:
        if isinstance(item, str):
            return self._tokenizer.encode(
                [item], prompt=options.prompt, truncate=policy, max_length=limit, first_index=index
            )[0]
        refuse_vectors(item, f"Input {index}")
        if not isinstance(item, (list, tuple, np.ndarray)):
            raise InputError(f"Input {index} is {type(item).__name__}, not text or a list of token ids.", param="input")
        if options.prompt:
            raise InputError(
                f"Input {index} is a list of token ids, which cannot take the prompt {options.prompt!r}. Send text.",
                param="input",
            )
        try:
            return self._tokenizer.from_ids(item, truncate=policy, max_length=limit)
        except InputError as error:
            raise type(error)(f"Input {index}: {error}", param=error.param) from error

    def _formatter_for(self, options: ResolvedOptions) -> LateInteractionFormatter | None:
        return self._formatter if "multivector" in options.outputs else None

    def _split(
        self, items: Sequence[Text], tokens: Sequence[Tokens], options: ResolvedOptions, first_index: int
    ) -> tuple[list[Tokens], list[Tokens], Array]:
        """Split over-long texts into pieces; return the tokens of each input, those of each piece, and each owner."""
        special = len(self._tokenizer.prefix) + len(self._tokenizer.suffix)
        max_length = min(self._tokenizer.max_length, options.max_length or self._tokenizer.max_length)
        prompt = self._tokenizer.encode([""], prompt=options.prompt)[0]
        prompt_size = len(prompt.ids) - prompt.padding
        size = max_length - max(special, prompt_size) - 1
        if size < 1:
            raise InputError("The prompt is so long that no text fits beside it.", param="prompt")
        whole, jobs, owners = [], [], []
        for index, (item, truncated) in enumerate(zip(items, tokens, strict=True)):
            pieces = [truncated]
            if truncated.dropped and isinstance(item, str):
                try:
                    texts = split_long_text(item, self._tokenizer, size)
                except UntokenizableError as error:
                    raise UntokenizableError(first_index + index, error.reason) from error
                pieces = self._tokenizer.encode(texts, prompt=options.prompt)
            jobs += pieces
            owners += [index] * len(pieces)
            ids = [token for piece in pieces for token in piece.ids]
            dropped, unknown = sum(piece.dropped for piece in pieces), sum(piece.unknown for piece in pieces)
            whole.append(Tokens(ids, dropped, unknown))
        return whole, jobs, np.asarray(owners)


def output_requests(model: ModelInfo, options: ResolvedOptions, count: int) -> list[OutputRequest] | None:
    """Return what each of ``count`` jobs requests, or None where that is the dense vector alone."""
    if options.outputs == ("dense",) and not options.returns_outputs and options.adapter is None:
        return None
    return [_output_request(model, options)] * count


def token_requests(
    model: ModelInfo, options: ResolvedOptions, tokens: Sequence[Array | None]
) -> list[OutputRequest] | None:
    """Return what each job requests, as ``output_requests`` does; of ``tokens`` vectors are given, None: of all."""
    if all(places is None for places in tokens):
        return output_requests(model, options, len(tokens))
    return [_output_request(model, options, like=OutputRequest(kept_tokens=places)) for places in tokens]


def _output_request(
    model: ModelInfo,
    options: ResolvedOptions,
    like: OutputRequest | None = None,
    spans: tuple[tuple[int, int], ...] = (),
) -> OutputRequest:
    formatted = like or OutputRequest()
    adapter = model.adapter(options.adapter)
    return OutputRequest(options.outputs, 0, spans, formatted.kept_tokens, formatted.unattended, adapter)
