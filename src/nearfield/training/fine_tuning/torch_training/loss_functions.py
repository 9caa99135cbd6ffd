"""sentence-transformers' loss of each name in ``losses``, for each kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nearfield.training.fine_tuning.base_model import BaseModel, open_base
from nearfield.training.fine_tuning.losses import flops_weights
from nearfield.training.fine_tuning.options import TrainOptions
from nearfield.training.fine_tuning.torch_training.models import TorchModel, open_torch_model, train_library

#: Cosines are multiplied with this before a softmax (a temperature of 0.05), as sentence-transformers does.
SCALE = 20.0
#: Texts that are computed at once by losses that compute a batch in parts.
_PART = 32


def build_loss(name: str, model: TorchModel, base: BaseModel, options: TrainOptions | None = None) -> Any:
    """Return the loss, a module of torch that holds the model; options have sizes, guide and weights."""
    options = options or TrainOptions()
    loss = _BUILDERS[base.kind](name, model, base, options)
    if not options.matryoshka:
        return loss
    sizes = sorted({base.recipe.dimensions, *options.matryoshka}, reverse=True)
    return _losses("sentence_transformer").MatryoshkaLoss(model, loss, matryoshka_dims=sizes)


def _losses(kind: str) -> Any:
    return train_library(f"sentence_transformers.{kind}.losses")


def _dense(name: str, model: TorchModel, base: BaseModel, options: TrainOptions) -> Any:
    losses, measure = _losses("sentence_transformer"), _measure(base)
    if name in ("mnrl", "label"):
        return losses.MultipleNegativesRankingLoss(model, **measure)
    if name == "cached-mnrl":
        return losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=_PART, **measure)
    if name == "gist":
        return losses.GISTEmbedLoss(model, _guide(base, options), margin_strategy="relative", margin=0.05)
    if name == "cosent":
        return losses.CoSENTLoss(model)
    pairwise = _scaled_pairwise(base)
    if name == "kl":
        return losses.DistillKLDivLoss(model, similarity_fct=pairwise)
    return losses.MarginMSELoss(model, similarity_fct=pairwise)


def _measure(base: BaseModel) -> dict[str, Any]:
    """Return scale and similarity of a ranking loss: a dot product of vectors of any length is not scaled."""
    if base.recipe.similarity == "dot" and not base.recipe.normalized:
        return {"scale": 1.0, "similarity_fct": train_library("sentence_transformers.util").dot_score}
    return {"scale": SCALE}


def _scaled_pairwise(base: BaseModel) -> Callable[[Any, Any], Any]:
    """Return the similarity of pairs on the scale of a teacher's logits."""
    functions = train_library("sentence_transformers.util")
    if base.recipe.similarity == "dot" and not base.recipe.normalized:
        dot: Callable[[Any, Any], Any] = functions.pairwise_dot_score
        return dot
    return lambda a, b: SCALE * functions.pairwise_cos_sim(a, b)


def _guide(base: BaseModel, options: TrainOptions) -> TorchModel:
    """Return the guide, by default the untrained base, which masks false negatives in the batch."""
    return open_torch_model(base if options.guide is None else open_base(options.guide, accept_license=True))


def _sparse(name: str, model: TorchModel, _base: BaseModel, options: TrainOptions) -> Any:
    losses = _losses("sparse_encoder")
    inner = {
        "mnrl": losses.SparseMultipleNegativesRankingLoss,
        "margin-mse": losses.SparseMarginMSELoss,
        "kl": losses.SparseDistillKLDivLoss,
    }[name](model)
    query, document = flops_weights(name, options.flops_query, options.flops_document)
    return losses.SpladeLoss(model, inner, document_regularizer_weight=document, query_regularizer_weight=query)


def _multivector(name: str, model: TorchModel, _base: BaseModel, _options: TrainOptions) -> Any:
    losses = _losses("multi_vector_encoder")
    return {
        "mnrl": losses.MultiVectorMultipleNegativesRankingLoss,
        "cached-mnrl": losses.CachedMultiVectorMultipleNegativesRankingLoss,
        "kl": losses.MultiVectorDistillKLDivLoss,
        "margin-mse": losses.MultiVectorMarginMSELoss,
    }[name](model)


def _reranker(name: str, model: TorchModel, _base: BaseModel, _options: TrainOptions) -> Any:
    losses = _losses("cross_encoder")
    return losses.LambdaLoss(model) if name == "lambda" else losses.BinaryCrossEntropyLoss(model)


_BUILDERS: Mapping[str, Callable[[str, TorchModel, BaseModel, TrainOptions], Any]] = {
    "dense": _dense,
    "sparse": _sparse,
    "multivector": _multivector,
    "scores": _reranker,
}
