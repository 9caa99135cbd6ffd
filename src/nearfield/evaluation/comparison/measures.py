"""The measures by which variants of a comparison are ranked."""

from __future__ import annotations

from nearfield.evaluation.json_types import JsonDict, JsonMapping


def figures(row: JsonMapping) -> JsonDict:
    """Return the measures of a variant, None for those that are unknown.

    ``name``, ``quality`` (points), ``speed`` (documents per second), ``p95`` (milliseconds of a query at the first
    number of clients), ``memory`` and ``storage`` (bytes; of a document).
    """
    speed = row.get("speed") or {}
    latency: JsonMapping = next(iter((speed.get("latency") or {}).values()), {})
    bytes_ = (row.get("storage") or {}).get("bytes_per_document")
    return {
        "name": row["name"],
        "quality": row["quality"],
        "speed": speed.get("bulk", {}).get("texts_per_second"),
        "p95": latency.get("p95"),
        # The memory of an endpoint is on another machine.
        "memory": None if row["options"].get("url") else speed.get("memory", {}).get("peak"),
        "storage": bytes_,
    }
