"""`EngineFleet`: the engines of one group. Starts, probes, replaces and drains them, and varies their number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nearfield.cluster.serving.actor_calls import CallFailed, ask, end_actor, start_actor
from nearfield.cluster.serving.engine_actor import MAX_REQUESTS, EngineActor
from nearfield.cluster.serving.messages import EngineFacts, EngineState
from nearfield.cluster.serving.scaling import EngineLoad, ScalingPolicy
from nearfield.cluster.serving.serving_options import ServingOptions
from nearfield.engine.ipc.remote_engine import Snapshot
from nearfield.errors import ClusterFailed
from nearfield.server.logs import LOG
from nearfield.settings import Settings

#: Seconds before another attempt after an engine could not be started, and at most.
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 2.0, 60.0
#: Seconds beyond the time to drain after which an engine is ended.
_EXTRA_SECONDS = 5.0


@dataclass(eq=False)
class FleetEngine:
    """One engine that has loaded its models."""

    number: int
    actor: Any
    facts: EngineFacts
    snapshot: Snapshot
    draining: bool = False
    probed: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class StartRetry:
    """When an engine may be started again after one could not be."""

    failures: int = 0
    allowed_at: float = 0.0

    def failed(self) -> None:
        """Wait twice as long as the last time."""
        self.failures += 1
        pause = min(_RETRY_SECONDS * 2.0 ** (self.failures - 1), _MAX_RETRY_SECONDS)
        self.allowed_at = time.monotonic() + pause

    def succeeded(self) -> None:
        """Wait no longer."""
        self.failures, self.allowed_at = 0, 0.0


class EngineFleet:
    """The engines of one group, all with the same models.

    Args:
        group: its number.
        settings: of the server; ``models`` are those of this group.
        options: how many engines, and what each gets.
        publish: sends all fronts the engines that take requests, and returns when they have them.
        numbers: the numbers of engines, which are unique among all groups.
    """

    def __init__(
        self,
        group: int,
        settings: Settings,
        options: ServingOptions,
        publish: Callable[[], Awaitable[None]],
        numbers: Iterator[int],
    ) -> None:
        threads = settings.threads or max(1, int(options.engine_cpus))
        self._group = group
        self._settings = msgspec.structs.replace(settings, threads=threads)
        self._options = options
        self._publish = publish
        self._policy = ScalingPolicy(options.min_count, options.engines, options.queue_seconds, options.idle_seconds)
        self._engines: list[FleetEngine] = []
        self._starting = 0
        self._numbers = numbers
        self._retry = StartRetry()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._updating = False
        self._stopping = False
        #: The models; known once an engine has loaded them.
        self.facts: EngineFacts | None = None

    @property
    def states(self) -> list[EngineState]:
        """The engines that take requests."""
        return [
            EngineState(engine.number, self._group, engine.actor, engine.snapshot, engine.facts.node_id)
            for engine in self._engines
            if not engine.draining
        ]

    async def start(self) -> EngineFacts:
        """Start as many engines as there are at the least, at least one, since fronts need to know the models.

        Raises:
            ClusterFailed: one cannot be started, or cannot load the models.
        """
        count = max(1, self._options.min_count)
        engines = await asyncio.gather(*(self._start_one() for _ in range(count)))
        for engine in engines:
            self._add(engine)
        return engines[0].facts

    async def stop(self, seconds: float) -> None:
        """Drain all engines, and end them."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(self._end(engine, seconds) for engine in list(self._engines)))

    async def tick(self, waiting: int, lost: set[int]) -> None:
        """Read the queues, take away the dead, probe those whose turn it is, and adapt the number.

        ``waiting`` are the tokens that wait in fronts for an engine; ``lost`` the engines that fronts found dead.
        """
        await asyncio.gather(*(self._read(engine) for engine in self._engines))
        for engine in [engine for engine in self._engines if engine.number in lost and not engine.draining]:
            self._spawn(self._check(engine, "a request found it dead"))
        now = time.monotonic()
        for engine in [engine for engine in self._engines if now - engine.probed >= self._options.health_seconds]:
            engine.probed = now
            self._spawn(self._probe(engine))
        self._scale(waiting, now)

    async def update(self) -> None:
        """Replace all engines by new ones, one at a time: the new one takes requests before the old one stops.

        A new engine with other models than the fronts know ends the update; the old ones go on.
        """
        if self._updating:
            return
        self._updating = True
        try:
            for engine in [engine for engine in self._engines if not engine.draining]:
                self._add(await self._start_one())
                await self._publish()
                await self._drain(engine)
            LOG.info("rolling update: all engines of %s are new", ", ".join(self._settings.models))
        except ClusterFailed as error:
            LOG.error("rolling update stopped, the other engines stay: %s", error)
        finally:
            self._updating = False

    # -- one engine ------------------------------------------------------------------------------------------------

    async def _start_one(self) -> FleetEngine:
        """Start an engine and load its models."""
        options, number = self._options, next(self._numbers)
        self._starting += 1
        resources = {"num_cpus": options.engine_cpus, "num_gpus": options.engine_gpus}
        actor = start_actor(
            EngineActor, {**resources, "max_concurrency": MAX_REQUESTS, "scheduling_strategy": "SPREAD"}, self._settings
        )
        try:
            facts = await self._load(actor)
            return FleetEngine(number, actor, facts, await ask(actor.state))
        except BaseException:
            end_actor(actor)
            raise
        finally:
            self._starting -= 1

    async def _load(self, actor: Any) -> EngineFacts:
        options = self._options
        try:
            facts: EngineFacts = await ask(actor.load, seconds=options.start_timeout)
        except CallFailed as error:
            place = f"{options.engine_cpus:g} CPUs and {options.engine_gpus:g} GPUs"
            raise ClusterFailed(
                f"An engine could not be started: {error}. It needs a node with {place} free and Nearfield installed; "
                "see `ray status`, --engines, --engine-cpus and --start-timeout."
            ) from error
        if facts.problem:
            raise ClusterFailed(f"The node {facts.node} cannot load the models: {facts.problem}")
        if self.facts is not None and facts.spaces != self.facts.spaces:
            raise ClusterFailed(
                f"The node {facts.node} has other models, or another number format, than the first engine: "
                f"{facts.spaces} and {self.facts.spaces}. Use --precision float32, or the same files on all nodes."
            )
        return facts

    def _add(self, engine: FleetEngine) -> None:
        self.facts = self.facts or engine.facts
        self._engines.append(engine)
        self._retry.succeeded()
        LOG.info("engine %s is ready on %s after %.1f s", engine.number, engine.facts.node, engine.facts.seconds)

    async def _read(self, engine: FleetEngine) -> None:
        """Read the queue of an engine; a dead one is taken away, a slow one is left to the probe."""
        try:
            engine.snapshot = await ask(engine.actor.state, seconds=1.0)
        except CallFailed as error:
            if error.dead:
                self._remove(engine, str(error))

    async def _check(self, engine: FleetEngine, reason: str) -> None:
        try:
            await ask(engine.actor.state, seconds=self._options.health_timeout)
        except CallFailed:
            self._remove(engine, reason)

    async def _probe(self, engine: FleetEngine) -> None:
        """Let an engine run a real batch; end it if that fails or takes too long."""
        try:
            await ask(engine.actor.probe, seconds=self._options.health_timeout)
        except CallFailed as error:
            if not engine.draining:
                self._remove(engine, f"its test batch failed: {error}")

    def _remove(self, engine: FleetEngine, reason: str) -> None:
        if engine in self._engines:
            self._engines.remove(engine)
            end_actor(engine.actor)
            LOG.error("engine %s on %s is replaced: %s", engine.number, engine.facts.node, reason)

    async def _drain(self, engine: FleetEngine) -> None:
        """Let all fronts forget an engine, let it finish, and end it."""
        engine.draining = True
        await self._publish()
        await self._end(engine, self._settings.drain_timeout)

    async def _end(self, engine: FleetEngine, seconds: float) -> None:
        try:
            await ask(engine.actor.drain, seconds, seconds=seconds + _EXTRA_SECONDS)
        except CallFailed as error:
            LOG.warning("engine %s did not finish in time: %s", engine.number, error)
        if engine in self._engines:
            self._engines.remove(engine)
            end_actor(engine.actor)

    # -- their number ----------------------------------------------------------------------------------------------

    def _scale(self, waiting: int, now: float) -> None:
        """Start or drain engines until there are as many as the policy wants; dead ones are replaced in this way."""
        active = [engine for engine in self._engines if not engine.draining]
        count = len(active) + self._starting
        target = self._policy.decide(self._load_now(active, count, waiting), now)
        if self._stopping or self._updating:
            return
        if count < target and now >= self._retry.allowed_at:
            for _ in range(target - count):
                self._spawn(self._start_later())
        elif target < count and not self._starting:
            idle = min(active, key=lambda engine: engine.snapshot.stats.queued_tokens)
            LOG.info("engine %s was not needed and ends", idle.number)
            idle.draining = True
            self._spawn(self._drain(idle))

    def _load_now(self, active: list[FleetEngine], count: int, waiting: int) -> EngineLoad:
        every = [engine.snapshot.stats for engine in active]
        speeds = [stats.tokens_per_second for stats in every if stats.tokens_per_second]
        return EngineLoad(
            engines=count,
            queued=waiting + sum(stats.queued_tokens for stats in every),
            speed=sum(speeds) / len(speeds) if speeds else 0.0,
            busy=sum(stats.running_batches / max(1, stats.lanes) for stats in every),
        )

    async def _start_later(self) -> None:
        try:
            self._add(await self._start_one())
        except ClusterFailed as error:
            self._retry.failed()
            LOG.error("%s The next attempt follows in %.0f s.", error, self._retry.allowed_at - time.monotonic())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
