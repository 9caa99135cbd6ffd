"""``nearfield cluster serve``: the controller, which starts engines and fronts, and keeps them as the options say.

It is the process of the command: requests do not pass through it. When it ends, Ray ends all that it started; while it
cannot be reached, fronts and engines go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nearfield.cluster.ray_runtime import connected
from nearfield.cluster.serving.cluster_logs import configure_cluster_logging
from nearfield.cluster.serving.engine_fleet import EngineFleet
from nearfield.cluster.serving.front_set import FrontSet
from nearfield.cluster.serving.messages import EngineFacts, FrontConfig
from nearfield.cluster.serving.serving_options import ServingOptions
from nearfield.server.lifecycle.preflight import check_listener_settings
from nearfield.server.lifecycle.serve import warn_if_open
from nearfield.server.lifecycle.signals import SignalHandlers, ignore_early_signals
from nearfield.server.logs import LOG, configure_logging
from nearfield.settings import Settings

#: Seconds between two looks at all engines and fronts; and how many of them pass between two looks at the nodes.
_TICK_SECONDS, _NODE_TICKS = 0.5, 10


def serve(settings: Settings, options: ServingOptions, announce: Callable[[str], None] = print) -> None:
    """Serve on a cluster until SIGTERM or SIGINT, then finish the accepted requests.

    ``announce`` is called with one line once requests are accepted. SIGHUP reads keys again, and replaces the engines
    one by one.

    Raises:
        SettingsError: a setting has no meaning in a cluster, or a file that it names cannot be used.
        InputError, MissingExtra, ClusterFailed: the cluster cannot be used, or a node cannot load the models.
    """
    configure_logging(settings.log_level, settings.log_format)
    ignore_early_signals()
    options.check(settings)
    check_listener_settings(settings)
    warn_if_open(settings)
    with connected(options.ray, is_continued=False):
        configure_cluster_logging(settings)
        asyncio.run(ClusterController(settings, options, announce).run())


class ClusterController:
    """Runs the cluster until it is asked to stop."""

    def __init__(self, settings: Settings, options: ServingOptions, announce: Callable[[str], None]) -> None:
        self._settings = settings
        self._announce = announce
        self._start_timeout = options.start_timeout
        names = [(name,) for name in settings.models] if options.separate_models else [settings.models]
        numbers = itertools.count(1)
        self._fleets = [
            EngineFleet(group, msgspec.structs.replace(settings, models=models), options, self.publish, numbers)
            for group, models in enumerate(names)
        ]
        self._fronts: FrontSet | None = None
        self._load_seconds = 1.0
        self._stopped: asyncio.Event
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Start all, serve until ``stop``, and end all in order. Raises ClusterFailed if something cannot start."""
        self._stopped = asyncio.Event()
        self._install_signals()
        try:
            if await self._or_stopped(self._start()):
                await self._watch()
        finally:
            await self._end()

    def stop(self) -> None:
        """Begin to stop."""
        self._stopped.set()

    async def publish(self) -> None:
        """Send all fronts the engines that take requests."""
        if self._fronts is not None:
            states = [state for fleet in self._fleets for state in fleet.states]
            await self._fronts.publish(states, self._load_seconds)

    def reload(self) -> None:
        """Let fronts read keys and certificates again, and replace all engines one by one."""
        work = [fleet.update() for fleet in self._fleets]
        for step in [*work, *([self._fronts.reload()] if self._fronts is not None else [])]:
            task = asyncio.get_running_loop().create_task(step)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        SignalHandlers(self.reload, self.stop).install()

    async def _or_stopped(self, work: Any) -> bool:
        """Finish some work; return False if it was stopped first."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return False
        await task
        return True

    async def _start(self) -> None:
        facts = await asyncio.gather(*(fleet.start() for fleet in self._fleets))
        self._load_seconds = max(group.seconds for group in facts)
        fronts = FrontSet(self._front_config(facts), self._start_timeout)
        await fronts.start()
        self._fronts = fronts
        await self.publish()
        self._announce(self._ready_line(facts, fronts))

    def _front_config(self, facts: Sequence[EngineFacts]) -> FrontConfig:
        aliases: dict[str, list[str]] = {}
        for group in facts:
            for model, names in group.aliases.items():
                aliases.setdefault(model, []).extend(names)
        return FrontConfig(self._settings, [group.models for group in facts], aliases)

    def _ready_line(self, facts: Sequence[EngineFacts], fronts: FrontSet) -> str:
        engines = sum(len(fleet.states) for fleet in self._fleets)
        models = ", ".join(dict.fromkeys(space[0] for group in facts for space in group.spaces))
        return f"Nearfield serves {models} with {engines} engines at {' '.join(fronts.addresses)}"

    async def _watch(self) -> None:
        """Look at all engines and fronts twice a second until the end."""
        count = 0
        while not self._stopped.is_set():
            await self._tick(count)
            count += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _TICK_SECONDS)

    async def _tick(self, count: int) -> None:
        fronts = self._fronts
        assert fronts is not None
        try:
            await asyncio.gather(
                *(fleet.tick(fronts.waiting(group), fronts.lost) for group, fleet in enumerate(self._fleets))
            )
            await self.publish()
            if count % _NODE_TICKS == 0:
                await fronts.add_missing()
        except Exception as error:  # noqa: BLE001 - requests are served while the controller fails
            LOG.error("the controller failed: %s", type(error).__name__, exc_info=error)

    async def _end(self) -> None:
        """Let fronts finish their requests with the engines, then end the engines."""
        for task in self._tasks:
            task.cancel()
        if self._fronts is not None:
            await self._fronts.stop(self._settings.drain_timeout)
        await asyncio.gather(*(fleet.stop(1.0) for fleet in self._fleets), return_exceptions=True)
