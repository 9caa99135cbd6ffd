"""Rank variants by the weighted mean of quality, speed, memory and storage; find the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: Default weights.
WEIGHTS: Mapping[str, float] = MappingProxyType({"quality": 0.6, "speed": 0.2, "memory": 0.05, "storage": 0.15})
#: A quality that many points below the best counts 0, as does any other measure that many times worse than the best.
MAX_POINTS_BEHIND, MAX_RATIO = 10.0, 100.0
#: Descriptions of how each measure becomes a number from 0 to 1.
NORMALISATION: Mapping[str, str] = MappingProxyType(
    {
        "quality": f"1 for the best, 0 for {MAX_POINTS_BEHIND:g} points below it, linear in between",
        "speed": f"documents per second: 1 for the fastest, 0 if {MAX_RATIO:g} times slower, logarithmic in between",
        "memory": f"peak memory: 1 for the least, 0 at {MAX_RATIO:g} times that, logarithmic in between",
        "storage": f"vector bytes per document: 1 for the least, 0 at {MAX_RATIO:g} times that, logarithmic in between",
    }
)


def rank(rows: Sequence[JsonMapping], weights: Mapping[str, float]) -> list[JsonDict]:
    """Return variants in order, the best first: ``name``, ``total`` and ``parts`` (each measure from 0 to 1).

    ``rows`` have ``name`` and the measures: quality in points, speed in documents per second, memory and storage in
    bytes; None: unknown. A variant's unknown measures are left out of its total, the other weights grow in proportion,
    and ``unknown`` names the measures. Variants without quality are not ranked.
    """
    ranked = [row for row in rows if row.get("quality") is not None]
    parts = {name: _normalise([row.get(name) for row in ranked], name) for name in WEIGHTS}
    # A measure that no variant has is not reported as unknown.
    weighed = [name for name in WEIGHTS if weights[name] > 0 and any(value is not None for value in parts[name])]
    ranking = []
    for at, row in enumerate(ranked):
        own = {name: column[at] for name, column in parts.items()}
        known = {name: value for name, value in own.items() if value is not None}
        share = sum(weights[name] for name in known)
        total = sum(weights[name] * value for name, value in known.items()) / share if share else 0.0
        unknown = [name for name in weighed if own[name] is None]
        ranking.append({"name": row["name"], "total": total, "parts": own, "unknown": unknown})
    return sorted(ranking, key=lambda place: -place["total"])


def _normalise(values: Sequence[float | None], name: str) -> list[float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return [None] * len(values)
    # A variant without vectors gets 1 for storage; the others are compared with the smallest above 0.
    best = min((value for value in known if value > 0), default=1) if name in ("memory", "storage") else max(known)
    scale = _SCALES[name]
    return [None if value is None else min(1.0, max(0.0, scale(value, best))) for value in values]


def _scale_points(value: float, best: float) -> float:
    return 1 - (best - value) / MAX_POINTS_BEHIND


def _scale_ratio(value: float, best: float) -> float:
    if value <= 0 or best <= 0:
        return 1.0
    return 1 - abs(math.log(best / value)) / math.log(MAX_RATIO)


_SCALES: Mapping[str, Callable[[float, float], float]] = {
    "quality": _scale_points,
    "speed": _scale_ratio,
    "memory": _scale_ratio,
    "storage": _scale_ratio,
}


def pareto_front(rows: Sequence[JsonMapping], x: str = "speed", y: str = "quality") -> list[str]:
    """Return the names on the Pareto front by rising ``x``: no other variant is as good in both and better in one."""
    known = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    best = [row for row in known if not any(_dominates(other, row, x, y) for other in known)]
    return [row["name"] for row in sorted(best, key=lambda row: (row[x], row["name"]))]


def _dominates(a: JsonMapping, b: JsonMapping, x: str, y: str) -> bool:
    return a[x] >= b[x] and a[y] >= b[y] and (a[x] > b[x] or a[y] > b[y])
