"""Quality, memory and speed of each precision of OpenVINO, in one run: ``python -m benchmarks.int8``.

Task scores are those of STS-B, SciFact and Banking77 in ``../shared/data`` (``--no-quality`` leaves them out). Cosines
are those to the vectors in float32. Speeds are those of short, mixed and long texts and of one text at a time, each
precision in its own process, in turn. ``--shape`` measures random weights in the shape of a well-known model, with all
its layers and a table for its whole vocabulary, on texts of as many tokens as BERT's vocabulary gives.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.model_shapes import LAYERS, SHAPES, write_model
from nearfield import Encoder
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.performance.environment import describe_environment
from nearfield.evaluation.performance.workloads import texts
from nearfield.hardware import cpu_name, has_int8

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = {"stsb": "stsb/test.tsv", "scifact": "scifact", "banking77": "banking77"}
PRECISIONS = ("float32", "auto", "int8", "int4", *(["int8-dynamic"] if has_int8() else []))
#: Kinds of texts, as in the benchmark of throughput.
WORKLOADS = ("short", "mixed", "long")
_SINGLE = 50
#: Tokens of a word by BERT's vocabulary.
_TOKENS_OF_A_WORD = 1.35


def workload(name: str, seed: int, count: int, share: float) -> list[str]:
    """Return at most ``count`` texts of a kind, the first words of each: a share of them."""
    batch = (text.split() for text in texts(name, quick=True, seed=seed)[:count])
    return [" ".join(words[: max(1, round(share * len(words)))]) for words in batch]


def words_share(encoder: Encoder) -> float:
    """Return the share of a text's words that have as many tokens as the whole text by BERT's vocabulary."""
    words = " ".join(texts("long", quick=True)).split()[:200]
    tokens = sum(len(item.ids) - 2 for item in encoder.tokenize(words))
    return min(1.0, _TOKENS_OF_A_WORD * len(words) / tokens)


def speeds(encoder: Encoder, seed: int, count: int, share: float) -> dict[str, float]:
    """Return seconds for each workload, and for one short text at a time; each round has other texts."""
    seconds = {}
    for name in WORKLOADS:
        batch = workload(name, seed, count, share)
        started = time.perf_counter()
        encoder.encode(batch)
        seconds[name] = time.perf_counter() - started
    singles = workload("short", -seed % 2**32, min(count, _SINGLE), share)
    started = time.perf_counter()
    for text in singles:
        encoder.encode(text)
    return {**seconds, "single": time.perf_counter() - started}


def serve(options: argparse.Namespace) -> None:
    """Answer each line of standard input with the seconds of a round; first with memory, vectors and task scores."""
    with Encoder(options.model, precision=options.serve, compile_cache=options.shape is None) as encoder:
        share = 1.0 if options.shape is None else words_share(encoder)
        vectors = np.asarray(encoder.encode(workload("mixed", 0, options.texts, share)))
        peak = _peak_bytes() / 1e6
        scores = {name: _score(encoder, path) for name, path in SETS.items()} if options.quality else {}
        facts = {"precision": encoder.precision, "peak_mb": round(peak), "scores": scores}
        print(json.dumps({**facts, "vectors": vectors.tolist()}), flush=True)
        for seed, _ in enumerate(sys.stdin, 1):
            print(json.dumps(speeds(encoder, seed, options.texts, share)), flush=True)


def _peak_bytes() -> int:
    """Return the peak of resident memory; that of ``getrusage`` begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _score(encoder: Encoder, path: str) -> float:
    result: Any = evaluate(encoder, load_dataset(DATA / path))
    return round(float(result["score"]), 2)


class Contender:
    """A process with the model in one precision."""

    def __init__(self, precision: str, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.int8", "--serve", precision, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self._read()
        self.vectors = np.array(self.facts.pop("vectors"))
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


def compare(words: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return facts, cosines to float32, and speeds against float32 and ``auto``: medians of the ratios of rounds."""
    contenders = {name: Contender(name, words) for name in PRECISIONS}
    for _ in range(rounds):
        for contender in contenders.values():
            contender.run()
    report = {name: {**one.facts, **_judge(one, contenders)} for name, one in contenders.items()}
    for contender in contenders.values():
        contender.close()
    return report


def _judge(one: Contender, contenders: Mapping[str, Contender]) -> dict[str, Any]:
    cosines = _cosines(contenders["float32"].vectors, one.vectors)
    return {
        "cosine": {"mean": round(float(cosines.mean()), 6), "min": round(float(cosines.min()), 6)},
        "speed": _ratios(contenders["float32"].rounds, one.rounds),
        "speed_to_auto": _ratios(contenders["auto"].rounds, one.rounds),
    }


def _cosines(left: Any, right: Any) -> Any:
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    return (left * right).sum(axis=1)


def _ratios(base: Sequence[dict[str, float]], other: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        kind: round(statistics.median(one[kind] / two[kind] for one, two in zip(base, other, strict=True)), 2)
        for kind in base[0]
    }


def report(options: argparse.Namespace) -> None:
    """Print one line for each precision."""
    words = ["--model", options.model, "--texts", str(options.texts), *([] if options.quality else ["--no-quality"])]
    with tempfile.TemporaryDirectory(prefix="nearfield-shape-") as place:
        if options.shape is not None:
            layers = options.layers or LAYERS[options.shape]
            folder = write_model(options.shape, Path(place), layers=layers, whole_vocabulary=True)
            size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            print(f"{options.shape}: {layers} layers, {size / 4e6:.0f} million values", flush=True)
            words += ["--shape", options.shape, "--no-quality", "--model", str(folder)]
        for name, facts in compare(words, options.rounds).items():
            print(f"{name:13} {json.dumps(facts)}", flush=True)


def main() -> None:
    """Measure, and print one line for each precision."""
    parser = argparse.ArgumentParser(prog="benchmarks.int8", description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--shape", choices=SHAPES, help="random weights in the shape of this model")
    parser.add_argument("--layers", type=int, help="layers of the shape [all of the model]")
    parser.add_argument("--texts", type=int, default=300, help="at most so many texts of a kind in a round [300]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-quality", dest="quality", action="store_false")
    parser.add_argument("--serve", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    print(f"CPU: {cpu_name()}, {', '.join(describe_environment(())['matrix units'])}")
    report(options)


if __name__ == "__main__":
    main()
