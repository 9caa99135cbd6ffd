"""jina-embeddings-v2: BERT without positions, whose attention falls off with distance (Günther et al. 2023).

arXiv:2310.19923, with symmetric linear biases (Press et al. 2022, arXiv:2108.12409) and gated feed-forwards. The models
for code, German and Spanish normalise queries and keys and add a norm; their layers are named otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.ops import AttentionMask, Ops, T

GATES = {"geglu": "gelu", "reglu": "relu"}


class JinaBert(Family):
    """``bert`` by its config's word, with ``position_embedding_type`` alibi."""

    inputs = ("ids", "segments", "distances")
    weight_prefixes = ("bert.", "")
    unused_weights = (r"(^|\.)position_ids$", r"(^|\.)pooler\.", r"^(cls|classifier)\.")
    replaces_remote_code = True

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "hidden_size")
        self.heads = size_of(config, "num_attention_heads")
        self.layers = size_of(config, "num_hidden_layers")
        self.intermediate_size = size_of(config, "intermediate_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.types = int(config.get("type_vocab_size", 2))
        self.eps = float(config.get("layer_norm_eps", 1e-12))
        gate = config.get("feed_forward_type", "original")
        if gate not in GATES:
            raise ModelRefused(f"config.json: feed_forward_type {gate!r} is not known here. Known: {', '.join(GATES)}.")
        self.act = GATES[gate]

    def host_inputs(self, places: Array) -> dict[str, Array]:
        # Columns of one input are as far apart as its tokens; across inputs nothing is seen.
        return {"distances": _distances(places.shape[1])}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights.scope("embeddings."), inputs)
        slopes = ops.constant(-slopes_of(self.heads).reshape(1, self.heads, 1, 1))
        bias = ops.multiply(ops.expand(ops.expand(inputs["distances"], 0), 0), slopes)
        mask, normed = self.attention_mask(inputs), "encoder.layer.0.layer_norm_1.weight" in weights.names()
        for number in range(self.layers):
            own = weights.scope(f"encoder.layer.{number}.")
            a = self._attention(ops, own.scope("attention."), x, mask, bias, normed)
            if normed:
                x = self._norm(ops, own, ops.add(x, a), "layer_norm_1")
                x = self._norm(ops, own, ops.add(x, self._feed(ops, own, x, normed)), "layer_norm_2")
            else:
                x = self._norm(ops, own, ops.add(a, self._feed(ops, own, a, normed)), "mlp.layernorm")
        return x

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        size = self.hidden_size
        x = ops.embed(weights.table("word_embeddings", self.vocab_size, size), inputs["ids"])
        if self.types:
            types = weights.tensor("token_type_embeddings.weight", (self.types, size))
            x = ops.add(x, ops.rows(types, inputs["types"]) if "types" in inputs else ops.constant(types[0]))
        return self._norm(ops, weights, x, "LayerNorm")

    def _attention(self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T], bias: T, normed: bool) -> T:
        size, own = self.hidden_size, weights.scope("self.")
        q, k, v = (ops.linear(x, own.linear(name, size, size)) for name in ("query", "key", "value"))
        if normed:
            q, k = self._norm(ops, own, q, "layer_norm_q"), self._norm(ops, own, k, "layer_norm_k")
        q, k, v = (ops.split(y, self.heads) for y in (q, k, v))
        a = ops.linear(ops.attention(q, k, v, mask, bias=bias), weights.linear("output.dense", size, size))
        return self._norm(ops, weights, ops.add(x, a), "output.LayerNorm")

    def _feed(self, ops: Ops[T], weights: Weights, x: T, normed: bool) -> T:
        size, inner, own = self.hidden_size, self.intermediate_size, weights.scope("mlp.")
        fused = own.linear("up_gated_layer" if normed else "gated_layers", size, 2 * inner, bias=False)
        # The two implementations put the gate on opposite sides.
        gate, up = reversed(fused.parts(2)) if normed else fused.parts(2)
        h = ops.multiply(ops.activation(ops.linear(x, gate), self.act), ops.linear(x, up))
        return ops.linear(h, own.linear("down_layer" if normed else "wo", inner, size))

    def _norm(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.layer_norm(x, weights.norm(name, self.hidden_size), self.eps)


def slopes_of(heads: int) -> Array:
    """Return each head's slope, float32 [heads]: powers of 2^(-8/n), filled up from the next power of two's."""
    whole = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8.0 / whole * np.arange(1, whole + 1))
    rest = 2.0 ** (-4.0 / whole * np.arange(1, 2 * (heads - whole) + 1, 2))
    return np.concatenate([first, rest]).astype(np.float32)


@lru_cache(maxsize=16)
def _distances(length: int) -> Array:
    places = np.arange(length, dtype=np.float32)
    return np.abs(places[:, None] - places[None])
