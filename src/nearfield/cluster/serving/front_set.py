"""`FrontSet`: a front on each node, what they must know, and what they report."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.serving.actor_calls import CallFailed, ask, end_actor, start_actor
from nearfield.cluster.serving.front_actor import MAX_CALLS, FrontActor
from nearfield.cluster.serving.messages import ClusterState, EngineState, FrontConfig, FrontReport, SpendingTotals
from nearfield.errors import ClusterFailed
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.logs import LOG

#: Seconds for a front to end after the drain.
_EXTRA_SECONDS = 10.0
#: Times in a row that a front may not answer before it is replaced.
_MAX_SILENT = 6


@dataclass(eq=False)
class NodeFront:
    """The front of a node."""

    node_id: str
    node: str
    actor: Any
    address: str
    report: FrontReport = field(default_factory=lambda: FrontReport(()))
    #: What keys used at other fronts since this one started.
    elsewhere: Counter[bytes] = field(default_factory=Counter)
    silent: int = 0


class FrontSet:
    """The fronts of all nodes.

    Args:
        config: what each starts with.
        start_timeout: seconds for one to start.
    """

    def __init__(self, config: FrontConfig, start_timeout: float) -> None:
        self._config = config
        self._start_timeout = start_timeout
        self._fronts: dict[str, NodeFront] = {}
        self._refused: set[str] = set()
        #: What keys have used at all fronts, for new fronts.
        self._ledger = ApiKeys(config.settings.api_keys, config.settings.api_key_file)
        self._lock = asyncio.Lock()
        self._messages = itertools.count(1)

    @property
    def addresses(self) -> list[str]:
        """Where the fronts listen."""
        return [front.address for front in self._fronts.values()]

    @property
    def lost(self) -> set[int]:
        """Engines that fronts found dead."""
        return {number for front in self._fronts.values() for number in front.report.lost}

    def waiting(self, group: int) -> int:
        """Return the tokens that wait in fronts for an engine of a group."""
        return sum(front.report.waiting[group] for front in self._fronts.values() if front.report.waiting)

    async def start(self) -> None:
        """Start a front on each node.

        Raises:
            ClusterFailed: one cannot be started.
        """
        fronts = await asyncio.gather(*(self._start_one(node) for node in self._nodes_without()))
        self._fronts |= {front.node_id: front for front in fronts}

    async def add_missing(self) -> None:
        """Start fronts on nodes that have none: new ones, and those whose front has died."""
        for node in self._nodes_without():
            try:
                front = self._fronts[node["NodeID"]] = await self._start_one(node)
                self._refused.discard(front.node_id)
                LOG.info("front at %s on the node %s", front.address, front.node)
            except ClusterFailed as error:
                if node["NodeID"] not in self._refused:
                    LOG.error("%s", error)
                self._refused.add(node["NodeID"])

    async def publish(self, engines: Sequence[EngineState], load_seconds: float) -> None:
        """Send all fronts the engines that take requests; what keys used at one front reaches the others with it."""
        async with self._lock:
            fronts = list(self._fronts.values())
            await asyncio.gather(*(self._send(front, engines, load_seconds) for front in fronts))

    async def reload(self) -> None:
        """Let all fronts read keys and certificates again."""
        await asyncio.gather(*(ask(front.actor.reload) for front in self._fronts.values()), return_exceptions=True)

    async def stop(self, seconds: float) -> None:
        """Let all fronts finish their requests, and end them."""
        await asyncio.gather(*(self._end(front, seconds) for front in list(self._fronts.values())))

    def _nodes_without(self) -> list[dict[str, Any]]:
        """Return the live nodes that have no front, as Ray describes them."""
        nodes = [node for node in import_ray().nodes() if node["Alive"]]
        alive = {node["NodeID"] for node in nodes}
        for gone in set(self._fronts) - alive:
            LOG.error("the node %s is gone, and its front", self._fronts.pop(gone).node)
        return [node for node in nodes if node["NodeID"] not in self._fronts]

    async def _start_one(self, node: dict[str, Any]) -> NodeFront:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_concurrency": MAX_CALLS, "scheduling_strategy": place}
        actor, where = start_actor(FrontActor, options, uuid.uuid4().hex), str(node["NodeManagerAddress"])
        try:
            config = replace(self._config, spent=self._ledger.used())
            address, problem = await ask(actor.start, config, seconds=self._start_timeout)
        except CallFailed as error:
            address, problem = "", str(error)
        if problem:
            end_actor(actor)
            raise ClusterFailed(f"The front of the node {where} cannot be started: {problem}")
        return NodeFront(node["NodeID"], where, actor, address)

    async def _send(self, front: NodeFront, engines: Sequence[EngineState], load_seconds: float) -> None:
        spent = SpendingTotals(next(self._messages), dict(front.elsewhere))
        try:
            report: FrontReport = await ask(front.actor.exchange, ClusterState(engines, spent, load_seconds))
        except CallFailed as error:
            self._on_silence(front, error)
            return
        front.silent = 0
        self._share(front, report)

    def _on_silence(self, front: NodeFront, error: CallFailed) -> None:
        front.silent += 1
        if (error.dead or front.silent >= _MAX_SILENT) and self._fronts.pop(front.node_id, None) is not None:
            LOG.error("the front of the node %s is replaced: %s", front.node, error)
            end_actor(front.actor)

    def _share(self, front: NodeFront, report: FrontReport) -> None:
        """Count what keys used at a front since its last report, here and for the other fronts."""
        spent = report.spent.growth(front.report.spent)
        front.report = report
        for digest, tokens in spent.items():
            self._ledger.charge(digest, tokens)
        for other in self._fronts.values():
            if other is not front:
                other.elsewhere.update(spent)

    async def _end(self, front: NodeFront, seconds: float) -> None:
        try:
            await ask(front.actor.stop, seconds=seconds + _EXTRA_SECONDS)
        except CallFailed as error:
            LOG.warning("the front of the node %s did not finish in time: %s", front.node, error)
        end_actor(front.actor)
