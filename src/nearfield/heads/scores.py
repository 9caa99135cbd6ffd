"""Scores: a number for each label, or how much more a language model would say yes than no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearfield import recipe
from nearfield.checkpoint.weights import Linear, Weights
from nearfield.families import Family
from nearfield.heads import Array, Head, Item, Results
from nearfield.ops import Ops
from nearfield.packing import Rows


class ClassesHead(Head):
    """The family's own classification head: logits, before any activation."""

    output = "scores"

    def __init__(self, spec: recipe.Classes) -> None:
        self.spec = spec

    def bind(self, family: Family, typed: bool) -> None:
        """Read the token that the family's head reads, and types where the tokenizer tells a pair's texts apart."""
        self.inputs = (f"pool.{family.class_pooling}", *(("types",) if typed and family.types > 1 else ()))

    def build(self, ops: Ops[Any], hidden: Any, inputs: Mapping[str, Any], family: Family, weights: Weights) -> Any:
        """Return [B, S, labels]."""
        state = ops.matmul(inputs[f"pool.{family.class_pooling}"], hidden)
        return family.classes(ops, weights, state, len(self.spec.labels))

    def read(self, values: Array, packed: Rows, items: Sequence[Item]) -> Results:
        """Return [inputs, labels]."""
        return values[packed.layout.row, packed.layout.slot]


class AnswerHead(Head):
    """The logits of one or two words at the last token: those rows of the last layer, and no others, are computed."""

    output = "scores"
    inputs = ("pool.lasttoken",)

    def __init__(self, spec: recipe.Answer) -> None:
        self.spec = spec

    def build(self, ops: Ops[Any], hidden: Any, inputs: Mapping[str, Any], family: Family, weights: Weights) -> Any:
        """Return [B, S, 1]."""
        state, layer = family.vocabulary(ops, weights, ops.matmul(inputs["pool.lasttoken"], hidden))
        weight = layer.weight[[self.spec.true]]
        bias = None if layer.bias is None else layer.bias[[self.spec.true]]
        if self.spec.false is not None:
            weight = weight - layer.weight[[self.spec.false]]
            bias = None if bias is None or layer.bias is None else bias - layer.bias[[self.spec.false]]
        return ops.linear(state, Linear(weight, bias))

    def read(self, values: Array, packed: Rows, items: Sequence[Item]) -> Results:
        """Return [inputs, 1]."""
        return values[packed.layout.row, packed.layout.slot]
