"""The data of a comparison's charts, for HTML and terminal, and the placement of labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nearfield.evaluation.json_types import JsonDict, JsonMapping


def metric_label(comparison: JsonMapping) -> str:
    """Return the label of the quality axis: the main metric, or that it is a mean over several data sets."""
    names = {result["main"] for row in comparison["variants"] for result in row["results"].values()}
    metric = " and ".join(sorted(names)) or "quality"
    sets = len(comparison["datasets"])
    return metric if sets == 1 else f"{metric}, mean of {sets} sets"


def interval(row: JsonMapping) -> list[float] | None:
    """Return the interval of a variant's quality; None unless there is one data set."""
    intervals = [result["interval"] for result in row["results"].values()]
    return intervals[0] if len(intervals) == 1 else None


def quality_speed(comparison: JsonMapping) -> list[JsonDict]:
    """Return a point for each variant whose quality and speed are known, by rising speed."""
    rows = []
    for at, row in enumerate(comparison["variants"]):
        speed = ((row.get("speed") or {}).get("bulk") or {}).get("texts_per_second")
        if row["quality"] is not None and speed:
            rows.append({**_point(row, at, speed), "front": row["name"] in comparison["front"]})
    return sorted(rows, key=lambda point: point["x"])


def quality_bytes(comparison: JsonMapping) -> list[JsonDict]:
    """Return a point for each variant whose quality and bytes a document are known, by rising bytes."""
    rows = []
    for at, row in enumerate(comparison["variants"]):
        stored = (row.get("storage") or {}).get("bytes_per_document")
        if row["quality"] is not None and stored:
            rows.append({**_point(row, at, stored), "options": row["options"]})
    return sorted(rows, key=lambda point: point["x"])


def series(rows: Sequence[JsonMapping]) -> list[list[JsonMapping]]:
    """Group the points that differ only in their dimensions."""
    groups: dict[str, list[JsonMapping]] = {}
    for row in rows:
        key = sorted((name, str(value)) for name, value in row["options"].items() if name != "dimensions")
        groups.setdefault(str(key), []).append(row)
    return list(groups.values())


def latency(comparison: JsonMapping) -> list[JsonDict]:
    """Return for each variant the clients (``x``) and the milliseconds p50 and p95."""
    rows = []
    for at, row in enumerate(comparison["variants"]):
        curve = [(int(count), times) for count, times in ((row.get("speed") or {}).get("latency") or {}).items()]
        curve = [(count, times) for count, times in curve if "p95" in times]
        if curve:
            columns = {name: [times[name] for _, times in curve] for name in ("p50", "p95")}
            rows.append({"label": row["label"], "at": at, "x": [count for count, _ in curve], **columns})
    return rows


def _point(row: JsonMapping, at: int, x: float) -> JsonDict:
    return {"x": x, "y": row["quality"], "interval": interval(row), "label": row["label"], "at": at}


def place_labels(targets: Sequence[float], heights: Sequence[float], top: float = 1.0) -> list[float]:
    """Return positions of labels that do not overlap, as near as possible to the rising ``targets``.

    Positions are the middles of labels with these heights, from 0 to ``top``; if there is too little space, all labels
    move closer. Least squares, by pooling overlapping neighbours (isotonic regression; Barlow et al. 1972).
    """
    gaps = [(a + b) / 2 for a, b in pairwise(heights)]
    scale = min(1.0, top / sum(gaps)) if gaps else 1.0
    offsets = [scale * sum(gaps[:at]) for at in range(len(targets))]
    pools: list[tuple[float, int]] = []
    for value, offset in zip(targets, offsets, strict=True):
        pools.append((value - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    limit = max(0.0, top - offsets[-1]) if offsets else top
    level = [min(max(value, 0.0), limit) for value, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(level, offsets, strict=True)]
