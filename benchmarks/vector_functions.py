"""Speed of functions over vectors in memory beside sentence-transformers: ``python -m benchmarks.vector_functions``.

Both sides take turns in one process, on the same unit vectors of 384 dimensions. A ratio above 1 means that ours is
faster; it is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sentence_transformers import util as theirs

from nearfield.compat.sentence_transformers import util as ours

_WIDTH = 384


def unit_vectors(rows: int, seed: int, groups: int | None = None) -> Any:
    """Return random unit vectors; with ``groups`` they lie around that many centres."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, _WIDTH), np.float32)
    if groups is not None:
        vectors = vectors * 0.5 + random.standard_normal((groups, _WIDTH), np.float32)[random.integers(0, groups, rows)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def workloads(scale: float) -> dict[str, Callable[[Any], object]]:
    """Return functions of a module, by name."""
    count = [max(20, int(scale * number)) for number in (1_000, 200_000, 10_000)]
    queries, corpus = unit_vectors(count[0], 1), unit_vectors(count[1], 2)
    clusters = unit_vectors(count[2], 3, groups=max(2, count[2] // 40))
    tensors = torch.from_numpy(queries), torch.from_numpy(corpus), torch.from_numpy(clusters)
    return {
        "cos_sim": lambda module: module.cos_sim(queries, corpus[: count[2]]),
        "semantic_search, arrays": lambda module: module.semantic_search(queries, corpus),
        "semantic_search, tensors": lambda module: module.semantic_search(tensors[0], tensors[1], top_k=100),
        "paraphrase_mining_embeddings": lambda module: module.paraphrase_mining_embeddings(tensors[2]),
        "community_detection": lambda module: module.community_detection(clusters, 0.7),
        "quantize_embeddings": lambda module: module.quantize_embeddings(corpus, "int8"),
        "mine_hard_negatives": lambda module: _mine(module, clusters, count[2] // 4),
    }


class _Table:
    """Gives the text "n" the vector n."""

    device = torch.device("cpu")
    similarity_fn_name = "cosine"

    def __init__(self, vectors: Any) -> None:
        self._vectors = vectors

    def encode_query(self, texts: list[str], **_: Any) -> Any:
        """Return vectors."""
        return self._vectors[list(map(int, texts))]

    encode_document = encode_query

    def similarity(self, a: Any, b: Any) -> Any:
        """Compare all with all."""
        return theirs.cos_sim(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        """Compare row by row."""
        return theirs.pairwise_cos_sim(a, b)


def _mine(module: Any, vectors: Any, pairs: int) -> object:
    from datasets import Dataset

    numbers = list(map(str, range(2 * pairs)))
    dataset = Dataset.from_dict({"query": numbers[:pairs], "positive": numbers[pairs:]})
    return module.mine_hard_negatives(dataset, _Table(vectors), verbose=False, relative_margin=0.05)


def measure(scale: float, rounds: int) -> dict[str, dict[str, float]]:
    """Return seconds of ours and the ratio, for each function."""
    results = {}
    for name, run in workloads(scale).items():
        seconds = [(_seconds(run, ours), _seconds(run, theirs)) for _ in range(rounds + 1)][1:]
        ratio = statistics.median(second / first for first, second in seconds)
        results[name] = {
            "seconds": round(statistics.median(first for first, _ in seconds), 4),
            "ratio": round(ratio, 2),
        }
    return results


def _seconds(run: Callable[[Any], object], module: Any) -> float:
    started = time.perf_counter()
    run(module)
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.vector_functions", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the vectors")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(measure(options.scale, options.rounds), indent=1))
