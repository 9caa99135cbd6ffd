"""Rpc: what is served over gRPC: TEI's API, beside the same over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfield.errors import MissingExtra

if TYPE_CHECKING:
    from nearfield.server.rpc.listener import GrpcListener


def load() -> type[GrpcListener]:
    """Return the class of the gRPC server.

    Raises:
        MissingExtra: gRPC is not installed.
    """
    try:
        from nearfield.server.rpc.listener import GrpcListener
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("grpc", "grpc_health", "grpc_reflection", "google"):
            raise
        raise MissingExtra("gRPC (grpc_port) needs its libraries: pip install 'nearfield[grpc]'") from error
    return GrpcListener
