"""Figures before and after training, by the engine that will serve the model; and the verdict that follows from them.

A model counts as better if the figure on the test set is higher, a paired test finds the difference significant
(p < 0.05), and no guard set lost more than it may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.encoder import Encoder
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.significance import paired_test
from nearfield.evaluation.systems import from_encoder
from nearfield.reranker import Reranker
from nearfield.training.fine_tuning.base_model import BaseModel

#: Recall from which on little can be gained (linear-adapter-trainer: recall@10 of 0.98 before, gain 0).
CEILING = 97.0
_RECALL = "recall@10"


class RerankerSystem:
    """Scores documents with a reranker, as a search system that evaluation tasks use."""

    max_results = None

    def __init__(self, reranker: Reranker) -> None:
        self.reranker = reranker
        self.name = self.identity = reranker.name

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Return the scores of the ``k`` best documents for each query id."""
        keys, texts = list(documents), list(documents.values())
        run = {}
        for name, query in queries.items():
            scores = self.reranker.score(query, texts, activation="identity")
            ranking = sorted(zip(keys, map(float, scores), strict=True), key=lambda row: -row[1])
            run[name] = dict(ranking[:k])
        return run

    def close(self) -> None:
        """Leave the reranker open: the caller closes it."""


@contextmanager
def open_system(base: BaseModel, folder: Path | None = None) -> Iterator[Any]:
    """Yield the evaluation system of the base, or of a trained folder, in float32."""
    options: JsonDict = {"precision": "float32", "kind": base.kind, "compile_cache": False, "accept_license": True}
    place = str(folder or base.requested)
    if base.kind == "scores":
        with Reranker(place, **options) as reranker:
            yield RerankerSystem(reranker)
        return
    with Encoder(place, **options) as encoder:
        yield from_encoder(encoder)


def measure_sets(system: Any, sets: Mapping[str, Dataset], seed: int) -> JsonDict:
    """Return a result of ``evaluate`` for each set by name."""
    return {name: _without_examples(evaluate(system, dataset, seed=seed)) for name, dataset in sets.items()}


def _without_examples(result: JsonDict) -> JsonDict:
    return {name: value for name, value in result.items() if name not in ("worst", "first")}


def ceiling_note(result: JsonMapping) -> str | None:
    """Return a sentence if the base finds nearly everything already."""
    recall = result["metrics"].get(_RECALL)
    if recall is None or recall < CEILING:
        return None
    return f"The base finds {recall:.1f}% of what is relevant among the first 10 (recall@10): little can be gained."


@dataclass(frozen=True)
class Verdict:
    """Whether a trained model is better, and the reasons.

    Args:
        better: whether it may be written.
        unproved: whether all that is missing is a significant difference on the test set.
        reasons: sentences, in the order of their weight.
    """

    better: bool
    unproved: bool
    reasons: Sequence[str]

    def to_dict(self) -> JsonDict:
        """Return the verdict in a form for JSON."""
        return {"better": self.better, "unproved": self.unproved, "reasons": list(self.reasons)}


def compare_sets(before: JsonMapping, after: JsonMapping, seed: int) -> JsonDict:
    """Return for each set ``before``, ``after`` and the paired test of their difference."""
    return {name: _compare(before[name], after[name], seed) for name in after}


def _compare(before: JsonMapping, after: JsonMapping, seed: int) -> JsonDict:
    test = paired_test(after, before, seed=seed)
    return {"metric": after["main"], "before": before["score"], "after": after["score"], **test}


def judge(comparisons: JsonMapping, max_fall: float) -> Verdict:
    """Return the verdict from the comparisons of ``test`` and of guard sets (all other names)."""
    reasons = [
        f"{name} fell from {row['before']:.2f} to {row['after']:.2f}, by {-row['difference']:.2f} points; "
        f"{max_fall:g} are allowed."
        for name, row in comparisons.items()
        if name != "test" and row["difference"] < -max_fall
    ]
    test = comparisons["test"]
    if test["difference"] > 0 and test["significant"]:
        return Verdict(not reasons, False, reasons or [_gain(test)])
    if test["difference"] > 0:
        reason = f"{_gain(test)} That may be chance: p is not below 0.05. A larger test set would show smaller gains."
        return Verdict(False, not reasons, [*reasons, reason])
    lost = f"{test['metric']} on the test set went from {test['before']:.2f} to {test['after']:.2f}."
    return Verdict(False, False, [*reasons, lost])


def _gain(test: JsonMapping) -> str:
    low, high = test["interval"]
    return (
        f"{test['metric']} on the test set rose from {test['before']:.2f} to {test['after']:.2f}: "
        f"{test['difference']:+.2f} points, 95% interval {low:+.2f} to {high:+.2f}, p = {test['p']:.4f}."
    )
