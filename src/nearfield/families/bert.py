"""BERT, and architectures that differ from it by a flag: RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT, MPNet.

Post-norm transformer encoder (Devlin et al. 2018, arXiv:1810.04805); MPNet adds relative position biases shared by
all layers (Song et al. 2020, arXiv:2004.09297, with T5's buckets, arXiv:1910.10683).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.ops import AttentionMask, Ops, T


@dataclass(frozen=True)
class Names:
    """Where a checkpoint keeps the parts of one layer, and what it calls its sizes."""

    layer: str = "encoder.layer.{}"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    output_norm: str = "output.LayerNorm"
    hidden_size: str = "hidden_size"
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    intermediate_size: str = "intermediate_size"
    activation: str = "hidden_act"
    vocabulary_dense: str = "cls.predictions.transform.dense"
    vocabulary_norm: str = "cls.predictions.transform.LayerNorm"
    vocabulary_table: str = "cls.predictions.decoder"
    vocabulary_bias: str = "cls.predictions.bias"


_LM_HEAD = {
    "vocabulary_dense": "lm_head.dense",
    "vocabulary_norm": "lm_head.layer_norm",
    "vocabulary_table": "lm_head.decoder",
    "vocabulary_bias": "lm_head.bias",
}
BERT = Names()
ROBERTA = Names(**_LM_HEAD)
ELECTRA = Names(
    vocabulary_dense="generator_predictions.dense",
    vocabulary_norm="generator_predictions.LayerNorm",
    vocabulary_table="generator_lm_head",
    vocabulary_bias="generator_lm_head.bias",
)
MPNET = Names(
    **_LM_HEAD,
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
)
DISTILBERT = Names(
    layer="transformer.layer.{}",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    output_norm="output_layer_norm",
    hidden_size="dim",
    heads="n_heads",
    layers="n_layers",
    intermediate_size="hidden_dim",
    activation="activation",
    vocabulary_dense="vocab_transform",
    vocabulary_norm="vocab_layer_norm",
    vocabulary_table="vocab_projector",
    vocabulary_bias="vocab_projector.bias",
)
NAMES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": ELECTRA,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
}

#: These count positions from the padding id on, so that position 0 is ``pad_token_id + 1``.
OFFSET = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
UNTYPED = frozenset({"distilbert", "mpnet"})
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Bert(Family):
    """One class for the whole tribe; ``model_type`` sets the flags."""

    weight_prefixes: ClassVar[tuple[str, ...]] = ("bert.", "roberta.", "electra.", "distilbert.", "mpnet.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)position_ids$",
        r"(^|\.)token_type_ids$",
        r"(^|\.)pooler\.",
        r"^(cls|lm_head|classifier|qa_outputs|discriminator_predictions|generator_\w+|pre_classifier)\.",
        r"^vocab_(transform|layer_norm|projector)\.",
    )

    def __init__(self, config: JsonObject) -> None:
        self.kind = str(config["model_type"])
        self.names = NAMES[self.kind]
        self.hidden_size = size_of(config, self.names.hidden_size)
        self.heads = size_of(config, self.names.heads)
        self.layers = size_of(config, self.names.layers)
        self.intermediate_size = size_of(config, self.names.intermediate_size)
        self.vocab_size = size_of(config, "vocab_size")
        self.embedding_size = int(config.get("embedding_size") or self.hidden_size)
        self.types = 0 if self.kind in UNTYPED else int(config.get("type_vocab_size", 2))
        self.offset = int(_pad(config, self.kind)) + 1 if self.kind in OFFSET else 0
        self.table = size_of(config, "max_position_embeddings")
        self.positions = self.table - self.offset
        self.eps = float(config.get("layer_norm_eps", 1e-12))
        self.act = _activation(config, self.names.activation)
        self.relative = int(config.get("relative_attention_num_buckets", 32)) if self.kind == "mpnet" else 0
        if self.relative:
            self.inputs = (*Family.inputs, "buckets")
        _refuse_variants(config, self.hidden_size, self.heads)

    def host_inputs(self, places: Array) -> dict[str, Array]:
        arrays = {"positions": places + np.int32(self.offset)}
        if self.relative:
            # Within an input, columns are as far apart as its tokens; across inputs nothing is seen.
            arrays["buckets"] = buckets(places.shape[1], self.relative)
        return arrays

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights.scope("embeddings."), inputs)
        if self.embedding_size != self.hidden_size:
            x = ops.linear(x, weights.linear("embeddings_project", self.embedding_size, self.hidden_size))
        bias, mask = self._bias(ops, weights, inputs), self.attention_mask(inputs)
        for number in range(self.layers):
            x = self._layer(ops, weights.scope(self.names.layer.format(number) + "."), x, mask, bias)
        return x

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        size = self.embedding_size
        positions = weights.tensor("position_embeddings.weight", (self.table, size))
        x = ops.embed(weights.table("word_embeddings", self.vocab_size, size), inputs["ids"])
        types = weights.tensor("token_type_embeddings.weight", (self.types, size)) if self.types else None
        if types is not None and "types" in inputs:
            x = ops.add(x, ops.rows(types, inputs["types"]))
        elif types is not None:
            # All inputs are of type 0, so its row joins the positions before anything runs.
            positions = positions + types[0]
        x = ops.add(x, ops.rows(positions, inputs["positions"]))
        return ops.layer_norm(x, weights.norm("LayerNorm", size), self.eps)

    def _layer(self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T], bias: T | None) -> T:
        names, size = self.names, self.hidden_size
        q, k, v = (
            ops.split(ops.linear(x, weights.linear(name, size, size)), self.heads)
            for name in (names.query, names.key, names.value)
        )
        a = ops.attention(q, k, v, mask, bias=bias)
        a = ops.linear(a, weights.linear(names.out, size, size))
        x = ops.layer_norm(ops.add(x, a), weights.norm(names.attention_norm, size), self.eps)
        h = ops.activation(ops.linear(x, weights.linear(names.up, size, self.intermediate_size)), self.act)
        h = ops.linear(h, weights.linear(names.down, self.intermediate_size, size))
        return ops.layer_norm(ops.add(x, h), weights.norm(names.output_norm, size), self.eps)

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        top, names = weights.top, self.names
        size = self.embedding_size
        dense = top.linear(names.vocabulary_dense, self.hidden_size, size)
        x = ops.activation(ops.linear(x, dense), self.act if self.kind != "electra" else "gelu")
        x = ops.layer_norm(x, top.norm(names.vocabulary_norm, size), self.eps)
        table = names.vocabulary_table
        # Where the last layer is tied to the word embeddings, files may leave it out.
        shape = (self.vocab_size, size)
        weight = (
            top.tensor(f"{table}.weight", shape)
            if f"{table}.weight" in top.names()
            else weights.tensor("embeddings.word_embeddings.weight", shape)
        )
        # Files with both mean the layer's own: where it is tied, they are equal.
        bias = next((name for name in (f"{table}.bias", names.vocabulary_bias) if name in top.names()), f"{table}.bias")
        return x, Linear(weight, top.tensor(bias, (self.vocab_size,)))

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        size, top = self.hidden_size, weights.top
        if self.kind == "bert":
            x = ops.activation(ops.linear(x, weights.linear("pooler.dense", size, size)), "tanh")
            return ops.linear(x, top.linear("classifier", size, count))
        if self.kind == "distilbert":
            x = ops.activation(ops.linear(x, top.linear("pre_classifier", size, size)), "relu")
            return ops.linear(x, top.linear("classifier", size, count))
        x = ops.linear(x, top.linear("classifier.dense", size, size))
        x = ops.activation(x, "gelu" if self.kind == "electra" else "tanh")
        return ops.linear(x, top.linear("classifier.out_proj", size, count))

    def _bias(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T | None:
        """Look up MPNet's relative biases: [L, L] buckets to [1, heads, L, L]."""
        if not self.relative:
            return None
        table = weights.tensor("encoder.relative_attention_bias.weight", (self.relative, self.heads))
        return ops.expand(ops.move_last_first(ops.rows(table, inputs["buckets"])), 0)


def buckets(length: int, count: int, farthest: int = 128) -> Array:
    """Return T5's bidirectional relative-position buckets, int32 [L, L]: half a side, exact near, logarithmic far."""
    distance = np.arange(length)[None] - np.arange(length)[:, None]
    half = count // 2
    exact = half // 2
    apart = np.abs(distance)
    # In float32 and in this order, as T5 does: at powers of two the truncation falls either way.
    ratio = np.log(np.maximum(apart, 1).astype(np.float32) / exact) / np.float32(math.log(farthest / exact))
    far = exact + (ratio * np.float32(half - exact)).astype(np.int32)
    bucket = np.where(apart < exact, apart, np.minimum(far, half - 1))
    return np.asarray(bucket + np.where(distance > 0, half, 0), np.int32)


def size_of(config: JsonObject, name: str) -> int:
    """Return a size of config.json, which must be a positive integer."""
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelRefused(f"config.json: {name} must be a positive integer, not {value!r}.")
    return value


def _pad(config: JsonObject, kind: str) -> int:
    """Return the padding id that positions count from; MPNet's is 1, whatever its config says."""
    number = 1 if kind == "mpnet" else int(config.get("pad_token_id", 1))
    if number < 0:
        raise ModelRefused(f"config.json: positions count from pad_token_id, which must not be negative: {number}.")
    return number


def _activation(config: JsonObject, name: str) -> str:
    stored = config.get(name, "gelu")
    if stored not in ACTIVATIONS:
        raise ModelRefused(f"config.json: {name} {stored!r} is not known here. Known: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[stored]


def _refuse_variants(config: JsonObject, hidden: int, heads: int) -> None:
    if hidden % heads:
        raise ModelRefused(f"config.json: hidden size {hidden} cannot be split among {heads} heads.")
    kind = config.get("position_embedding_type", "absolute")
    if kind not in (None, "absolute"):
        raise ModelRefused(
            f"config.json: position_embedding_type {kind!r} belongs to another architecture than "
            f"{config['model_type']!r}; read as absolute positions its vectors would be wrong."
        )
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise ModelRefused("config.json: is_decoder/add_cross_attention make this a decoder, not an encoder.")
