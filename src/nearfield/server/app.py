"""App: the routes, what happens around each request, and how the server starts and stops."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nearfield import __version__
from nearfield.encoder import Encoder
from nearfield.errors import (
    AccessDenied,
    Cancelled,
    Forbidden,
    InputError,
    MissingBody,
    MissingExtra,
    NearfieldError,
    Overloaded,
    ShuttingDown,
    UnsupportedMedia,
)
from nearfield.inference.disk_cache import DiskCache
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.result_cache import ResultCache
from nearfield.server import exchange as exchanges
from nearfield.server.auth.keys import ANYBODY, ApiKey, ApiKeys, HostGuard, is_loopback
from nearfield.server.batches.batch_runner import BatchRunner, LineResponse
from nearfield.server.collections.collection_service import CollectionService
from nearfield.server.dialects import JSON, MSGPACK, REGISTRY, Dialect, Reply, RequestContext
from nearfield.server.dialects import Route as Claimed
from nearfield.server.exchange import Bounds, Exchange
from nearfield.server.files.file_store import FileStore
from nearfield.server.files.upload import MultipartUpload
from nearfield.server.http import openapi
from nearfield.server.http.deadline import RequestDeadline, Watches
from nearfield.server.http.request_body import BodyBudget, Pace, RequestLimits
from nearfield.server.http.responses import LARGE, content
from nearfield.server.logs import LOG, AccessLog
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.observability.prometheus import CONTENT_TYPE, Prometheus
from nearfield.settings import Settings, cache_dir

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces

Endpoint = Callable[[Request], Awaitable[Response]]
_DECODERS = {JSON: msgspec.json.Decoder().decode, MSGPACK: msgspec.msgpack.Decoder().decode}
#: Bytes of a body that is read though its sender has no key.
_SMALL = 65_536
#: Seconds within which a file is there: 200 MB at two megabits a second.
_UPLOAD_SECONDS = 900.0
#: Characters of a complaint about a body: it may quote what it complains about.
_LONGEST_COMPLAINT = 500
#: Headers that a browser lets the page of another origin read.
_EXPOSED = (
    "x-request-id",
    "x-nearfield-fingerprint",
    "x-nearfield-truncated-tokens",
    "x-nearfield-ignored-fields",
    "server-timing",
    "retry-after",
    "retry-after-ms",
)


class ServerState:
    """What the endpoints share."""

    def __init__(self, settings: Settings, models: ModelPool, traces: Traces | None = None) -> None:
        self.models = models
        self.traces = traces
        self.dialects: list[Dialect] = [REGISTRY.load(name)() for name in REGISTRY.order()]
        self.keys = ApiKeys.of(settings.api_keys, settings.api_key_file)
        self.door = HostGuard(is_loopback(settings.host), settings.allowed_hosts, settings.cors_origins)
        self.prometheus = Prometheus(models.loaded, tei=settings.tei_metrics)
        self.prometheus.watch_models(models)
        self.files = FileStore(settings.data_dir or cache_dir() / "server")
        self.cache = _cache(settings, self.files.folder)
        models.watchers += [self.prometheus.watch, self._lend_cache]
        for model in models.loaded:
            self._lend_cache(model)
        if self.cache is not None:
            self.prometheus.watch_cache(self.cache)
        self.limits = RequestLimits(
            settings.max_body_bytes,
            settings.max_items,
            settings.max_request_tokens,
            settings.request_timeout,
            settings.bulk_items,
        )
        self.token_ids: str = settings.token_ids
        self.intake = BodyBudget(self.limits)
        self.pace = Pace()
        self.watches = Watches()
        self.batches = BatchRunner(self.files, self)
        self.served = CollectionService.of(settings, models)
        #: Gives the page of metrics where other processes have a part in them.
        self.all_metrics: Callable[[], Awaitable[bytes]] | None = None
        #: Templates of the paths by the functions that answer them.
        self.routes: dict[Any, str] = {}

    def _lend_cache(self, model: LoadedModel) -> None:
        if isinstance(model, Encoder):
            model.cache = self.cache

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self.watches.stopping

    def start(self) -> None:
        """Go on with the batches that an earlier process left."""
        self.batches.wake()

    def stop(self) -> None:
        """Begin to shut down: what was accepted is finished, unless its body stalls; batches stop where they are."""
        self.watches.stop()
        self.batches.stop()

    def close(self) -> None:
        """Let go of what is open, once nothing runs any more."""
        self.served.close()
        if self.cache is not None and self.cache.disk is not None:
            self.cache.disk.close()

    def reasons(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        engines = {model.engine for model in self.models.loaded}
        return ["the server is shutting down"] * self.draining + [
            reason for engine in engines for reason in engine.reasons
        ]

    # -- requests ------------------------------------------------------------------------------------------------

    def endpoint(self, claimants: Sequence[RouteCandidate]) -> Endpoint:
        """Make the endpoint of a path from all routes that claim it, the last being whoever else's it is."""
        takes_body = claimants[0].route.method in ("POST", "DELETE")

        async def endpoint(request: Request) -> Response:
            turn = RequestState(claimants[-1])
            try:
                response = await self._serve(request, claimants, turn, takes_body)
            except Cancelled as error:
                turn.failure, response = type(error), Response(status_code=error.status)  # nobody is left to read it
            except NearfieldError as error:
                turn.failure, response = type(error), refusal(turn.chosen.dialect, error)
            except Exception as error:  # noqa: BLE001 - raised further, it would cost the client its connection
                turn.failure, response = type(error), unexpected(turn.chosen.dialect, error)
            self._record(request, turn)
            return response

        return endpoint

    async def _serve(
        self, request: Request, claimants: Sequence[RouteCandidate], turn: RequestState, takes_body: bool
    ) -> Response:
        """Read a request, do what it asks, and write the reply; ``turn`` tells the caller how far that came."""
        upload = turn.chosen.route.upload
        seconds = _UPLOAD_SECONDS if upload else self.limits.seconds
        with RequestDeadline(request, seconds, self.watches) as watch, self.intake.body() as body:
            call = self._call(request)
            turn.chosen = _choose(claimants, call)
            refused = self._admit(request, turn)
            if refused is not None and turn.chosen.route.body_key is None and (upload or not _small(request)):
                raise refused
            if upload:
                call.upload = MultipartUpload(request.headers, watch.receive)
                return await self._take_upload(turn, call)
            if takes_body:
                data = await body.read(request.headers, watch.receive)
                _read_body(call, claimants, data)
                turn.chosen = _choose(claimants, call)
            route = turn.chosen.route
            if refused is not None:
                turn.key = self._by_body(refused, route, call)  # only now is it known in whose words
            watch.for_client()
            self.check(turn.key, route)
            call.owner, call.allowed = turn.key.owner, turn.key.allows
            answer = await read(route, call)
            if not isinstance(answer, Exchange):
                return _response(answer)
            turn.exchange = answer
            await self.perform(answer, turn.key, watch.left)
        return await self._reply(route, answer)

    async def _take_upload(self, turn: RequestState, call: RequestContext) -> Response:
        """Let the route take the file as it comes: it is never held in memory whole."""
        self.check(turn.key, turn.chosen.route)
        call.owner, call.allowed = turn.key.owner, turn.key.allows
        return _response(await turn.chosen.route.read(None, call))

    async def perform(self, exchange: Exchange, key: ApiKey, seconds: float, *, bulk: bool = False) -> None:
        """Do what was asked within ``seconds``, for the models and at the cost of a key.

        Raises:
            NearfieldError: it cannot be done; what it cost until then is counted all the same.
        """
        bounds = Bounds(self.limits, seconds, self.pace, key.allows, bulk)
        try:
            await exchanges.perform(exchange, self.models, bounds)
        finally:
            key.spend(exchange.tokens)
            self.prometheus.answered(exchange)

    def _admit(self, request: Request, turn: RequestState) -> NearfieldError | None:
        """Find the key of a request; return why it has none."""
        try:
            turn.key = ANYBODY if turn.chosen.route.public else self.admit(request)
        except NearfieldError as error:
            return error
        return None

    def _call(self, request: Request) -> RequestContext:
        scope = request.scope
        query = dict(request.query_params) if scope.get("query_string") else {}
        return RequestContext(
            self.models,
            request.headers,
            request.path_params,
            query,
            request_id=scope["state"].get("request_id", ""),
            limits=self.limits,
            token_ids=self.token_ids,
            scheme=scope.get("scheme", "http"),
            files=self.files,
            batches=self.batches,
            served=self.served,
        )

    def admit(self, request: Request) -> ApiKey:
        """Return the key of a request, or what it may do without one.

        Raises:
            AccessDenied, Forbidden: it is not let in.
        """
        peer = request.client.host if request.client else None
        return self.let_in(request.headers.get("authorization"), peer, request.headers)

    def let_in(self, authorization: str | None, peer: str | None, headers: Mapping[str, str]) -> ApiKey:
        """Return the key that ``authorization`` holds; where none are set, what a ``peer`` with these headers may do.

        Raises:
            AccessDenied, Forbidden: it is not let in.
        """
        return self.keys.check(authorization) if self.keys else self.door.check(headers, peer)

    def _by_body(self, refused: NearfieldError, route: Claimed, call: RequestContext) -> ApiKey:
        """Return the key that stands in the body, where an API puts it there.

        Raises:
            AccessDenied: there is none, or it is not known; or whatever else was wrong without it.
        """
        given = route.body_key(call) if route.body_key is not None and isinstance(refused, AccessDenied) else None
        if not given:
            raise refused
        return self.keys.check(given.encode("utf-8", "replace").decode("latin-1"))

    def check(self, key: ApiKey, route: Claimed) -> None:
        """Refuse what a key may not do, or not now.

        Raises:
            Forbidden: it lacks the scope.
            RateLimited: it has used up its tokens.
        """
        if route.public:
            return
        if not key.may(route.scope):
            hint = "" if self.keys else " Set keys (api_key_file) with the scope, or ask from the server's own machine."
            raise Forbidden(f"This needs a key with the scope {route.scope!r}; {key.name!r} has none.{hint}")
        if not route.rate_limit_exempt:
            key.check_rate()

    async def _reply(self, route: Claimed, exchange: Exchange) -> Response:
        started = time.perf_counter()
        large = exchange.numbers > LARGE
        written = asyncio.to_thread(content, route.write, exchange) if large else None
        data, given = await written if written is not None else content(route.write, exchange)
        headers = facts(exchange)
        exchange.seconds["reply"] = time.perf_counter() - started
        headers["server-timing"] = _timing(exchange)
        if exchange.served is not None:
            self.prometheus.stage(exchange.served.name, "reply", exchange.seconds["reply"])
        if given is None:
            return Response(data, media_type=JSON, headers=headers)
        return Response(data, given.status, {**headers, **given.headers}, media_type=given.media_type)

    def _record(self, request: Request, turn: RequestState) -> None:
        log: dict[str, Any] = {"key": turn.key.name} if turn.key.digest else {}
        exchange = turn.exchange
        if turn.chosen.route.request_type is not None:
            self.prometheus.ended(exchange, turn.failure, time.perf_counter() - turn.started)
        if exchange is not None:
            # A name that is not served may be a text that went into the wrong field.
            model = exchange.served.name if exchange.served is not None else "unknown"
            log |= {"model": model, "inputs": exchange.size, "tokens": exchange.tokens}
            log |= {"truncated": exchange.dropped} if exchange.dropped else {}
        request.scope["state"]["log"] = log
        if self.traces is not None:
            self.traces.note(request.scope, turn.chosen.dialect.name, exchange)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request to whatever route."""
        route = self.routes.get(scope.get("endpoint"))
        self.prometheus.replied(route or "unmatched", status, seconds)
        if self.traces is not None:
            self.traces.finish(scope, route, status, seconds)

    # -- lines of batches ------------------------------------------------------------------------------------------

    def check_owner(self, owner: str) -> None:
        """Refuse what the owner of a batch may not have, or not now.

        Raises:
            AccessDenied: the key is no longer accepted.
            RateLimited: it has used up its tokens.
        """
        self._owner(owner).check_rate()

    async def answer_line(self, url: str, body: Mapping[str, Any], owner: str, seconds: float) -> LineResponse:
        """Answer a line of a batch as a request to the same path, in the bulk class.

        Raises:
            Overloaded, ShuttingDown, Cancelled: it may be tried again.
        """
        claimed, key = self._line_claimant(url), self._owner(owner)
        route = claimed.route
        facts: dict[str, Any] = {"limits": self.limits, "token_ids": self.token_ids, "allowed": key.allows}
        call = RequestContext(self.models, body=body, fields=frozenset(body), **facts)
        try:
            exchange = await read(route, call)
            await self.perform(exchange, key, max(seconds, self.limits.seconds), bulk=True)
            response = await self._reply(route, exchange)
        except (Overloaded, ShuttingDown, Cancelled):
            raise
        except NearfieldError as error:
            return self.refuse_line(url, error)
        except Exception as error:  # noqa: BLE001 - the other lines go on
            response = unexpected(claimed.dialect, error)
            return LineResponse(response.status_code, bytes(response.body))
        return LineResponse(response.status_code, bytes(response.body), exchange.tokens)

    def refuse_line(self, url: str, error: NearfieldError) -> LineResponse:
        """Give the reply that an error would have been."""
        response = refusal(self._line_claimant(url).dialect, error)
        return LineResponse(response.status_code, bytes(response.body))

    def _line_claimant(self, url: str) -> RouteCandidate:
        """Return whose the requests are that nobody else claims."""
        return next(
            RouteCandidate(dialect, route)
            for dialect in self.dialects
            for route in dialect.routes
            if (route.path, route.method, route.matches) == (url, "POST", None)
        )

    def _owner(self, digest: str) -> ApiKey:
        """Return the key of a digest; what was left while there were no keys, or is now that there are none, is free.

        Raises:
            AccessDenied: it is no longer accepted.
        """
        if not self.keys or not digest:
            return ANYBODY
        key = self.keys.by_digest(bytes.fromhex(digest))
        if key is None:
            raise AccessDenied("The key that this batch was made with is no longer accepted.")
        return key

    # -- everything else -----------------------------------------------------------------------------------------

    async def health(self, _: Request) -> Response:
        """Say that the process lives."""
        return _json({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Say whether work would be taken and done now, and if not, why."""
        reasons = self.reasons()
        return _json({"ready": not reasons, "reasons": reasons, "models": self.models.names()}, 503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        """Give the metrics."""
        try:
            self.admit(request)
        except NearfieldError as error:
            return refusal(self.dialects[-1], error)
        # Not in a thread: under load, these are the ones that tokenise, and the page would wait behind them.
        page = self.prometheus.page() if self.all_metrics is None else await self.all_metrics()
        return Response(page, media_type=CONTENT_TYPE)


def create_app(
    settings: Settings,
    models: ModelPool | Sequence[LoadedModel],
    aliases: Mapping[str, Sequence[str]] | None = None,
    traces: Traces | None = None,
) -> Starlette:
    """Make the ASGI application that serves these models; those of a list stay. Settings: see ``settings.load``.

    Where the settings ask for ``traces`` and none are given, they are opened; ``app.state.server.traces.close()`` sends
    the last.
    """
    if traces is None:
        traces = open_traces(settings.otel_endpoint)
    server = ServerState(settings, models if isinstance(models, ModelPool) else ModelPool(models, aliases), traces)
    told = openapi.document(server.dialects)
    routes = [
        Route(path, server.endpoint(claimants), methods=[method])
        for (path, method), claimants in _by_path(server.dialects).items()
    ]
    routes += [
        Route("/health", server.health),
        Route("/ready", server.ready),
        Route("/metrics", server.metrics),
        Route("/openapi.json", _fixed(_json(told))),
        Route("/docs", _fixed(HTMLResponse(openapi.page(told)))),
    ]
    server.routes = {route.endpoint: route.path for route in routes}
    access = Middleware(AccessLog, closing=lambda: server.draining, answered=server.answered)
    middleware = [Middleware(PlainPath), access]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )
        middleware.append(cors)
    middleware.append(Middleware(KnownPaths, routes=routes))
    handlers: Mapping[Any, Any] = {HTTPException: _lost(server.dialects), Exception: _broken(server.dialects[-1])}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.state.server = server
    return app


def _cache(settings: Settings, folder: Path) -> ResultCache | None:
    disk = DiskCache(folder / "results.sqlite", settings.cache_disk) if settings.cache_disk else None
    return ResultCache(settings.cache_memory, __version__, disk) if settings.cache_memory or disk is not None else None


def open_traces(endpoint: str | None) -> Traces | None:
    """Return what sends traces to a collector, or None where there is none to send them to.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
    if endpoint is None:
        return None
    try:
        from nearfield.server.observability.traces import Traces
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise MissingExtra("Traces (otel_endpoint) need OpenTelemetry: pip install 'nearfield[otel]'") from error
    return Traces.to(endpoint)


class PlainPath:
    """Takes a path with a slash at its end for the one without: a client would not send its body again elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["path"].endswith("/"):
            scope["path"] = scope["path"].rstrip("/") or "/"
        return self._app(scope, receive, send)


class KnownPaths:
    """Finds a route without parameters by its path; the router would try the pattern of one after another."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = {
            (route.path, method): route for route in routes if "{" not in route.path for method in route.methods or ()
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = self._routes.get((scope["path"], scope["method"])) if scope["type"] == "http" else None
        if route is None or scope.get("root_path"):
            return self._app(scope, receive, send)
        scope.update(route=route, endpoint=route.endpoint, path_params={})
        return route.app(scope, receive, send)


@dataclass(frozen=True)
class RouteCandidate:
    """A route of an API that shares its path with others, perhaps."""

    dialect: Dialect
    route: Claimed


@dataclass
class RequestState:
    """One request on its way: whose words it is answered in, its key, what it asks for, once these are known, and what
    went wrong."""

    chosen: RouteCandidate
    key: ApiKey = ANYBODY
    exchange: Exchange | None = None
    #: Kind of the error that ended it: the error itself would hold on to all that led to it.
    failure: type[Exception] | None = None
    started: float = field(default_factory=time.perf_counter)


def _by_path(dialects: Sequence[Dialect]) -> dict[tuple[str, str], list[RouteCandidate]]:
    """Gather who claims each path; a route without ``matches`` takes what nobody else does, and there is one."""
    found: dict[tuple[str, str], list[RouteCandidate]] = {}
    for dialect in dialects:
        for route in dialect.routes:
            found.setdefault((route.path, route.method), []).append(RouteCandidate(dialect, route))
    for (path, method), claimants in found.items():
        claimants.sort(key=lambda each: each.route.matches is None)
        if sum(each.route.matches is None for each in claimants) != 1:
            names = ", ".join(each.dialect.name for each in claimants)
            raise ValueError(f"{method} {path} is claimed by {names}: exactly one of them must leave out ``matches``")
    return found


def _choose(claimants: Sequence[RouteCandidate], call: RequestContext) -> RouteCandidate:
    for each in claimants[:-1]:
        if each.route.matches is not None and each.route.matches(call):
            return each
    return claimants[-1]


def _small(request: Request) -> bool:
    """Whether a body may be read though its sender has no key, to answer in the words of its API."""
    size = request.headers.get("content-length", "0")
    return size.isdigit() and int(size) <= _SMALL and "transfer-encoding" not in request.headers


def _read_body(call: RequestContext, claimants: Sequence[RouteCandidate], data: bytes) -> None:
    """Decode the body, by what its header says it is, into the call.

    Raises:
        UnsupportedMedia: none of the path's APIs reads that.
    """
    kind = call.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    kind = {"application/x-msgpack": MSGPACK}.get(kind, JSON if kind.endswith("+json") else kind)
    if not data:
        if all(each.route.request_type is None for each in claimants):
            return
        raise MissingBody("The request has no body: send a JSON object.")
    # A browser sends a form to any server without asking it first, and says whose page it is.
    kind = JSON if "origin" not in call.headers and any(each.route.any_content_type for each in claimants) else kind
    if kind not in {known for each in claimants for known in each.route.request_media}:
        raise UnsupportedMedia(f"The body must be JSON: send 'Content-Type: application/json', not {kind!r}.")
    content = decode(data, kind)
    call.body = {name: value for name, value in content.items() if value is not None}
    call.fields = frozenset(content)


def decode(data: bytes, kind: str = JSON) -> dict[str, Any]:
    """Decode an object in JSON or msgpack.

    Raises:
        InputError: it is neither, not an object, or not Unicode.
    """
    try:
        content = _DECODERS[kind](data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"The body is not valid {kind}: {error or type(error).__name__}.") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"The body must be an object with names, not {type(content).__name__}.")
    return content


def facts(exchange: Exchange) -> dict[str, str]:
    """Return what is told of any answer beside its body: fields that were ignored, tokens cut off, fingerprint."""
    told = {}
    if exchange.ignored:
        told["x-nearfield-ignored-fields"] = _ascii(",".join(exchange.ignored))[:1024]
    if exchange.dropped:
        told["x-nearfield-truncated-tokens"] = str(exchange.dropped)
    if exchange.fingerprint is not None:
        told["x-nearfield-fingerprint"] = exchange.fingerprint
    return told


async def read(route: Claimed, call: RequestContext) -> Any:
    """Let a route read the call: into an Exchange, or what it answers at once.

    Raises:
        InputError: the body has another shape than the route takes, or asks for what cannot be.
    """
    answer = route.read(_taken(route, call), call)
    if inspect.isawaitable(answer):
        answer = await answer
    if isinstance(answer, Exchange):
        answer.ignored += _ignored(route, call)
    return answer


def _taken(route: Claimed, call: RequestContext) -> Any:
    """Return the body as the route wants it.

    Raises:
        InputError: it has another shape; the message names the field.
    """
    if route.request_type is None:
        return None
    try:
        return msgspec.convert(call.body, route.request_type)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error


def _ignored(route: Claimed, call: RequestContext) -> tuple[str, ...]:
    known = getattr(route.request_type, "__struct_encode_fields__", None)
    return () if known is None else tuple(sorted(call.body.keys() - set(known)))


def _invalid(error: msgspec.ValidationError) -> InputError:
    """Say which field is wrong, in the words of the API."""
    text = str(error)
    missing = re.search(r"missing required field `(\w+)`", text)
    path = re.search(r"`\$\.?(\w+)?", text)
    param = missing.group(1) if missing else path.group(1) if path else None
    shown = text if len(text) <= _LONGEST_COMPLAINT else f"{text[:200]} ... {text[-200:]}"
    return InputError(f"Invalid request: {shown}.", param=param)


def _response(answer: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Turn what a dialect gave, a Reply or a body, into a response; a Reply's own status and headers win."""
    reply = answer if isinstance(answer, Reply) else Reply(answer, status)
    told = {**(headers or {}), **reply.headers}
    if reply.lines is not None:
        return StreamingResponse(reply.lines, reply.status, told, media_type=reply.media_type)
    if isinstance(reply.content, bytes):
        return Response(reply.content, reply.status, told, media_type=reply.media_type)
    return _json(reply.content, reply.status, told)


def refusal(dialect: Dialect, error: NearfieldError) -> Response:
    """Turn an error into a dialect's reply, with Retry-After where waiting helps."""
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
    return _response(dialect.refuse(error), error.status, headers)


def unexpected(dialect: Dialect, error: Exception) -> Response:
    """Turn an error that nobody foresaw into a reply; the log has the rest."""
    LOG.error("unexpected error", exc_info=error)
    return _response(dialect.refuse(NearfieldError("The server failed on this request; its log says why.")), 500)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    try:
        data = orjson.dumps(content)
    except TypeError:
        # A message may quote a client's lone surrogate, which has no UTF-8.
        data = json.dumps(content).encode("ascii")
    return Response(data, status, headers, media_type="application/json")


def _fixed(response: Response) -> Endpoint:
    async def endpoint(_: Request) -> Response:
        return response

    return endpoint


def _timing(exchange: Exchange) -> str:
    """Tell the stages of a request in milliseconds, and all from its reading on (https://www.w3.org/TR/server-timing/)."""
    stages = {**exchange.seconds, "total": time.perf_counter() - exchange.started}
    return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in stages.items())


def _ascii(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


class _HttpError(NearfieldError):
    """An error that routing found, given a dialect's shape."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = {404: "not_found", 405: "method_not_allowed"}.get(status, "http_error")


def _lost(dialects: Sequence[Dialect]) -> Callable[[Request, HTTPException], Awaitable[Response]]:
    async def handler(request: Request, error: HTTPException) -> Response:
        dialect = _owner(request.url.path, dialects)
        where = f"{request.method} {request.url.path[:200]}"
        text = {404: f"There is no {where}. GET /docs lists what there is.", 405: f"{where} is not possible."}
        response = refusal(dialect, _HttpError(error.status_code, text.get(error.status_code, error.detail)))
        response.headers.update(error.headers or {})
        return response

    return handler


def _owner(path: str, dialects: Sequence[Dialect]) -> Dialect:
    """Return whose words suit a path that nobody has: who alone has others below its first part, else the last."""
    start = "/".join(path.split("/", 2)[:2]) + "/"
    found = [each for each in dialects if any(route.path.startswith(start) for route in each.routes)]
    return found[0] if len(found) == 1 else dialects[-1]


def _broken(dialect: Dialect) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handler(_: Request, error: Exception) -> Response:
        return unexpected(dialect, error)

    return handler
