"""Ops: the small set of operations that families and heads are written against.

A backend implements the primitives; composites have a body here. ``T`` is whatever the backend calls a
tensor: a numpy array, a node of a graph, a torch tensor. Shapes: B inputs, L tokens of the longest, H features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from nearfield.checkpoint.weights import Linear, Norm

T = TypeVar("T")
Array = np.ndarray[Any, np.dtype[Any]]

#: Host arrays that a graph may ask for, with dtype and rank. Several inputs may share a row: ``segments`` [B, L] says
#: which of its row's inputs a token belongs to (1, 2, ...; 0 is padding). ``pool.*`` [B, S, L] hold for each of a row's
#: inputs one weight a token, zero where it does not count, so that every linear pooling is one matrix product;
#: ``pool.max`` [B, L] is 1 where a token counts, and then a row holds one input.
INPUTS: Mapping[str, tuple[str, int]] = {
    "ids": ("int32", 2),
    "segments": ("int32", 2),
    "positions": ("int32", 2),
    "buckets": ("int32", 2),
    "pool.cls": ("float32", 3),
    "pool.lasttoken": ("float32", 3),
    "pool.mean": ("float32", 3),
    "pool.mean_sqrt_len_tokens": ("float32", 3),
    "pool.weightedmean": ("float32", 3),
    "pool.max": ("float32", 2),
}


@dataclass(frozen=True)
class Graph(Generic[T]):
    """What a backend compiles: the names of its inputs, and the function that maps them to the output.

    ``digest`` identifies weights and structure, for the cache of compiled models; ``width`` is the output's size.
    """

    inputs: tuple[str, ...]
    forward: Callable[[Ops[Any], Mapping[str, Any]], Any]
    width: int
    digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Ops(ABC, Generic[T]):
    """Around twenty operations; see ``docs/structure.md`` for when one may be added."""

    @abstractmethod
    def constant(self, array: Array) -> T:
        """Bring a host array (float32 or int32) into the backend."""

    @abstractmethod
    def rows(self, table: Array, ids: T) -> T:
        """Pick rows of ``table`` [V, H] by integer ``ids`` [...]: the result is [..., H]."""

    @abstractmethod
    def linear(self, x: T, layer: Linear) -> T:
        """Return ``x @ weight.T + bias``: [..., inputs] to [..., outputs]."""

    @abstractmethod
    def layer_norm(self, x: T, norm: Norm, eps: float) -> T:
        """Normalise the last axis to mean 0 and variance 1 (plus ``eps``), then scale and shift."""

    @abstractmethod
    def attention(self, q: T, k: T, v: T, *, heads: int, segments: T, bias: T | None = None) -> T:
        """Scaled dot-product attention over [B, L, H]; a token sees those of its own segment alone.

        ``segments`` is [B, L]; ``bias`` [1, heads, L, L] is added to the scaled scores.
        """

    @abstractmethod
    def activation(self, x: T, name: str) -> T:
        """Apply gelu (exact), gelu_tanh, relu, silu, tanh, sigmoid, or identity, element by element."""

    @abstractmethod
    def add(self, a: T, b: T) -> T:
        """Add with broadcasting."""

    @abstractmethod
    def multiply(self, a: T, b: T) -> T:
        """Multiply with broadcasting."""

    @abstractmethod
    def matmul(self, a: T, b: T) -> T:
        """Multiply matrices [B, M, K] and [B, K, N]: [B, M, N]."""

    @abstractmethod
    def max(self, x: T, axis: int) -> T:
        """Take the largest over one axis, which disappears."""

    @abstractmethod
    def expand(self, x: T, axis: int) -> T:
        """Insert an axis of length 1."""

    @abstractmethod
    def move_last_first(self, x: T) -> T:
        """Bring the last axis to the front."""

    @abstractmethod
    def concat(self, parts: list[T]) -> T:
        """Join along the last axis."""

    @abstractmethod
    def normalize(self, x: T) -> T:
        """Scale the last axis to unit length; a zero vector stays zero."""

    def masked_max(self, x: T, mask: T) -> T:
        """Take the largest of each feature over the tokens whose ``mask`` [B, L] is 1: [B, H]."""
        return self.max(self.add(x, self.expand(self.unseen(mask), 2)), 1)

    def unseen(self, mask: T) -> T:
        """Turn a 1/0 mask into 0/-1e9, to be added to what a maximum or a softmax is taken of."""
        return self.multiply(
            self.add(mask, self.constant(np.array([-1], np.float32))), self.constant(np.array([1e9], np.float32))
        )
