"""An engine on some node of the cluster: a process with models that computes the tickets of all fronts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Hashable, Sequence

from prometheus_client.core import Metric

from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.serving.cluster_logs import configure_cluster_logging
from nearfield.cluster.serving.messages import EngineFacts, with_times
from nearfield.engine.engine import Engine
from nearfield.engine.ipc.host import reply_of, snapshot
from nearfield.engine.ipc.remote_engine import EngineReply, EngineRequest, Snapshot
from nearfield.engine.ipc.transport import sendable
from nearfield.engine.job import Ticket
from nearfield.engine.turns import Caller
from nearfield.errors import NearfieldError
from nearfield.inference import weightless
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.model_info import ModelInfo
from nearfield.server.lifecycle.model_loading import load_models, model_aliases
from nearfield.server.logs import LOG
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.observability.prometheus import Prometheus
from nearfield.settings import Settings

#: Requests that an engine has in work at most. Its own queue refuses sooner; fewer would starve its batches.
MAX_REQUESTS = 10_000
_HEALTH_CALLER = Caller("nearfield-health")
_HEALTH_TEXT = "health"


class EngineActor:
    """Runs tickets. Ray creates it as an actor, whose methods run on one event loop.

    Args:
        settings: of the server: models, threads, limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine
        self._prometheus: Prometheus
        self._runners: Sequence[ModelInfo] = ()
        self._open: dict[Hashable, Ticket] = {}

    async def load(self) -> EngineFacts:
        """Load the models; why they cannot be loaded is the ``problem`` of the result."""
        configure_cluster_logging(self._settings)
        started = time.perf_counter()
        ray = import_ray()
        node = str(ray.util.get_node_ip_address()), str(ray.get_runtime_context().get_node_id())
        try:
            self._engine, _, loaded = await asyncio.to_thread(load_models, self._settings)
        except (NearfieldError, OSError) as error:
            return EngineFacts(*node, problem=str(error))
        self._runners = [runner for model in loaded for runner in model.runners]
        self._prometheus = Prometheus(loaded, tei=self._settings.tei_metrics)
        self._prometheus.watch_models(ModelPool(loaded))
        return self._facts(node, loaded, time.perf_counter() - started)

    def _facts(self, node: tuple[str, str], loaded: Sequence[LoadedModel], seconds: float) -> EngineFacts:
        spaces = tuple((runner.name, runner.space, runner.width, runner.precision) for runner in self._runners)
        aliases = model_aliases(loaded, self._settings)
        return EngineFacts(*node, weightless.pack_weightless(loaded), aliases, spaces, seconds)

    async def run(self, front: str, request: EngineRequest) -> EngineReply:
        """Run a ticket of a front and return its end; errors are in the reply, so that none looks like one of Ray."""
        ticket = with_times(request).to_ticket(self._runners[request.runner], (front, request.caller.flow))
        key = (front, request.number)
        self._open[key] = ticket
        try:
            await self._end_of(ticket)
        except NearfieldError as error:
            return EngineReply(request.number, error=sendable(error), unstarted_tokens=ticket.unstarted_tokens)
        finally:
            del self._open[key]
        _log_failure(ticket)
        return reply_of(request.number, ticket)

    async def _end_of(self, ticket: Ticket) -> None:
        """Wait until a ticket has ended; its errors stay in it. Raises the error with which the engine refuses it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def on_done(_: Ticket) -> None:
            loop.call_soon_threadsafe(done.set_result, None)

        ticket.on_done = on_done
        self._engine.submit(ticket)
        await done

    async def cancel(self, front: str, number: int) -> None:
        """Drop the jobs of a ticket that have not started."""
        ticket = self._open.get((front, number))
        if ticket is not None:
            self._engine.cancel(ticket)

    async def state(self) -> Snapshot:
        """Return the engine's queue and speed."""
        return snapshot(self._engine)

    async def metrics(self) -> list[Metric]:
        """Return what was measured here: batches, the queue, models, memory."""
        return [metric for metric in self._prometheus.metrics() if metric.samples]

    async def probe(self) -> None:
        """Run a real batch of each model that reads texts, before all requests that wait.

        Raises:
            NearfieldError: it failed.
        """
        for runner in self._runners:
            if isinstance(runner.processor, Tokenizer):
                ids = runner.processor.encode([_HEALTH_TEXT])[0].ids
                await self._engine.run(Ticket.from_ids(runner, [ids], caller=_HEALTH_CALLER))

    async def drain(self, seconds: float) -> bool:
        """Finish accepted requests; return whether all ended in time. New ones are refused."""
        until = time.monotonic() + seconds
        drained = await asyncio.to_thread(self._engine.drain, seconds)
        while self._open and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return drained and not self._open

    async def pid(self) -> int:
        """Return the number of this process on its node."""
        return os.getpid()


def _log_failure(ticket: Ticket) -> None:
    """Log why an input failed, where it is not the input's fault: the front does not know where it was raised."""
    error = ticket.errors[min(ticket.errors)] if ticket.errors else None
    if error is not None and getattr(error, "status", 500) == 500:
        LOG.error("an input failed: %s", type(error).__name__, exc_info=error)
