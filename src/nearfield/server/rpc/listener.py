"""The gRPC server: listening, health service, reflection, and shutdown."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc_health.v1 import health_pb2

from nearfield.errors import SettingsError
from nearfield.server.logs import LOG
from nearfield.server.rpc.public_calls import PublicCalls
from nearfield.server.rpc.service import GrpcService
from nearfield.server.rpc.tei import FITS, PACKAGE, SERVICES
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.server.server_state import ServerState

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
#: Seconds between two updates of the services' health.
_HEALTH_INTERVAL = 1.0
#: Milliseconds after which a connection without calls is closed, and within which a new one must be established.
_IDLE_MS, _HANDSHAKE_MS = 120_000, 10_000
#: Seconds while stopping: in which new calls are still answered and connections closed; without calls, to end early.
_GRACE, _QUIET = 1.0, 0.1


class GrpcListener:
    """TEI's gRPC API on a separate port, with the models and keys of a ``server``, in its event loop."""

    def __init__(self, server: ServerState, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._service = GrpcService(server, "http" if settings.tls_cert is None else "https")
        self._public = PublicCalls([f"{PACKAGE}.{name}" for name in SERVICES], self._service.connections)
        self._health_task: asyncio.Task[None] | None = None
        self._rpc: Any = None

    async def start(self, host: str) -> str:
        """Listen, and return the address.

        Raises:
            SettingsError: the address is taken, or the TLS files are no certificate and key.
        """
        options = {
            "grpc.max_receive_message_length": self._server.limits.body_bytes,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # otherwise two servers could share a port unnoticed
            # A client delays calls above this number. From a thousand on gRPC itself would refuse calls at random, or
            # while answered ones are not cleaned up; here they wait, and our queue refuses what is too much.
            "grpc.max_concurrent_streams": 512,
            "grpc.http.overload_protection": 0,
            "grpc.server.max_pending_requests": 20_000,
            "grpc.server.max_pending_requests_hard_limit": 20_000,
            # gRPC closes new connections above this number.
            "grpc.max_allowed_incoming_connections": self._service.connections.max_connections,
            "grpc.max_connection_idle_ms": _IDLE_MS,
            "grpc.server_handshake_timeout_ms": _HANDSHAKE_MS,
            # Detect peers that vanished; let clients send keepalive pings often.
            "grpc.keepalive_time_ms": 60_000,
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.min_ping_interval_without_data_ms": 5_000,
        }
        self._rpc = grpc.aio.server(options=tuple(options.items()))
        self._rpc.add_generic_rpc_handlers([*self._service.handlers(), *self._public.handlers()])
        address = self._bind(host)
        await self._update_health()
        await self._rpc.start()
        self._health_task = asyncio.ensure_future(self._update_health_forever())
        return address

    def _bind(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        address = f"{shown}:{self._settings.grpc_port}"
        try:
            if self._settings.tls_cert is None:
                port = self._rpc.add_insecure_port(address)
            else:
                port = self._rpc.add_secure_port(address, self._credentials(self._settings.tls_cert))
        except RuntimeError as error:
            raise SettingsError(f"gRPC cannot listen on {address}. Choose another --grpc-port or --host.") from error
        return f"{shown}:{port}"

    def _credentials(self, certificate: Path) -> Any:
        chain = certificate.read_bytes()
        key = chain if self._settings.tls_key is None else self._settings.tls_key.read_bytes()
        return grpc.ssl_server_credentials([(key, chain)])

    # -- health ------------------------------------------------------------------------------------------------

    async def _update_health_forever(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_INTERVAL)
            try:
                await self._update_health()
            except Exception as error:  # noqa: BLE001 - the next update tries again
                LOG.error("the health of gRPC services could not be updated: %s", type(error).__name__, exc_info=error)

    async def _update_health(self) -> None:
        """Set the health of each service: one without a model that fits does not serve."""
        models, ready = self._server.models, not self._server.unready_reasons()
        await self._public.set_health("", _SERVING if ready else _NOT_SERVING)
        for name in SERVICES:
            fits = FITS.get(name)
            able = fits is None or bool(models.on_demand) or any(map(fits, models.descriptions))
            await self._public.set_health(f"{PACKAGE}.{name}", _SERVING if ready and able else _NOT_SERVING)

    # -- stopping ----------------------------------------------------------------------------------------------

    async def stop(self, seconds: float) -> None:
        """Finish accepted calls within ``seconds`` and refuse new ones; clients are asked to disconnect."""
        if self._rpc is None:
            return
        if self._health_task is not None:
            self._health_task.cancel()
        await self._public.health.enter_graceful_shutdown()
        self._service.hurry()
        await self._wait_for_calls(seconds)
        self._service.closed = True
        # Calls that watch the health never end by themselves.
        await self._rpc.stop(min(_GRACE, seconds))

    async def _wait_for_calls(self, seconds: float) -> None:
        """Wait until there are no calls; new ones are answered for a moment, until clients know of the shutdown."""
        started = time.monotonic()
        while (now := time.monotonic()) - started < seconds:
            self._service.closed = now - started > _GRACE
            if not self._service.open and now - max(started, self._service.last) > _QUIET:
                return
            await asyncio.sleep(0.02)
