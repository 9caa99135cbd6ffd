"""Vision transformers: the image towers of CLIP, SigLIP and their kin, and DINO, distinguished by a table of flags.

Patches are rows of numbers, so that the patch embedding is a linear layer (Dosovitskiy et al. 2020, arXiv:2010.11929).
Slots of the class token and of register tokens are rows of zeros before the patches (`nearfield.features.PatchLayout`):
their vectors join the position table. CLIP: Radford et al. 2021, arXiv:2103.00020; SigLIP: Zhai et al. 2023,
arXiv:2303.15343; SigLIP 2: Tschannen et al. 2025, arXiv:2502.14786; DINOv2: Oquab et al. 2023, arXiv:2304.07193;
registers: Darcet et al. 2023, arXiv:2309.16588; DINOv3: Siméoni et al. 2025, arXiv:2508.10104.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import InputError, ModelRefused
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.families.towers.position_tables import resized, triangle_weights
from nearfield.families.towers.prenorm import CLIP_BLOCKS, BlockNames, PrenormBlocks, known_activation, refuse_odd_heads
from nearfield.features import Features, PatchFeatures, PatchLayout
from nearfield.ops import Ops, T


@dataclass(frozen=True)
class VisionFlags:
    """What a kind of vision transformer has, and where its checkpoint keeps it. Empty names are parts that it lacks.

    ``flexible`` is SigLIP 2's NaFlex: pictures of any grid, and patches whose channels come last.
    """

    blocks: BlockNames = CLIP_BLOCKS
    patch: str = "patch_embedding"
    patch_bias: bool = True
    class_token: str = ""
    registers: str = ""
    positions: str = "position_embedding.weight"
    first_norm: str = ""
    last_norm: str = "post_layernorm"
    flexible: bool = False


_DINO_BLOCKS = BlockNames(
    layer="encoder.layer.{}",
    query="attention.attention.query",
    key="attention.attention.key",
    value="attention.attention.value",
    out="attention.output.dense",
    attention_norm="norm1",
    attention_scale="layer_scale1.lambda1",
    feed_norm="norm2",
    feed_scale="layer_scale2.lambda1",
)
_CLIP = VisionFlags(patch_bias=False, class_token="class_embedding", first_norm="pre_layrnorm")
_DINO = VisionFlags(
    blocks=_DINO_BLOCKS,
    patch="patch_embeddings.projection",
    class_token="cls_token",
    positions="position_embeddings",
    last_norm="layernorm",
)
FLAGS = {
    "clip_vision_model": _CLIP,
    "chinese_clip_vision_model": _CLIP,
    "altclip_vision_model": _CLIP,
    "siglip_vision_model": VisionFlags(),
    "modernvbert_vision": VisionFlags(),
    "paligemma_vision": VisionFlags(),
    "siglip2_vision_model": VisionFlags(flexible=True),
    "dinov2": _DINO,
    "dinov2_with_registers": replace(_DINO, registers="register_tokens"),
    "nomic_vision": VisionFlags(patch="proj", class_token="cls_token", positions="pos_embed", last_norm=""),
    "dinov3_vit": replace(_DINO, patch="patch_embeddings", registers="register_tokens", last_norm="norm"),
}


class VisionTransformer(Family):
    """One class for the tribe; ``model_type`` sets the flags.

    ``input_size`` of the config, rows and columns in pixels, is what the folder's processor gives; the config's own
    ``image_size`` counts where it is absent. ``patch``, ``lead`` and ``channels_last`` are those of the `PatchLayout`
    of its pictures.
    """

    inputs: tuple[str, ...] = ("patches", "segments", "positions")
    weight_prefixes: ClassVar[tuple[str, ...]] = ("vision_model.", "dinov2.", "dinov2_with_registers.", "")
    unused_weights: ClassVar[tuple[str, ...]] = (
        r"(^|\.)position_ids$",
        r"^text_model\.",
        r"^(text|visual)_projection\.",
        r"^logit_(scale|bias)$",
        r"^(vision_model\.)?head\.",
        r"(^|\.)mask_token$",
        r"^classifier\.",
    )

    def __init__(self, config: JsonObject) -> None:
        kind = str(config["model_type"])
        self.flags = FLAGS[kind]
        #: That of the blocks; ``hidden_size`` differs from it in towers that project their states to rows.
        self.width = self.hidden_size = size_of(config, "hidden_size")
        self.vocab_size = 0
        self.patch = size_of(config, "patch_size")
        self.channels_last = self.flags.flexible
        self.registers = int(config["num_register_tokens"]) if self.flags.registers else 0
        self.lead = bool(self.flags.class_token) + self.registers
        self.patch_layout = PatchLayout(self.patch, self.channels_last, self.lead)
        self.eps = float(config.get("layer_norm_eps", 1e-6))
        self.blocks = self._blocks(config)
        _refuse_variants(config, self.hidden_size, self.blocks.heads)
        if self.flags.flexible:
            self.table = size_of(config, "num_patches")
            self.inputs = ("patches", "segments", "positions.weights")
            # The processor bounds the number of patches, and nothing else does.
            self.positions = 1_000_000
            return
        # Where the folder's processor does not always give the same size, pictures may have other grids.
        self.fixed_length = config.get("input_size") is not None
        self.packable = not self.fixed_length
        if self.fixed_length:
            self.inputs = tuple(name for name in self.inputs if name != "segments")
        trained = _edge(config, "image_size") // self.patch
        self.table = trained * trained
        self.grid = self._grid(config, trained)
        self.positions = self.lead + self.grid[0] * self.grid[1]

    def _blocks(self, config: JsonObject) -> PrenormBlocks:
        names, inner = self.flags.blocks, config.get("intermediate_size")
        activation = known_activation(config)
        if self.flags.class_token == "cls_token":
            inner = int(self.hidden_size * config.get("mlp_ratio", 4))
            if config.get("use_swiglu_ffn"):
                names = replace(names, up="mlp.weights_in", down="mlp.weights_out", fused=True)
                inner, activation = (int(inner * 2 / 3) + 7) // 8 * 8, "silu"
        return PrenormBlocks(
            names=names,
            layers=size_of(config, "num_hidden_layers"),
            size=self.hidden_size,
            heads=size_of(config, "num_attention_heads"),
            intermediate_size=size_of({"intermediate_size": inner}, "intermediate_size"),
            activation=activation,
            eps=self.eps,
            biases=(bool(config.get("qkv_bias", True)),) * 3,
        )

    def _grid(self, config: JsonObject, trained: int) -> tuple[int, int]:
        """Return the rows and columns of patches of every picture."""
        size = config.get("input_size")
        if size is None:
            return trained, trained
        rows, columns = (int(side) // self.patch for side in size)
        if (rows, columns) != (trained, trained) and self.flags.class_token != "cls_token":
            raise ModelRefused(
                f"The processor gives pictures of {size[0]} x {size[1]} pixels, and the model's positions are those of "
                f"{trained * self.patch} x {trained * self.patch}."
            )
        return rows, columns

    @property
    def sizes(self) -> Mapping[str, int]:
        sizes = {"patches": 3 * self.patch**2, "positions.weights": self.table}
        return {name: sizes[name] for name in self.inputs if name in sizes}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        if not self.flags.flexible:
            return features.arrays()
        weights = triangle_weights(round(self.table**0.5), grid_of(features))
        return {**features.arrays(), "positions.weights": weights}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights.scope("embeddings."), inputs)
        if self.flags.first_norm:
            x = ops.layer_norm(x, weights.norm(self.flags.first_norm, self.width), self.eps)
        rope = (inputs["rope.cos"], inputs["rope.sin"]) if "rope.cos" in inputs else None
        mask = None if self.fixed_length else self.attention_mask(inputs)
        x = self._named_blocks(weights).run(ops, weights, x, mask, rope)
        if not self.flags.last_norm:
            return x
        return ops.layer_norm(x, weights.norm(self.flags.last_norm, self.width), self.eps)

    def _named_blocks(self, weights: Weights) -> PrenormBlocks:
        """Return the blocks under the names of the file: transformers 5 writes AltCLIP's without the plural."""
        if not any(name.startswith("encoder.layer.") for name in weights.names()):
            return self.blocks
        return replace(self.blocks, names=replace(self.blocks.names, layer="encoder.layer.{}"))

    def _embed(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        layer = self._patch_layer(weights)
        patches = inputs["patches"]
        if self.fixed_length:
            patches = ops.reshape(patches, self.positions, 3 * self.patch**2)  # a length that the runtime then knows
        x = ops.linear(patches, layer)
        if self.flags.flexible:
            table = weights.tensor(self.flags.positions, (self.table, self.width))
            return ops.add(x, ops.affine(inputs["positions.weights"], np.ascontiguousarray(table.T), None))
        return ops.add(x, ops.rows(self._position_table(weights, layer), inputs["positions"]))

    def _patch_layer(self, weights: Weights) -> Linear:
        """Return the patch embedding as a linear layer: its kernel is as large as its stride."""
        size, patch = self.width, self.patch
        shape = (size, 3 * patch * patch) if self.flags.flexible else (size, 3, patch, patch)
        kernel = weights.tensor(f"{self.flags.patch}.weight", shape).reshape(size, -1)
        return Linear(kernel, weights.tensor(f"{self.flags.patch}.bias", (size,)) if self.flags.patch_bias else None)

    def _position_table(self, weights: Weights, layer: Linear) -> Array:
        """Return a row for each place: those of class and register tokens contain the tokens' own vectors.

        Their patches are zeros, to which the patch embedding adds its bias: it is taken off again.
        """
        flags, size = self.flags, self.width
        own = int(bool(flags.class_token))
        shape = (self.table + own, size)
        # DINO's tables have an axis in front.
        table = weights.tensor(flags.positions, shape if flags.positions.endswith("weight") else (1, *shape))
        table = table.reshape(shape)
        # The reference resizes with antialiasing where there are registers, and without where there are none.
        parts = [resized(table[own:], self.grid, antialias=bool(flags.registers))]
        bias = 0 if layer.bias is None else layer.bias
        if flags.registers:
            parts.insert(0, weights.tensor(flags.registers, (1, self.registers, size))[0] - bias)
        if flags.class_token:
            own_shape = (size,) if flags.class_token == "class_embedding" else (1, 1, size)
            parts.insert(0, table[:1] + weights.tensor(flags.class_token, own_shape).reshape(1, size) - bias)
        return np.ascontiguousarray(np.concatenate(parts), np.float32)


def grid_of(features: Features) -> tuple[int, int]:
    """Return rows and columns of a picture's patches; any other input is refused."""
    if not isinstance(features, PatchFeatures):
        raise InputError("This model reads pictures, not texts.", param="input")
    return features.grid


def _edge(config: JsonObject, name: str) -> int:
    """Return the edge of square pictures, written as a number or as a pair."""
    value = config.get(name)
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return size_of({name: value}, name)


def _refuse_variants(config: JsonObject, size: int, heads: int) -> None:
    refuse_odd_heads(size, heads)
    if config.get("num_channels", 3) != 3:
        raise ModelRefused(f"config.json: num_channels is {config['num_channels']!r}; pictures have 3 channels here.")
