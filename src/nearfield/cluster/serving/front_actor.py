"""A front: the HTTP server of one node. It is a whole server but for weights and lanes, which engines have."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from concurrent.futures import Future
from typing import Any, cast

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.router.request_plan import RequestPlanner
from nearfield.cluster.serving.cluster_engine import ClusterEngine, EngineLost, WaitLimits
from nearfield.cluster.serving.cluster_logs import configure_cluster_logging
from nearfield.cluster.serving.front_metrics import FrontMetrics
from nearfield.cluster.serving.messages import ClusterState, FrontConfig, FrontReport, Spending, SpendingTotals
from nearfield.errors import NearfieldError
from nearfield.inference import weightless
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.app import create_app, open_traces
from nearfield.server.frontends.frontend import FixedModels, run
from nearfield.server.http.connection_limit import raise_file_limit
from nearfield.server.http.routing import refuse
from nearfield.server.lifecycle.listener import Listener, bind, uvicorn_config
from nearfield.server.lifecycle.preflight import check_listener_settings, reload_certificate
from nearfield.server.lifecycle.serve import listening_address
from nearfield.server.logs import LOG
from nearfield.server.server_state import ServerState
from nearfield.settings import Settings

#: Calls of the controller that may run at once: an exchange, a reload, and a stop that waits.
MAX_CALLS = 4
#: Middleware of the server that comes before ours: names of paths, log, limits of heads.
_OUTER_MIDDLEWARE = 3


class NotShared(NearfieldError):
    """Files, batches and collections belong to one machine, and a cluster has several."""

    status = 501
    code = "not_shared"


class FrontActor:
    """Serves HTTP on its node. Ray creates it as an actor; the server runs on an event loop in a second thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._settings = Settings()
        self._engines: list[ClusterEngine] = []
        #: What keys used here, and what they used at other fronts as far as known.
        self._spent: Counter[bytes] = Counter()
        self._elsewhere = SpendingTotals()
        self._reports = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop
        self._server: ServerState
        self._listener: Listener
        self._thread: threading.Thread

    def start(self, config: FrontConfig) -> tuple[str, str]:
        """Start to serve; return the address and, if that failed, why."""
        started: Future[str] = Future()
        self._thread = threading.Thread(target=lambda: run(self._serve(config, started)), name="front")
        self._thread.start()
        try:
            return started.result(), ""
        except (NearfieldError, OSError) as error:
            return "", str(error)

    def exchange(self, state: ClusterState) -> FrontReport:
        """Use the engines of a state from now on; return what the controller must know."""
        return asyncio.run_coroutine_threadsafe(self._exchange(state), self._loop).result()

    def reload(self) -> None:
        """Read keys and certificates again."""
        self._loop.call_soon_threadsafe(self._reload)

    def stop(self) -> None:
        """Refuse new connections, finish accepted requests, and return when all are done."""
        self._loop.call_soon_threadsafe(setattr, self._listener, "should_exit", True)
        self._thread.join()

    # -- on the event loop -----------------------------------------------------------------------------------------

    async def _serve(self, config: FrontConfig, started: Future[str]) -> None:
        try:
            listening = self._prepare(config, started)
        except BaseException as error:  # noqa: BLE001 - the controller reports it
            started.set_exception(error)
            return
        await self._listener.serve(sockets=[listening])
        self._server.close()
        if self._server.traces is not None:
            self._server.traces.close()

    def _prepare(self, config: FrontConfig, started: Future[str]) -> Any:
        settings = self._settings = config.settings
        configure_cluster_logging(settings)
        check_listener_settings(settings)
        raise_file_limit()
        self._loop = asyncio.get_running_loop()
        listening = bind(settings)
        models = FixedModels(self._unpack(config), config.aliases)
        app = create_app(settings, models, traces=open_traces(settings.otel_endpoint))
        self._server = app.state.server
        self._share_keys(config)
        node_id = str(import_ray().get_runtime_context().get_node_id())
        self._server.merged_metrics = FrontMetrics(self._server, self._engines, node_id, call_actor).page
        app.user_middleware.insert(_OUTER_MIDDLEWARE, Middleware(SharedPaths, server=self._server))
        address = _reachable(listening_address(listening, settings))

        def on_start() -> None:
            self._server.observe()
            started.set_result(address)

        self._listener = Listener(uvicorn_config(app, settings), listening, on_start, self._server.stop)
        return listening

    def _unpack(self, config: FrontConfig) -> list[LoadedModel]:
        """Return the models of all groups, each computed by the engines of its group."""
        limits = WaitLimits(config.settings.request_timeout, config.settings.max_queued_tokens)
        models: list[LoadedModel] = []
        for packed in config.groups:
            engine = ClusterEngine(self._name, limits, call_actor)
            loaded = weightless.unpack_weightless(packed, cast(Any, engine))
            engine.serve([runner for model in loaded for runner in model.runners])
            self._engines.append(engine)
            models += loaded
        return models

    def _share_keys(self, config: FrontConfig) -> None:
        self._charge(config.spent)
        self._server.keys.watch(lambda key, tokens: self._spent.update({key.digest: tokens}))

    def _charge(self, spent: Spending) -> None:
        for digest, tokens in spent.items():
            self._server.keys.charge(digest, tokens)

    async def _exchange(self, state: ClusterState) -> FrontReport:
        self._charge(state.spent.growth(self._elsewhere))
        self._elsewhere = max(self._elsewhere, state.spent, key=lambda totals: totals.number)
        for number, engine in enumerate(self._engines):
            engine.load_seconds = state.load_seconds
            engine.update([member for member in state.engines if member.group == number])
        spent = SpendingTotals(next(self._reports), dict(self._spent))
        lost = [number for engine in self._engines for number in engine.lost]
        return FrontReport([engine.waiting_tokens for engine in self._engines], spent, lost)

    def _reload(self) -> None:
        keys = self._server.keys.reload()
        LOG.info("%s, %s", keys, reload_certificate(self._listener.config.ssl, self._settings))


class SharedPaths:
    """Middleware that refuses what one machine stores: the next request may reach another one."""

    def __init__(self, app: ASGIApp, server: ServerState) -> None:
        self._inner = app
        self._dialects = server.dialects
        self._planner = RequestPlanner(self._dialects)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on unless it is for files, batches or collections."""
        if scope["type"] != "http" or self._planner.find(scope["method"], scope["path"])[0].kind != "home":
            await self._inner(scope, receive, send)
            return
        error = NotShared(
            "Files, batches and collections are stored on one machine, and this is a cluster: use a server of "
            "nearfield serve for them."
        )
        await refuse(Request(scope), error, self._dialects)(scope, receive, send)


def _reachable(address: str) -> str:
    """Return an address with the node's in place of that for all interfaces."""
    node = str(import_ray().util.get_node_ip_address())
    for wildcard in ("//0.0.0.0:", "//[::]:"):
        address = address.replace(wildcard, f"//[{node}]:" if ":" in node else f"//{node}:")
    return address


async def call_actor(method: Any, *values: Any) -> Any:
    """Return the result of a method of an actor.

    Raises:
        EngineLost: the actor has ended, or its machine cannot be reached.
        Exception: whatever the method raised.
    """
    failures = import_ray().exceptions
    try:
        return await method.remote(*values)
    except failures.RayTaskError:
        raise
    except failures.RayError as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise EngineLost(f"The engine ended before it answered: {text}.") from error
