"""Heads with a vector for each token: for late interaction (ColBERT, arXiv:2004.12832), or the plain token states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nearfield import recipe
from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Weights
from nearfield.families import Family
from nearfield.heads import Head, HeadInput, pooled
from nearfield.ops import Ops, T
from nearfield.packing import PackedRows


class MultivectorHead(Head):
    """Token states through the model's own projection; which tokens count is decided with the text."""

    output = "multivector"

    def __init__(self, spec: recipe.Multivector) -> None:
        self.spec = spec
        # Stanford's projection lies among the encoder's weights, and is read from there like any other layer.
        self.unused_weights = (r"^linear\.weight$",)
        # Tokens that stand for nothing in the text are scored, but in some models not attended to.
        self.inputs = ("keys",) if spec.query.expand and not spec.query.attend else ()

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, L, dimensions]."""
        return pooled.apply(ops, hidden, self.spec.modules, inputs, family.hidden_size)

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> list[Array]:
        """Return [tokens, dimensions] of each input."""
        return [
            part[self.spec.skip_first_tokens :] if item.request.kept_tokens is None else part[item.request.kept_tokens]
            for item, part in zip(items, _split_tokens(values, packed, items), strict=True)
        ]


class TokenStatesHead(Head):
    """The last hidden state of every token that the model reads; added to a model on request."""

    output = "token_states"

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, L, H]."""
        return hidden

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> list[Array]:
        """Return [tokens, H] of each input."""
        return _split_tokens(values, packed, items)


class RowsHead(Head):
    """The rows that a tower gives for another model's sequence, which its family joins from neighbouring patches."""

    output = "rows"
    _family: Family

    def bind(self, family: Family) -> None:
        """Take over how many patches become a row, and the order of rows."""
        self._family = family

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [rows, values], of all inputs and of padding."""
        return hidden

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> list[Array]:
        """Return [rows, values] of each input."""
        width, unit = packed.layout.width, self._family.patches_per_row
        starts = (packed.layout.row * width + packed.layout.start) // unit
        return [
            self._family.order_rows(item.features, values[start : start + item.length // unit])
            for start, item in zip(starts.tolist(), items, strict=True)
        ]


def _split_tokens(values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> list[Array]:
    ends = np.cumsum([item.length for item in items])
    return np.split(values[packed.flat], ends[:-1])
