"""Speed of Nearfield and Infinity over HTTP, alternating, with the same clients."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.throughput import ratio
from nearfield.evaluation.performance.load_test import LocalTarget, measure_bulk
from nearfield.evaluation.performance.workloads import texts

INFINITY = [
    "torch==2.13.0",
    "infinity_emb[server,torch]==0.0.78",
    "transformers<4.49",
    "sentence-transformers<4",
    "click<8.2",
]
SCENES = {"single short texts, 32 clients": ("short", 32, 1), "bulk of 32 short texts": ("short", 4, 32)}


class Server:
    """A server's process, stopped (not ended) while the other one is measured."""

    def __init__(
        self,
        name: str,
        command: list[str],
        path: str,
        model: str,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        key: str = "",
    ) -> None:
        """Start the process; ``key`` is an API key that it accepts."""
        self.name, self.model, self.key = name, model, key
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}{path}"
        #: How it ended, once it has.
        self.exit_code: int | None = None
        with (log or Path(os.devnull)).open("wb") as output:
            self._process = subprocess.Popen(
                [part.replace("PORT", str(self.port)) for part in command],
                env={**os.environ, **(environment or {})},
                stdout=output,
                stderr=output,
            )
        self._await()

    @property
    def pid(self) -> int:
        """Its process's number."""
        return self._process.pid

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry its API key."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def load(self, kind: str, seconds: float, clients: int, batch: int, **more: Any) -> dict[str, float]:
        """Put load on it from a separate process; ``more`` are further arguments of ``load.load``."""
        asked = {"url": self.url, "model": self.model, "kind": kind, "seconds": seconds, "clients": clients}
        told_to = json.dumps({**asked, "batch": batch, **more})
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", told_to], capture_output=True, text=True, check=True
        )
        told: dict[str, float] = json.loads(result.stdout)
        return told

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self.exit_code = self._process.wait(30)

    def _await(self) -> None:
        body = json.dumps({"model": self.model, "input": ["warm"]}).encode()
        for _ in range(600):
            try:
                headers = {"Content-Type": "application/json"} | self.headers
                request = urllib.request.Request(self.url, body, headers)
                with urllib.request.urlopen(request, timeout=30):
                    return
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(f"{self.name} did not start") from None
                time.sleep(0.2)
        raise RuntimeError(f"{self.name} did not become ready")


def measure(folder: Path, infinity_python: str | None, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Measure both servers and our own in-process speed in turn."""
    from nearfield import Encoder

    seconds = 1.0 if quick else 5.0
    ours = Server("nearfield", _nearfield(), "/v1/embeddings", "all-MiniLM-L6-v2")
    theirs = _start_infinity(folder, infinity_python or _make_venv())
    encoder = Encoder("all-MiniLM-L6-v2")
    rates: dict[str, dict[str, list[float]]] = {
        scene: {"nearfield": [], "infinity": [], "inside": []} for scene in SCENES
    }
    details: dict[str, Any] = {}
    for _ in range(rounds):
        for scene, (kind, clients, batch) in SCENES.items():
            for server in (ours, theirs):
                told = server.load(kind, seconds, clients, batch)
                details[f"{scene} / {server.name}"] = {key: round(value, 2) for key, value in told.items()}
                rates[scene][server.name].append(told["texts_per_second"])
            rates[scene]["inside"].append(_inside(encoder, seconds))
    latency = _latency(encoder, ours, seconds)
    ours.close()
    theirs.close()
    return {
        "ratios": {
            f"HTTP: {scene} / infinity": ratio(row["nearfield"], row["infinity"]) for scene, row in rates.items()
        },
        "shares": {
            f"{scene}: share of the in-process speed": ratio(row["nearfield"], row["inside"])
            for scene, row in rates.items()
        },
        "texts_per_second": {
            scene: {name: round(statistics.median(v), 1) for name, v in row.items()} for scene, row in rates.items()
        },
        "details": details,
        "one_idle_client": latency,
    }


def _inside(encoder: Any, seconds: float) -> float:
    speed: float = measure_bulk(LocalTarget(encoder).bulk, texts("short", seed=1), seconds)["texts_per_second"]
    return speed


def _latency(encoder: Any, server: Server, seconds: float) -> dict[str, float]:
    """Compare one text in process with one client that sends one text at a time, in turn."""
    inside, outside, tails = [], [], []
    for _ in range(3):
        times = []
        for text in texts("short", seed=2)[:200]:
            started = time.perf_counter()
            encoder.encode(text)
            times.append(time.perf_counter() - started)
        inside.append(float(np.median(times)) * 1e3)
        told = server.load("short", seconds / 2, 1, 1)
        outside.append(told["p50_ms"])
        tails.append(told["p99_ms"])
    return {
        "in_process_p50_ms": round(statistics.median(inside), 2),
        "http_p50_ms": round(statistics.median(outside), 2),
        "http_p99_ms": round(statistics.median(tails), 2),
    }


def _nearfield(cache: str = "0") -> list[str]:
    return [
        sys.executable,
        "-m",
        "nearfield.cli",
        "serve",
        "all-MiniLM-L6-v2",
        "--cache-memory",
        cache,
        "--port",
        "PORT",
        "--log-level",
        "warning",
    ]


def _start_infinity(folder: Path, python: str) -> Server:
    command = [
        str(Path(python).parent / "infinity_emb"),
        "v2",
        "--model-id",
        str(folder),
        "--served-model-name",
        "minilm",
    ]
    flags = ["--port", "PORT", "--host", "127.0.0.1", "--engine", "torch", "--device", "cpu", "--no-bettertransformer"]
    quiet = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    return Server("infinity", [*command, *flags], "/embeddings", "minilm", quiet)


def _make_venv() -> str:
    """Make the venv that Infinity needs: it pins older versions of what we use."""
    home = Path(__file__).parent / ".venv-infinity"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *INFINITY], check=True)
    return str(python)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
