"""EmbeddingGemma 2 after its towers: blocks like Gemma's, each with an input from the embeddings of words and media.

All tokens see each other, in most layers within a window. What a layer adds beside attention and feed-forward is gated
by a projection of the token's embedding, one for each layer. Sizes of heads differ between full and bounded layers.
The equations are those of transformers' ``EmbeddingGemma2TextModel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family, fused
from nearfield.families.bert import size_of
from nearfield.families.decoder import SLIDING, known_activation
from nearfield.families.rotary import Rotary
from nearfield.families.towers.linear_layers import PlainLinears
from nearfield.families.towers.sandwich import SandwichBlock
from nearfield.features import Features
from nearfield.ops import Ops, T


@dataclass(frozen=True)
class LayerHeads:
    """Attention of one kind of layer: how many heads its keys have, and the size of all heads."""

    shared: int
    size: int


class EmbeddingGemma2(Family):
    """The text part of EmbeddingGemma 2. ``hidden_size`` is that of its output, ``width`` that of its layers."""

    weight_prefixes = ("language_model.", "model.language_model.", "model.", "")
    unused_weights = (r"(^|\.)(vision_tower|embed_vision|audio_tower|embed_audio)\.", r"(^|\.)(rotary_emb|embed_scale)")
    inputs: tuple[str, ...] = ("ids", "segments", "places", "rope.cos", "rope.sin", "rope.local.cos", "rope.local.sin")

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "embedding_dim")
        self.width = size_of(config, "hidden_size")
        self.heads = size_of(config, "num_attention_heads")
        self.intermediate_size = size_of(config, "intermediate_size")
        self.layer_input = size_of(config, "hidden_size_per_layer_input")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.eps = float(config.get("rms_norm_eps", 1e-6))
        self.bias = bool(config.get("attention_bias", False))
        self.act = known_activation(config, "hidden_activation")
        self.kinds = _layer_kinds(config)
        # The width counts one side: a token sees as many places before it as after it.
        self.window = size_of(config, "sliding_window")
        self.layer_heads = _layer_heads(config, self.kinds, self.heads)
        stated = [config.get(f"{name}_token_id") for name in ("image", "audio", "video")]
        self.placeholders = [number for number in stated if number is not None]
        self.padding = int(config.get("pad_token_id") or 0)
        self.rotary = Rotary.from_config(config, self._head_size(full=True), 1_000_000.0, "full_attention")
        self.local = Rotary.from_config(config, self._head_size(full=False), 10_000.0, SLIDING)

    def _head_size(self, *, full: bool) -> int:
        sizes = {
            heads.size for kind, heads in zip(self.kinds, self.layer_heads, strict=True) if (kind != SLIDING) == full
        }
        if len(sizes) > 1:
            raise ModelRefused(f"config.json: layers of one kind have heads of several sizes: {sorted(sizes)}.")
        return sizes.pop() if sizes else 2

    def fuse(self, towers: Mapping[str, Family]) -> None:
        if (slots := fused.check_rows(towers, self.width)) != 1:
            raise ModelRefused(f"EmbeddingGemma 2 reads one vector a row, and its towers give {slots}.")
        self.inputs = (*type(self).inputs, *fused.MEDIA_INPUTS)

    @property
    def sizes(self) -> Mapping[str, int]:
        full, local = self.rotary.size, self.local.size
        return {
            "media": self.width,
            "rope.cos": full,
            "rope.sin": full,
            "rope.local.cos": local,
            "rope.local.sin": local,
        }

    def host_inputs(self, places: Array) -> dict[str, Array]:
        cos, sin = self.rotary.angles(places)
        local_cos, local_sin = self.local.angles(places)
        local = {"rope.local.cos": local_cos, "rope.local.sin": local_sin}
        return {"places": places, "rope.cos": cos, "rope.sin": sin, **local}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        """Return the arrays of an input. A placeholder of media is read as padding, wherever a text has it."""
        arrays = features.arrays()
        ids = arrays["ids"]
        return {**arrays, "ids": np.where(np.isin(ids, self.placeholders), np.int32(self.padding), ids)}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        words = ops.embed(weights.table("embed_tokens", self.vocab_size, self.width), inputs["ids"])
        x = fused.put_rows(ops, self._scaled(ops, words, self.width**0.5), inputs)
        unscaled = self._scaled(ops, x, self.width**-0.5) if "media" in inputs else words
        gates = self._layer_inputs(ops, weights.scope("ple."), unscaled)
        full = (self.attention_mask(inputs), (inputs["rope.cos"], inputs["rope.sin"]))
        local = (
            self.attention_mask(inputs, self.window, self.window),
            (inputs["rope.local.cos"], inputs["rope.local.sin"]),
        )
        for number, kind in enumerate(self.kinds):
            layer, block = weights.scope(f"layers.{number}."), self._block(self.layer_heads[number])
            x = block.attend(ops, layer, x, *(local if kind == SLIDING else full))
            x = block.feed(ops, layer, x)
            x = self._mix(ops, layer, x, gates[number])
        x = self._normed(ops, weights, x, "norm")
        return ops.linear(x, weights.linear("embedding_projection", self.width, self.hidden_size, False))

    @staticmethod
    def _scaled(ops: Ops[T], x: T, factor: float) -> T:
        return ops.multiply(x, ops.constant(np.array([factor], np.float32)))

    def _layer_inputs(self, ops: Ops[T], weights: Weights, words: T) -> list[T]:
        """Return the input of each layer [B, L, P].

        The reference projects the scaled embeddings and divides by their scale: unscaled ones give the same. Rows of
        towers, which it does not scale, are divided too.
        """
        size, norm = self.layer_input, weights.norm("per_layer_projection_norm", self.layer_input, bias=False)
        whole = weights.linear("per_layer_model_projection", self.width, len(self.kinds) * size, False)
        return [ops.rms_norm(ops.linear(words, part), norm, self.eps) for part in whole.parts(len(self.kinds))]

    def _block(self, heads: LayerHeads) -> SandwichBlock:
        return SandwichBlock(
            width=self.width,
            heads=self.heads,
            shared=heads.shared,
            head_size=heads.size,
            intermediate_size=self.intermediate_size,
            activation=self.act,
            eps=self.eps,
            layers=PlainLinears(self.bias),
        )

    def _mix(self, ops: Ops[T], weights: Weights, x: T, layer_input: T) -> T:
        """Add the layer's input, gated by the state, and scale the sum."""
        own = weights.scope("ple_block.")
        gate = own.linear("per_layer_input_gate", self.width, self.layer_input, False)
        y = ops.multiply(ops.activation(ops.linear(x, gate), self.act), layer_input)
        y = ops.linear(y, own.linear("per_layer_projection", self.layer_input, self.width, False))
        y = ops.add(x, self._normed(ops, own, y, "post_per_layer_input_norm"))
        scale = np.asarray(weights.tensor("layer_scalar", (1,)), np.float32)
        return ops.multiply(y, ops.constant(scale))

    def _normed(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.rms_norm(x, weights.norm(name, self.width, bias=False), self.eps)


def _layer_kinds(config: JsonObject) -> tuple[str, ...]:
    layers = size_of(config, "num_hidden_layers")
    kinds = config.get("layer_types") or [
        "full_attention" if (number + 1) % 6 == 0 or number == layers - 1 else SLIDING for number in range(layers)
    ]
    if len(kinds) != layers or not set(kinds) <= {SLIDING, "full_attention"}:
        raise ModelRefused(f"config.json: layer_types {kinds!r} do not say what each of {layers} layers attends to.")
    return tuple(kinds)


def _layer_heads(config: JsonObject, kinds: tuple[str, ...], heads: int) -> tuple[LayerHeads, ...]:
    """Return the heads of each layer: ``per_layer_config`` overrules the config, by the layer's number."""
    stated = config.get("per_layer_config")
    if stated is None:
        shared = config.get("num_global_key_value_heads", 1)
        full = {"head_dim": config.get("global_head_dim", 512), "num_key_value_heads": shared}
        stated = {str(number): full for number, kind in enumerate(kinds) if kind != SLIDING}
    layers = []
    for number in range(len(kinds)):
        own = {**config, **(stated.get(str(number)) or {})}
        layers.append(LayerHeads(size_of(own, "num_key_value_heads"), size_of(own, "head_dim")))
    if any(heads % layer.shared for layer in layers):
        raise ModelRefused(f"config.json: {heads} query heads cannot share their keys evenly in all layers.")
    return tuple(layers)
