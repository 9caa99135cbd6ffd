"""Run: load the models, listen, and shut down without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import signal
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from nearfield import catalog
from nearfield.auto import load
from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine, EngineLimits
from nearfield.errors import SettingsError
from nearfield.hardware import plan_cpu
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server import rpc
from nearfield.server.app import create_app, open_traces
from nearfield.server.lifecycle.http_protocol import TimedHttpProtocol, sweep
from nearfield.server.logs import LOG, configure
from nearfield.server.models.model_pool import ModelPool
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces
    from nearfield.server.rpc.listener import GrpcListener

#: Seconds that open connections get to finish and be closed from their client's side.
_GRACE = 1.0
#: Of Linux's asm-generic/socket.h; Python does not name it.
_SO_ATTACH_FILTER = 26
_LOOPBACK = ("127.", "localhost", "::1")


class Listener(uvicorn.Server):
    """uvicorn, which on a signal first stops listening and lets open connections end by themselves."""

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        on_start: Callable[[], Awaitable[None] | None],
        on_stop: Callable[[], None],
        finish: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._on_start = on_start
        self._on_stop = on_stop
        self._finish = finish

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and only then say so: from here on a signal is a shutdown in good order."""
        await super().startup(sockets)
        started = self._on_start()
        if started is not None:
            await started

    async def on_tick(self, counter: int) -> bool:
        """Once a second close what keeps us waiting: a timer for each request would cost more."""
        if counter % 10 == 0:
            sweep(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new connections, answer what the open ones send, then close them."""
        self._on_stop()
        await self._stop_listening()
        waits = [self._let_them_leave()] if self._finish is None else [self._let_them_leave(), self._finish()]
        await asyncio.gather(*waits)
        await super().shutdown(sockets)

    async def _let_them_leave(self) -> None:
        """Wait while connections are in use: each leaves with its next reply, and one closed before would lose it.

        Those that have been silent for a while are left to uvicorn, which closes them.
        """
        started = time.monotonic()
        longest = float(self.config.timeout_graceful_shutdown or _GRACE)
        while self.server_state.connections and (passed := time.monotonic() - started) < longest:
            used = any(
                isinstance(each, TimedHttpProtocol) and each.in_use(time.monotonic())
                for each in self.server_state.connections
            )
            if passed > _GRACE and not used:
                return
            await asyncio.sleep(0.02)

    async def _stop_listening(self) -> None:
        """Take in the connections that the kernel has accepted already: closing the socket would reset them.

        Nothing is awaited between the first and the close: clients whose replies went out meanwhile would come again,
        and there would be no end to it.
        """
        with self._listening.dup() as spare:
            spare.setblocking(False)
            refuse_new(spare)
            for server in self.servers:
                server.close()
            self._listening.close()
            taken = list(waiting(spare))
        for connection in taken:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def refuse_new(listening: socket.socket) -> None:
    """Have the kernel, where it can, drop what opens connections: some came between the last accept and the close.

    It is a filter of four steps (Linux, socket(7)): load the byte of TCP flags; if SYN is set, take none of the packet;
    else take it whole. Clients so ignored try again after a second, and are then refused, or reach the next server.
    """
    if sys.platform != "linux":
        return
    steps = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    with contextlib.suppress(OSError):  # some sandboxes have no filters
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(steps), ctypes.addressof(program))
        )


def waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that wait, up to the last."""
    while True:
        try:
            yield listening.accept()[0]
        except ConnectionAbortedError:
            continue  # its client has left
        except OSError:
            return  # none waits any more, or the process may open no further files


def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was accepted.

    Raises:
        SettingsError: the address is taken or not ours.
        ModelNotFound, SourceUnavailable, ModelRefused: a model cannot be loaded.
        MissingExtra: traces or gRPC are asked for, and what they need is not installed.
    """
    configure(settings.log_level, settings.log_format)
    if settings.grpc_port is not None:
        rpc.load()
    traces = open_traces(settings.otel_endpoint)
    try:
        with bind(settings) as listening:
            _check_free(settings)
            _serve_on(listening, settings, announce, traces)
    finally:
        if traces is not None:
            traces.close()


def _serve_on(
    listening: socket.socket, settings: Settings, announce: Callable[[str], None], traces: Traces | None = None
) -> None:
    started = time.perf_counter()
    engine, loader, loaded = load_models(settings)
    models = ModelPool(
        loaded,
        aliases(loaded, settings),
        loader=loader,
        on_demand=settings.on_demand,
        budget=settings.memory_budget,
        keep_alive=settings.keep_alive,
    )
    app = create_app(settings, models, traces=traces)
    warn(settings)
    seconds = time.perf_counter() - started
    address = listening.getsockname()
    line = partial(ready_line, address[0], address[1], loaded, seconds, settings.tls_cert is not None)
    # What is loaded stays for good: the collector need not walk it again at every full collection.
    gc.collect()
    gc.freeze()
    # uvicorn raises a signal again once it is done; the work being done, that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = app.state.server
    ports: list[GrpcListener] = []

    async def on_start() -> None:
        server.start()
        if settings.grpc_port is None:
            announce(line())
            return
        ports.append(rpc.load()(server, settings))
        announce(line(grpc=await ports[0].start(address[0])))

    async def finish() -> None:
        waits = (server.batches.stopped(settings.drain_timeout), *(port.stop(settings.drain_timeout) for port in ports))
        await asyncio.gather(*waits)

    Listener(configuration(app, settings), listening, on_start, server.stop, finish).run([listening])
    engine.close(timeout=settings.drain_timeout)
    server.close()


def load_models(settings: Settings) -> tuple[Engine, Loader, list[LoadedModel]]:
    """Make the engine, and load the models that are served from the start. Raises as ``serve`` does."""
    cpu = plan_cpu(settings.threads, settings.streams)
    engine = Engine(cpu.streams, EngineLimits(max_queued_tokens=settings.max_queued_tokens))
    loader = Loader(settings, engine)
    return engine, loader, list({model.name: model for model in map(loader, settings.models)}.values())


def configuration(app: Any, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn is to run the app."""
    return uvicorn.Config(
        app,
        http=TimedHttpProtocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )


def bind(settings: Settings) -> socket.socket:
    """Listen where the settings say.

    Raises:
        SettingsError: the address is taken or not ours.
    """
    return _listen(settings.host, settings.port, "--port")


def _check_free(settings: Settings) -> None:
    """Find out before the models are loaded whether gRPC, which opens its port itself, can have it."""
    if settings.grpc_port:
        _listen(settings.host, settings.grpc_port, "--grpc-port").close()


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(4096)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another {flag} or --host."
        ) from error
    listening.setblocking(False)
    return listening


class Loader:
    """Loads models as the settings say, those for the one model included."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._options = {
            "engine": engine,
            "progress": True,
            "precision": settings.precision,
            "backend": settings.backend,
            "threads": settings.threads,
            "streams": settings.streams,
        }
        self._own = {_full(name): given for name, given in settings.model_settings.items()}

    def __call__(self, name: str) -> LoadedModel:
        """Load the model of a name. Raises as ``nearfield.load`` does."""
        accepted = bool({"1", name} & set(self._settings.accept_license))
        model = load(name, **{**self._options, "accept_license": accepted, **self._own.get(_full(name), {})})
        for warning in model.recipe.warnings:
            LOG.warning("%s: %s", model.name, warning)
        return model


def _full(name: str) -> str:
    entry = catalog.find(name)
    return (entry.id if entry is not None else name).lower()


def aliases(loaded: Sequence[LoadedModel], settings: Settings) -> dict[str, list[str]]:
    """Return further names by full id: what a model was asked for by, the catalogue's, the settings'."""
    found = {model.name: list(entry.names) if (entry := catalog.find(model.name)) else [] for model in loaded}
    for name in settings.models:
        entry = catalog.find(name)
        if entry is None and len(loaded) == 1:
            found[loaded[0].name].append(name)
    for alias, name in settings.aliases.items():
        entry = catalog.find(name)
        full = entry.id if entry is not None else name
        found.setdefault(_meant(full, found) or full, []).append(alias)
    return found


def _meant(name: str, names: Mapping[str, Sequence[str]]) -> str | None:
    """Return the full id of the loaded model that has a name."""
    key = name.lower()
    return next(
        (
            full
            for full, others in names.items()
            if key in {each.lower() for each in (full, full.rpartition("/")[2], *others)}
        ),
        None,
    )


def ready_line(
    host: str, port: int, loaded: Sequence[LoadedModel], seconds: float, tls: bool, grpc: str | None = None
) -> str:
    """Return what is announced once requests are taken."""
    models = ", ".join(f"{each.name} ({_gives(each)}, {each.precision})" for each in loaded) or "models on demand"
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if tls else "http"
    also = f" and over gRPC (TEI) at {grpc}" if grpc is not None else ""
    return f"Nearfield serves {models} at {scheme}://{shown}:{port}/v1{also} (ready in {seconds:.1f} s; docs at /docs)"


def _gives(model: LoadedModel) -> str:
    if isinstance(model, Encoder) and model.dimensions:
        return f"{model.dimensions} dimensions"
    return ", ".join(model.recipe.outputs)


def warn(settings: Settings) -> None:
    """Say in the log what whoever runs the server should know."""
    if not settings.host.startswith(_LOOPBACK) and not settings.api_keys and settings.api_key_file is None:
        LOG.warning("Listening on %s without API keys: everybody who reaches it may use it.", settings.host)
