"""Standing: variants in order of what they are worth together: quality, speed, memory and storage by weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

#: What counts, and how much where nobody says.
WEIGHTS: Mapping[str, float] = MappingProxyType({"quality": 0.6, "speed": 0.2, "memory": 0.05, "storage": 0.15})
#: Points behind the best at which quality counts nothing, and how many times worse the others.
POINTS, TIMES = 10.0, 100.0
#: How each measure becomes a number from 0 to 1, in words.
NORMALISATION: Mapping[str, str] = MappingProxyType(
    {
        "quality": f"1 for the best, 0 for {POINTS:g} points behind it, in between by the points",
        "speed": f"documents a second: 1 for the fastest, 0 for one {TIMES:g} times slower, by the logarithm",
        "memory": f"the process's peak: 1 for the least, 0 for {TIMES:g} times as much, by the logarithm",
        "storage": f"bytes of vectors a document: 1 for the least, 0 for {TIMES:g} times as much, by the logarithm",
    }
)


def rank(rows: Sequence[Mapping[str, Any]], told: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return variants in order, the best first: ``name``, ``total`` and ``parts`` (each measure from 0 to 1).

    ``rows`` have ``name`` and the measures: quality in points, speed in documents a second, memory and storage in
    bytes; None where one is not known. What is not known of a variant is left out of its total, and the weights of the
    rest grow in proportion (``unknown`` names it). Variants without quality are not ranked.
    """
    ranked = [row for row in rows if row.get("quality") is not None]
    parts = {name: _column([row.get(name) for row in ranked], name) for name in WEIGHTS}
    # What nobody was measured by is no gap of one's own.
    weighed = [name for name in WEIGHTS if told[name] > 0 and any(value is not None for value in parts[name])]
    found = []
    for at, row in enumerate(ranked):
        own = {name: column[at] for name, column in parts.items()}
        known = {name: value for name, value in own.items() if value is not None}
        share = sum(told[name] for name in known)
        total = sum(told[name] * value for name, value in known.items()) / share if share else 0.0
        unknown = [name for name in weighed if own[name] is None]
        found.append({"name": row["name"], "total": total, "parts": own, "unknown": unknown})
    return sorted(found, key=lambda each: -each["total"])


def _column(values: Sequence[float | None], name: str) -> list[float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return [None] * len(values)
    # What stores nothing has all of that part, and is no measure for the others.
    best = min((value for value in known if value > 0), default=1) if name in ("memory", "storage") else max(known)
    scale = _SCALES[name]
    return [None if value is None else min(1.0, max(0.0, scale(value, best))) for value in values]


def _behind(value: float, best: float) -> float:
    return 1 - (best - value) / POINTS


def _times(value: float, best: float) -> float:
    if value <= 0 or best <= 0:
        return 1.0
    return 1 - abs(math.log(best / value)) / math.log(TIMES)


_SCALES: Mapping[str, Callable[[float, float], float]] = {
    "quality": _behind,
    "speed": _times,
    "memory": _times,
    "storage": _times,
}


def pareto_front(rows: Sequence[Mapping[str, Any]], x: str = "speed", y: str = "quality") -> list[str]:
    """Return the names on the Pareto front, by rising ``x``: no other has as much of both and more of one."""
    known = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    best = [row for row in known if not any(_beats(other, row, x, y) for other in known)]
    return [row["name"] for row in sorted(best, key=lambda row: (row[x], row["name"]))]


def _beats(a: Mapping[str, Any], b: Mapping[str, Any], x: str, y: str) -> bool:
    return a[x] >= b[x] and a[y] >= b[y] and (a[x] > b[x] or a[y] > b[y])
