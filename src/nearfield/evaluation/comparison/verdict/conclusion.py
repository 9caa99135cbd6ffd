"""From the measures of a comparison to its verdict: tests, ranking, sentences and the deciding items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nearfield.evaluation.comparison import chart_data, ranking
from nearfield.evaluation.comparison.measures import figures
from nearfield.evaluation.comparison.verdict import decision, sentences
from nearfield.evaluation.comparison.verdict.deciding_items import find_deciding_items
from nearfield.evaluation.comparison.verdict.decision import Finalists, PairIndex
from nearfield.evaluation.comparison.verdict.need import limits_by_measure
from nearfield.evaluation.comparison.verdict.paired_tests import PairTester, describe_correction
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.tasks import open_task

#: The noun for an item of data sets of several tasks.
_ANY_ITEM = "item"


def conclude(
    rows: Sequence[JsonMapping],
    datasets: Sequence[Dataset],
    tester: PairTester,
    weights: Mapping[str, float],
    need: Mapping[str, float],
) -> JsonDict:
    """Return ``verdict``, ``significance``, ``overall``, ``ranking`` and ``need`` of a comparison."""
    places = ranking.rank([figures(row) for row in rows], weights, limits_by_measure(need))
    finalists = _finalists(rows, places, need)
    references = finalists.by_quality()[:1]
    pairs = [pair for dataset in datasets for pair in tester.on_dataset(rows, dataset, references)]
    overall = tester.overall(rows, datasets, references)
    ordered, tests = _order(rows, datasets, tester, places, finalists, overall)
    verdict = decision.decide(finalists, ordered, tests, len(overall))
    verdict |= {"deciding": _deciding(rows, datasets, verdict)}
    verdict |= {"correction": describe_correction(len(overall))}
    texts = sentences.write_verdict(_facts(rows, datasets, finalists, verdict))
    parts = {"significance": pairs, "overall": overall, "ranking": ordered, "need": dict(need)}
    return {"verdict": {**texts, **verdict}, **parts}


def _finalists(rows: Sequence[JsonMapping], places: Sequence[JsonMapping], need: Mapping[str, float]) -> Finalists:
    measures = {row["name"]: figures(row) for row in rows if row["quality"] is not None}
    return Finalists(measures, {place["name"]: place["total"] for place in places}, need)


def _order(
    rows: Sequence[JsonMapping],
    datasets: Sequence[Dataset],
    tester: PairTester,
    places: Sequence[JsonDict],
    finalists: Finalists,
    overall: Sequence[JsonMapping],
) -> tuple[list[JsonDict], PairIndex]:
    """Return the ranking and its tests; ties that were not tested with each other are, without an adjustment.

    Without it more pairs count as different, so cost decides between fewer of them.
    """
    by_name, reported = {row["name"]: row for row in rows}, PairIndex(overall)
    groups = decision.assign_groups(finalists, reported)
    untested = decision.untested_ties(groups, reported)
    ties = [tester.mean_test(by_name[a], by_name[b], datasets) for a, b in untested]
    return decision.order_places(places, finalists, groups, PairIndex([*overall, *ties])), reported


def _deciding(rows: Sequence[JsonMapping], datasets: Sequence[Dataset], verdict: JsonMapping) -> JsonDict | None:
    """Return the items that decide between the variant to take and the next best; None without two of them."""
    by_name = {row["name"]: row for row in rows}
    if verdict["rival"] is None:
        return None
    return find_deciding_items(by_name[verdict["take"]], by_name[verdict["rival"]], datasets)


def _facts(
    rows: Sequence[JsonMapping], datasets: Sequence[Dataset], finalists: Finalists, verdict: JsonMapping
) -> sentences.VerdictFacts:
    nouns = {open_task(dataset.task).item for dataset in datasets}
    return sentences.VerdictFacts(
        verdict=verdict,
        labels={row["name"]: row["label"] for row in rows},
        measures=finalists.measures,
        need=finalists.need,
        metric=chart_data.metric_label({"variants": rows, "datasets": datasets}),
        item=nouns.pop() if len(nouns) == 1 else _ANY_ITEM,
        items=_item_count(rows),
        failed=[row["name"] for row in rows if row["quality"] is None],
    )


def _item_count(rows: Sequence[JsonMapping]) -> int:
    """Return the number of items of all data sets, by the first variant with a result on each."""
    results: JsonMapping = next((row["results"] for row in rows if row["quality"] is not None), {})
    return sum(len(next(iter(result["per_item"].values()))) for result in results.values())
