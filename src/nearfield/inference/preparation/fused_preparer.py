"""Preparation of inputs of several parts, and of pictures and sounds alone, for models that read them with texts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

from nearfield.checkpoint.tokenizer.tokenizer import Truncate
from nearfield.engine.job import Ticket
from nearfield.errors import InputError
from nearfield.inference.encode_options import ResolvedOptions
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.fused import FusedInput, FusedOptions, FusedProcessor
from nearfield.inference.preparation.input_preparer import InputCounts, PreparedInputs, token_requests
from nearfield.inference.preparation.media_inputs import MIXED
from nearfield.inference.preparation.media_preparer import MEDIA_THREADS
from nearfield.inference.preparation.refused_inputs import OnRefused, leave_out_refused, read_or_refuse
from nearfield.media.content import MixedContent
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits


class FusedPreparer:
    """Turns inputs with media into tickets, as `InputPreparer` does with texts. Prompts are for both.

    Args:
        processor: what makes the sequences.
        max_length: tokens that the model reads.
    """

    def __init__(self, processor: FusedProcessor, max_length: int) -> None:
        self._processor, self._max_length = processor, max_length

    def prepare(
        self,
        model: ModelInfo,
        items: Sequence[MixedContent],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        first_index: int = 0,
        on_refused: OnRefused | None = None,
    ) -> PreparedInputs:
        """Decode and prepare inputs, and create their ticket; arguments are those of ``InputPreparer.prepare``.

        With ``on_refused``, inputs that cannot be decoded or are too long are reported to it and left out.

        Raises:
            InputError: an input cannot be decoded or is too long. The input's number is named.
        """
        model.load_media()
        fused = self._options(options, DEFAULT_MEDIA_LIMITS)
        if on_refused is not None:
            read = partial(read_or_refuse, lambda item: self._processor.read(item, fused))
            items, inputs = leave_out_refused(items, MEDIA_THREADS.map(read, list(items)), first_index, on_refused)
            return self._prepared(model, items, inputs, options, bulk, expires_at, first_index)
        numbered = list(enumerate(items, first_index))
        inputs = MEDIA_THREADS.map(lambda pair: self._read(pair[0], pair[1], fused), numbered)
        return self._prepared(model, items, inputs, options, bulk, expires_at, first_index)

    async def prepare_in_threads(
        self,
        model: ModelInfo,
        items: Sequence[MixedContent],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        first_index: int = 0,
        limits: MediaLimits = DEFAULT_MEDIA_LIMITS,
    ) -> PreparedInputs:
        """Prepare inputs as ``prepare`` does, beside the event loop. The owners of requests take turns by inputs.

        Raises:
            InputError: as for ``prepare``.
            DeadlineExceeded: ``expires_at`` passed first.
        """
        fused = self._options(options, limits)
        if model.media_is_missing:
            await asyncio.to_thread(model.load_media)
        reads = [partial(self._read, number, item, fused) for number, item in enumerate(items, first_index)]
        inputs = await MEDIA_THREADS.map_until(reads, expires_at, "decoded")
        return self._prepared(model, items, inputs, options, bulk, expires_at, first_index)

    def _options(self, options: ResolvedOptions, limits: MediaLimits) -> FusedOptions:
        if options.truncate == "chunk":
            raise InputError(
                "truncate='chunk' splits texts, and an input has other parts: choose another value.", param="truncate"
            )
        length = options.max_length or self._max_length
        if length > self._max_length:
            raise InputError(f"max_length={length}: at most {self._max_length} are read.", param="max_length")
        side = cast("Truncate | None", None if options.truncate == "report" else options.truncate)
        return FusedOptions(options.prompt, options.role, length, side, limits)

    def _read(self, number: int, item: MixedContent, options: FusedOptions) -> FusedInput:
        try:
            return self._processor.read(item, options)
        except InputError as error:
            raise type(error)(f"Input {number}: {error}", param=error.param or "input") from error

    def _prepared(
        self,
        model: ModelInfo,
        items: Sequence[MixedContent],
        inputs: Sequence[FusedInput],
        options: ResolvedOptions,
        bulk: bool,
        expires_at: float | None,
        first_index: int,
    ) -> PreparedInputs:
        skip = model.skip(options.prompt)
        skips = [skip] * len(inputs) if skip else None
        requests = token_requests(model, options, [item.kept_tokens for item in inputs])
        features = [item.features for item in inputs]
        ticket = Ticket.create(
            model, features, skips, requests, bulk=bulk, deadline=expires_at, first_index=first_index
        )
        counts = [InputCounts(item.features.rows, item.dropped, item.unknown) for item in inputs]
        return PreparedInputs(items, counts, ticket, modality=MIXED)
