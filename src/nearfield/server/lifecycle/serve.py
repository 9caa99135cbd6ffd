"""``nearfield serve``: load the models, listen, and shut down without losing a request."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from nearfield.devices import count_copies
from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine
from nearfield.errors import SettingsError
from nearfield.hardware import memory_limit
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server import rpc
from nearfield.server.app import create_app, open_traces
from nearfield.server.http.connection_limit import ConnectionLimit, raise_file_limit
from nearfield.server.http.limits import max_cache_bytes
from nearfield.server.lifecycle.discovery import DiscoveryFile
from nearfield.server.lifecycle.exit_timer import ExitTimer
from nearfield.server.lifecycle.listener import Listener, bind, check_grpc_port, remove_socket_file, uvicorn_config
from nearfield.server.lifecycle.model_loading import load_models, model_aliases
from nearfield.server.lifecycle.preflight import check_settings, reload_certificate
from nearfield.server.lifecycle.signals import SignalHandlers, ignore_early_signals
from nearfield.server.logs import LOG, configure_logging
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.server_state import ServerState
from nearfield.settings import Settings
from nearfield.units import format_bytes

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces
    from nearfield.server.rpc.listener import GrpcListener

_LOOPBACK = ("127.", "localhost", "::1")


def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT, then finish the accepted requests.

    ``announce`` is called with one line once requests are accepted.

    Raises:
        SettingsError: the address is in use, or does not belong to this machine; or a file or folder that a setting
            names cannot be used.
        ModelNotFound, SourceUnavailable, ModelRefused: a model cannot be loaded.
        MissingExtra: traces or gRPC are configured, and their libraries are not installed.
    """
    configure_logging(settings.log_level, settings.log_format)
    ignore_early_signals()
    check_settings(settings)
    if settings.grpc_port is not None:
        rpc.load()
    traces = open_traces(settings.otel_endpoint)
    try:
        with bind(settings) as listening:
            exit_timer, discovery = ExitTimer(partial(remove_socket_file, listening)), DiscoveryFile(settings)
            try:
                check_grpc_port(settings)
                _serve_on(listening, settings, announce, traces, exit_timer, discovery)
            finally:
                discovery.remove()
                remove_socket_file(listening)
                exit_timer.stop()
    finally:
        if traces is not None:
            traces.close()


def _serve_on(
    listening: socket.socket,
    settings: Settings,
    announce: Callable[[str], None],
    traces: Traces | None,
    exit_timer: ExitTimer,
    discovery: DiscoveryFile,
) -> None:
    started = time.perf_counter()
    files = raise_file_limit()
    engine, models = _open_models(settings)
    loaded = list(models.loaded)
    app = create_app(settings, models, traces=traces)
    warn_if_open(settings)
    log_connection_limit(app.state.server.connections, files)
    warn_if_memory_is_short(settings)
    seconds = time.perf_counter() - started
    address = listening_address(listening, settings)
    line = partial(ready_line, address, loaded, seconds)
    # Loaded models stay for the life of the process: the garbage collector need not scan them at every full collection.
    gc.collect()
    gc.freeze()
    # uvicorn raises a signal again once it has shut down; by then all work is done, and that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server: ServerState = app.state.server
    grpc_listeners: list[GrpcListener] = []

    def reload() -> None:
        keys = server.keys.reload()
        LOG.info("SIGHUP: %s, %s", keys, reload_certificate(listener.config.ssl, settings))

    def stop() -> None:
        listener.should_exit = True

    async def on_start() -> None:
        SignalHandlers(reload, stop).install()
        server.start()
        discovery.write(address, loaded)
        if settings.grpc_port is None:
            announce(line())
            return
        grpc_listeners.append(rpc.load()(server, settings))
        announce(line(grpc=await grpc_listeners[0].start(settings.host)))

    def on_stop() -> None:
        exit_timer.start(settings.drain_timeout)
        discovery.remove()
        server.stop()

    async def finish() -> None:
        await asyncio.gather(
            server.batches.stopped(settings.drain_timeout),
            *(listener.stop(settings.drain_timeout) for listener in grpc_listeners),
        )

    listener = Listener(uvicorn_config(app, settings), listening, on_start, on_stop, finish)
    listener.run([listening])
    engine.close(timeout=0.0 if listener.force_exit else exit_timer.left(settings.drain_timeout))
    server.close()


def _open_models(settings: Settings) -> tuple[Engine, ModelPool]:
    engine, loader, loaded = load_models(settings)
    check_budget(settings.memory_budget, loaded)
    models = ModelPool(
        loaded,
        model_aliases(loaded, settings),
        loader=loader,
        on_demand=settings.on_demand,
        budget=settings.memory_budget,
        keep_alive=settings.keep_alive,
        copies=count_copies(settings.devices or ()),
    )
    return engine, models


def check_budget(budget: int | None, loaded: Sequence[LoadedModel]) -> None:
    """Check that the models that are never evicted leave something of ``memory_budget``.

    Raises:
        SettingsError: they are larger.
    """
    used = sum(model.bytes or 0 for model in loaded)
    if budget is not None and used > budget:
        raise SettingsError(
            f"Setting 'memory_budget' is {format_bytes(budget, budget)}, but the models that are loaded at the start "
            f"take {format_bytes(used, budget)}. Raise it, or name models in on_demand instead."
        )


def warn_if_memory_is_short(settings: Settings) -> None:
    """Log a warning if requests and cached results may take more memory than the limit of the process leaves."""
    limit = memory_limit()
    bodies = 4 * settings.max_body_bytes
    needed = bodies + settings.max_reply_bytes + max_cache_bytes(settings.cache_memory, limit)
    if limit is None or limit.cause == "machine" or limit.available >= needed:
        return
    LOG.warning(
        "Of the %s that this process may take (%s), %s are free, but bodies, replies and cached results may take "
        "%s: large requests then get 503. Raise the limit, or lower max_body_bytes (times 4), max_reply_bytes and "
        "cache_memory.",
        format_bytes(limit.bytes, limit.bytes),
        limit.cause,
        format_bytes(limit.available, limit.bytes),
        format_bytes(needed, limit.bytes),
    )


def log_connection_limit(limit: ConnectionLimit, files: int | None) -> None:
    """Log how many connections are accepted, and what limits them."""
    LOG.info("up to %s connections (limit of open files: %s)", limit.max_connections, files or "none")


def listening_address(listening: socket.socket, settings: Settings) -> str:
    """Return the URL, or the Unix socket, that a socket listens on."""
    if settings.uds is not None:
        return f"unix:{settings.uds}"
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_cert is not None else 'http'}://{host}:{port}/v1"


def ready_line(address: str, loaded: Sequence[LoadedModel], seconds: float, grpc: str | None = None) -> str:
    """Return the line that is printed once requests are accepted."""
    models = ", ".join(
        f"{model.name} ({_output_summary(model)}, {model.precision}{_on_devices(model)})" for model in loaded
    )
    also = f" and over gRPC (TEI) at {grpc}" if grpc is not None else ""
    return (
        f"Nearfield serves {models or 'models on demand'} at {address}{also} (ready in {seconds:.1f} s; docs at /docs, "
        "console at /console)"
    )


def _on_devices(model: LoadedModel) -> str:
    """Return the devices of a model with several, or with a set of CPUs."""
    return "" if len(model.devices) == 1 and ":" not in model.devices[0] else f", on {', '.join(model.devices)}"


def _output_summary(model: LoadedModel) -> str:
    if isinstance(model, Encoder) and model.dimensions:
        return f"{model.dimensions} dimensions"
    return ", ".join(model.recipe.outputs)


def warn_if_open(settings: Settings) -> None:
    """Log a warning if the server can be reached from other machines without an API key."""
    local = settings.uds is not None or settings.host.startswith(_LOOPBACK)
    if not local and not settings.api_keys and settings.api_key_file is None:
        LOG.warning("Listening on %s without API keys: everybody who reaches it may use it.", settings.host)
