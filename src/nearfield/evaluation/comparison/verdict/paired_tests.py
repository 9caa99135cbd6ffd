"""Paired tests of the variants of a comparison: which pairs are tested, on one data set or on the mean of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from nearfield import __version__
from nearfield.evaluation import significance
from nearfield.evaluation.comparison.result_store import ResultStore
from nearfield.evaluation.comparison.verdict import power
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: Up to this many variants all pairs are tested; of more, each is tested against the best.
MAX_VARIANTS_FOR_ALL_PAIRS = 6
_HALF_WIDTH = 1.96
#: The name of the test in results of several data sets.
_OVERALL_TEST = "normal approximation over the data sets"
Pair = tuple[JsonMapping, JsonMapping]


class PairTester:
    """Tests pairs of variants; results are stored and not computed twice."""

    def __init__(self, store: ResultStore, settings: JsonDict, on_pair: Callable[[str], None]) -> None:
        self._store, self._settings, self._on_pair = store, settings, on_pair
        self._tests: dict[tuple[str, str, str], JsonDict] = {}

    def on_dataset(self, rows: Sequence[JsonMapping], dataset: Dataset, references: Sequence[str]) -> list[JsonDict]:
        """Return tests of variants on a data set, the better one first, adjusted for their number.

        ``references`` are names of variants that are tested against each other one, besides the best.
        """
        known = [row for row in rows if dataset.name in row["results"]]
        known.sort(key=lambda row: -row["results"][dataset.name]["score"])
        return adjust([self.test(a, b, dataset) for a, b in choose_pairs(known, references)])

    def overall(
        self, rows: Sequence[JsonMapping], datasets: Sequence[Dataset], references: Sequence[str]
    ) -> list[JsonDict]:
        """Return tests of variants on the mean of all data sets, the better one first, adjusted for their number."""
        known = sorted((row for row in rows if row["quality"] is not None), key=lambda row: -row["quality"])
        return adjust([self.mean_test(a, b, datasets) for a, b in choose_pairs(known, references)])

    def mean_test(self, a: JsonMapping, b: JsonMapping, datasets: Sequence[Dataset]) -> JsonDict:
        """Return the test of two variants on the mean of the data sets, whose items count as independent."""
        tests = [self.test(a, b, dataset) for dataset in datasets]
        return tests[0] if len(tests) == 1 else combine(tests)

    def test(self, a: JsonMapping, b: JsonMapping, dataset: Dataset) -> JsonDict:
        """Return the paired test of two variants on a data set, not adjusted."""
        key = (a["name"], b["name"], dataset.name)
        mirrored = self._tests.get((b["name"], a["name"], dataset.name))
        if mirrored is not None:
            return _mirror(mirrored)
        if key not in self._tests:
            self._on_pair(f"{dataset.name}: {a['name']} and {b['name']}")
            result = self._result(a, b, dataset)
            same = a["results"][dataset.name]["per_item"] == b["results"][dataset.name]["per_item"]
            names = {"dataset": dataset.name, "a": a["name"], "b": b["name"]}
            self._tests[key] = {**names, **result, "same_scores": same}
        return dict(self._tests[key])

    def _result(self, a: JsonMapping, b: JsonMapping, dataset: Dataset) -> JsonDict:
        of = {"identities": [a["identity"], b["identity"]], "digest": dataset.digest, **self._settings}
        of["version"] = __version__
        result = self._store.get("pair", **of)
        if result is None:
            results = [row["results"][dataset.name] for row in (a, b)]
            result = significance.paired_test(*results, seed=self._settings["seed"])
            self._store.put("pair", result, **of)
        return result


def describe_correction(tests: int) -> str | None:
    """Return what the adjustment for several tests means, in words for users; None without one."""
    if tests < 2:
        return None
    return (
        f"p-values are corrected for {tests} tests, some of which would show a difference by chance (Holm's method): "
        "the probability of even one false difference among them stays below 5%."
    )


def choose_pairs(rows: Sequence[JsonMapping], references: Iterable[str]) -> list[Pair]:
    """Return the pairs to test, the better one first; ``rows`` are in order of quality."""
    if len(rows) <= MAX_VARIANTS_FOR_ALL_PAIRS:
        return list(combinations(rows, 2))
    chosen = {rows[0]["name"], *references}
    return [pair for pair in combinations(rows, 2) if chosen & {row["name"] for row in pair}]


def combine(tests: Sequence[JsonMapping]) -> JsonDict:
    """Return the test of the mean difference over data sets, from the tests on each of them.

    The data sets are fixed and their items independent, so the variance of the mean is the sum of the variances divided
    by the square of their number.
    """
    difference = math.fsum(test["difference"] for test in tests) / len(tests)
    error = math.hypot(*(power.standard_error(test) for test in tests)) / len(tests)
    p = power.normal_p(difference, error) if error else max(test["p"] for test in tests)
    interval = [difference - _HALF_WIDTH * error, difference + _HALF_WIDTH * error]
    names = {side: tests[0][side] for side in "ab"}
    items = sum(test["items"] for test in tests)
    return {
        "dataset": None,
        **names,
        "difference": difference,
        "interval": interval,
        "p": p,
        "test": _OVERALL_TEST,
        "items": items,
        "significant": p < power.LEVEL,
        "same_scores": all(test["same_scores"] for test in tests),
    }


def adjust(tests: list[JsonDict]) -> list[JsonDict]:
    """Return the tests with ``adjusted`` p (Holm 1979) and ``significant`` by it."""
    adjusted = 0.0
    for rank, test in enumerate(sorted(tests, key=lambda test: test["p"])):
        adjusted = max(adjusted, min(1.0, test["p"] * (len(tests) - rank)))
        test["adjusted"], test["significant"] = adjusted, adjusted < power.LEVEL
    return tests


def _mirror(test: JsonMapping) -> JsonDict:
    low, high = test["interval"]
    return {**test, "a": test["b"], "b": test["a"], "difference": -test["difference"], "interval": [-high, -low]}
