"""Engines that encode pictures or sounds, each in its own process; speeds in turn, and ratios within a round."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.throughput import ratio

#: The engine that is compared with the others, and the one whose vectors are right.
OURS, REFERENCE = "nearfield float32", "transformers"
KINDS = ("pictures", "sounds", "texts")
#: Smallest cosine to the reference's vectors of an engine in float32, and in bf16.
COSINE, HALF_COSINE = 0.9999, 0.995


@dataclass(frozen=True)
class Work:
    """Items to encode: ``kind`` is the method of the engines, ``amount`` how many units of speed the items are."""

    kind: str
    items: Sequence[object]
    amount: float


class MediaContender:
    """An engine in its own process, which ``python -m benchmarks.MODULE NAME FOLDER`` starts."""

    def __init__(self, module: str, name: str, folder: Path, files: Sequence[Path]) -> None:
        command = [sys.executable, "-m", module, name, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self.ask("sample", files[:4])
        self.sample = np.array(answer["vectors"])
        #: The kinds of work that it does.
        self.kinds: list[str] = answer["kinds"]

    def ask(self, work: str, items: Sequence[object]) -> Any:
        """Return the answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"work": work, "items": list(map(str, items))}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def compare(
    shape: str, contenders: Mapping[str, MediaContender], works: Mapping[str, Work], rounds: int
) -> dict[str, dict[str, Any]]:
    """Return how many items a second each engine encodes, and ratios by wall-clock time and by CPU time."""
    speeds: dict[str, dict[str, dict[str, list[float]]]] = {
        part: {work: {name: [] for name in contenders} for work in works} for part in ("seconds", "cpu")
    }
    for number, (name, work), engine in itertools.product(range(rounds + 1), works.items(), contenders):
        if work.kind not in contenders[engine].kinds:
            continue
        answer = contenders[engine].ask(work.kind, work.items)
        for part, found in speeds.items():
            if number:  # the first round warms up
                found[name][engine].append(work.amount / answer[part])
    return {
        "ratios": _ratios(shape, speeds["seconds"]),
        "cpu_ratios": _ratios(shape, speeds["cpu"]),
        "per_second": {
            f"{shape} {work}": {name: round(statistics.median(values), 2) for name, values in row.items() if values}
            for work, row in speeds["seconds"].items()
        },
    }


def _ratios(shape: str, speeds: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, float]]:
    return {
        f"{shape} {work} / {name}": ratio(row[OURS], row[name])
        for work, row in speeds.items()
        for name in row
        if name != OURS and row[name]
    }


def require_same(samples: Mapping[str, Any]) -> None:
    """Refuse to compare engines that give other vectors: they would not do the same work."""
    truth = samples[REFERENCE]
    for name, rows in samples.items():
        cosines = (rows * truth).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(truth, axis=1)
        print(f"  {name}: cosine to the reference {cosines.min():.6f}", flush=True)
        if cosines.min() < (HALF_COSINE if name.endswith("auto") else COSINE):
            raise RuntimeError(f"{name} gives other vectors (cosine {cosines.min():.5f})")


def cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a function, and the CPU seconds that it took in this process and its children."""
    started = cpu_time()
    return work(), cpu_time() - started


def cpu_time() -> float:
    """Return the CPU seconds that this process and its children, such as decoders, have taken."""
    import psutil

    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def resident() -> float:
    """Return the memory of this process in MiB."""
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def serve(engines: Mapping[str, Callable[[Path], Any]]) -> None:
    """Load an engine by the command line, then answer each request: seconds, or what its method returns."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr
    engine = engines[name](folder)
    for line in sys.stdin:
        request = json.loads(line)
        work, items = request["work"], request["items"]
        items = items if work == "texts" else list(map(Path, items))
        started, cpu = time.perf_counter(), cpu_time()
        answer = getattr(engine, engine.media if work == "sample" else work)(items)
        seconds, cpu = time.perf_counter() - started, cpu_time() - cpu
        if work == "sample":
            kinds = [kind for kind in KINDS if hasattr(engine, kind)]
            answer = {"vectors": np.asarray(answer, np.float64).tolist(), "kinds": kinds}
        elif work in ("texts", engine.media):
            answer = {"seconds": seconds, "cpu": cpu, "rss": resident()}
        print(json.dumps(answer), file=answers, flush=True)
