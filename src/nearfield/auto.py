"""`load`: load a model as the class that fits its outputs."""

from __future__ import annotations

from typing import cast

from nearfield.encoder import Encoder
from nearfield.inference.encode_options import Unpack
from nearfield.inference.loaded_model import LoadKeywords
from nearfield.inference.uncompiled_model import ReadModelKeywords, read_model
from nearfield.recipe import ClassScores, Recipe
from nearfield.reranker import Classifier, Reranker


def load(
    model: str, *, truncate_dim: int | None = None, **options: Unpack[LoadKeywords]
) -> Encoder | Reranker | Classifier:
    """Return an Encoder if a model gives vectors, a Reranker if it gives one score, and a Classifier for more scores.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        truncate_dim: dimensions of vectors for calls that do not say; without effect for scores.
        options: as for ``LoadedModel``.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        ModelRefused: its files cannot be loaded exactly.
    """
    selected = {name: value for name, value in options.items() if name in ReadModelKeywords.__annotations__}
    uncompiled = read_model(str(model), **cast(ReadModelKeywords, selected))
    model_class = _class_for(uncompiled.recipe)
    if model_class is Encoder:
        return Encoder(uncompiled, truncate_dim=truncate_dim, **options)
    return model_class(uncompiled, **options)


def _class_for(recipe: Recipe) -> type[Encoder] | type[Reranker] | type[Classifier]:
    if recipe.outputs[0] != "scores":
        return Encoder
    head = recipe.head("scores")
    return Classifier if isinstance(head, ClassScores) and len(head.labels) > 1 else Reranker
