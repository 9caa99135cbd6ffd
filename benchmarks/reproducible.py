"""What reproducible models cost: texts/s with each input by itself, in turn with batches, in one process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.throughput import ratio
from nearfield import Encoder
from nearfield.evaluation.performance.workloads import texts

#: Texts of a call, by the name of the workload.
CALLS = {"short, one at a time": ("short", 1), "short": ("short", 512), "mixed": ("mixed", 256), "long": ("long", 64)}


def measure(folder: Path, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return the share of the texts/s that is left, and how many vectors differ without it."""
    results: dict[str, Any] = {}
    with Encoder(str(folder)) as batched, Encoder(str(folder), reproducible=True) as alone:
        for name, (workload, size) in CALLS.items():
            batch = texts(workload, quick=quick)[: 512 if size == 1 else size]
            rates: dict[str, list[float]] = {"batched": [], "alone": []}
            for _ in range(rounds + 1):
                for kind, encoder in (("batched", batched), ("alone", alone)):
                    rates[kind].append(_rate(encoder, batch, size))
            # The first round compiles kernels for new shapes.
            shares = ratio(rates["alone"][1:], rates["batched"][1:])
            results[name] = {"share": shares, "texts_per_second": round(float(np.median(rates["alone"][1:])), 1)}
        batch = texts("mixed", quick=quick)[:60]
        for kind, encoder in (("batched", batched), ("alone", alone)):
            singles = np.stack([np.asarray(encoder.encode(text)) for text in batch])
            differ = (np.asarray(encoder.encode(batch)) != singles).any(1)
            results[f"{kind}: texts of 60 that differ"] = int(differ.sum())
        results["precision"] = batched.precision
    return results


def _rate(encoder: Encoder, batch: list[str], size: int) -> float:
    started = time.perf_counter()
    for start in range(0, len(batch), size):
        encoder.encode(batch[start : start + size])
    return len(batch) / (time.perf_counter() - started)
