"""Splits by source: no document on both sides, classes on both sides, the same split for the same seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.training.splitting import row_groups, split_by_source
from nearfield.training.training_data import TrainingData


def ranking(positives: dict[str, list[str]], sources: dict[str, str] | None = None) -> TrainingData:
    documents = {name: f"text of {name}" for names in positives.values() for name in names}
    relevant = {query: dict.fromkeys(names, 1) for query, names in positives.items()}
    return TrainingData(
        "set", Retrieval(documents, {query: f"ask {query}" for query in positives}, relevant), sources or {}
    )


def queries(data: TrainingData) -> set[str]:
    assert isinstance(data.rows, Retrieval)
    return set(data.rows.queries)


def test_queries_of_one_document_stay_together() -> None:
    data = ranking({f"q{n}": [f"d{n // 5}"] for n in range(50)})
    rest, held_out = split_by_source(data, 0.2, seed=1)
    numbers = {int(query[1:]) // 5 for query in queries(held_out)}
    assert len(queries(held_out)) == 10
    assert numbers.isdisjoint(int(query[1:]) // 5 for query in queries(rest))


def test_documents_of_one_source_stay_together_and_a_query_joins_its_documents() -> None:
    data = ranking({"q1": ["d1", "d2"], "q2": ["d3"], "q3": ["d4"]}, {"d2": "page", "d3": "page"})
    assert sorted(map(sorted, row_groups(data))) == [["q1", "q2"], ["q3"]]


def test_the_corpus_stays_on_both_sides() -> None:
    rest, held_out = split_by_source(ranking({"q1": ["d1"], "q2": ["d2"]}), 0.5, seed=1)
    assert isinstance(rest.rows, Retrieval) and isinstance(held_out.rows, Retrieval)
    assert set(rest.rows.documents) == set(held_out.rows.documents) == {"d1", "d2"}


def test_each_class_has_rows_on_both_sides() -> None:
    rows = Labelled([f"text {n}" for n in range(100)], [f"class {n % 4}" for n in range(100)])
    rest, held_out = split_by_source(TrainingData("set", rows), 0.2, seed=3)
    assert isinstance(rest.rows, Labelled) and isinstance(held_out.rows, Labelled)
    assert [held_out.rows.labels.count(f"class {n}") for n in range(4)] == [5, 5, 5, 5]


def test_labels_of_one_text_each_are_refused_in_words_of_the_data() -> None:
    rows = Labelled([f"text {n}" for n in range(9)], [f"class {min(n, 7)}" for n in range(9)])
    with pytest.raises(InputError, match="of 8 labels, at least two need two texts each"):
        split_by_source(TrainingData("set", rows), 0.2, seed=1)


def test_sources_of_labels_are_renumbered_with_their_rows() -> None:
    rows = Labelled(["a", "b", "c", "d"], ["x", "y", "x", "y"])
    rest, held_out = split_by_source(
        TrainingData("set", rows, {"0": "one", "1": "one", "2": "two", "3": "two"}), 0.5, 1
    )
    assert {*rest.sources.values()} != {*held_out.sources.values()}
    assert list(rest.sources) == list(held_out.sources) == ["0", "1"]


def test_one_source_alone_cannot_be_split() -> None:
    rows = PairRows(["a", "b"], ["c", "d"], [0.0, 1.0])
    with pytest.raises(InputError, match="come from one document"):
        split_by_source(TrainingData("set", rows, {"0": "page", "1": "page"}), 0.5, 1)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        split_by_source(ranking({"q1": ["d1"], "q2": ["d2"]}), share, 1)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=2, max_size=30), st.integers(0, 99))
def test_no_source_is_on_both_sides(positives: list[list[int]], seed: int) -> None:
    data = ranking({f"q{n}": [f"d{place}" for place in places] for n, places in enumerate(positives)})
    if len(row_groups(data)) < 2:
        return
    sides = split_by_source(data, 0.3, seed)
    documents = [{f"d{place}" for query in queries(side) for place in positives[int(query[1:])]} for side in sides]
    assert documents[0].isdisjoint(documents[1])
    assert documents[0] and documents[1]
    assert [side.digest for side in split_by_source(data, 0.3, seed)] == [side.digest for side in sides]
