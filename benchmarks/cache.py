"""Speed of cached and of new texts over HTTP, in one run."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

from benchmarks.servers import Server, _nearfield
from benchmarks.throughput import ratio

#: Clients and texts a request.
SCENES = {
    "one client, single texts": (1, 1),
    "32 clients, single texts": (32, 1),
    "one client, bulk of 32": (1, 32),
    "4 clients, bulk of 32": (4, 32),
}
#: Lists of 2,000 texts of which new ones are taken: more than are sent in the time.
_LISTS = 20
#: The list whose texts are sent again and again.
_KEPT = 1
#: How many times as fast a cached result should be.
WANTED = 5.0


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return how many times as fast texts are that were sent before, by texts/s and by median latency."""
    seconds = 1.0 if quick else 3.0
    server = Server("nearfield", _nearfield("256MiB"), "/v1/embeddings", "all-MiniLM-L6-v2")
    found: dict[str, dict[str, list[dict[str, float]]]] = {scene: {"hit": [], "miss": []} for scene in SCENES}
    new = itertools.count(_KEPT + 1, _LISTS)
    try:
        server.load("short", 600, 4, 20, seeds=[_KEPT], once=True)
        for _ in range(rounds):
            for scene, (clients, batch) in SCENES.items():
                first = next(new)
                never = {"seeds": list(range(first, first + _LISTS)), "once": True}
                found[scene]["hit"].append(server.load("short", seconds, clients, batch, seeds=[_KEPT]))
                found[scene]["miss"].append(server.load("short", seconds, clients, batch, **never))
    finally:
        server.close()
    return {scene: _compared(rows["hit"], rows["miss"]) for scene, rows in found.items()}


def _compared(hits: list[dict[str, float]], misses: list[dict[str, float]]) -> dict[str, Any]:
    rate, latency = "texts_per_second", "p50_ms"
    times = {
        "times the texts/s": ratio([row[rate] for row in hits], [row[rate] for row in misses]),
        "times as soon": ratio([row[latency] for row in misses], [row[latency] for row in hits]),
    }
    told = {
        f"{name} {what}": round(statistics.median(row[what] for row in rows), 2)
        for name, rows in (("hit", hits), ("miss", misses))
        for what in (rate, latency)
    }
    return {**times, **told, "met": max(row["median"] for row in times.values()) >= WANTED}
