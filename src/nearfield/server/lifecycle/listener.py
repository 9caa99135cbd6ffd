"""The listening socket and uvicorn on it: binding, configuration, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import stat
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from nearfield.errors import SettingsError
from nearfield.server.http.connection_limit import ConnectionLimit
from nearfield.server.lifecycle.http_protocol import TimedHttpProtocol
from nearfield.server.lifecycle.protocol_factory import ProtocolFactory
from nearfield.settings import Settings

#: Seconds that open connections get to finish and be closed by their clients.
_GRACE_SECONDS = 1.0
#: Seconds between two looks at whether a second SIGINT ends the shutdown.
_FORCE_CHECK_SECONDS = 0.1
#: Of Linux's asm-generic/socket.h; Python has no name for it.
_SO_ATTACH_FILTER = 26
#: Of Linux's tcp.h. The kernel takes no further bytes of a reply while this many wait to be sent: it would take
#: megabytes for a client that does not read, and progress would be seen late.
_TCP_NOTSENT_LOWAT, _UNSENT_BYTES = 25, 131_072
#: Seconds after which a connection without a request is closed.
KEEP_ALIVE_SECONDS = 75
#: Permissions of a Unix socket: its owner and group may connect.
_SOCKET_MODE = 0o660


#: None on systems without Unix sockets.
_AF_UNIX: Any = getattr(socket, "AF_UNIX", None)


class Listener(uvicorn.Server):
    """uvicorn's server. On a signal it first stops listening and lets open connections finish.

    Args:
        config: how uvicorn runs the application.
        listening: the listening socket.
        on_start: called once requests are accepted; may be a coroutine function.
        on_stop: called when the shutdown begins.
        finish: awaited during the shutdown, beside the open connections.
    """

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
        self._limit: ConnectionLimit = cast(ProtocolFactory, config.http).limit
        self._on_start = on_start
        self._on_stop = on_stop
        self._finish = finish

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call ``on_start``: from here on a signal leads to an orderly shutdown."""
        if sockets and self._listening.family == _AF_UNIX:
            await super().startup([])
            loop = asyncio.get_running_loop()
            self.servers.append(
                await loop.create_unix_server(self._protocol, sock=self._listening.dup(), ssl=self.config.ssl)
            )
        else:
            await super().startup(sockets)
        started = self._on_start()
        if started is not None:
            await started

    async def on_tick(self, counter: int) -> bool:
        """Once a second close idle and slow connections; a timer per request would cost more."""
        if counter % 10 == 0:
            self._limit.sweep(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new connections, answer the requests of open ones, then close them."""
        self._on_stop()
        await self._stop_listening()
        waits = [self._drain_connections()]
        if self._finish is not None:
            waits.append(self._finish())  # type: ignore[arg-type]
        started = time.monotonic()
        await self._wait_unless_forced(asyncio.gather(*waits))
        if self.config.timeout_graceful_shutdown is not None:
            left = self.config.timeout_graceful_shutdown - (time.monotonic() - started)
            self.config.timeout_graceful_shutdown = max(1, round(left))
        await super().shutdown(sockets)

    async def _wait_unless_forced(self, work: asyncio.Future[Any]) -> None:
        """Wait for work; a second SIGINT cancels it."""
        while not work.done() and not self.force_exit:
            await asyncio.wait([work], timeout=_FORCE_CHECK_SECONDS)
        if not work.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _drain_connections(self) -> None:
        """Wait while connections are in use. Each is closed with its next response; closing it earlier could lose one.

        uvicorn closes those that have been silent for a while.
        """
        started = swept = time.monotonic()
        max_seconds = float(self.config.timeout_graceful_shutdown or _GRACE_SECONDS)
        while self.server_state.connections and (passed := time.monotonic() - started) < max_seconds:
            in_use = any(
                isinstance(connection, TimedHttpProtocol) and connection.in_use(time.monotonic())
                for connection in self.server_state.connections
            )
            if passed > _GRACE_SECONDS and not in_use:
                return
            if time.monotonic() - swept > 1.0:
                swept = time.monotonic()
                self._limit.sweep(self.server_state.connections)
            await asyncio.sleep(0.02)

    async def _stop_listening(self) -> None:
        """Accept the connections that the kernel has already completed: closing the socket would reset them.

        Nothing is awaited between the first accept and the close. Otherwise clients that receive a response in between
        would connect again, without end.
        """
        with self._listening.dup() as duplicate:
            duplicate.setblocking(False)
            drop_new_connections(duplicate)
            remove_socket_file(self._listening)
            for server in self.servers:
                server.close()
            self._listening.close()
            accepted = list(accept_pending(duplicate))
        for connection in accepted:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def drop_new_connections(listening: socket.socket) -> None:
    """Make the kernel drop packets that open connections, where it can; some arrive between last accept and close.

    It is a filter of four steps (Linux, socket(7)): load the byte of TCP flags; if SYN is set, drop the packet; else
    accept it. Clients that get no answer try again after a second, and are then refused, or reach the next server.
    """
    if sys.platform != "linux" or listening.family == _AF_UNIX:
        return
    steps = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    with contextlib.suppress(OSError):  # some sandboxes have no filters
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(steps), ctypes.addressof(program))
        )


def accept_pending(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait to be accepted."""
    while True:
        try:
            yield listening.accept()[0]
        except ConnectionAbortedError:
            continue  # its client disconnected
        except OSError:
            return  # none waits any more, or the process may open no further files


def uvicorn_config(
    app: Starlette | ASGIApp, settings: Settings, connections: ConnectionLimit | None = None
) -> uvicorn.Config:
    """Return the configuration with which uvicorn runs the application of ``create_app``.

    ``connections`` is the limit of another application, which has no ``state.server``.
    """
    limit = connections if connections is not None else cast(Starlette, app).state.server.connections
    return uvicorn.Config(
        app,
        http=ProtocolFactory(limit),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # the application has the middleware, behind its limits
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )


def bind(settings: Settings) -> socket.socket:
    """Return a socket that listens on the settings' Unix socket, or on their host and port.

    Raises:
        SettingsError: the address is in use, or does not belong to this machine.
    """
    if settings.uds is not None:
        return _listen_unix(settings.uds)
    return _listen(settings.host, settings.port, "--port")


def check_grpc_port(settings: Settings) -> None:
    """Check before the models are loaded that the gRPC port is free; gRPC opens it itself.

    Raises:
        SettingsError: it is not.
    """
    if settings.grpc_port:
        _listen(settings.host, settings.grpc_port, "--grpc-port").close()


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if sys.platform == "linux":
            # Accepted sockets inherit it.
            listening.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listening.bind((host, port))
        listening.listen(4096)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another {flag} or --host."
        ) from error
    listening.setblocking(False)
    return listening


def _listen_unix(path: Path) -> socket.socket:
    """Return a socket that listens on a path. A file that a killed server left there is replaced."""
    if _AF_UNIX is None:
        raise SettingsError("Setting 'uds' needs Unix sockets, which this system does not have.")
    _remove_stale_socket(path)
    listening = socket.socket(_AF_UNIX, socket.SOCK_STREAM)
    try:
        # Permissions are set before anybody can connect: a socket refuses connections until it listens.
        listening.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listening.listen(4096)
    except OSError as error:
        listening.close()
        raise SettingsError(f"Cannot listen on {path}: {error.strerror or error}. Choose another --uds.") from error
    listening.setblocking(False)
    return listening


def _remove_stale_socket(path: Path) -> None:
    """Remove a socket file on which no process listens.

    Raises:
        SettingsError: a server listens on it, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"Cannot listen on {path}: {error.strerror}. Choose another --uds.") from error
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"Cannot listen on {path}: this file is no socket. Choose another --uds.")
    with socket.socket(_AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            raise SettingsError(f"Cannot listen on {path}: {error.strerror or error}. Choose another --uds.") from error
    raise SettingsError(f"Cannot listen on {path}: another server listens there. Choose another --uds.")


def remove_socket_file(listening: socket.socket) -> None:
    """Remove the file of a Unix socket, before the socket is closed: the path may be another server's afterwards."""
    if listening.fileno() >= 0 and listening.family == _AF_UNIX:
        with contextlib.suppress(OSError):
            Path(listening.getsockname()).unlink()
