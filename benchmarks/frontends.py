"""Compare a single server process with two HTTP processes in front of a process that runs the model.

Beside texts a second, which the clients' own share of the cores bounds on a small machine, it prints the milliseconds
of CPU that each process spends on a text: on a machine with enough cores the busiest process is the limit.
"""

from __future__ import annotations

import statistics
import sys
import urllib.request
from typing import Any

import psutil

from benchmarks.servers import Server
from benchmarks.throughput import ratio

#: Each with its kind of texts, clients, texts a request, and whether answers come from the cache.
SCENES = {
    "cache hits, 32 clients": ("short", 32, 1, True),
    "single short texts, 32 clients": ("short", 32, 1, False),
    "single short texts, one client": ("short", 1, 1, False),
    "bulk of 32 short texts, 4 clients": ("short", 4, 32, False),
}
COUNTS = (1, 2)


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Measure servers with one and two front-ends in turn, under the same clients."""
    seconds = 1.0 if quick else 5.0
    servers = {(count, cached): _serve(count, cached) for count in COUNTS for cached in (True, False)}
    rates: dict[str, dict[int, list[float]]] = {scene: {count: [] for count in COUNTS} for scene in SCENES}
    costs: dict[str, dict[str, list[float]]] = {}
    details: dict[str, Any] = {}
    for (_, cached), server in servers.items():
        _warm(server, seconds, cached)
    for number in range(rounds):
        for scene, (kind, clients, batch, cached) in SCENES.items():
            # The first one meets the machine as the last scene left it: take turns.
            for count in COUNTS if number % 2 else reversed(COUNTS):
                before = _cpu(servers[count, cached])
                told = servers[count, cached].load(kind, seconds, clients, batch)
                spent = _cpu(servers[count, cached])
                texts = told["texts_per_second"] * seconds
                rates[scene][count].append(told["texts_per_second"])
                details[f"{scene} / {count}"] = {key: round(value, 2) for key, value in told.items()}
                for name, value in spent.items():
                    row = costs.setdefault(f"{scene} / {count}", {}).setdefault(name, [])
                    row.append(1e3 * (value - before[name]) / texts)
    for server in servers.values():
        server.close()
    return {
        "ratios": {f"{scene} / two against one": ratio(row[2], row[1]) for scene, row in rates.items()},
        "texts_per_second": {
            scene: {f"frontends {count}": round(statistics.median(values), 1) for count, values in row.items()}
            for scene, row in rates.items()
        },
        "cpu_ms_a_text": {
            scene: {name: round(statistics.median(values), 4) for name, values in row.items()}
            for scene, row in costs.items()
        },
        "details": details,
    }


def _serve(count: int, cached: bool) -> Server:
    command = [sys.executable, "-m", "nearfield.cli", "serve", "all-MiniLM-L6-v2", "--port", "PORT"]
    command += ["--log-level", "warning", "--frontends", str(count)] + ([] if cached else ["--cache-memory", "0"])
    return Server(f"frontends {count}", command, "/v1/embeddings", "all-MiniLM-L6-v2")


def _warm(server: Server, seconds: float, cached: bool) -> None:
    """Warm a server; its caches, if it has any, until they miss nothing more."""
    server.load("short", seconds, 32, 1)
    before = -1.0
    while cached and (now := _misses(server)) != before:
        before = now
        server.load("short", 2 * seconds, 8, 32)


def _misses(server: Server) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("nearfield_cache_misses_total"))


def _cpu(server: Server) -> dict[str, float]:
    """Return the seconds of CPU that each process has spent, and of the main one its event loop's thread apart."""
    main = psutil.Process(server.pid)
    loop = next(thread for thread in main.threads() if thread.id == main.pid)
    found = {"main process": sum(main.cpu_times()[:2]), "of it the event loop": loop.user_time + loop.system_time}
    children = enumerate(main.children())
    return found | {f"front-end {number}": sum(child.cpu_times()[:2]) for number, child in children}
