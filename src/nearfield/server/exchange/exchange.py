"""`Exchange`: a request that no longer depends on an API, with the model that performs it and the result."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nearfield.errors import InputError, TooLarge, WrongModel
from nearfield.inference.calls.limits import CallLimits, TokenAccount
from nearfield.inference.loaded_model import LoadedModel
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.exchange.picture_fetcher import PictureFetcher, addresses_of
from nearfield.server.http.limits import Pace, RequestLimits
from nearfield.server.models.description import ModelDescription, describe
from nearfield.server.models.model_pool import ModelPool

#: Seconds from which on the wait for a model is recorded as a stage.
_MIN_LOAD_SECONDS = 0.001


@dataclass(frozen=True)
class Bounds:
    """What one request may cost."""

    limits: RequestLimits
    #: Seconds until its deadline.
    seconds: float
    pace: Pace
    #: Whether the client may use the model with a full id.
    allowed: Callable[[str], bool] = lambda _: True
    #: Whether it runs in the bulk class however small it is.
    bulk: bool = False
    #: Counts the tokens of the request against its key's rate limit.
    account: TokenAccount | None = None
    #: Fetches pictures at addresses.
    fetcher: PictureFetcher | None = None
    #: Counts the bytes of fetched pictures as those of the request's body.
    reserve: Callable[[int], None] = lambda _: None

    def max_tokens(self, model: LoadedModel) -> tuple[int, bool]:
        """Return the maximum number of tokens, and whether time limits them rather than ``max_request_tokens``."""
        possible = self.pace.max_tokens(model.engine, self.seconds)
        if possible is not None and possible < self.limits.tokens:
            return possible, True
        return self.limits.tokens, False

    def call_limits(self, model: LoadedModel, size: int) -> CallLimits:
        """Return the limits of a call with ``size`` inputs."""
        max_tokens, _ = self.max_tokens(model)
        bulk = self.bulk or size >= self.limits.bulk_items
        return CallLimits(bulk, self.seconds, max_tokens, self.account, self.limits.media)


@dataclass(kw_only=True)
class Exchange(ABC):
    """One unit of model work: what an API requests in neutral form, and the result.

    A dialect creates it from a request. ``perform`` runs the model and stores the result. The dialect then writes the
    response from it.
    """

    #: Name of the model; None for the first loaded one that fits.
    model: str | None = None
    #: Options of the response for the dialect's ``write``, such as encoding and media type.
    reply_options: Mapping[str, Any] = field(default_factory=dict)
    #: Names of fields of the request that had no effect.
    ignored: tuple[str, ...] = ()
    #: Number of lone surrogates in the request, for which U+FFFD was read.
    replaced: int = 0
    #: Seconds for which a model loaded on demand stays when idle; negative: until memory is short; None: as before.
    keep_alive: float | None = None
    #: The model that performs it, set before ``check`` and ``run`` are called.
    description: ModelDescription | None = None
    #: When it was created (``time.perf_counter``), and the seconds of its stages: load, tokenise, queue, run, reply.
    started: float = field(default_factory=time.perf_counter)
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of inputs."""

    @property
    def tokens(self) -> int:
        """Number of tokens that the model read."""
        return 0

    @property
    def dropped(self) -> int:
        """Number of tokens that were truncated."""
        return 0

    @property
    def unknown(self) -> int:
        """Number of tokens of the inputs that the model does not know."""
        return 0

    @property
    def number_count(self) -> int:
        """Count of numbers in the response; large responses are encoded in a thread."""
        return 0

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the result's vector space."""
        return None

    @abstractmethod
    def fits(self, model: ModelDescription) -> bool:
        """Return whether a model can perform it."""

    def misfit(self, model: ModelDescription) -> InputError:
        """Return the error for a model that cannot perform it."""
        return InputError(f"{model.name} cannot do this: its outputs are {', '.join(model.outputs)}.", param="model")

    @abstractmethod
    def check(self, limits: RequestLimits) -> None:
        """Check the inputs before the model is run.

        Raises:
            InputError, TooLarge: no model could process them.
        """

    @abstractmethod
    async def run(self, model: Any, bounds: Bounds) -> None:
        """Run the model, and store the result."""

    async def perform(self, models: ModelPool, bounds: Bounds) -> None:
        """Lease the model, check the request, and run it within the bounds.

        Raises:
            TooLarge: it has more tokens than allowed, or than this machine could process in time.
            WrongModel: the model cannot perform it.
            NearfieldError: any other error; dialects turn it into a response.
        """
        requested = time.perf_counter()
        async with models.lease(self.model, self.fits, self.keep_alive, bounds.allowed) as model:
            self.description = description = describe(model)
            if (waited := time.perf_counter() - requested) > _MIN_LOAD_SECONDS:
                self.stage_seconds["load"] = waited
            if not self.fits(description):
                misfit = self.misfit(description)
                raise WrongModel(str(misfit), param=misfit.param)
            self.check(bounds.limits)
            try:
                await self.run(model, bounds)
            except TooLarge as error:
                _, limited_by_time = bounds.max_tokens(model)
                if not limited_by_time:
                    raise
                raise TooLarge(
                    f"{error} More could not be processed within {bounds.limits.seconds:g} s (request_timeout) on this "
                    "machine, even without other requests.",
                    param=error.param,
                ) from error


def check_size(size: int, limits: RequestLimits, field_name: str | None = None) -> None:
    """Raise TooLarge if a request has more inputs than allowed."""
    if size > limits.items:
        raise TooLarge(
            f"{size} inputs, and the limit for one request is {limits.items}. Send them in parts.", param=field_name
        )


def check_inputs(inputs: Sequence[Any], limits: RequestLimits, field_name: str = "input") -> None:
    """Check that there are inputs, not too many, and no empty lists of token ids.

    Raises:
        InputError, TooLarge: ``field_name`` is the name of the field in the API.
    """
    if not inputs:
        raise InputError(f"{field_name} is empty: give at least one text or list of token ids.", param=field_name)
    check_size(len(inputs), limits, field_name)
    media = sum(len(item.media) for item in inputs if isinstance(item, MixedContent))
    if media > limits.items:
        raise TooLarge(
            f"{media} pictures, sounds and videos in inputs of several parts, and the limit for one request is "
            f"{limits.items}. Send them in parts.",
            param=field_name,
        )
    for index, item in enumerate(inputs):
        if not isinstance(item, (str, Image, Audio, Video, MixedContent)) and not item:
            raise InputError(f"Input {index} is an empty list of token ids.", param=field_name)


def check_addresses(inputs: Iterable[object], limits: RequestLimits) -> None:
    """Raise InputError if a picture or video is at an address, and none are fetched."""
    address = next(iter(addresses_of(inputs)), None)
    if address is not None and not limits.media_urls.enabled:
        raise InputError(f"{address.label} is an address, and fetching is off. {address.advice}", param=address.field)


async def fetch_pictures(
    inputs: Sequence[Any], bounds: Bounds, stage_seconds: dict[str, float]
) -> tuple[Sequence[Any], Bounds]:
    """Return inputs with pictures and videos in place of their addresses, and bounds with the seconds that are left."""
    if bounds.fetcher is None or not addresses_of(inputs):
        return inputs, bounds
    started = time.perf_counter()
    fetched = await bounds.fetcher.fetch(inputs, bounds.limits.media_urls, bounds.seconds, bounds.reserve)
    stage_seconds["fetch"] = seconds = time.perf_counter() - started
    return fetched, replace(bounds, seconds=max(0.0, bounds.seconds - seconds))


def check_texts(texts: Sequence[Any], field_name: str) -> None:
    """Raise InputError if an item is neither a string nor has pictures."""
    for index, text in enumerate(texts):
        if not isinstance(text, (str, Image, MixedContent)):
            raise InputError(f"{field_name} {index} is {type(text).__name__}, not text.", param=field_name)
