"""Rank variants by the weighted mean of quality, speed, memory and storage; find the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: Measures of which less is better.
_COSTS = ("memory", "storage")
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


def rank(
    rows: Sequence[JsonMapping], weights: Mapping[str, float], limits: Mapping[str, float] | None = None
) -> list[JsonDict]:
    """Return variants in order, the highest total first: ``name``, ``total`` and ``parts`` (each measure from 0 to 1).

    ``rows`` have ``name`` and the measures: quality in points, speed in documents per second, memory and storage in
    bytes; None: unknown. A measure that no variant has is left out of the totals. One that a variant lacks counts as
    the worst of the others, so that what is unknown is no advantage; ``unknown`` names it. Variants without quality are
    not ranked. ``limits``: values of measures that suffice; they and all that is better score 1.
    """
    ranked = [row for row in rows if row.get("quality") is not None]
    parts = {name: _normalise([row.get(name) for row in ranked], name, (limits or {}).get(name)) for name in WEIGHTS}
    known = {name: column for name, column in parts.items() if any(value is not None for value in column)}
    share = sum(weights[name] for name in known)
    ranking = []
    for at, row in enumerate(ranked):
        counted = {name: _part(column, at) for name, column in known.items()}
        total = sum(weights[name] * value for name, value in counted.items()) / share if share else 0.0
        unknown = [name for name, column in known.items() if column[at] is None and weights[name] > 0]
        own = {name: column[at] for name, column in parts.items()}
        ranking.append({"name": row["name"], "total": total, "parts": own, "unknown": unknown})
    return sorted(ranking, key=lambda place: -place["total"])


def _part(column: Sequence[float | None], at: int) -> float:
    value = column[at]
    return min(known for known in column if known is not None) if value is None else value


def _normalise(values: Sequence[float | None], name: str, limit: float | None) -> list[float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return [None] * len(values)
    # A variant without vectors gets 1 for storage; the others are compared with the smallest above 0.
    best = min((value for value in known if value > 0), default=1) if name in _COSTS else max(known)
    scale = _SCALES[name]
    if limit is not None:
        best, values = limit, [None if value is None else _capped(value, name, limit) for value in values]
    return [None if value is None else min(1.0, max(0.0, scale(value, best))) for value in values]


def _capped(value: float, name: str, limit: float) -> float:
    """Return a value, or the limit if the value is better."""
    return max(value, limit) if name in _COSTS else min(value, limit)


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
