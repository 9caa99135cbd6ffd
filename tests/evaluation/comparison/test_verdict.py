"""The verdict of a comparison: what the tests distinguish decides, and no sentence says more than they do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.errors import InputError
from nearfield.evaluation import significance
from nearfield.evaluation.comparison import ranking
from nearfield.evaluation.comparison.result_store import ResultStore
from nearfield.evaluation.comparison.verdict import power, wording
from nearfield.evaluation.comparison.verdict.conclusion import conclude
from nearfield.evaluation.comparison.verdict.decision import order_tied
from nearfield.evaluation.comparison.verdict.need import check_need
from nearfield.evaluation.comparison.verdict.paired_tests import PairTester, adjust, choose_pairs, combine
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.weights import normalise_weights

#: Results by the scores of the variants, so that no pair of scores is tested twice in this module.
STORE = ResultStore(None)
SETTINGS = {"k": 10, "samples": 100, "seed": 0}


@pytest.fixture(scope="module", autouse=True)
def _stored_pairs(tmp_path_factory: pytest.TempPathFactory) -> None:
    STORE.folder = tmp_path_factory.mktemp("pairs")


def _dataset(count: int, name: str = "questions") -> Dataset:
    documents = {f"d{at}": f"document {at}" for at in range(count)}
    queries = {f"q{at}": f"question {at}?" for at in range(count)}
    return Dataset(name, "retrieval", Retrieval(documents, queries, {f"q{at}": {f"d{at}": 1} for at in range(count)}))


def _variant(name: str, dataset: Dataset, scores: Sequence[float], **measures: float | None) -> JsonDict:
    """Return a variant of a comparison with these scores of the queries."""
    return _on_several(name, [(dataset, scores)], **measures)


def _on_several(name: str, scores: Sequence[tuple[Dataset, Sequence[float]]], **measures: float | None) -> JsonDict:
    results = {dataset.name: _result(dataset, values) for dataset, values in scores}
    speed, memory = measures.get("speed"), measures.get("memory")
    latency = {"1": {"p50": 1.0, "p95": measures["p95"]}} if measures.get("p95") else {}
    timed = {"bulk": {"texts_per_second": speed}, "latency": latency, "memory": {"peak": memory}}
    return {
        "name": name,
        "label": name.upper(),
        "identity": str([list(values) for _, values in scores]),
        "options": {},
        "errors": [],
        "results": results,
        "quality": float(np.mean([result["score"] for result in results.values()])),
        "speed": timed if speed else None,
        "storage": {"bytes_per_document": measures.get("storage")},
    }


def _result(dataset: Dataset, scores: Sequence[float]) -> JsonDict:
    column = {f"q{at}": float(score) for at, score in enumerate(scores)}
    first = {key: [f"d{key[1:]}" if score >= 50 else "d0"] for key, score in column.items()}
    score = float(np.mean(scores))
    return {
        "dataset": dataset.to_dict(),
        "main": "nDCG@10",
        "score": score,
        "interval": [score, score],
        "per_item": {"nDCG@10": column},
        "first": first,
    }


def _conclude(
    rows: Sequence[JsonDict],
    datasets: Sequence[Dataset],
    need: dict[str, float] | None = None,
    weights: dict[str, float] | None = None,
) -> JsonDict:
    tester = PairTester(STORE, SETTINGS, lambda _: None)
    return conclude(rows, datasets, tester, normalise_weights(ranking.WEIGHTS, weights), need or {})


def _noisy(count: int, mean: float, seed: int, spread: float = 10.0) -> Any:
    return np.clip(np.random.default_rng(seed).normal(mean, spread, count), 0, 100)


def _text(conclusion: JsonDict) -> str:
    verdict = conclusion["verdict"]
    return "\n".join([verdict["headline"], *verdict["sentences"]])


# -- quality first -------------------------------------------------------------------------------------------------


def test_a_quality_that_the_test_distinguishes_beats_any_speed() -> None:
    data, base = _dataset(100), _noisy(100, 60, 1)
    good = _variant("good", data, base, speed=1.0, memory=1e10, storage=1e5)
    fast = _variant("fast", data, base - 1.0 - np.arange(100) % 3, speed=1e6, memory=1.0, storage=1.0)
    conclusion = _conclude([fast, good], [data], weights={"quality": 0.01, "speed": 1})
    assert [place["name"] for place in conclusion["ranking"]] == ["good", "fast"]
    assert [place["group"] for place in conclusion["ranking"]] == ["tied", "worse"]
    assert conclusion["verdict"]["headline"].startswith("Take GOOD: it has the highest nDCG@10")
    assert "confirm" in conclusion["verdict"]["headline"]
    assert conclusion["ranking"][0]["total"] < conclusion["ranking"][1]["total"]


def test_speed_decides_between_qualities_that_the_test_does_not_distinguish() -> None:
    data, base = _dataset(100), _noisy(100, 60, 1)
    good = _variant("good", data, base + 0.01, speed=10.0)
    fast = _variant("fast", data, base + np.where(np.arange(100) % 2, 0.5, -0.5), speed=100.0)
    conclusion = _conclude([good, fast], [data])
    assert conclusion["verdict"]["take"] == "fast" and conclusion["verdict"]["best"] == "good"
    assert "cannot be distinguished from that of GOOD" in conclusion["verdict"]["headline"]
    assert "10 times as fast" in conclusion["verdict"]["headline"]
    assert "Not distinguishable from GOOD on 100 queries: FAST (alike" in _text(conclusion)


def test_of_tied_variants_none_precedes_one_that_is_significantly_better() -> None:
    """The best is noisy, so it ties with both others; but of these, one is better on every query."""
    count = 60
    data, base = _dataset(count), _noisy(count, 60, 1, 2.0)
    noise = np.where(np.arange(count) % 2, 30.0, -27.0)
    rows = [
        _variant("best", data, base + noise, speed=1.0),
        _variant("second", data, base + 1.0, speed=2.0),
        _variant("third", data, base, speed=1e6),
    ]
    conclusion = _conclude(rows, [data], weights={"quality": 0.01, "speed": 1})
    assert {place["group"] for place in conclusion["ranking"]} == {"tied"}
    names = [place["name"] for place in conclusion["ranking"]]
    assert names.index("second") < names.index("third")
    assert next(place for place in conclusion["ranking"] if place["name"] == "third")["behind"] == ["second"]


def test_of_many_variants_ties_that_are_not_reported_are_tested_too() -> None:
    count = 60
    data, base = _dataset(count), _noisy(count, 60, 1, 2.0)
    noise = np.where(np.arange(count) % 2, 30.0, -27.0)
    rows = [_variant("best", data, base + noise, speed=1.0), _variant("second", data, base + 1.0, speed=2.0)]
    rows += [_variant(f"fast{at}", data, base - 0.1 * at, speed=1e5 + at) for at in range(6)]
    conclusion = _conclude(rows, [data], weights={"quality": 0.01, "speed": 1})
    assert len(conclusion["significance"]) == 7, "each against the best"
    names = [place["name"] for place in conclusion["ranking"]]
    assert names.index("second") < min(names.index(f"fast{at}") for at in range(6))


@given(st.permutations("abcde"), st.sets(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"))))
def test_the_order_of_ties_keeps_every_constraint(names: list[str], pairs: set[tuple[str, str]]) -> None:
    behind = {name: [better for worse, better in pairs if worse == name and better < worse] for name in names}
    ordered = order_tied(names, behind)
    assert sorted(ordered) == sorted(names)
    assert all(ordered.index(better) < ordered.index(name) for name in names for better in behind[name])
    if not any(behind.values()):
        assert ordered == names


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(1, 1e6), st.floats(1, 1e6)), min_size=2, max_size=5),
    st.dictionaries(st.sampled_from(["texts_per_second", "bytes_per_document"]), st.floats(1, 1e6)),
)
def test_the_verdict_never_contradicts_the_tests(rows: list[tuple[int, float, float]], need: dict[str, float]) -> None:
    data = _dataset(12)
    base = np.linspace(20, 70, 12)
    shift = np.where(np.arange(12) % 2, 9.0, -7.0)
    patterns = [base, base + 5, base + shift, base + 12, base - 3]
    variants = [
        _variant(f"v{at}", data, patterns[pattern].tolist(), speed=speed, storage=storage)
        for at, (pattern, speed, storage) in enumerate(rows)
    ]
    conclusion = _conclude(variants, [data], need)
    fit = [place["name"] for place in conclusion["ranking"] if place["group"] != "unfit"]
    for test in conclusion["overall"]:
        if test["significant"] and test["a"] in fit and test["b"] in fit:
            assert fit.index(test["a"]) < fit.index(test["b"])
    verdict = conclusion["verdict"]
    assert (verdict["take"] is None) == (not fit)
    for row in verdict["equal"]:
        assert not row["significant"] and row["word"] in ("equal", "alike", "undecided")
    for row in verdict["worse"]:
        assert row["significant"] and row["word"].endswith("better")
    for name, missed in verdict["unfit"].items():
        assert missed and name not in fit


# -- the need --------------------------------------------------------------------------------------------------------


def test_more_than_is_needed_does_not_count() -> None:
    data, base = _dataset(40), _noisy(40, 60, 1)
    wave = np.where(np.arange(40) % 2, 0.4, -0.4)
    rows = [
        _variant("good", data, base + 0.05, speed=100.0, storage=100.0),
        _variant("fast", data, base + wave, speed=100_000.0, storage=110.0),
    ]
    assert _conclude(rows, [data])["verdict"]["take"] == "fast"
    conclusion = _conclude(rows, [data], {"texts_per_second": 50.0})
    assert conclusion["verdict"]["take"] == "good"
    assert [place["parts"]["speed"] for place in conclusion["ranking"]] == [1.0, 1.0]
    assert "times as fast" not in _text(conclusion)


def test_what_misses_the_need_is_no_choice_and_the_verdict_says_what_that_costs() -> None:
    data, base = _dataset(100), _noisy(100, 60, 1)
    rows = [
        _variant("slow", data, base + 5 + np.arange(100) % 2, speed=10.0),
        _variant("fast", data, base, speed=100.0),
        _variant("unknown", data, base - 9),
    ]
    conclusion = _conclude(rows, [data], {"texts_per_second": 50.0})
    assert [place["name"] for place in conclusion["ranking"]] == ["fast", "unknown", "slow"]
    text = _text(conclusion)
    assert "Left out because they miss the need: SLOW (10 texts per second, needed are 50 texts per second)." in text
    assert "SLOW has a higher quality by 5.5 points, which the test confirms" in text
    assert "Whether UNKNOWN meets the need is not known (texts_per_second could not be measured)." in text
    assert conclusion["verdict"]["headline"].startswith("Take FAST") and "of those that meet the need" in text


def test_where_none_meets_the_need_the_nearest_is_named() -> None:
    data, base = _dataset(20), _noisy(20, 60, 1)
    rows = [_variant("slow", data, base, speed=1.0, p95=300.0), _variant("less slow", data, base, speed=40.0, p95=99.0)]
    conclusion = _conclude(rows, [data], {"texts_per_second": 50.0, "p95_ms": 100.0})
    verdict = conclusion["verdict"]
    assert verdict["take"] is None and verdict["nearest"] == "less slow"
    expected = (
        "No variant meets the need. The nearest is LESS SLOW: 40 texts per second, needed are 50 texts per second."
    )
    assert verdict["headline"] == expected
    assert {place["group"] for place in conclusion["ranking"]} == {"unfit"} and verdict["deciding"] is None


def test_needs_are_checked() -> None:
    assert check_need(None, speed=False) == {}
    assert check_need({"memory": 2**30, "bytes_per_document": 10}, speed=True)["memory"] == 2**30
    for need, message in (
        ({"text_per_second": 1.0}, "Did you mean 'texts_per_second'"),
        ({"p95_ms": 0.0}, "must be above 0"),
        ({"p95_ms": "fast"}, "must be a number"),
        ({"memory": math.inf}, "above 0"),
    ):
        with pytest.raises(InputError, match=message):
            check_need(need, speed=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--no-speed"):
        check_need({"p95_ms": 10.0}, speed=False)
    with pytest.raises(InputError, match="mapping"):
        check_need([("p95_ms", 10.0)], speed=True)  # type: ignore[arg-type]


def test_an_unknown_measure_is_no_advantage() -> None:
    rows: list[JsonDict] = [
        {"name": "slow", "quality": 60.0, "speed": 1.0, "memory": None, "storage": None},
        {"name": "fast", "quality": 60.0, "speed": 90.0, "memory": None, "storage": None},
        {"name": "untimed", "quality": 60.0, "speed": None, "memory": None, "storage": None},
    ]
    places = {place["name"]: place for place in ranking.rank(rows, ranking.WEIGHTS)}
    assert places["untimed"]["total"] == places["slow"]["total"] < places["fast"]["total"]
    assert places["untimed"]["unknown"] == ["speed"], "memory and storage are known of none"


# -- words and numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "interval", "significant", "expected"),
    [
        (0.0, [0.0, 0.0], False, "alike"),
        (0.0, [-0.5, 0.5], False, "alike"),
        (1.0, [-0.1, 1.9], False, "alike"),
        (1.0, [-1.0, 3.0], False, "undecided"),
        (12.0, [-3.0, 30.0], False, "undecided"),
        (1.0, [0.5, 1.5], True, "slightly better"),
        (5.0, [2.0, 8.0], True, "probably better"),
        (12.0, [8.0, 16.0], True, "better"),
    ],
)
def test_words_agree_with_the_test(difference: float, interval: list[float], significant: bool, expected: str) -> None:
    test = {"difference": difference, "interval": interval, "significant": significant}
    assert wording.word({**test, "same_scores": False}) == expected
    if not significant:
        assert wording.word({**test, "same_scores": True}) == "equal"


def test_numbers_of_items_are_rounded_up_to_two_digits() -> None:
    assert [wording.rounded(count) for count in (7, 99, 101, 1_801, 52_345)] == ["7", "99", "110", "1,900", "53,000"]


def test_the_number_of_items_gives_the_power_that_it_promises() -> None:
    """Draws of that many items are significant in about 80 of 100 cases (Monte Carlo, error about 2)."""
    random = np.random.default_rng(0)
    difference, spread = 3.0, 20.0
    needed = power.items_needed(difference, spread / math.sqrt(50), 50)
    assert needed == math.ceil(((NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) * spread / difference) ** 2)
    draws = random.normal(difference, spread, (2_000, needed))
    errors = draws.std(axis=1, ddof=1) / math.sqrt(needed)
    share = np.mean(np.abs(draws.mean(axis=1)) / errors > 1.96)
    assert 0.76 < share < 0.84
    assert power.items_needed(0.0, 1.0, 50) is None and power.items_needed(1.0, 0.0, 50) is None


def test_the_verdict_says_how_many_more_queries_decide() -> None:
    data = _dataset(50)
    base = _noisy(50, 60, 1)
    rows = [_variant("a", data, base + np.where(np.arange(50) % 5, -2.0, 14.0)), _variant("b", data, base)]
    conclusion = _conclude(rows, [data])
    found = conclusion["verdict"]["power"]
    error = power.standard_error(conclusion["overall"][0])
    assert found["needed"] == power.items_needed(found["difference"], error, 50) and found["needed"] > 50
    assert f"about {wording.rounded(found['needed'])} queries would be needed" in _text(conclusion)
    assert "B (undecided" in _text(conclusion)


def test_so_few_queries_that_nothing_can_be_confirmed_are_named() -> None:
    data = _dataset(5)
    rows = [_variant("a", data, [90.0] * 5), _variant("b", data, [10.0] * 5)]
    conclusion = _conclude(rows, [data])
    assert "With 5 queries and 1 test, no difference however large can be confirmed." in _text(conclusion)
    assert conclusion["ranking"][1]["group"] == "tied" and conclusion["verdict"]["equal"][0]["word"] == "undecided"


def test_equal_variants_are_said_to_be_equal_and_no_number_of_queries_decides() -> None:
    data, base = _dataset(30), _noisy(30, 60, 1)
    conclusion = _conclude([_variant("a", data, base), _variant("b", data, base)], [data])
    assert "B (equal: the same scores)" in _text(conclusion)
    assert "No number of queries like these distinguishes A from B" in _text(conclusion)
    assert conclusion["verdict"]["deciding"]["counts"] == {"a": 0, "b": 0, "equal": 30}


def test_one_variant_alone_and_none_at_all() -> None:
    data = _dataset(30)
    alone = _conclude([_variant("a", data, _noisy(30, 60, 1))], [data])
    assert alone["verdict"]["headline"].startswith("Only A was measured (nDCG@10 ")
    assert alone["verdict"]["correction"] is None and alone["verdict"]["deciding"] is None
    failed = {**_variant("a", data, [1.0]), "results": {}, "quality": None}
    none = _conclude([failed], [data])
    assert none["verdict"]["headline"].startswith("No variant could be measured")
    assert "Not compared, because they failed on some or all of the data: A." in none["verdict"]["sentences"]


def test_data_that_is_too_easy_is_named() -> None:
    data = _dataset(30)
    rows = [_variant(name, data, [100.0] * 29 + [last]) for name, last in (("a", 90.0), ("b", 80.0))]
    assert "All variants score 98 or more: these queries are too easy" in _text(_conclude(rows, [data]))


# -- several data sets and several tests ----------------------------------------------------------------------------


def test_the_mean_of_several_data_sets_is_tested_as_one_number() -> None:
    """The interval of the mean agrees with a bootstrap that draws items within each data set."""
    first, second = _dataset(80, "first"), _dataset(40, "second")
    a = _on_several("a", [(first, _noisy(80, 60, 1)), (second, _noisy(40, 50, 2))])
    b = _on_several("b", [(first, _noisy(80, 58, 3)), (second, _noisy(40, 49, 4))])
    (test,) = _conclude([a, b], [first, second])["overall"]
    random, means = np.random.default_rng(0), []
    for dataset in (first, second):
        columns = [np.array(list(row["results"][dataset.name]["per_item"]["nDCG@10"].values())) for row in (a, b)]
        difference = columns[0] - columns[1]
        means.append(difference[random.integers(0, len(difference), (4_000, len(difference)))].mean(1))
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    assert test["difference"] == pytest.approx(a["quality"] - b["quality"])
    assert test["interval"] == pytest.approx([low, high], abs=0.2) and test["items"] == 120
    assert test["significant"] == (low > 0 or high < 0)


def test_the_mean_of_differences_without_spread_has_the_weakest_p() -> None:
    tests = [
        {
            "a": "x",
            "b": "y",
            "difference": 5.0,
            "interval": [5.0, 5.0],
            "p": p,
            "same_scores": False,
            "items": 3,
            "test": "t",
        }
        for p in (0.25, 0.5)
    ]
    assert combine(tests)["p"] == 0.5


def test_with_one_data_set_the_verdict_uses_the_test_that_the_table_shows() -> None:
    data = _dataset(40)
    rows = [_variant(f"v{at}", data, _noisy(40, 60 - at, at)) for at in range(4)]
    conclusion = _conclude(rows, [data])
    assert conclusion["overall"] == conclusion["significance"] and len(conclusion["overall"]) == 6
    assert "corrected for 6 tests" in conclusion["verdict"]["correction"]


def test_pairs_of_many_variants_hold_the_best_and_the_one_that_meets_the_need() -> None:
    rows = [{"name": f"v{at}"} for at in range(8)]
    assert len(choose_pairs(rows[:6], [])) == 15
    pairs = [(a["name"], b["name"]) for a, b in choose_pairs(rows, ["v3"])]
    assert len(pairs) == 7 + 6 and all({"v0", "v3"} & {*pair} for pair in pairs)


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=10))
def test_adjusted_p_is_never_below_p_and_keeps_the_order(values: list[float]) -> None:
    tests = adjust([{"p": p} for p in values])
    assert all(p <= test["adjusted"] <= min(1.0, p * len(values)) for p, test in zip(values, tests, strict=True))
    ordered = sorted(tests, key=lambda test: test["p"])
    assert [test["adjusted"] for test in ordered] == sorted(test["adjusted"] for test in ordered)


def test_a_pair_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tied variants are tested with each other after the tests that are reported."""
    data, calls = _dataset(20), list[frozenset[int]]()
    result = {"difference": 0.1, "interval": [-1.0, 1.2], "p": 0.8, "test": "paired permutation", "items": 20}

    def counted(a: JsonDict, b: JsonDict, **_: Any) -> JsonDict:
        calls.append(frozenset((id(a), id(b))))
        return {**result, "significant": False}

    monkeypatch.setattr(significance, "paired_test", counted)
    monkeypatch.setattr(STORE, "folder", None)
    rows = [_variant(f"v{at}", data, _noisy(20, 60, at)) for at in range(8)]
    _conclude(rows, [data])
    assert len(calls) == len({*calls}) == 8 * 7 // 2
