"""Frontends: several processes that read and answer HTTP, and this one, which loads the models and runs all they send.

This process alone listens. It hands each connection that it accepts to the front-end that has the fewest, and so a
front-end that dies takes no connection with it but its own, and shutting down is as lossless as in one process: there
is one queue of connections, and one who empties it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric

from nearfield.engine.engine import Engine
from nearfield.engine.ipc.host import EngineHost, snapshot
from nearfield.engine.ipc.remote_engine import Snapshot
from nearfield.engine.ipc.transport import Channel, ChannelClosed
from nearfield.errors import NearfieldError, SettingsError, ShuttingDown
from nearfield.hardware import memory_resident
from nearfield.inference import weightless
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.frontends.frontend import CONNECTION, STOP, FrontendConfig, Usages, joined, run
from nearfield.server.frontends.metrics_merge import MergedMetrics
from nearfield.server.lifecycle.listener import accept_pending, bind, drop_new_connections
from nearfield.server.lifecycle.model_loading import load_models, model_aliases
from nearfield.server.lifecycle.serve import ready_line, warn_if_open
from nearfield.server.logs import LOG, configure_logging
from nearfield.server.observability.prometheus import Prometheus
from nearfield.setting_fields import ByteSize
from nearfield.settings import Settings

#: Seconds between two looks at the engine that front-ends are told of.
_TICK = 0.1
#: Seconds in which a front-end says what it has counted, and after its last word it ends, or else is ended.
_PATIENCE, _LAST = 1.0, 10.0
#: Seconds after which one that has not taken in a connection gets others only if all are so.
_LATE = 1.0
#: A front-end that lived for fewer seconds is not started again at once, but after a second.
_SHORT, _PAUSE = 5.0, 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Connections that are accepted before anything else is looked at.
_ACCEPTS = 64


def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve through several processes until SIGTERM or SIGINT; then finish what was accepted.

    Raises:
        SettingsError: the address is taken or not ours, or a setting is not for several front-ends.
        ModelNotFound, SourceUnavailable, ModelRefused: a model cannot be loaded.
        MissingExtra: traces are asked for, and OpenTelemetry is not installed.
    """
    check(settings)
    configure_logging(settings.log_level, settings.log_format)
    with bind(settings) as listening, contextlib.ExitStack() as ends:
        started = time.perf_counter()
        seats = []
        for number in range(settings.frontends):  # they import while the models are loaded
            seats.append(FrontendProcess.begun(number))
            ends.callback(seats[-1].end_it)
        engine, _, loaded = load_models(settings)
        warn_if_open(settings)

        def ready() -> None:
            seconds = time.perf_counter() - started
            host, port = listening.getsockname()[:2]
            line = ready_line(host, port, loaded, seconds, settings.tls_cert is not None)
            announce(line.replace("; docs at", f"; {settings.frontends} front-ends; docs at"))

        try:
            run(FrontendSupervisor(listening, settings, engine, loaded, seats).serve(ready))
        finally:
            engine.close(timeout=settings.drain_timeout)


def check(settings: Settings) -> None:
    """Refuse settings that are for one process.

    Raises:
        SettingsError: names the setting, and says why.
    """
    models = "the models are those named at the start"
    reasons = {"on_demand": models, "memory_budget": models, "grpc_port": "there is HTTP alone"}
    reasons["served_collections"] = "none is served"
    for name, reason in reasons.items():
        if getattr(settings, name) not in (None, ()):
            raise SettingsError(
                f"Setting {name!r} is for one front-end: with {settings.frontends} (frontends) {reason}. "
                "Leave it out, or set frontends to 1."
            )


@dataclass(eq=False)
class FrontendProcess:
    """One front-end as its parent sees it; ``link`` and ``host`` are there once the models are."""

    number: int
    process: subprocess.Popen[bytes]
    end: socket.socket
    door: socket.socket
    began: float
    link: Channel | None = None
    host: EngineHost | None = None
    ready: bool = False
    #: What it could not start for.
    error: Exception | None = None
    #: Connections handed to it, those it has taken in, and those open of them.
    handed: int = 0
    taken: int = 0
    open: int = 0
    #: Since when it has left connections at the door.
    late_since: float | None = None
    #: What it had counted when it was last asked.
    metrics: Sequence[Metric] = ()
    #: How much its models are used.
    usage: Usages = field(default_factory=dict)

    @classmethod
    def begun(cls, number: int) -> FrontendProcess:
        """Start a process, with two pairs of sockets that nobody else can connect to."""
        ours, theirs = zip(*(socket.socketpair(), socket.socketpair()), strict=True)
        fds = [end.fileno() for end in theirs]
        module = "nearfield.server.frontends.frontend"
        code = f"import sys; sys.path[:] = {sys.path!r}\nfrom {module} import main\nmain(*{fds!r})"
        with contextlib.ExitStack() as passed:
            for end in theirs:
                passed.enter_context(end)
            process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=fds)
        return cls(number, process, *ours, time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether it is there to be told anything, though perhaps not ready."""
        return self.link is not None and not self.link.lost

    @property
    def load(self) -> int:
        """Connections that it has, those on their way included."""
        return self.open + self.handed - self.taken

    def hand(self, word: bytes, connections: Sequence[socket.socket] = ()) -> bool:
        """Pass a connection through the door; return whether it could be."""
        try:
            socket.send_fds(self.door, [word], [each.fileno() for each in connections])
        except OSError:
            return False
        self.handed += len(connections)
        if connections and self.late_since is None:
            self.late_since = time.monotonic()
        return True

    def know(self, taken: int, count: int) -> None:
        """Keep how many connections it has taken in, and how many of them are open."""
        self.taken, self.open = taken, count
        self.late_since = None if taken == self.handed else time.monotonic()

    def rank(self, now: float) -> tuple[bool, int]:
        """Rank it for the next connection: one that leaves others waiting comes last, then the load counts."""
        return self.late_since is not None and now - self.late_since > _LATE, self.load

    def end_it(self, patience: float = 0.0) -> None:
        """End the process if it does not end by itself within some seconds, and let go of it; blocks."""
        for end in (self.end, self.door):
            end.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.process.kill()
        self.process.wait()


class FrontendSupervisor:
    """Starts front-ends, starts them again when they die, hands them connections, and tells each of the others."""

    def __init__(
        self,
        listening: socket.socket,
        settings: Settings,
        engine: Engine,
        loaded: Sequence[LoadedModel],
        seats: Sequence[FrontendProcess],
    ) -> None:
        self._listening = listening
        self._settings = settings
        self._engine = engine
        self._runners = [model._model for model in loaded]
        self._packed = weightless.pack_weightless(loaded)
        self._aliases = model_aliases(loaded, settings)
        self._seats = list(seats)
        self._counts = Prometheus(loaded, tei=settings.tei_metrics)
        self._totals = MergedMetrics()
        self._keys: dict[bytes, ApiKey] = {}
        self._changed = asyncio.Event()
        self._begun = self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held: list[socket.socket] = []
        self._told: Snapshot | None = None

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal; then have all that was accepted finished. Raises what a front-end cannot start for."""
        self._loop = asyncio.get_running_loop()
        gc.collect()
        gc.freeze()
        try:
            await self._begin()
            on_ready()
            await self._until(lambda: self._stopping and not any(seat.alive for seat in self._seats))
        finally:
            await self._end()

    async def _begin(self) -> None:
        for seat in self._seats:
            await self._open(seat)
        await self._until(lambda: all(seat.ready or seat.error for seat in self._seats))
        for seat in self._seats:
            if seat.error is not None:
                raise seat.error
        self._begun = True
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._stop)
        self._listen()
        self._tick()

    async def _end(self) -> None:
        """Leave nothing open on the loop."""
        self._stopping = True
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
        for seat in self._seats:
            if seat.link is not None:
                seat.link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        patience = _LAST if self._begun else 0.0
        await asyncio.gather(*(asyncio.to_thread(seat.end_it, patience) for seat in self._seats))

    async def _until(self, come: Callable[[], Any]) -> None:
        while not come():
            self._changed.clear()
            await self._changed.wait()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- their lives -----------------------------------------------------------------------------------------------

    async def _open(self, seat: FrontendProcess) -> None:
        """Answer what a process asks from now on."""
        seat.door.setblocking(False)
        link = seat.link = await Channel.over(seat.end)
        seat.host = EngineHost(self._engine, self._runners, link, _log)
        link.on_lost = lambda: self._lost(seat)

        async def start() -> FrontendConfig:
            return self._start(seat.number)

        async def failed(error: Exception) -> None:
            seat.error = error
            self._changed.set()

        async def done() -> None:
            seat.ready = False

        link.answers |= {"start": start, "failed": failed, "done": done, "page": self._page, "hold": self._hold}
        link.handlers |= {
            "ready": lambda: self._ready(seat),
            "load": seat.know,
            "spent": lambda *spent: self._spent(seat, *spent),
            "used": lambda usage: self._used(seat, usage),
            "wake": self._wake,
        }

    def _start(self, number: int) -> FrontendConfig:
        cache_memory = ByteSize(self._settings.cache_memory // len(self._seats))
        settings = msgspec.structs.replace(self._settings, cache_memory=cache_memory)
        keys = list(self._keys.values())
        return FrontendConfig(number, settings, self._packed, self._aliases, snapshot(self._engine), keys)

    def _ready(self, seat: FrontendProcess) -> None:
        seat.ready = True
        self._changed.set()
        if seat.host is not None:
            seat.host.tell(snapshot(self._engine))
        self._hand_held()
        if self._stopping:
            seat.hand(STOP)

    def _lost(self, seat: FrontendProcess) -> None:
        """Drop what a front-end that is gone had asked for, and start another in its place."""
        seat.ready = False
        if seat.host is not None:
            seat.host.close()
        self._totals.depart(seat.metrics)
        seat.metrics = ()
        self._used(seat, {})
        self._changed.set()
        if self._stopping:
            return
        if not self._begun:
            seat.error = seat.error or NearfieldError(
                "A front-end ended before it could serve; its last words say why."
            )
            return
        LOG.error("front-end %s is gone, and is started again: %s", seat.number, seat.error or "it was ended")
        self._spawn(self._replace(seat))

    async def _replace(self, seat: FrontendProcess) -> None:
        lived = time.monotonic() - seat.began
        await asyncio.to_thread(seat.end_it)
        if lived < _SHORT:
            await asyncio.sleep(_PAUSE)
        if not self._stopping:
            another = self._seats[seat.number] = FrontendProcess.begun(seat.number)
            await self._open(another)

    def _tick(self) -> None:
        """Tell all how the engine is, when that has changed."""
        now = snapshot(self._engine)
        if now != self._told:
            self._told = now
            for seat in self._seats:
                if seat.host is not None and seat.ready:
                    seat.host.tell(now)
        self._loop.call_later(_TICK, self._tick)

    # -- connections -----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if not self._stopping:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Take in connections, and hand them on."""
        for _ in range(_ACCEPTS):
            try:
                connection, _ = self._listening.accept()
            except ConnectionAbortedError:
                continue  # its client has left
            except BlockingIOError:
                return
            except OSError as error:
                LOG.error("connections cannot be accepted: %s", error.strerror)
                self._pause()
                return
            if not self._hand(connection):
                self._held.append(connection)
                self._pause()
                return

    def _pause(self) -> None:
        """Leave connections to the kernel for a while."""
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_TICK, self._resume)

    def _resume(self) -> None:
        self._hand_held()
        if self._held:
            self._loop.call_later(_TICK, self._resume)
        else:
            self._listen()

    def _hand(self, connection: socket.socket) -> bool:
        """Give a connection to the front-end with the fewest; return whether one could take it."""
        now = time.monotonic()
        for seat in sorted((seat for seat in self._seats if seat.ready), key=lambda seat: seat.rank(now)):
            if seat.hand(CONNECTION, [connection]):
                connection.close()
                return True
        return False

    def _hand_held(self) -> None:
        self._held = [connection for connection in self._held if not self._hand(connection)]

    # -- stopping --------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Refuse new connections, hand on those that wait, and have the front-ends finish."""
        if self._stopping:
            return
        self._stopping = True
        self._changed.set()
        self._loop.remove_reader(self._listening)
        drop_new_connections(self._listening)
        self._held += accept_pending(self._listening)
        self._listening.close()
        self._spawn(self._last())

    async def _last(self) -> None:
        """Hand on the last connections, tell the front-ends so, and end those that do not."""
        self._hand_held()
        while self._held and any(seat.alive for seat in self._seats):
            await asyncio.sleep(_TICK)
            self._hand_held()
        for seat in self._seats:
            if seat.ready:
                seat.hand(STOP)
        await asyncio.sleep(self._settings.drain_timeout + _LAST)
        for seat in self._seats:
            seat.process.kill()

    # -- what they share -------------------------------------------------------------------------------------------

    def _others(self, seat: FrontendProcess) -> list[Channel]:
        return [each.link for each in self._seats if each is not seat and each.ready and each.link is not None]

    def _spent(self, seat: FrontendProcess, digest: bytes, rate: int, tokens: int) -> None:
        """Count tokens of a key here, for front-ends to come, and let the others count them."""
        key = self._keys.get(digest)
        if key is None or key.tokens_per_minute != rate:
            previous, key = key, ApiKey("", digest, tokens_per_minute=rate)
            if previous is not None:
                key.copy_balance(previous)
            self._keys[digest] = key
        key.charge(tokens)
        for link in self._others(seat):
            link.tell("spent", digest, tokens)

    def _used(self, seat: FrontendProcess, usage: Usages) -> None:
        """Let each front-end know how much the others' models are used."""
        seat.usage = usage
        for each in self._seats:
            if each is not seat and each.ready and each.link is not None:
                each.link.tell("used", joined([one.usage for one in self._seats if one is not each]))

    def _wake(self) -> None:
        """Have the first look for work; one that is only starting looks by itself."""
        first = self._seats[0]
        if first.ready and first.link is not None:
            first.link.tell("wake")

    async def _hold(self) -> bool:
        """Ask the first whether it may work on batches; if it has just died, its follower."""
        until = time.monotonic() + self._settings.request_timeout
        while time.monotonic() < until:
            first = self._seats[0]
            if first.ready and first.link is not None:
                with contextlib.suppress(ChannelClosed):
                    return bool(await first.link.ask("hold"))
            await asyncio.sleep(_TICK)
        raise ShuttingDown("The process that works on batches is being started.")

    async def _page(self) -> bytes:
        """Gather the metrics of all processes; of one that does not answer, those it told last."""
        await asyncio.gather(*(self._measure(seat) for seat in self._seats))
        resident = memory_resident()
        own = self._counts.metrics()
        if resident is not None:
            own.append(
                GaugeMetricFamily("nearfield_process_resident_bytes", "Memory that the process takes.", resident)
            )
        return self._totals.page(own, {f"front-end {seat.number}": seat.metrics for seat in self._seats})

    async def _measure(self, seat: FrontendProcess) -> None:
        if seat.ready and seat.link is not None:
            with contextlib.suppress(ChannelClosed, asyncio.TimeoutError):
                seat.metrics = await asyncio.wait_for(seat.link.ask("metrics"), _PATIENCE)


def _log(error: Exception) -> None:
    """Say why an input failed, where that is known."""
    if not isinstance(error, NearfieldError) or error.__cause__ is not None:
        LOG.error("an input failed: %s", type(error).__name__, exc_info=error)
