"""OpenAI's error body."""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, shared_error_body

#: Parameters of our own that have another name in this API.
_PARAM_NAMES = {
    "precision": "embedding_dtype",
    "role": "input_type",
    "truncate_dim": "dimensions",
}


def error_body(error: NearfieldError) -> JsonObject:
    """Return OpenAI's error body, with the keys that clients of other APIs on the same paths read."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    param = getattr(error, "param", None)
    return shared_error_body(
        error, "rate_limit_error" if error.status == 429 else kind, _PARAM_NAMES.get(param, param) if param else None
    )
