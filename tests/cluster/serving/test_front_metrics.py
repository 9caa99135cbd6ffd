"""The page of metrics of a front. Engines are fakes; Ray is not needed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from nearfield import Encoder
from nearfield.cluster.serving import front_metrics
from nearfield.cluster.serving.cluster_engine import ClusterEngine, EngineLost, WaitLimits
from nearfield.cluster.serving.front_metrics import FrontMetrics
from nearfield.cluster.serving.messages import EngineState
from nearfield.engine.ipc.remote_engine import Snapshot
from nearfield.engine.stats import EngineStats
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.observability.live_stats import MetricsSnapshot, parse_metrics
from nearfield.server.server_state import ServerState
from nearfield.setting_fields import ByteSize
from nearfield.settings import Settings

_STATS = EngineStats(0, 0, 70, 0, 0, 100.0, 1, 1, False)


@dataclass(eq=False)
class FakeActor:
    """An engine with a number of batches, or an error in place of its metrics."""

    batches: int
    failure: Exception | None = None
    pause: float = 0.0

    async def metrics(self) -> list[Metric]:
        """Return them."""
        await asyncio.sleep(self.pause)
        if self.failure is not None:
            raise self.failure
        batches = CounterMetricFamily("nearfield_batches", "Batches.", labels=["model"])
        batches.add_metric(["tiny"], self.batches)
        return [batches, GaugeMetricFamily("nearfield_queue_depth", "Inputs.", 5.0), self._gauge("nearfield_ready")]

    def _gauge(self, name: str) -> Metric:
        return GaugeMetricFamily(name, "Of the engine.", 0.0)


async def _call(method: Any, *values: Any) -> Any:
    return await method(*values)


async def _page(tiny: Encoder, *groups: list[tuple[FakeActor, str]]) -> MetricsSnapshot:
    """Return the page of a front on the node ``here``; a group is its engines with their nodes."""
    engines, number = [], 0
    for group, actors in enumerate(groups):
        engine = ClusterEngine("front", WaitLimits(5.0, 100), _call)
        engine.serve(tiny.runners)
        states = [
            EngineState(number + at, group, actor, Snapshot(_STATS), node) for at, (actor, node) in enumerate(actors)
        ]
        engine.update(states)
        engines.append(engine)
        number += len(actors)
    server = ServerState.create(Settings(cache_memory=ByteSize(0)), ModelPool([tiny]))
    try:
        return parse_metrics((await FrontMetrics(server, engines, "here", _call).page()).decode(), 0.0)
    finally:
        server.close()


async def test_engines_of_this_node_are_in_the_page_with_their_numbers(tiny: Encoder) -> None:
    page = await _page(tiny, [(FakeActor(3), "here"), (FakeActor(50), "there")], [(FakeActor(4), "here")])
    assert page.total("nearfield_batches_total", engine="0", model="tiny") == 3
    assert page.total("nearfield_batches_total", engine="2", model="tiny") == 4
    assert page.total("nearfield_batches_total") == 7
    # The sums over all engines, which this front knows for its choices, are not there: each page would have them.
    assert page.total("nearfield_queue_depth") == 10
    assert page.total("nearfield_queue_tokens") is None
    assert page.total("nearfield_ready") == 1  # that of the front


async def test_an_engine_that_is_lost_or_slow_is_left_out(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_metrics, "_SECONDS", 0.05)
    actors = [FakeActor(1, EngineLost("gone")), FakeActor(2, pause=1.0), FakeActor(4)]
    page = await _page(tiny, [(actor, "here") for actor in actors])
    assert page.total("nearfield_batches_total") == 4
