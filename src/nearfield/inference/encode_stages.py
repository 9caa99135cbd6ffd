"""`EncodeStages`: how a call of an encoder runs: options resolved, inputs prepared, queued, and results finished."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from nearfield.checkpoint.tokenizer.tokenizer import Tokens
from nearfield.errors import InputError
from nearfield.inference import encode_options, postprocess
from nearfield.inference.base_encoder import BaseEncoder
from nearfield.inference.calls.limits import CallLimits
from nearfield.inference.encode_options import EncodeOptions, ResolvedOptions
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.postprocess import Result, TicketRows
from nearfield.inference.preparation import inputs
from nearfield.inference.preparation.fused_preparer import FusedPreparer
from nearfield.inference.preparation.input_preparer import InputPreparer, PreparedInputs
from nearfield.inference.preparation.inputs import FIRST_WINDOW, LARGEST_WINDOW, Input, Text
from nearfield.inference.preparation.media_inputs import MIXED, listed, runs, tower_modality
from nearfield.inference.preparation.media_preparer import MediaPreparer
from nearfield.inference.preparation.refused_inputs import OnRefused
from nearfield.inference.preparation.tokenizer_threads import run_in_thread, runs_inline, tokenize_in_parts
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.inference.preparation.worker_threads import in_order

if TYPE_CHECKING:
    from nearfield.inference.result_cache import ResultCache


class EncodeStages(BaseEncoder):
    """The stages of a call. Inputs go to the tower that reads them, in runs of consecutive inputs of one modality."""

    _preparer: InputPreparer | MediaPreparer
    #: What prepares inputs with media, of a model that reads them with texts.
    _fused_preparer: FusedPreparer | None
    cache: ResultCache | None
    observers: list[Callable[[str, float], None]]

    def _observe(self, stage: str, started: float) -> None:
        seconds = time.monotonic() - started
        for observer in self.observers:
            observer(stage, seconds)

    def _resolve(self, options: EncodeOptions) -> ResolvedOptions:
        return encode_options.resolve(options, self._model, self._defaults)

    def _resolve_late(self, options: EncodeOptions) -> ResolvedOptions:
        resolved = self._resolve(replace(options, outputs=None))
        if resolved.outputs != ("dense",):
            raise InputError(f"{self.name} gives no dense vectors, and late chunking pools these.", param="outputs")
        return resolved

    # -- preparation -------------------------------------------------------------------------------------------------

    def _reader(self, modality: str) -> tuple[ModelInfo, InputPreparer | MediaPreparer | FusedPreparer]:
        """Return the tower that reads a modality, and what prepares its inputs.

        Raises:
            InputError: the model does not read it.
        """
        modality = tower_modality(modality)
        if modality == self.recipe.modality:
            return self._model, self._preparer
        if modality == MIXED and self._fused_preparer is not None:
            return self._model, self._fused_preparer
        tower = self._towers.get(modality)
        return tower.model, tower.preparer

    @property
    def _texts(self) -> InputPreparer:
        """What prepares texts.

        Raises:
            InputError: the model reads no texts.
        """
        if not isinstance(self._preparer, InputPreparer):
            raise InputError(f"{self.name} reads {listed(self.modalities)}, not texts.", param="input")
        return self._preparer

    def _prepare(
        self,
        modality: str,
        items: Sequence[Any],
        options: ResolvedOptions,
        *,
        bulk: bool,
        expires_at: float | None = None,
        first_index: int = 0,
        on_refused: OnRefused | None = None,
    ) -> PreparedInputs:
        """Prepare inputs of one modality, in this thread or with its help; of media, ``on_refused`` may get some."""
        model, preparer = self._reader(modality)
        options = _options_for(model, modality, options)
        if on_refused is not None and not isinstance(preparer, InputPreparer):
            return preparer.prepare(
                model, items, options, bulk=bulk, expires_at=expires_at, first_index=first_index, on_refused=on_refused
            )
        return preparer.prepare(model, items, options, bulk=bulk, expires_at=expires_at, first_index=first_index)

    async def _prepare_all(
        self, items: Sequence[Input], options: ResolvedOptions, limits: CallLimits, expires_at: float | None
    ) -> list[PreparedInputs]:
        """Prepare the inputs of a call beside the event loop, or on it where that takes no time."""
        prepared, number = [], 0
        for modality, run in runs(items):
            part = list(run)
            if modality == "text":
                prepared.append(await self._prepare_texts(part, options, limits, expires_at, number))
            else:
                prepared.append(await self._prepare_media(modality, part, options, limits, expires_at, number))
            number += len(part)
        return prepared or [self._prepare(self.recipe.modality, [], options, bulk=limits.bulk)]

    async def _prepare_media(
        self,
        modality: str,
        items: Sequence[Any],
        options: ResolvedOptions,
        limits: CallLimits,
        expires_at: float | None,
        number: int,
    ) -> PreparedInputs:
        self.engine.check_room()
        if modality != MIXED and self._towers.is_missing(tower_modality(modality), self.recipe):
            await asyncio.to_thread(self._reader, modality)
        model, preparer = self._reader(modality)
        prepare = cast("MediaPreparer | FusedPreparer", preparer).prepare_in_threads
        options = _options_for(model, modality, options)
        return await prepare(
            model,
            items,
            options,
            bulk=limits.bulk,
            expires_at=expires_at,
            first_index=number,
            limits=limits.media,
        )

    async def _prepare_texts(
        self,
        items: Sequence[Text],
        options: ResolvedOptions,
        limits: CallLimits,
        expires_at: float | None,
        number: int,
    ) -> PreparedInputs:
        preparer = self._texts
        sizes = preparer.sizes(items, options)
        prepare = partial(
            preparer.prepare,
            self._model,
            items,
            options,
            bulk=limits.bulk,
            expires_at=expires_at,
            first_index=number,
        )
        if runs_inline(self.tokenizer, sizes):
            return prepare()
        self.engine.check_room()
        # Of a text that is split into chunks, what was dropped is read too.
        chunked = options.truncate == "chunk"
        tokens = await tokenize_in_parts(
            lambda part: preparer.tokenize(items[part], options, number + part.start),
            self.tokenizer,
            sizes,
            limits,
            expires_at,
            lambda item: len(item.ids) + (item.dropped if chunked else 0),
        )
        if chunked:
            limits.check_count(sum(len(item.ids) + item.dropped for item in tokens))
        return await run_in_thread(partial(prepare, tokens=tokens), self.tokenizer, expires_at)

    # -- running -----------------------------------------------------------------------------------------------------

    async def _run(self, prepared: PreparedInputs, options: ResolvedOptions) -> TicketRows:
        """Return the rows of prepared inputs, from the cache or from the engine."""
        if self.cache is None:
            return cast(TicketRows, await self.engine.run(prepared.ticket))
        # Results that were computed beside others are no results of a reproducible model.
        computed = f"{self.precision} alone" if self._model.reproducible else self.precision
        space = f"{options.space} {computed}{_cache_part(prepared.modality)}"
        return cast(TicketRows, await self.cache.run(self.engine, prepared.ticket, space))

    async def _run_all(self, prepared: Sequence[PreparedInputs], options: ResolvedOptions) -> list[TicketRows]:
        if len(prepared) == 1:
            return [await self._run(prepared[0], options)]
        return await in_order([self._run(part, options) for part in prepared])

    def _windows(
        self,
        items: Iterable[Input],
        options: ResolvedOptions,
        unread: UnreadInputs,
        *,
        max_size: int = LARGEST_WINDOW,
        steady: bool = False,
        ends_after_error: bool = False,
        on_refused: OnRefused | None = None,
    ) -> Iterator[Result]:
        """Yield results in order, with at most two windows prepared ahead of the lanes, or several short ones.

        With ``ends_after_error``, a bad input is reported only after the results of the windows before it. Media that
        cannot be read are left out if there is an ``on_refused``, to which they are reported.
        """
        pending, number, error = deque[PreparedInputs](), 0, None
        try:
            try:
                for modality, window in inputs.windows(items, max_size):
                    prepared = self._prepare(
                        modality, window, options, bulk=True, first_index=number, on_refused=on_refused
                    )
                    number += len(window)
                    if steady and pending:
                        pending[-1].ticket.result()
                    self.engine.submit(prepared.ticket, wait=True)
                    pending.append(prepared)
                    while _is_full(pending, steady):
                        yield self._finish_oldest(pending, options, unread)
            except InputError as bad:
                if not ends_after_error:
                    raise
                error = bad
            while pending:
                yield self._finish_oldest(pending, options, unread)
            if error is not None:
                raise error
        finally:
            for prepared in pending:
                self.engine.cancel(prepared.ticket)

    def _finish_oldest(self, pending: deque[PreparedInputs], options: ResolvedOptions, unread: UnreadInputs) -> Result:
        prepared = pending.popleft()
        self._count_unread(prepared, options, unread)
        return postprocess.finish(self.recipe, options, prepared.ticket.result(), prepared, single=False)

    def _count_unread(self, prepared: PreparedInputs, options: ResolvedOptions, unread: UnreadInputs) -> None:
        if prepared.modality == "text":
            tokens = cast("Sequence[Tokens]", prepared.tokens)
            unread.add(self.tokenizer, options.prompt, prepared.items, tokens)
        else:
            unread.skip(len(prepared.items))

    async def _count_all_unread(
        self, prepared: Sequence[PreparedInputs], options: ResolvedOptions, unread: UnreadInputs
    ) -> None:
        """Count unread inputs, beside the event loop where the prompt, which is tokenised, may be long."""
        for part in prepared:
            count = partial(self._count_unread, part, options, unread)
            if part.modality != "text" or runs_inline(self.tokenizer, self._texts.sizes(part.items, options)):
                count()
            else:
                await run_in_thread(count, self.tokenizer, None)

    def _empty_result(self, options: ResolvedOptions) -> Result:
        """Return a result without vectors, of the right shape, dtype and space."""
        return postprocess.build_result(self.recipe, options, [], [], single=False)


def _options_for(model: ModelInfo, modality: str, options: ResolvedOptions) -> ResolvedOptions:
    """Return the options of a call for a tower: prompts, lengths and adapters are those of texts."""
    if modality in ("text", MIXED):
        return options
    return replace(options, prompt="", max_length=None, truncate="report", subtract_mean=model.recipe.centre)


def _is_full(pending: Sequence[PreparedInputs], steady: bool) -> bool:
    """Return whether enough is pending: short windows come from inputs of several modalities in turn."""
    if steady:
        return len(pending) > 1
    return len(pending) > 2 and sum(len(part.items) for part in list(pending)[1:]) >= FIRST_WINDOW


def _cache_part(modality: str) -> str:
    """Return what distinguishes the results of a modality in the cache: nothing for texts, whose keys are on disks."""
    return "" if modality == "text" else f" {modality}"
