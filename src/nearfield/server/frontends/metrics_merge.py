"""Totals: the metrics of several processes as one page: counts added up, what the engine knows told once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

#: A sample's name and labels.
Key = tuple[str, tuple[tuple[str, str], ...]]
Values = dict[Key, float]

#: Gauges that each front-end tells of the same thing.
_SAME = frozenset(
    {
        "nearfield_model_bytes",
        "nearfield_model_loaded",
        "nearfield_models_users",
        "nearfield_cache_disk_bytes",
    }
)
#: Gauges of a process, told for each by its name: parts of memory are shared, and a sum would be no fact.
_OWN = frozenset({"nearfield_process_resident_bytes"})
_GROWING = ("counter", "histogram")


@dataclass
class MetricFamily:
    """A metric and its samples, in their order."""

    name: str
    text: str
    kind: str
    values: Values = field(default_factory=dict)

    def add(self, values: Mapping[Key, float]) -> None:
        """Add samples up; of two times of birth the earlier counts, of what all know the same the larger."""
        for key, value in values.items():
            known = self.values.get(key)
            if known is None:
                self.values[key] = value
            elif key[0].endswith("_created"):
                self.values[key] = min(known, value)
            else:
                self.values[key] = max(known, value) if self.name in _SAME else known + value

    def metric(self) -> Metric:
        """Return it as the library has it."""
        made = Metric(self.name, self.text, self.kind)
        for (name, labels), value in self.values.items():
            made.add_sample(name, dict(labels), value)
        return made


class MergedMetrics:
    """Joins what processes tell. What a process had counted when it was last asked stays in the sums when it dies."""

    def __init__(self) -> None:
        self._departed: dict[str, MetricFamily] = {}

    def depart(self, metrics: Sequence[Metric]) -> None:
        """Keep what a process that is gone had counted."""
        growing = [metric for metric in metrics if metric.type in _GROWING]
        _join(self._departed, growing)

    def page(self, engine: Sequence[Metric], frontends: Mapping[str, Sequence[Metric]]) -> bytes:
        """Return the page of the engine's process and the front-ends, by their names."""
        found = {
            name: MetricFamily(each.name, each.text, each.kind, dict(each.values))
            for name, each in self._departed.items()
        }
        _join(found, engine, "engine")
        once = {metric.name for metric in engine if metric.type == "gauge"} - _OWN
        for name, metrics in frontends.items():
            _join(found, [metric for metric in metrics if metric.name not in once], name)
        registry = CollectorRegistry()
        registry.register(_Joined(found))
        return generate_latest(registry)


class _Joined(Collector):
    def __init__(self, families: Mapping[str, MetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return (family.metric() for family in self._families.values())


def _join(families: dict[str, MetricFamily], metrics: Sequence[Metric], process: str = "") -> None:
    for metric in metrics:
        family = families.setdefault(metric.name, MetricFamily(metric.name, metric.documentation, metric.type))
        own = {"process": process} if metric.name in _OWN else {}
        family.add({(one.name, tuple({**one.labels, **own}.items())): one.value for one in metric.samples})
