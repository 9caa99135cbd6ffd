"""Lines of batches, performed like requests to the same path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import AccessDenied, Cancelled, NearfieldError, Overloaded, ShuttingDown
from nearfield.server.auth.api_key import ANONYMOUS, ApiKey
from nearfield.server.auth.owner import owner_of
from nearfield.server.batches.line_runner import LineResponse
from nearfield.server.http.request_context import RequestContext
from nearfield.server.http.responses import error_response, exchange_response, out_of_memory, unexpected_error_response
from nearfield.server.http.routing import RouteCandidate, read_exchange
from nearfield.server.server_state import ServerState

#: Items of a list up to which a line is converted on the event loop.
_LARGE_LIST = 4096


class RequestLineHandler:
    """Performs the lines of batches; implements ``LineHandler`` of the batch runner."""

    def __init__(self, server: ServerState) -> None:
        self._server = server

    def check_owner(self, owner: str) -> None:
        """Check that the owner of a batch may still use the server, and has tokens left.

        Raises:
            AccessDenied: the key is no longer accepted.
            RateLimited: the key has used up its tokens of this minute.
        """
        self._key(owner).check_rate()

    async def answer_line(self, url: str, body: Mapping[str, Any], owner: str, seconds: float) -> LineResponse:
        """Perform a line in the bulk class, and return the response that a request to ``url`` would get.

        Raises:
            RateLimited: the key has used up its tokens of this minute; nothing was done.
            Overloaded, ShuttingDown, Cancelled: the line may be tried again.
        """
        server, candidate, key = self._server, self._candidate(url), self._key(owner)
        key.check_rate()
        CALLER.set(Caller(owner_of(key, None), "batches"))
        context = RequestContext(
            server.models,
            body=body,
            fields=frozenset(body),
            limits=server.limits,
            token_ids=server.token_ids,
            allowed=key.allows,
            job_threads=server.job_threads,
            in_thread=partial(server.decode_thread.run, owner_of(key, None)) if _is_large(body) else None,
        )
        try:
            exchange = await read_exchange(candidate.route, context)
            with server.body_budget.open_body(owner_of(key, None)) as fetched:
                await server.perform(
                    exchange, key, max(seconds, server.limits.seconds), bulk=True, reserve=fetched.reserve
                )
                response = await exchange_response(
                    candidate.route, exchange, server.prometheus, server.encode_thread, owner_of(key, None)
                )
        except (Overloaded, ShuttingDown, Cancelled):
            raise
        except NearfieldError as error:
            return self.refuse_line(url, error)
        except MemoryError as error:
            raise out_of_memory(error) from error
        except Exception as error:  # noqa: BLE001 - the other lines go on
            response = unexpected_error_response(candidate.dialect, error)
            return LineResponse(response.status_code, bytes(response.body))
        return LineResponse(response.status_code, bytes(response.body), exchange.tokens)

    def refuse_line(self, url: str, error: NearfieldError) -> LineResponse:
        """Return the error as a batch line's response."""
        response = error_response(self._candidate(url).dialect, error)
        return LineResponse(response.status_code, bytes(response.body))

    def _candidate(self, url: str) -> RouteCandidate:
        """Return the fallback route of a path: lines have no headers by which another API could be recognised."""
        return next(
            RouteCandidate(dialect, route)
            for dialect in self._server.dialects
            for route in dialect.routes
            if (route.path, route.method, route.matches) == (url, "POST", None)
        )

    def _key(self, digest: str) -> ApiKey:
        """Return the key of a digest. Batches created without keys, or of a server that now has none, need no key.

        Raises:
            AccessDenied: the key is no longer accepted.
        """
        if not self._server.keys or not digest:
            return ANONYMOUS
        key = self._server.keys.by_digest(bytes.fromhex(digest))
        if key is None:
            raise AccessDenied("The key that created this batch is no longer accepted.")
        return key


def _is_large(body: Mapping[str, Any]) -> bool:
    """Return whether a body has a list of many items, or pictures or sounds: it is converted in a thread."""
    lists = [value for value in body.values() if isinstance(value, list)]
    return "modality" in body or any(len(value) > _LARGE_LIST or dict in map(type, value) for value in lists)
