"""DeBERTa v2 and v3: attention adds what a token's content says of distances (He et al. 2021, arXiv:2006.03654).

Each score is content to content, content to position and position to content, all scaled alike. Distances fall into
buckets, exact near and logarithmic far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Norm, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import ACTIVATIONS, size_of
from nearfield.ops import AttentionMask, Ops, T


class Deberta(Family):
    """``deberta-v2`` in its usual configurations; those with a convolution are refused."""

    weight_prefixes = ("deberta.", "")
    unused_weights = (
        r"(^|\.)position_ids$",
        r"(^|\.)position_embeddings\.",
        r"^(pooler|classifier|cls|lm_predictions|mask_predictions)\.",
    )

    def __init__(self, config: JsonObject) -> None:
        _refuse_variants(config)
        self.hidden_size = size_of(config, "hidden_size")
        self.heads = size_of(config, "num_attention_heads")
        self.layers = size_of(config, "num_hidden_layers")
        self.intermediate_size = size_of(config, "intermediate_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.types = int(config.get("type_vocab_size", 0))
        self.eps = float(config.get("layer_norm_eps", 1e-7))
        self.act = _activation(config, "hidden_act")
        self.pooler_act = _activation(config, "pooler_hidden_act")
        self.placed = bool(config.get("position_biased_input", True))
        self.kinds = _kinds(config)
        self.shared = bool(config.get("share_att_key", False))
        self.normed = "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower()
        self.farthest = int(config.get("max_relative_positions", -1))
        self.farthest = self.farthest if self.farthest > 0 else self.positions
        self.count = int(config.get("position_buckets", -1))
        self.span = self.count if self.count > 0 else self.farthest
        self.inputs = ("ids", "segments", "buckets", "buckets.back", *(("positions",) if self.placed else ()))

    def host_inputs(self, places: Array) -> dict[str, Array]:
        there, back = _distances(places.shape[1], self.count, self.farthest, self.span)
        return {"buckets": there, "buckets.back": back, "positions": places}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights.scope("embeddings."), inputs)
        encoder, mask = weights.scope("encoder."), self.attention_mask(inputs)
        table = self._distances_table(encoder)
        for number in range(self.layers):
            own = encoder.scope(f"layer.{number}.")
            x = self._layer(ops, own, x, inputs, mask, table)
        return x

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        size = self.hidden_size
        x = ops.embed(weights.table("word_embeddings", self.vocab_size, size), inputs["ids"])
        if self.placed:
            table = weights.tensor("position_embeddings.weight", (self.positions, size))
            x = ops.add(x, ops.rows(table, inputs["positions"]))
        if self.types:
            types = weights.tensor("token_type_embeddings.weight", (self.types, size))
            x = ops.add(x, ops.rows(types, inputs["types"]) if "types" in inputs else ops.constant(types[0]))
        return ops.layer_norm(x, weights.norm("LayerNorm", size), self.eps)

    def _distances_table(self, weights: Weights) -> Array:
        """Return the embeddings of distances [2 x span, H], normalised once for all layers where the model says so."""
        table = weights.tensor("rel_embeddings.weight", (2 * self.span, self.hidden_size))
        if not self.normed:
            return table
        return _layer_norm(table, weights.norm("LayerNorm", self.hidden_size), self.eps)

    def _layer(
        self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T], mask: AttentionMask[T], table: Array
    ) -> T:
        size = self.hidden_size
        a = self._attention(ops, weights.scope("attention.self."), x, inputs, mask, table)
        a = ops.linear(a, weights.linear("attention.output.dense", size, size))
        x = ops.layer_norm(ops.add(x, a), weights.norm("attention.output.LayerNorm", size), self.eps)
        up = weights.linear("intermediate.dense", size, self.intermediate_size)
        h = ops.activation(ops.linear(x, up), self.act)
        h = ops.linear(h, weights.linear("output.dense", self.intermediate_size, size))
        return ops.layer_norm(ops.add(x, h), weights.norm("output.LayerNorm", size), self.eps)

    def _attention(
        self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T], mask: AttentionMask[T], table: Array
    ) -> T:
        size = self.hidden_size
        layers = [weights.linear(f"{name}_proj", size, size) for name in ("query", "key", "value")]
        q, k, v = (ops.split(ops.linear(x, layer), self.heads) for layer in layers)
        scale = (size / self.heads * (1 + len(self.kinds))) ** -0.5
        bias = None
        if "c2p" in self.kinds:
            rows = self._projected(weights, table, "pos_key_proj", layers[1], scale)
            bias = ops.relative(q, rows, inputs["buckets"])
        if "p2c" in self.kinds:
            rows = self._projected(weights, table, "pos_query_proj", layers[0], scale)
            back = ops.transpose(ops.relative(k, rows, inputs["buckets.back"]))
            bias = back if bias is None else ops.add(bias, back)
        return ops.attention(q, k, v, mask, bias=bias, scale=scale)

    def _projected(self, weights: Weights, table: Array, name: str, shared: Linear, scale: float) -> Array:
        """Project the embeddings of distances, which no input changes: [2 x span, heads, D], scaled as scores are."""
        layer = shared if self.shared else weights.linear(name, self.hidden_size, self.hidden_size)
        if layer.lora is not None:
            raise ModelRefused("Adapters of DeBERTa's queries and keys would change its distances too: not known here.")
        rows = table @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        return np.ascontiguousarray((rows * scale).reshape(len(table), self.heads, -1), np.float32)

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        top, size = weights.top, self.hidden_size
        x = ops.activation(ops.linear(x, top.linear("pooler.dense", size, size)), self.pooler_act)
        return ops.linear(x, top.linear("classifier", size, count))


@lru_cache(maxsize=32)
def _distances(length: int, count: int, farthest: int, span: int) -> tuple[Array, Array]:
    """Return the table's row for each pair of columns, seen from the query and seen from the key: int32 [L, L]."""
    apart = np.arange(length)[:, None] - np.arange(length)[None]
    bucket = _bucketed(apart, count, farthest) if count > 0 else apart
    there = np.clip(bucket + span, 0, 2 * span - 1)
    return there.astype(np.int32), np.clip(span - bucket, 0, 2 * span - 1).astype(np.int32)


def _bucketed(apart: Array, count: int, farthest: int) -> Array:
    """Distances up to half of ``count`` are exact, farther ones logarithmic up to ``farthest``."""
    middle = count // 2
    size = np.where(np.abs(apart) < middle, middle - 1, np.abs(apart)).astype(np.float32)
    # In float32 and in this order, as DeBERTa does: on whole numbers the rounding up falls either way.
    ratio = np.log(size / np.float32(middle)) / np.float32(math.log((farthest - 1) / middle))
    far = np.ceil(ratio * np.float32(middle - 1)) + middle
    return np.asarray(np.where(size <= middle, apart, far * np.sign(apart)), np.int64)


def _layer_norm(x: Array, norm: Norm, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * norm.weight
    return np.asarray(y if norm.bias is None else y + norm.bias, np.float32)


def _kinds(config: JsonObject) -> tuple[str, ...]:
    stated = config.get("pos_att_type") or ()
    listed = stated.split("|") if isinstance(stated, str) else stated
    kinds = tuple(str(kind).strip().lower() for kind in listed)
    if any(kind not in ("c2p", "p2c") for kind in kinds):
        raise ModelRefused(f"config.json: pos_att_type {stated!r} is not known here (c2p, p2c).")
    return kinds


def _activation(config: JsonObject, name: str) -> str:
    stored = config.get(name, "gelu")
    if stored not in (*ACTIVATIONS, "tanh"):
        raise ModelRefused(f"config.json: {name} {stored!r} is not known here. Known: {', '.join(ACTIVATIONS)}.")
    return str(ACTIVATIONS.get(stored, stored))


def _refuse_variants(config: JsonObject) -> None:
    if int(config.get("conv_kernel_size") or 0) > 0:
        raise ModelRefused("config.json: conv_kernel_size sets a convolution after the first layer: not known here.")
    if not config.get("relative_attention"):
        raise ModelRefused("config.json: a DeBERTa without relative_attention is not known here.")
    hidden = config.get("hidden_size")
    for name in ("embedding_size", "pooler_hidden_size"):
        if config.get(name, hidden) not in (hidden, None):
            raise ModelRefused(
                f"config.json: {name} {config[name]!r} differs from hidden_size {hidden}: not known here."
            )
    if config.get("attention_head_size"):
        raise ModelRefused("config.json: attention_head_size is not known here.")
