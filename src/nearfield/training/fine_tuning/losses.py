"""Which loss fits the shape of the data: a table, and the reasons why other losses are refused.

The names are those of ``train.toml``. ``mnrl`` is MultipleNegativesRankingLoss (van den Oord et al., arXiv 1807.03748;
Henderson et al., arXiv 1705.00652), ``cached-mnrl`` the same with GradCache (arXiv 2101.06983), ``gist`` GISTEmbedLoss
(arXiv 2402.16829), ``margin-mse`` arXiv 2010.02666, ``kl`` a KL divergence from a teacher's scores, ``cosent`` CoSENT,
``label`` mnrl on pairs of texts of one class with one pair of each class in a batch, ``bce`` binary cross-entropy and
``lambda`` LambdaLoss (ACM CIKM 2018) for rerankers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    "kl": "a teacher scores the documents: the order of its scores is learnt",
    "margin-mse": "a teacher scores the documents: the margins of its scores are learnt",
    "gist": "a guide masks false negatives of the batch",
    "label": "texts with classes: pairs of one class, one pair of each class in a batch",
    "cosent": "pairs with scores: their order is learnt",
    "bce": "a reranker learns whether a document answers a query",
}


def data_form(data: TrainingData, *, taught: bool = False) -> str:
    """Return ``ranking``, ``teacher`` (a ranking with a teacher's scores), ``labels`` or ``scores``.

    ``taught`` says that a teacher will score the rows.
    """
    return "teacher" if data.shape == "ranking" and (taught or data.teacher_scores) else data.shape


def choose_loss(
    data: TrainingData,
    kind: str,
    requested: str = "auto",
    *,
    batch: int = 64,
    taught: bool = False,
    guided: bool = False,
) -> LossChoice:
    """Return the loss for a shape of data and a kind of model.

    Args:
        data: what is learnt from.
        kind: the main output of the model: ``dense``, ``sparse``, ``multivector`` or ``scores``.
        requested: the name of a loss, or ``auto``.
        batch: rows of a step.
        taught: whether a teacher will score the rows.
        guided: whether a guide is named, which only ``gist`` uses.

    Raises:
        InputError: no loss fits, or the requested one does not; the message says why.
    """
    form = data_form(data, taught=taught)
    fitting = _FITTING.get((kind, form)) or _FITTING.get((kind, data.shape)) or ()
    if not fitting:
        raise InputError(_no_loss(kind, data.shape), param="data")
    if requested == "auto" and guided and "gist" in fitting:
        requested = "gist"
    if guided and requested != "gist":
        raise InputError(
            "A guide masks false negatives of the loss 'gist', which is for a model of dense vectors and queries with "
            "relevant documents: leave the guide out, or use that loss.",
            param="guide",
        )
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


def check_matryoshka(sizes: Sequence[int], kind: str, dimensions: int, loss: str) -> None:
    """Check that vectors can be trained to be truncated to these sizes.

    Raises:
        InputError: the model gives no dense vectors or fewer dimensions, or the loss is one of scored pairs.
    """
    if not sizes or (kind == "dense" and loss != "cosent" and max(sizes) <= dimensions):
        return
    raise InputError(
        f"matryoshka = {list(sizes)}: sizes up to {dimensions} of dense vectors can be trained, with a ranking loss; "
        f"the loss is {loss!r} and the model gives {kind}.",
        param="matryoshka",
    )


#: Weights of SPLADE's FLOPS regulariser for queries and documents. Those of margin-mse are of naver/splade's
#: ``train_distill.py`` (the best of its table): margins of a teacher have a larger loss. The others are those that
#: sentence-transformers recommends for ``SpladeLoss``; naver/splade's table for ``train_max.py`` begins at 8e-5, 6e-5.
_FLOPS: Mapping[str, tuple[float, float]] = {"margin-mse": (1e-2, 8e-3)}
_RANKING_FLOPS = (5e-5, 3e-5)


def check_flops(query: float | str, document: float | str, kind: str) -> None:
    """Raise InputError if a weight of the FLOPS regulariser is set for a model that it has no effect on."""
    if kind != "sparse" and (query, document) != ("auto", "auto"):
        raise InputError(
            f"flops_query and flops_document are for SPLADE models, and the model gives {kind}: leave them out.",
            param="flops_query" if query != "auto" else "flops_document",
        )


def flops_weights(loss: str, query: float | str, document: float | str) -> tuple[float, float]:
    """Return the weights of the FLOPS regulariser for queries and documents; ``auto`` means those of the loss."""
    weights = _FLOPS.get(loss, _RANKING_FLOPS)
    return (weights[0] if query == "auto" else float(query)), (weights[1] if document == "auto" else float(document))
