"""The dense head: pooling of hidden states, then the model's further modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.merged import open_weights
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.heads import Head, HeadInput, Results
from nearfield.heads.probe import probe_pool, select_pool
from nearfield.ops import Ops, T
from nearfield.packing import PackedRows
from nearfield.recipe import Centre, Dense, LayerNorm, Module, Normalize, Pooling, ProbePooling, SelectorPooling

#: torch.nn classes that a Dense module may name, and what they are called here.
ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "GELU": "gelu",
    "ReLU": "relu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}
_LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's default; sentence-transformers' LayerNorm module stores none.


class PooledHead(Head):
    """The dense output."""

    output = "dense"

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = tuple(modules)
        self.inputs = inputs(modules)
        self.packable = packable(modules)

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, S, dimensions], S inputs or spans a row."""
        return apply(ops, hidden, self.modules, inputs, family.hidden_size)

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> Results:
        """Return [inputs, dimensions], or an array a input where any is pooled by spans: then each has its own row."""
        if not any(item.request.spans for item in items):
            return values[packed.layout.row, packed.layout.slot]
        return [
            row[: len(item.request.spans)] if item.request.spans else row[0]
            for row, item in zip(values, items, strict=False)
        ]


class PooledScoreHead(PooledHead):
    """The logits of labels, from the pooled vector."""

    output = "scores"


def inputs(modules: Sequence[Module]) -> tuple[str, ...]:
    """Return the names of the token weights that these modules' poolings read."""
    names = [f"pool.{mode}" for module in modules if isinstance(module, Pooling) for mode in module.modes]
    # A probe's softmax reads what counts of a row, as a maximum does.
    names += ["pool.cls"] * any(isinstance(module, SelectorPooling) for module in modules)
    return (*names, *(["pool.max"] * any(isinstance(module, ProbePooling) for module in modules)))


def packable(modules: Sequence[Module]) -> bool:
    """Whether several inputs may share a row: a maximum is taken over a whole row, and so is a probe's softmax."""
    return not any(
        isinstance(module, ProbePooling) or (isinstance(module, Pooling) and "max" in module.modes)
        for module in modules
    )


def token_weights(mode: str, places: Array, lengths: Array, skips: Array) -> Array:
    """Return each token's weight, float32 [tokens], for a pooling mode of sentence-transformers.

    All three arrays hold a value a token: its place within its input, the input's length, and how many leading tokens
    (the prompt) don't count.
    """
    if mode in ("cls", "lasttoken"):
        # With its prompt left out, the first token that counts stands for the input, as in sentence-transformers.
        return (places == (skips if mode == "cls" else lengths - 1)).astype(np.float32)
    counted = places >= skips
    if mode == "max":
        return counted.astype(np.float32)
    if mode == "weightedmean":
        total = (lengths * (lengths + 1) - skips * (skips + 1)) / 2
        return np.asarray(counted * (places + 1) / total, np.float32)
    total = lengths - skips
    return np.asarray(counted / (np.sqrt(total) if mode == "mean_sqrt_len_tokens" else total), np.float32)


def apply(ops: Ops[T], hidden: T, modules: Sequence[Module], arrays: Mapping[str, T], width: int) -> T:
    """Run the modules after the transformer; the result is [B, S, dimensions], S inputs a row."""
    x = hidden
    for module in modules:
        x, width = _module(ops, x, module, arrays, width)
    return x


def _module(ops: Ops[T], x: T, module: Module, arrays: Mapping[str, T], width: int) -> tuple[T, int]:
    if isinstance(module, Pooling):
        return ops.concat([_pool(ops, x, mode, arrays) for mode in module.modes]), width * len(module.modes)
    if isinstance(module, SelectorPooling):
        return select_pool(ops, x, module, arrays["pool.max"], arrays["pool.cls"], width), width
    if isinstance(module, ProbePooling):
        return probe_pool(ops, x, module, arrays["pool.max"], width), width
    if isinstance(module, Dense):
        return _dense(ops, x, module, width), module.out_features
    if isinstance(module, LayerNorm):
        norm = Weights.open(module.weights).norm("norm", module.dimension)
        return ops.layer_norm(x, norm, _LAYER_NORM_EPS), width
    if isinstance(module, Centre):
        return ops.affine(x, np.asarray(np.eye(width) - 1 / width, np.float32), None), width
    if isinstance(module, Normalize):
        return ops.normalize(x), width
    raise ModelRefused(f"Unknown module {module!r}.")


def _pool(ops: Ops[T], x: T, mode: str, arrays: Mapping[str, T]) -> T:
    weights = arrays[f"pool.{mode}"]
    return ops.expand(ops.masked_max(x, weights), 1) if mode == "max" else ops.matmul(weights, x)


def _dense(ops: Ops[T], x: T, module: Dense, width: int) -> T:
    if module.in_features != width:
        raise ModelRefused(f"{module.weights.name}: Dense takes {module.in_features} values, but gets {width}.")
    if module.activation not in ACTIVATIONS:
        raise ModelRefused(
            f"{module.weights.name}: activation {module.activation!r} is not one of {sorted(ACTIVATIONS)}."
        )
    own = open_weights(module.weights)
    layer = own.linear(module.layer, module.in_features, module.out_features, module.bias)
    y = ops.activation(ops.linear(x, layer), ACTIVATIONS[module.activation])
    if not module.residual:
        return y
    if module.in_features == module.out_features and "residual.weight" not in own.names():
        return ops.add(x, y)
    return ops.add(ops.linear(x, own.linear("residual", module.in_features, module.out_features, False)), y)
