"""Models: what is served, by each of its names: there from the start, or loaded when asked for and gone when idle."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from nearfield import catalog
from nearfield.errors import (
    Forbidden,
    InputError,
    ModelNotFound,
    ModelUnavailable,
    NearfieldError,
    SettingsError,
    nearest,
)
from nearfield.hardware import return_memory
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.logs import LOG
from nearfield.server.models.description import ModelDescription, describe

#: Characters of a model's or prompt's name; a longer one is not even compared with those there are.
LONGEST_NAME = 512
#: Bytes that a parameter takes until a model was measured: as given, and packed for few and for many rows, in float32.
_BYTES_A_PARAMETER = 12
#: Seconds for which a load that failed is not tried again: so long at first, doubled with each failure, and at most.
_COOL, _COOLEST = 5.0, 300.0
#: Seconds to wait for a model in use to become idle, when room is short.
_PATIENCE = 30.0
#: Seconds for which a lane, or whoever was just answered, may hold on to a model that was closed.
_LAST_BATCH = 2.0
#: Names that never were loaded of which something is kept.
_MOST_STRANGERS = 256

State = Literal["available", "loading", "loaded", "failed"]


@dataclass(eq=False)
class ModelEntry:
    """One model that may be served, and what is known of it."""

    #: What loads it, and its full id once it was loaded.
    asked: str
    name: str
    #: Loaded at start, and never evicted.
    pinned: bool = False
    model: LoadedModel | None = None
    #: Whether it was named for being loaded, not merely allowed by a pattern.
    named: bool = False
    #: Names that were given to it beside its own and the catalogue's.
    aliases: tuple[str, ...] = ()
    #: Requests that it works for.
    users: int = 0
    uses: int = 0
    used: float = field(default_factory=time.monotonic)
    #: Memory that it takes: measured once it was loaded, else expected.
    bytes: int = 0
    measured: bool = False
    #: Whether room was made for it.
    reserved: bool = False
    #: Seconds for which it stays when idle; None: until room is short.
    keep_alive: float | None = None
    failures: int = 0
    #: Why it could not be loaded, and when that may be tried again.
    error: str = ""
    again: float = 0.0
    loading: asyncio.Task[LoadedModel] | None = None

    @property
    def state(self) -> State:
        """Whether it is loaded, on its way, failed a while ago, or could be loaded."""
        if self.model is not None:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "failed" if self.error and time.monotonic() < self.again else "available"

    @property
    def description(self) -> ModelDescription | None:
        """What the APIs may know of the model; None while it is not loaded."""
        return None if self.model is None else describe(self.model)

    def worth(self, now: float) -> float:
        """Say what losing it would cost: seconds to load it again, by how lately it was used, a byte."""
        seconds = self.model.load_seconds if self.model is not None else 0.0
        return seconds / (1.0 + now - self.used) / max(1, self.bytes)


class ModelPool:
    """The models that are served: some from the start, others when asked for.

    Args:
        loaded: models that are there from the start; they stay.
        aliases: further names, by full id.
        loader: loads the model of a name; blocks.
        on_demand: names, or patterns such as ``BAAI/*``, of models that may be loaded when asked for. A pattern stands
            for ids only, never for folders.
        budget: bytes that all models together may take; None leaves it to the machine.
        keep_alive: seconds after which a model that was loaded on demand leaves when idle; None keeps it.
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
    ) -> None:
        self.started = int(time.time())
        self.on_demand = tuple(on_demand)
        self.budget = budget
        self.keep_alive = keep_alive
        #: Called with each model that was loaded.
        self.watchers: list[Callable[[LoadedModel], None]] = []
        self._loader = loader
        self._slots: dict[str, ModelEntry] = {}
        self._by_name: dict[str, ModelEntry] = {}
        self._idle = asyncio.Event()
        self._leaving: set[asyncio.Future[None]] = set()
        for model in loaded:
            taken = model.bytes or _expected(model.name)
            slot = ModelEntry(model.name, model.name, pinned=True, model=model, bytes=taken, reserved=True)
            self._slots[model.name.lower()] = slot
        for name in self.on_demand:
            if not _is_pattern(name):
                self._slot_of(name).named = True
        for name, others in (aliases or {}).items():
            self._known_as(name, others)
        self._index()

    # -- what there is -----------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[ModelEntry, ...]:
        """All models that are known by name, loaded or not."""
        return tuple(self._slots.values())

    @property
    def listed(self) -> tuple[ModelEntry, ...]:
        """Those that clients are told of: not names that a pattern allows, under which nothing was ever loaded."""
        return tuple(slot for slot in self._slots.values() if slot.pinned or slot.uses or slot.named)

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """Those that are loaded."""
        return tuple(slot.model for slot in self._slots.values() if slot.model is not None)

    @property
    def descriptions(self) -> tuple[ModelDescription, ...]:
        """Descriptions of the loaded models."""
        return tuple(map(describe, self.loaded))

    @property
    def bytes(self) -> int:
        """Memory that models take, or for which room was made."""
        return sum(slot.bytes for slot in self._slots.values() if slot.reserved)

    def names(self) -> list[str]:
        """Return the full id of each model that is or was loaded, or was named for being loaded."""
        return [slot.name for slot in self.listed]

    def slot(self, name: str) -> ModelEntry:
        """Return what is known of the model of a name, whatever its case; ``:latest`` at its end says nothing.

        Raises:
            ModelNotFound: it is not served, and may not be loaded.
        """
        if len(name) > LONGEST_NAME:
            raise ModelNotFound(
                f"A model's name of {len(name)} characters is none of ours. {nearest('', self.names())}"
            )
        plain = name[: len(name.lower().removesuffix(":latest"))]
        for key in (name.lower(), plain.lower()):
            if key in self._by_name:
                return self._by_name[key]
        if self._allowed(plain):
            self._forget_strangers()
            slot = self._slot_of(plain)
            self._index()
            return slot
        raise ModelNotFound(f"The model {name!r} is not served here. {nearest(name, self.names())}", name=name)

    def find(self, name: str) -> LoadedModel:
        """Return the loaded model of a name.

        Raises:
            ModelNotFound: it is not served, or not loaded now.
        """
        slot = self.slot(name)
        if slot.model is None:
            raise ModelNotFound(f"The model {slot.name!r} is not loaded now; a request for its vectors loads it.")
        return slot.model

    def describe(self, name: str) -> ModelDescription:
        """Return the description of the loaded model of a name. Raises as ``find`` does."""
        return describe(self.find(name))

    def described(self, name: str) -> ModelEntry:
        """Return what is known of the model of a name, as ``slot`` does, if anything is.

        Raises:
            ModelNotFound: it is not served, or nobody knows whether there is such a model: only a pattern allows it.
        """
        slot = self.slot(name)
        if slot not in self.listed and catalog.find(slot.name) is None:
            raise ModelNotFound(f"The model {slot.name!r} was never loaded; a request for its vectors tries to.")
        return slot

    def first(self, fits: Callable[[ModelDescription], bool]) -> ModelDescription:
        """Return the description of the first loaded model that fits.

        Raises:
            ModelNotFound: none does.
        """
        description = next(filter(fits, self.descriptions), None)
        if description is None:
            raise ModelNotFound(f"No model for this is served here. Served are: {', '.join(self.names())}.")
        return description

    # -- lending -----------------------------------------------------------------------------------------------

    def use(
        self,
        name: str | None,
        fits: Callable[[ModelDescription], bool],
        keep_alive: float | None = None,
        allowed: Callable[[str], bool] = lambda _: True,
    ) -> ModelLease:
        """Lend the model of a name for as long as an ``async with`` lasts; without a name, the first that fits.

        What may be loaded is loaded, once for all who wait for it. A model that is lent does not leave.

        Raises:
            ModelNotFound: it is not served, or none that fits is.
            ModelUnavailable: it could not be loaded a moment ago, or there is no room for it.
            Forbidden: the asker may not use it (``allowed``).
        """
        if name is not None:
            slot = self.slot(name)
        else:
            slot = self._by_name[self.first(lambda model: allowed(model.name) and fits(model)).name.lower()]
        if not allowed(slot.name):
            raise Forbidden(f"This key may not use {slot.name}.")
        return ModelLease(self, slot, keep_alive)

    def _give_back(self, slot: ModelEntry, keep_alive: float | None) -> None:
        slot.users -= 1
        slot.used = time.monotonic()
        if keep_alive is not None and not slot.pinned:
            slot.keep_alive = None if keep_alive < 0 else keep_alive
        if not slot.users:
            self._rest(slot)

    async def load(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> ModelEntry:
        """Load a model, if it is not, and return what is known of it. Raises as ``use`` does."""
        slot = self.slot(name)
        async with self.use(name, lambda _: True, allowed=allowed):
            return slot

    async def unload(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> ModelEntry:
        """Unload a model once nobody uses it: it stays known, and a request for it loads it again.

        Raises:
            ModelNotFound: it is not served.
            ModelUnavailable: it is in use, and stays so for long.
            Forbidden: the asker may not use it (``allowed``).
        """
        slot = self.slot(name)
        if not allowed(slot.name):
            raise Forbidden(f"This key may not use {slot.name}.")
        until = time.monotonic() + _PATIENCE
        while slot.users:
            await self._wait(until, f"{slot.name} is in use, and was not unloaded.")
        self._evict(slot)
        return slot

    async def forget(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> None:
        """Unload a model, and know no more of it than before it was first asked for. Raises as ``unload`` does.

        Raises:
            InputError: it was given when the server was started, and stays.
        """
        if self.slot(name).pinned:
            raise InputError(f"{self.slot(name).name} was given when the server was started, and stays.", param="model")
        slot = await self.unload(name, allowed)
        if not slot.named and not slot.users:
            self._slots.pop(slot.name.lower(), None)
            self._index()

    def _rest(self, slot: ModelEntry) -> None:
        """Note that a model is idle: someone may wait for its room, and its time may be bounded."""
        self._idle.set()
        if slot.keep_alive is not None and slot.model is not None:
            asyncio.get_running_loop().call_later(slot.keep_alive, self._expire, slot, slot.used)

    def _expire(self, slot: ModelEntry, used: float) -> None:
        if not slot.users and slot.used == used:
            self._evict(slot)

    # -- loading -----------------------------------------------------------------------------------------------

    async def _load(self, slot: ModelEntry) -> LoadedModel:
        """Load a model, or wait for whoever does so already; a client who leaves stops nobody else's load.

        Raises:
            ModelUnavailable: it failed, now or a moment ago, or there is no room.
        """
        if slot.loading is None:
            left = slot.again - time.monotonic()
            if slot.error and left > 0:
                raise ModelUnavailable(
                    f"{slot.name} could not be loaded: {slot.error} It is tried again in {left:.0f} s at the earliest.",
                    retry_after=left,
                )
            slot.loading = asyncio.get_running_loop().create_task(self._bring(slot))
            # All who waited may have left: its error is then nobody's, and no fault of the loop.
            slot.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(slot.loading)

    async def _bring(self, slot: ModelEntry) -> LoadedModel:
        if self._loader is None:
            raise ModelNotFound(f"The model {slot.name!r} is not loaded, and nothing can be loaded here.")
        try:
            slot.bytes = slot.bytes or _expected(slot.name)
            await self._make_room(slot)
            slot.reserved = True
            if self._leaving:
                await asyncio.wait(self._leaving)  # its memory is needed, and would be taken for this one's
            alone = self._alone(slot)
            model = await asyncio.to_thread(self._loader, slot.asked)
        except Exception as error:
            slot.reserved = False
            self._failed(slot, error)
            if isinstance(error, ModelUnavailable):
                raise
            raise ModelUnavailable(
                f"{slot.name} could not be loaded: {slot.error}", retry_after=slot.again - time.monotonic()
            ) from error
        finally:
            slot.loading = None
        # Requests that are answered meanwhile take and free memory, too: the first figure that can be right is kept.
        if not slot.measured and alone and self._alone(slot) and (model.bytes or 0) >= _at_least(model):
            slot.bytes, slot.measured = model.bytes or slot.bytes, True
        slot.bytes = max(slot.bytes, _at_least(model))
        slot.model, slot.name = model, model.name
        slot.error, slot.failures, slot.again = "", 0, 0.0
        self._index()
        for watcher in self.watchers:
            watcher(model)
        LOG.info("loaded %s", slot.name, extra={"seconds": round(model.load_seconds, 2), "bytes": slot.bytes})
        self._trim()
        if not slot.users:
            self._rest(slot)
        return model

    def _alone(self, slot: ModelEntry) -> bool:
        """Whether no other model is on its way, so that what memory does now is this one's doing."""
        others = (other for other in self._slots.values() if other is not slot)
        return not any(other.reserved and other.model is None for other in others)

    def _failed(self, slot: ModelEntry, error: Exception) -> None:
        slot.failures += 1
        slot.error = str(error) if isinstance(error, NearfieldError) else f"{type(error).__name__}."
        slot.again = time.monotonic() + min(_COOLEST, _COOL * 2 ** (slot.failures - 1))
        LOG.warning("could not load %s: %s", slot.name, slot.error, extra={"failures": slot.failures})

    # -- room --------------------------------------------------------------------------------------------------

    async def _make_room(self, slot: ModelEntry) -> None:
        """Unload idle models, the least worth first, until this one fits.

        Raises:
            ModelUnavailable: it never will, or those in use stay in use.
        """
        if self.budget is None:
            return
        stay = sum(each.bytes for each in self._slots.values() if each.pinned)
        if stay + slot.bytes > self.budget:
            raise ModelUnavailable(
                f"{slot.name} takes about {_mib(slot.bytes)} MiB, and of the {_mib(self.budget)} MiB for models "
                f"(memory_budget) those that stay take {_mib(stay)}.",
                retry_after=_COOLEST,
            )
        until = time.monotonic() + _PATIENCE
        while self.bytes + slot.bytes > self.budget:
            victim = self._least()
            if victim is not None:
                self._evict(victim)
            else:
                await self._wait(until, f"There is no room for {slot.name}: all other models are in use.")

    def _trim(self) -> None:
        """Unload idle models after a load that took more than was expected of it."""
        while self.budget is not None and self.bytes > self.budget and (victim := self._least()) is not None:
            self._evict(victim)

    def _least(self) -> ModelEntry | None:
        now = time.monotonic()
        idle = [each for each in self._slots.values() if each.model is not None and not each.users and not each.pinned]
        return min(idle, key=lambda each: each.worth(now), default=None)

    def _evict(self, slot: ModelEntry) -> None:
        """Unload a model that nobody uses. Who asks for it from now on loads it anew."""
        model, slot.model, slot.reserved = slot.model, None, False
        if model is not None:
            leaving = asyncio.get_running_loop().run_in_executor(None, _close, [model])
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            LOG.info("unloaded %s", slot.name, extra={"bytes": slot.bytes})
            self._idle.set()

    async def _wait(self, until: float, message: str) -> None:
        """Wait until some model becomes idle.

        Raises:
            ModelUnavailable: none did in time.
        """
        self._idle.clear()
        try:
            await asyncio.wait_for(self._idle.wait(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:
            raise ModelUnavailable(message) from None

    # -- names -------------------------------------------------------------------------------------------------

    def _allowed(self, name: str) -> bool:
        """Whether a pattern stands for a name: an id of the Hub or the catalogue, never a folder of this machine."""
        entry = catalog.find(name)
        if entry is None and (name.count("/") != 1 or name.startswith((".", "/", "~", "\\")) or Path(name).exists()):
            return False
        known = entry.id if entry is not None else name
        patterns = [pattern for pattern in self.on_demand if _is_pattern(pattern)]
        return any(fnmatchcase(known.lower(), pattern.lower()) for pattern in patterns)

    def _known_as(self, name: str, aliases: Sequence[str]) -> None:
        """Give the model of a full id further names.

        Raises:
            SettingsError: it is not served, and may not be loaded.
        """
        if name.lower() not in self._slots:
            if not self._allowed(name):
                known = nearest(name, self.names())
                raise SettingsError(f"{', '.join(aliases)} is to mean {name!r}, which is not served. {known}")
            self._slot_of(name).named = True
        self._slots[name.lower()].aliases = tuple(aliases)

    def _slot_of(self, name: str) -> ModelEntry:
        entry = catalog.find(name)
        full = entry.id if entry is not None else name
        return self._slots.setdefault(full.lower(), ModelEntry(name, full, keep_alive=self.keep_alive))

    def _forget_strangers(self) -> None:
        """Bound what is kept of names that a pattern allows, and under which nothing was ever loaded."""
        known = {slot.name for slot in self.listed}
        strange = [
            key for key, slot in self._slots.items() if slot.name not in known and not (slot.users or slot.model)
        ]
        if len(strange) >= _MOST_STRANGERS:
            for key in strange[: _MOST_STRANGERS // 2]:
                del self._slots[key]

    def _index(self) -> None:
        """Give each model its names. A short one that several could mean is nobody's: their full ids stay clear."""
        claims: dict[str, set[ModelEntry]] = {}
        for slot in self._slots.values():
            for name in self._names_of(slot):
                claims.setdefault(name.lower(), set()).add(slot)
        self._by_name = {name: next(iter(found)) for name, found in claims.items() if len(found) == 1}
        self._by_name |= {slot.name.lower(): slot for slot in self._slots.values()}

    def _names_of(self, slot: ModelEntry) -> Iterator[str]:
        yield slot.asked
        yield slot.name.rpartition("/")[2]
        yield from slot.aliases
        entry = catalog.find(slot.name) if not slot.pinned else None
        if entry is not None:
            yield from entry.names


class ModelLease:
    """A model in use. Written out: a generator's context manager costs every request more."""

    __slots__ = ("_keep_alive", "_models", "_slot")

    def __init__(self, models: ModelPool, slot: ModelEntry, keep_alive: float | None) -> None:
        self._models, self._slot, self._keep_alive = models, slot, keep_alive

    async def __aenter__(self) -> LoadedModel:
        slot = self._slot
        slot.users += 1
        try:
            model = slot.model or await self._models._load(slot)
        except BaseException:
            self._models._give_back(slot, self._keep_alive)
            raise
        slot.uses += 1
        return model

    async def __aexit__(self, *_: object) -> None:
        self._models._give_back(self._slot, self._keep_alive)


def _close(held: list[LoadedModel]) -> None:
    """Close a model, and wait until its memory is free. It comes in a list, for whoever calls holds the arguments."""
    model = held.pop()
    left = weakref.ref(model._model)
    model.close()
    del model
    until = time.monotonic() + _LAST_BATCH
    while left() is not None and time.monotonic() < until:
        time.sleep(0.01)
    if left() is not None:
        gc.unfreeze()  # what was frozen at start would never be collected
        gc.collect()
    return_memory()


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _expected(name: str) -> int:
    entry = catalog.find(name)
    return _BYTES_A_PARAMETER * (entry.parameters or 0) if entry is not None else 0


def _at_least(model: LoadedModel) -> int:
    """Return bytes that a model surely takes: its weights as they are on disk, or in half as many."""
    files = [file for file in model.recipe.folder.iterdir() if file.suffix in (".safetensors", ".bin")]
    chosen = [file for file in files if file.suffix == ".safetensors"] or files
    return sum(file.stat().st_size for file in chosen) // 2


def _mib(size: int) -> int:
    return round(size / 2**20)
