"""The operations of the torch backend: each runs at once, on the packed row or the padded rows of one batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Norm
from nearfield.ops import AttentionMask, Ops

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None

D = TypeVar("D")
_ACTIVATIONS = {
    "identity": lambda x: x,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "log1p": torch.log1p,
}
#: Head sizes that flash attention takes.
_MAX_HEAD_SIZE = 256


@dataclass(frozen=True)
class Group:
    """Inputs of like length in the one row: the columns of each, [inputs, width], and what is attended to.

    ``visible`` [inputs, 1, width, width] is None where all is.
    """

    columns: Tensor
    visible: Tensor | None


class TorchOps(Ops[Tensor]):
    """Runs each operation at once, for one batch. Weights are tensors already, from the recorded graph."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._flash = has_flash(device, dtype)
        self._derived: dict[tuple[str, int], tuple[object, object]] = {}

    def constant(self, array: Array | Tensor) -> Tensor:
        return self._weight(array)

    def rows(self, table: Array | Tensor, ids: Tensor) -> Tensor:
        return functional.embedding(ids.long(), self._weight(table))

    def gather(self, table: Tensor, ids: Tensor) -> Tensor:
        # In the computing type, so that a sum with word embeddings has that type too.
        return functional.embedding(ids.long(), table.to(self.dtype))

    def affine(self, x: Tensor, weight: Array | Tensor, bias: Array | Tensor | None) -> Tensor:
        w = self._weight(weight)
        return functional.linear(x.to(w.dtype), w, None if bias is None else self._weight(bias))

    def layer_norm(self, x: Tensor, norm: Norm, eps: float) -> Tensor:
        weight, bias = self._weight(norm.weight).float(), None if norm.bias is None else self._weight(norm.bias).float()
        return functional.layer_norm(x.float(), weight.shape, weight, bias, eps).to(x.dtype)

    def rms_norm(self, x: Tensor, norm: Norm, eps: float) -> Tensor:
        wide = x.float()
        y = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * self._weight(norm.weight).float()
        return (y if norm.bias is None else y + self._weight(norm.bias).float()).to(x.dtype)

    def split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, -1))

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        size = cos.shape[-1]
        rotated, passed = x[..., :size].float(), x[..., size:]
        first, second = rotated.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
        y = (rotated * cos[:, :, None] + turned * sin[:, :, None]).to(x.dtype)
        return torch.cat([y, passed], -1) if passed.shape[-1] else y

    def relative(self, x: Tensor, table: Array | Tensor, index: Tensor) -> Tensor:
        scores = torch.einsum("blnd,rnd->bnlr", x, self._weight(table).to(x.dtype))
        return torch.gather(scores, -1, index.long().expand(*scores.shape[:2], *index.shape))

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: AttentionMask[Tensor] | None,
        *,
        bias: Tensor | None = None,
        scale: float | None = None,
        cap: float | None = None,
    ) -> Tensor:
        if cap is not None:
            visible = None if mask is None else self._derive(("visible", mask), lambda: _visible(mask)[:, None])
            return _attend_capped((q, k, v), visible, bias, scale, cap)
        if mask is None:
            return _attend(q, k, v, None if bias is None else bias.to(q.dtype), scale)
        if len(q) == 1 and bias is None:
            if self._flash and mask.keys is None and q.shape[-1] <= _MAX_HEAD_SIZE:
                return self._varlen(q[0], k[0], v[0], mask, scale)
            if len(self._bounds(mask)[2]) > 2:
                return self._grouped(q[0], k[0], v[0], mask, scale)
        visible = self._derive(("visible", mask), lambda: _visible(mask)[:, None])
        if bias is not None:
            visible = torch.where(visible, bias.to(q.dtype), torch.finfo(q.dtype).min)
        return _attend(q, k, v, visible, scale)

    def _bounds(self, mask: AttentionMask[Tensor]) -> tuple[Tensor, int, list[int]]:
        return self._derive(("bounds", mask.segments), lambda: _bounds(mask.segments[0]))

    def _grouped(self, q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask[Tensor], scale: float | None) -> Tensor:
        """Attend within each input of the one row, those of like length in one call."""
        groups, back = self._derive(("groups", mask), lambda: _groups(mask, self._bounds(mask)[2]))
        parts = [
            _attend(q[group.columns], k[group.columns], v[group.columns], group.visible, scale).flatten(0, 1)
            for group in groups
        ]
        return torch.cat(parts)[back][None]

    def _varlen(self, q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask[Tensor], scale: float | None) -> Tensor:
        """Attend within the bounds of each input of the one row, by flash attention."""
        bounds, max_length, _ = self._bounds(mask)
        window = (-1 if mask.before is None else mask.before, -1 if mask.after is None else mask.after)
        # Head sizes that are no multiple of 8 are filled up with zeros, which change no product.
        size, missing = q.shape[-1], -q.shape[-1] % 8
        parts = [functional.pad(x, (0, missing)) if missing else x for x in (q, k, v)]
        factor = size**-0.5 if scale is None else scale
        out = varlen_attn(
            *parts,
            bounds,
            bounds,
            max_length,
            max_length,
            scale=factor,
            window_size=window,
            enable_gqa=len(k[0]) != len(q[0]),
        )
        return out[..., :size].flatten(1)[None]

    def _derive(self, key: tuple[str, object], compute: Callable[[], D]) -> D:
        """Compute something once a batch, for all layers."""
        name = (key[0], id(key[1]))
        if name not in self._derived:
            self._derived[name] = (key[1], compute())  # a reference to the key, or its id could be reused
        return cast(D, self._derived[name][1])

    def activation(self, x: Tensor, name: str) -> Tensor:
        return _ACTIVATIONS[name](x)

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        return x.clamp(low, high)

    def softmax(self, x: Tensor) -> Tensor:
        return torch.softmax(x.float(), -1)

    def top(self, x: Tensor, count: int) -> Tensor:
        least = torch.topk(x, count, -1).values[..., -1:]
        return torch.where(x >= least, x, torch.zeros((), dtype=x.dtype, device=x.device))

    def transpose(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b.to(a.dtype) if a.is_floating_point() else a + b

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b.to(a.dtype) if a.is_floating_point() else a * b

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        # Pooling: its weights are not to be rounded, nor its sums.
        return torch.matmul(a.float(), b.float())

    def max(self, x: Tensor, axis: int) -> Tensor:
        return x.amax(axis)

    def expand(self, x: Tensor, axis: int) -> Tensor:
        return x.unsqueeze(axis)

    def move_last_first(self, x: Tensor) -> Tensor:
        return x.movedim(-1, 0)

    def concat(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, -1)

    def take(self, x: Tensor, order: Array | Tensor) -> Tensor:
        return x.index_select(1, self._weight(order))

    def nonzero(self, x: Tensor) -> Tensor:
        return x.flatten().nonzero()[:, 0]

    def add_rows(self, x: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        return x.flatten(0, -2).index_add(0, ids, rows.to(x.dtype)).reshape(x.shape)

    def reshape(self, x: Tensor, *sizes: int) -> Tensor:
        return x.reshape(-1, *sizes)

    def normalize(self, x: Tensor) -> Tensor:
        return functional.normalize(x.float(), dim=-1, eps=1e-12)

    def _weight(self, array: Array | Tensor) -> Tensor:
        return array if isinstance(array, torch.Tensor) else to_tensor(array, self.device, self.dtype)


def _visible(mask: AttentionMask[Tensor]) -> Tensor:
    """Whether each token attends to each: bool [B, L, L]. One that would see nothing, as padding may, sees itself."""
    keys = mask.segments if mask.keys is None else mask.keys
    visible = mask.segments[:, :, None] == keys[:, None, :]
    if mask.places is not None:
        ahead = mask.places[:, None, :] - mask.places[:, :, None]
        if mask.before is not None:
            visible = visible & (-ahead <= mask.before)
        if mask.after is not None:
            visible = visible & (ahead <= mask.after)
    itself = torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
    return visible | (itself & ~visible.any(-1, keepdim=True))


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float | None) -> Tensor:
    """Attend over rows: heads tensors in, [B, L, heads x D] out."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    shared = q.shape[1] // k.shape[1]
    if shared > 1:
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
    return out.transpose(1, 2).flatten(2)


def _attend_capped(
    heads: tuple[Tensor, Tensor, Tensor], visible: Tensor | None, bias: Tensor | None, scale: float | None, cap: float
) -> Tensor:
    """Attend over queries, keys and values with scores that are limited smoothly, as torch's own attention cannot."""
    q, k, v = (x.transpose(1, 2).float() for x in heads)
    if (shared := q.shape[1] // k.shape[1]) > 1:
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = cap * torch.tanh((scores if bias is None else scores + bias.float()) / cap)
    if visible is not None:
        scores = scores.masked_fill(~visible, -1e9)
    return (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)


def _bounds(segments: Tensor) -> tuple[Tensor, int, list[int]]:
    """Return where each input of a row begins and the last ends, int32 [inputs + 1], the longest's length, and all."""
    lengths = torch.unique_consecutive(segments, return_counts=True)[1]
    bounds = functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    known = lengths.tolist()
    return bounds, max(known), known


def _groups(mask: AttentionMask[Tensor], lengths: list[int]) -> tuple[list[Group], Tensor]:
    """Stack the inputs of one row by length; return the groups, and where each column lies in them end to end."""
    starts = np.cumsum([0, *lengths[:-1]])
    widths = np.array([_width(length) for length in lengths])
    back = np.empty(sum(lengths), np.int64)
    groups, done = [], 0
    for width in np.unique(widths):
        mine = np.flatnonzero(widths == width)
        sizes = np.array(lengths)[mine, None]
        # An input shorter than its group's width is filled up with its own last token, which nothing then sees.
        columns = starts[mine, None] + np.minimum(np.arange(width), sizes - 1)
        filled = np.arange(width) < sizes
        back[columns[filled]] = done + np.flatnonzero(filled)
        done += filled.size
        groups.append(_group(mask, columns, filled))
    return groups, torch.from_numpy(back).to(mask.segments.device)


def _group(mask: AttentionMask[Tensor], columns: Array, filled: Array) -> Group:
    device = mask.segments.device
    places = torch.from_numpy(columns).to(device)
    if filled.all() and mask.keys is None and mask.before is None and mask.after is None:
        return Group(places, None)
    own = torch.from_numpy(filled).to(device)
    parts = {name: getattr(mask, name) for name in ("segments", "places", "keys")}
    cut = {name: None if part is None else part[0][places] for name, part in parts.items()}
    hidden = {name: torch.where(own, cut[name], -1) for name in ("segments", "keys") if cut[name] is not None}
    return Group(places, _visible(replace(mask, **{**cut, **hidden}))[:, None])


def _width(length: int) -> int:
    """Round a length up so that few groups arise: to a multiple of 8, and by an eighth at most where that is more."""
    step = max(8, 1 << max(0, length.bit_length() - 4))
    return -(-length // step) * step


@lru_cache(maxsize=16)
def has_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether flash attention over bounds can serve: half precision, a GPU from Ampere on, and torch with windows."""
    if varlen_attn is None or device.type != "cuda" or dtype == torch.float32:
        return False
    # Its first version knew no windows and no shared key heads.
    if not {"scale", "window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters):
        return False
    return tuple(torch.cuda.get_device_capability(device)) >= (8, 0)


def to_tensor(array: Array, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copy an array to the device: integers unchanged, others in the computing type."""
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
