"""The gRPC status of a failed call."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from nearfield.errors import AccessDenied, Cancelled, Forbidden, ModelNotFound, NearfieldError, Overloaded, SlowBody
from nearfield.server.dialects.tei.routes import TeiDialect
from nearfield.server.http.responses import out_of_memory
from nearfield.server.logs import LOG

Code = grpc.StatusCode
#: Codes of TEI's kinds of error; the table below takes precedence, for errors that TEI has no kind for.
_CODES = {
    "Empty": Code.INVALID_ARGUMENT,
    "Validation": Code.INVALID_ARGUMENT,
    "Backend": Code.FAILED_PRECONDITION,
    "Overloaded": Code.RESOURCE_EXHAUSTED,
    "Unhealthy": Code.UNAVAILABLE,
}
_CODES_BY_CLASS: tuple[tuple[type[NearfieldError], grpc.StatusCode], ...] = (
    (AccessDenied, Code.UNAUTHENTICATED),
    (Forbidden, Code.PERMISSION_DENIED),
    (ModelNotFound, Code.NOT_FOUND),
    (SlowBody, Code.DEADLINE_EXCEEDED),
    (Cancelled, Code.CANCELLED),
)
#: Maximum characters of a status message: it is sent as a header, for which clients allow 8 KiB.
_MAX_MESSAGE = 500


@dataclass(frozen=True)
class GrpcError:
    """The end of a failed call; ``status`` is the HTTP status under which it is counted."""

    code: grpc.StatusCode
    message: str
    status: int
    metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_error(cls, error: Exception) -> GrpcError:
        """Return the status of an error; unexpected ones are logged."""
        if isinstance(error, MemoryError):
            error = out_of_memory(error)
        if not isinstance(error, NearfieldError):
            LOG.error("unexpected error", exc_info=error)
            return cls(Code.INTERNAL, "The server failed on this call; its log says why.", 500)
        if error.status == 500:
            LOG.error("request failed: %s", type(error).__name__, exc_info=error)
        reply = TeiDialect().refuse(error)
        code = next((code for kind, code in _CODES_BY_CLASS if isinstance(error, kind)), None)
        metadata = [("x-nearfield-code", error.code)]
        if isinstance(error, Overloaded):
            # Clients with a retry policy wait this long (gRPC's proposal A6).
            metadata.append(("grpc-retry-pushback-ms", str(max(1, round(error.retry_after * 1000)))))
        message = reply.content["error"]
        shown = message if len(message) <= _MAX_MESSAGE else f"{message[: _MAX_MESSAGE - 4]} ..."
        return cls(code or _CODES[reply.content["error_type"]], shown, reply.status, tuple(metadata))
