"""Cohere's ``meta`` object and error body."""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, shared_error_body
from nearfield.server.logs import REQUEST_ID

#: Parameters of our own that have another name in this API.
_PARAM_NAMES = {
    "input": "texts",
    "role": "input_type",
    "task": "input_type",
    "prompt_name": "input_type",
    "precision": "embedding_types",
    "truncate_dim": "output_dimension",
    "max_length": "max_tokens",
    "top_k": "top_n",
}


def reply_meta(version: str, dropped: int = 0, **units: int) -> JsonObject:
    """Return the ``meta`` object: version of the API, billed units, and a warning about truncated inputs."""
    meta: JsonObject = {"api_version": {"version": version}}
    if units:
        meta["billed_units"] = units
    if dropped:
        meta["warnings"] = [f"{dropped} tokens were cut off because inputs were too long."]
    return meta


def error_body(error: NearfieldError) -> JsonObject:
    """Return Cohere's error body, with the keys that clients of other APIs on the same paths read."""
    param = getattr(error, "param", None)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    body = shared_error_body(error, kind, _PARAM_NAMES.get(param, param) if param else None)
    return {"id": REQUEST_ID.get(), **body}
