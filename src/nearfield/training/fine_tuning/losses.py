"""Which loss fits the shape of the data: a table, and the reasons why other losses are refused.

The names are those of ``train.toml``. ``mnrl`` is MultipleNegativesRankingLoss (van den Oord et al., arXiv 1807.03748;
Henderson et al., arXiv 1705.00652), ``cached-mnrl`` the same with GradCache (arXiv 2101.06983), ``gist`` GISTEmbedLoss
(arXiv 2402.16829), ``margin-mse`` arXiv 2010.02666, ``kl`` a KL divergence from a teacher's scores, ``cosent`` CoSENT,
``label`` mnrl on pairs of texts of one class with one pair of each class in a batch, ``bce`` binary cross-entropy and
``lambda`` LambdaLoss (ACM CIKM 2018) for rerankers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearfield.errors import InputError
from nearfield.training.training_data import TrainingData

#: Batch rows from which on a ranking loss is computed in parts (GradCache), so that memory does not grow with them.
CACHED_FROM = 256


@dataclass(frozen=True)
class LossChoice:
    """A loss with the reason for it."""

    name: str
    reason: str


#: For each kind of model and shape of data, the losses that fit; the first is the default.
_FITTING: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("dense", "ranking"): ("mnrl", "cached-mnrl", "gist"),
    ("dense", "teacher"): ("kl", "margin-mse", "mnrl", "cached-mnrl", "gist"),
    ("dense", "labels"): ("label",),
    ("dense", "scores"): ("cosent",),
    ("sparse", "ranking"): ("mnrl",),
    ("sparse", "teacher"): ("margin-mse", "kl", "mnrl"),
    ("multivector", "ranking"): ("mnrl", "cached-mnrl"),
    ("multivector", "teacher"): ("kl", "margin-mse", "mnrl", "cached-mnrl"),
    ("scores", "ranking"): ("bce", "lambda"),
    ("scores", "scores"): ("bce",),
}
#: Why a loss does not fit a shape; the table says that it does not.
_REASONS: Mapping[tuple[str, str], str] = {
    ("mnrl", "labels"): "two texts of one class in a batch would be negatives of each other; label avoids that",
    ("cached-mnrl", "labels"): "two texts of one class in a batch would be negatives of each other; label avoids that",
    ("gist", "labels"): "two texts of one class in a batch would be negatives of each other; label avoids that",
    ("margin-mse", "ranking"): "it learns the margins of a teacher, and the data has no teacher's scores",
    ("kl", "ranking"): "it learns the scores of a teacher, and the data has no teacher's scores",
    ("cosent", "ranking"): "it learns the order of scored pairs, and the data has queries with relevant documents",
    ("cosent", "labels"): "it learns the order of scored pairs, and the data has classes",
    ("label", "ranking"): "it needs a class for each text, and the data has queries with relevant documents",
    ("label", "scores"): "it needs a class for each text, and the data has pairs with scores",
}
_DEFAULT_REASON: Mapping[str, str] = {
    "mnrl": "queries with relevant documents: the other documents of the batch are negatives",
    "cached-mnrl": "queries with relevant documents, in a batch that is computed in parts",
    "kl": "the scores of a teacher are there",
    "margin-mse": "the scores of a teacher are there",
    "label": "texts with classes: pairs of one class, one pair of each class in a batch",
    "cosent": "pairs with scores: their order is learnt",
    "bce": "a reranker learns whether a document answers a query",
}


def data_form(data: TrainingData) -> str:
    """Return ``ranking``, ``teacher`` (a ranking with a teacher's scores), ``labels`` or ``scores``."""
    return "teacher" if data.shape == "ranking" and data.teacher_scores else data.shape


def choose_loss(data: TrainingData, kind: str, requested: str = "auto", *, batch: int = 64) -> LossChoice:
    """Return the loss for a shape of data and a kind of model.

    Args:
        data: what is learnt from.
        kind: the main output of the model: ``dense``, ``sparse``, ``multivector`` or ``scores``.
        requested: the name of a loss, or ``auto``.
        batch: rows of a step.

    Raises:
        InputError: no loss fits, or the requested one does not; the message says why.
    """
    form = data_form(data)
    fitting = _FITTING.get((kind, form)) or _FITTING.get((kind, data.shape)) or ()
    if not fitting:
        raise InputError(_no_loss(kind, data.shape), param="data")
    if requested == "auto":
        return _default(fitting, batch)
    if requested not in fitting:
        reason = _REASONS.get((requested, form), f"for a model that gives {kind}, it does not fit data of this shape")
        raise InputError(f"The loss {requested!r} cannot be used: {reason}. Use {', '.join(fitting)}.", param="loss")
    return LossChoice(requested, "requested")


def _default(fitting: tuple[str, ...], batch: int) -> LossChoice:
    name = "cached-mnrl" if fitting[0] == "mnrl" and "cached-mnrl" in fitting and batch >= CACHED_FROM else fitting[0]
    return LossChoice(name, _DEFAULT_REASON[name])


def _no_loss(kind: str, shape: str) -> str:
    shapes = " or ".join(sorted({known for model, known in _FITTING if model == kind and known != "teacher"}))
    return f"A model that gives {kind} learns from {shapes or 'nothing here'}, and the data has {shape}."
