"""An exchange of several others that came in one request, each with its own model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.exchange.exchange import Bounds, Exchange, check_size
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.description import ModelDescription
from nearfield.server.models.model_pool import ModelPool


@dataclass(kw_only=True)
class CompositeExchange(Exchange):
    """Several exchanges: all are performed, or the first error ends the request."""

    parts: Sequence[Exchange]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)

    @property
    def dropped(self) -> int:
        return sum(part.dropped for part in self.parts)

    @property
    def unknown(self) -> int:
        return sum(part.unknown for part in self.parts)

    @property
    def number_count(self) -> int:
        return sum(part.number_count for part in self.parts)

    def fits(self, model: ModelDescription) -> bool:
        return all(part.fits(model) for part in self.parts)

    def check(self, limits: RequestLimits) -> None:
        for part in self.parts:
            part.check(limits)
        check_size(self.size, limits)

    async def run(self, model: LoadedModel, bounds: Bounds) -> None:
        raise NotImplementedError("each part runs its own model")

    async def perform(self, models: ModelPool, bounds: Bounds) -> None:
        """Perform all parts at the same time. Raises as ``Exchange.perform`` does."""
        self.check(bounds.limits)
        await _gather([part.perform(models, bounds) for part in self.parts])


async def _gather(coroutines: Sequence[Coroutine[None, None, None]]) -> None:
    """Await all; the first error cancels the others, so that no work is done for a request that has failed."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
