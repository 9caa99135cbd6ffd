"""The table of losses: which one fits a shape of data and a kind of model, and why others are refused."""

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.training.fine_tuning.losses import CACHED_FROM, check_flops, choose_loss
from nearfield.training.training_data import TrainingData

RANKING = TrainingData("r", Retrieval({"d": "text"}, {"q": "query"}, {"q": {"d": 1}}))
TAUGHT = TrainingData("t", RANKING.rows, teacher_scores={"q": {"d": 4.0}})
LABELS = TrainingData("l", Labelled(("a", "b"), ("x", "y")))
SCORES = TrainingData("s", PairRows(("a", "b"), ("c", "d"), (0.1, 0.9)))


@pytest.mark.parametrize(
    ("data", "kind", "loss"),
    [
        (RANKING, "dense", "mnrl"),
        (TAUGHT, "dense", "kl"),
        (LABELS, "dense", "label"),
        (SCORES, "dense", "cosent"),
        (RANKING, "sparse", "mnrl"),
        (TAUGHT, "sparse", "margin-mse"),
        (RANKING, "multivector", "mnrl"),
        (RANKING, "scores", "bce"),
        (TAUGHT, "scores", "bce"),
    ],
)
def test_the_loss_follows_from_the_shape_of_the_data_and_the_kind_of_the_model(
    data: TrainingData, kind: str, loss: str
) -> None:
    choice = choose_loss(data, kind)
    assert choice.name == loss
    assert choice.reason


def test_a_large_batch_is_computed_in_parts() -> None:
    assert choose_loss(RANKING, "dense", batch=CACHED_FROM).name == "cached-mnrl"


@pytest.mark.parametrize(
    ("data", "requested", "message"),
    [
        (LABELS, "mnrl", "two texts of one class in a batch would be negatives"),
        (RANKING, "kl", "the data has no teacher's scores"),
        (RANKING, "cosent", "the data has queries with relevant documents. Use mnrl, cached-mnrl, gist"),
        (RANKING, "label", "it needs a class for each text"),
        (SCORES, "mnrl", "does not fit data of this shape. Use cosent"),
    ],
)
def test_another_loss_is_refused_with_the_reason(data: TrainingData, requested: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_loss(data, "dense", requested)


def test_weights_of_splade_are_refused_for_other_models() -> None:
    check_flops("auto", 1.0, "sparse")
    check_flops("auto", "auto", "dense")
    with pytest.raises(InputError, match="for SPLADE models, and the model gives dense"):
        check_flops("auto", 0.0, "dense")


@pytest.mark.parametrize(("data", "kind"), [(LABELS, "scores"), (LABELS, "sparse"), (SCORES, "multivector")])
def test_data_of_a_shape_that_a_kind_of_model_cannot_learn_from_is_refused(data: TrainingData, kind: str) -> None:
    with pytest.raises(InputError, match=f"A model that gives {kind} learns from .*, and the data has {data.shape}"):
        choose_loss(data, kind)
