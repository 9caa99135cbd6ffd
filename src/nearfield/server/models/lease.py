"""Leases on models: a leased model is in use, and is not evicted. Leases on a model that is drained wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from nearfield.errors import ModelNotFound
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.models.description import ModelDescription, describe
from nearfield.server.models.model_entry import ModelEntry


class LeaseOwner(Protocol):
    """What lends models: the model pool."""

    async def load_entry(self, entry: ModelEntry) -> LoadedModel:
        """Load a model, or wait for the load in progress."""
        ...

    def return_lease(self, entry: ModelEntry, keep_alive: float | None) -> None:
        """Record that a request no longer uses a model."""


class ModelLease:
    """Async context manager that loads a model if needed, and keeps it loaded.

    It is a class because a generator's context manager would cost each request more.

    Args:
        owner: the model pool.
        entry: the model.
        keep_alive: seconds for which the model then stays loaded when idle; negative: until memory is short; None: as
            before.
        fits: whether the model can be used; ``ModelNotFound`` with ``misfit`` is raised if not.
        misfit: what the model lacks, such as ``encodes no texts``.
    """

    __slots__ = ("_entry", "_fits", "_keep_alive", "_misfit", "_owner")

    def __init__(
        self,
        owner: LeaseOwner,
        entry: ModelEntry,
        keep_alive: float | None = None,
        fits: Callable[[ModelDescription], bool] | None = None,
        misfit: str = "",
    ) -> None:
        self._owner, self._entry, self._keep_alive = owner, entry, keep_alive
        self._fits, self._misfit = fits, misfit

    async def __aenter__(self) -> LoadedModel:
        entry = self._entry
        while entry.drained is not None:
            await asyncio.shield(entry.drained)
        entry.users += 1
        try:
            model = entry.model or await self._owner.load_entry(entry)
            if self._fits is not None and not self._fits(describe(model)):
                raise ModelNotFound(f"{model.name} {self._misfit}.", name=model.name)
        except BaseException:
            self._owner.return_lease(entry, self._keep_alive)
            raise
        entry.uses += 1
        return model

    async def __aexit__(self, *_: object) -> None:
        self._owner.return_lease(self._entry, self._keep_alive)
