"""Measure ``nearfield cluster serve`` on simulated nodes: latency at 1, 2 and 4 engines, and faults under load.

``python -m benchmarks.cluster_serving [--only NAME ...] [--seconds 15] [--out FILE]`` prints and writes JSON. Models of
engines sleep (see ``sleeping_cluster``), so that two cores suffice: figures show queues, Ray and the fronts, not the
speed of a model. Requests arrive at random times at a fixed rate, whatever the replies do (open loop).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.cluster import processes
from benchmarks.open_loop import OpenLoop, ServerProcess
from nearfield.hardware import cpu_name
from nearfield.testing import write_tiny_model
from tests.support.simulated_cluster import AS_EAGER, simulated_cluster

#: Milliseconds that a model sleeps for an input, and requests a second for each engine: 60% of what it can take.
SLEEP_MS, RATE = 40.0, 15.0
#: Four engines fit a node of one core.
_ENGINE_CPUS = "0.25"
_MAX_STARTS = 5


@dataclass
class Served:
    """A cluster that serves: its nodes, the command, and a plain server with the same model."""

    cluster: Any
    command: ServerProcess

    @property
    def urls(self) -> list[str]:
        """The fronts of all nodes."""
        return self.command.urls

    def engine_pids(self) -> list[int]:
        """Return the processes of engines."""
        return [pid for pid, name in processes() if name.startswith("ray::EngineActor")]


class Bench:
    """A model, and a simulated cluster that measurements use one after another: to start nodes takes long."""

    def __init__(self, home: Path) -> None:
        self.model = write_tiny_model(home / "tiny")
        self._stack = ExitStack()
        self._cluster: tuple[int, Any] | None = None

    def nodes(self, count: int) -> Any:
        """Return a cluster with so many nodes beside the head."""
        if self._cluster is None or self._cluster[0] != count:
            self.close()
            self._cluster = count, self._start(count)
        return self._cluster[1]

    def close(self) -> None:
        """End the cluster."""
        self._stack.close()
        self._cluster = None

    def _start(self, count: int) -> Any:
        """Start a cluster; again if a node took too long, since Ray waits 30 s, which may not do on a busy machine."""
        for attempt in range(_MAX_STARTS):
            try:
                return self._stack.enter_context(simulated_cluster(count, health=AS_EAGER))
            except Exception as error:
                if attempt + 1 == _MAX_STARTS or "timed out during startup" not in str(error):
                    raise
        raise AssertionError


@contextmanager
def served(bench: Bench, engines: int, options: str = "", nodes: int = 1, sleep: float = SLEEP_MS) -> Iterator[Served]:
    """Serve the tiny model with so many engines on so many nodes of one core."""
    words = f"--engines {engines} --engine-cpus {_ENGINE_CPUS} --streams 1 --port 0 --cache-memory 0".split()
    words += f"--drain-timeout 15 --start-timeout 600 --log-level error {options}".split()
    cluster = bench.nodes(nodes)
    command = ServerProcess("benchmarks.sleeping_cluster", cluster.address, str(sleep), str(bench.model), *words)
    try:
        command.wait_ready()
        yield Served(cluster, command)
    finally:
        command.stop()


@contextmanager
def plain_server(bench: Bench, sleep: float = SLEEP_MS) -> Iterator[ServerProcess]:
    """Serve the same model without a cluster."""
    server = ServerProcess("benchmarks.sleeping_server", str(bench.model), "0", str(sleep))
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def _load(urls: list[str], rate: float, seconds: float, during: Any = None) -> OpenLoop:
    loop = OpenLoop(urls, rate)
    asyncio.run(loop.run(seconds, during))
    return loop


def measure_latency(bench: Bench, seconds: float) -> dict[str, Any]:
    """Return p50 and p99 at 1, 2 and 4 engines, and of one server without a cluster."""
    results: dict[str, Any] = {}
    for count in (1, 2, 4):
        with served(bench, count) as cluster:
            results[f"{count} engines, {RATE * count:g}/s"] = _load(cluster.urls, RATE * count, seconds).figures()
            if count == 1:
                with plain_server(bench) as server:
                    results["without a cluster"] = _load(server.urls, RATE, seconds).figures()
    return results


def measure_overhead(bench: Bench, requests: int = 300, rounds: int = 5) -> dict[str, float]:
    """Return the milliseconds of a small request to a server and to a cluster of one engine, in turns."""
    with (
        served(bench, 1, nodes=1, sleep=0.0) as cluster,
        plain_server(bench, 0.0) as server,
    ):
        urls = {"server_ms": server.url, "cluster_ms": cluster.urls[0]}
        medians: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, url in urls.items():
                medians[name].append(_median_ms(url, requests // rounds))
    figures = {name: statistics.median(values) for name, values in medians.items()}
    figures["added_ms"] = figures["cluster_ms"] - figures["server_ms"]
    return {name: round(value, 2) for name, value in figures.items()}


def _median_ms(url: str, requests: int) -> float:
    times = []
    with httpx.Client(base_url=url) as client:
        for _ in range(requests + 1):
            started = time.perf_counter()
            client.post("/v1/embeddings", json={"model": "tiny", "input": "the cat"}).raise_for_status()
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[1:])


# -- faults ------------------------------------------------------------------------------------------------------------


def measure_kill(bench: Bench, seconds: float) -> dict[str, Any]:
    """Kill three engines under load, each after the last one was replaced."""

    async def kill(cluster: Served) -> None:
        for _ in range(3):
            await asyncio.sleep(3)
            before = set(cluster.engine_pids())
            os.kill(random.Random(1).choice(sorted(before)), signal.SIGKILL)
            await _until(lambda: not before >= set(cluster.engine_pids()))  # noqa: B023
            await asyncio.sleep(5)

    with served(bench, 3) as cluster:
        return _load(cluster.urls, 2 * RATE, seconds, partial(kill, cluster)).figures()


def measure_stop(bench: Bench, seconds: float) -> dict[str, Any]:
    """Stop an engine with SIGSTOP under load: its test batch fails, and it is replaced."""

    async def stop(cluster: Served) -> None:
        await asyncio.sleep(3)
        os.kill(cluster.engine_pids()[0], signal.SIGSTOP)
        await asyncio.sleep(20)

    with served(bench, 3, "--health-seconds 2 --health-timeout 5") as cluster:
        return _load(cluster.urls, 2 * RATE, seconds, partial(stop, cluster)).figures()


def measure_node(bench: Bench, seconds: float) -> dict[str, Any]:
    """Remove a node, with its engine and its front, under load from clients of other fronts and of a router."""

    async def remove(cluster: Served, node: Any) -> None:
        await asyncio.sleep(3)
        await asyncio.to_thread(cluster.cluster.remove_node, node, allow_graceful=False)
        await asyncio.sleep(30)

    with served(bench, 3, nodes=3) as cluster, _router(cluster.urls) as router:
        nodes = [node for node in cluster.cluster.list_all_nodes() if node is not cluster.cluster.head_node]
        others = [url for url in cluster.urls if _raylet_of(url) != _raylet(nodes[0])]
        assert len(others) == len(cluster.urls) - 1
        loops = {
            "clients of other fronts": OpenLoop(others, RATE),
            "clients of a router": OpenLoop(router.urls, RATE),
        }

        async def load() -> None:
            first, second = loops.values()
            await asyncio.gather(
                first.run(seconds, partial(remove, cluster, nodes[0])),
                second.run(seconds + 33),
            )

        asyncio.run(load())
    bench.close()  # a node is missing
    return {name: loop.figures() for name, loop in loops.items()}


@contextmanager
def _router(urls: list[str]) -> Iterator[ServerProcess]:
    words = [word for url in urls for word in ("--to", url)]
    router = ServerProcess("nearfield.cli", "route", *words, "--port", "0", "--log-level", "error")
    try:
        router.wait_ready()
        yield router
    finally:
        router.stop()


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _raylet_of(url: str) -> int:
    """Return the raylet that started the process which listens at a URL."""
    port = int(url.rpartition(":")[2])
    pids = (each.pid for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port)
    return psutil.Process(next(pid for pid in pids if pid is not None)).ppid()


def measure_update(bench: Bench, seconds: float) -> dict[str, Any]:
    """Replace all engines, one after another, under load."""

    async def update(cluster: Served) -> None:
        await asyncio.sleep(3)
        before = set(cluster.engine_pids())
        cluster.command.popen.send_signal(signal.SIGHUP)
        await _until(lambda: len(pids := set(cluster.engine_pids())) == len(before) and not pids & before)
        await asyncio.sleep(2)

    with served(bench, 3) as cluster:
        return _load(cluster.urls, 2 * RATE, seconds, partial(update, cluster)).figures()


def measure_drain(bench: Bench, seconds: float) -> dict[str, Any]:
    """Stop all under load: what was accepted is answered, later connections are refused."""

    async def drain(cluster: Served) -> None:
        await asyncio.sleep(5)
        cluster.command.popen.send_signal(signal.SIGTERM)
        await asyncio.to_thread(cluster.command.popen.wait)

    with served(bench, 3) as cluster:
        loop = _load(cluster.urls, 2 * RATE, min(seconds, 5.0), partial(drain, cluster))
        figures, refused = loop.figures(), loop.outcomes["ConnectError"]
        return {
            **figures,
            "errors": figures["errors"] - refused,
            "refused_after_it_stopped_listening": refused,
        }


def measure_scaling(bench: Bench, seconds: float) -> dict[str, Any]:
    """Load what four engines can take on a cluster that begins with none, then leave it alone."""
    counts: list[tuple[float, int]] = []

    async def watch(cluster: Served) -> None:
        started = time.monotonic()
        while time.monotonic() - started < 4 * seconds:
            counts.append((round(time.monotonic() - started, 1), len(cluster.engine_pids())))
            await asyncio.sleep(0.5)

    options = "--min-engines 0 --queue-seconds 1 --idle-seconds 5"
    with served(bench, 4, options) as cluster:
        asyncio.run(_until(lambda: not cluster.engine_pids()))
        started = time.perf_counter()
        httpx.post(
            f"{cluster.urls[0]}/v1/embeddings",
            json={"model": "tiny", "input": "a"},
            timeout=60,
        )
        cold = time.perf_counter() - started
        figures = _load(cluster.urls, 3 * RATE, 4 * seconds, partial(watch, cluster)).figures()
        started = time.perf_counter()
        asyncio.run(_until(lambda: not cluster.engine_pids()))
        shrink = time.perf_counter() - started
    first = {engines: at for at, engines in reversed(counts)}
    return {
        "cold_start_s": round(cold, 1),
        **figures,
        "seconds_until_engines": {str(engines): first[engines] for engines in sorted(first)},
        "seconds_until_none": round(shrink, 1),
    }


async def _until(condition: Callable[[], bool], seconds: float = 400.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("this takes too long")
        await asyncio.sleep(0.2)


MEASURES: dict[str, Callable[[Bench, float], dict[str, Any]]] = {
    "latency": measure_latency,
    "overhead": lambda bench, _: measure_overhead(bench),
    "kill": measure_kill,
    "stop": measure_stop,
    "node": measure_node,
    "update": measure_update,
    "drain": measure_drain,
    "scaling": measure_scaling,
}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.cluster_serving", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory(prefix="nearfield-serving-") as folder, closing(Bench(Path(folder))) as bench:
        for name in arguments.only:
            results[name] = MEASURES[name](bench, arguments.seconds)
            print(json.dumps({name: results[name]}, indent=1), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
