"""``/metrics`` of a front: its requests, and the batches, queues and models of the engines on its node.

Each engine is in the page of one front, so that sums over all fronts are sums over all engines. Its samples have its
number as the label ``engine``; they end when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from prometheus_client.core import GaugeMetricFamily, Metric

from nearfield.cluster.serving.cluster_engine import ClusterEngine
from nearfield.errors import NearfieldError
from nearfield.server.frontends.metrics_merge import MetricFamily
from nearfield.server.logs import LOG
from nearfield.server.observability.metrics_page import PageWriter
from nearfield.server.observability.prometheus import EngineGauges
from nearfield.server.server_state import ServerState

#: Seconds for an engine to send its metrics; the page then leaves it out.
_SECONDS = 1.0
#: What only engines know, and what only fronts know.
_OF_ENGINES = frozenset(
    {"nearfield_model_bytes", "nearfield_model_loaded", "te_queue_size", "te_batch_next_size", "te_batch_next_tokens"}
)
_PREFIXES_OF_FRONTS = ("nearfield_models_users", "nearfield_ready", "te_")


class FrontMetrics:
    """Collects the metrics of a front and of the engines on its node.

    Args:
        server: the state of the front.
        engines: for each group its engines and names of models.
        node_id: the node of the front.
        call: calls a method of an actor and returns its result; it raises ``EngineLost`` if the actor is dead.
    """

    def __init__(
        self, server: ServerState, engines: Sequence[ClusterEngine], node_id: str, call: Callable[..., Any]
    ) -> None:
        self._server = server
        self._engines = engines
        self._node_id = node_id
        self._call = call
        self._writer = PageWriter()
        #: The gauges of a server's own engine, which here would be sums over all engines of a group.
        self._replaced = _OF_ENGINES | {
            metric.name for engine in engines for metric in EngineGauges(cast(Any, engine)).collect()
        }

    async def page(self) -> bytes:
        """Return the page."""
        actors = {
            number: actor for engine in self._engines for number, actor in engine.actors_on(self._node_id).items()
        }
        answers = await asyncio.gather(*(self._ask(number, actor) for number, actor in actors.items()))
        families: dict[str, MetricFamily] = {}
        for metric in self._server.prometheus.metrics():
            if metric.name not in self._replaced:
                _add(families, metric)
        for metric in self._cluster_gauges():
            _add(families, metric)
        for number, metrics in zip(actors, answers, strict=True):
            for metric in metrics:
                if metric.name in _OF_ENGINES or not metric.name.startswith(_PREFIXES_OF_FRONTS):
                    _add(families, metric, {"engine": str(number)})
        return await self._writer.write([family.metric() for family in families.values()])

    async def _ask(self, number: int, actor: Any) -> Sequence[Metric]:
        try:
            metrics: Sequence[Metric] = await asyncio.wait_for(self._call(actor.metrics), _SECONDS)
        except (NearfieldError, asyncio.TimeoutError) as error:
            LOG.warning("engine %s sent no metrics: %s", number, str(error) or "no answer in time")
            return ()
        return metrics

    def _cluster_gauges(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "nearfield_ready", "1 when work is accepted.", float(not self._server.unready_reasons())
        )
        engines = GaugeMetricFamily(
            "nearfield_cluster_engines", "Engines with the model, on all nodes.", labels=["model"]
        )
        for engine in self._engines:
            for name in engine.models:
                engines.add_metric([name], engine.count)
        yield engines
        waiting = sum(engine.waiting_tokens for engine in self._engines)
        yield GaugeMetricFamily("nearfield_cluster_waiting_tokens", "Tokens that wait here for an engine.", waiting)


def _add(families: dict[str, MetricFamily], metric: Metric, labels: dict[str, str] | None = None) -> None:
    family = families.setdefault(metric.name, MetricFamily(metric.name, metric.documentation, metric.type))
    family.add(
        {(sample.name, tuple({**sample.labels, **(labels or {})}.items())): sample.value for sample in metric.samples}
    )
