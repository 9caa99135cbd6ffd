"""Text towers of CLIP (causal) and of SigLIP (bidirectional): pre-norm blocks over word and position tables.

Radford et al. 2021, arXiv:2103.00020; Zhai et al. 2023, arXiv:2303.15343.
"""

from __future__ import annotations

from collections.abc import Mapping

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.families.towers.prenorm import CLIP_BLOCKS, PrenormBlocks, known_activation, refuse_odd_heads
from nearfield.ops import Ops, T


class TextTower(Family):
    """One class for both kinds; ``model_type`` and ``is_causal`` say which tokens a token sees."""

    weight_prefixes = ("text_model.", "")
    unused_weights = (
        r"(^|\.)position_ids$",
        r"^vision_model\.",
        r"^(text|visual)_projection\.",
        r"^logit_(scale|bias)$",
        r"^(text_model\.)?head\.",
    )

    def __init__(self, config: JsonObject) -> None:
        clip = config["model_type"] == "clip_text_model"
        self.causal = bool(config.get("is_causal", clip))
        self.hidden_size = size_of(config, "hidden_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")
        self.eps = float(config.get("layer_norm_eps", 1e-5 if clip else 1e-6))
        self.blocks = PrenormBlocks(
            names=CLIP_BLOCKS,
            layers=size_of(config, "num_hidden_layers"),
            size=self.hidden_size,
            heads=size_of(config, "num_attention_heads"),
            intermediate_size=size_of(config, "intermediate_size"),
            activation=known_activation(config),
            eps=self.eps,
        )
        refuse_odd_heads(self.hidden_size, self.blocks.heads)
        if self.causal:
            self.inputs = (*Family.inputs, "places")

    def host_inputs(self, places: Array) -> dict[str, Array]:
        return {"positions": places, "places": places}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        tables, size = weights.scope("embeddings."), self.hidden_size
        x = ops.embed(tables.table("token_embedding", self.vocab_size, size), inputs["ids"])
        positions = tables.tensor("position_embedding.weight", (self.positions, size))
        x = ops.add(x, ops.rows(positions, inputs["positions"]))
        mask = self.attention_mask(inputs, None, 0 if self.causal else None)
        x = self.blocks.run(ops, weights, x, mask)
        return ops.layer_norm(x, weights.norm("final_layer_norm", size), self.eps)
