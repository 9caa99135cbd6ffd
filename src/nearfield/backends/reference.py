"""The reference backend: plain numpy in float64. Slow, readable, the truth that others are tested against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nearfield.backends import Array, Backend, Inputs
from nearfield.checkpoint.weights import Linear, Norm
from nearfield.ops import Graph, Ops


class NumpyOps(Ops[Array]):
    """Each operation in the words of its definition."""

    def constant(self, array: Array) -> Array:
        return np.asarray(array, np.float64) if np.issubdtype(np.asarray(array).dtype, np.floating) else array

    def rows(self, table: Array, ids: Array) -> Array:
        return np.asarray(table[ids], np.float64)

    def linear(self, x: Array, layer: Linear) -> Array:
        y = x @ layer.weight.astype(np.float64).T
        return y if layer.bias is None else y + layer.bias

    def layer_norm(self, x: Array, norm: Norm, eps: float) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * norm.weight
        return y if norm.bias is None else y + norm.bias

    def attention(
        self, q: Array, k: Array, v: Array, *, heads: int, segments: Array, bias: Array | None = None
    ) -> Array:
        def split(x: Array) -> Array:
            return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

        q, k, v = split(q), split(k), split(v)
        together = segments[:, None, :, None] == segments[:, None, None, :]
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1]) + np.where(together, 0.0, -1e9)
        scores = scores if bias is None else scores + bias
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = (weights / weights.sum(-1, keepdims=True)) @ v
        return out.transpose(0, 2, 1, 3).reshape(out.shape[0], out.shape[2], -1)

    def activation(self, x: Array, name: str) -> Array:
        return _ACTIVATIONS[name](x)

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

    def normalize(self, x: Array) -> Array:
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


_ACTIVATIONS: dict[str, Any] = {
    "identity": lambda x: x,
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}


class ReferenceProgram:
    """Runs the graph's function anew for each batch."""

    precision = "float32"

    def __init__(self, graph: Graph[Array]) -> None:
        self._graph = graph

    def lane(self) -> ReferenceProgram:
        return self

    def run(self, inputs: Inputs) -> Array:
        ops = NumpyOps()
        values = {name: ops.constant(inputs[name]) for name in self._graph.inputs}
        return np.asarray(self._graph.forward(ops, values), np.float32)


class ReferenceBackend(Backend):
    """numpy and nothing else."""

    def compile(self, graph: Graph[Any]) -> ReferenceProgram:
        return ReferenceProgram(graph)
