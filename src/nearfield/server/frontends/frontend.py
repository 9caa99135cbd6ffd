"""A front-end: one of several processes that read and answer HTTP. It is a whole server but for weights and lanes.

Its parent (see ``supervisor``) passes accepted connections to it and runs the models.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import uvicorn

from nearfield.engine.ipc.remote_engine import RemoteEngine, Snapshot
from nearfield.engine.ipc.transport import Channel, ChannelClosed, sendable
from nearfield.errors import InputError, ShuttingDown
from nearfield.inference import weightless
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.app import create_app, open_traces
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.lifecycle.listener import Listener, uvicorn_config
from nearfield.server.lifecycle.preflight import reload_certificate
from nearfield.server.logs import LOG, configure_logging
from nearfield.server.models.model_entry import ModelEntry
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.server_state import ServerState
from nearfield.settings import Settings

Result = TypeVar("Result")
#: By a model's name: requests in work, requests so far, and when it was last used (``time.monotonic``).
Usages = dict[str, tuple[int, int, float]]
#: Messages of the parent with the connection socket: here is a connection, or none will follow.
CONNECTION, STOP = b"c", b"s"
_PARENT_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class FrontendConfig:
    """What a front-end starts with. The first, number 0, runs the batches."""

    number: int
    settings: Settings
    models: bytes
    aliases: Mapping[str, Sequence[str]]
    engine: Snapshot
    #: Keys with a rate limit, and how much each has used.
    keys: Sequence[ApiKey]


def main(channel: int, connections: int) -> None:
    """Serve until asked to stop. Both arguments are descriptors of sockets that are connected to the parent."""
    # A signal to the whole process group reaches the parent too, which stops all in order.
    for number in _PARENT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(run(_serve(socket.socket(fileno=channel), socket.socket(fileno=connections))))


async def _serve(end: socket.socket, connections: socket.socket) -> int:
    channel = await Channel.over(end)
    # Without its parent it can do nothing, and nothing else would end it.
    channel.on_lost = lambda: os._exit(1)
    try:
        receiver, server = prepare(await channel.call("start"), channel, connections)
    except Exception as error:  # noqa: BLE001 - the parent reports it
        await channel.call("failed", sendable(error))
        return 1
    await receiver.serve(sockets=[])
    server.close()
    if server.traces is not None:
        server.traces.close()
    await channel.call("done")
    return 0


def prepare(config: FrontendConfig, channel: Channel, connections: socket.socket) -> tuple[Receiver, ServerState]:
    """Create the app and the receiver that serves it. Raises what ``create_app`` does."""
    settings = config.settings
    configure_logging(settings.log_level, settings.log_format)
    engine = RemoteEngine(channel, config.engine)
    loaded = weightless.unpack_weightless(config.models, engine)
    engine.serve([runner for model in loaded for runner in model.runners])
    models = FixedModels(loaded, config.aliases)
    app = create_app(settings, models, traces=open_traces(settings.otel_endpoint))
    server: ServerState = app.state.server
    _share(server, channel, config)
    channel.handlers["used"] = models.update_others
    gc.collect()
    gc.freeze()

    def on_start() -> None:
        server.start()
        channel.send("ready")

    receiver = Receiver(
        uvicorn_config(app, settings),
        connections,
        channel,
        models,
        on_start,
        server.stop,
        lambda: server.batches.stopped(settings.drain_timeout),
    )
    receiver.config.load()

    def reload() -> None:
        keys = server.keys.reload()
        LOG.info("front-end %s: %s, %s", config.number, keys, reload_certificate(receiver.config.ssl, settings))

    channel.handlers["reload"] = reload
    return receiver, server


def _share(server: ServerState, channel: Channel, config: FrontendConfig) -> None:
    """Share this server's keys, metrics and batches with all front-ends."""
    server.keys.copy_balances(config.keys)
    server.keys.watch(lambda key, tokens: channel.send("spent", key.digest, key.tokens_per_minute, tokens))
    channel.handlers["spent"] = server.keys.charge

    async def metrics() -> Any:
        return server.prometheus.metrics()

    async def hold() -> bool:
        return await server.batches.hold()

    channel.call_handlers |= {"metrics": metrics, "hold": hold}
    channel.handlers["wake"] = server.batches.wake
    server.merged_metrics = lambda: _ask_parent(channel, "page")
    server.history = _SharedHistory(channel)
    if config.number:
        server.batches.worker = _BatchFrontend(channel)


async def _ask_parent(channel: Channel, kind: str, *values: object) -> Any:
    try:
        return await channel.call(kind, *values)
    except ChannelClosed as error:
        raise ShuttingDown("The server's main process is gone.") from error


def sum_usages(usages: Sequence[Usages]) -> Usages:
    """Add up how much models are used by several processes."""
    total: Usages = {}
    for usage in usages:
        for name, (users, uses, used) in usage.items():
            known = total.get(name, (0, 0, 0.0))
            total[name] = (known[0] + users, known[1] + uses, max(known[2], used))
    return total


class _BatchFrontend:
    """The front-end that runs the batches, as the others see it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def wake(self) -> None:
        """Let it look for work."""
        self._channel.send("wake")

    async def hold(self) -> bool:
        """Return whether it works on batches."""
        return bool(await _ask_parent(self._channel, "hold"))


class _SharedHistory:
    """The figures that the main process stores of all front-ends."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def start(self) -> None:
        """Do nothing: the main process began by itself."""

    def stop(self) -> None:
        """Do nothing: the main process ends by itself."""

    async def after(self, at: float) -> list[bytes]:
        """Return the points later than a time."""
        points: list[bytes] = await _ask_parent(self._channel, "history", at)
        return points


class FixedModels(ModelPool):
    """Models that can be neither loaded nor unloaded: another process has their weights."""

    def __init__(self, loaded: Sequence[LoadedModel], aliases: Mapping[str, Sequence[str]]) -> None:
        super().__init__(loaded, aliases)
        self._others: Usages = {}

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        """All models, with their usage by all front-ends."""
        return tuple(self._whole(entry) for entry in super().entries)

    @property
    def listed(self) -> tuple[ModelEntry, ...]:
        """The same as ``entries``: all models were named at the start."""
        return self.entries

    @property
    def usage(self) -> Usages:
        """How much the models are used by this front-end."""
        return {entry.name: (entry.users, entry.uses, entry.last_used) for entry in super().entries}

    def update_others(self, others: Usages) -> None:
        """Record how much the other front-ends use the models."""
        self._others = others

    def _whole(self, entry: ModelEntry) -> ModelEntry:
        users, uses, used = self._others.get(entry.name, (0, 0, 0.0))
        return replace(entry, users=entry.users + users, uses=entry.uses + uses, last_used=max(entry.last_used, used))

    async def unload(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> ModelEntry:  # noqa: ARG002
        """Refuse to unload.

        Raises:
            ModelNotFound: the model is not served.
            InputError: models are fixed when the server starts.
        """
        raise InputError(
            f"{self.entry(name).name} cannot be unloaded: with several front-ends (frontends) models are fixed. "
            "Restart the server with other models, or with one front-end.",
            param="model",
        )


class Receiver(Listener):
    """uvicorn for connections that the parent has accepted; it stops when the parent sends that none will follow."""

    def __init__(
        self, config: uvicorn.Config, connections: socket.socket, channel: Channel, models: FixedModels, *options: Any
    ) -> None:
        super().__init__(config, connections, *options)
        self._connections = connections
        self._connections.setblocking(False)
        self._channel = channel
        self._models = models
        self._accepted = 0
        self._sent_load = (0, 0)
        self._usage: Usages = {}
        self._opening: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: signals are the parent's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Read passed connections from now on, then report ready."""
        asyncio.get_running_loop().add_reader(self._connections, self._receive)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second report the number of open connections and the usage of models to the parent."""
        load = (self._accepted, len(self.server_state.connections) + len(self._opening))
        if load != self._sent_load:
            self._channel.send("load", *load)
            self._sent_load = load
        usage = self._models.usage
        if usage != self._usage:
            self._channel.send("used", usage)
            self._usage = usage
        return await super().on_tick(counter)

    async def _stop_listening(self) -> None:
        """The parent has stopped listening; wait for connections that are being opened."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _receive(self) -> None:
        """Receive passed connections."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._connections, 1, 1)
            except BlockingIOError:
                return
            if message != CONNECTION:
                asyncio.get_running_loop().remove_reader(self._connections)
                self.should_exit = True
                return
            for number in descriptors:
                self._accepted += 1
                task = asyncio.get_running_loop().create_task(self._open(socket.socket(fileno=number)))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # the client disconnected, or speaks no TLS
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on the event loop that uvicorn would create."""
    factory: Any = uvicorn.Config(lambda *_: None, lifespan="off", log_config=None).get_loop_factory()
    loop: asyncio.AbstractEventLoop = (factory or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
