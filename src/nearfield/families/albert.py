"""ALBERT: BERT with small embeddings, and one set of weights for many layers (Lan et al. 2020, arXiv:1909.11942)."""

from __future__ import annotations

from collections.abc import Mapping

from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import ACTIVATIONS, size_of
from nearfield.ops import AttentionMask, Ops, T


class Albert(Family):
    """Groups of layers, each repeated."""

    weight_prefixes = ("albert.", "")
    unused_weights = (
        r"(^|\.)position_ids$",
        r"(^|\.)pooler\.",
        r"^(predictions|classifier|sop_classifier|qa_outputs)\.",
    )

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "hidden_size")
        self.embedding_size = size_of(config, "embedding_size")
        self.heads = size_of(config, "num_attention_heads")
        self.layers = size_of(config, "num_hidden_layers")
        self.groups = int(config.get("num_hidden_groups", 1))
        self.inner = int(config.get("inner_group_num", 1))
        self.intermediate_size = size_of(config, "intermediate_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.types = int(config.get("type_vocab_size", 2))
        self.eps = float(config.get("layer_norm_eps", 1e-12))
        stored = config.get("hidden_act", "gelu_new")
        if stored not in ACTIVATIONS:
            raise ModelRefused(
                f"config.json: hidden_act {stored!r} is not known here. Known: {', '.join(ACTIVATIONS)}."
            )
        self.act = ACTIVATIONS[stored]
        if self.hidden_size % self.heads or self.layers % self.groups:
            raise ModelRefused(
                f"config.json: hidden_size {self.hidden_size}, {self.heads} heads, {self.layers} layers in "
                f"{self.groups} groups do not go together."
            )

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights.scope("embeddings."), inputs)
        encoder, mask = weights.scope("encoder."), self.attention_mask(inputs)
        x = ops.linear(x, encoder.linear("embedding_hidden_mapping_in", self.embedding_size, self.hidden_size))
        for number in range(self.layers):
            group = encoder.scope(f"albert_layer_groups.{number * self.groups // self.layers}.")
            for inner in range(self.inner):
                x = self._layer(ops, group.scope(f"albert_layers.{inner}."), x, mask)
        return x

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        size = self.embedding_size
        x = ops.embed(weights.table("word_embeddings", self.vocab_size, size), inputs["ids"])
        types = weights.tensor("token_type_embeddings.weight", (self.types, size))
        x = ops.add(x, ops.rows(types, inputs["types"]) if "types" in inputs else ops.constant(types[0]))
        positions = weights.tensor("position_embeddings.weight", (self.positions, size))
        x = ops.add(x, ops.rows(positions, inputs["positions"]))
        return ops.layer_norm(x, weights.norm("LayerNorm", size), self.eps)

    def _layer(self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T]) -> T:
        size, own = self.hidden_size, weights.scope("attention.")
        q, k, v = (
            ops.split(ops.linear(x, own.linear(name, size, size)), self.heads) for name in ("query", "key", "value")
        )
        a = ops.linear(ops.attention(q, k, v, mask), own.linear("dense", size, size))
        x = ops.layer_norm(ops.add(x, a), own.norm("LayerNorm", size), self.eps)
        h = ops.activation(ops.linear(x, weights.linear("ffn", size, self.intermediate_size)), self.act)
        h = ops.linear(h, weights.linear("ffn_output", self.intermediate_size, size))
        return ops.layer_norm(ops.add(x, h), weights.norm("full_layer_layer_norm", size), self.eps)

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        own, size = weights.top.scope("predictions."), self.embedding_size
        x = ops.activation(ops.linear(x, own.linear("dense", self.hidden_size, size)), self.act)
        x = ops.layer_norm(x, own.norm("LayerNorm", size), self.eps)
        # Where the last layer is tied to the word embeddings, files may leave it out; where it is not, its own counts.
        shape, names = (self.vocab_size, size), own.names()
        weight = (
            own.tensor("decoder.weight", shape)
            if "decoder.weight" in names
            else weights.tensor("embeddings.word_embeddings.weight", shape)
        )
        bias = "decoder.bias" if "decoder.bias" in names else "bias"
        return x, Linear(weight, own.tensor(bias, (self.vocab_size,)))

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        size = self.hidden_size
        x = ops.activation(ops.linear(x, weights.linear("pooler", size, size)), "tanh")
        return ops.linear(x, weights.top.linear("classifier", size, count))
