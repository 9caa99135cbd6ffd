"""Heads that give scores: the logits of labels, or a language model's logit of yes minus that of no."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nearfield import recipe
from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.heads import Head, HeadInput, Results
from nearfield.ops import Ops, T
from nearfield.packing import PackedRows


class ClassificationHead(Head):
    """The family's own classification head: logits, before any activation."""

    output = "scores"

    def __init__(self, spec: recipe.ClassScores) -> None:
        self.spec = spec

    def bind(self, family: Family, typed: bool) -> None:
        """Read the token that the family's head reads, and types where the tokenizer marks the texts of a pair."""
        self.inputs = (f"pool.{family.class_pooling}", *(("types",) if typed and family.types > 1 else ()))

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, S, labels]."""
        state = ops.matmul(inputs[f"pool.{family.class_pooling}"], hidden)
        return family.classes(ops, weights, state, len(self.spec.labels))

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> Results:
        """Return [inputs, labels]."""
        return values[packed.layout.row, packed.layout.slot]


class LanguageModelScoreHead(Head):
    """The logits of one or two words at the last token: those rows of the last layer, and no others, are computed."""

    output = "scores"
    inputs = ("pool.lasttoken",)

    def __init__(self, spec: recipe.RerankPrompt) -> None:
        self.spec = spec
        self.rows: tuple[int, ...] = ()

    def bind(self, number: Callable[[str], int | None], vocab_size: int) -> None:
        """Find the ids of the words that are asked for.

        Raises:
            ModelRefused: the tokenizer does not have one of them as a single token, or the model has no logit for it.
        """
        words = [self.spec.true, *([] if self.spec.false is None else [self.spec.false])]
        numbers = [number(word) if isinstance(word, str) else word for word in words]
        missing = [word for word, row in zip(words, numbers, strict=True) if row is None]
        if missing:
            raise ModelRefused(f"The tokenizer has no single token for {', '.join(map(repr, missing))}.")
        self.rows = tuple(row for row in numbers if row is not None)
        beyond = [row for row in self.rows if not 0 <= row < vocab_size]
        if beyond:
            raise ModelRefused(f"The model has {vocab_size} logits, and none for token {beyond[0]}.")

    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return [B, S, 1]."""
        state, layer = family.vocabulary(ops, weights, ops.matmul(inputs["pool.lasttoken"], hidden))
        weight = layer.weight[[self.rows[0]]]
        bias = None if layer.bias is None else layer.bias[[self.rows[0]]]
        if len(self.rows) > 1:
            weight = weight - layer.weight[[self.rows[1]]]
            bias = None if bias is None or layer.bias is None else bias - layer.bias[[self.rows[1]]]
        return ops.linear(state, Linear(weight, bias))

    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> Results:
        """Return [inputs, 1]."""
        return values[packed.layout.row, packed.layout.slot]
