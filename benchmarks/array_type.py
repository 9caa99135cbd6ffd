"""Results as NumPy arrays: a million vectors with their facts against the same memory as a plain array, in turn."""

from __future__ import annotations

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.vectors.dense import Vectors

ROWS, WIDTH = 1_000_000, 384
#: How much slower and larger than a plain array a result may be.
LARGEST = 1.02
#: Seconds that repetitions of a short operation take together. A long one is repeated three times.
_SECONDS = 0.2
_SPACE = f"space:{WIDTH}:float32"

#: Memory that a result leaves is used again. Else each result of gigabytes comes from the kernel page by page, at a
#: cost that is the same for both kinds, and differs by half from one moment to the next.
_ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}

Operation = Callable[[Array], object]


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return for each operation its CPU seconds on a plain array, and the ratio on `Vectors`, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.array_type", str(rounds), "quick" if quick else "full"]
    done = subprocess.run(command, env=os.environ | _ALLOCATOR, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def _measure(rounds: int, quick: bool) -> dict[str, Any]:
    rows = 20_000 if quick else ROWS
    plain = np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)
    counts = np.ones(rows, np.int32)
    vectors = Vectors(plain, _SPACE, WIDTH, tokens=counts, dropped=counts.copy(), unknown=counts.copy())
    with tempfile.TemporaryDirectory() as folder:
        operations = _operations(rows, Path(folder))
        results = {name: _compare(run, plain, vectors, rounds) for name, run in operations.items()}
    single = {name: _per_call(run, plain, vectors, rounds) for name, run in _ONE_CALL.items()}
    size = _bytes(vectors) / _bytes(plain)
    met = size <= LARGEST and all(row["ratio"] <= LARGEST for row in results.values())
    return {"rows": rows, "operations": results, "nanoseconds": single, "memory": round(size, 4), "met": met}


def _operations(rows: int, folder: Path) -> dict[str, Operation]:
    random = np.random.default_rng(1)
    query = random.standard_normal(WIDTH).astype(np.float32)
    some, mask = random.integers(0, rows, rows // 10), random.random(rows) < 0.1
    step, counts = rows // 10, np.ones(rows, np.int32)
    return {
        "matmul with a query": lambda array: array @ query,
        "norms": lambda array: np.linalg.norm(array, axis=1),
        "scaled to unit length": lambda array: array / np.linalg.norm(array, axis=1, keepdims=True),
        "ten slices, each with a query": lambda array: [array[at : at + step] @ query for at in range(0, rows, step)],
        "a tenth of the rows by number": lambda array: array[some],
        "a tenth of the rows by mask": lambda array: array[mask],
        "iteration over rows": lambda array: sum(1 for _ in array),
        "concatenation of 10 parts": lambda array: np.concatenate(
            [array[at : at + step] for at in range(0, rows, step)]
        ),
        "copy": lambda array: array.copy(),
        "astype(float16)": lambda array: array.astype(np.float16),
        "tolist of 1,000 rows": lambda array: array[:1000].tolist(),
        "np.save": lambda array: np.save(folder / "vectors.npy", array),
        "pickle and back, with the counts": lambda array: pickle.loads(
            pickle.dumps(array if isinstance(array, Vectors) else (array, counts, counts + 0, counts + 1), 5)
        ),
    }


#: Operations that touch no numbers: what is measured is Python and NumPy's own bookkeeping.
_ONE_CALL: Mapping[str, Operation] = {
    "a slice": lambda array: array[10:20],
    "a row": lambda array: array[10],
    "a value": lambda array: array[10, 3],
    "shape": lambda array: array.shape,
}


def _compare(run: Operation, plain: Array, vectors: Array, rounds: int) -> dict[str, float]:
    """Return the seconds on a plain array, the median ratio of pairs of runs, and the middle half of the ratios."""
    times = max(3, min(200, round(_SECONDS / max(_seconds(run, plain, 1), 1e-7))))
    spent: dict[int, list[float]] = {0: [], 1: []}
    for number in range(max(4, 4 * rounds)):
        pair = [(0, plain), (1, vectors)]
        for place, array in pair if number % 2 else reversed(pair):
            spent[place].append(_seconds(run, array, times))
    ratios = [theirs / ours for ours, theirs in zip(spent[0], spent[1], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "seconds": round(min(spent[0]), 6),
        "ratio": round(middle, 3),
        "low": round(low, 3),
        "high": round(high, 3),
    }


def _seconds(run: Operation, array: Array, times: int) -> float:
    """Return the least CPU seconds of several repetitions: what else runs on the machine only adds to them."""
    least, inner = float("inf"), max(1, times // 10)
    for _ in range(min(times, 10)):
        started = time.process_time()
        for _ in range(inner):
            run(array)
        least = min(least, time.process_time() - started)
    return least / inner


def _per_call(run: Operation, plain: Array, vectors: Array, rounds: int) -> dict[str, int]:
    seconds = {
        name: min(_seconds(run, array, 20_000) for _ in range(rounds))
        for name, array in (("plain", plain), ("vectors", vectors))
    }
    return {name: round(value * 1e9) for name, value in seconds.items()}


def _bytes(array: Array) -> int:
    facts = array.facts if isinstance(array, Vectors) else None
    counts = () if facts is None else (facts.tokens, facts.dropped, facts.unknown)
    return array.nbytes + sum(item.nbytes for item in counts if item is not None)


def table(result: Mapping[str, Any]) -> str:
    """Return the ratios as a Markdown table."""
    lines = ["| operation | CPU seconds, plain | median ratio | middle half |", "|---|---|---|---|"]
    for name, row in result["operations"].items():
        lines.append(f"| {name} | {row['seconds']:.4f} | {row['ratio']:.3f} | {row['low']:.3f} to {row['high']:.3f} |")
    lines += ["", f"Memory: {result['memory']:.4f} times that of the plain array. Nanoseconds of a call:", ""]
    lines += [f"- {name}: {row['vectors']} against {row['plain']}" for name, row in result["nanoseconds"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]), sys.argv[2] == "quick")))
