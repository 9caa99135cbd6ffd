"""Points: what a comparison's pictures show, whoever draws them, and where names stand beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def spread(wanted: Sequence[float], step: float, top: float = 1.0) -> list[float]:
    """Return places as near as may be to rising ``wanted`` ones, at least ``step`` apart, from 0 to ``top``.

    Where there are too many for that, they stand evenly, closer.
    """
    if not wanted:
        return []
    step = min(step, top / max(1, len(wanted) - 1))
    found: list[float] = []
    for value in wanted:
        found.append(max(value, found[-1] + step) if found else max(0.0, value))
    limit = top
    for at in range(len(found) - 1, -1, -1):
        found[at] = min(found[at], limit)
        limit = found[at] - step
    return found
