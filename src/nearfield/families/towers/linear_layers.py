"""Linear layers as Gemma's checkpoints keep them: plain, or with bounds for their inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.ops import Ops, T


@dataclass(frozen=True, eq=False)
class LayerShape:
    """The sizes of a linear layer, and the order in which its outputs are wanted; None is that of the checkpoint."""

    inputs: int
    outputs: int
    order: Array | None = None


class LinearLayers(Protocol):
    """How a checkpoint keeps its linear layers."""

    def apply(self, ops: Ops[T], weights: Weights, name: str, x: T, shape: LayerShape) -> T:
        """Return what the layer ``name`` gives for ``x`` [..., inputs]: [..., outputs]."""
        ...


@dataclass(frozen=True)
class PlainLinears:
    """Layers without bounds; all have a bias, or none has."""

    bias: bool = False

    def apply(self, ops: Ops[T], weights: Weights, name: str, x: T, shape: LayerShape) -> T:
        """Return ``x @ weight.T + bias``."""
        return ops.linear(x, _ordered(weights.linear(name, shape.inputs, shape.outputs, self.bias), shape.order))


@dataclass(frozen=True)
class ClippableLinears:
    """Gemma 4's layers without bias (``Gemma4ClippableLinear`` of transformers).

    If ``clipped``, the checkpoint has four numbers beside each weight: the least and the largest input and output.
    """

    clipped: bool

    def apply(self, ops: Ops[T], weights: Weights, name: str, x: T, shape: LayerShape) -> T:
        """Return ``x @ weight.T``, with ``x`` and the result limited to the stored bounds."""
        own = weights.scope(name)
        layer = _ordered(own.linear("linear", shape.inputs, shape.outputs, False), shape.order)
        if not self.clipped:
            return ops.linear(x, layer)
        return _clip(ops, own, "output", ops.linear(_clip(ops, own, "input", x), layer))


def _clip(ops: Ops[T], weights: Weights, side: str, x: T) -> T:
    low, high = (float(weights.tensor(f"{side}_{end}", ())) for end in ("min", "max"))
    # Files of models that were not trained with bounds hold infinite ones.
    return ops.clip(x, low, high) if np.isfinite(low) or np.isfinite(high) else x


def _ordered(layer: Linear, order: Array | None) -> Linear:
    """Return a layer with its outputs in another order."""
    if order is None:
        return layer
    lora = layer.lora and replace(layer.lora, up=layer.lora.up[order])
    return Linear(layer.weight[order], None if layer.bias is None else layer.bias[order], lora)
