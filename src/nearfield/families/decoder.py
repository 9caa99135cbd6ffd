"""Decoders as encoders: Llama, Mistral, Qwen2, Qwen3, Gemma 1 and Gemma 3, by a table of flags.

Pre-norm transformer with rotary positions and grouped queries (Touvron et al. 2023, arXiv:2302.13971; Jiang et al.
2023, arXiv:2310.06825; Gemma team 2024, arXiv:2403.08295, and 2025, arXiv:2503.19786). Causal unless the config says
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Norm, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import ACTIVATIONS, size_of
from nearfield.families.fused import MEDIA_INPUTS, check_rows, deep_rows, put_rows
from nearfield.families.rotary import Rotary
from nearfield.ops import AttentionMask, Ops, T

#: Where a layer's attention is bounded.
SLIDING = "sliding_attention"


@dataclass(frozen=True)
class Flags:
    """What a kind of decoder does otherwise than Llama."""

    qkv_bias: bool = False
    #: Norms of each query and key head.
    head_norms: bool = False
    #: Norms that scale by 1 + weight, and embeddings times sqrt(H).
    gemma: bool = False
    #: Norms after attention and feed-forward too, and a second base of rotary positions where attention is bounded.
    sandwich: bool = False
    activation: str = "hidden_act"
    #: Whether the config has a switch for its sliding window, which is off unless set.
    switched_window: bool = False


FLAGS = {
    "llama": Flags(),
    "mistral": Flags(),
    "qwen2": Flags(qkv_bias=True, switched_window=True),
    "qwen3": Flags(head_norms=True, switched_window=True),
    # Rotary positions of Qwen-VL are triples of time, row and column, which are one number for a text.
    "qwen2_vl_text": Flags(qkv_bias=True, switched_window=True),
    "qwen2_5_vl_text": Flags(qkv_bias=True, switched_window=True),
    "qwen3_vl_text": Flags(head_norms=True),
    "paligemma_text": Flags(gemma=True, activation="hidden_activation"),
    "gemma3_text": Flags(head_norms=True, gemma=True, sandwich=True, activation="hidden_activation"),
}


class Decoder(Family):
    """One class for the tribe; ``model_type`` picks the flags."""

    weight_prefixes: ClassVar[tuple[str, ...]] = ("model.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (r"(^|\.)rotary_emb\.inv_freq$", r"^lm_head\.", r"^score\.")
    class_pooling = "lasttoken"
    #: Layers after which a further vector of a tower's row is added to the state at its place.
    deep_layers: int = 0

    def __init__(self, config: JsonObject) -> None:
        self.flags = FLAGS[str(config["model_type"])]
        self.hidden_size = size_of(config, "hidden_size")
        self.heads = size_of(config, "num_attention_heads")
        self.shared = int(config.get("num_key_value_heads") or self.heads)
        self.head = int(config.get("head_dim") or self.hidden_size // self.heads)
        self.intermediate_size = size_of(config, "intermediate_size")
        self.layers = size_of(config, "num_hidden_layers")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.eps = float(config.get("rms_norm_eps", 1e-6))
        self.bias = bool(config.get("attention_bias", False))
        self.mlp_bias = bool(config.get("mlp_bias", False))
        self.tied = bool(config.get("tie_word_embeddings", self.flags.gemma))
        self.act = known_activation(config, self.flags.activation)
        self.causal = config.get("is_causal") is not False and not config.get("use_bidirectional_attention")
        self.scale = float(config["query_pre_attn_scalar"]) ** -0.5 if self.flags.sandwich else None
        self.kinds, self.window = _windows(config, self.flags, self.layers, self.causal)
        self.rotary, self.local = self._rotaries(config)
        self.inputs = ("ids", "segments", "places", "rope.cos", "rope.sin")
        if self.local is not None:
            self.inputs += ("rope.local.cos", "rope.local.sin")
        _refuse_variants(config, self.heads, self.shared)

    def _rotaries(self, config: JsonObject) -> tuple[Rotary, Rotary | None]:
        """Return the rotary positions of full layers and, for Gemma 3, of sliding-window layers: their base differs."""
        if not self.flags.sandwich:
            return Rotary.from_config(config, self.head), None
        theta = float(config.get("rope_local_base_freq") or 10_000.0)
        parameters = config.get("rope_parameters")
        bounded = {"rope_parameters": parameters} if parameters else {"rope_theta": theta}
        return (
            Rotary.from_config(config, self.head, 1_000_000.0, "full_attention"),
            Rotary.from_config(bounded, self.head, theta, SLIDING),
        )

    @property
    def sizes(self) -> Mapping[str, int]:
        sizes = {name: self.head for name in self.inputs if name.startswith("rope.")}
        return {**sizes, "media": self.hidden_size} if "media" in self.inputs else sizes

    def host_inputs(self, places: Array) -> dict[str, Array]:
        cos, sin = self.rotary.angles(places)
        arrays = {"places": places, "rope.cos": cos, "rope.sin": sin}
        if self.local is not None:
            arrays["rope.local.cos"], arrays["rope.local.sin"] = self.local.angles(places)
        return arrays

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = ops.embed(weights.table("embed_tokens", self.vocab_size, self.hidden_size), inputs["ids"])
        if self.flags.gemma:
            x = ops.multiply(x, ops.constant(np.array([self.hidden_size**0.5], np.float32)))
        x = put_rows(ops, x, inputs)
        masks = {kind: self._mask(inputs, kind) for kind in dict.fromkeys(self.kinds)}
        for number, kind in enumerate(self.kinds):
            x = self._layer(ops, weights.scope(f"layers.{number}."), x, inputs, kind, masks[kind])
            if number < self.deep_layers:
                x = ops.add(x, deep_rows(ops, inputs, number + 1))
        return ops.rms_norm(x, self._norm(weights, "norm"), self.eps)

    def _mask(self, inputs: Mapping[str, T], kind: str) -> AttentionMask[T]:
        after = 0 if self.causal else None
        if kind != SLIDING:
            return self.attention_mask(inputs, None, after)
        return self.attention_mask(inputs, self.window, 0 if self.causal else self.window)

    def _layer(
        self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T], kind: str, mask: AttentionMask[T]
    ) -> T:
        a = self._attention(ops, weights, self._normed(ops, weights, x, "input_layernorm"), inputs, kind, mask)
        if not self.flags.sandwich:
            x = ops.add(x, a)
            return ops.add(x, self._feed(ops, weights, self._normed(ops, weights, x, "post_attention_layernorm")))
        x = ops.add(x, self._normed(ops, weights, a, "post_attention_layernorm"))
        h = self._feed(ops, weights, self._normed(ops, weights, x, "pre_feedforward_layernorm"))
        return ops.add(x, self._normed(ops, weights, h, "post_feedforward_layernorm"))

    def _attention(
        self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T], kind: str, mask: AttentionMask[T]
    ) -> T:
        weights = weights.scope("self_attn.")
        bias = self.flags.qkv_bias or self.bias
        q, k, v = (
            ops.split(ops.linear(x, weights.linear(f"{name}_proj", self.hidden_size, heads * self.head, bias)), heads)
            for name, heads in (("q", self.heads), ("k", self.shared), ("v", self.shared))
        )
        if self.flags.head_norms:
            q, k = (
                ops.rms_norm(y, self._norm(weights, f"{name}_norm", self.head), self.eps)
                for name, y in zip("qk", (q, k), strict=True)
            )
        rope = "rope.local" if kind == SLIDING and self.local is not None else "rope"
        q, k = (ops.rope(y, inputs[f"{rope}.cos"], inputs[f"{rope}.sin"]) for y in (q, k))
        out = weights.linear("o_proj", self.heads * self.head, self.hidden_size, self.bias)
        return ops.linear(ops.attention(q, k, v, mask, scale=self.scale), out)

    def _feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        inner, size = self.intermediate_size, self.hidden_size
        gate, up = (weights.linear(f"mlp.{name}_proj", size, inner, self.mlp_bias) for name in ("gate", "up"))
        h = ops.multiply(ops.activation(ops.linear(x, gate), self.act), ops.linear(x, up))
        return ops.linear(h, weights.linear("mlp.down_proj", inner, size, self.mlp_bias))

    def _normed(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.rms_norm(x, self._norm(weights, name), self.eps)

    def _norm(self, weights: Weights, name: str, size: int | None = None) -> Norm:
        norm = weights.norm(name, size or self.hidden_size, bias=False)
        return Norm(norm.weight + 1, None) if self.flags.gemma else norm

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        shape = (self.vocab_size, self.hidden_size)
        # Where the last layer is tied to the embeddings, files leave it out.
        if "lm_head.weight" in weights.top.names():
            return x, Linear(weights.top.tensor("lm_head.weight", shape), None)
        if not self.tied:
            raise ModelRefused("The language model's last layer is missing (lm_head.weight), and is not tied.")
        return x, Linear(weights.tensor("embed_tokens.weight", shape), None)

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        return ops.linear(x, weights.top.linear("score", self.hidden_size, count, bias=False))


class PaliGemmaText(Decoder):
    """The part of PaliGemma that reads tokens, Gemma, and the rows of its vision tower (arXiv:2407.07726)."""

    weight_prefixes = (
        *("vlm.model.language_model.", "vlm.language_model.model.", "vlm.language_model."),
        *("model.model.language_model.", "model.language_model.model.", "model.language_model."),
        *("language_model.model.", "language_model."),
    )
    unused_weights = (
        *Decoder.unused_weights,
        r"(^|\.)(vision_tower|multi_modal_projector|lm_head)\.",
        r"^(embedding_proj_layer|custom_text_proj)\.",
    )

    def fuse(self, towers: Mapping[str, Family]) -> None:
        check_rows(towers, self.hidden_size)
        self.inputs += MEDIA_INPUTS


def known_activation(config: JsonObject, name: str) -> str:
    """Return the activation that a field of config.json names, as ``ops`` calls it; any unknown one is refused."""
    stored = config.get(name) or config.get("hidden_act") or ("gelu_pytorch_tanh" if name != "hidden_act" else "silu")
    if stored not in ACTIVATIONS:
        raise ModelRefused(f"config.json: {name} {stored!r} is not known here. Known: {', '.join(ACTIVATIONS)}.")
    # Gemma's first configs say gelu, and mean its approximation.
    return ACTIVATIONS[
        "gelu_pytorch_tanh" if stored == "gelu" and config.get("model_type") == "paligemma_text" else stored
    ]


def _windows(config: JsonObject, flags: Flags, layers: int, causal: bool) -> tuple[tuple[str, ...], int]:
    """Return each layer's kind of attention, and how many places back a bounded one sees."""
    width = config.get("sliding_window")
    if flags.switched_window and not config.get("use_sliding_window"):
        width = None
    if not width:
        return ("full_attention",) * layers, 0
    kinds = config.get("layer_types")
    if flags.sandwich:
        every = int(config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6)
        kinds = kinds or [SLIDING if (number + 1) % every else "full_attention" for number in range(layers)]
        # EmbeddingGemma's width counts both sides.
        return tuple(kinds), int(width) - 1 if causal else int(width) // 2
    if not causal:
        raise ModelRefused("config.json: a sliding window without causal attention is not known for this architecture.")
    first = int(config.get("max_window_layers", 0)) if flags.switched_window else 0
    kinds = kinds or [SLIDING if number >= first else "full_attention" for number in range(layers)]
    return tuple(kinds), int(width) - 1


def _refuse_variants(config: JsonObject, heads: int, shared: int) -> None:
    if heads % shared:
        raise ModelRefused(f"config.json: {heads} query heads cannot share {shared} key heads evenly.")
    for name in ("attn_logit_softcapping", "num_experts", "num_local_experts"):
        if config.get(name):
            raise ModelRefused(f"config.json: {name} is {config[name]!r}, which is not known for this architecture.")
    partial = config.get("partial_rotary_factor") or (config.get("rope_parameters") or {}).get("partial_rotary_factor")
    if partial not in (None, 1, 1.0):
        raise ModelRefused(f"config.json: partial_rotary_factor {partial!r} is not known for this architecture.")
