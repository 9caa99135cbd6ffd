"""Pre-norm transformer blocks, as the towers of CLIP, SigLIP and DINO have them.

Layer norms with biases before attention and feed-forward (Dosovitskiy et al. 2020, arXiv:2010.11929). DINO scales what
each block adds by a learned vector (LayerScale; Touvron et al. 2021, arXiv:2103.17239).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families.bert import ACTIVATIONS
from nearfield.ops import AttentionMask, Ops, T

#: Activations of these architectures, beside those of text models.
TOWER_ACTIVATIONS = {**ACTIVATIONS, "quick_gelu": "quick_gelu"}


@dataclass(frozen=True)
class BlockNames:
    """Where a checkpoint keeps the parts of one block. Empty names are parts that it lacks.

    ``gate`` is the first layer of a gated feed-forward; ``fused`` says that ``up`` holds the gate's outputs first.
    ``joined`` is one layer for queries, keys and values, in place of three.
    """

    layer: str = "encoder.layers.{}"
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    out: str = "self_attn.out_proj"
    attention_norm: str = "layer_norm1"
    attention_scale: str = ""
    feed_norm: str = "layer_norm2"
    feed_scale: str = ""
    gate: str = ""
    up: str = "mlp.fc1"
    down: str = "mlp.fc2"
    fused: bool = False
    joined: str = ""


#: CLIP's and SigLIP's.
CLIP_BLOCKS = BlockNames()


@dataclass(frozen=True)
class PrenormBlocks:
    """Blocks of one size. ``biases`` says which of query, key and value have one.

    Norms that are not ``centred`` divide by the root mean square, and have no bias.
    """

    names: BlockNames
    layers: int
    size: int
    heads: int
    intermediate_size: int
    activation: str
    eps: float
    biases: tuple[bool, bool, bool] = (True, True, True)
    out_bias: bool = True
    feed_bias: bool = True
    centred: bool = True

    def run(
        self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T] | None, rope: tuple[T, T] | None = None
    ) -> T:
        """Return the hidden states [B, L, H] after all blocks; ``rope`` are cosines and sines [B, L, D]."""
        for number in range(self.layers):
            x = self.block(ops, weights.scope(self.names.layer.format(number) + "."), x, mask, rope)
        return x

    def block(
        self, ops: Ops[T], own: Weights, x: T, mask: AttentionMask[T] | None, rope: tuple[T, T] | None = None
    ) -> T:
        """Return the hidden states after one block, whose weights are ``own``."""
        x = ops.add(x, self._attention(ops, own, x, mask, rope))
        return ops.add(x, self._feed(ops, own, x))

    def _attention(
        self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T] | None, rope: tuple[T, T] | None
    ) -> T:
        names, size = self.names, self.size
        x = self.normed(ops, weights, x, names.attention_norm)
        q, k, v = (ops.split(ops.linear(x, layer), self.heads) for layer in self._projections(weights))
        if rope is not None:
            q, k = (ops.rope(y, *rope) for y in (q, k))
        out = weights.linear(names.out, size, size, self.out_bias)
        return ops.linear(ops.attention(q, k, v, mask), self._scaled(weights, out, names.attention_scale))

    def _projections(self, weights: Weights) -> tuple[Linear, ...]:
        """Return the layers of queries, keys and values."""
        names, size = self.names, self.size
        if names.joined:
            return weights.linear(names.joined, size, 3 * size, self.biases[0]).parts(3)
        return tuple(
            weights.linear(name, size, size, bias)
            for name, bias in zip((names.query, names.key, names.value), self.biases, strict=True)
        )

    def _feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        names, size, inner = self.names, self.size, self.intermediate_size
        x = self.normed(ops, weights, x, names.feed_norm)
        if names.fused:
            gate, up = weights.linear(names.up, size, 2 * inner, self.feed_bias).parts(2)
            h = ops.multiply(ops.activation(ops.linear(x, gate), self.activation), ops.linear(x, up))
        elif names.gate:
            gate, up = (weights.linear(name, size, inner, self.feed_bias) for name in (names.gate, names.up))
            h = ops.multiply(ops.activation(ops.linear(x, gate), self.activation), ops.linear(x, up))
        else:
            h = ops.activation(ops.linear(x, weights.linear(names.up, size, inner, self.feed_bias)), self.activation)
        down = weights.linear(names.down, inner, size, self.feed_bias)
        return ops.linear(h, self._scaled(weights, down, names.feed_scale))

    def normed(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        """Return the states after a norm of the blocks' kind."""
        norm = weights.norm(name, self.size, bias=self.centred)
        return ops.layer_norm(x, norm, self.eps) if self.centred else ops.rms_norm(x, norm, self.eps)

    def _scaled(self, weights: Weights, layer: Linear, name: str) -> Linear:
        """Return the layer with its outputs scaled by the vector of that name, if there is one."""
        return scaled(layer, weights.tensor(name, (self.size,))) if name else layer


def scaled(layer: Linear, scale: Array) -> Linear:
    """Return a layer whose outputs are multiplied by ``scale`` [outputs]."""
    bias = None if layer.bias is None else layer.bias * scale
    lora = layer.lora and replace(layer.lora, up=layer.lora.up * scale[:, None])
    return Linear(np.ascontiguousarray(layer.weight * scale[:, None]), bias, lora)


def known_activation(config: JsonObject) -> str:
    """Return the activation of config.json under its name in ``Ops``; one that is unknown is refused."""
    stored = config.get("hidden_act")
    if stored not in TOWER_ACTIVATIONS:
        raise ModelRefused(f"config.json: hidden_act {stored!r} is not known. Known: {', '.join(TOWER_ACTIVATIONS)}.")
    return TOWER_ACTIVATIONS[stored]


def refuse_odd_heads(size: int, heads: int) -> None:
    """Refuse a number of heads that does not divide the hidden size."""
    if size % heads:
        raise ModelRefused(f"config.json: hidden size {size} cannot be split among {heads} heads.")
