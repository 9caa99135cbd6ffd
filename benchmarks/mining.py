"""Mining of hard negatives: Nearfield against ``mine_hard_negatives`` of sentence-transformers, and its memory.

``python -m benchmarks.mining`` mines three negatives for each question of SQuAD (dev), with the same corpus, ranks and
margin, each program in its own process, in turn. ``--documents 1000000`` measures the peak memory of our search over so
many generated documents whose vectors come at once, so that the search alone is measured. ``--agreement`` prints the
share of the negatives mined in float32 that are mined in our fastest precision too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import catalog, hub
from nearfield.arrays import Array
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.training.data.loaders import load_training_data
from nearfield.training.mining import mine_negatives
from nearfield.training.training_data import TrainingData

SQUAD = Path(__file__).resolve().parents[2] / "shared" / "data" / "squad-dev"
MODEL = "all-MiniLM-L6-v2"
_DIMENSIONS = 384


def mine_here(data: TrainingData) -> int:
    """Mine with Nearfield in the precision that it mines in."""
    from nearfield.training.miner import open_miner

    with open_miner(MODEL) as encoder:
        return mine_negatives(data, encoder).mined


def mine_there(data: TrainingData) -> int:
    """Mine with sentence-transformers in its default precision."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    rows = data.rows
    assert isinstance(rows, Retrieval)
    pairs = [
        {"query": rows.queries[query], "answer": rows.documents[document]}
        for query, grades in rows.relevant.items()
        for document in grades
    ]
    entry = catalog.find(MODEL)
    folder = hub.locate(MODEL, pin=entry.pin if entry else None).folder
    model = SentenceTransformer(str(folder), device="cpu")
    mined = mine_hard_negatives(
        Dataset.from_list(pairs),
        model,
        corpus=list(rows.documents.values()),
        range_max=100,
        relative_margin=0.05,
        num_negatives=3,
        output_format="triplet",
    )
    return len(mined)


PROGRAMS = {"nearfield": mine_here, "sentence-transformers": mine_there}


class GeneratedVectors:
    """Gives each text a random vector: the search alone costs time and memory."""

    def encode_query(self, texts: list[str]) -> Array:
        """Return vectors [n, 384] of unit length."""
        vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), _DIMENSIONS), np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_document = encode_query


def agreement(queries: int) -> float:
    """Return the share of the negatives in float32 that the precision in which we mine finds too."""
    from nearfield import Encoder
    from nearfield.training.miner import open_miner

    data = _questions(queries)
    with open_miner(MODEL) as fast, Encoder(MODEL, precision="float32") as exact:
        ours, reference = (_negatives(mine_negatives(data, encoder).data) for encoder in (fast, exact))
    return len(ours & reference) / len(reference)


def _negatives(data: TrainingData) -> set[tuple[str, str]]:
    rows = data.rows
    assert isinstance(rows, Retrieval)
    return {(query, name) for query, grades in rows.relevant.items() for name, grade in grades.items() if grade < 1}


def search_memory(documents: int, queries: int = 10_000) -> dict[str, float]:
    """Return seconds, and peak memory with and without the search, in MB."""
    names = {f"d{n}": f"text {n}" for n in range(documents)}
    relevant = {f"q{n}": {f"d{n}": 1} for n in range(queries)}
    data = TrainingData("generated", Retrieval(names, {query: query for query in relevant}, relevant))
    before, started = _peak(), time.perf_counter()
    mine_negatives(data, GeneratedVectors())
    return {"seconds": time.perf_counter() - started, "before_mb": before, "peak_mb": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _timed(program: str, queries: int) -> dict[str, float]:
    """Run one program in this process, on the first queries; loading the model counts."""
    data = _questions(queries)
    started = time.perf_counter()
    mined = PROGRAMS[program](data)
    return {"seconds": time.perf_counter() - started, "mined": mined, "peak_mb": _peak()}


def _questions(queries: int) -> TrainingData:
    """Return the first questions of SQuAD, and all paragraphs."""
    rows = load_training_data(SQUAD).rows
    assert isinstance(rows, Retrieval)
    chosen = dict(list(rows.relevant.items())[:queries])
    return TrainingData("squad", Retrieval(rows.documents, {query: rows.queries[query] for query in chosen}, chosen))


def _run(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-m", "benchmarks.mining", *arguments], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, and print one line for each program and round, and the ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.mining", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=10_533)
    parser.add_argument("--documents", type=int, help="measure the memory of the search over so many documents")
    parser.add_argument("--program", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    parser.add_argument("--agreement", action="store_true", help="compare the negatives with those in float32")
    options = parser.parse_args()
    if options.agreement:
        print(f"{agreement(options.queries):.1%} of the negatives in float32")
        return
    if options.program or options.documents:
        result: Any = (
            search_memory(options.documents) if options.documents else _timed(options.program, options.queries)
        )
        print(json.dumps(result))
        return
    ratios = []
    for _ in range(options.rounds):
        results = {name: _run("--program", name, "--queries", str(options.queries)) for name in PROGRAMS}
        print(json.dumps(results), flush=True)
        ratios.append(results["sentence-transformers"]["seconds"] / results["nearfield"]["seconds"])
    print(f"sentence-transformers / nearfield: {statistics.median(ratios):.2f} (median of {len(ratios)} rounds)")


if __name__ == "__main__":
    main()
