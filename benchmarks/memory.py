"""Memory of a server, its growth, and its cold start time."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.servers import Server, _free_port, _nearfield


def serving(*, quick: bool) -> dict[str, float]:
    """Serve mixed requests of one text, and compare memory after the first 2,000 with memory after 20,000."""
    server = Server("nearfield", _nearfield(), "/v1/embeddings", "all-MiniLM-L6-v2")
    process = psutil.Process(server.pid)
    told = {"rss_mib_loaded": process.memory_info().rss / 2**20}
    done, early = 0.0, 0.0
    while done < (3_000 if quick else 20_000):
        rate = server.load("mixed", 2.0, 32, 1)
        done += rate["requests_per_second"] * 2
        if not early and done >= 2_000:
            early = process.memory_info().rss / 2**20
    told |= {"rss_mib_after_2000": early, "rss_mib_end": process.memory_info().rss / 2**20, "requests": done}
    told["growth_percent"] = (told["rss_mib_end"] / early - 1) * 100
    server.close()
    return {name: round(value, 1) for name, value in told.items()}


#: Runs a command, and prints the kilobytes of its peak. It is a separate process, since a child's peak begins with that
#: of the process that starts it.
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def search_start() -> dict[str, float]:
    """Measure one search of a collection of this repository's pages, from the start of the command to its end."""
    docs = Path(__file__).resolve().parents[1] / "docs"
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "NEARFIELD_COLLECTIONS": home}
        command = [sys.executable, "-m", "nearfield.cli"]
        subprocess.run([*command, "index", "docs", str(docs)], check=True, env=environment, capture_output=True)
        measured = [sys.executable, "-c", _PEAK, *command, "search", "how do I watch a folder?"]
        peaks: list[float] = []

        def search() -> None:
            ran = subprocess.run(measured, check=True, env=environment, capture_output=True, text=True)
            peaks.append(int(ran.stdout) / 1024)

        return {"search_seconds": _median(search), "search_peak_mib": max(peaks)}


def cold_start(folder: Path) -> dict[str, float]:
    """Measure ``--help``, one search, a server from a warm disk until it is ready, and others until a first vector."""
    reference = (
        f"from sentence_transformers import SentenceTransformer as S; S({str(folder)!r}, device='cpu').encode('x')"
    )
    told = {
        "help_seconds": _median(lambda: _run([sys.executable, "-m", "nearfield.cli", "--help"])),
        **search_start(),
        "import_and_encode_seconds": _median(
            lambda: _run([sys.executable, "-c", "from nearfield import Encoder; Encoder().encode('x')"])
        ),
        "server_ready_seconds": _median(_ready),
        "sentence_transformers_seconds": _median(lambda: _run([sys.executable, "-c", reference])),
    }
    return {name: round(value, 2) for name, value in told.items()}


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))


def _ready() -> None:
    port = _free_port()
    command = [part.replace("PORT", str(port)) for part in _nearfield()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as reply:
                    if reply.status == 200:
                        return
            except OSError:
                time.sleep(0.01)
    finally:
        process.terminate()
        process.wait(30)


def _median(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(4):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])  # the first warms the disk's cache
