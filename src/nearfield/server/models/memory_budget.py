"""Memory of models: the budget, eviction of idle models, and the size of a model before and after loading.

A model that is always in use would leave no memory for the others for ever. When another one waits for memory, a model
that has been loaded for some seconds is *drained*: its requests end, new ones wait, it is evicted, and they load it
again in turn.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from nearfield import catalog
from nearfield.devices import count_copies
from nearfield.errors import ModelUnavailable
from nearfield.hardware import memory_limit, return_memory
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.logs import LOG
from nearfield.server.models.model_entry import ModelEntry
from nearfield.units import format_bytes

#: Bytes per parameter before a model was measured: its float32 weights, and copies packed for few and for many rows.
_BYTES_PER_PARAMETER = 12
#: Bytes that stay free for requests if there is no budget.
_REQUEST_BYTES = 256 * 2**20
#: Seconds to wait for a model in use to become idle when memory is short.
_IDLE_WAIT_SECONDS = 30.0
#: Seconds for which a loaded model is not drained: as many times what loading it took, within these limits.
_LOADS_PER_TURN, _MIN_TURN, _MAX_TURN = 5.0, 3.0, 10.0
#: Seconds after which another attempt is allowed if the pinned models leave no memory.
_NO_MEMORY_RETRY_SECONDS = 300.0
#: Seconds for which a lane or a finished request may still reference a closed model.
_RELEASE_SECONDS = 2.0
#: The thread that closes models: it may wait, and requests need asyncio's own threads.
_POOL = ThreadPoolExecutor(1, thread_name_prefix="nearfield-unload")


class ModelsInUse(ModelUnavailable):
    """There is no memory for a model because requests use the others. Nothing is wrong with it."""


class MemoryBudget:
    """Evicts idle models until the others fit into a number of bytes.

    Args:
        entries: the models of the pool.
        limit: bytes that all models together may take; None for no limit.
        copies: how many times the weights of a model are loaded, by the settings.
    """

    def __init__(self, entries: Mapping[str, ModelEntry], limit: int | None, copies: int = 1) -> None:
        self.limit = limit
        self._entries = entries
        self._copies = copies
        self._changed = asyncio.Event()
        #: Evictions whose memory is not free yet.
        self.evictions: set[asyncio.Future[None]] = set()

    @property
    def used(self) -> int:
        """Bytes that models take, or that are reserved for models being loaded."""
        return sum(entry.bytes for entry in self._entries.values() if entry.reserved)

    async def reserve(self, entry: ModelEntry) -> None:
        """Reserve memory for a model; evict idle models, those of the lowest cost first, until it fits.

        Raises:
            ModelUnavailable: it can never fit, or the models in use stay in use.
        """
        entry.bytes = entry.bytes or self.expected_bytes(entry)
        if self.limit is not None:
            await self._make_room(entry, self.limit)
        else:
            self._evict_for(entry)
        entry.reserved = True
        if self.evictions:
            await asyncio.wait(self.evictions)  # their memory is needed, and would be measured as this model's

    def expected_bytes(self, entry: ModelEntry) -> int:
        """Return the bytes that a model is expected to take; 0 if the catalogue does not know it."""
        return estimated_bytes(entry.name) * self._copies

    def _evict_for(self, entry: ModelEntry) -> None:
        """Without a budget: evict idle models if the process may not take enough memory for one more."""
        limit = memory_limit()
        missing = 0 if limit is None else entry.bytes + _REQUEST_BYTES - limit.available
        while missing > 0 and (victim := self._cheapest()) is not None:
            missing -= victim.bytes
            self.evict(victim)

    async def _make_room(self, entry: ModelEntry, limit: int) -> None:
        pinned = sum(other.bytes for other in self._entries.values() if other.pinned)
        if pinned + entry.bytes > limit:
            size, budget, taken = (format_bytes(amount, limit) for amount in (entry.bytes, limit, pinned))
            raise ModelUnavailable(
                f"{entry.name} takes about {size}, and of the {budget} for models (memory_budget) the models that are "
                f"never evicted take {taken}.",
                retry_after=_NO_MEMORY_RETRY_SECONDS,
            )
        until = time.monotonic() + _IDLE_WAIT_SECONDS
        with ExitStack() as drains:
            while self.used + entry.bytes > limit:
                victim = self._cheapest()
                if victim is not None:
                    self.evict(victim)
                    continue
                busy = self._first_loaded()
                turn_end = until if busy is None else busy.loaded_at + _turn_seconds(busy)
                if busy is not None and turn_end <= time.monotonic():
                    drains.enter_context(self.drain(busy))
                    turn_end = until
                message = f"There is no memory for {entry.name}: all other models are in use."
                await self._wait_for_change(min(turn_end, until), until, message)

    def _first_loaded(self) -> ModelEntry | None:
        """Return the model that was loaded first, of those that can be drained."""
        busy = [
            entry
            for entry in self._entries.values()
            if entry.model is not None and not entry.pinned and entry.drained is None
        ]
        return min(busy, key=lambda entry: entry.loaded_at, default=None)

    @contextmanager
    def drain(self, entry: ModelEntry) -> Iterator[None]:
        """Let requests that are about to use a model wait until the block is left."""
        if entry.drained is not None:
            yield
            return
        entry.drained = drained = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            entry.drained = None
            drained.set_result(None)

    def trim(self) -> None:
        """Evict idle models after a load that took more memory than estimated."""
        while self.limit is not None and self.used > self.limit and (victim := self._cheapest()) is not None:
            self.evict(victim)

    def _cheapest(self) -> ModelEntry | None:
        now = time.monotonic()
        idle = [
            entry
            for entry in self._entries.values()
            if entry.model is not None and not entry.users and not entry.pinned
        ]
        return min(idle, key=lambda entry: entry.eviction_cost(now), default=None)

    def evict(self, entry: ModelEntry) -> None:
        """Unload a model that no request uses; the next request for it loads it again."""
        model, entry.model, entry.reserved = entry.model, None, False
        if model is not None:
            eviction = asyncio.get_running_loop().run_in_executor(_POOL, _close, [model])
            self.evictions.add(eviction)
            eviction.add_done_callback(self.evictions.discard)
            LOG.info("unloaded %s", entry.name, extra={"bytes": entry.bytes})
            self.wake()

    def wake(self) -> None:
        """Let those who wait for memory look again: a model is idle, was evicted, or was loaded."""
        self._changed.set()

    async def _wait_for_change(self, soon: float, until: float, message: str) -> None:
        """Wait until something changes, or until the time ``soon``.

        Raises:
            ModelsInUse: with ``message``, if nothing does before ``until``.
        """
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.0, soon - time.monotonic()))
        except asyncio.TimeoutError:
            if soon >= until:
                raise ModelsInUse(message) from None

    async def evict_once_unused(self, entry: ModelEntry) -> None:
        """Unload a model once the requests that use it have ended; new ones wait, and load it again.

        Raises:
            ModelUnavailable: they take too long.
        """
        until = time.monotonic() + _IDLE_WAIT_SECONDS
        with self.drain(entry):
            while entry.users:
                await self._wait_for_change(until, until, f"{entry.name} is in use, and was not unloaded.")
            self.evict(entry)

    def record_size(self, entry: ModelEntry, model: LoadedModel, loaded_alone: bool) -> None:
        """Set the bytes of a model that was just loaded.

        Requests that run during a load take and free memory, too: the first plausible measurement is therefore final.
        """
        smallest = _min_bytes(model)
        if not entry.measured and loaded_alone and self.loads_alone(entry) and (model.bytes or 0) >= smallest:
            entry.bytes, entry.measured = model.bytes or entry.bytes, True
        entry.bytes = max(entry.bytes, smallest)

    def loads_alone(self, entry: ModelEntry) -> bool:
        """Return whether no other model is being loaded, so that a change of memory is due to this one."""
        others = (other for other in self._entries.values() if other is not entry)
        return not any(other.reserved and other.model is None for other in others)


def _turn_seconds(entry: ModelEntry) -> float:
    """Return the seconds for which a loaded model is not drained."""
    load_seconds = 0.0 if entry.model is None else entry.model.load_seconds
    return min(max(_MIN_TURN, _LOADS_PER_TURN * load_seconds), _MAX_TURN)


def estimated_bytes(name: str) -> int:
    """Return the bytes that a model of the catalogue, by its id, is expected to take; 0 if it is not in there."""
    entry = catalog.find_by_id(name)
    return _BYTES_PER_PARAMETER * (entry.parameters or 0) if entry is not None else 0


def _min_bytes(model: LoadedModel) -> int:
    """Return bytes that a model takes at least: half of its weight files, for weights stored in float32."""
    merged = model.recipe.merged
    folder = merged.base if merged else model.recipe.folder
    files = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin")]
    weights = [file for file in files if file.suffix == ".safetensors"] or files
    return sum(file.stat().st_size for file in weights) // 2 * count_copies(model.devices)


def _close(models: list[LoadedModel]) -> None:
    """Close a model, and wait until its memory is free.

    The model comes in a list of one, because the caller keeps a reference to the arguments.
    """
    model = models.pop()
    compiled = weakref.ref(model._model)
    model.close()
    del model
    until = time.monotonic() + _RELEASE_SECONDS
    while compiled() is not None and time.monotonic() < until:
        time.sleep(0.01)
    if compiled() is not None:
        gc.unfreeze()  # objects frozen at the start would never be collected
        gc.collect()
    return_memory()
