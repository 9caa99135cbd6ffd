"""The state that all requests of a server share: models, keys, limits, metrics, caches, files, batches, collections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from nearfield import __version__
from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine
from nearfield.errors import Forbidden
from nearfield.evaluation.reports.report_folder import ReportFolder
from nearfield.evaluation.reports.report_writer import reports_folder
from nearfield.hardware import memory_limit
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.result_cache import ResultCache
from nearfield.inference.result_cache.disk_cache import DiskCache
from nearfield.media.limits import MediaLimits, PictureLimits, SoundLimits, VideoLimits
from nearfield.server.auth.account import RequestAccount
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.host_guard import HostGuard, is_loopback
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.batches.batch_runner import BatchRunner
from nearfield.server.collections.collection_service import CollectionService
from nearfield.server.collections.thread_pool import BoundedThreadPool
from nearfield.server.dialects import REGISTRY, Dialect, Route
from nearfield.server.exchange import Bounds, Exchange
from nearfield.server.exchange.picture_fetcher import PictureFetcher, policy_of
from nearfield.server.files.file_store import FileStore
from nearfield.server.files.quota import StorageLimits
from nearfield.server.http.connection_limit import ConnectionLimit
from nearfield.server.http.content_bounds import ContentBounds
from nearfield.server.http.deadline import PendingBodies
from nearfield.server.http.decode_thread import DecodeThread, EncodeThread
from nearfield.server.http.limits import MemoryGuard, Pace, RequestLimits, max_cache_bytes
from nearfield.server.http.reply_budget import ReplyBudget
from nearfield.server.http.request_body import BodyBudget
from nearfield.server.models.figure_points import HistorySource
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.observability.history import MetricsHistory
from nearfield.server.observability.loop_lag import LoopLag
from nearfield.server.observability.metrics_page import MetricsPage, PageWriter
from nearfield.server.observability.prometheus import Prometheus
from nearfield.settings import Settings, cache_dir

if TYPE_CHECKING:
    from nearfield.server.observability.traces import Traces

#: Memory that an input takes, at the least: its tokens, its vector and their text in the reply.
_BYTES_PER_INPUT = 12_288
#: Jobs that may wait for a thread.
_MAX_WAITING_JOBS = 16


@dataclass(eq=False)
class ServerState:
    """What the requests of a server share, over HTTP and gRPC and for lines of batches."""

    models: ModelPool
    dialects: Sequence[Dialect]
    keys: ApiKeys
    host_guard: HostGuard
    limits: RequestLimits
    #: What token ids are, where an API leaves that open (see ``RequestContext.token_ids``).
    token_ids: str
    memory: MemoryGuard
    body_budget: BodyBudget
    content_bounds: ContentBounds
    prometheus: Prometheus
    reply_budget: ReplyBudget
    connections: ConnectionLimit
    files: FileStore
    collections: CollectionService
    reports: ReportFolder
    cache: ResultCache | None = None
    traces: Traces | None = None
    pace: Pace = field(default_factory=Pace)
    pending_bodies: PendingBodies = field(default_factory=PendingBodies)
    decode_thread: DecodeThread = field(default_factory=DecodeThread)
    encode_thread: EncodeThread = field(default_factory=EncodeThread)
    picture_fetcher: PictureFetcher = field(default_factory=PictureFetcher)
    #: Two, so that one owner's long job leaves a thread to others.
    job_threads: BoundedThreadPool = field(default_factory=lambda: BoundedThreadPool(2, "jobs", _MAX_WAITING_JOBS))
    loop_lag: LoopLag = field(default_factory=LoopLag)
    #: Returns the metrics of all front-ends, if there are several processes.
    merged_metrics: Callable[[], Awaitable[bytes]] | None = None
    #: Path templates by endpoint, as labels of metrics and traces.
    route_templates: dict[Any, str] = field(default_factory=dict)
    #: Set by ``create_app``: it needs the state to perform the lines of a batch.
    batches: BatchRunner = field(init=False)
    metrics_page: MetricsPage = field(init=False)
    history: HistorySource = field(init=False)

    def __post_init__(self) -> None:
        """Let page and history read the metrics of all processes."""
        writer = PageWriter()

        async def render() -> bytes:
            if self.merged_metrics is not None:
                return await self.merged_metrics()
            return await writer.write(self.prometheus.metrics())

        self.metrics_page = MetricsPage(render)
        self.history = MetricsHistory(self.metrics_page.read)

    @classmethod
    def create(cls, settings: Settings, models: ModelPool, traces: Traces | None = None) -> ServerState:
        """Open files, collections and caches as the settings say.

        Raises:
            SettingsError: the key file or the chat endpoint is invalid.
        """
        storage = StorageLimits(
            settings.max_stored_bytes, settings.max_key_stored_bytes, settings.max_key_files, settings.max_key_batches
        )
        files = FileStore(settings.data_dir or cache_dir() / "server", storage)
        limits = RequestLimits(
            settings.max_body_bytes,
            settings.max_items,
            settings.max_request_tokens,
            settings.request_timeout,
            settings.bulk_items,
            MediaLimits(
                PictureLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
                SoundLimits(max_bytes=settings.max_audio_bytes, max_seconds=settings.max_audio_seconds),
                VideoLimits(max_bytes=settings.max_video_bytes, max_seconds=settings.max_video_seconds),
            ),
            policy_of(settings.media_urls, settings.media_hosts, settings.max_image_bytes),
        )
        memory = MemoryGuard()
        # Over a Unix socket there may be a proxy: its clients are not on this machine.
        loopback = settings.uds is None and is_loopback(settings.host)
        state = cls(
            models=models,
            dialects=[REGISTRY.load(name)() for name in REGISTRY.order()],
            keys=ApiKeys(settings.api_keys, settings.api_key_file),
            host_guard=HostGuard(loopback, settings.allowed_hosts, settings.cors_origins),
            limits=limits,
            token_ids=settings.token_ids,
            memory=memory,
            body_budget=BodyBudget(limits, memory),
            content_bounds=ContentBounds.from_limits(limits),
            prometheus=Prometheus(models.loaded, tei=settings.tei_metrics),
            reply_budget=ReplyBudget(settings.max_reply_bytes),
            connections=ConnectionLimit(max_pending_bytes=settings.max_reply_bytes),
            files=files,
            collections=CollectionService.from_settings(settings, models),
            reports=ReportFolder(settings.reports_dir or reports_folder()),
            cache=_open_cache(settings, files.folder),
            traces=traces,
        )
        state._share_limits()
        state._observe_models()
        return state

    def _share_limits(self) -> None:
        """Count the bytes of an owner in files and in collections together."""
        self.files.elsewhere = self.collections.stored_bytes
        self.collections.owner_bytes = self.files.owner_bytes

    def _observe_models(self) -> None:
        self.prometheus.watch_loop(self.loop_lag)
        self.prometheus.watch_models(self.models)
        self.prometheus.watch_connections(self.connections)
        self.connections.on_refusal = lambda status: self.prometheus.replied("unmatched", status, 0.0)
        self.models.watchers += [self.prometheus.watch, self._attach_cache]
        for model in self.models.loaded:
            self._attach_cache(model)
        if self.cache is not None:
            self.prometheus.watch_cache(self.cache)

    def _attach_cache(self, model: LoadedModel) -> None:
        if isinstance(model, Encoder):
            model.cache = self.cache

    # -- start and stop ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Resume the batches that an earlier process left unfinished, and observe the server."""
        self.observe()
        self.batches.wake()

    def observe(self) -> None:
        """Measure the event loop, and store figures from now on."""
        self.loop_lag.start()
        self.history.start()

    def stop(self) -> None:
        """Begin to shut down: finish accepted requests unless their body stalls, and pause batches."""
        self.pending_bodies.stop()
        self.history.stop()
        self.batches.stop()

    def close(self) -> None:
        """Close collections and the cache, once no request runs any more."""
        self.decode_thread.close()
        self.encode_thread.close()
        self.picture_fetcher.close()
        self.collections.close()
        self.job_threads.close()
        self.files.close()
        if self.cache is not None and self.cache.disk is not None:
            self.cache.disk.close()

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self.pending_bodies.stopping

    def unready_reasons(self) -> list[str]:
        """Return why the server is not ready; empty when it is."""
        return ["the server is shutting down"] * self.stopping + [
            reason for engine in self._engines() for reason in engine.reasons
        ]

    def _engines(self) -> set[Engine]:
        return {model.engine for model in self.models.loaded}

    def queued_tokens(self) -> int:
        """Return the tokens that wait in all engines."""
        return sum(engine.stats().queued_tokens for engine in self._engines())

    # -- keys ----------------------------------------------------------------------------------------------------

    def authenticate(self, authorization: str | None, peer: str | None, headers: Mapping[str, str]) -> ApiKey:
        """Return the key of an Authorization header; without configured keys, what a client at ``peer`` may do.

        Raises:
            AccessDenied: there is no such key.
            Forbidden: the request comes from a foreign web page, or under another host name.
        """
        return self.keys.check(authorization) if self.keys else self.host_guard.check(headers, peer)

    def authorize(self, key: ApiKey, route: Route) -> None:
        """Check that a key may use a route, and has tokens left.

        Raises:
            Forbidden: the key lacks the route's scope.
            RateLimited: the key has used up its tokens of this minute.
        """
        if route.public:
            return
        if not key.may(route.scope):
            hint = "" if self.keys else " Set keys (api_key_file) with the scope, or ask from the server's own machine."
            raise Forbidden(f"This needs a key with the scope {route.scope!r}; {key.name!r} has none.{hint}")
        if not route.rate_limit_exempt:
            key.check_rate()

    # -- work ----------------------------------------------------------------------------------------------------

    async def perform(
        self,
        exchange: Exchange,
        key: ApiKey,
        seconds: float,
        *,
        bulk: bool = False,
        reserve: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Perform an exchange within ``seconds``; its tokens count against the key before they are queued.

        ``reserve`` counts the bytes of pictures that are fetched for it.

        Raises:
            RateLimited: the key has used up its tokens of this minute.
            OutOfMemory: the process has no memory for its inputs.
            NearfieldError: it cannot be performed.
        """
        self.memory.claim(_BYTES_PER_INPUT * exchange.size)
        account = RequestAccount(key)
        bounds = Bounds(
            self.limits, seconds, self.pace, key.allows, bulk, account, fetcher=self.picture_fetcher, reserve=reserve
        )
        try:
            await exchange.perform(self.models, bounds)
            account.settle(exchange.tokens)
        finally:
            self.prometheus.answered(exchange)

    def count_response(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a finished request, whether it matched a route or not."""
        route = self.route_templates.get(scope.get("endpoint"))
        self.prometheus.replied(route or "unmatched", status, seconds)
        if self.traces is not None:
            self.traces.finish(scope, route, status, seconds)


def _open_cache(settings: Settings, folder: Path) -> ResultCache | None:
    memory = max_cache_bytes(settings.cache_memory, memory_limit())
    disk = DiskCache(folder / "results.sqlite", settings.cache_disk) if settings.cache_disk else None
    return ResultCache(memory, __version__, disk) if memory or disk is not None else None
