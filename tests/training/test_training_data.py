"""Training data: shape, digest, sources and refusals."""

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.training.training_data import TrainingData, TrainingRows

RANKING = Retrieval({"d1": "a text"}, {"q1": "a query"}, {"q1": {"d1": 1}})
LABELS = Labelled(("a", "b"), ("x", "y"))
SCORES = PairRows(("a", "b"), ("c", "d"), (0.1, 0.9))


@pytest.mark.parametrize(("rows", "shape"), [(RANKING, "ranking"), (LABELS, "labels"), (SCORES, "scores")])
def test_the_shape_follows_from_the_rows(rows: TrainingRows, shape: str) -> None:
    assert TrainingData("set", rows).shape == shape


def test_the_digest_covers_rows_and_sources_but_not_the_name() -> None:
    plain = TrainingData("set", LABELS)
    assert plain.digest == TrainingData("other name", LABELS).digest
    assert plain.digest != TrainingData("set", LABELS, sources={"0": "page"}).digest
    assert plain.digest != TrainingData("set", Labelled(("a", "b"), ("y", "x"))).digest


def test_a_row_without_a_source_is_its_own() -> None:
    data = TrainingData("set", RANKING, sources={"d1": "article"})
    assert (data.source_of("d1"), data.source_of("d2")) == ("article", "d2")


def test_one_class_is_refused_with_the_name_of_the_data() -> None:
    with pytest.raises(InputError, match="Training data 'set': 2 texts with 1 label"):
        TrainingData("set", Labelled(("a", "b"), ("x", "x")))
