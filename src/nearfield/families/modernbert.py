"""ModernBERT: pre-norm, rotary positions, gated feed-forward, attention bounded in two of three layers.

Warner et al. 2024, arXiv:2412.13663. The model has no token types and no positions but those of attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import ACTIVATIONS, size_of
from nearfield.families.fused import MEDIA_INPUTS, check_rows, put_rows
from nearfield.families.rotary import Rotary
from nearfield.ops import AttentionMask, Ops, T

SLIDING = "sliding_attention"


class ModernBert(Family):
    """The one configuration family of this architecture."""

    inputs: tuple[str, ...] = ("ids", "segments", "places", "rope.cos", "rope.sin", "rope.local.cos", "rope.local.sin")
    weight_prefixes: ClassVar[tuple[str, ...]] = ("model.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (r"^(head|decoder|classifier)\.",)

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "hidden_size")
        self.heads = size_of(config, "num_attention_heads")
        self.intermediate_size = size_of(config, "intermediate_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.kinds = _kinds(config)
        self.reach = int(config.get("local_attention", 128)) // 2
        self.eps = float(config.get("norm_eps", 1e-5))
        self.norm_bias = bool(config.get("norm_bias", False))
        self.attention_bias = bool(config.get("attention_bias", False))
        self.mlp_bias = bool(config.get("mlp_bias", False))
        self.decoder_bias = bool(config.get("decoder_bias", True))
        self.head_bias = bool(config.get("classifier_bias", False))
        self.act = _activation(config, "hidden_activation")
        self.head_act = _activation(config, "classifier_activation")
        self.class_pooling = str(config.get("classifier_pooling", "cls"))
        if self.hidden_size % self.heads or self.class_pooling not in ("cls", "mean"):
            raise ModelRefused(
                f"config.json: hidden_size {self.hidden_size}, num_attention_heads {self.heads} and classifier_pooling "
                f"{self.class_pooling!r} do not make a ModernBERT."
            )
        head = self.hidden_size // self.heads
        self.rotary = _rotary(config, head, "full_attention", "global_rope_theta", 160_000.0)
        self.local = _rotary(config, head, SLIDING, "local_rope_theta", 10_000.0)

    @property
    def sizes(self) -> Mapping[str, int]:
        sizes = {name: self.rotary.size for name in self.inputs if name.startswith("rope.")}
        return {**sizes, "media": self.hidden_size} if "media" in self.inputs else sizes

    def host_inputs(self, places: Array) -> dict[str, Array]:
        cos, sin = self.rotary.angles(places)
        near_cos, near_sin = self.local.angles(places)
        return {
            "places": places,
            "rope.cos": cos,
            "rope.sin": sin,
            "rope.local.cos": near_cos,
            "rope.local.sin": near_sin,
        }

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = ops.embed(weights.table("embeddings.tok_embeddings", self.vocab_size, self.hidden_size), inputs["ids"])
        x = self._norm(ops, weights, put_rows(ops, x, inputs), "embeddings.norm")
        masks = {
            "full_attention": self.attention_mask(inputs),
            SLIDING: self.attention_mask(inputs, self.reach, self.reach),
        }
        for number, kind in enumerate(self.kinds):
            own = weights.scope(f"layers.{number}.")
            # The embeddings come out of a norm: the first layer's own is left out.
            y = self._norm(ops, own, x, "attn_norm") if number else x
            x = ops.add(x, self._attention(ops, own.scope("attn."), y, inputs, kind, masks[kind]))
            x = ops.add(x, self._feed(ops, own.scope("mlp."), self._norm(ops, own, x, "mlp_norm")))
        return self._norm(ops, weights, x, "final_norm")

    def _attention(
        self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T], kind: str, mask: AttentionMask[T]
    ) -> T:
        size = self.hidden_size
        fused = weights.linear("Wqkv", size, 3 * size, self.attention_bias)
        q, k, v = (ops.split(ops.linear(x, part), self.heads) for part in fused.parts(3))
        rope = "rope.local" if kind == SLIDING else "rope"
        q, k = (ops.rope(y, inputs[f"{rope}.cos"], inputs[f"{rope}.sin"]) for y in (q, k))
        return ops.linear(ops.attention(q, k, v, mask), weights.linear("Wo", size, size, self.attention_bias))

    def _feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        inner, size = self.intermediate_size, self.hidden_size
        gate, up = weights.linear("Wi", size, 2 * inner, self.mlp_bias).parts(2)
        h = ops.multiply(ops.activation(ops.linear(x, gate), self.act), ops.linear(x, up))
        return ops.linear(h, weights.linear("Wo", inner, size, self.mlp_bias))

    def _norm(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.layer_norm(x, weights.norm(name, self.hidden_size, self.norm_bias), self.eps)

    def _head(self, ops: Ops[T], weights: Weights, x: T) -> T:
        dense = weights.linear("head.dense", self.hidden_size, self.hidden_size, self.head_bias)
        return self._norm(ops, weights, ops.activation(ops.linear(x, dense), self.head_act), "head.norm")

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        top, shape = weights.top, (self.vocab_size, self.hidden_size)
        # Tied to the embeddings, the last layer's weight may be left out.
        weight = (
            top.tensor("decoder.weight", shape)
            if "decoder.weight" in top.names()
            else weights.tensor("embeddings.tok_embeddings.weight", shape)
        )
        bias = top.tensor("decoder.bias", (self.vocab_size,)) if self.decoder_bias else None
        return self._head(ops, top, x), Linear(weight, bias)

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        x = self._head(ops, weights.top, x)
        return ops.linear(x, weights.top.linear("classifier", self.hidden_size, count))


class ModernVBertText(ModernBert):
    """The part of ModernVBERT that reads tokens, and the rows of its vision tower."""

    weight_prefixes: ClassVar[tuple[str, ...]] = ("vlm.text_model.", "model.text_model.", "text_model.")
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)(vision_model|connector|projection_head|lm_head|classifier)\.",
        r"^(embedding_proj_layer|custom_text_proj)\.",
    )

    def fuse(self, towers: Mapping[str, Family]) -> None:
        check_rows(towers, self.hidden_size)
        self.inputs += MEDIA_INPUTS


def _kinds(config: JsonObject) -> tuple[str, ...]:
    """Each layer's kind of attention: listed, or all but every third bounded."""
    listed = config.get("layer_types")
    if listed:
        return tuple(str(kind) for kind in listed)
    every = int(config.get("global_attn_every_n_layers", 3))
    layers = size_of(config, "num_hidden_layers")
    return tuple(SLIDING if number % every else "full_attention" for number in range(layers))


def _rotary(config: JsonObject, size: int, kind: str, older: str, theta: float) -> Rotary:
    parameters = config.get("rope_parameters")
    known = {"rope_parameters": parameters} if parameters else {"rope_scaling": config.get("rope_scaling")}
    return Rotary.from_config(known, size, float(config.get(older) or theta), kind)


def _activation(config: JsonObject, name: str) -> str:
    stored = config.get(name, "gelu")
    if stored not in ACTIVATIONS:
        raise ModelRefused(f"config.json: {name} {stored!r} is not known here. Known: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[stored]
