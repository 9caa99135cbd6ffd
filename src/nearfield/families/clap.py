"""CLAP's tower of sounds: HTSAT, a Swin transformer over a mel spectrogram that is folded into a square picture.

CLAP: Wu et al. 2022, arXiv:2211.06687. HTSAT: Chen et al. 2022, arXiv:2202.00874. Swin: Liu et al. 2021,
arXiv:2103.14030.

The tokens of a stage run in Morton order (see ``features.MelLayout``). A window is then a run of tokens, and so are the
four that two stages join: both are a matter of shape. Shifted windows are the only gather.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.processors.clap import mel_layout
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.families.bert import ACTIVATIONS
from nearfield.features import MelLayout, morton
from nearfield.ops import AttentionMask, Ops, T

#: Of torch's BatchNorm and LayerNorm, where a checkpoint stores none.
_EPS = 1e-5


@dataclass(frozen=True)
class Stage:
    """The blocks between two joins: a grid of ``side`` x ``side`` tokens of ``size`` values, in square windows.

    ``window`` is the edge of a window; odd blocks move the windows by ``shift`` rows and columns, around the edges.
    """

    side: int
    size: int
    depth: int
    heads: int
    window: int

    @property
    def shift(self) -> int:
        """Rows and columns by which odd blocks move the windows; 0 if one window covers the grid."""
        return self.window // 2 if self.side > self.window else 0

    @property
    def area(self) -> int:
        """Tokens of a window."""
        return self.window**2

    @cached_property
    def relative(self) -> Array:
        """Row of the bias table for each pair of a window's tokens, int32 [area, area]."""
        row, column = morton(self.window)
        down, right = (axis[:, None] - axis[None] + self.window - 1 for axis in (row, column))
        return np.asarray(down * (2 * self.window - 1) + right, np.int32)

    @cached_property
    def regions(self) -> Array:
        """Region of each token of the shifted grid, float32 [side²]: windows over an edge hold tokens of several."""
        row, column = (
            (axis >= self.side - self.window).astype(int) + (axis >= self.side - self.shift)
            for axis in morton(self.side)
        )
        return np.asarray(row * 3 + column, np.float32)

    def roll(self, back: bool = False) -> tuple[Array, int]:
        """Return the order of blocks of tokens that shifts the grid, int32 [blocks], and the tokens of a block.

        Blocks of ``shift`` x ``shift`` tokens are runs, and move whole.
        """
        row, column = morton(self.side // self.shift)
        places = np.zeros((len(row), len(row)), np.int32)
        places[row, column] = np.arange(len(row))
        step, side = -1 if back else 1, self.side // self.shift
        return places[(row + step) % side, (column + step) % side], self.shift**2


class Clap(Family):
    """The tower of sounds. Its states [B, rows, H] are one for each row of ``patches``, see ``MelLayout``."""

    inputs = ("patches", "positions")
    weight_prefixes = ("audio_model.audio_encoder.", "audio_encoder.", "")
    unused_weights = (
        r"^(text_model|text_projection|audio_projection)\.",
        r"^logit_scale_[at]$",
        r"\.relative_position_index$",
        r"\.num_batches_tracked$",
    )
    # All sounds have one length, which attention in windows relies on.
    packable = False
    fixed_length = True
    vocab_size = 0

    def __init__(self, config: JsonObject) -> None:
        self.layout = mel_layout(config)
        _check_variants(config, int(config.get("patch_embeds_hidden_size", 96)) << (self.layout.stages - 1))
        self.stages = _stages(config, self.layout)
        # Each join halves the values of all tokens together.
        self.states_per_row = 2 ** (len(self.stages) - 1)
        self.embedding_size = self.stages[0].size
        self.hidden_size = self.stages[-1].size
        self.positions = self.layout.count
        self.eps = float(config.get("layer_norm_eps", _EPS))
        self.ratio = float(config.get("mlp_ratio", 4.0))
        self.query_bias = bool(config.get("qkv_bias", True))
        self.normed = bool(config.get("enable_patch_layer_norm", True))
        self.act = str(ACTIVATIONS[config.get("hidden_act", "gelu")])
        self.reduction = int(config.get("aff_block_r", 4))

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"patches": self.layout.width}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        x = self._embed(ops, weights, inputs["patches"])
        for number, stage in enumerate(self.stages):
            own = weights.scope(f"layers.{number}.")
            x = self._stage(ops, own, ops.reshape(x, stage.area, stage.size), stage, inputs["positions"])
            if number + 1 < len(self.stages):
                x = _join(ops, own.scope("downsample."), x, stage)
        x = ops.reshape(x, self.layout.count, self.hidden_size)
        return ops.layer_norm(x, weights.norm("norm", self.hidden_size), _EPS)

    # -- from mel values to tokens -----------------------------------------------------------------------------

    def _embed(self, ops: Ops[T], weights: Weights, patches: T) -> T:
        """Return the first stage's tokens [B, side², C]."""
        layout, size, own = self.layout, self.embedding_size, weights.scope("patch_embed.")
        tokens = ops.reshape(patches, layout.grid**2, layout.values)
        scale, shift = self._bin_norm(weights)
        tokens = ops.add(ops.multiply(tokens, ops.constant(scale)), ops.constant(shift))
        kernel, bias = _kernel(own, "proj", size, layout.patch, layout.patch)
        x = self._fuse(ops, own, tokens, kernel, bias) if layout.fused else ops.affine(tokens, kernel, bias)
        return ops.layer_norm(x, own.norm("norm", size), _EPS) if self.normed else x

    def _bin_norm(self, weights: Weights) -> tuple[Array, Array]:
        """Return the batch norm of mel bins as the scale and shift of each value of each patch, float32 [side², P].

        Values that are no mel values pass: those of patches beyond the crops, and the flag of a long sound.
        """
        scale, shift = _batch_norm(weights, "batch_norm", self.layout.bins)
        values = self.layout.bin_numbers
        return (
            np.asarray(np.where(values < 0, 1, scale[values]), np.float32),
            np.asarray(np.where(values < 0, 0, shift[values]), np.float32),
        )

    def _fuse(self, ops: Ops[T], weights: Weights, tokens: T, kernel: Array, bias: Array) -> T:
        """Return the whole sound's tokens, with those of three crops mixed in where the sound is long."""
        layout, size = self.layout, self.embedding_size
        whole = ops.affine(tokens, layout.widened(kernel, 0), bias)
        crop_kernel, crop_bias = _kernel(weights, "mel_conv2d", size, layout.patch, 3 * layout.patch)
        covered = (layout.bin_numbers[:, layout.patch**2] >= 0).astype(np.float32)
        crops = ops.affine(tokens, layout.widened(crop_kernel, layout.patch**2), None)
        crops = ops.add(crops, ops.constant(covered[:, None] * crop_bias))
        is_long = ops.affine(tokens, layout.widened(np.ones((1, 1), np.float32), layout.values - 1), None)
        share = ops.multiply(self._share(ops, weights.scope("fusion_model."), ops.add(whole, crops)), _two(ops))
        # 2 share whole + 2 (1 - share) crops, less the whole that it replaces.
        mixed = ops.add(
            ops.multiply(share, _less(ops, whole, crops)), _less(ops, ops.multiply(crops, _two(ops)), whole)
        )
        return ops.add(whole, ops.multiply(mixed, is_long))

    def _share(self, ops: Ops[T], weights: Weights, x: T) -> T:
        """Return the share of the whole sound in each value (attentional feature fusion, arXiv:2009.14082)."""
        count = self.layout.grid**2
        mean = ops.transpose(ops.affine(ops.transpose(x), np.full((1, count), 1 / count, np.float32), None))
        parts = [
            self._bottleneck(ops, weights, x, "local_att.", 0),
            self._bottleneck(ops, weights, mean, "global_att.", 1),
        ]
        return ops.activation(ops.add(*parts), "sigmoid")

    def _bottleneck(self, ops: Ops[T], weights: Weights, x: T, name: str, first: int) -> T:
        own, size = weights.scope(name), self.embedding_size
        inner = size // self.reduction
        down = _normed_linear(own, first, size, inner)
        up = _normed_linear(own, first + 3, inner, size)
        return ops.linear(ops.activation(ops.linear(x, down), "relu"), up)

    # -- blocks ------------------------------------------------------------------------------------------------

    def _stage(self, ops: Ops[T], weights: Weights, x: T, stage: Stage, positions: T) -> T:
        """Run a stage on windows [B x windows, area, C]."""
        parted = self._mask(ops, stage.regions, stage, positions) if stage.shift and stage.depth > 1 else None
        for number in range(stage.depth):
            own, shifted = weights.scope(f"blocks.{number}."), bool(number % 2 and stage.shift)
            x = _rolled(ops, x, stage) if shifted else x
            x = self._block(ops, own, x, stage, parted if shifted else None)
            x = _rolled(ops, x, stage, back=True) if shifted else x
        return x

    def _mask(self, ops: Ops[T], regions: Array, stage: Stage, positions: T) -> AttentionMask[T]:
        """Return the mask by which tokens of a window attend to those of the same region."""
        table = regions.reshape(self.layout.count, -1)
        return AttentionMask(ops.reshape(ops.rows(table, positions), stage.area))

    def _block(self, ops: Ops[T], weights: Weights, x: T, stage: Stage, mask: AttentionMask[T] | None) -> T:
        size, inner = stage.size, int(self.ratio * stage.size)
        h = ops.layer_norm(x, weights.norm("layernorm_before", size), self.eps)
        own = weights.scope("attention.self.")
        q, k, v = (
            ops.split(ops.linear(h, own.linear(name, size, size, self.query_bias)), stage.heads)
            for name in ("query", "key", "value")
        )
        table = own.tensor("relative_position_bias_table", ((2 * stage.window - 1) ** 2, stage.heads))
        bias = np.ascontiguousarray(table[stage.relative].transpose(2, 0, 1)[None])
        a = ops.attention(q, k, v, mask, bias=ops.constant(bias))
        x = ops.add(x, ops.linear(a, weights.linear("attention.output.dense", size, size)))
        h = ops.layer_norm(x, weights.norm("layernorm_after", size), self.eps)
        h = ops.activation(ops.linear(h, weights.linear("intermediate.dense", size, inner)), self.act)
        return ops.add(x, ops.linear(h, weights.linear("output.dense", inner, size)))


def _stages(config: JsonObject, layout: MelLayout) -> tuple[Stage, ...]:
    depths = config.get("depths", (2, 2, 6, 2))
    heads = config.get("num_attention_heads", (4, 8, 16, 32))
    first, window = config.get("patch_embeds_hidden_size", 96), config.get("window_size", 8)
    if not isinstance(heads, list | tuple) or len(heads) != len(depths):
        raise ModelRefused(f"config.json: num_attention_heads {heads!r} and depths {depths!r} have not one length.")
    if not all(isinstance(value, int) and value > 0 for value in (*depths, *heads, first, window)):
        raise ModelRefused(
            "config.json: depths, num_attention_heads, window_size and patch_embeds_hidden_size must be positive."
        )
    if window & (window - 1) or not 2 <= window <= layout.grid >> (len(depths) - 1):
        raise ModelRefused(
            f"config.json: windows of {window} (window_size) on a grid of {layout.grid} patches that is halved "
            f"{len(depths) - 1} times are not known here: windows are powers of two, and fit the last grid."
        )
    stages = [
        Stage(layout.grid >> number, first << number, depth, count, window)
        for number, (depth, count) in enumerate(zip(depths, heads, strict=True))
    ]
    if any(stage.size % stage.heads for stage in stages):
        raise ModelRefused(
            f"config.json: sizes from {first} on cannot be split among {heads} heads (num_attention_heads)."
        )
    return tuple(stages)


def _check_variants(config: JsonObject, hidden_size: int) -> None:
    expected = {"hidden_size": hidden_size, "patch_embed_input_channels": 1, "flatten_patch_embeds": True}
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise ModelRefused(f"config.json: {name} {config[name]!r} is not known here, only {value!r}.")
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        raise ModelRefused(
            f"config.json: hidden_act {config['hidden_act']!r} is not known. {', '.join(ACTIVATIONS)} are."
        )
    if config.get("enable_fusion") and config.get("fusion_type") == "channel_map":
        raise ModelRefused("config.json: fusion_type 'channel_map' is not known here.")


def _kernel(weights: Weights, name: str, size: int, height: int, width: int) -> tuple[Array, Array]:
    """Return a convolution over patches as a product: [size, height x width], and its bias."""
    kernel = weights.tensor(f"{name}.weight", (size, 1, height, width))
    return kernel.reshape(size, -1), weights.tensor(f"{name}.bias", (size,))


def _batch_norm(weights: Weights, name: str, size: int) -> tuple[Array, Array]:
    """Return a batch norm as the scale and shift of each channel, float64 [size]."""
    mean, variance, weight, bias = (
        weights.tensor(f"{name}.{part}", (size,)).astype(np.float64)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    scale = weight / np.sqrt(variance + _EPS)
    return scale, bias - mean * scale


def _normed_linear(weights: Weights, number: int, inputs: int, outputs: int) -> Linear:
    """Return a convolution of single pixels and the batch norm after it as one layer."""
    kernel, bias = _kernel_of_one(weights, str(number), inputs, outputs)
    scale, shift = _batch_norm(weights, str(number + 1), outputs)
    return Linear(np.asarray(kernel * scale[:, None], np.float32), np.asarray(bias * scale + shift, np.float32))


def _kernel_of_one(weights: Weights, name: str, inputs: int, outputs: int) -> tuple[Array, Array]:
    kernel = weights.tensor(f"{name}.weight", (outputs, inputs, 1, 1))
    return kernel.reshape(outputs, inputs), weights.tensor(f"{name}.bias", (outputs,))


def _join(ops: Ops[T], weights: Weights, x: T, stage: Stage) -> T:
    """Join each 2 x 2 tokens, which are neighbours in Morton order."""
    wide = 4 * stage.size
    x = ops.layer_norm(ops.reshape(x, stage.area // 4, wide), weights.norm("norm", wide), _EPS)
    return ops.linear(x, weights.linear("reduction", wide, 2 * stage.size, bias=False))


def _rolled(ops: Ops[T], x: T, stage: Stage, back: bool = False) -> T:
    """Shift the grid by half a window, around its edges, or back."""
    order, block = stage.roll(back)
    x = ops.take(ops.reshape(x, len(order), block * stage.size), order)
    return ops.reshape(x, stage.area, stage.size)


def _two(ops: Ops[T]) -> T:
    return ops.constant(np.array([2], np.float32))


def _less(ops: Ops[T], a: T, b: T) -> T:
    return ops.add(a, ops.multiply(b, ops.constant(np.array([-1], np.float32))))
