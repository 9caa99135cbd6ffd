"""Port: the gRPC server: where it listens, what it answers beside TEI's methods, and how it stops."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nearfield.errors import SettingsError
from nearfield.server.logs import LOG
from nearfield.server.rpc.service import GrpcService
from nearfield.server.rpc.tei import FITS, PACKAGE, SERVICES
from nearfield.settings import Settings

if TYPE_CHECKING:
    from nearfield.server.server_state import ServerState

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
#: Seconds after which it is looked again which services can answer.
_LOOK = 1.0
#: While stopping: seconds in which new calls are still answered, without one that count as quiet, and for farewells.
_GRACE, _QUIET = 1.0, 0.1


class GrpcListener:
    """TEI's gRPC API on a port of its own, for the models and keys of a ``server``, in its event loop."""

    def __init__(self, server: ServerState, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._calls = GrpcService(server, "http" if settings.tls_cert is None else "https")
        self._health = health.aio.HealthServicer()
        self._looking: asyncio.Task[None] | None = None
        self._rpc: Any = None

    async def start(self, host: str) -> str:
        """Listen, and return the address.

        Raises:
            SettingsError: the address is taken, or the TLS files are no certificate and key.
        """
        options = {
            "grpc.max_receive_message_length": self._server.limits.body_bytes,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # or two servers would share a port, and nobody be told
            # A client with more at once keeps them back. From a thousand on gRPC itself would refuse calls at random,
            # or while answered ones are not tidied away; here they wait, and our queue tells what is too much.
            "grpc.max_concurrent_streams": 512,
            "grpc.http.overload_protection": 0,
            "grpc.server.max_pending_requests": 20_000,
            "grpc.server.max_pending_requests_hard_limit": 20_000,
            # Peers that are gone without a word are found out; those that ask whether we are here may ask often.
            "grpc.keepalive_time_ms": 60_000,
            "grpc.keepalive_permit_without_calls": 1,
            "grpc.http2.min_ping_interval_without_data_ms": 5_000,
        }
        self._rpc = grpc.aio.server(options=tuple(options.items()))
        self._rpc.add_generic_rpc_handlers(self._calls.handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._rpc)
        names = [f"{PACKAGE}.{name}" for name in SERVICES]
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._rpc)
        address = self._bind(host)
        await self._look()
        await self._rpc.start()
        self._looking = asyncio.ensure_future(self._keep_looking())
        return address

    def _bind(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        wanted = f"{shown}:{self._settings.grpc_port}"
        try:
            if self._settings.tls_cert is None:
                port = self._rpc.add_insecure_port(wanted)
            else:
                port = self._rpc.add_secure_port(wanted, self._credentials(self._settings.tls_cert))
        except RuntimeError as error:
            raise SettingsError(f"gRPC cannot listen on {wanted}. Choose another --grpc-port or --host.") from error
        return f"{shown}:{port}"

    def _credentials(self, certificate: Path) -> Any:
        chain = certificate.read_bytes()
        key = chain if self._settings.tls_key is None else self._settings.tls_key.read_bytes()
        return grpc.ssl_server_credentials([(key, chain)])

    # -- health ------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - it is looked again
                LOG.error("gRPC's health is not known: %s", type(error).__name__, exc_info=error)

    async def _look(self) -> None:
        """Say of each service whether it can answer: one whose models are not served cannot."""
        models, well = self._server.models, not self._server.unready_reasons()
        await self._health.set("", _SERVING if well else _NOT_SERVING)
        for name in SERVICES:
            fits = FITS.get(name)
            able = fits is None or bool(models.on_demand) or any(map(fits, models.descriptions))
            await self._health.set(f"{PACKAGE}.{name}", _SERVING if well and able else _NOT_SERVING)

    # -- stopping ----------------------------------------------------------------------------------------------

    async def stop(self, seconds: float) -> None:
        """Finish what was accepted, within ``seconds``, and refuse the rest; clients are told to go elsewhere."""
        if self._rpc is None:
            return
        if self._looking is not None:
            self._looking.cancel()
        await self._health.enter_graceful_shutdown()
        self._calls.hurry()
        await self._quiet(seconds)
        self._calls.closed = True
        # Those that watch the health never leave by themselves.
        await self._rpc.stop(min(_GRACE, seconds))

    async def _quiet(self, seconds: float) -> None:
        """Wait until there are no calls; for a moment new ones are answered, as their clients know no better yet."""
        started = time.monotonic()
        while (now := time.monotonic()) - started < seconds:
            self._calls.closed = now - started > _GRACE
            if not self._calls.open and now - max(started, self._calls.last) > _QUIET:
                return
            await asyncio.sleep(0.02)
