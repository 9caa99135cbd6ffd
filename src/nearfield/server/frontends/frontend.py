"""Frontend: one of several processes that read and answer HTTP. It has all of a server but weights and lanes.

Its parent (see ``frontends``) hands it connections that it has accepted, and runs what is to be computed.
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
from nearfield.server.logs import configure_logging
from nearfield.server.models.model_pool import ModelEntry, ModelPool
from nearfield.server.server_state import ServerState
from nearfield.settings import Settings

Found = TypeVar("Found")
#: By a model's name: requests that it works for, those it has had, and when it was last used (``time.monotonic``).
Usages = dict[str, tuple[int, int, float]]
#: What comes through the door: a connection, or the word that none will follow.
CONNECTION, STOP = b"c", b"s"


@dataclass(frozen=True)
class FrontendConfig:
    """All that a front-end begins with. The first, number 0, works on the batches."""

    number: int
    settings: Settings
    models: bytes
    aliases: Mapping[str, Sequence[str]]
    engine: Snapshot
    #: What is known of keys with a rate: how much each has used.
    keys: Sequence[ApiKey]


def main(link: int, door: int) -> None:
    """Serve until told to stop; both are descriptors of connected sockets, of which the parent has the other ends."""
    # A signal to the whole group reaches the parent too, which stops all in order.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(run(_serve(socket.socket(fileno=link), socket.socket(fileno=door))))


async def _serve(end: socket.socket, door: socket.socket) -> int:
    link = await Channel.over(end)
    # Without its parent it can do nothing, nor would anybody end it.
    link.on_lost = lambda: os._exit(1)
    try:
        receiver, server = prepare(await link.ask("start"), link, door)
    except Exception as error:  # noqa: BLE001 - the parent says it to whoever started it
        await link.ask("failed", sendable(error))
        return 1
    await receiver.serve(sockets=[])
    server.close()
    if server.traces is not None:
        server.traces.close()
    await link.ask("done")
    return 0


def prepare(start: FrontendConfig, link: Channel, door: socket.socket) -> tuple[Receiver, ServerState]:
    """Make the app and what serves it. Raises what ``create_app`` does."""
    settings = start.settings
    configure_logging(settings.log_level, settings.log_format)
    engine = RemoteEngine(link, start.engine)
    shells = weightless.unpack_weightless(start.models, engine)
    engine.serve([model._model for model in shells])
    models = FixedModels(shells, start.aliases)
    app = create_app(settings, models, traces=open_traces(settings.otel_endpoint))
    server: ServerState = app.state.server
    _share(server, link, start)
    link.handlers["used"] = models.know
    gc.collect()
    gc.freeze()

    def on_start() -> None:
        server.start()
        link.tell("ready")

    receiver = Receiver(
        uvicorn_config(app, settings),
        door,
        link,
        models,
        on_start,
        server.stop,
        lambda: server.batches.stopped(settings.drain_timeout),
    )
    receiver.config.load()
    return receiver, server


def _share(server: ServerState, link: Channel, start: FrontendConfig) -> None:
    """Let this server's keys, metrics and batches be those of all front-ends."""
    server.keys.copy_balances(start.keys)
    server.keys.watch(lambda key, tokens: link.tell("spent", key.digest, key.tokens_per_minute, tokens))
    link.handlers["spent"] = server.keys.charge

    async def metrics() -> Any:
        return server.prometheus.metrics()

    async def hold() -> bool:
        return await server.batches.hold()

    link.answers |= {"metrics": metrics, "hold": hold}
    link.handlers["wake"] = server.batches.wake
    server.merged_metrics = lambda: _asked(link, "page")
    if start.number:
        server.batches.worker = _First(link)


async def _asked(link: Channel, kind: str) -> Any:
    try:
        return await link.ask(kind)
    except ChannelClosed as error:
        raise ShuttingDown("The server's main process is gone.") from error


def joined(usages: Sequence[Usages]) -> Usages:
    """Add up how much models are used by several processes."""
    found: Usages = {}
    for usage in usages:
        for name, (users, uses, used) in usage.items():
            known = found.get(name, (0, 0, 0.0))
            found[name] = (known[0] + users, known[1] + uses, max(known[2], used))
    return found


class _First:
    """The front-end that works on the batches, for the others."""

    def __init__(self, link: Channel) -> None:
        self._link = link

    def wake(self) -> None:
        """Have it look for work."""
        self._link.tell("wake")

    async def hold(self) -> bool:
        """Say whether it may work."""
        return bool(await _asked(self._link, "hold"))


class FixedModels(ModelPool):
    """Models that stay: their weights are another process's, and other front-ends use them too."""

    def __init__(self, loaded: Sequence[LoadedModel], aliases: Mapping[str, Sequence[str]]) -> None:
        super().__init__(loaded, aliases)
        self._others: Usages = {}

    @property
    def slots(self) -> tuple[ModelEntry, ...]:
        """All models, used as much as by all front-ends."""
        return tuple(self._whole(slot) for slot in super().slots)

    @property
    def listed(self) -> tuple[ModelEntry, ...]:
        """The same: all were named at the start."""
        return self.slots

    @property
    def usage(self) -> Usages:
        """How much they are used here."""
        return {slot.name: (slot.users, slot.uses, slot.used) for slot in super().slots}

    def know(self, others: Usages) -> None:
        """Keep how much the other front-ends use them."""
        self._others = others

    def _whole(self, slot: ModelEntry) -> ModelEntry:
        users, uses, used = self._others.get(slot.name, (0, 0, 0.0))
        return replace(slot, users=slot.users + users, uses=slot.uses + uses, used=max(slot.used, used))

    async def unload(self, name: str, allowed: Callable[[str], bool] = lambda _: True) -> ModelEntry:  # noqa: ARG002
        """Refuse.

        Raises:
            ModelNotFound: it is not served.
            InputError: models stay as they were when the server was started.
        """
        raise InputError(
            f"{self.slot(name).name} stays: with several front-ends (frontends) models are those of the start. "
            "Restart the server with others, or with one front-end.",
            param="model",
        )


class Receiver(Listener):
    """uvicorn for connections that the parent has accepted; it stops when the parent says that none will follow."""

    def __init__(
        self, config: uvicorn.Config, door: socket.socket, link: Channel, models: FixedModels, *given: Any
    ) -> None:
        super().__init__(config, door, *given)
        self._door = door
        self._door.setblocking(False)
        self._link = link
        self._models = models
        self._taken = 0
        self._told = (0, 0)
        self._usage: Usages = {}
        self._opening: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: they are the parent's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the door, then say so."""
        asyncio.get_running_loop().add_reader(self._door, self._take)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second tell the parent how many connections are open here, and how much models are used."""
        load = (self._taken, len(self.server_state.connections) + len(self._opening))
        if load != self._told:
            self._link.tell("load", *load)
            self._told = load
        usage = self._models.usage
        if usage != self._usage:
            self._link.tell("used", usage)
            self._usage = usage
        return await super().on_tick(counter)

    async def _stop_listening(self) -> None:
        """The parent has stopped; take in what it had accepted."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _take(self) -> None:
        """Take the connections that wait behind the door."""
        while True:
            try:
                word, handed, _, _ = socket.recv_fds(self._door, 1, 1)
            except BlockingIOError:
                return
            if word != CONNECTION:
                asyncio.get_running_loop().remove_reader(self._door)
                self.should_exit = True
                return
            for number in handed:
                self._taken += 1
                task = asyncio.get_running_loop().create_task(self._open(socket.socket(fileno=number)))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # its client has left, or speaks no TLS
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)


def run(work: Coroutine[Any, Any, Found]) -> Found:
    """Run a coroutine on the event loop that uvicorn would make."""
    factory: Any = uvicorn.Config(lambda *_: None, lifespan="off", log_config=None).get_loop_factory()
    loop: asyncio.AbstractEventLoop = (factory or asyncio.new_event_loop)()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
