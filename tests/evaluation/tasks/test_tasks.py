"""Tasks on given vectors, against what the reference tools make of the same vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield.errors import InputError
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
from nearfield.evaluation.significance import paired_test
from nearfield.evaluation.tasks import REGISTRY, open_task
from nearfield.evaluation.tasks.classification import draw

Array = np.ndarray[Any, np.dtype[Any]]


class Given:
    """A subject whose vectors are drawn by its texts: few values, so that many similarities are equal."""

    name, identity = "given", "given"

    def __init__(self, width: int = 3, values: int = 3) -> None:
        self._width, self._values = width, values
        self.roles: set[str] = set()
        self.truncated = 0

    def encode(self, texts: Sequence[str], *, role: str) -> Array:
        self.roles.add(role)
        self.truncated += sum(len(text) > 30 for text in texts)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Array:
        return np.random.default_rng(list(text.encode())).integers(0, self._values, self._width).astype(np.float32)

    def similarity(self, a: Array, b: Array) -> Array:
        return a @ b.T

    def close(self) -> None:
        raise AssertionError("what was given open is left open")


def retrieval(documents: int = 5000, queries: int = 12) -> Dataset:
    random = np.random.default_rng(0)
    ids = [f"{number:05}" for number in random.permutation(documents)]
    rows = Retrieval(
        {key: f"document {key}" for key in ids},
        {f"q{number}": f"query {number}" for number in range(queries)},
        {
            f"q{number}": {each: int(random.integers(0, 3)) for each in random.choice(ids, 400, replace=False).tolist()}
            for number in range(queries)
        },
    )
    return Dataset("many", "retrieval", rows)


@pytest.mark.slow
def test_retrieval_is_what_trec_eval_makes_of_all_scores() -> None:
    """More documents than one window, and more ties than places: those stay that trec_eval ranks first."""
    import pytrec_eval

    data, subject = retrieval(), Given()
    rows: Any = data.rows
    found = evaluate(subject, data, samples=50)
    left, right = (subject.encode(list(texts.values()), role="query") for texts in (rows.queries, rows.documents))
    whole = {
        query: dict(zip(rows.documents, line.tolist(), strict=True))
        for query, line in zip(rows.queries, left @ right.T, strict=True)
    }
    names = {"nDCG@10": "ndcg_cut_10", "recall@10": "recall_10", "precision@10": "P_10", "recall@100": "recall_100"}
    names |= {"MAP@100": "map_cut_100"}
    asked = {"ndcg_cut.10", "recall.10,100", "P.10", "map_cut.100"}
    told = pytrec_eval.RelevanceEvaluator(rows.relevant, asked).evaluate(whole)
    for name, theirs in names.items():
        expected = {query: 100 * row[theirs] for query, row in told.items()}
        assert found["per_item"][name] == pytest.approx(expected), name
        assert found["metrics"][name] == pytest.approx(np.mean(list(expected.values())))
    assert (found["main"], found["score"]) == ("nDCG@10", found["metrics"]["nDCG@10"])
    assert found["interval"][0] <= found["score"] <= found["interval"][1]
    assert subject.roles == {"query", "document"}
    json.dumps(found)


class Finds:
    """A subject that searches: the query's own document first, then some other."""

    name, identity, max_results = "finds", "finds", None

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        return {query: {query: 2.0, "other": 1.0} for query in queries}

    def close(self) -> None:
        raise AssertionError("what was given open is left open")


def test_a_querys_own_document_is_left_out_where_that_is_asked_for() -> None:
    rows = Retrieval({"a": "text a", "other": "text"}, {"a": "text a"}, {"a": {"other": 1}})
    data = Dataset("own", "retrieval", rows)
    assert evaluate(Finds(), data)["metrics"]["MRR@10"] == pytest.approx(50)
    without = evaluate(Finds(), data, ignore_identical_ids=True)
    assert without["metrics"]["MRR@10"] == pytest.approx(100)
    assert without["settings"]["ignore_identical_ids"]


def test_the_worst_queries_are_told_with_what_was_found_instead() -> None:
    rows = Retrieval(
        {"a": "text a", "other": "text " * 100, "far": "never found"},
        {"a": "good", "other": "bad"},
        {"a": {"a": 1}, "other": {"far": 1, "other": 0}},
    )
    worst = evaluate(Finds(), Dataset("own", "retrieval", rows), worst=1)["worst"]
    assert [each["id"] for each in worst] == ["other"]
    assert worst[0]["text"] == "bad"
    assert worst[0]["expected"] == [{"id": "far", "text": "never found", "rank": None}]
    assert [(each["id"], each["relevance"]) for each in worst[0]["found"]] == [("other", 0)]
    assert len(worst[0]["found"][0]["text"]) <= 300


def test_what_only_searches_cannot_tell_pairs_apart() -> None:
    data = Dataset("pairs", "sts", PairRows(["a", "b"], ["c", "d"], [0.0, 1.0]))
    with pytest.raises(InputError, match="finds can only search"):
        evaluate(Finds(), data)


def pairs(count: int, grades: int) -> PairRows:
    gold = np.random.default_rng(1).integers(0, grades, count).astype(float).tolist()
    return PairRows([f"first {n}" for n in range(count)], [f"second {n}" for n in range(count)], gold)


def near(rows: Any, subject: Given) -> Array:
    left, right = subject.encode(rows.first, role="x"), subject.encode(rows.second, role="x")
    return (left * right).sum(1)


def test_sts_is_scipys() -> None:
    from scipy import stats

    rows = pairs(700, 6)  # more than are compared at once
    found = evaluate(Given(), Dataset("sts", "sts", rows), samples=20)
    expected = near(rows, Given())
    assert found["score"] == pytest.approx(100 * stats.spearmanr(expected, rows.gold).statistic)
    assert found["metrics"]["Pearson"] == pytest.approx(100 * stats.pearsonr(expected, rows.gold).statistic)
    assert len(found["worst"]) == 10
    apart = np.abs(stats.rankdata(expected) - stats.rankdata(rows.gold))
    assert found["worst"][0]["id"] == str(int(apart.argmax()))


def test_pairs_are_sklearns() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = pairs(600, 2)
    found = evaluate(Given(), Dataset("pairs", "pairs", rows), samples=20)
    expected = near(rows, Given())
    assert found["score"] == pytest.approx(100 * average_precision_score(rows.gold, expected))
    assert found["metrics"]["ROC AUC"] == pytest.approx(100 * roc_auc_score(rows.gold, expected))
    wrong = [each for each in found["worst"] if each["expected"][0]["label"] == "similar"]
    assert all(each["found"][0]["similarity"] < np.median(expected) for each in wrong)
    with pytest.raises(InputError, match="labels 1"):
        evaluate(Given(), Dataset("pairs", "pairs", pairs(20, 3)))


def labelled(count: int, labels: int, name: str) -> Labelled:
    chosen = np.random.default_rng(len(name)).integers(0, labels, count)
    chosen[:labels] = range(labels)
    return Labelled([f"{name} {n}" for n in range(count)], [f"label {each}" for each in chosen])


@pytest.mark.slow
def test_classification_is_mtebs_protocol() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = Classification(labelled(200, 3, "train"), labelled(90, 3, "test"))
    subject = Given(width=8, values=9)
    found = evaluate(subject, Dataset("labels", "classification", rows), samples=20)
    train, test = (subject.encode(each.texts, role="x") for each in (rows.train, rows.test))
    scores = []
    for places in draw(rows.train.labels, 42):
        assert len(places) == 24
        probe = LogisticRegression(max_iter=100).fit(train[places], [rows.train.labels[at] for at in places])
        scores.append(probe.score(test, rows.test.labels))
    assert found["score"] == pytest.approx(100 * np.mean(scores))
    assert found["settings"]["draws"] == 10
    full = evaluate(subject, Dataset("labels", "classification", rows), samples=0, full=True)
    probe = LogisticRegression(max_iter=1000).fit(train, rows.train.labels)
    assert full["score"] == pytest.approx(100 * probe.score(test, rows.test.labels))
    assert full["interval"] is None
    assert found["worst"][0]["expected"][0]["label"] != found["worst"][0]["found"][0]["label"]


@pytest.mark.slow
def test_clustering_is_mtebs_kmeans() -> None:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    sets = [labelled(80, 4, "one"), labelled(50, 2, "another")]
    subject = Given(width=8, values=9)
    found = evaluate(subject, Dataset("groups", "clustering", Clustering(sets)), samples=20)
    scores = []
    for each in sets:
        made = MiniBatchKMeans(n_clusters=len(set(each.labels)), batch_size=500, n_init="auto", random_state=42)
        scores.append(v_measure_score(each.labels, made.fit(subject.encode(each.texts, role="x")).labels_))
    assert found["score"] == pytest.approx(100 * np.mean(scores))
    assert {each["expected"][0]["label"] for each in found["worst"]} <= {f"label {n}" for n in range(4)}


def test_reranking_is_pytrec_evals() -> None:
    import pytrec_eval

    samples = [
        Candidates(f"query {n}", [f"good {n} {at}" for at in range(2)], [f"bad {n} {at}" for at in range(9)])
        for n in range(15)
    ]
    subject = Given()
    found = evaluate(subject, Dataset("ranks", "reranking", Reranking(samples)), samples=20)
    run: dict[str, dict[str, float]] = {}
    relevant: dict[str, dict[str, int]] = {}
    for at, each in enumerate(samples):
        keys = [*(f"p{n}" for n in range(2)), *(f"n{n}" for n in range(9))]
        scores = subject.encode([each.query], role="x") @ subject.encode([*each.positive, *each.negative], role="x").T
        run[str(at)] = dict(zip(keys, scores[0].tolist(), strict=True))
        relevant[str(at)] = {key: int(key[0] == "p") for key in keys}
    told = pytrec_eval.RelevanceEvaluator(relevant, {"map", "ndcg_cut.10", "recip_rank"}).evaluate(run)
    assert found["per_item"]["MAP"] == pytest.approx({key: 100 * row["map"] for key, row in told.items()})
    assert found["per_item"]["nDCG@10"] == pytest.approx({key: 100 * row["ndcg_cut_10"] for key, row in told.items()})
    assert found["main"] == "MAP"


def test_bitext_is_measured_both_ways() -> None:
    from sklearn.metrics import f1_score

    rows = Bitext([f"eins {n}" for n in range(200)], [f"one {n}" for n in range(200)])
    subject = Given(width=8, values=9)
    found = evaluate(subject, Dataset("texts", "bitext", rows), samples=20)
    scores = subject.encode(rows.first, role="x") @ subject.encode(rows.second, role="x").T
    gold, options = np.arange(200), {"average": "weighted", "zero_division": 0}
    assert found["score"] == pytest.approx(100 * f1_score(gold, scores.argmax(1), **options))
    assert found["metrics"]["reverse F1"] == pytest.approx(100 * f1_score(gold, scores.argmax(0), **options))
    assert found["metrics"]["reverse F1"] != found["score"]
    assert all(each["expected"][0]["id"] != each["found"][0]["id"] for each in found["worst"])


# -- what holds for each task --------------------------------------------------------------------------------------


def candidates(count: int) -> Reranking:
    return Reranking([Candidates(f"query {n}", [f"good {n}"], [f"bad {n}", f"worse {n}"]) for n in range(count)])


#: Rows for each task of the registry: every task needs some.
ROWS: Mapping[str, Any] = {
    "retrieval": retrieval(600, 6).rows,
    "sts": pairs(40, 6),
    "pairs": pairs(40, 2),
    "classification": Classification(labelled(60, 3, "train"), labelled(30, 3, "test")),
    "clustering": Clustering([labelled(40, 3, "one")]),
    "reranking": candidates(12),
    "bitext": Bitext([f"eins {n}" for n in range(40)], [f"one {n}" for n in range(40)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_task_keeps_its_promises(name: str) -> None:
    data = Dataset(name, name, ROWS[name])
    found = evaluate(Given(width=8, values=5), data, samples=60, worst=3)
    task, main = open_task(name), found["main"]
    assert next(iter(found["metrics"])) == main
    assert all(-100 <= value <= 100 for value in found["metrics"].values())
    assert found["score"] == found["metrics"][main]
    low, high = found["interval"]
    assert low <= found["score"] <= high
    columns = {key: np.array(list(column.values())) for key, column in found["per_item"].items()}
    assert len({tuple(column) for column in found["per_item"].values()}) == 1, "each column is of the same items"
    assert task.score(main, columns) == pytest.approx(found["score"]), "the figure comes from what is kept of items"
    count = len(next(iter(columns.values())))
    draws = np.random.default_rng(0).integers(0, count, (3, count))
    one_by_one = [task.score(main, {key: column[row] for key, column in columns.items()}) for row in draws]
    assert task.scores(main, columns, draws) == pytest.approx(one_by_one)
    assert 0 < len(found["worst"]) <= 3
    assert all(set(each) == {"id", "text", "score", "expected", "found"} for each in found["worst"])
    json.dumps(found)
    again = evaluate(Given(width=8, values=5), data, samples=60, worst=3)
    assert {**again, "seconds": 0} == {**found, "seconds": 0}, "the same seed gives the same result"
    told = paired_test(found, again, samples=100)
    assert (told["difference"], told["significant"]) == (0.0, False)


# -- the call ------------------------------------------------------------------------------------------------------


def test_cut_texts_are_counted() -> None:
    rows = PairRows(["short", "long " * 20], ["short", "short again"], [1.0, 0.0])
    found = evaluate(Given(), Dataset("sts", "sts", rows), samples=0)
    assert found["truncated"] == 1


def test_every_task_takes_its_rows_alone() -> None:
    wrong = PairRows(["a", "b"], ["c", "d"], [0.0, 1.0])
    for name in REGISTRY.names():
        if open_task(name).rows is not PairRows:
            with pytest.raises(InputError, match=f"Task '{name}' takes"):
                evaluate(Given(), Dataset("x", name, wrong))
    with pytest.raises(InputError, match="Did you mean 'retrieval'"):
        evaluate(Given(), Dataset("x", "retreival", wrong))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number from 1"),
        ({"samples": -1}, "samples must be a whole number from 0"),
        ({"task": "pairs"}, "is a set for sts, not for pairs"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    data = Dataset("sts", "sts", PairRows(["a", "b"], ["c", "d"], [0.0, 1.0]))
    with pytest.raises(InputError, match=message):
        evaluate(Given(), data, **options)


def test_a_model_of_no_kind_is_refused() -> None:
    data = Dataset("sts", "sts", PairRows(["a", "b"], ["c", "d"], [0.0, 1.0]))
    with pytest.raises(InputError, match="and this is the number 3"):
        evaluate(3, data)  # type: ignore[arg-type]


def test_the_room_is_called_by_its_name() -> None:
    data = Dataset("sts", "sts", PairRows(["a", "b"], ["c", "d"], [0.0, 1.0]))
    found = nearfield.evaluate(Given(), data, samples=0)
    assert found["metrics"] == evaluate(Given(), data, samples=0)["metrics"]
    from nearfield import evaluate as again

    assert callable(again)
