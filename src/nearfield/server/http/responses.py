"""HTTP responses: an answered exchange as JSON, a dialect's reply, and errors in the form of an API."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from nearfield.errors import NearfieldError, OutOfMemory, Overloaded
from nearfield.server.dialects import Dialect, Reply, Route
from nearfield.server.exchange import Exchange
from nearfield.server.http.decode_thread import EncodeThread
from nearfield.server.http.reply_budget import LargeResponse, ReplyShare
from nearfield.server.http.request_body import JSON
from nearfield.server.logs import LOG
from nearfield.server.observability.prometheus import Prometheus

#: Count of numbers above which a response is encoded in a thread.
LARGE = 65_536
#: Count of numbers that are encoded at a time, in half a millisecond.
_PART = 8192
#: Bytes of a number in JSON, with its comma; vectors in base64 have fewer.
_BYTES_PER_NUMBER = 12


# -- successes -------------------------------------------------------------------------------------------------------


def estimated_bytes(exchange: Exchange) -> int:
    """Return about how many bytes the response to a performed exchange will have."""
    return _BYTES_PER_NUMBER * exchange.number_count


async def exchange_response(
    route: Route,
    exchange: Exchange,
    prometheus: Prometheus,
    encoder: EncodeThread,
    owner: str,
    share: ReplyShare | None = None,
) -> Response:
    """Return the response to a performed exchange, and record how long it took to encode.

    A large one is encoded in a thread at its owner's turn. ``share`` has the bytes reserved for it; they are released
    once it is sent.
    """
    try:
        return await _exchange_response(route, exchange, prometheus, encoder, owner, share)
    except BaseException:
        if share is not None:
            share.release()
        raise


async def _exchange_response(
    route: Route,
    exchange: Exchange,
    prometheus: Prometheus,
    encoder: EncodeThread,
    owner: str,
    share: ReplyShare | None,
) -> Response:
    started = time.perf_counter()
    if exchange.number_count <= LARGE:
        data, reply = encode_response(route.write, exchange)
    else:
        data, reply = await encoder.run(owner, partial(encode_response, route.write, exchange))
    headers = exchange_headers(exchange)
    exchange.stage_seconds["reply"] = time.perf_counter() - started
    headers["server-timing"] = _server_timing(exchange)
    if exchange.description is not None:
        prometheus.stage(exchange.description.name, "reply", exchange.stage_seconds["reply"])
    status, media_type = 200, JSON
    if reply is not None:
        status, media_type = reply.status, reply.media_type
        headers.update(reply.headers)
    if share is None:
        return Response(data, status, headers, media_type)
    share.resize(len(data))
    return LargeResponse(data, share, status, headers, media_type)


def encode_response(write: Callable[[Any], Any], exchange: Exchange) -> tuple[bytes, Reply | None]:
    """Return the bytes of the body, and the ``Reply`` if ``write`` returned one.

    orjson does not release the interpreter. A long list of vectors is therefore encoded in parts, and the interpreter
    is released after each of them, so that the event loop can run.
    """
    body = write(exchange)
    reply = body if isinstance(body, Reply) else None
    if reply is not None:
        if isinstance(reply.content, bytes):
            return reply.content, reply
        body = reply.content
    if exchange.number_count > LARGE:
        items_per_part = max(1, _PART * exchange.size // exchange.number_count)
        body = _encode_in_parts(body, items_per_part)
    return _encode(body), reply


def _encode_in_parts(value: Any, items_per_part: int) -> Any:
    """Replace long lists in ``value`` by fragments of JSON that were encoded ``items_per_part`` items at a time."""
    if isinstance(value, Mapping):
        return {name: _encode_in_parts(item, items_per_part) for name, item in value.items()}
    if not isinstance(value, list) or len(value) <= items_per_part:
        return value
    # A fragment is copied unchanged, so that one may contain several items and the commas between them.
    starts = range(0, len(value), items_per_part)
    return [_encode_part(value[start : start + items_per_part]) for start in starts]


def _encode_part(items: list[Any]) -> orjson.Fragment:
    fragment = orjson.Fragment(_encode(items)[1:-1])
    time.sleep(0)  # another thread that waits for the interpreter gets it now, not after the switch interval
    return fragment


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def exchange_headers(exchange: Exchange) -> dict[str, str]:
    """Return the headers that every API has: what was ignored, replaced and truncated, and the vectors' fingerprint."""
    headers = {}
    if exchange.ignored:
        headers["x-nearfield-ignored-fields"] = _ascii(",".join(exchange.ignored))[:1024]
    if exchange.replaced:
        headers["x-nearfield-replaced-characters"] = str(exchange.replaced)
    if exchange.dropped:
        headers["x-nearfield-truncated-tokens"] = str(exchange.dropped)
    if exchange.fingerprint is not None:
        headers["x-nearfield-fingerprint"] = exchange.fingerprint
    return headers


def _ascii(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _server_timing(exchange: Exchange) -> str:
    """Return the stages of a request and the total in milliseconds (https://www.w3.org/TR/server-timing/)."""
    stages = {**exchange.stage_seconds, "total": time.perf_counter() - exchange.started}
    return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in stages.items())


def reply_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response for what a dialect returned, a body or a ``Reply``; a Reply's status and headers win."""
    reply = body if isinstance(body, Reply) else Reply(body, status)
    merged = {**(headers or {}), **reply.headers}
    if reply.lines is not None:
        return StreamingResponse(reply.lines, reply.status, merged, media_type=reply.media_type)
    if isinstance(reply.content, bytes):
        return Response(reply.content, reply.status, merged, media_type=reply.media_type)
    return json_response(reply.content, reply.status, merged)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON body."""
    try:
        data = orjson.dumps(content)
    except TypeError:
        # A message may quote a client's lone surrogate, which has no UTF-8.
        data = json.dumps(content).encode("ascii")
    return Response(data, status, headers, media_type=JSON)


# -- errors ----------------------------------------------------------------------------------------------------------


def error_response(dialect: Dialect, error: NearfieldError) -> Response:
    """Return an error in the form of a dialect, with Retry-After if a later retry may succeed."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
        headers["retry-after-ms"] = str(max(1, round(error.retry_after * 1000)))
    elif error.status == 503:
        headers["retry-after"] = "1"
    elif error.status == 408:
        headers["connection"] = "close"
    if error.status == 500:
        LOG.error("request failed: %s", type(error).__name__, exc_info=error)
    return reply_response(dialect.refuse(error), error.status, headers)


def unexpected_error_response(dialect: Dialect, error: Exception) -> Response:
    """Log an error that is no ``NearfieldError``, and return a response with status 500."""
    LOG.error("unexpected error", exc_info=error)
    return reply_response(dialect.refuse(NearfieldError("The server failed on this request; see its log.")), 500)


def out_of_memory(error: MemoryError) -> OutOfMemory:
    """Log that memory ran out, and return the error for the client."""
    LOG.error("a request ran out of memory", exc_info=error)
    return OutOfMemory("The server has too little memory for this request now. Send less at once, or try again later.")
