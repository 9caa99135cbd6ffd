"""Points: what a comparison's pictures show, whoever draws them, and where names stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any


def main(told: Mapping[str, Any]) -> str:
    """Return what quality is called: the main metric, or that it is a mean of several sets'."""
    names = {result["main"] for row in told["variants"] for result in row["results"].values()}
    metric = " and ".join(sorted(names)) or "quality"
    sets = len(told["datasets"])
    return metric if sets == 1 else f"{metric}, mean of {sets} sets"


def interval(row: Mapping[str, Any]) -> list[float] | None:
    """Return the interval of a variant's quality, where it was measured on one data set."""
    found = [result["interval"] for result in row["results"].values()]
    return found[0] if len(found) == 1 else None


def quality_speed(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a point for each variant whose quality and speed are known, by rising speed."""
    rows = []
    for at, row in enumerate(told["variants"]):
        speed = ((row.get("speed") or {}).get("bulk") or {}).get("texts_per_second")
        if row["quality"] is not None and speed:
            rows.append({**_point(row, at, speed), "front": row["name"] in told["front"]})
    return sorted(rows, key=lambda each: each["x"])


def quality_bytes(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a point for each variant whose quality and bytes a document are known, by rising bytes."""
    rows = []
    for at, row in enumerate(told["variants"]):
        stored = (row.get("storage") or {}).get("bytes_per_document")
        if row["quality"] is not None and stored:
            rows.append({**_point(row, at, stored), "options": row["options"]})
    return sorted(rows, key=lambda each: each["x"])


def series(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return points that differ in their dimensions alone together."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        told = sorted((name, str(value)) for name, value in row["options"].items() if name != "dimensions")
        found.setdefault(str(told), []).append(row)
    return list(found.values())


def latency(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each variant the clients (``x``) and the milliseconds p50 and p95."""
    rows = []
    for at, row in enumerate(told["variants"]):
        curve = [(int(count), each) for count, each in ((row.get("speed") or {}).get("latency") or {}).items()]
        curve = [(count, each) for count, each in curve if "p95" in each]
        if curve:
            columns = {name: [each[name] for _, each in curve] for name in ("p50", "p95")}
            rows.append({"label": row["label"], "at": at, "x": [count for count, _ in curve], **columns})
    return rows


def _point(row: Mapping[str, Any], at: int, x: float) -> dict[str, Any]:
    return {"x": x, "y": row["quality"], "interval": interval(row), "label": row["label"], "at": at}


def place_labels(wanted: Sequence[float], heights: Sequence[float], top: float = 1.0) -> list[float]:
    """Return middles of names of some heights, as near as may be to rising ``wanted`` ones: none covers another.

    They lie from 0 to ``top``; where there is not room for all, they stand closer. Least squares, by pooling neighbours
    that are in each other's way (isotonic regression; Barlow et al. 1972).
    """
    gaps = [(a + b) / 2 for a, b in pairwise(heights)]
    scale = min(1.0, top / sum(gaps)) if gaps else 1.0
    offsets = [scale * sum(gaps[:at]) for at in range(len(wanted))]
    pools: list[tuple[float, int]] = []
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append((value - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    limit = max(0.0, top - offsets[-1]) if offsets else top
    level = [min(max(value, 0.0), limit) for value, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(level, offsets, strict=True)]
