"""Which variant to take: quality that the tests distinguish comes first, everything else only breaks ties."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nearfield.evaluation.comparison.verdict import power, wording
from nearfield.evaluation.comparison.verdict.need import shortfalls
from nearfield.evaluation.json_types import JsonDict, JsonMapping

#: Groups of the ranking, in order: not distinguishable from the best, worse than it, and missing the need.
TIED, WORSE, UNFIT = "tied", "worse", "unfit"


class PairIndex:
    """Paired tests by the names of the two variants, in either order."""

    def __init__(self, tests: Iterable[JsonMapping]) -> None:
        self._tests = {(test["a"], test["b"]): test for test in tests}

    def get(self, a: str, b: str) -> JsonMapping | None:
        """Return the test of two variants, as ``a`` minus ``b``; None: they were not tested."""
        test, other = self._tests.get((a, b)), self._tests.get((b, a))
        if test is not None or other is None:
            return test
        low, high = other["interval"]
        return {**other, "a": a, "b": b, "difference": -other["difference"], "interval": [-high, -low]}

    def is_worse(self, a: str, b: str) -> bool:
        """Return whether ``a`` is significantly worse than ``b``."""
        test = self.get(a, b)
        return test is not None and bool(test["significant"]) and test["difference"] < 0


@dataclass(frozen=True)
class Finalists:
    """The measures of variants with a quality, and the needs that they miss.

    Args:
        measures: of ``compare.figures``, by name of the variant.
        totals: weighted totals by name.
        need: limits by the name of the need.
    """

    measures: Mapping[str, JsonMapping]
    totals: Mapping[str, float]
    need: Mapping[str, float]

    def missed(self, name: str) -> list[JsonDict]:
        """Return the needs that a variant misses for certain."""
        return [row for row in shortfalls(self.need, self.measures[name]) if row["value"] is not None]

    def unknown(self, name: str) -> list[str]:
        """Return the needs of which a variant's measure is unknown."""
        return [row["need"] for row in shortfalls(self.need, self.measures[name]) if row["value"] is None]

    def by_quality(self) -> list[str]:
        """Return the names of the variants that miss no need, the highest quality first; ties by the total."""
        return sorted((name for name in self.measures if not self.missed(name)), key=self._rank_key)

    def unfit(self) -> list[str]:
        """Return the names of the variants that miss a need, the highest quality first."""
        return sorted((name for name in self.measures if self.missed(name)), key=self._rank_key)

    def nearest(self) -> str | None:
        """Return the variant whose measures are nearest to the need, by the sum of the ratios' logarithms."""
        return min(self.unfit(), key=self._distance, default=None)

    def _rank_key(self, name: str) -> tuple[float, float]:
        return -self.measures[name]["quality"], -self.totals[name]

    def _distance(self, name: str) -> float:
        ratios = (row["value"] / row["limit"] for row in self.missed(name))
        return sum(abs(math.log(ratio)) if ratio > 0 else math.inf for ratio in ratios)


def assign_groups(finalists: Finalists, tests: PairIndex) -> dict[str, str]:
    """Return the group of each variant."""
    fit = finalists.by_quality()
    groups = {name: WORSE if tests.is_worse(name, fit[0]) else TIED for name in fit}
    return groups | dict.fromkeys(finalists.unfit(), UNFIT)


def untested_ties(groups: Mapping[str, str], tests: PairIndex) -> list[tuple[str, str]]:
    """Return pairs of tied variants without a test."""
    tied = [name for name, group in groups.items() if group == TIED]
    return [(a, b) for at, a in enumerate(tied) for b in tied[at + 1 :] if tests.get(a, b) is None]


def order_places(
    places: Sequence[JsonDict], finalists: Finalists, groups: Mapping[str, str], tests: PairIndex
) -> list[JsonDict]:
    """Return the ranking with ``group`` and ``behind`` (tied variants that are significantly better), in order.

    Tied variants are in order of their totals, but none precedes one that is significantly better; the others are in
    order of quality.
    """
    tied = [place["name"] for place in places if groups[place["name"]] == TIED]
    behind = {name: [other for other in tied if tests.is_worse(name, other)] for name in tied}
    names = order_tied(tied, behind)
    fit, unfit = finalists.by_quality(), finalists.unfit()
    names += [name for name in fit if groups[name] == WORSE] + unfit
    by_name = {place["name"]: place for place in places}
    return [{**by_name[name], "group": groups[name], "behind": behind.get(name, [])} for name in names]


def order_tied(names: Sequence[str], behind: Mapping[str, Sequence[str]]) -> list[str]:
    """Return names in their order, except that each comes after those in ``behind``."""
    remaining, ordered = list(names), list[str]()
    while remaining:
        free = (name for name in remaining if not set(behind[name]) & set(remaining))
        chosen = next(free, remaining[0])
        remaining.remove(chosen)
        ordered.append(chosen)
    return ordered


def decide(finalists: Finalists, ranking: Sequence[JsonMapping], tests: PairIndex, count: int) -> JsonDict:
    """Return the verdict without its sentences; ``count``: how many tests their p-values were adjusted for.

    Returns:
        ``take`` and ``best`` (names; None if no variant meets the need), ``rival`` (the next best), ``equal`` and
        ``worse`` (tests of the best against the others, with ``name`` and ``word``), ``unfit`` (needs that variants
        miss), ``better_but_unfit`` (tests of the best against those that are significantly better), ``unknown``
        (needs of variants whose measure is unknown), ``nearest`` (if none meets the need), ``tests``
        (their number) and ``power``.
    """
    fit = finalists.by_quality()
    best, take = (fit[0], ranking[0]["name"]) if fit else (None, None)
    against = [(place, tests.get(best, place["name"])) for place in ranking if best and place["name"] != best]
    rows = [_against_best(place, test) for place, test in against if test is not None]
    rival = _rival(finalists, take, best)
    return {
        "take": take,
        "best": best,
        "rival": rival,
        "equal": [row for row in rows if row["group"] == TIED],
        "worse": [row for row in rows if row["group"] == WORSE],
        "better_but_unfit": [row for row in rows if row["group"] == UNFIT and _is_ahead(row)],
        "unfit": {name: finalists.missed(name) for name in finalists.unfit()},
        "unknown": {name: needs for name in fit if (needs := finalists.unknown(name))},
        "nearest": None if fit else finalists.nearest(),
        "tests": count,
        "power": _power(tests.get(take, rival), count) if take and rival else None,
    }


def _against_best(place: JsonMapping, test: JsonMapping) -> JsonDict:
    """Return a test of the best against a variant; ``word`` is of whichever has the higher quality."""
    chosen = {name: test[name] for name in ("difference", "interval", "adjusted", "significant", "items")}
    return {"name": place["name"], "group": place["group"], "word": wording.word(test), **chosen}


def _is_ahead(row: JsonMapping) -> bool:
    """Return whether a variant is significantly better than the one that it was tested against."""
    return bool(row["significant"]) and row["difference"] < 0


def _rival(finalists: Finalists, take: str | None, best: str | None) -> str | None:
    """Return the best of the variants that are not taken: of those that meet the need, if there is one."""
    if take is None:
        return None
    names = [*finalists.by_quality(), *finalists.unfit()]
    return best if take != best else next((name for name in names if name != take), None)


def _power(test: JsonMapping | None, tests: int) -> JsonDict | None:
    """Return how many items would distinguish a pair at the level of the first of Holm's steps; None if not needed."""
    if test is None or test["significant"]:
        return None
    level, error = power.LEVEL / max(tests, 1), power.standard_error(test)
    least = test["items"] + 1
    needed = power.items_needed(test["difference"], error, test["items"], level)
    for_points = power.items_needed(wording.ALIKE_POINTS, error, test["items"], level)
    return {
        "a": test["a"],
        "b": test["b"],
        "difference": test["difference"],
        "standard_error": error,
        "items": test["items"],
        "needed": None if needed is None else max(needed, least),
        "word": wording.word(test),
        "points": wording.ALIKE_POINTS,
        "needed_for_points": for_points,
        "power": power.POWER,
        "level": level,
        "smallest_p": _smallest_p(test),
    }


def _smallest_p(test: JsonMapping) -> float | None:
    """Return the smallest p that so few items allow; None for tests that are no permutation test."""
    return power.smallest_p(test["items"]) if test["test"] == "paired permutation" else None
