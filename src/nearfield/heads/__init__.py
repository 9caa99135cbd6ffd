"""Heads: one file for each kind of output, computed from the hidden states of one shared forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nearfield import recipe
from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Weights
from nearfield.families import Family
from nearfield.ops import Ops, T
from nearfield.packing import PackedRows

#: A result for each input; an array counts its first axis.
Results = Sequence[Any] | Array


@dataclass(frozen=True)
class OutputRequest:
    """What is wanted of an input beyond its dense vector, resolved before it is queued.

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
    """One input of a batch: its token ids and its wishes."""

    ids: Sequence[int]
    extra: OutputRequest


class Head(ABC):
    """From hidden states to one output."""

    #: The output's name, also in the graph.
    output: ClassVar[str]
    #: Graph inputs that it reads.
    inputs: tuple[str, ...] = ()
    #: Whether several inputs may share a row.
    packable: bool = True
    #: Weights among the model's own that it reads by itself.
    unread: tuple[str, ...] = ()

    @abstractmethod
    def build(self, ops: Ops[T], hidden: T, inputs: Mapping[str, T], family: Family, weights: Weights) -> T:
        """Return the output's tensor, from hidden states [B, L, H]."""

    @abstractmethod
    def read(self, values: Array, packed: PackedRows, items: Sequence[HeadInput]) -> Results:
        """Return each input's own result from the whole batch's values."""


def make(spec: recipe.Head) -> Head:
    """Return the head that a recipe describes."""
    from nearfield.heads.multivector import MultivectorHead
    from nearfield.heads.scores import ClassificationHead, LanguageModelScoreHead
    from nearfield.heads.sparse import LexicalHead, SpladeHead

    kinds: dict[type, Any] = {
        recipe.Lexical: LexicalHead,
        recipe.Splade: SpladeHead,
        recipe.Multivector: MultivectorHead,
        recipe.ClassScores: ClassificationHead,
        recipe.RerankPrompt: LanguageModelScoreHead,
    }
    head: Head = kinds[type(spec)](spec)
    return head
