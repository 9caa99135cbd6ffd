"""Preparation of pictures for the engine: they are decoded and resized in threads, beside the lanes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial

from nearfield.engine.job import Ticket
from nearfield.errors import InputError
from nearfield.features import PatchFeatures
from nearfield.inference.encode_options import ResolvedOptions
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.input_preparer import InputCounts, PreparedInputs, output_requests
from nearfield.inference.preparation.worker_threads import WorkerThreads
from nearfield.inference.processors import PictureProcessor
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, PictureLimits

#: Pillow decodes and resizes without Python's lock, so that each core prepares a picture.
_THREADS = WorkerThreads(max(2, os.cpu_count() or 1), "nearfield-decode")


class PicturePreparer:
    """Turns pictures into tickets, as `InputPreparer` does with texts."""

    def __init__(self, processor: PictureProcessor) -> None:
        self._processor = processor

    def prepare(
        self,
        model: ModelInfo,
        items: Sequence[Image],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        first_index: int = 0,
    ) -> PreparedInputs:
        """Decode and prepare pictures, and create their ticket; arguments are those of ``InputPreparer.prepare``.

        Raises:
            InputError: a picture cannot be decoded, or an option makes no sense for a picture. Its number is named.
        """
        _check(options)
        numbered = list(enumerate(items, first_index))
        features = _THREADS.map(lambda pair: self._read(*pair), numbered)
        return _prepared(model, items, features, options, bulk, expires_at, first_index)

    async def prepare_in_threads(
        self,
        model: ModelInfo,
        items: Sequence[Image],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        first_index: int = 0,
        limits: PictureLimits = DEFAULT_PICTURE_LIMITS,
    ) -> PreparedInputs:
        """Prepare pictures as ``prepare`` does, beside the event loop. The owners of requests take turns by pictures.

        Raises:
            InputError: as for ``prepare``.
            DeadlineExceeded: ``expires_at`` passed first.
        """
        _check(options)
        reads = [partial(self._read, number, item, limits) for number, item in enumerate(items, first_index)]
        tasks = [asyncio.ensure_future(_THREADS.run_until(read, expires_at, "decoded")) for read in reads]
        try:
            features = [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
        return _prepared(model, items, features, options, bulk, expires_at, first_index)

    def _read(self, number: int, item: Image, limits: PictureLimits = DEFAULT_PICTURE_LIMITS) -> PatchFeatures:
        try:
            return self._processor.read(item, limits)
        except InputError as error:
            raise type(error)(f"Input {number}: {error}", param="input") from error


def _prepared(
    model: ModelInfo,
    items: Sequence[Image],
    features: Sequence[PatchFeatures],
    options: ResolvedOptions,
    bulk: bool,
    expires_at: float | None,
    first_index: int,
) -> PreparedInputs:
    requests = output_requests(model, options, len(features))
    ticket = Ticket.create(model, features, None, requests, bulk=bulk, deadline=expires_at, first_index=first_index)
    counts = [InputCounts(one.cost) for one in features]
    return PreparedInputs(items, counts, ticket, modality="image")


def _check(options: ResolvedOptions) -> None:
    """Raise InputError for options of texts: a picture has no prompt, and adapters are those of the text tower."""
    if options.prompt_is_chosen:
        raise InputError("A picture has no prompt: leave out prompt, prompt_name and instruction.", param="prompt")
    if options.adapter is not None:
        raise InputError("An adapter changes the vectors of texts alone; pictures have none.", param="adapter")
