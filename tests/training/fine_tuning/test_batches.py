"""Columns of rows, and batches without false negatives."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.training.fine_tuning.batches import plan_batches
from nearfield.training.fine_tuning.columns import TrainColumns, build_columns
from nearfield.training.training_data import TrainingData

#: The first query has two answers; the third has the text of the first, and its own answer.
RANKING = Retrieval(
    {"d1": "one", "d2": "two", "d3": "three", "d4": "four", "d5": "five"},
    {"q1": "a", "q2": "b", "q3": "a"},
    {"q1": {"d1": 1, "d2": 1, "d4": 0}, "q2": {"d3": 2}, "q3": {"d5": 1}},
)


def columns(rows: object, loss: str, **options: int) -> TrainColumns:
    data = TrainingData("set", rows)  # type: ignore[arg-type]
    return build_columns(data, loss, **{"negatives": 0, "pairs_per_class": 64, "seed": 1, **options})


def test_each_relevant_document_makes_a_row_and_judged_negatives_come_first() -> None:
    built = columns(RANKING, "mnrl", negatives=1)
    rows = list(zip(*built.texts.values(), strict=True))
    assert [row[:2] for row in rows] == [("a", "one"), ("a", "two"), ("b", "three"), ("a", "five")]
    assert rows[0][2] == rows[1][2] == "four"
    assert rows[2][2] != "three"  # drawn at random, never its own answer
    assert built.roles == {"anchor": "query", "positive": "document", "negative_1": "document"}


def test_without_a_judged_negative_the_batch_alone_gives_them() -> None:
    rows = Retrieval({"d": "one", "e": "two"}, {"q": "a"}, {"q": {"d": 1}})
    assert list(columns(rows, "mnrl", negatives=3).texts) == ["anchor", "positive"]


def test_rows_of_one_query_or_of_equal_texts_never_share_a_batch() -> None:
    for seed in range(20):
        plan = plan_batches(columns(RANKING, "mnrl"), 4, 1, seed)
        for batch in plan:
            assert len({0, 1, 3} & set(batch)) <= 1


@given(st.lists(st.integers(0, 5), min_size=8, max_size=60), st.integers(2, 8), st.integers(0, 99))
def test_a_batch_has_one_pair_of_each_class(classes: list[int], batch: int, seed: int) -> None:
    rows = Labelled([f"text {number}" for number in range(len(classes))], [str(value % 4) for value in classes])
    if len(set(rows.labels)) < 2 or len(set(rows.labels)) == len(rows.labels):
        return
    try:
        built = columns(rows, "label", seed=seed)
    except InputError:  # classes of one text alone
        return
    plan = plan_batches(built, batch, 2, seed)
    label_of = dict(zip(rows.texts, rows.labels, strict=True))
    for numbers in plan:
        labels = [label_of[str(built.texts["anchor"][number])] for number in numbers]
        assert len(set(labels)) == len(labels) <= batch
    assert plan == plan_batches(built, batch, 2, seed)


def test_pairs_of_a_class_have_two_texts_of_it_and_are_limited() -> None:
    rows = Labelled([*(f"x{n}" for n in range(9)), "y1", "y2", "z1"], ["x"] * 9 + ["y"] * 2 + ["z"])
    built = columns(rows, "label", pairs_per_class=4)
    pairs = list(zip(built.texts["anchor"], built.texts["positive"], strict=True))
    assert len(pairs) == 6
    assert all(str(first)[0] == str(second)[0] and first != second for first, second in pairs)
    assert built.left_out == {"classes with one text": 1}


def test_epochs_have_different_orders() -> None:
    rows = Labelled([f"text {number}" for number in range(40)], [str(number % 10) for number in range(40)])
    plan = plan_batches(columns(rows, "label"), 8, 2, 1)
    assert plan[: len(plan) // 2] != plan[len(plan) // 2 :]


def test_a_teacher_scores_the_best_relevant_document_and_others() -> None:
    scores = {"q1": {"d1": 3.0, "d2": 9.0, "d4": 1.0, "d5": 2.0}, "q2": {"d3": 5.0}}
    data = TrainingData("set", RANKING, teacher_scores=scores)
    built = build_columns(data, "kl", negatives=2, pairs_per_class=1, seed=1)
    assert list(zip(*built.texts.values(), strict=True)) == [("a", "two", "five", "four")]
    assert built.labels == [[9.0, 2.0, 1.0]]
    assert built.left_out == {"queries without a teacher's scores of 3 documents": 2}


def test_a_reranker_reads_pairs_or_lists() -> None:
    pairs = columns(RANKING, "bce", negatives=1)
    assert sum(map(float, pairs.labels)) == 4  # type: ignore[arg-type]
    assert set(zip(pairs.texts["query"], pairs.texts["document"], pairs.labels, strict=True)) >= {("a", "four", 0.0)}
    lists = columns(RANKING, "lambda", negatives=1)
    assert lists.labels[0] == [1.0, 1.0, 0.0]
    assert lists.texts["documents"][0] == ["one", "two", "four"]


def test_scores_of_pairs_are_brought_to_a_scale_from_0_to_1() -> None:
    built = columns(PairRows(("a", "b", "c"), ("d", "e", "f"), (0, 5, 2.5)), "cosent")
    assert built.labels == [0.0, 1.0, 0.5]


def test_no_row_at_all_is_an_error_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"no row is left to train on .*classes with one text"):
        columns(Labelled(("a", "b"), ("x", "y")), "label")


def test_a_plan_of_rows_that_exclude_nothing_is_cut_in_slices() -> None:
    built = columns(PairRows(["a"] * 9, ["b"] * 9, [0, 1, 2] * 3), "cosent")
    sizes = [len(batch) for batch in plan_batches(built, 4, 1, 1)]
    assert sizes == [4, 4]  # a last batch of one row alone has nothing to compare it with
    assert all(first != second for first, second in pairwise(plan_batches(built, 4, 1, 1)))
