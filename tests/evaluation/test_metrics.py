"""Metrics, intervals and tests of differences, against the reference tools, on random figures with ties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError
from nearfield.evaluation import metrics, significance
from nearfield.evaluation.tasks import open_task
from nearfield.evaluation.tasks.bitext_mining import figures as bitext_figures
from nearfield.evaluation.tasks.bitext_mining import weighted_f1
from nearfield.evaluation.tasks.classification import draw
from nearfield.evaluation.tasks.classification import figures as class_figures
from nearfield.evaluation.tasks.pair_classification import average_precision, separation

SEEDS = range(5)


def judged(seed: int) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Return judgements (grades 0 to 3) and a run whose scores are of few values, so that many are equal."""
    random = np.random.default_rng(seed)
    ids = [f"d{number}" for number in range(60)]
    relevant: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for number in range(25):
        chosen = random.choice(ids, 8, replace=False).tolist()
        relevant[f"q{number}"] = {each: int(random.integers(0, 4)) for each in chosen}
        found = random.choice(ids, int(random.integers(1, 60)), replace=False).tolist()
        run[f"q{number}"] = {each: float(random.integers(0, 6)) / 4 for each in found}
    del run["q3"]  # for one query nothing was found
    return relevant, run


@pytest.mark.parametrize("seed", SEEDS)
def test_rankings_are_measured_as_pytrec_eval_does(seed: int) -> None:
    import pytrec_eval

    relevant, run = judged(seed)
    names = {"nDCG@10": "ndcg_cut_10", "recall@10": "recall_10", "precision@10": "P_10", "MAP@100": "map_cut_100"}
    cut = {each[: each.rindex("_")] + "." + each[each.rindex("_") + 1 :] for each in names.values()}
    told = pytrec_eval.RelevanceEvaluator(relevant, {*cut, "recip_rank"}).evaluate(run)
    found = metrics.ranking_metrics([*names, "MRR@100", "MRR@3"], relevant, run)
    for name, theirs in {**names, "MRR@100": "recip_rank"}.items():
        for query in relevant:
            expected = 100 * told[query][theirs] if query in told else 0.0
            assert found[name][query] == pytest.approx(expected, abs=1e-9), (name, query)
    whole = found["MRR@100"]
    assert found["MRR@3"] == {query: value if value > 33 else 0.0 for query, value in whole.items()}
    assert any(0 < value < 33 for value in whole.values()), "the run is to have a first hit below the third place"


@pytest.mark.parametrize("seed", SEEDS)
def test_rankings_are_measured_as_ir_measures_does(seed: int) -> None:
    import ir_measures
    from ir_measures import AP, RR, P, R, nDCG

    relevant, run = judged(seed)
    names = {"nDCG@5": nDCG @ 5, "MRR@60": RR, "recall@20": R @ 20, "precision@5": P @ 5, "MAP@20": AP @ 20}
    told = ir_measures.calc_aggregate(list(names.values()), relevant, run)
    found = metrics.means(metrics.ranking_metrics(list(names), relevant, run))
    assert found == pytest.approx({name: 100 * told[each] for name, each in names.items()})


@pytest.mark.parametrize("seed", SEEDS)
def test_agreement_is_scipys(seed: int) -> None:
    from scipy import stats

    random = np.random.default_rng(seed)
    a, b = random.integers(0, 5, (2, 200)) / 2
    assert metrics.spearman(a, b) == pytest.approx(100 * stats.spearmanr(a, b).statistic)
    assert metrics.pearson(a, b) == pytest.approx(100 * stats.pearsonr(a, b).statistic)
    assert metrics.spearman(np.ones(5), np.arange(5)) == 0.0
    tables = random.integers(0, 5, (2, 4, 60)) / 2
    expected = [100 * stats.spearmanr(x, y).statistic for x, y in zip(*tables, strict=True)]
    assert metrics.spearman_rows(*tables) == pytest.approx(expected)
    assert metrics.spearman_rows(np.ones((1, 5)), np.arange(5.0)[None]) == pytest.approx([0.0])


@pytest.mark.parametrize("seed", SEEDS)
def test_separation_is_that_of_mteb_and_sklearn(seed: int) -> None:
    from mteb.abstasks.pair_classification import AbsTaskPairClassification
    from sklearn.metrics import average_precision_score, roc_auc_score

    random = np.random.default_rng(seed)
    near, gold = random.integers(0, 12, 150) / 12, random.integers(0, 2, 150)
    told, thresholds = separation(near, gold.astype(float))
    theirs: Any = AbsTaskPairClassification
    accuracy, at = theirs._find_best_acc_and_threshold(None, near.tolist(), gold, True)
    f1, precision, recall, f1_at = theirs._find_best_f1_and_threshold(None, near.tolist(), gold, True)
    expected = {
        "AP": average_precision_score(gold, near),
        "ROC AUC": roc_auc_score(gold, near),
        "accuracy": accuracy,
        "F1": f1,
        "precision": precision,
        "recall": recall,
    }
    assert told == pytest.approx({name: 100 * float(value) for name, value in expected.items()})
    assert thresholds == pytest.approx({"accuracy_threshold": at, "F1_threshold": f1_at})
    assert average_precision(near, np.zeros(150)) == 0.0


def test_separation_is_that_of_sentence_transformers_without_ties() -> None:
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator as Theirs

    random = np.random.default_rng(3)
    near, gold = random.permutation(200) / 200, random.integers(0, 2, 200)
    told, _ = separation(near, gold.astype(float))
    assert told["accuracy"] == pytest.approx(100 * Theirs.find_best_acc_and_threshold(near, gold, True)[0])
    assert told["F1"] == pytest.approx(100 * Theirs.find_best_f1_and_threshold(near, gold, True)[0])


def test_equal_similarities_separate_nothing() -> None:
    told, thresholds = separation(np.full(4, 0.5), np.array([1.0, 0.0, 1.0, 0.0]))
    assert told["AP"] == pytest.approx(50)
    assert (told["accuracy"], told["F1"], thresholds) == (0.0, 0.0, {})


@pytest.mark.parametrize("seed", SEEDS)
def test_bitext_is_sklearns(seed: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score

    random = np.random.default_rng(seed)
    found = np.where(random.random(300) < 0.4, np.arange(300), random.integers(0, 40, 300))
    told = bitext_figures(found)
    gold = np.arange(300)
    assert told["F1"] == pytest.approx(100 * f1_score(gold, found, average="weighted", zero_division=0))
    assert told["accuracy"] == pytest.approx(100 * accuracy_score(gold, found))
    assert told["precision"] == pytest.approx(100 * precision_score(gold, found, average="weighted", zero_division=0))
    rows = random.integers(0, 300, 300)  # drawn with repeats, as resampling does
    expected = 100 * f1_score(gold[rows], found[rows], average="weighted", zero_division=0)
    assert weighted_f1(gold[rows], found[rows]) == pytest.approx(expected)


class Train:
    """As much of a dataset as MTEB's drawing needs."""

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, name: str) -> list[str]:
        return self.labels

    def select(self, places: list[int]) -> list[int]:
        return places


def test_draws_are_those_of_mteb() -> None:
    from mteb.abstasks.classification import AbsTaskClassification

    class Task:
        seed, samples_per_label, label_column_name = 42, 8, "label"

    labels = [f"l{number}" for number in np.random.default_rng(1).integers(0, 7, 400)]
    places: Any = None
    for ours in draw(labels, 42):
        theirs: Any = AbsTaskClassification._undersample_data
        _, places, chosen = theirs(Task(), Train(labels), 0, places)
        assert ours == chosen


def test_classification_is_sklearns_mean_over_draws() -> None:
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score

    random = np.random.default_rng(2)
    gold = random.integers(0, 2, 100)
    predicted = [np.where(random.random(100) < 0.8, gold, 1 - gold) for _ in range(3)]
    expected = {
        "accuracy": np.mean([accuracy_score(gold, each) for each in predicted]),
        "F1": np.mean([f1_score(gold, each, average="macro") for each in predicted]),
        "AP": np.mean([average_precision_score(gold, each) for each in predicted]),
    }
    assert class_figures(gold, predicted) == pytest.approx({name: 100 * value for name, value in expected.items()})
    three = class_figures(np.array([0, 1, 2, 2]), [np.array([0, 1, 2, 1])])
    assert "AP" not in three


# -- intervals and tests ------------------------------------------------------------------------------------------


def column(values: Any) -> dict[str, float]:
    return {str(at): float(value) for at, value in enumerate(values)}


def test_the_interval_is_scipys_bootstrap() -> None:
    from scipy import stats

    values = np.random.default_rng(0).beta(2, 1, 300) * 100
    low, high = significance.interval(open_task("retrieval"), "nDCG@10", {"nDCG@10": column(values)}, samples=5000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.25)
    assert low < values.mean() < high


def test_the_interval_of_a_correlation_is_scipys_bootstrap() -> None:
    from scipy import stats

    random = np.random.default_rng(0)
    gold = random.normal(size=200)
    near = gold + random.normal(size=200)
    columns = {"similarity": column(near), "gold": column(gold)}
    low, high = significance.interval(open_task("sts"), "Spearman", columns, samples=1000)
    theirs = stats.bootstrap(
        (near, gold),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=400,
        rng=1,
    ).confidence_interval
    assert (low, high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=2)


def test_an_interval_of_clusters_holds_its_figure() -> None:
    """Texts that are drawn twice make clusters purer: samples are centred, or the figure would lie outside."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 30, 150)
    clusters = np.where(random.random(150) < 0.5, labels, random.integers(0, 30, 150))
    task = open_task("clustering")
    columns = {"set": column(np.zeros(150)), "label": column(labels), "cluster": column(clusters)}
    figure = task.score("v-measure", {name: np.array(list(each.values())) for name, each in columns.items()})
    low, high = significance.interval(task, "v-measure", columns, samples=100)
    assert low < figure < high


def result(values: Any, task: str = "retrieval", main: str = "nDCG@10", digest: str = "same") -> dict[str, Any]:
    score = float(np.mean(values))
    return {
        "main": main,
        "score": score,
        "per_item": {main: column(values)},
        "dataset": {"task": task, "digest": digest},
    }


def exact(a: Any, b: Any) -> float:
    """Return the p of all ways to swap pairs, counted one by one."""
    gaps = np.asarray(a, float) - np.asarray(b, float)
    signs = 1 - 2 * ((np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps))) & 1)
    means = (signs * gaps).mean(1)
    return float(min(1.0, 2 * min((means >= gaps.mean() - 1e-12).mean(), (means <= gaps.mean() + 1e-12).mean())))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_paired_difference_has_the_exact_p(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 4, (2, 9)) * 25.0
    found = significance.paired_test(result(a), result(b))
    assert found["difference"] == pytest.approx(np.mean(a) - np.mean(b))
    assert found["p"] == pytest.approx(1.0 if (a == b).all() else exact(a, b))
    assert found["test"] == "paired permutation"


def test_what_differs_is_told_from_what_does_not() -> None:
    random = np.random.default_rng(0)
    a = random.random(200) * 100
    better = significance.paired_test(result(a + 2 + random.normal(size=200)), result(a))
    assert better["significant"]
    assert better["interval"][0] > 0
    same = significance.paired_test(result(a), result(a))
    assert (same["difference"], same["p"], same["significant"]) == (0.0, 1.0, False)
    noise = significance.paired_test(result(a), result(np.random.default_rng(5).permutation(a)))
    assert noise["interval"][0] < 0 < noise["interval"][1]


def correlated(near: Any, gold: Any) -> dict[str, Any]:
    told = result(near, "sts", "Spearman")
    return {
        **told,
        "score": metrics.spearman(near, gold),
        "per_item": {"similarity": column(near), "gold": column(gold)},
    }


def test_correlations_are_compared_on_the_same_draws() -> None:
    random = np.random.default_rng(0)
    gold = random.normal(size=300)
    good, bad = gold + 0.5 * random.normal(size=300), gold + 2 * random.normal(size=300)
    found = significance.paired_test(correlated(good, gold), correlated(bad, gold))
    assert found["test"] == "paired bootstrap"
    assert found["significant"]
    assert found["interval"][0] > 0
    alike = significance.paired_test(correlated(good, gold), correlated(good, gold))
    assert not alike["significant"]


@pytest.mark.parametrize(
    "other", [result([1.0, 2.0], digest="another"), result([1.0, 2.0], main="MRR@10"), result([1.0])]
)
def test_what_cannot_be_compared_is_refused(other: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match=r"different data sets or metrics|not of the same items"):
        significance.paired_test(result([1.0, 2.0]), other)
