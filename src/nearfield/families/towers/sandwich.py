"""Blocks of EmbeddingGemma 2 and of Gemma 4's vision tower: attention and feed-forward, each between two RMS norms.

Queries and keys are normed, with weights that contain the scale, and values without weights. The feed-forward is gated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Norm, Weights
from nearfield.families.towers.linear_layers import LayerShape, LinearLayers
from nearfield.ops import AttentionMask, Ops, T


@dataclass(frozen=True, eq=False)
class SandwichBlock:
    """One block. Keys and values have ``shared`` heads; all heads have ``head_size`` features.

    ``order`` is the order of a head's features in queries and keys: it decides which two are rotated together, and
    changes no other product.
    """

    width: int
    heads: int
    shared: int
    head_size: int
    intermediate_size: int
    activation: str
    eps: float
    layers: LinearLayers
    order: Array | None = None

    def attend(self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T], rope: tuple[T, T]) -> T:
        """Return states [B, L, H] with attention added; ``rope`` are cosines and sines [B, L, D]."""
        own, size = weights.scope("self_attn."), self.head_size
        y = self.normed(ops, weights, x, "input_layernorm")
        q, k = (
            ops.rope(ops.rms_norm(self._heads(ops, own, name, y), self._head_norm(own, name), self.eps), *rope)
            for name in "qk"
        )
        v = ops.rms_norm(self._heads(ops, own, "v", y), Norm(np.ones(size, np.float32), None), self.eps)
        y = ops.attention(q, k, v, mask, scale=1.0)
        y = self.layers.apply(ops, own, "o_proj", y, LayerShape(self.heads * size, self.width))
        return ops.add(x, self.normed(ops, weights, y, "post_attention_layernorm"))

    def feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        """Return states [B, L, H] with the feed-forward added."""
        own, inner = weights.scope("mlp."), self.intermediate_size
        y = self.normed(ops, weights, x, "pre_feedforward_layernorm")
        gate, up = (
            self.layers.apply(ops, own, f"{name}_proj", y, LayerShape(self.width, inner)) for name in ("gate", "up")
        )
        y = ops.multiply(ops.activation(gate, self.activation), up)
        y = self.layers.apply(ops, own, "down_proj", y, LayerShape(inner, self.width))
        return ops.add(x, self.normed(ops, weights, y, "post_feedforward_layernorm"))

    def normed(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        """Return states [B, L, H] scaled by the norm ``name``."""
        return ops.rms_norm(x, weights.norm(name, self.width, bias=False), self.eps)

    def _heads(self, ops: Ops[T], weights: Weights, name: str, x: T) -> T:
        count, size = self.shared if name in "kv" else self.heads, self.head_size
        order = None
        if self.order is not None and name != "v":
            order = (np.arange(count)[:, None] * size + self.order).ravel()
        return ops.split(
            self.layers.apply(ops, weights, f"{name}_proj", x, LayerShape(self.width, count * size, order)), count
        )

    def _head_norm(self, weights: Weights, name: str) -> Norm:
        norm = weights.norm(f"{name}_norm", self.head_size, bias=False)
        return norm if self.order is None else Norm(norm.weight[self.order], None)
