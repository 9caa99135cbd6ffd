"""Merge the metrics of several processes into one page: counts are added, the engine's gauges stand once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

#: A sample's name and labels.
Key = tuple[str, tuple[tuple[str, str], ...]]
Values = dict[Key, float]

#: Gauges that have the same value in each front-end, or whose largest value counts.
_SHARED_GAUGES = frozenset(
    {
        "nearfield_event_loop_lag_seconds_max",
        "nearfield_model_bytes",
        "nearfield_model_loaded",
        "nearfield_models_users",
        "nearfield_cache_disk_bytes",
    }
)
#: Gauges of a process, labelled with its name: processes share parts of their memory, so a sum would be wrong.
_PROCESS_GAUGES = frozenset({"nearfield_process_resident_bytes"})
_COUNTING_TYPES = ("counter", "histogram")


@dataclass
class MetricFamily:
    """A metric and its samples, in their order."""

    name: str
    text: str
    kind: str
    values: Values = field(default_factory=dict)

    def add(self, values: Mapping[Key, float]) -> None:
        """Add samples: sums, but the earlier creation time, and the larger value of a shared gauge."""
        for key, value in values.items():
            known = self.values.get(key)
            if known is None:
                self.values[key] = value
            elif key[0].endswith("_created"):
                self.values[key] = min(known, value)
            else:
                self.values[key] = max(known, value) if self.name in _SHARED_GAUGES else known + value

    def metric(self) -> Metric:
        """Return the metric as a prometheus_client object."""
        metric = Metric(self.name, self.text, self.kind)
        for (name, labels), value in self.values.items():
            metric.add_sample(name, dict(labels), value)
        return metric


class MergedMetrics:
    """Merges the metrics of processes. The last counts of a process that died stay in the sums."""

    def __init__(self) -> None:
        self._departed: dict[str, MetricFamily] = {}

    def add_departed(self, metrics: Sequence[Metric]) -> None:
        """Add the counts of a process that died."""
        counting = [metric for metric in metrics if metric.type in _COUNTING_TYPES]
        _merge(self._departed, counting)

    def page(self, engine: Sequence[Metric], frontends: Mapping[str, Sequence[Metric]]) -> bytes:
        """Return the Prometheus page of the engine's process and the front-ends (by name)."""
        families = {
            name: MetricFamily(family.name, family.text, family.kind, dict(family.values))
            for name, family in self._departed.items()
        }
        _merge(families, engine, "engine")
        once = {metric.name for metric in engine if metric.type == "gauge"} - _PROCESS_GAUGES
        for name, metrics in frontends.items():
            _merge(families, [metric for metric in metrics if metric.name not in once], name)
        registry = CollectorRegistry()
        registry.register(_MergedCollector(families))
        return generate_latest(registry)


class _MergedCollector(Collector):
    def __init__(self, families: Mapping[str, MetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return (family.metric() for family in self._families.values())


def _merge(families: dict[str, MetricFamily], metrics: Sequence[Metric], process: str = "") -> None:
    for metric in metrics:
        family = families.setdefault(metric.name, MetricFamily(metric.name, metric.documentation, metric.type))
        own = {"process": process} if metric.name in _PROCESS_GAUGES else {}
        family.add({(one.name, tuple({**one.labels, **own}.items())): one.value for one in metric.samples})
