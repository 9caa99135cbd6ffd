"""The items that decide between two variants: those on which their scores differ most, with what each preferred."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation.datasets.dataset import (
    Bitext,
    Classification,
    Dataset,
    PairRows,
    Reranking,
    Retrieval,
    Rows,
)
from nearfield.evaluation.error_analysis import MAX_DOCUMENTS, shorten
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.tasks import open_task

#: Items in each direction.
MAX_ITEMS = 10
#: Differences in points below this are rounding.
_EQUAL = 1e-9
_Describe = Callable[[Rows, str, JsonMapping, JsonMapping], JsonDict]


@dataclass(frozen=True)
class ItemDifference:
    """The scores of two variants on one item, in points; ``difference`` is the first minus the second."""

    dataset: Dataset
    key: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """The score of the first variant minus that of the second."""
        return self.first - self.second


def find_deciding_items(a: JsonMapping, b: JsonMapping, datasets: Sequence[Dataset]) -> JsonDict:
    """Return the items on which one variant is better than the other, the largest differences first.

    Args:
        a: a variant of a comparison, with its ``results``.
        b: the other variant.
        datasets: data sets on which both were evaluated.

    Returns:
        ``a`` and ``b`` (names), ``counts`` (items on which ``a`` is better, ``b`` is better, and ``equal``), and
        ``a_better`` and ``b_better``: up to ``MAX_ITEMS`` each, with ``dataset``, ``id``, ``text``, ``scores``,
        ``expected`` (relevant documents, or a label) and ``first`` (what each variant preferred; empty if a stored
        result does not have it).
    """
    differences = [difference for dataset in datasets for difference in _differences(a, b, dataset)]
    better = [difference for difference in differences if difference.difference > _EQUAL]
    worse = [difference for difference in differences if difference.difference < -_EQUAL]
    equal = len(differences) - len(better) - len(worse)
    return {
        "a": a["name"],
        "b": b["name"],
        "counts": {"a": len(better), "b": len(worse), "equal": equal},
        "a_better": [_item(difference, a, b) for difference in _largest(better)],
        "b_better": [_item(difference, a, b) for difference in _largest(worse)],
    }


def _differences(a: JsonMapping, b: JsonMapping, dataset: Dataset) -> list[ItemDifference]:
    """Return the differences of all items; none if the task has no scores of items."""
    results = [row["results"][dataset.name] for row in (a, b)]
    keys = list(next(iter(results[0]["per_item"].values())))
    scores = [_item_scores(result, dataset, keys) for result in results]
    if scores[0] is None or scores[1] is None:
        return []
    columns = zip(keys, scores[0].tolist(), scores[1].tolist(), strict=True)
    return [ItemDifference(dataset, key, first, second) for key, first, second in columns]


def _item_scores(result: JsonMapping, dataset: Dataset, keys: Sequence[str]) -> Array | None:
    columns = result["per_item"].items()
    arrays = {name: np.array([column[key] for key in keys], np.float64) for name, column in columns}
    return open_task(dataset.task).item_scores(result["main"], arrays)


def _largest(differences: Sequence[ItemDifference]) -> list[ItemDifference]:
    """Return the items with the largest differences, equal ones in the order of the items."""
    return sorted(differences, key=lambda item: -abs(item.difference))[:MAX_ITEMS]


def _item(item: ItemDifference, a: JsonMapping, b: JsonMapping) -> JsonDict:
    rows, name = item.dataset.rows, item.dataset.name
    describe = _DESCRIPTIONS.get(type(rows))
    scores = {"a": item.first, "b": item.second}
    texts = describe(rows, item.key, a["results"][name], b["results"][name]) if describe else {}
    return {"dataset": name, "id": item.key, "scores": scores, **texts}


def _retrieval(rows: Rows, key: str, a: JsonMapping, b: JsonMapping) -> JsonDict:
    assert isinstance(rows, Retrieval)
    grades = rows.relevant.get(key, {})

    def describe(document: str) -> JsonDict:
        return {"id": document, "text": shorten(rows.documents[document]), "relevance": grades.get(document)}

    relevant = [document for document, grade in grades.items() if grade > 0][:MAX_DOCUMENTS]
    expected = [describe(document) for document in relevant]
    return {"text": shorten(rows.queries[key]), "expected": expected, "first": _first(key, a, b, describe)}


def _reranking(rows: Rows, key: str, a: JsonMapping, b: JsonMapping) -> JsonDict:
    assert isinstance(rows, Reranking)
    sample = rows.samples[int(key)]

    def describe(candidate: str) -> JsonDict:
        side = sample.positive if candidate[0] == "p" else sample.negative
        return {"id": candidate, "text": shorten(side[int(candidate[1:])]), "relevance": int(candidate[0] == "p")}

    expected = [describe(f"p{at}") for at in range(min(MAX_DOCUMENTS, len(sample.positive)))]
    return {"text": shorten(sample.query), "expected": expected, "first": _first(key, a, b, describe)}


def _classification(rows: Rows, key: str, a: JsonMapping, b: JsonMapping) -> JsonDict:
    assert isinstance(rows, Classification)
    text, label = rows.test.texts[int(key)], rows.test.labels[int(key)]
    return {
        "text": shorten(text),
        "expected": [{"text": label}],
        "first": _first(key, a, b, lambda name: {"text": name, "relevance": int(name == label)}),
    }


def _pairs(rows: Rows, key: str, a: JsonMapping, b: JsonMapping) -> JsonDict:
    assert isinstance(rows, PairRows)
    gold, second = rows.gold[int(key)], shorten(rows.second[int(key)])
    similar = {side: result["per_item"]["similarity"][key] for side, result in (("a", a), ("b", b))}
    first = {side: [{"text": f"similarity {value:.3f}", "similarity": value}] for side, value in similar.items()}
    return {
        "text": shorten(rows.first[int(key)]),
        "second": second,
        "expected": [{"text": f"gold score {gold:g}", "gold": gold}],
        "first": first,
    }


def _bitext(rows: Rows, key: str, a: JsonMapping, b: JsonMapping) -> JsonDict:
    assert isinstance(rows, Bitext)

    def describe(place: int) -> JsonDict:
        return {"id": str(place), "text": shorten(rows.second[place]), "relevance": int(str(place) == key)}

    places = {side: int(result["per_item"]["found"][key]) for side, result in (("a", a), ("b", b))}
    first = {side: [describe(place)] for side, place in places.items()}
    return {"text": shorten(rows.first[int(key)]), "expected": [describe(int(key))], "first": first}


def _first(key: str, a: JsonMapping, b: JsonMapping, describe: Callable[[str], JsonDict]) -> JsonDict:
    return {
        side: [describe(name) for name in result.get("first", {}).get(key, [])] for side, result in (("a", a), ("b", b))
    }


_DESCRIPTIONS: Mapping[type, _Describe] = {
    Retrieval: _retrieval,
    Reranking: _reranking,
    Classification: _classification,
    PairRows: _pairs,
    Bitext: _bitext,
}
