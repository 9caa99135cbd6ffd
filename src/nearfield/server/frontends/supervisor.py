"""Several HTTP processes (front-ends) before one engine: this process loads the models and supervises the others.

Only this process listens. It passes each accepted connection to the front-end with the fewest. A front-end that dies
loses only its connections, and shutdown loses none: there is one queue of connections, which this process empties.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from prometheus_client.core import GaugeMetricFamily

from nearfield.engine.engine import Engine
from nearfield.engine.ipc.host import EngineHost, snapshot
from nearfield.engine.ipc.remote_engine import Snapshot
from nearfield.engine.ipc.transport import Channel, ChannelClosed
from nearfield.errors import NearfieldError, SettingsError, ShuttingDown
from nearfield.hardware import memory_resident
from nearfield.inference import weightless
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.frontends.frontend import CONNECTION, STOP, FrontendConfig, Usages, run, sum_usages
from nearfield.server.frontends.metrics_merge import MergedMetrics
from nearfield.server.frontends.process import FrontendProcess
from nearfield.server.http.connection_limit import AcceptErrors, raise_file_limit
from nearfield.server.lifecycle.discovery import DiscoveryFile
from nearfield.server.lifecycle.listener import accept_pending, bind, drop_new_connections, remove_socket_file
from nearfield.server.lifecycle.model_loading import load_models, model_aliases
from nearfield.server.lifecycle.preflight import check_settings
from nearfield.server.lifecycle.serve import listening_address, ready_line, warn_if_open
from nearfield.server.lifecycle.signals import SignalHandlers, ignore_early_signals
from nearfield.server.logs import LOG, configure_logging
from nearfield.server.observability.history import MetricsHistory
from nearfield.server.observability.metrics_page import MetricsPage
from nearfield.server.observability.prometheus import Prometheus
from nearfield.setting_fields import ByteSize
from nearfield.settings import Settings

#: Seconds between two snapshots of the engine for the front-ends.
_TICK_SECONDS = 0.1
#: Seconds that a front-end has to send its metrics, and to exit once it was asked to stop.
_METRICS_TIMEOUT, _EXIT_TIMEOUT = 1.0, 10.0
#: A front-end that lived for fewer seconds is restarted after a pause.
_SHORT_LIFE, _RESTART_PAUSE = 5.0, 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
#: Connections accepted in one turn of the event loop.
_ACCEPTS_PER_TURN = 64


def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve through several processes until SIGTERM or SIGINT, then finish what was accepted.

    Raises:
        SettingsError: the address cannot be bound, or a setting does not work with several front-ends.
        ModelNotFound, SourceUnavailable, ModelRefused: a model cannot be loaded.
        MissingExtra: traces are asked for, and OpenTelemetry is not installed.
    """
    check(settings)
    configure_logging(settings.log_level, settings.log_format)
    ignore_early_signals()
    check_settings(settings)
    with bind(settings) as listening, contextlib.ExitStack() as ends:
        ends.callback(remove_socket_file, listening)
        started = time.perf_counter()
        raise_file_limit()  # the front-ends inherit it
        processes = []
        for number in range(settings.frontends):  # they import while the models are loaded
            processes.append(FrontendProcess.start(number))
            ends.callback(processes[-1].stop)
        engine, _, loaded = load_models(settings)
        warn_if_open(settings)

        discovery = DiscoveryFile(settings)
        ends.callback(discovery.remove)

        def ready() -> None:
            seconds, address = time.perf_counter() - started, listening_address(listening, settings)
            discovery.write(address, loaded)
            line = ready_line(address, loaded, seconds)
            announce(line.replace("; docs at", f"; {settings.frontends} front-ends; docs at"))

        try:
            run(FrontendSupervisor(listening, settings, engine, loaded, processes, discovery.remove).serve(ready))
        finally:
            engine.close(timeout=settings.drain_timeout)


def check(settings: Settings) -> None:
    """Refuse settings that work with one process only.

    Raises:
        SettingsError: names the setting, and says why.
    """
    models = "models are fixed at the start"
    reasons = {"on_demand": models, "memory_budget": models, "grpc_port": "there is no gRPC"}
    reasons["served_collections"] = "collections are not served"
    for name, reason in reasons.items():
        if getattr(settings, name) not in (None, ()):
            raise SettingsError(
                f"Setting {name!r} needs one front-end: with frontends={settings.frontends} {reason}. "
                "Leave it out, or set frontends to 1."
            )


class FrontendSupervisor:
    """Starts front-ends, restarts those that die, passes connections to them, and shares usage among them."""

    def __init__(
        self,
        listening: socket.socket,
        settings: Settings,
        engine: Engine,
        loaded: Sequence[LoadedModel],
        processes: Sequence[FrontendProcess],
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        self._listening = listening
        self._on_stop = on_stop
        self._settings = settings
        self._engine = engine
        self._runners = [runner for model in loaded for runner in model.runners]
        self._packed = weightless.pack_weightless(loaded)
        self._aliases = model_aliases(loaded, settings)
        self._processes = list(processes)
        self._counts = Prometheus(loaded, tei=settings.tei_metrics)
        self._totals = MergedMetrics()
        self._metrics_page = MetricsPage(self._page)
        self._history = MetricsHistory(self._metrics_page.read)
        self._keys: dict[bytes, ApiKey] = {}
        self._changed = asyncio.Event()
        self._started = self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Accepted connections that no front-end could take yet.
        self._pending: list[socket.socket] = []
        self._sent: Snapshot | None = None
        self._accept_errors = AcceptErrors()
        self._counts.watch_connections(self._accept_errors)

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Serve until a signal, then finish what was accepted. Raises the error of a front-end that cannot start."""
        self._loop = asyncio.get_running_loop()
        gc.collect()
        gc.freeze()
        try:
            await self._start()
            on_ready()
            await self._until(lambda: self._stopping and not any(process.alive for process in self._processes))
        finally:
            await self._end()

    async def _start(self) -> None:
        for process in self._processes:
            await self._open(process)
        await self._until(lambda: all(process.ready or process.error for process in self._processes))
        for process in self._processes:
            if process.error is not None:
                raise process.error
        self._started = True
        SignalHandlers(self._reload, self._stop).install()
        self._loop.add_signal_handler(signal.SIGTERM, self._stop)
        self._loop.add_signal_handler(signal.SIGINT, self._interrupt)
        self._listen()
        self._history.start()
        self._tick()

    async def _end(self) -> None:
        """Close everything that is registered with the event loop."""
        self._stopping = True
        self._history.stop()
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
        for process in self._processes:
            if process.channel is not None:
                process.channel.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        timeout = _EXIT_TIMEOUT if self._started else 0.0
        await asyncio.gather(*(asyncio.to_thread(process.stop, timeout) for process in self._processes))

    async def _until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- processes ------------------------------------------------------------------------------------------------

    async def _open(self, process: FrontendProcess) -> None:
        """Answer the requests of a process from now on."""
        process.connection_socket.setblocking(False)
        channel = process.channel = await Channel.over(process.channel_socket)
        process.host = EngineHost(self._engine, self._runners, channel, _log)
        channel.on_lost = lambda: self._on_lost(process)

        async def start() -> FrontendConfig:
            return self._config(process.number)

        async def failed(error: Exception) -> None:
            process.error = error
            self._changed.set()

        async def done() -> None:
            process.ready = False

        channel.call_handlers |= {
            "start": start,
            "failed": failed,
            "done": done,
            "page": self._metrics_page.read,
            "history": self._history.after,
            "hold": self._hold,
        }
        channel.handlers |= {
            "ready": lambda: self._ready(process),
            "load": process.update_load,
            "spent": lambda *spent: self._spent(process, *spent),
            "used": lambda usage: self._used(process, usage),
            "wake": self._wake,
        }

    def _config(self, number: int) -> FrontendConfig:
        names, count = ("cache_memory", "max_reply_bytes"), len(self._processes)
        shares = {name: ByteSize(getattr(self._settings, name) // count) for name in names}
        settings = msgspec.structs.replace(self._settings, **shares)
        keys = list(self._keys.values())
        return FrontendConfig(number, settings, self._packed, self._aliases, snapshot(self._engine), keys)

    def _ready(self, process: FrontendProcess) -> None:
        process.ready = True
        self._changed.set()
        if process.host is not None:
            process.host.send_snapshot(snapshot(self._engine))
        self._pass_pending()
        if self._stopping:
            process.send(STOP)

    def _on_lost(self, process: FrontendProcess) -> None:
        """Drop the work of a front-end that died, and start another in its place."""
        process.ready = False
        if process.host is not None:
            process.host.close()
        self._totals.add_departed(process.metrics)
        process.metrics = ()
        self._used(process, {})
        self._changed.set()
        if self._stopping:
            return
        if not self._started:
            process.error = process.error or NearfieldError(
                "A front-end exited before it could serve; its log says why."
            )
            return
        LOG.error("front-end %s died and is restarted: %s", process.number, process.error or "it was killed")
        self._spawn(self._replace(process))

    async def _replace(self, process: FrontendProcess) -> None:
        lived = time.monotonic() - process.started
        await asyncio.to_thread(process.stop)
        if lived < _SHORT_LIFE:
            await asyncio.sleep(_RESTART_PAUSE)
        if not self._stopping:
            restarted = self._processes[process.number] = FrontendProcess.start(process.number)
            await self._open(restarted)

    def _tick(self) -> None:
        """Send the engine's state to all front-ends when it has changed."""
        now = snapshot(self._engine)
        if now != self._sent:
            self._sent = now
            for process in self._processes:
                if process.host is not None and process.ready:
                    process.host.send_snapshot(now)
        self._loop.call_later(_TICK_SECONDS, self._tick)

    # -- connections -----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if not self._stopping:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Accept connections and pass them on."""
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _ = self._listening.accept()
            except ConnectionAbortedError:
                continue  # the client disconnected
            except BlockingIOError:
                return
            except OSError as error:
                self._accept_errors.add(error)
                self._pause()
                return
            if not self._pass(connection):
                self._pending.append(connection)
                self._pause()
                return

    def _pause(self) -> None:
        """Let connections wait in the kernel for a while."""
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_TICK_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pass_pending()
        if self._pending:
            self._loop.call_later(_TICK_SECONDS, self._resume)
        else:
            self._listen()

    def _pass(self, connection: socket.socket) -> bool:
        """Pass a connection to the front-end with the fewest; return whether one could take it."""
        now = time.monotonic()
        for process in sorted(
            (process for process in self._processes if process.ready), key=lambda process: process.rank(now)
        ):
            if process.send(CONNECTION, [connection]):
                connection.close()
                return True
        return False

    def _pass_pending(self) -> None:
        self._pending = [connection for connection in self._pending if not self._pass(connection)]

    # -- stopping --------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Let the front-ends read keys and certificates again."""
        for process in self._processes:
            if process.ready and process.channel is not None:
                process.channel.send("reload")

    def _interrupt(self) -> None:
        """Stop in order; at the second SIGINT at once."""
        if not self._stopping:
            self._stop()
            return
        for process in self._processes:
            process.process.kill()

    def _stop(self) -> None:
        """Refuse new connections, pass on those that wait, and let the front-ends finish."""
        if self._stopping:
            return
        self._stopping = True
        self._changed.set()
        self._on_stop()
        self._loop.remove_reader(self._listening)
        drop_new_connections(self._listening)
        self._pending += accept_pending(self._listening)
        remove_socket_file(self._listening)
        self._listening.close()
        self._spawn(self._finish())

    async def _finish(self) -> None:
        """Pass on the last connections, ask the front-ends to stop, and kill those that do not."""
        self._pass_pending()
        while self._pending and any(process.alive for process in self._processes):
            await asyncio.sleep(_TICK_SECONDS)
            self._pass_pending()
        for process in self._processes:
            if process.ready:
                process.send(STOP)
        await asyncio.sleep(self._settings.drain_timeout + _EXIT_TIMEOUT)
        for process in self._processes:
            process.process.kill()

    # -- shared state ----------------------------------------------------------------------------------------------

    def _others(self, process: FrontendProcess) -> list[Channel]:
        others = (other for other in self._processes if other is not process and other.ready)
        return [other.channel for other in others if other.channel is not None]

    def _spent(self, process: FrontendProcess, digest: bytes, rate: int, tokens: int) -> None:
        """Count a key's tokens here, for front-ends that start later, and in the other front-ends."""
        key = self._keys.get(digest)
        if key is None or key.tokens_per_minute != rate:
            previous, key = key, ApiKey("", digest, tokens_per_minute=rate)
            if previous is not None:
                key.copy_balance(previous)
            self._keys[digest] = key
        key.charge(tokens)
        for channel in self._others(process):
            channel.send("spent", digest, tokens)

    def _used(self, process: FrontendProcess, usage: Usages) -> None:
        """Send each front-end how much the others use the models."""
        process.usage = usage
        for other in self._processes:
            if other is not process and other.ready and other.channel is not None:
                other.channel.send("used", sum_usages([one.usage for one in self._processes if one is not other]))

    def _wake(self) -> None:
        """Let the first front-end look for work; one that is only starting looks by itself."""
        first = self._processes[0]
        if first.ready and first.channel is not None:
            first.channel.send("wake")

    async def _hold(self) -> bool:
        """Ask the first front-end whether it works on batches; if it has just died, its replacement."""
        until = time.monotonic() + self._settings.request_timeout
        while time.monotonic() < until:
            first = self._processes[0]
            if first.ready and first.channel is not None:
                with contextlib.suppress(ChannelClosed):
                    return bool(await first.channel.call("hold"))
            await asyncio.sleep(_TICK_SECONDS)
        raise ShuttingDown("The process that runs batches is being started.")

    async def _page(self) -> bytes:
        """Return the metrics of all processes; of one that does not answer, its last ones."""
        await asyncio.gather(*(self._measure(process) for process in self._processes))
        resident = memory_resident()
        metrics = self._counts.metrics()
        if resident is not None:
            metrics.append(
                GaugeMetricFamily("nearfield_process_resident_bytes", "Memory that the process takes.", resident)
            )
        return self._totals.page(
            metrics, {f"front-end {process.number}": process.metrics for process in self._processes}
        )

    async def _measure(self, process: FrontendProcess) -> None:
        if process.ready and process.channel is not None:
            with contextlib.suppress(ChannelClosed, asyncio.TimeoutError):
                process.metrics = await asyncio.wait_for(process.channel.call("metrics"), _METRICS_TIMEOUT)


def _log(error: Exception) -> None:
    """Log why an input failed, where that is known."""
    if not isinstance(error, NearfieldError) or error.__cause__ is not None:
        LOG.error("an input failed: %s", type(error).__name__, exc_info=error)
