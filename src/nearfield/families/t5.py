"""T5's encoder, as in sentence-T5, GTR and Instructor (Raffel et al. 2020, arXiv:1910.10683).

Pre-norm without biases, relative position buckets shared by all layers, and attention that is not scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import ACTIVATIONS, buckets, size_of
from nearfield.ops import AttentionMask, Ops, T

#: Buckets of rows up to this length are cached, 1 MiB each at most; for longer rows attention costs far more.
CACHED_LENGTH = 512


class T5(Family):
    """The encoder half; the decoder's weights stay unread."""

    inputs = ("ids", "segments", "buckets")
    unused_weights = (
        r"^decoder\.",
        r"^lm_head\.",
        r"^(shared|encoder\.embed_tokens)\.weight$",  # one table under two names, of which one is read
    )

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "d_model")
        self.heads = size_of(config, "num_heads")
        self.inner = self.heads * size_of(config, "d_kv")
        self.intermediate_size = size_of(config, "d_ff")
        self.layers = size_of(config, "num_layers")
        self.vocab_size = size_of(config, "vocab_size")
        #: Its positions are relative: nothing but time and memory sets a limit.
        self.positions = 1_000_000
        self.count = int(config.get("relative_attention_num_buckets", 32))
        self.farthest = int(config.get("relative_attention_max_distance", 128))
        self.eps = float(config.get("layer_norm_epsilon", 1e-6))
        self.gated, self.act = _activation(config)

    def host_inputs(self, places: Array) -> dict[str, Array]:
        length = places.shape[1]
        compute = _cached_buckets if length <= CACHED_LENGTH else buckets
        return {"buckets": compute(length, self.count, self.farthest)}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        table = "shared" if "shared.weight" in weights.names() else "encoder.embed_tokens"
        x = ops.embed(weights.table(table, self.vocab_size, self.hidden_size), inputs["ids"])
        blocks = weights.scope("encoder.block.")
        near = blocks.tensor("0.layer.0.SelfAttention.relative_attention_bias.weight", (self.count, self.heads))
        bias = ops.expand(ops.move_last_first(ops.rows(near, inputs["buckets"])), 0)
        mask = self.attention_mask(inputs)
        for number in range(self.layers):
            own = blocks.scope(f"{number}.layer.")
            x = ops.add(x, self._attention(ops, own.scope("0."), x, mask, bias))
            x = ops.add(x, self._feed(ops, own.scope("1."), x))
        return self._norm(ops, weights.scope("encoder."), x, "final_layer_norm")

    def _attention(self, ops: Ops[T], weights: Weights, x: T, mask: AttentionMask[T], bias: T) -> T:
        x, own = self._norm(ops, weights, x, "layer_norm"), weights.scope("SelfAttention.")
        q, k, v = (
            ops.split(ops.linear(x, own.linear(name, self.hidden_size, self.inner, bias=False)), self.heads)
            for name in "qkv"
        )
        a = ops.attention(q, k, v, mask, bias=bias, scale=1.0)
        return ops.linear(a, own.linear("o", self.inner, self.hidden_size, bias=False))

    def _feed(self, ops: Ops[T], weights: Weights, x: T) -> T:
        x, own = self._norm(ops, weights, x, "layer_norm"), weights.scope("DenseReluDense.")
        size, inner = self.hidden_size, self.intermediate_size
        first = own.linear("wi_0" if self.gated else "wi", size, inner, bias=False)
        h = ops.activation(ops.linear(x, first), self.act)
        if self.gated:
            h = ops.multiply(h, ops.linear(x, own.linear("wi_1", size, inner, bias=False)))
        return ops.linear(h, own.linear("wo", inner, size, bias=False))

    def _norm(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.rms_norm(x, weights.norm(name, self.hidden_size, bias=False), self.eps)


@lru_cache(maxsize=64)
def _cached_buckets(length: int, count: int, farthest: int) -> Array:
    return buckets(length, count, farthest)


def _activation(config: JsonObject) -> tuple[bool, str]:
    """``gated-gelu`` means tanh's GELU; the other names are plain."""
    stored = str(config.get("feed_forward_proj", "relu"))
    gated, _, name = stored.rpartition("-")
    if gated not in ("", "gated") or name not in ACTIVATIONS:
        raise ModelRefused(f"config.json: feed_forward_proj {stored!r} is not known here.")
    return bool(gated), "gelu_tanh" if stored == "gated-gelu" else ACTIVATIONS[name]
