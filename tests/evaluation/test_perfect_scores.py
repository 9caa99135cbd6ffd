"""Perfect, hopeless and small results: intervals with a width, cautions, and no perfect items among the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from nearfield.evaluation import significance
from nearfield.evaluation.comparison.compare import compare
from nearfield.evaluation.comparison.html_report import render_html
from nearfield.evaluation.comparison.terminal_report import print_comparison
from nearfield.evaluation.datasets.dataset import (
    Bitext,
    Candidates,
    Classification,
    Clustering,
    Dataset,
    Labelled,
    PairRows,
    Reranking,
    Retrieval,
)
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.tasks import REGISTRY, open_task

Array = np.ndarray[Any, np.dtype[Any]]
COUNT = 20
#: The rule of three, exactly: a sample of 20 misses a kind of items of this share with a probability of 2.5%.
UNSEEN = 1 - 0.025 ** (1 / COUNT)


class Numbered:
    """A system whose texts are similar if they end in the same number; ``is_wrong``: each finds its neighbour."""

    name, identity, truncated, unread = "numbered", "numbered", 0, 0

    def __init__(self, *, is_wrong: bool = False) -> None:
        self._is_wrong = is_wrong

    def encode(self, texts: Sequence[str], *, role: str) -> Array:
        numbers = [int(text.rsplit(" ", 1)[1]) for text in texts]
        if self._is_wrong and texts[0].startswith("second"):
            numbers = [(number + 1) % COUNT for number in numbers]
        return np.eye(COUNT + 2, dtype=np.float32)[numbers]

    def similarity(self, a: Array, b: Array) -> Array:
        return a @ b.T

    def close(self) -> None:
        raise AssertionError("what the caller opened stays open")


def labelled(count: int, side: str) -> Labelled:
    return Labelled([f"{side} {at % 4}" for at in range(count)], [f"label {at % 4}" for at in range(count)])


def texts(side: str) -> list[str]:
    return [f"{side} {at}" for at in range(COUNT)]


#: Rows of each task on which ``Numbered`` is perfect.
ROWS: Mapping[str, Any] = {
    "retrieval": Retrieval(
        {f"d{at}": f"second {at}" for at in range(COUNT)},
        {f"q{at}": f"first {at}" for at in range(COUNT)},
        {f"q{at}": {f"d{at}": 1} for at in range(COUNT)},
    ),
    "sts": PairRows(texts("first"), [f"second {at // 2 * 2}" for at in range(COUNT)], [1.0, 0.0] * (COUNT // 2)),
    "pairs": PairRows(texts("first"), [f"second {at // 2 * 2}" for at in range(COUNT)], [1.0, 0.0] * (COUNT // 2)),
    "classification": Classification(labelled(40, "first"), labelled(COUNT, "first")),
    "clustering": Clustering([labelled(COUNT, "first")]),
    "reranking": Reranking(
        [Candidates(f"first {at}", [f"second {at}"], [f"second {at + 1}", "second 0"]) for at in range(1, COUNT + 1)]
    ),
    "bitext": Bitext(texts("first"), texts("second")),
}


def bounds_of(values: Sequence[float], task: str = "retrieval", main: str = "nDCG@10") -> tuple[float, float]:
    column = {str(at): float(value) for at, value in enumerate(values)}
    return significance.interval(open_task(task), main, {main: column})


@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_perfect_score_has_an_interval_cautions_and_no_worst_items(name: str) -> None:
    result = evaluate(Numbered(), Dataset(name, name, ROWS[name]), samples=50)
    assert result["score"] == pytest.approx(100)
    low, high = result["interval"]
    assert high == pytest.approx(100)
    assert low < 100 - 50 * UNSEEN, "items of a share that a sample of 20 misses may all be wrong"
    assert low > 0
    assert result["worst"] == []
    *_, few, perfect = result["cautions"]
    assert few.startswith(f"Only {COUNT} {open_task(name).item[:4]}")
    assert perfect.startswith(f"A perfect {result['main']} of {COUNT} ")


@pytest.mark.parametrize("name", ["retrieval", "bitext"])
def test_a_score_of_zero_has_an_interval(name: str) -> None:
    result = evaluate(Numbered(is_wrong=True), Dataset(name, name, ROWS[name]), samples=50, k=1)
    assert result["score"] == 0
    low, high = result["interval"]
    assert low == 0
    assert 10 < high < 30
    assert len(result["worst"]) == 10
    assert not any("perfect" in caution for caution in result["cautions"])


def test_the_interval_of_shares_is_clopper_and_pearsons() -> None:
    """Their table for 20 trials: 20 of 20 and 0 of 20; other counts by scipy."""
    assert bounds_of([100.0] * 20) == pytest.approx((83.16, 100), abs=0.005)
    assert bounds_of([0.0] * 20) == pytest.approx((0, 16.84), abs=0.005)
    low, high = bounds_of([100.0] * 19 + [0.0])
    assert low <= 75.13
    assert high == pytest.approx(100)


def test_the_interval_of_equal_items_is_as_wide_as_what_they_may_hide() -> None:
    assert bounds_of([63.09] * 20) == pytest.approx((63.09 * (1 - UNSEEN), 63.09 * (1 - UNSEEN) + 100 * UNSEEN))
    assert bounds_of([63.09] * 2000)[1] - bounds_of([63.09] * 2000)[0] == pytest.approx(0.18, abs=0.01)
    assert significance.unseen_share(1) == pytest.approx(0.975)


def test_intervals_of_few_items_hold_the_mean_as_often_as_they_say() -> None:
    """Nine of ten scores are perfect: a bootstrap of twelve items, often all equal, would miss the mean too often."""
    random, mean, holds, equal = np.random.default_rng(0), 100 * 0.9 + 0.1 * 50, 0, 0
    for _ in range(300):
        scores = np.where(random.random(12) < 0.9, 100.0, random.integers(0, 101, 12))
        low, high = bounds_of(scores.tolist())
        holds += low <= mean <= high
        equal += int(np.ptp(scores) == 0)
    assert holds >= 0.95 * 300
    assert equal > 0.2 * 300


def test_equal_differences_have_an_interval() -> None:
    perfect = evaluate(Numbered(), Dataset("r", "retrieval", ROWS["retrieval"]), samples=0)
    same = significance.paired_test(perfect, perfect, samples=100)
    assert same["interval"] == pytest.approx([-100 * UNSEEN, 100 * UNSEEN])
    assert not same["significant"]
    wrong = {**perfect, "score": 0.0, "per_item": {"nDCG@10": dict.fromkeys(perfect["per_item"]["nDCG@10"], 0.0)}}
    apart = significance.paired_test(perfect, wrong, samples=100)
    assert 0 < apart["interval"][0] < apart["interval"][1] == pytest.approx(100)
    assert apart["significant"]


def test_only_items_that_lost_something_are_worst() -> None:
    rows = ROWS["retrieval"]
    judged = {**rows.relevant, "q3": {"d4": 1}, "q5": {"d5": 0}}
    result = evaluate(Numbered(), Dataset("r", "retrieval", Retrieval(rows.documents, rows.queries, judged)), samples=0)
    assert [item["id"] for item in result["worst"]] == ["q3"]
    small, hopeless, few = result["cautions"]
    assert small.startswith("Only 20 documents: the first 10 results are 50% of them")
    assert hopeless.startswith("1 query without a relevant document counts 0 for every model")
    assert few.startswith("Only 20 queries")


def test_a_label_that_shares_its_cluster_is_among_the_worst() -> None:
    """Two labels with equal texts are each in one cluster, and both have lost: the cluster is not theirs alone."""
    mixed = Labelled([f"first {at % 3}" for at in range(18)], [f"label {at % 6 if at % 3 else 0}" for at in range(18)])
    result = evaluate(Numbered(), Dataset("c", "clustering", Clustering([mixed])), samples=0)
    assert {item["id"] for item in result["worst"]} >= {"0:label 1", "0:label 4"}
    assert all(item["score"] < 100 for item in result["worst"])


def test_enough_items_with_faults_need_no_caution() -> None:
    column = {str(at): 50.0 for at in range(significance.MIN_ITEMS)}
    assert significance.cautions(open_task("retrieval"), "nDCG@10", {"nDCG@10": column}) == []


def test_comparisons_show_the_cautions_of_their_results(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Retrieval(
        {"a": "red apples", "b": "green pears"}, {"q": "apples", "r": "pears"}, {"q": {"a": 1}, "r": {"b": 1}}
    )
    comparison = compare(["bm25"], Dataset("fruit", "retrieval", rows), speed=False, cache=False)
    small, few, perfect = comparison["cautions"]
    assert small.startswith("fruit: Only 2 documents: the first 10 results are 100% of them")
    assert few.startswith("fruit: Only 2 queries")
    assert perfect.startswith("fruit: A perfect nDCG@10 of 2 queries")
    print_comparison(comparison, pictures=False)
    shown = " ".join(capsys.readouterr().out.split())
    page = render_html(comparison)
    assert all(caution in shown and caution.replace("&", "&amp;") in page for caution in (few, perfect))
    low, high = comparison["variants"][0]["results"]["fruit"]["interval"]
    assert (low, high) == pytest.approx((15.81, 100), abs=0.005)
