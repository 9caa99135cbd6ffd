"""The verdict of a comparison in plain sentences, the advice first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nearfield.evaluation.comparison.verdict import wording
from nearfield.evaluation.comparison.verdict.need import describe_limit, limits_by_measure
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.message_text import count_of

#: Variants in one sentence; further ones are counted.
_MAX_NAMES = 6
#: A ratio of two measures from which one is an advantage.
_ADVANTAGE = 1.1
#: Qualities from which a data set is too easy to show differences.
_SATURATED = 98.0
_ADVANTAGES = {
    "speed": "{:.3g} times as fast",
    "storage": "{:.3g} times fewer bytes",
    "memory": "{:.3g} times less memory",
}


@dataclass(frozen=True)
class VerdictFacts:
    """What the sentences of a verdict name.

    Args:
        verdict: the result of ``verdict.decide``.
        labels: of the variants by name.
        measures: of ``compare.figures`` by name, for variants with a quality.
        need: limits by the name of the need.
        metric: label of the quality.
        item: the noun for one item, such as ``query``.
        items: the number of items.
        failed: names of variants without a quality.
    """

    verdict: JsonMapping
    labels: Mapping[str, str]
    measures: Mapping[str, JsonMapping]
    need: Mapping[str, float]
    metric: str
    item: str
    items: int
    failed: Sequence[str]

    def count(self, number: int) -> str:
        """Return a number of items with their noun."""
        return count_of(number, self.item, _plural(self.item))

    def quality(self, name: str) -> str:
        """Return a variant's quality as text."""
        return f"{self.measures[name]['quality']:.2f}"


def write_verdict(facts: VerdictFacts) -> JsonDict:
    """Return ``headline`` (which variant to take, and why) and ``sentences`` (everything else, in order)."""
    order = (_equal, _worse, _unfit, _unknown, _power, _limits, _failed, _saturated)
    return {"headline": _headline(facts), "sentences": [text for part in order for text in part(facts)]}


# -- the advice -------------------------------------------------------------------------------------------------------


def _headline(facts: VerdictFacts) -> str:
    verdict = facts.verdict
    if not facts.measures:
        return "No variant could be measured on all data: the failures say why."
    if verdict["take"] is None:
        return _none_fits(facts)
    if len(facts.measures) == 1:
        return (
            f"Only {_first_label(facts)} was measured ({_score(facts, verdict['take'])}): nothing to compare it with."
        )
    return f"Take {facts.labels[verdict['take']]}: {_reason(facts)}."


def _none_fits(facts: VerdictFacts) -> str:
    name = facts.verdict["nearest"]
    missed = " and ".join(_shortfall(row) for row in facts.verdict["unfit"][name])
    return f"No variant meets the need. The nearest is {facts.labels[name]}: {missed}."


def _first_label(facts: VerdictFacts) -> str:
    return facts.labels[next(iter(facts.measures))]


def _score(facts: VerdictFacts, name: str) -> str:
    return f"{facts.metric} {facts.quality(name)}, {facts.count(facts.items)}"


def _reason(facts: VerdictFacts) -> str:
    verdict = facts.verdict
    if verdict["take"] != verdict["best"]:
        return _reason_of_tie(facts)
    highest = f"it has the highest {facts.metric} ({facts.quality(verdict['take'])})"
    rest = " of those that meet the need" if verdict["unfit"] else ""
    if not verdict["equal"]:
        confirmed = ", and the tests confirm each difference" if verdict["worse"] else ""
        return f"{highest}{rest}{confirmed}"
    return f"{highest}{rest}, though not by a difference that the tests confirm, and no other weighs more"


def _reason_of_tie(facts: VerdictFacts) -> str:
    """Return why a variant is taken that does not have the highest quality."""
    take, best = facts.verdict["take"], facts.verdict["best"]
    gains = _advantages(facts, take, best)
    why = f"it has {' and '.join(gains)}" if gains else "its weighted total is higher"
    level = f"{facts.metric} {facts.quality(take)} against {facts.quality(best)}"
    return f"its quality cannot be distinguished from that of {facts.labels[best]} ({level}), and {why}"


def _advantages(facts: VerdictFacts, name: str, other: str) -> list[str]:
    """Return by how much a variant is faster and smaller than another, without measures that both have enough of."""
    mine, theirs = facts.measures[name], facts.measures[other]
    limits, gains = limits_by_measure(facts.need), []
    for measure, text in _ADVANTAGES.items():
        ratio = _ratio(mine.get(measure), theirs.get(measure), higher=measure == "speed")
        if measure not in limits and ratio is not None and ratio >= _ADVANTAGE:
            gains.append(text.format(ratio))
    return gains


def _ratio(mine: float | None, theirs: float | None, *, higher: bool) -> float | None:
    if not mine or not theirs:
        return None
    return mine / theirs if higher else theirs / mine


# -- the others -------------------------------------------------------------------------------------------------------


def _equal(facts: VerdictFacts) -> Iterator[str]:
    rows = facts.verdict["equal"]
    if rows:
        head = f"Not distinguishable from {facts.labels[facts.verdict['best']]} on {facts.count(rows[0]['items'])}"
        yield f"{head}: {_listed([_equal_text(facts, row) for row in rows])}."


def _equal_text(facts: VerdictFacts, row: JsonMapping) -> str:
    label = facts.labels[row["name"]]
    if row["word"] == "equal":
        return f"{label} (equal: the same scores)"
    range_ = f"95% interval {wording.signed_interval(row)}"
    return f"{label} ({row['word']}: {wording.points(row['difference'])} points behind, {range_})"


def _worse(facts: VerdictFacts) -> Iterator[str]:
    best, rows = facts.verdict["best"], facts.verdict["worse"]
    for word in ("slightly better", "probably better", "better"):
        texts = [_worse_text(facts, row) for row in rows if row["word"] == word]
        if texts:
            yield f"{facts.labels[best]} is {word} than {_listed(texts)}."


def _worse_text(facts: VerdictFacts, row: JsonMapping) -> str:
    return (
        f"{facts.labels[row['name']]} (by {wording.points(row['difference'])} points, {wording.signed_interval(row)})"
    )


def _unfit(facts: VerdictFacts) -> Iterator[str]:
    if facts.verdict["take"] is None:
        return
    texts = [
        f"{facts.labels[name]} ({' and '.join(_shortfall(row) for row in rows)})"
        for name, rows in facts.verdict["unfit"].items()
    ]
    if texts:
        yield f"Left out because they miss the need: {_listed(texts)}."
    for row in facts.verdict["better_but_unfit"]:
        yield f"Of these, {facts.labels[row['name']]} has {_gain(row)}: check whether the need can be relaxed."


def _gain(row: JsonMapping) -> str:
    return f"a higher quality by {wording.points(-row['difference'])} points, which the test confirms"


def _shortfall(row: JsonMapping) -> str:
    limit, value = (describe_limit(row["need"], row[name]) for name in ("limit", "value"))
    return f"{value}, needed are {limit}"


def _unknown(facts: VerdictFacts) -> Iterator[str]:
    for name, needs in facts.verdict["unknown"].items():
        yield f"Whether {facts.labels[name]} meets the need is not known ({', '.join(needs)} could not be measured)."


# -- what more data would show ----------------------------------------------------------------------------------------


def _power(facts: VerdictFacts) -> Iterator[str]:
    power = facts.verdict["power"]
    if not power:
        return
    pair = f"{facts.labels[power['a']]} from {facts.labels[power['b']]}"
    if not power["difference"] and not power["standard_error"]:
        yield f"No number of {_plural(facts.item)} like these distinguishes {pair}: all scores are the same."
        return
    if power["needed"] is not None:
        small = "" if power["word"] != "alike" else ": hardly worth it, so small a difference matters little"
        yield f"To distinguish {pair} at this difference and spread, {_needed_text(facts, power)}{small}."
    enough = power["needed_for_points"]
    if enough is not None and enough > power["items"]:
        at_all = f"To notice a difference of {power['points']:g} points"
        yield f"{at_all}, about {wording.rounded(enough)} {_plural(facts.item)} are needed."


def _needed_text(facts: VerdictFacts, power: JsonMapping) -> str:
    """Return the number of items that distinguishes two variants with the probability of ``POWER``."""
    needed = wording.rounded(power["needed"])
    more = wording.rounded(power["needed"] - power["items"])
    return f"about {needed} {_plural(facts.item)} would be needed ({more} more, power {100 * power['power']:.0f}%)"


def _limits(facts: VerdictFacts) -> Iterator[str]:
    """Yield that so few items cannot show any difference, if that is so."""
    power = facts.verdict["power"]
    if power and power["smallest_p"] is not None and power["smallest_p"] > power["level"]:
        tests = count_of(facts.verdict["tests"], "test")
        yield f"With {facts.count(power['items'])} and {tests}, no difference however large can be confirmed."


# -- the state of the data --------------------------------------------------------------------------------------------


def _failed(facts: VerdictFacts) -> Iterator[str]:
    if facts.failed:
        names = _listed([facts.labels[name] for name in facts.failed])
        yield f"Not compared, because they failed on some or all of the data: {names}."


def _saturated(facts: VerdictFacts) -> Iterator[str]:
    qualities = [measures["quality"] for measures in facts.measures.values()]
    if len(qualities) > 1 and min(qualities) >= _SATURATED:
        items = _plural(facts.item)
        yield f"All variants score {_SATURATED:g} or more: these {items} are too easy to show differences."


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _MAX_NAMES
    return "; ".join([*texts[:_MAX_NAMES], *([f"and {more} more"] if more > 0 else [])])


def _plural(item: str) -> str:
    return f"{item[:-1]}ies" if item.endswith("y") else f"{item}s"
