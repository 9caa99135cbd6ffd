"""Load models as FlagEmbedding does: the transformer with the pooling of the class, whatever else the folder says.

FlagEmbedding reads neither modules.json nor prompts nor lengths of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from nearfield.checkpoint.default_pooling import token_width
from nearfield.checkpoint.max_length import count_positions
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused, nearest
from nearfield.inference.uncompiled_model import UncompiledModel, read_model
from nearfield.recipe import HeadSpec, Module, Multivector, Normalize, Pooling, Recipe

#: FlagEmbedding's names of poolings, and ours.
POOLINGS = {"cls": "cls", "mean": "mean", "last_token": "lasttoken"}


def load_embedder(
    name: str,
    *,
    pooling: str,
    normalize: bool,
    half: bool,
    min_length: int,
    heads: bool = False,
) -> Encoder:
    """Load a model for dense vectors.

    Args:
        name: id on the Hub, name of the catalogue, or path of a folder.
        pooling: one of ``POOLINGS``.
        normalize: whether to scale vectors to unit length.
        half: whether matrix products may have fewer digits than float32.
        min_length: tokens to read at the least, if the model has no limit.
        heads: whether to load the sparse and the multi-vector output of bge-m3 too.

    Raises:
        InputError: there is no such pooling.
        ModelRefused: the folder has no transformer.
    """
    if pooling not in POOLINGS:
        raise InputError(f"Unknown pooling_method {pooling!r}. {nearest(pooling, POOLINGS)}", param="pooling_method")
    model = read_model(name, kind=None if heads else "dense")
    recipe = model.recipe
    if recipe.config.get("model_type") == "static" or recipe.exported_graph is not None:
        raise ModelRefused(f"{recipe.name} has no transformer of FlagEmbedding: load it with nearfield.Encoder.")
    chain: tuple[Module, ...] = (Pooling((POOLINGS[pooling],)), *([Normalize()] * normalize))
    own = tuple(_head(head, normalize) for head in recipe.heads) if heads else ()
    width = token_width(recipe.folder, recipe.config)
    plain = replace(recipe, modules=chain, heads=own, dimensions=width, **_NOTHING_ELSE)
    return Encoder(
        replace(model, recipe=plain), precision=precision_of(half), max_length=readable_length(recipe, min_length)
    )


#: Fields of a recipe that FlagEmbedding does not know.
_NOTHING_ELSE: Mapping[str, Any] = MappingProxyType(
    {
        "prompts": MappingProxyType({}),
        "default_prompt_name": None,
        "instruction": "",
        "tasks": MappingProxyType({}),
        "truncate_dim": None,
        "matryoshka": (),
        "centre": False,
        "do_lower_case": False,
    }
)


def _head(head: HeadSpec, normalize: bool) -> HeadSpec:
    if normalize or not isinstance(head, Multivector):
        return head
    return replace(head, modules=tuple(module for module in head.modules if not isinstance(module, Normalize)))


def precision_of(half: bool) -> str:
    """Return the precision to load with."""
    return "auto" if half else "float32"


def readable_length(recipe: Recipe, min_length: int) -> int:
    """Return the number of tokens that a model can read: of its positions, or at least ``min_length``."""
    return count_positions(recipe.config) or max(recipe.max_length, min_length)


def with_recipe(model: UncompiledModel, **changes: Any) -> UncompiledModel:
    """Return a model whose recipe has other fields."""
    return replace(model, recipe=replace(model.recipe, **changes))
