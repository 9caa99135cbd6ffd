"""What a server knows about one model that it may serve, loaded or not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.models.description import ModelDescription, describe
from nearfield.server.models.load_threads import LoadTurn

State = Literal["available", "loading", "loaded", "failed"]


@dataclass(eq=False)
class ModelEntry:
    """One model that may be served."""

    #: Name that the loader gets.
    loader_name: str
    #: Full id, or the folder's name, known for sure once the model was loaded.
    name: str
    #: Loaded at the start, and never evicted.
    pinned: bool = False
    model: LoadedModel | None = None
    #: Whether the settings name it, rather than a pattern.
    configured: bool = False
    #: Names beside its own and those of the catalogue.
    aliases: tuple[str, ...] = ()
    #: Requests that use it now.
    users: int = 0
    #: Requests that have used it so far.
    uses: int = 0
    last_used: float = field(default_factory=time.monotonic)
    #: Memory that it takes: measured once it was loaded, estimated before.
    bytes: int = 0
    measured: bool = False
    #: Whether its bytes count towards the memory budget.
    reserved: bool = False
    #: Seconds after which it is evicted when idle; None: only when memory is short.
    keep_alive: float | None = None
    #: Failed loads in a row, the last error, and when the next attempt is allowed.
    failures: int = 0
    error: str = ""
    retry_at: float = 0.0
    loading: asyncio.Task[LoadedModel] | None = None
    #: When it was loaded; and while it is drained, what requests wait for before they use it.
    loaded_at: float = 0.0
    drained: asyncio.Future[None] | None = None
    #: The turn of the load in progress.
    load_turn: LoadTurn | None = None

    @property
    def state(self) -> State:
        """Whether it is loaded, being loaded, has failed a moment ago, or can be loaded."""
        if self.model is not None:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "failed" if self.error and time.monotonic() < self.retry_at else "available"

    @property
    def owner(self) -> str:
        """The organisation that published it, by its id; ``local`` for the name of a folder."""
        return self.name.partition("/")[0] if "/" in self.name else "local"

    @property
    def description(self) -> ModelDescription | None:
        """What the APIs may know of the model; None while it is not loaded."""
        return None if self.model is None else describe(self.model)

    def eviction_cost(self, now: float) -> float:
        """Return the cost of evicting it: seconds to load it again, less if it was not used lately, per byte."""
        seconds = self.model.load_seconds if self.model is not None else 0.0
        return seconds / (1.0 + now - self.last_used) / max(1, self.bytes)
