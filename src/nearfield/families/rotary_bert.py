"""BERT with rotary positions: NomicBERT (and its mixture of experts), Alibaba's GTE, and Jina's v3, in every layout.

Post-norm encoders whose positions are turns of queries and keys (Nussbaum et al. 2024, arXiv:2402.01613, and 2025,
arXiv:2502.07972, for the experts; Zhang et al. 2024, arXiv:2407.19669; Sturua et al. 2024, arXiv:2409.10173). The
original checkpoints fuse layers and name them otherwise than transformers does: ``Layout`` says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Lora, Weights
from nearfield.errors import ModelRefused, WeightsError
from nearfield.families import Family, SplitWeights
from nearfield.families.bert import ACTIVATIONS, size_of
from nearfield.families.rotary import Rotary
from nearfield.ops import AttentionMask, Ops, T


@dataclass(frozen=True)
class WeightLayout:
    """Where a checkpoint keeps the parts of a layer. ``qkv`` and ``gate_up`` are one name where they are fused."""

    layer: str
    qkv: tuple[str, ...]
    out: str
    attention_norm: str
    output_norm: str
    embedding_norm: str = "embeddings.LayerNorm"
    #: Gate, up and down of a gated feed-forward, or up and down of a plain one.
    gated: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    plain: tuple[str, str] = ("mlp.fc1", "mlp.fc2")


LAYOUTS = (
    WeightLayout(
        "layers.{}.",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.o_proj",
        "post_attention_layernorm",
        "post_mlp_layernorm",
    ),
    WeightLayout(
        "encoder.layers.{}.",
        ("attn.Wqkv",),
        "attn.out_proj",
        "norm1",
        "norm2",
        "emb_ln",
        gated=("mlp.fc12", "mlp.fc11", "mlp.fc2"),
    ),
    WeightLayout("encoder.layers.{}.", ("mixer.Wqkv",), "mixer.out_proj", "norm1", "norm2", "emb_ln"),
    WeightLayout(
        "encoder.layer.{}.",
        ("attention.qkv_proj",),
        "attention.o_proj",
        "attn_ln",
        "mlp_ln",
        gated=("mlp.up_gate_proj", "mlp.down_proj"),
    ),
)

#: Names that the original NomicBERT config has for transformers' own.
OLDER = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
}
#: Settings of that config, each with the only value that is known here.
FIXED: Mapping[str, tuple[Any, ...]] = {
    "prenorm": (False, None),
    "rotary_emb_fraction": (1.0, 1, None),
    "rotary_emb_interleaved": (False, None),
    "rotary_emb_scale_base": (None,),
    "rotary_head_dim": (False, None),
    "expert_choice_router": (False, None),
    "use_rms_norm": (False, None),
    "causal": (False, None),
    "parallel_block": (False, None),
    "num_shared_experts": (0, None),
    "moe_normalize_expert_weights": (False, None),
    "pack_qkv": (True, None),
    "logn_attention_scale": (False, None),
    "logn_attention_clip1": (False, None),
    "layer_norm_type": ("layer_norm", None),
}

#: Nomic's names of activations: all but the last gate. Its code takes GELU's approximations for the exact function, so
#: that a checkpoint which names an approximation was trained with the exact function all the same.
OWN_ACTIVATIONS: Mapping[str, str] = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid", "gelu": "gelu"}


class RotaryBert(Family):
    """One class for the tribe; subclasses read what their configs call things."""

    inputs = ("ids", "segments", "rope.cos", "rope.sin")
    weight_prefixes = ("new.", "gte.", "nomic_bert.", "roberta.", "jina_embeddings_v3.", "model.", "bert.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)position_ids$",
        r"inv_freq$",
        r"(^|\.)pooler\.",
        r"^(lm_head|classifier|cls|score|token_classifier)\.",
    )
    theta = 10_000.0
    qkv_bias = True
    gate_bias = False
    down_bias = True
    gated = True

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "hidden_size")
        self.heads = size_of(config, "num_attention_heads")
        self.layers = size_of(config, "num_hidden_layers")
        self.intermediate_size = size_of(config, "intermediate_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.types = int(config.get("type_vocab_size", 0))
        self.eps = float(config.get("layer_norm_eps", 1e-12))
        self.act = _activation(config)
        self.experts = 0
        if self.hidden_size % self.heads:
            raise ModelRefused(f"config.json: {self.hidden_size} cannot be split among {self.heads} heads.")
        self.rotary = Rotary.from_config(config, self.hidden_size // self.heads, self.theta)

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"rope.cos": self.rotary.size, "rope.sin": self.rotary.size}

    def host_inputs(self, places: Array) -> dict[str, Array]:
        cos, sin = self.rotary.angles(places)
        return {"rope.cos": cos, "rope.sin": sin}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        layout, mask = _layout(weights), self.attention_mask(inputs)
        x = self._embed(ops, weights, inputs, layout)
        for number in range(self.layers):
            own = weights.scope(layout.layer.format(number))
            a = self._attention(ops, own, x, inputs, mask, layout)
            x = self._norm(ops, own, ops.add(x, a), layout.attention_norm)
            feed = self._add_experts if self._has_experts(number) else self._add_feed
            x = self._norm(ops, own, feed(ops, own, x, layout), layout.output_norm)
        return x

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T], layout: WeightLayout) -> T:
        size = self.hidden_size
        x = ops.embed(weights.table("embeddings.word_embeddings", self.vocab_size, size), inputs["ids"])
        if self.types:
            types = weights.table("embeddings.token_type_embeddings", self.types, size)
            # Zeros of the right shape, where a head reads no types: an adapter may change even this row.
            ids = inputs["types"] if "types" in inputs else ops.multiply(inputs["segments"], ops.constant(_ZERO))
            x = ops.add(x, ops.embed(types, ids))
        return self._norm(ops, weights, x, layout.embedding_norm)

    def _attention(
        self,
        ops: Ops[T],
        weights: Weights,
        x: T,
        inputs: Mapping[str, T],
        mask: AttentionMask[T],
        layout: WeightLayout,
    ) -> T:
        size = self.hidden_size
        if len(layout.qkv) == 1:
            parts = weights.linear(layout.qkv[0], size, 3 * size, self.qkv_bias).parts(3)
        else:
            parts = tuple(weights.linear(name, size, size, self.qkv_bias) for name in layout.qkv)
        q, k, v = (ops.split(ops.linear(x, part), self.heads) for part in parts)
        q, k = (ops.rope(y, inputs["rope.cos"], inputs["rope.sin"]) for y in (q, k))
        return ops.linear(ops.attention(q, k, v, mask), weights.linear(layout.out, size, size, self.qkv_bias))

    def _add_feed(self, ops: Ops[T], weights: Weights, x: T, layout: WeightLayout) -> T:
        return ops.add(x, self._feed(ops, weights, x, layout))

    def _feed(self, ops: Ops[T], weights: Weights, x: T, layout: WeightLayout) -> T:
        size, inner = self.hidden_size, self.intermediate_size
        down = weights.linear(layout.gated[-1] if self.gated else layout.plain[1], inner, size, self.down_bias)
        if not self.gated:
            up = weights.linear(layout.plain[0], size, inner, self.gate_bias)
            return ops.linear(ops.activation(ops.linear(x, up), self.act), down)
        if len(layout.gated) == 2:
            up, gate = weights.linear(layout.gated[0], size, 2 * inner, self.gate_bias).parts(2)
        else:
            gate, up = (weights.linear(name, size, inner, self.gate_bias) for name in layout.gated[:2])
        return ops.linear(ops.multiply(ops.activation(ops.linear(x, gate), self.act), ops.linear(x, up)), down)

    def _has_experts(self, number: int) -> bool:
        return False

    def _add_experts(self, ops: Ops[T], weights: Weights, x: T, layout: WeightLayout) -> T:
        raise ModelRefused("This architecture has no experts.")

    def _norm(self, ops: Ops[T], weights: Weights, x: T, name: str) -> T:
        return ops.layer_norm(x, weights.norm(name, self.hidden_size), self.eps)


class Gte(RotaryBert):
    """Alibaba's ``new`` (its own code) and transformers' ``gte``: gated, with biases but in gate and up."""

    replaces_remote_code = True
    theta = 160_000.0

    def __init__(self, config: JsonObject) -> None:
        older = config.get("model_type") == "new"
        super().__init__({**config, "rope_theta": config.get("rope_theta", 10_000.0)} if older else config)
        for name, known in (("position_embedding_type", "rope"), ("layer_norm_type", "layer_norm")):
            if config.get(name, known) != known:
                raise ModelRefused(f"config.json: {name} is {config[name]!r}; only {known!r} is known here.")
        if config.get("logn_attention_scale") or config.get("logn_attention_clip1"):
            raise ModelRefused("config.json: logn_attention_scale is not known here.")

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        top, size = weights.top, self.hidden_size
        norm = "lm_head.layer_norm" if "lm_head.layer_norm.weight" in top.names() else "lm_head.norm"
        x = self._norm(ops, top, ops.activation(ops.linear(x, top.linear("lm_head.dense", size, size)), "gelu"), norm)
        shape = (self.vocab_size, size)
        # Tied to the embeddings, the last layer's weight may be left out.
        weight = (
            top.tensor("lm_head.decoder.weight", shape)
            if "lm_head.decoder.weight" in top.names()
            else weights.tensor("embeddings.word_embeddings.weight", shape)
        )
        return x, Linear(weight, top.tensor("lm_head.decoder.bias", (self.vocab_size,)))

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        return _classes(ops, weights, x, count, self.hidden_size)


class Nomic(RotaryBert):
    """NomicBERT by Nomic's config or transformers': gated without biases, or (v2) plain, every other layer experts."""

    replaces_remote_code = True
    theta = 1000.0
    qkv_bias = False
    down_bias = False

    def __init__(self, config: JsonObject) -> None:
        for name, known in FIXED.items():
            if config.get(name, known[0]) not in known:
                raise ModelRefused(f"config.json: {name} is {config[name]!r}, which is not known for NomicBERT here.")
        super().__init__(self._original(config) if "n_embd" in config else config)
        self.experts = int(config.get("num_experts") or 0)
        self.chosen = int(config.get("moe_top_k") or 2)
        self.every = int(config.get("moe_every_n_layers") or 0) if self.experts else 0
        if self.experts and self.gated:
            raise ModelRefused("config.json: num_experts with a gated activation_function is not known here.")

    def _original(self, config: JsonObject) -> dict[str, Any]:
        """Read Nomic's own config into the names of transformers'."""
        name = str(config.get("activation_function"))
        if name not in OWN_ACTIVATIONS:
            known = ", ".join(OWN_ACTIVATIONS)
            raise ModelRefused(f"config.json: activation_function {name!r} is not known here. Known: {known}.")
        merged = {**config, **{new: config[old] for new, old in OLDER.items() if old in config}}
        # transformers' fields may exist beside Nomic's with values of another model; Nomic's code reads Nomic's.
        merged.update(rope_parameters=None, rope_scaling=None, rope_theta=config.get("rotary_emb_base", self.theta))
        # Beyond what it was trained on the model extrapolates, unless its positions are rescaled, which up to there
        # changes nothing: a ``rotary_scaling_factor`` is thus never used.
        positions = config.get("n_positions", 2048)
        merged["max_position_embeddings"] = config.get("max_trained_positions") or min(2048, positions)
        merged["hidden_act"], self.gated = OWN_ACTIVATIONS[name], name != "gelu"
        self.qkv_bias = bool(config.get("qkv_proj_bias", False))
        self.gate_bias = bool(config.get("mlp_fc1_bias", False))
        self.down_bias = bool(config.get("mlp_fc2_bias", False))
        return merged

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        head, size, shape = weights.top.scope("cls.predictions."), self.hidden_size, (self.vocab_size, self.hidden_size)
        names = head.names()
        x = ops.linear(x, head.linear("transform.dense", size, size, "transform.dense.bias" in names))
        # A sigmoid gates, and transforms nothing: Nomic's head has GELU there.
        x = ops.activation(x, "gelu" if self.act == "sigmoid" else self.act)
        x = self._norm(ops, head, x, "transform.layer_norm")
        # Tied to the embeddings, the last layer's weight may be left out.
        tied = "decoder.weight" not in names
        weight = (
            weights.tensor("embeddings.word_embeddings.weight", shape) if tied else head.tensor("decoder.weight", shape)
        )
        bias = next((name for name in ("decoder.bias", "bias") if name in names), None)
        return x, Linear(weight, head.tensor(bias, shape[:1]) if bias else None)

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        return _classes(ops, weights, x, count, self.hidden_size)

    def _has_experts(self, number: int) -> bool:
        return bool(self.every) and number % self.every == 1

    def _add_experts(self, ops: Ops[T], weights: Weights, x: T, layout: WeightLayout) -> T:
        """Add what experts say, weighed by the router's largest probabilities; each reads the tokens that chose it."""
        size, own = self.hidden_size, weights.scope("mlp.")
        router = own.linear("router.layer", size, self.experts, bias=False)
        chances = ops.top(ops.softmax(ops.linear(x, router)), self.chosen)
        tokens, total = ops.reshape(x, size), ops.add(x, ops.constant(own.tensor("experts.bias", (size,))))
        ups, downs = (self._expert_matrices(own, name) for name in ("w1", "w2"))
        for up, down, pick in zip(ups, downs, np.eye(self.experts, dtype=np.float32), strict=True):
            chance = ops.reshape(ops.affine(chances, pick[None], None), 1)
            chosen = ops.nonzero(chance)
            h = self._expert(ops, ops.gather(tokens, chosen), up, down)
            total = ops.add_rows(total, chosen, ops.multiply(h, ops.gather(chance, chosen)))
        return total

    def _expert(self, ops: Ops[T], x: T, up: Array, down: Array) -> T:
        return ops.affine(ops.activation(ops.affine(x, up, None), self.act), np.ascontiguousarray(down.T), None)

    def _expert_matrices(self, weights: Weights, name: str) -> list[Array]:
        shape = (self.experts * self.intermediate_size, self.hidden_size)
        return np.split(weights.tensor(f"experts.mlp.{name}", shape), self.experts)


class JinaV3(RotaryBert):
    """jina-embeddings-v3: XLM-R's vocabulary, a plain feed-forward, and five tasks' adapters among its weights."""

    replaces_remote_code = True
    theta = 20_000.0
    gated = False
    gate_bias = True
    # The tasks' factors are read as adapters, beside the weights that they change.
    unused_weights = (*RotaryBert.unused_weights, r"\.parametrizations\.weight\.0\.lora_[AB]$")

    def __init__(self, config: JsonObject) -> None:
        settings = {**config, "rope_theta": config.get("rotary_emb_base", config.get("rope_theta", self.theta))}
        original = config.get("model_type") == "xlm-roberta"
        super().__init__(settings)
        if original:
            # Its length is that of XLM-R's table of positions, which begins behind the padding id.
            self.positions -= 2
        self.names = tuple(config.get("lora_adaptations") or ()) if original else ()
        self.scale = float(config.get("lora_alpha", 1)) / float(config.get("lora_rank", 4) or 4)

    def split_adapters(self, weights: Weights) -> SplitWeights:
        if not any(".parametrizations." in name for name in weights.top.names()):
            return SplitWeights(weights)
        if not self.names:
            raise WeightsError("The weights hold adapters (parametrizations), and config.json does not name them.")
        renamed = weights.renamed(lambda name: name.replace(".parametrizations.weight.original", ".weight"))
        return SplitWeights(renamed, self.names, lambda layer: self._task_factors(renamed.top, layer))

    def _task_factors(self, weights: Weights, layer: str) -> Lora | None:
        """Stack the five tasks' factors of a layer: linear ones are B A, those of embeddings A B."""
        stem = f"{layer}.parametrizations.weight.0.lora_"
        if f"{stem}A" not in weights.names():
            return None
        first, second = (weights.tensor(f"{stem}{side}", weights.shape(f"{stem}{side}")) for side in "AB")
        if "embeddings" in layer:
            # [tasks, rows, rank] and [tasks, rank, size]
            downs, ups = first.transpose(0, 2, 1), second.transpose(0, 2, 1)
        else:
            downs, ups = first, second
        tasks, rank = downs.shape[:2]
        up = np.concatenate(list(ups), 1) * np.float32(self.scale)
        owners = np.repeat(np.arange(1, tasks + 1), rank)
        return Lora(np.ascontiguousarray(downs.reshape(tasks * rank, -1)), up, owners, tasks)


_ZERO = np.array([0], np.int32)


def _classes(ops: Ops[T], weights: Weights, x: T, count: int, size: int) -> T:
    x = ops.activation(ops.linear(x, weights.linear("pooler.dense", size, size)), "tanh")
    return ops.linear(x, weights.top.linear("classifier", size, count))


def _layout(weights: Weights) -> WeightLayout:
    names = weights.names()
    for layout in LAYOUTS:
        if f"{layout.layer.format(0)}{layout.out}.weight" in names:
            return layout
    raise WeightsError("The weights are in none of the layouts that are known for a BERT with rotary positions.")


def _activation(config: JsonObject) -> str:
    stored = config.get("hidden_act", "gelu")
    if stored not in (*ACTIVATIONS, "sigmoid"):
        raise ModelRefused(f"config.json: hidden_act {stored!r} is not known here. Known: {', '.join(ACTIVATIONS)}.")
    return str(ACTIVATIONS.get(stored, stored))
