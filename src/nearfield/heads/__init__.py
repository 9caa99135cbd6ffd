"""Heads: a class for each kind of output, computed from the hidden states of one shared forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nearfield import recipe
from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Weights
from nearfield.families import Family
from nearfield.features import Features
from nearfield.ops import Ops, T
from nearfield.packing import PackedRows

#: A result for each input; an array counts its first axis.
Results = Sequence[Any] | Array


@dataclass(frozen=True)
class OutputRequest:
    """The outputs of one input, and how they are computed; complete before the input is queued.

    ``second`` is where the second text of a pair begins (0: none); ``spans`` are the parts of the input that are pooled
    apart (late chunking); ``kept_tokens`` are the tokens whose vectors are given (None: all); the last
    ``unattended`` tokens are not attended to; ``adapter`` is a number (0: none).
    """

    outputs: tuple[str, ...] = ("dense",)
    second: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    kept_tokens: Array | None = None
    unattended: int = 0
    adapter: int = 0


@dataclass(frozen=True)
class HeadInput:
    """One input of a batch: its features, the rows of their arrays, and its `OutputRequest`."""

    features: Features
    length: int
    request: OutputRequest


class Head(ABC):
    """Computes one kind of output from hidden states."""

    #: The output's name, also in the graph.
    output: ClassVar[str]
    #: Graph inputs that it reads.
    inputs: tuple[str, ...] = ()
    #: Whether several inputs may share a row.
    packable: bool = True
    #: Patterns of weights that the family need not read, because this head reads them or does without them.
    unused_weights: tuple[str, ...] = ()

    @abstractmethod
    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return the output's tensor, from hidden states [B, L, H]."""

    @abstractmethod
    def split_results(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> Results:
        """Split the output's array of a whole batch into the result of each input."""


def create_head(spec: recipe.HeadSpec) -> Head:
    """Create the head that a recipe describes: the one place that lists all classes of heads."""
    from nearfield.heads.multivector import MultivectorHead, RowsHead
    from nearfield.heads.pooled import PooledScoreHead
    from nearfield.heads.scores import ClassificationHead, LanguageModelScoreHead
    from nearfield.heads.sparse import LexicalHead, SpladeHead

    match spec:
        case recipe.Lexical():
            return LexicalHead(spec)
        case recipe.Splade():
            return SpladeHead(spec)
        case recipe.Multivector():
            return MultivectorHead(spec)
        case recipe.ClassScores():
            return PooledScoreHead(spec.modules) if spec.modules else ClassificationHead(spec)
        case recipe.RerankPrompt():
            return LanguageModelScoreHead(spec)
        case recipe.Rows():
            return RowsHead()
