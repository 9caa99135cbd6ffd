"""Quality, memory and speed of each precision of OpenVINO, in one run: ``python -m benchmarks.int8``.

Task scores are those of STS-B, SciFact and Banking77 in ``../shared/data`` (``--no-quality`` leaves them out). Speeds
are those of short, mixed and long texts and of one text at a time, each precision in its own process, in turn.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nearfield import Encoder
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.performance.workloads import texts
from nearfield.hardware import cpu_flags, has_int8

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = {"stsb": "stsb/test.tsv", "scifact": "scifact", "banking77": "banking77"}
PRECISIONS = ("float32", "auto", "int8", "int4", *(["int8-dynamic"] if has_int8() else []))
#: Kinds of texts, as in the benchmark of throughput.
WORKLOADS = ("short", "mixed", "long")
_SINGLE = 50


def speeds(encoder: Encoder, seed: int) -> dict[str, float]:
    """Return seconds for each workload, and for one short text at a time; each round has other texts."""
    seconds = {}
    for name in WORKLOADS:
        batch = texts(name, quick=True, seed=seed)
        started = time.perf_counter()
        encoder.encode(batch)
        seconds[name] = time.perf_counter() - started
    singles = texts("short", quick=True, seed=-seed % 2**32)[:_SINGLE]
    started = time.perf_counter()
    for text in singles:
        encoder.encode(text)
    return {**seconds, "single": time.perf_counter() - started}


def serve(model: str, precision: str, quality: bool) -> None:
    """Answer each line of standard input with the seconds of a round; first with memory and task scores."""
    with Encoder(model, precision=precision) as encoder:
        encoder.encode(texts("mixed", quick=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        scores = {name: _score(encoder, path) for name, path in SETS.items()} if quality else {}
        print(json.dumps({"precision": encoder.precision, "peak_mb": round(peak), "scores": scores}), flush=True)
        for seed, _ in enumerate(sys.stdin, 1):
            print(json.dumps(speeds(encoder, seed)), flush=True)


def _score(encoder: Encoder, path: str) -> float:
    result: Any = evaluate(encoder, load_dataset(DATA / path))
    return round(float(result["score"]), 2)


class Contender:
    """A process with the model in one precision."""

    def __init__(self, model: str, precision: str, quality: bool) -> None:
        words = ["--serve", precision, "--model", model, *([] if quality else ["--no-quality"])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.int8", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._read()
        self.rounds: list[dict[str, float]] = []

    def run(self) -> None:
        """Measure one round."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.rounds.append(self._read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))


def compare(model: str, rounds: int, quality: bool) -> dict[str, Any]:
    """Return facts and speeds against float32 of each precision: medians of the ratios of rounds."""
    contenders = {name: Contender(model, name, quality) for name in PRECISIONS}
    for _ in range(rounds):
        for contender in contenders.values():
            contender.run()
    base = contenders["float32"].rounds
    report = {name: {**one.facts, "speed": _ratios(base, one.rounds)} for name, one in contenders.items()}
    for contender in contenders.values():
        contender.close()
    return report


def _ratios(base: Sequence[dict[str, float]], other: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        kind: round(statistics.median(one[kind] / two[kind] for one, two in zip(base, other, strict=True)), 2)
        for kind in base[0]
    }


def main() -> None:
    """Measure, and print one line for each precision."""
    parser = argparse.ArgumentParser(prog="benchmarks.int8", description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-quality", dest="quality", action="store_false")
    parser.add_argument("--serve", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.model, options.serve, options.quality)
        return
    units = sorted(cpu_flags() & {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"})
    print(f"CPU: {', '.join(units)}")
    for name, facts in compare(options.model, options.rounds, options.quality).items():
        print(f"{name:13} {json.dumps(facts)}", flush=True)


if __name__ == "__main__":
    main()
