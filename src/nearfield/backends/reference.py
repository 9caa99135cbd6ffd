"""The reference backend: plain numpy in float64. It is slow and readable; the other backends are tested against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.backends import Backend, Inputs
from nearfield.checkpoint.weights.weights import Norm
from nearfield.hardware import release_pages
from nearfield.ops import AttentionMask, Graph, Ops


class NumpyOps(Ops[Array]):
    """Each operation in the words of its definition. Weights are in memory only while an operation reads them."""

    def constant(self, array: Array) -> Array:
        return np.asarray(array, np.float64) if np.issubdtype(np.asarray(array).dtype, np.floating) else array

    def rows(self, table: Array, ids: Array) -> Array:
        y = np.asarray(table[ids], np.float64)
        release_pages(table)
        return y

    def gather(self, table: Array, ids: Array) -> Array:
        return np.asarray(table[ids])

    def affine(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = x @ weight.astype(np.float64).T
        release_pages(weight)
        return y if bias is None else y + bias

    def layer_norm(self, x: Array, norm: Norm, eps: float) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * norm.weight
        return y if norm.bias is None else y + norm.bias

    def rms_norm(self, x: Array, norm: Norm, eps: float) -> Array:
        y = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * norm.weight
        return y if norm.bias is None else y + norm.bias

    def split(self, x: Array, heads: int) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    def rope(self, x: Array, cos: Array, sin: Array) -> Array:
        size = cos.shape[-1]
        rotated, passed = x[..., :size], x[..., size:]
        first, second = np.split(rotated, 2, -1)
        turned = np.concatenate([-second, first], -1)
        return np.concatenate([rotated * cos[:, None] + turned * sin[:, None], passed], -1)

    def relative(self, x: Array, table: Array, index: Array) -> Array:
        scores = np.einsum("bnld,rnd->bnlr", x, table.astype(np.float64))
        return np.take_along_axis(scores, np.broadcast_to(index, (*scores.shape[:2], *index.shape)), -1)

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: AttentionMask[Array] | None,
        *,
        bias: Array | None = None,
        scale: float | None = None,
        cap: float | None = None,
    ) -> Array:
        shared = q.shape[1] // k.shape[1]
        k, v = k.repeat(shared, 1), v.repeat(shared, 1)
        scores = q @ k.transpose(0, 1, 3, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if bias is None else scores + bias
        scores = scores if cap is None else cap * np.tanh(scores / cap)
        if mask is not None:
            scores = scores + np.where(_visible(mask), 0.0, -1e9)[:, None]
        out = self.softmax(scores) @ v
        return out.transpose(0, 2, 1, 3).reshape(out.shape[0], out.shape[2], -1)

    def softmax(self, x: Array) -> Array:
        weights = np.exp(x - x.max(-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))

    def top(self, x: Array, count: int) -> Array:
        least = np.sort(x, -1)[..., -count, None]
        return np.where(x >= least, x, 0.0)

    def transpose(self, x: Array) -> Array:
        return np.swapaxes(x, -1, -2)

    def activation(self, x: Array, name: str) -> Array:
        return _ACTIVATIONS[name](x)

    def clip(self, x: Array, low: float, high: float) -> Array:
        return np.clip(x, low, high)

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def multiply(self, a: Array, b: Array) -> Array:
        return a * b

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def max(self, x: Array, axis: int) -> Array:
        return np.asarray(x.max(axis))

    def expand(self, x: Array, axis: int) -> Array:
        return np.expand_dims(x, axis)

    def move_last_first(self, x: Array) -> Array:
        return np.moveaxis(x, -1, 0)

    def concat(self, parts: list[Array]) -> Array:
        return np.concatenate(parts, -1)

    def take(self, x: Array, order: Array) -> Array:
        return x[:, order]

    def nonzero(self, x: Array) -> Array:
        return np.flatnonzero(x)

    def add_rows(self, x: Array, ids: Array, rows: Array) -> Array:
        flat = x.reshape(-1, x.shape[-1]).copy()
        flat[ids] += rows
        return flat.reshape(x.shape)

    def reshape(self, x: Array, *sizes: int) -> Array:
        return x.reshape(-1, *sizes)

    def normalize(self, x: Array) -> Array:
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _visible(mask: AttentionMask[Array]) -> Array:
    """Whether each token attends to each: [B, L, L]."""
    keys = mask.segments if mask.keys is None else mask.keys
    visible = mask.segments[:, :, None] == keys[:, None, :]
    if mask.places is None:
        return np.asarray(visible)
    ahead = mask.places[:, None, :] - mask.places[:, :, None]
    if mask.before is not None:
        visible &= -ahead <= mask.before
    if mask.after is not None:
        visible &= ahead <= mask.after
    return np.asarray(visible)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "log1p": np.log1p,
    "sigmoid": _sigmoid,
}


class ReferenceProgram:
    """Calls the graph's function for each batch."""

    precision = "float32"

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def create_executor(self) -> ReferenceProgram:
        return self

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        ops = NumpyOps()
        values = {name: ops.constant(inputs[name]) for name in self._graph.inputs}
        results = self._graph.forward(ops, values)
        return {name: np.asarray(results[name], np.float32) for name in outputs}


class ReferenceBackend(Backend):
    """numpy and nothing else."""

    def compile(self, graph: Graph) -> ReferenceProgram:
        return ReferenceProgram(graph)
