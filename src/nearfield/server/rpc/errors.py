"""Refusal: the status that a failed call ends with."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from nearfield.errors import AccessDenied, Cancelled, Forbidden, ModelNotFound, NearfieldError, Overloaded, SlowBody
from nearfield.server.dialects.tei.routes import TeiDialect
from nearfield.server.logs import LOG

Code = grpc.StatusCode
#: Codes of TEI's kinds of error, and before them of what TEI has no kind for.
_CODES = {
    "Empty": Code.INVALID_ARGUMENT,
    "Validation": Code.INVALID_ARGUMENT,
    "Backend": Code.FAILED_PRECONDITION,
    "Overloaded": Code.RESOURCE_EXHAUSTED,
    "Unhealthy": Code.UNAVAILABLE,
}
_OWN: tuple[tuple[type[NearfieldError], grpc.StatusCode], ...] = (
    (AccessDenied, Code.UNAUTHENTICATED),
    (Forbidden, Code.PERMISSION_DENIED),
    (ModelNotFound, Code.NOT_FOUND),
    (SlowBody, Code.DEADLINE_EXCEEDED),
    (Cancelled, Code.CANCELLED),
)
#: Characters of a status: it travels as a header, for which clients allow 8 KiB.
_LONGEST = 500


@dataclass(frozen=True)
class GrpcError:
    """How a call ends that has failed; ``status`` is that of HTTP, by which requests are counted."""

    code: grpc.StatusCode
    message: str
    status: int
    metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, error: Exception) -> GrpcError:
        """Turn an error into a status; the log has what was unexpected."""
        if not isinstance(error, NearfieldError):
            LOG.error("unexpected error", exc_info=error)
            return cls(Code.INTERNAL, "The server failed on this call; its log says why.", 500)
        if error.status == 500:
            LOG.error("request failed: %s", type(error).__name__, exc_info=error)
        told = TeiDialect().refuse(error)
        own = next((code for kind, code in _OWN if isinstance(error, kind)), None)
        metadata = [("x-nearfield-code", error.code)]
        if isinstance(error, Overloaded):
            # By this name, clients that were given a retry policy wait so long (gRPC's proposal A6).
            metadata.append(("grpc-retry-pushback-ms", str(max(1, round(error.retry_after * 1000)))))
        message = told.content["error"]
        shown = message if len(message) <= _LONGEST else f"{message[: _LONGEST - 4]} ..."
        return cls(own or _CODES[told.content["error_type"]], shown, told.status, tuple(metadata))
