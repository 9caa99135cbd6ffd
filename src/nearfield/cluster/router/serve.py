"""``nearfield route``: listen, forward requests to the back-ends, and shut down without losing one."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from nearfield.cluster.router.backends.membership import BackendSet
from nearfield.cluster.router.router_app import create_router_app
from nearfield.cluster.router.router_settings import RouterSettings
from nearfield.cluster.router.router_state import RouterState
from nearfield.server.app import open_traces
from nearfield.server.http.connection_limit import raise_file_limit
from nearfield.server.lifecycle.exit_timer import ExitTimer
from nearfield.server.lifecycle.listener import Listener, bind, remove_socket_file, uvicorn_config
from nearfield.server.lifecycle.preflight import check_listener_settings, reload_certificate
from nearfield.server.lifecycle.serve import listening_address, log_connection_limit
from nearfield.server.lifecycle.signals import SignalHandlers, ignore_early_signals
from nearfield.server.logs import LOG, configure_logging
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces


def route(options: RouterSettings, announce: Callable[[str], None] = print) -> None:
    """Route until SIGTERM or SIGINT, then finish the accepted requests.

    ``announce`` is called with one line once requests are accepted.

    Raises:
        SettingsError: there is no back-end, an address or a file is wrong, or the router's address is in use.
        MissingExtra: traces are configured, and OpenTelemetry is not installed.
    """
    settings = options.listener_settings()
    configure_logging(settings.log_level, settings.log_format)
    ignore_early_signals()
    check_listener_settings(settings)
    backends = BackendSet(options.addresses, options.backends_file, options.home_address, ca_file=options.ca_file)
    traces = open_traces(settings.otel_endpoint)
    try:
        with bind(settings) as listening:
            exit_timer = ExitTimer(partial(remove_socket_file, listening))
            try:
                _route_on(listening, options, backends, announce, traces, exit_timer)
            finally:
                remove_socket_file(listening)
                exit_timer.stop()
    finally:
        if traces is not None:
            traces.close()


def _route_on(
    listening: socket.socket,
    options: RouterSettings,
    backends: BackendSet,
    announce: Callable[[str], None],
    traces: Traces | None,
    exit_timer: ExitTimer,
) -> None:
    settings, files = options.listener_settings(), raise_file_limit()
    router = RouterState.create(settings, backends, options.reply_timeout, traces)
    log_connection_limit(router.connections, files)
    line = partial(_ready_line, listening_address(listening, settings), backends)
    # uvicorn raises a signal again once it has shut down; by then all work is done, and that is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def on_stop() -> None:
        exit_timer.start(settings.drain_timeout)
        router.stop()

    listener = router_listener(router, listening, settings, lambda: announce(line()), on_stop)
    listener.run([listening])


def router_listener(
    router: RouterState,
    listening: socket.socket,
    settings: Settings,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None],
) -> Listener:
    """Return the listener of a router; ``on_ready`` is called once each back-end was asked, ``on_stop`` at the end."""

    async def on_start() -> None:
        SignalHandlers(reload, stop).install()
        router.loop_lag.start()
        await router.backends.start()
        on_ready()

    def reload() -> None:
        LOG.info(
            "SIGHUP: %s, %s, %s",
            router.backends.reload(),
            router.keys.reload(),
            reload_certificate(listener.config.ssl, settings),
        )

    def stop() -> None:
        listener.should_exit = True

    app = create_router_app(router, settings)
    config = uvicorn_config(app, settings, router.connections)
    listener = Listener(config, listening, on_start, on_stop, router.backends.stop)
    return listener


def _ready_line(address: str, backends: BackendSet) -> str:
    """Return the line that is printed once requests are accepted."""
    up = sum(backend.up for backend in backends.all)
    return f"Nearfield routes {address} to {len(backends.all)} servers ({up} up)"
