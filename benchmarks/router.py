"""Measure ``nearfield route``: latency at 1, 2 and 4 servers, what it adds to a request, and faults under load.

``python -m benchmarks.router [--only latency overhead clients faults] [--seconds 10] [--out FILE]`` prints and writes
JSON. The servers' models sleep (see ``sleeping_server``), so that two cores suffice: the figures show queues and the
router, not the speed of a model. Requests arrive at random times at a fixed rate, whatever the replies do (open loop).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.open_loop import OpenLoop, ServerProcess
from nearfield.cluster.router.backends.address import parse_address
from nearfield.cluster.router.backends.connection_pool import ConnectionPool
from nearfield.hardware import cpu_name
from nearfield.testing import write_tiny_model

#: Milliseconds that a model sleeps for an input, and requests a second for each server: 60% of what it can take.
SLEEP_MS, RATE = 40.0, 15.0


def _start_servers(folder: Path, count: int, milliseconds: float = SLEEP_MS) -> list[ServerProcess]:
    if not folder.exists():
        write_tiny_model(folder)
    servers = [ServerProcess("benchmarks.sleeping_server", str(folder), "0", str(milliseconds)) for _ in range(count)]
    for server in servers:
        server.wait_ready()
    return servers


@contextmanager
def _routed(servers: Sequence[ServerProcess], file: Path) -> Iterator[ServerProcess]:
    _write(file, servers)
    router = ServerProcess(
        "nearfield.cli", "route", "--backends-file", str(file), "--port", "0", "--log-level", "error"
    )
    router.wait_ready()
    try:
        yield router
    finally:
        router.stop()


def _write(file: Path, servers: Sequence[ServerProcess]) -> None:
    file.write_text("\n".join(server.url for server in servers), encoding="utf-8")


def measure_latency(home: Path, seconds: float) -> dict[str, Any]:
    """Return p50 and p99 through the router at 1, 2 and 4 servers, and of one server without it."""
    results: dict[str, Any] = {}
    for count in (1, 2, 4):
        servers = _start_servers(home / "tiny", count)
        try:
            with _routed(servers, home / "servers.txt") as router:
                loop = OpenLoop(router.urls, RATE * count)
                asyncio.run(loop.run(seconds))
                results[f"{count} servers, {RATE * count:g}/s"] = loop.figures()
            if count == 1:
                direct = OpenLoop(servers[0].urls, RATE)
                asyncio.run(direct.run(seconds))
                results[f"1 server without router, {RATE:g}/s"] = direct.figures()
        finally:
            for server in servers:
                server.stop()
    return results


# -- what it adds to a request -----------------------------------------------------------------------------------------


def measure_overhead(home: Path, requests: int = 1000, rounds: int = 5) -> dict[str, Any]:
    """Return milliseconds of a small request without and with the router, in turns, and the router's CPU time."""
    servers = _start_servers(home / "tiny", 1)
    try:
        with _routed(servers, home / "servers.txt") as router:
            process = psutil.Process(router.popen.pid)
            medians: dict[str, list[float]] = {"direct": [], "routed": []}
            cpu = 0.0
            for _ in range(rounds):
                for name, url in (("direct", servers[0].url), ("routed", router.url)):
                    before = sum(process.cpu_times()[:2])
                    medians[name].append(_median_ms(url, requests // rounds))
                    cpu += sum(process.cpu_times()[:2]) - before if name == "routed" else 0.0
        added = [routed - direct for routed, direct in zip(medians["routed"], medians["direct"], strict=True)]
        return {
            "direct_ms": round(statistics.median(medians["direct"]), 3),
            "routed_ms": round(statistics.median(medians["routed"]), 3),
            "added_ms": round(statistics.median(added), 3),
            "router_cpu_ms_per_request": round(1000 * cpu / (requests // rounds * rounds), 3),
        }
    finally:
        for server in servers:
            server.stop()


def _median_ms(url: str, requests: int) -> float:
    times = []
    with httpx.Client(base_url=url) as client:
        client.get("/api/version")
        for _ in range(requests):
            started = time.perf_counter()
            client.get("/api/version").raise_for_status()
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


# -- two HTTP clients ------------------------------------------------------------------------------------------------


def measure_clients(home: Path, requests: int = 1000, rounds: int = 5) -> dict[str, Any]:
    """Return the CPU milliseconds of a request by the router's connections and by httpx, in turns, and their ratio."""
    (server,) = _start_servers(home / "tiny", 1)
    try:
        seconds: dict[str, list[float]] = {"router": [], "httpx": []}
        for _ in range(rounds):
            for name, send in (("router", _send_by_router), ("httpx", _send_by_httpx)):
                seconds[name].append(asyncio.run(send(server.url, requests // rounds)))
        medians = {name: 1000 * statistics.median(values) / (requests // rounds) for name, values in seconds.items()}
        return {
            **{f"{name}_cpu_ms": round(value, 3) for name, value in medians.items()},
            "ratio": round(medians["httpx"] / medians["router"], 1),
        }
    finally:
        server.stop()


async def _send_by_router(url: str, requests: int) -> float:
    address = parse_address(url)
    pool = ConnectionPool(address)
    started = time.process_time()
    for _ in range(requests):
        connection = await pool.acquire()
        connection.send(b"GET /api/version HTTP/1.1\r\nhost: %s\r\n\r\n" % address.authority.encode())
        await connection.read_head()
        while await connection.read_part():
            pass
        pool.release(connection)
    pool.close()
    return time.process_time() - started


async def _send_by_httpx(url: str, requests: int) -> float:
    async with httpx.AsyncClient(base_url=url) as client:
        started = time.process_time()
        for _ in range(requests):
            (await client.get("/api/version")).raise_for_status()
        return time.process_time() - started


# -- faults ------------------------------------------------------------------------------------------------------------


def measure_faults(home: Path, seconds: float) -> dict[str, Any]:
    """Return what clients see while servers are killed, stopped and updated, and the router is drained."""
    results: dict[str, Any] = {}
    for name, fault in (("kill", _kill), ("stop", _stop), ("rolling update", _update), ("drain of the router", _drain)):
        servers, file = _start_servers(home / "tiny", 3), home / "servers.txt"
        try:
            with _routed(servers, file) as router:
                loop = OpenLoop(router.urls, 2 * RATE)
                spares = _start_servers(home / "tiny", 3) if name == "rolling update" else []
                servers += spares
                asyncio.run(loop.run(seconds, partial(fault, servers, file, router)))
                figures = loop.figures()
                if name == "drain of the router":
                    refused = loop.outcomes["ConnectError"]
                    figures["errors"] -= refused
                    figures["refused_after_it_stopped_listening"] = refused
                results[name] = figures
        finally:
            for server in servers:
                server.popen.send_signal(signal.SIGCONT)  # nothing for one that has ended
                server.stop()
    return results


async def _kill(servers: list[ServerProcess], *_: object) -> None:
    for server in servers[:2]:
        await asyncio.sleep(2)
        server.popen.kill()


async def _stop(servers: list[ServerProcess], *_: object) -> None:
    await asyncio.sleep(2)
    os.kill(servers[0].popen.pid, signal.SIGSTOP)
    await asyncio.sleep(8)
    os.kill(servers[0].popen.pid, signal.SIGCONT)


async def _update(servers: list[ServerProcess], file: Path, router: ServerProcess) -> None:
    for number in range(3):
        await asyncio.sleep(2)
        _write(file, [*servers[number + 1 : 3], *servers[3 : 4 + number]])
        router.popen.send_signal(signal.SIGHUP)
        servers[number].popen.send_signal(signal.SIGTERM)


async def _drain(_: list[ServerProcess], __: Path, router: ServerProcess) -> None:
    await asyncio.sleep(2)
    router.popen.send_signal(signal.SIGTERM)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.router", description=__doc__)
    parser.add_argument("--only", nargs="*", default=["latency", "overhead", "clients", "faults"])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"cpu": cpu_name(), "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="nearfield-router-") as folder:
        for name in arguments.only:
            measure: dict[str, Callable[[], Any]] = {
                "latency": lambda: measure_latency(Path(folder), arguments.seconds),
                "overhead": lambda: measure_overhead(Path(folder)),
                "clients": lambda: measure_clients(Path(folder)),
                "faults": lambda: measure_faults(Path(folder), arguments.seconds),
            }
            results[name] = measure[name]()
            print(json.dumps({name: results[name]}, indent=1), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
