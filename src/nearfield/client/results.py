"""What a server says about its models: the typed results of the HTTP clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model of a server; ``native``: the server is a Nearfield server, and names prompts and fingerprint."""

    id: str
    native: bool = False
    prompts: tuple[str, ...] = ()
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """The index of a document in the request, and its score for the query."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class LoadState:
    """Whether a server has a model in memory.

    ``bytes`` of memory, ``users``: requests that use it now, ``idle``: seconds since its last use, ``again``: seconds
    until a load that failed is tried again.
    """

    id: str
    state: Literal["available", "loading", "loaded", "failed"]
    pinned: bool
    bytes: int
    users: int
    uses: int
    idle: float
    keep_alive: float | None
    outputs: tuple[str, ...]
    error: str
    again: float


@dataclass(frozen=True, slots=True)
class LoadStates:
    """All models of a server, the memory they take, and the memory they may take (None: no limit)."""

    models: tuple[LoadState, ...]
    bytes: int
    budget: int | None
    on_demand: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a server accepts work, and if not, why."""

    ready: bool
    reasons: tuple[str, ...]
