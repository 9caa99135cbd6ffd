"""What the processes of a serving cluster send each other. Clocks of machines differ: times are sent as durations."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nearfield.engine.ipc.remote_engine import EngineRequest, Snapshot
from nearfield.settings import Settings

#: Tokens that keys used: by the key's digest.
Spending = dict[bytes, int]


@dataclass(frozen=True)
class SpendingTotals:
    """What keys have used since the sender began to count. A later message has a higher number, and replaces it.

    So a message may be lost, come twice or come late: the next one says the same and more.
    """

    number: int = 0
    tokens: Spending = field(default_factory=dict)

    def growth(self, earlier: SpendingTotals) -> Spending:
        """Return what keys have used since an earlier message; nothing if this one is not later."""
        if self.number <= earlier.number:
            return {}
        more = {digest: tokens - earlier.tokens.get(digest, 0) for digest, tokens in self.tokens.items()}
        return {digest: tokens for digest, tokens in more.items() if tokens}


@dataclass(frozen=True)
class EngineFacts:
    """What an engine is, once it has loaded its models.

    Attributes:
        node: the address of its machine.
        node_id: the machine, as Ray names it.
        models: the models without weights, for fronts (``pack_weightless``).
        aliases: further names of the models.
        spaces: for each runner its name, its vector space, the length of its rows and its number format. Engines that
            differ in any of these would give different vectors for one text.
        seconds: how long loading took.
        problem: why the models cannot be loaded; empty if they are.
    """

    node: str
    node_id: str
    models: bytes = b""
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    spaces: tuple[tuple[str, str, int, str], ...] = ()
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class EngineState:
    """An engine as the controller knows it: its number, its group, the actor, its queue, and the node it runs on."""

    number: int
    group: int
    actor: Any
    snapshot: Snapshot
    node_id: str = ""


@dataclass(frozen=True)
class ClusterState:
    """What the controller sends to each front: the engines that take requests, and what else it must know.

    Attributes:
        engines: all that take requests.
        spent: what keys used at other fronts since this one started.
        load_seconds: how long an engine takes until it is ready.
    """

    engines: Sequence[EngineState]
    spent: SpendingTotals
    load_seconds: float


@dataclass(frozen=True)
class FrontReport:
    """What a front sends back: tokens that wait for an engine by group, and what keys used here since it started."""

    waiting: Sequence[int]
    spent: SpendingTotals = field(default_factory=SpendingTotals)
    #: Engines that did not answer a request.
    lost: Sequence[int] = ()


@dataclass(frozen=True)
class FrontConfig:
    """What a front starts with.

    Attributes:
        settings: of the server.
        groups: for each group of engines its models without weights.
        aliases: further names of all models.
        spent: what keys have used of their rates until now.
    """

    settings: Settings
    groups: Sequence[bytes]
    aliases: Mapping[str, Sequence[str]]
    spent: Spending = field(default_factory=dict)


def with_durations(request: EngineRequest) -> EngineRequest:
    """Return a request with its times as seconds from now, to be sent to another machine."""
    now = time.monotonic()
    deadline = None if request.deadline is None else request.deadline - now
    return replace(request, deadline=deadline, created=now - request.created)


def with_times(request: EngineRequest) -> EngineRequest:
    """Return a request that was received, with its times on the clock of this machine."""
    now = time.monotonic()
    deadline = None if request.deadline is None else now + request.deadline
    return replace(request, deadline=deadline, created=now - request.created)
