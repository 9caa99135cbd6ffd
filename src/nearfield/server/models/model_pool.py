"""The model pool: models by name, loaded at the start or on demand, leased to requests, and evicted when idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from nearfield import catalog
from nearfield.engine.turns import CALLER
from nearfield.errors import (
    Forbidden,
    InputError,
    ModelNotFound,
    ModelUnavailable,
    NearfieldError,
    SettingsError,
    nearest,
)
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.logs import LOG, without_directories
from nearfield.server.models.description import ModelDescription, describe
from nearfield.server.models.lease import ModelLease
from nearfield.server.models.load_threads import LoadThreads, LoadTurn
from nearfield.server.models.memory_budget import MemoryBudget, ModelsInUse, estimated_bytes
from nearfield.server.models.model_entry import ModelEntry
from nearfield.server.models.names import MAX_NAME_LENGTH, full_id, index_names, is_pattern, matches_pattern

#: Seconds before a failed load is tried again: the first time, and the maximum, as it doubles with each failure.
_MIN_RETRY_SECONDS, _MAX_RETRY_SECONDS = 5.0, 300.0
#: Maximum number of names in the pool that a pattern allows and under which nothing was ever loaded.
_MAX_UNUSED_NAMES = 256


class ModelPool:
    """The models that a server has or may load.

    Args:
        loaded: models from the start; they are never evicted.
        aliases: further names, by full id.
        loader: loads the model of a name; blocks.
        on_demand: names of models that may be loaded on demand, or patterns of ids such as ``BAAI/*``. A pattern never
            matches a local folder.
        budget: bytes that all models together may take; None for no limit.
        keep_alive: seconds after which an idle model that was loaded on demand is evicted; None: only when memory is
            short.
        copies: how many times the weights of a model are loaded, by the settings.
    """

    def __init__(
        self,
        loaded: Sequence[LoadedModel] = (),
        aliases: Mapping[str, Sequence[str]] | None = None,
        *,
        loader: Callable[[str], LoadedModel] | None = None,
        on_demand: Sequence[str] = (),
        budget: int | None = None,
        keep_alive: float | None = None,
        copies: int = 1,
    ) -> None:
        self.started = int(time.time())
        self.on_demand = tuple(on_demand)
        self.keep_alive = keep_alive
        #: Called with each model that was loaded.
        self.watchers: list[Callable[[LoadedModel], None]] = []
        self._loader = loader
        self._entries: dict[str, ModelEntry] = {}
        self._by_name: dict[str, ModelEntry] = {}
        self._memory = MemoryBudget(self._entries, budget, copies)
        self._threads = LoadThreads()
        for model in loaded:
            size = model.bytes or estimated_bytes(model.name)
            entry = ModelEntry(model.name, model.name, pinned=True, model=model, bytes=size, reserved=True)
            self._entries[model.name.lower()] = entry
        for name in self.on_demand:
            if not is_pattern(name):
                self._add(name).configured = True
        for name, names in (aliases or {}).items():
            self._set_aliases(name, names)
        self._by_name = index_names(self._entries.values())

    # -- lookup ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        """All models that are known by name, loaded or not."""
        return tuple(self._entries.values())

    @property
    def listed(self) -> tuple[ModelEntry, ...]:
        """The models that clients can list: all but names that only a pattern allows and that were never loaded."""
        return tuple(entry for entry in self._entries.values() if entry.pinned or entry.uses or entry.configured)

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """The loaded models."""
        return tuple(entry.model for entry in self._entries.values() if entry.model is not None)

    @property
    def descriptions(self) -> tuple[ModelDescription, ...]:
        """Descriptions of the loaded models."""
        return tuple(map(describe, self.loaded))

    @property
    def bytes(self) -> int:
        """Memory that models take, or that is reserved for models being loaded."""
        return self._memory.used

    @property
    def budget(self) -> int | None:
        """Bytes that all models together may take; None for no limit."""
        return self._memory.limit

    def names(self) -> list[str]:
        """Return the full ids of the models that clients can list."""
        return [entry.name for entry in self.listed]

    def ids_by_name(self) -> dict[str, str]:
        """Return the full ids of the models that clients can list, by all their names in lower case."""
        listed = set(self.names())
        return {name: entry.name for name, entry in self._by_name.items() if entry.name in listed}

    def entry(self, name: str) -> ModelEntry:
        """Return the entry of a model by any of its names, in any case, with or without ``:latest`` at the end.

        Raises:
            ModelNotFound: it is not served, and may not be loaded.
        """
        if len(name) > MAX_NAME_LENGTH:
            raise ModelNotFound(f"No model here has a name of {len(name)} characters. {nearest('', self.names())}")
        plain = name[: len(name.lower().removesuffix(":latest"))]
        for key in (name.lower(), plain.lower()):
            if key in self._by_name:
                return self._by_name[key]
        if matches_pattern(plain, self.on_demand):
            self._drop_unused_names()
            entry = self._add(plain)
            self._by_name = index_names(self._entries.values())
            return entry
        raise ModelNotFound(f"The model {name!r} is not served here. {nearest(name, self.names())}", name=name)

    def known_entry(self, name: str, allowed: Callable[[str], bool]) -> ModelEntry:
        """Return the entry of a model that is listed, or that the catalogue knows.

        Raises:
            ModelNotFound: it is not served; or only a pattern allows it, so that it may not exist.
            Forbidden: the client may not use it.
        """
        entry = self.entry(name)
        _check_allowed(entry, allowed)
        if entry.name not in self.names() and catalog.find_by_id(entry.name) is None:
            raise ModelNotFound(f"The model {entry.name!r} was never loaded; a request for its vectors tries to.")
        return entry

    def describe(self, name: str, allowed: Callable[[str], bool]) -> ModelDescription:
        """Return the description of a loaded model.

        Raises:
            ModelNotFound: it is not served, or not loaded now.
            Forbidden: the client may not use it.
        """
        entry = self.entry(name)
        _check_allowed(entry, allowed)
        if entry.model is None:
            raise ModelNotFound(f"The model {entry.name!r} is not loaded now; a request for its vectors loads it.")
        return describe(entry.model)

    def first(self, fits: Callable[[ModelDescription], bool]) -> ModelDescription:
        """Return the description of the first loaded model that fits.

        Raises:
            ModelNotFound: none does.
        """
        description = next(filter(fits, self.descriptions), None)
        if description is None:
            raise ModelNotFound(f"No model for this is served here. Served are: {', '.join(self.names())}.")
        return description

    # -- leases ------------------------------------------------------------------------------------------------

    def lease(
        self,
        name: str | None,
        fits: Callable[[ModelDescription], bool],
        keep_alive: float | None = None,
        allowed: Callable[[str], bool] = lambda _: True,
        misfit: str | None = None,
    ) -> ModelLease:
        """Return a lease on the model of a name, or on the first loaded model that fits; use it with ``async with``.

        A model that is not loaded is loaded once for all who wait for it. A leased model is not evicted.

        Args:
            name: any name of the model; None for the first that fits.
            fits: whether a model can be used.
            keep_alive: see ``ModelLease``.
            allowed: whether the client may use the model with a full id.
            misfit: what a model lacks that does not fit. None: the lease of a named model does not check it.

        Raises:
            ModelNotFound: the model is not served, or none fits.
            ModelUnavailable: it failed to load a moment ago, or there is no memory for it.
            Forbidden: the client may not use it.
        """
        if name is not None:
            entry = self.entry(name)
        else:
            entry = self._by_name[self.first(lambda model: allowed(model.name) and fits(model)).name.lower()]
        _check_allowed(entry, allowed)
        if misfit is None:
            return ModelLease(self, entry, keep_alive)
        return ModelLease(self, entry, keep_alive, fits, misfit)

    def return_lease(self, entry: ModelEntry, keep_alive: float | None) -> None:
        """Record that a request no longer uses a model."""
        entry.users -= 1
        entry.last_used = time.monotonic()
        if keep_alive is not None and not entry.pinned:
            entry.keep_alive = None if keep_alive < 0 else keep_alive
        if not entry.users:
            self._on_idle(entry)

    def _on_idle(self, entry: ModelEntry) -> None:
        """Notify those who wait for memory, and schedule the eviction."""
        self._memory.wake()
        if entry.keep_alive is not None and entry.model is not None:
            asyncio.get_running_loop().call_later(entry.keep_alive, self._expire, entry, entry.last_used)

    def _expire(self, entry: ModelEntry, last_used: float) -> None:
        if not entry.users and entry.last_used == last_used:
            self._memory.evict(entry)

    # -- load and unload ---------------------------------------------------------------------------------------

    async def load(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> ModelEntry:
        """Load a model if it is not loaded, and return its entry. Raises as ``lease`` does."""
        entry = self.entry(name)
        async with self.lease(name, lambda _: True, allowed=allowed):
            return entry

    async def unload(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> ModelEntry:
        """Unload a model once no request uses it. It stays known; the next request loads it again.

        Raises:
            ModelNotFound: it is not served.
            ModelUnavailable: it stays in use for long.
            Forbidden: the client may not use it.
        """
        entry = self.entry(name)
        _check_allowed(entry, allowed)
        await self._memory.evict_once_unused(entry)
        return entry

    async def remove(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> None:
        """Unload a model, and remove its entry unless the settings name it. Raises as ``unload`` does.

        Raises:
            InputError: it was loaded at the start of the server, and cannot be removed.
        """
        pinned = self.entry(name)
        if pinned.pinned:
            raise InputError(f"{pinned.name} was loaded at the start of the server, and stays.", param="model")
        entry = await self.unload(name, allowed)
        if not entry.configured and not entry.users:
            self._entries.pop(entry.name.lower(), None)
            self._by_name = index_names(self._entries.values())

    async def load_entry(self, entry: ModelEntry) -> LoadedModel:
        """Load a model, or wait for the load in progress; a client that disconnects does not cancel it for others.

        Raises:
            ModelUnavailable: it fails, or failed a moment ago, or there is no memory.
            ModelNotFound: nothing can be loaded here.
            Overloaded: it was never loaded, and too many such names of this owner are being looked for.
        """
        if self._loader is None:
            raise ModelNotFound(f"The model {entry.name!r} is not loaded, and nothing can be loaded here.")
        owner = CALLER.get().owner
        if entry.loading is None:
            wait = entry.retry_at - time.monotonic()
            if entry.error and wait > 0:
                raise ModelUnavailable(
                    f"{entry.name} could not be loaded: {entry.error} It is tried again in {wait:.0f} s at the "
                    "earliest.",
                    retry_after=wait,
                )
            if unknown := not (entry.configured or entry.uses):
                self._threads.enter_unknown(owner)
            entry.load_turn = LoadTurn()
            entry.loading = asyncio.get_running_loop().create_task(self._load(entry, entry.load_turn, self._loader))
            # All clients may have disconnected; asyncio would then complain that the error was never read.
            entry.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
            if unknown:
                entry.loading.add_done_callback(lambda _: self._threads.leave_unknown(owner))
        if entry.load_turn is not None:
            self._threads.join(entry.load_turn, owner)
        return await asyncio.shield(entry.loading)

    async def _load(self, entry: ModelEntry, turn: LoadTurn, loader: Callable[[str], LoadedModel]) -> LoadedModel:
        try:
            await turn.granted
            await self._memory.reserve(entry)
            alone = self._memory.loads_alone(entry)
            model = await self._threads.run(loader, entry.loader_name)
        except ModelsInUse:
            entry.reserved = False
            raise  # the next request may be luckier
        except Exception as error:
            entry.reserved = False
            self._record_failure(entry, error)
            if isinstance(error, ModelUnavailable):
                raise
            raise ModelUnavailable(
                f"{entry.name} could not be loaded: {entry.error}", retry_after=entry.retry_at - time.monotonic()
            ) from error
        finally:
            entry.loading = entry.load_turn = None
            self._threads.end(turn)
        self._memory.record_size(entry, model, alone)
        entry.model, entry.name, entry.loaded_at = model, model.name, time.monotonic()
        entry.error, entry.failures, entry.retry_at = "", 0, 0.0
        self._by_name = index_names(self._entries.values())
        for watcher in self.watchers:
            watcher(model)
        LOG.info("loaded %s", entry.name, extra={"seconds": round(model.load_seconds, 2), "bytes": entry.bytes})
        self._memory.trim()
        self._memory.wake()
        if not entry.users:
            self._on_idle(entry)
        return model

    def _record_failure(self, entry: ModelEntry, error: Exception) -> None:
        entry.failures += 1
        reason = str(error) if isinstance(error, NearfieldError) else f"{type(error).__name__}."
        entry.error = without_directories(reason)
        delay = min(_MAX_RETRY_SECONDS, _MIN_RETRY_SECONDS * 2 ** (entry.failures - 1))
        entry.retry_at = time.monotonic() + delay
        LOG.warning("could not load %s: %s", entry.name, reason, extra={"failures": entry.failures})

    # -- entries -----------------------------------------------------------------------------------------------

    def _add(self, name: str) -> ModelEntry:
        """Return the entry of a name, a new one if there is none."""
        known = full_id(name)
        return self._entries.setdefault(known.lower(), ModelEntry(name, known, keep_alive=self.keep_alive))

    def _set_aliases(self, name: str, aliases: Sequence[str]) -> None:
        """Set the further names of the model with a full id.

        Raises:
            SettingsError: it is not served, and may not be loaded.
        """
        if name.lower() not in self._entries:
            if not matches_pattern(name, self.on_demand):
                known = nearest(name, self.names())
                raise SettingsError(f"The alias {', '.join(aliases)} means {name!r}, which is not served. {known}")
            self._add(name).configured = True
        self._entries[name.lower()].aliases = tuple(aliases)

    def _drop_unused_names(self) -> None:
        """Limit the number of names that only a pattern allows and under which nothing was ever loaded."""
        listed = {entry.name for entry in self.listed}
        unused = [
            key
            for key, entry in self._entries.items()
            if entry.name not in listed and not (entry.users or entry.model or entry.loading)
        ]
        if len(unused) >= _MAX_UNUSED_NAMES:
            for key in unused[: _MAX_UNUSED_NAMES // 2]:
                del self._entries[key]


def _check_allowed(entry: ModelEntry, allowed: Callable[[str], bool]) -> None:
    if not allowed(entry.name):
        raise Forbidden(f"This key may not use {entry.name}.")
