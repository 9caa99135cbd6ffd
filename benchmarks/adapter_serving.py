"""An adapter that was trained here, served beside its base: vectors, and what it costs.

``python -m benchmarks.adapter_serving [--model all-MiniLM-L6-v2] [--data FOLDER] [--seconds 10]`` trains a LoRA adapter
on some of TREC's questions, starts a `nearfield serve` with base and adapter, and one with the base alone. Four
clients send batches of 8 questions, with the base and with the adapter in turn. Every reply must have the vectors that
this process computes; the exit status is 1 if one does not. Prints requests per second, in turns, and memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.training_formats import write_real_forms
from nearfield import Encoder
from nearfield.arrays import Array
from nearfield.training.data.loaders import load_training_data

_CLIENTS, _BATCH, _ROUNDS = 4, 8, 3
#: Largest difference of a value of a unit vector in float32, computed in batches of another size.
_TOLERANCE = 1e-5


class AdapterLoad:
    """Batches of texts with an adapter each, and the vectors that replies must have."""

    def __init__(self, base: Path, adapter: Path, texts: Sequence[str]) -> None:
        self.batches = [list(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        options: dict[str, Any] = {"precision": "float32", "adapters": {"mine": adapter}}
        self.expected: dict[str | None, list[Array]] = {}
        with Encoder(str(base), **options) as local:
            for name in (None, "mine"):
                self.expected[name] = [np.asarray(local.encode(batch, adapter=name)) for batch in self.batches]
        #: The largest difference of a value of any reply.
        self.largest = 0.0

    def run(self, url: str, model: str, adapters: Sequence[str | None], seconds: float) -> float:
        """Send batches for some seconds, the adapters in turn; return requests per second."""
        until = time.perf_counter() + seconds

        def client(number: int) -> int:
            count = 0
            with httpx.Client(timeout=60) as http:
                while time.perf_counter() < until:
                    self._send(http, url, model, adapters[count % len(adapters)], (number + 7 * count))
                    count += 1
            return count

        with ThreadPoolExecutor(_CLIENTS) as pool:
            return sum(pool.map(client, range(_CLIENTS))) / seconds

    def _send(self, http: httpx.Client, url: str, model: str, adapter: str | None, number: int) -> None:
        place = number % len(self.batches)
        body = {"model": model, "input": self.batches[place], "adapter": adapter}
        reply = http.post(f"{url}/encode", json=body).raise_for_status().json()
        difference = np.abs(np.array(reply["dense"]["data"]) - self.expected[adapter][place]).max()
        self.largest = max(self.largest, float(difference))


def measure(base: Path, adapter: Path, texts: Sequence[str], seconds: float) -> Mapping[str, Any]:
    """Return requests per second by what is requested, memory of both servers, and the largest difference."""
    from tests.support.serving import Process

    load, name = AdapterLoad(base, adapter, texts), base.name
    plain: dict[str, Any] = {str(base): {"precision": "float32"}}
    both = {str(base): {"precision": "float32", "adapters": {"mine": str(adapter)}}}
    servers = {"base alone": Process(base, "--model-settings", json.dumps(plain))}
    servers["with adapter"] = Process(base, "--model-settings", json.dumps(both))
    runs: list[tuple[str, str, Sequence[str | None]]] = [
        ("base alone", "base alone", [None]),
        ("with adapter", "base", [None]),
        ("with adapter", "adapter", ["mine"]),
        ("with adapter", "in turn", [None, "mine"]),
    ]
    rates: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for server, what, adapters in runs:
            rates.setdefault(what, []).append(load.run(servers[server].url, name, adapters, seconds))
    memory = {key: server.process.memory_info().rss / 1e6 for key, server in servers.items()}
    for process in servers.values():
        process.terminate()
        process.wait()
    return {"requests_per_second": rates, "megabytes": memory, "largest_difference": load.largest}


def main() -> None:
    """Train, serve, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    texts = load_training_data(options.data / "trec-qc" / "train.tsv", shape="labels").rows.texts[-256:]  # type: ignore
    with tempfile.TemporaryDirectory() as place:
        forms = list(write_real_forms(Path(place), options.model, options.data))
        written = next(form for form in forms if form.base is not None)
        assert written.base is not None
        result = measure(written.base, written.folder, list(texts), options.seconds)
    for what, rates in result["requests_per_second"].items():
        print(f"| {what} | {statistics.median(rates):.1f} | {', '.join(f'{rate:.1f}' for rate in rates)} |")
    print(f"memory, MB: {result['megabytes']}; largest difference of a value: {result['largest_difference']:.1e}")
    sys.exit(int(result["largest_difference"] > _TOLERANCE))


if __name__ == "__main__":
    main()
