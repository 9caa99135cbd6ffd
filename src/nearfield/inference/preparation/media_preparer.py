"""Preparation of pictures, sounds and videos for the engine: they are decoded in threads, beside the lanes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nearfield.engine.job import Ticket
from nearfield.errors import InputError
from nearfield.features import Features
from nearfield.inference.encode_options import ResolvedOptions
from nearfield.inference.model_info import ModelInfo
from nearfield.inference.preparation.input_preparer import InputCounts, PreparedInputs, output_requests
from nearfield.inference.preparation.media_inputs import modality_of
from nearfield.inference.preparation.refused_inputs import OnRefused, leave_out_refused, read_or_refuse
from nearfield.inference.preparation.worker_threads import MediaThreads
from nearfield.inference.processors import MediaProcessor
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits
from nearfield.media.video.video import Video

#: Decoders and resizers run without Python's lock, so that each core prepares an input.
MEDIA_THREADS = MediaThreads(max(2, os.cpu_count() or 1), "nearfield-decode")


class MediaPreparer:
    """Turns pictures and videos, or sounds, into tickets, as `InputPreparer` does with texts."""

    def __init__(self, processor: MediaProcessor) -> None:
        self._processor = processor

    def prepare(
        self,
        model: ModelInfo,
        items: Sequence[Image | Audio | Video],
        options: ResolvedOptions,
        *,
        bulk: bool = False,
        expires_at: float | None = None,
        first_index: int = 0,
        on_refused: OnRefused | None = None,
    ) -> PreparedInputs:
        """Decode and prepare inputs, and create their ticket; arguments are those of ``InputPreparer.prepare``.

        With ``on_refused``, inputs that cannot be decoded are reported to it and left out.

        Raises:
            InputError: an input cannot be decoded, or an option is for texts alone. The input's number is named.
        """
        _check(options)
        if on_refused is not None:
            read: Callable[[Any], Sequence[Features]] = self._processor.read
            results = MEDIA_THREADS.map(partial(read_or_refuse, read), list(items))
            items, readable = leave_out_refused(items, results, first_index, on_refused)
            return self._prepared(model, items, readable, options, bulk, expires_at, first_index)
        numbered = list(enumerate(items, first_index))
        features = MEDIA_THREADS.map(lambda pair: self._read(*pair), numbered)
        return self._prepared(model, items, features, options, bulk, expires_at, first_index)

    async def prepare_in_threads(
        self,
        model: ModelInfo,
        items: Sequence[Image | Audio | Video],
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
        _check(options)
        reads = [partial(self._read, number, item, limits) for number, item in enumerate(items, first_index)]
        features = await MEDIA_THREADS.map_until(reads, expires_at, "decoded")
        return self._prepared(model, items, features, options, bulk, expires_at, first_index)

    def _read(
        self, number: int, item: Image | Audio | Video, limits: MediaLimits = DEFAULT_MEDIA_LIMITS
    ) -> Sequence[Features]:
        try:
            return self._processor.read(item, limits)  # type: ignore[arg-type]  # runs have one modality
        except InputError as error:
            raise type(error)(f"Input {number}: {error}", param="input") from error

    def _prepared(
        self,
        model: ModelInfo,
        items: Sequence[Image | Audio | Video],
        parts: Sequence[Sequence[Features]],
        options: ResolvedOptions,
        bulk: bool,
        expires_at: float | None,
        first_index: int,
    ) -> PreparedInputs:
        """Return inputs with their ticket; an input that has several parts, windows or frames, gets their mean."""
        features = [part for several in parts for part in several]
        requests = output_requests(model, options, len(features))
        ticket = Ticket.create(model, features, None, requests, bulk=bulk, deadline=expires_at, first_index=first_index)
        counts = [InputCounts(sum(part.cost for part in several)) for several in parts]
        modality = modality_of(items[0]) if items else self._processor.modality
        if len(features) == len(items) and modality != "video":
            return PreparedInputs(items, counts, ticket, modality=modality)
        owners = np.repeat(np.arange(len(items)), [len(several) for several in parts])
        sizes = tuple(part.cost for part in features)
        # Other models give frames vectors of any length, and their mean would be that of the longest.
        return PreparedInputs(items, counts, ticket, owners, sizes, modality, unit_pieces=modality == "video")


def _check(options: ResolvedOptions) -> None:
    """Raise InputError for options of texts: only these have prompts, and adapters are those of the text tower."""
    if options.prompt_is_chosen:
        raise InputError("Only texts have a prompt: leave out prompt, prompt_name and instruction.", param="prompt")
    if options.adapter is not None:
        raise InputError("An adapter changes the vectors of texts alone.", param="adapter")
