"""The operations that families and heads are written against: `Ops`, `Graph` and `AttentionMask`.

A backend implements the primitives; composites have a body here. ``T`` is whatever the backend calls a
tensor: a numpy array, a node of a graph, a torch tensor. Shapes: B inputs, L tokens of the longest, H features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import EmbeddingTable, Linear, Lora, Norm

T = TypeVar("T")

#: Host arrays that a graph may ask for, with dtype and rank. Several inputs may share a row: ``segments`` [B, L] says
#: which of its row's inputs a token belongs to (1, 2, ...; 0 is padding), ``places`` [B, L] count from 0 within each
#: input, and ``positions`` are what a family's position table is read by. ``keys`` is ``segments`` with 0 where a token
#: is not to be attended to; ``windows`` the number of a patch's window; ``types`` is 1 in the second text of a pair;
#: ``adapters`` is the number of the token's adapter (0: none). ``patches`` [B, L, P] hold the values of each patch of a
#: picture or mel spectrogram, and ``positions.weights`` [B, L, R] what each of the R rows of a position table counts at
#: a patch. Where columns and rows of patches have a table each, ``positions`` are the columns and ``positions.down``
#: the rows. Where only four rows of a table count, ``taps.0`` to ``taps.3`` are their numbers, and ``taps.weights``
#: [B, L, 4] what they count. ``rope.*`` [B, L, D] are the cosines and sines of rotary positions. ``media`` [M, H] are
#: rows that take the place of words, the first of them zeros; ``media.index`` says which row a token takes (0: none),
#: and ``media.mask`` is 1 where it takes one. ``before.1`` to ``before.8`` say where in the batch the token so many
#: places before lies, for a table [B x L, H] of states, and ``before.seen`` [B, L, 8 or fewer] are 1 where there is
#: one. [L, L] are ``buckets`` (relative position buckets, or rows of a relative table) and ``distances`` (how many
#: columns apart). ``pool.*`` [B, S, L] hold for each of a row's inputs one weight a token, zero where it does not
#: count, so that every linear pooling is one matrix product; ``pool.max`` [B, L] is 1 where a token counts, and then a
#: row holds one input.
INPUTS: Mapping[str, tuple[str, int]] = {
    "ids": ("int32", 2),
    "patches": ("float32", 3),
    "segments": ("int32", 2),
    "keys": ("int32", 2),
    "windows": ("int32", 2),
    "places": ("int32", 2),
    "positions": ("int32", 2),
    "positions.down": ("int32", 2),
    "positions.weights": ("float32", 3),
    **{f"before.{step}": ("int32", 2) for step in range(1, 9)},
    "before.seen": ("float32", 3),
    **{f"taps.{number}": ("int32", 2) for number in range(4)},
    "taps.weights": ("float32", 3),
    "media": ("float32", 2),
    "media.index": ("int32", 2),
    "media.mask": ("int32", 2),
    "types": ("int32", 2),
    "adapters": ("int32", 2),
    "buckets": ("int32", 2),
    "buckets.back": ("int32", 2),
    "distances": ("float32", 2),
    "rope.cos": ("float32", 3),
    "rope.sin": ("float32", 3),
    "rope.local.cos": ("float32", 3),
    "rope.local.sin": ("float32", 3),
    "pool.cls": ("float32", 3),
    "pool.lasttoken": ("float32", 3),
    "pool.mean": ("float32", 3),
    "pool.mean_sqrt_len_tokens": ("float32", 3),
    "pool.weightedmean": ("float32", 3),
    "pool.max": ("float32", 2),
}


class Forward(Protocol):
    """The function of a graph: the same for every backend, whatever its tensors are."""

    def __call__(self, ops: Ops[T], inputs: Mapping[str, T], /) -> Mapping[str, T]:
        """Return the outputs by name."""
        ...


@dataclass(frozen=True)
class Graph:
    """What a backend compiles: the names of its inputs, and the function that maps them to named outputs.

    ``digest`` identifies weights and structure, for the cache of compiled models; ``outputs`` are the names that
    ``forward`` gives.
    """

    inputs: tuple[str, ...]
    forward: Forward
    outputs: tuple[str, ...]
    digest: str = ""
    #: Sizes of inputs' last axes, where a family relies on them.
    sizes: Mapping[str, int] = field(default_factory=dict)
    #: A file or folder from which the backend loads the encoder, in place of a family; ``forward`` reads its hidden
    #: states from ``inputs["hidden"]``.
    external_encoder: Path | None = None


@dataclass(frozen=True, eq=False)
class AttentionMask(Generic[T]):
    """What a token attends to: tokens of the same segment, at most ``before`` and ``after`` places away (None: any).

    Create one and pass it to all layers: backends cache what they derive from it. ``after=0`` is causal attention.
    ``keys`` [B, L] is read in place of ``segments`` on the attended side; ``places`` is needed where a bound is set.
    """

    segments: T
    places: T | None = None
    before: int | None = None
    after: int | None = None
    keys: T | None = None


class Ops(ABC, Generic[T]):
    """Around thirty operations; see ``docs/architecture/backends.md`` for when one may be added.

    ``split`` gives a *heads tensor*, whose layout is the backend's own: the last axis is the head's size D, and only
    ``rms_norm``, ``layer_norm``, ``rope``, ``relative`` and ``attention`` take it.
    """

    #: Number of each token's adapter, int32 [B, L]; set before a family runs when there are any.
    adapters: T | None = None

    @abstractmethod
    def constant(self, array: Array) -> T:
        """Bring a host array (float32 or int32) into the backend."""

    @abstractmethod
    def rows(self, table: Array, ids: T) -> T:
        """Pick rows of ``table`` [V, H] by integer ``ids`` [...]: the result is [..., H]."""

    @abstractmethod
    def gather(self, table: T, ids: T) -> T:
        """Pick rows as ``rows`` does, of a table [M, H] that is an input of the graph rather than a weight."""

    @abstractmethod
    def affine(self, x: T, weight: Array, bias: Array | None) -> T:
        """Return ``x @ weight.T + bias``: [..., inputs] to [..., outputs]."""

    @abstractmethod
    def layer_norm(self, x: T, norm: Norm, eps: float) -> T:
        """Normalise the last axis to mean 0 and variance 1 (plus ``eps``), then scale and shift."""

    @abstractmethod
    def rms_norm(self, x: T, norm: Norm, eps: float) -> T:
        """Divide the last axis by its root mean square (``eps`` added to the mean), then scale."""

    @abstractmethod
    def split(self, x: T, heads: int) -> T:
        """Split [B, L, heads x D] into a heads tensor."""

    @abstractmethod
    def rope(self, x: T, cos: T, sin: T) -> T:
        """Rotate a heads tensor: pairs are (i, i + R/2) of its first R features; ``cos`` and ``sin`` are [B, L, R].

        The remaining D - R features pass (Su et al. 2021, arXiv:2104.09864; halves as in GPT-NeoX).
        """

    @abstractmethod
    def relative(self, x: T, table: Array, index: T) -> T:
        """Score each token of a heads tensor against ``table`` [R, heads, D], at the rows that ``index`` [L, L] names.

        The result [B, heads, L, L] holds at (i, j) the product of token i with row ``index[i, j]``.
        """

    @abstractmethod
    def attention(
        self,
        q: T,
        k: T,
        v: T,
        mask: AttentionMask[T] | None,
        *,
        bias: T | None = None,
        scale: float | None = None,
        cap: float | None = None,
    ) -> T:
        """Softmax attention over heads tensors: [B, L, heads x D]. Without a mask, all tokens of a row see each other.

        ``k`` and ``v`` may have fewer heads, each then serving as many of ``q`` in a row. ``bias`` [1 or B, heads, L,
        L] is added to the scaled scores; ``scale`` is 1/sqrt(D) when left out. With ``cap``, a score s then becomes
        ``cap * tanh(s / cap)``.
        """

    @abstractmethod
    def softmax(self, x: T) -> T:
        """Take the softmax of the last axis."""

    @abstractmethod
    def top(self, x: T, count: int) -> T:
        """Keep the ``count`` largest values of the last axis, and make the others zero."""

    @abstractmethod
    def transpose(self, x: T) -> T:
        """Swap the last two axes."""

    @abstractmethod
    def activation(self, x: T, name: str) -> T:
        """Apply gelu (exact), gelu_tanh, quick_gelu (x times sigmoid(1.702 x)), relu, silu, tanh, sigmoid, log1p or
        identity, element by element."""

    @abstractmethod
    def clip(self, x: T, low: float, high: float) -> T:
        """Limit each element to at least ``low`` and at most ``high``; both may be infinite."""

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
    def take(self, x: T, order: Array) -> T:
        """Pick columns of each row of [B, L, H] by ``order``, int32 [N]: the result is [B, N, H]."""

    @abstractmethod
    def nonzero(self, x: T) -> T:
        """Return the places of the values that are not zero, counted over all axes: int32 [N]."""

    @abstractmethod
    def add_rows(self, x: T, ids: T, rows: T) -> T:
        """Add ``rows`` [N, H] to the rows of ``x`` [..., H] that ``ids`` [N] name, none of them twice.

        Rows are counted over all axes before the last.
        """

    @abstractmethod
    def reshape(self, x: T, *sizes: int) -> T:
        """Return the same values, in the same order, with axes of these sizes after the first, which is the rest."""

    @abstractmethod
    def normalize(self, x: T) -> T:
        """Scale the last axis to unit length; a zero vector stays zero."""

    def linear(self, x: T, layer: Linear) -> T:
        """Return ``x @ weight.T + bias``, and what the token's own adapter adds."""
        y = self.affine(x, layer.weight, layer.bias)
        if layer.lora is None:
            return y
        low = self.multiply(self.factor(x, layer.lora.down), self._chosen(layer.lora))
        return self.add(y, self.factor(low, layer.lora.up))

    def embed(self, table: EmbeddingTable, ids: T) -> T:
        """Pick rows of a table, and what the token's own adapter adds to them."""
        x = self.rows(table.weight, ids)
        if table.lora is None:
            return x
        low = self.multiply(self.rows(np.ascontiguousarray(table.lora.down.T), ids), self._chosen(table.lora))
        return self.add(x, self.factor(low, table.lora.up))

    def factor(self, x: T, weight: Array) -> T:
        """Return ``x @ weight.T`` for an adapter's factor: a backend may hold it apart from the model's own weights."""
        return self.affine(x, weight, None)

    def _chosen(self, lora: Lora) -> T:
        """Return 1 for the factors of each token's own adapter and 0 for those of others: [B, L, ranks]."""
        if self.adapters is None:
            raise ValueError("adapters were loaded, and no input says which is whose")
        key = tuple(lora.owners.tolist())
        known: dict[tuple[int, ...], T] = self.__dict__.setdefault("_choices", {})
        if key not in known:
            mine = lora.owners[None] == np.arange(lora.count + 1)[:, None]
            known[key] = self.rows(mine.astype(np.float32), self.adapters)
        return known[key]

    def masked_max(self, x: T, mask: T) -> T:
        """Take the largest of each feature over the tokens whose ``mask`` [B, L] is 1: [B, H]."""
        return self.max(self.add(x, self.expand(self.unseen(mask), 2)), 1)

    def unseen(self, mask: T) -> T:
        """Turn a 1/0 mask into 0/-1e9, to be added to what a maximum or a softmax is taken of."""
        return self.multiply(
            self.add(mask, self.constant(np.array([-1], np.float32))), self.constant(np.array([1e9], np.float32))
        )
