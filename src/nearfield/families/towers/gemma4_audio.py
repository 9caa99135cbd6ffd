"""Gemma 4's tower of sounds, as EmbeddingGemma 2 has it: a conformer over mel frames, a row for each 40 ms.

Two convolutions of stride 2 join frames. Blocks have attention to the last half second, and a convolution in time,
between two halves of a feed-forward (Gulati et al. 2020, arXiv:2005.08100; Zhang et al. 2023, arXiv:2303.01037). The
equations are those of transformers' ``Gemma4AudioModel``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Norm, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.families.decoder import known_activation
from nearfield.families.towers.linear_layers import ClippableLinears, LayerShape
from nearfield.ops import AttentionMask, Ops, T

#: Keys are multiplied by this, and queries divided by the logarithm of 2: trained models rely on both.
_KEY_SCALE = math.log(1 + math.e) / math.log(2)
#: Longest convolution in time, for which `nearfield.ops` has inputs.
MAX_KERNEL = 9
#: Period of the slowest sine of the relative positions.
_SLOWEST = 10_000.0


@dataclass(frozen=True)
class Subsampling:
    """Two convolutions, 3 x 3 with stride 2, over frames of ``bins`` values; see `features.FrameLayout`."""

    bins: int
    channels: tuple[int, int]
    width: int
    eps: float

    def run(self, ops: Ops[T], weights: Weights, patches: T) -> T:
        """Return [tokens of the batch, H] of ``patches`` [B, L, P]: what the first convolution reads for each token."""
        first, second = self.channels
        columns = self.bins // 2 + 1
        x = ops.reshape(patches, 3 * columns, 9)
        x = self._convolve(ops, weights.scope("layer0"), x, (first, 1))
        x = ops.reshape(ops.take(x, self._neighbours(columns)), self.bins // 4, 9 * first)
        x = ops.reshape(self._convolve(ops, weights.scope("layer1"), x, (second, first)), self.bins // 4 * second)
        return ops.linear(x, weights.linear("input_proj_linear", self.bins // 4 * second, self.width, False))

    def _convolve(self, ops: Ops[T], weights: Weights, x: T, channels: tuple[int, int]) -> T:
        """Return what a convolution gives where its inputs stand side by side, normed. Zeros stay zeros: no bias."""
        kernel = weights.tensor("conv.weight", (*channels, 3, 3)).transpose(0, 2, 3, 1)
        x = ops.affine(x, np.ascontiguousarray(kernel).reshape(channels[0], -1), None)
        return ops.activation(ops.layer_norm(x, weights.norm("norm", channels[0], bias=False), self.eps), "relu")

    def _neighbours(self, columns: int) -> Array:
        """Return which outputs of the first convolution each output of the second reads: frame by frame, then bins."""
        bins, frames, beside = np.ogrid[: self.bins // 4, :3, :3]
        return (frames * columns + 2 * bins + beside).ravel().astype(np.int32)


class Gemma4Audio(Family):
    """The tower. ``hidden_size`` is that of the text part, whose words the rows join; ``width`` that of the layers."""

    weight_prefixes = ("audio_tower.", "model.audio_tower.")
    unused_weights = (r"(^|\.)(language_model|vision_tower|embed_vision)\.",)

    def __init__(self, config: JsonObject) -> None:
        self.width = size_of(config, "hidden_size")
        self.hidden_size = size_of(config, "text_hidden_size")
        self.vocab_size = 0
        self.positions = 1 << 20
        self.layers = size_of(config, "num_hidden_layers")
        self.heads = size_of(config, "num_attention_heads")
        self.outputs = size_of(config, "output_proj_dims")
        self.kernel = size_of(config, "conv_kernel_size")
        self.act = known_activation(config, "hidden_act")
        self.residual = float(config.get("residual_weight", 0.5))
        self.limit = float(config.get("gradient_clipping", 1e10))
        self.cap = float(config.get("attention_logit_cap", 50.0))
        self.eps = float(config.get("rms_norm_eps", 1e-6))
        self.past = _past(config)
        self.linears = ClippableLinears(bool(config.get("use_clipped_linears", True)))
        self.subsampling = _subsampling(config, self.width, self.eps)
        # What the second convolution reads is the largest.
        self.states_per_row = -(-self.subsampling.bins // 4 * 9 * self.subsampling.channels[0] // self.width)
        if self.width % (2 * self.heads):
            raise ModelRefused(f"audio_config: hidden_size {self.width} cannot be split among {self.heads} heads.")
        if not 2 <= self.kernel <= MAX_KERNEL:
            raise ModelRefused(
                f"audio_config: conv_kernel_size {self.kernel} is not known here: 2 to {MAX_KERNEL} are."
            )
        shifts = tuple(f"before.{number}" for number in range(1, self.kernel))
        self.inputs = ("patches", "segments", "places", "positions", "buckets", *shifts, "before.seen")

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"patches": 27 * (self.subsampling.bins // 2 + 1), "before.seen": self.kernel - 1}

    def host_inputs(self, places: Array) -> dict[str, Array]:
        """Return where each token lies in the batch, and the tokens before it; ``buckets`` are distances."""
        flat = np.arange(places.size, dtype=np.int32).reshape(places.shape)
        column = np.arange(places.shape[1])
        steps = np.arange(1, self.kernel)
        before = np.where(places[..., None] >= steps, flat[..., None] - steps, flat[..., None]).astype(np.int32)
        return {
            "places": places,
            "positions": flat,
            "buckets": np.clip(column[:, None] - column, 0, self.past).astype(np.int32),
            "before.seen": (places[..., None] >= steps).astype(np.float32),
            **{f"before.{step}": np.ascontiguousarray(before[..., step - 1]) for step in steps.tolist()},
        }

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        flat = self.subsampling.run(ops, weights.scope("subsample_conv_projection"), inputs["patches"])
        x = ops.gather(flat, inputs["positions"])
        mask = self.attention_mask(inputs, self.past - 1, 0)
        for number in range(self.layers):
            own = weights.scope(f"layers.{number}.")
            x = self._feed(ops, own.scope("feed_forward1"), x)
            x = self._attend(ops, own, x, mask, inputs["buckets"])
            x = self._convolve(ops, own.scope("lconv1d"), x, inputs)
            x = self._feed(ops, own.scope("feed_forward2"), x)
            x = self._normed(ops, own, self._limited(ops, x), "norm_out")
        x = ops.linear(x, weights.linear("output_proj", self.width, self.outputs))
        x = ops.rms_norm(ops.reshape(x, self.outputs), Norm(np.ones(self.outputs, np.float32), None), self.eps)
        beside = weights.top.scope(f"{weights.prefix.removesuffix('audio_tower.')}embed_audio")
        return ops.linear(x, beside.linear("embedding_projection", self.outputs, self.hidden_size, False))

    def _feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        inner = 4 * self.width
        y = self._normed(ops, weights, self._limited(ops, x), "pre_layer_norm")
        y = self.linears.apply(ops, weights, "ffw_layer_1", y, LayerShape(self.width, inner))
        y = self.linears.apply(ops, weights, "ffw_layer_2", ops.activation(y, self.act), LayerShape(inner, self.width))
        y = self._normed(ops, weights, self._limited(ops, y), "post_layer_norm")
        return ops.add(x, ops.multiply(y, ops.constant(np.array([self.residual], np.float32))))

    def _attend(self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T], distances: T) -> T:
        own, head = weights.scope("self_attn."), self.width // self.heads
        y = self._normed(ops, weights, self._limited(ops, x), "norm_pre_attn")
        q, k, v = (
            self.linears.apply(ops, own, f"{name}_proj", y, LayerShape(self.width, self.width)) for name in "qkv"
        )
        stored = np.asarray(own.tensor("per_dim_scale", (head,)), np.float64)
        scale = np.tile(np.logaddexp(0, stored) * head**-0.5 / math.log(2), self.heads)
        q = ops.split(ops.multiply(q, ops.constant(scale.astype(np.float32))), self.heads)
        bias = ops.relative(q, self._relative(own), distances)
        k, v = ops.split(k, self.heads), ops.split(v, self.heads)
        y = ops.attention(q, k, v, mask, bias=bias, scale=_KEY_SCALE, cap=self.cap)
        y = self.linears.apply(ops, own, "post", y, LayerShape(self.width, self.width))
        return ops.add(x, self._normed(ops, weights, self._limited(ops, y), "norm_post_attn"))

    def _relative(self, weights: Weights) -> Array:
        """Return the keys of distances 0, 1, ..., float32 [distances, heads, D]: a layer of sines and cosines."""
        half = self.width // 2
        speeds = np.exp(-np.arange(half) * (math.log(_SLOWEST) / max(half - 1, 1)))
        angles = np.arange(self.past + 1)[:, None] * speeds
        waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        layer = weights.linear("relative_k_proj", self.width, self.width, False)
        return np.ascontiguousarray(waves @ layer.weight.T, np.float32).reshape(self.past + 1, self.heads, -1)

    def _convolve(self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T]) -> T:
        size = self.width
        y = self._normed(ops, weights, x, "pre_layer_norm")
        gated, gate = (
            self.linears.apply(ops, weights, "linear_start", y, LayerShape(size, 2 * size, half + np.arange(size)))
            for half in (0, size)
        )
        y = self._in_time(ops, weights, ops.multiply(gated, ops.activation(gate, "sigmoid")), inputs)
        y = ops.activation(self._normed(ops, weights, self._limited(ops, y), "conv_norm"), self.act)
        return ops.add(x, self.linears.apply(ops, weights, "linear_end", y, LayerShape(size, size)))

    def _in_time(self, ops: Ops[T], weights: Weights, x: T, inputs: Mapping[str, T]) -> T:
        """Convolve each feature with those of the tokens before it."""
        kernel = weights.tensor("depthwise_conv1d.weight", (self.width, 1, self.kernel))[:, 0]
        flat = ops.reshape(x, self.width)
        y = ops.multiply(x, ops.constant(np.ascontiguousarray(kernel[:, -1])))
        for step in range(1, self.kernel):
            one = np.eye(self.kernel - 1, dtype=np.float32)[step - 1 : step]
            seen = ops.multiply(
                ops.gather(flat, inputs[f"before.{step}"]), ops.affine(inputs["before.seen"], one, None)
            )
            y = ops.add(y, ops.multiply(seen, ops.constant(np.ascontiguousarray(kernel[:, -1 - step]))))
        return y

    def _limited(self, ops: Ops[T], x: T) -> T:
        return ops.clip(x, -self.limit, self.limit)

    def _normed(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.rms_norm(x, weights.norm(name, self.width, bias=False), self.eps)


def _past(config: JsonObject) -> int:
    """Return the largest distance that has a key; one less is seen. Other proportions of chunk and context are refused.

    The reference counts positions from the middle of a chunk and its context, which is where the distance is zero only
    if the context is as long as the chunk.
    """
    chunk, left = size_of(config, "attention_chunk_size"), size_of(config, "attention_context_left")
    right = config.get("attention_context_right", 0)
    if right != 0 or chunk != left - 1:
        raise ModelRefused(
            f"audio_config: attention_chunk_size {chunk}, attention_context_left {left} and attention_context_right "
            f"{right!r} are not known here: a left context is one more than the chunk, and a right one is 0."
        )
    return chunk


def _subsampling(config: JsonObject, width: int, eps: float) -> Subsampling:
    channels = config.get("subsampling_conv_channels")
    if not isinstance(channels, (list, tuple)) or len(channels) != 2:
        raise ModelRefused(f"audio_config: subsampling_conv_channels must be two numbers, not {channels!r}.")
    first, second = (size_of({"subsampling_conv_channels": size}, "subsampling_conv_channels") for size in channels)
    # As many bins as the first convolution has channels: the reference has no other field for them.
    if first % 4:
        raise ModelRefused(f"audio_config: {first} mel bins (subsampling_conv_channels) are no multiple of 4.")
    return Subsampling(first, (first, second), width, eps)
