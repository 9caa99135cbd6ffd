"""Which candidates become hard negatives: ranks, margins and limits of scores (`MiningOptions`), and sampling.

`are_pairs`, `remove_by_limits` and `best_places` decide for ``mine_hard_negatives`` and for ``nearfield train mine``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nearfield.argument_checks import require_count, require_optional_counts
from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.mining_table import NegativeCandidates, QueryPairs
from nearfield.errors import InputError

#: Candidates that are considered for each negative, if some of them may be left out.
_SPARE = 10


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """Options of ``mine_hard_negatives``, which documents them."""

    range_min: int
    range_max: int | None
    max_score: float | None
    min_score: float | None
    absolute_margin: float | None
    relative_margin: float | None
    num_negatives: int
    sampling_strategy: str
    include_positives: bool

    @property
    def filters(self) -> dict[str, float]:
        """The margins and limits that are set, by name."""
        names = ("absolute_margin", "relative_margin", "max_score", "min_score")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def last(self) -> int:
        """The rank after the last candidate that is considered."""
        return self.range_max or 0

    def resolve(self, max_positives: int, has_cross_encoder: bool) -> MiningOptions:
        """Return options with ``range_max``, checked.

        Args:
            max_positives: the most positives that a query has.
            has_cross_encoder: whether scores are those of a cross-encoder.

        Raises:
            InputError: an option does not fit.
        """
        require_count("num_negatives", self.num_negatives)
        require_count("range_min", self.range_min, 0)
        require_optional_counts(range_max=self.range_max)
        if self.sampling_strategy not in ("top", "random"):
            raise InputError(f"sampling_strategy must be 'top' or 'random', not {self.sampling_strategy!r}.")
        resolved = self
        if self.range_max is None:
            # Candidates come by falling score: those below min_score are the last, unless they are scored again.
            may_remove = set(self.filters) - (set() if has_cross_encoder else {"min_score"})
            spare = self.num_negatives * (_SPARE if may_remove else 1)
            resolved = replace(self, range_max=self.range_min + spare + max_positives)
        resolved._check_ranks()
        return resolved

    def _check_ranks(self) -> None:
        count = self.last - self.range_min
        if count <= 0:
            raise InputError(
                f"range_min must be smaller than range_max, and range_min={self.range_min}, range_max={self.last}."
            )
        if self.num_negatives > count:
            raise InputError(
                f"Cannot mine {self.num_negatives} negatives per query: only {count} candidates remain between "
                f"range_min={self.range_min} and range_max={self.last}. Lower num_negatives, or raise range_max."
            )


@dataclass(frozen=True, slots=True)
class Removal:
    """How many candidates an option removed, and the share of those that were left."""

    count: int
    share: float


def remove_candidates(candidates: NegativeCandidates, pairs: QueryPairs, options: MiningOptions) -> dict[str, Removal]:
    """Set the scores of candidates that are no negatives to minus infinity, in place; return what removed how many."""
    scores = candidates.scores
    scores[candidates.ids < 0] = -np.inf
    if not options.include_positives:
        scores[are_pairs(candidates.ids, pairs.owners, pairs.positives, len(pairs.corpus))] = -np.inf
    lowest = np.minimum.reduceat(candidates.positive_scores, pairs.starts)[:, None]
    return remove_by_limits(scores, lowest, options.filters)


def remove_by_limits(scores: Array, lowest: Array, limits: Mapping[str, float]) -> dict[str, Removal]:
    """Set scores that are no negatives' to minus infinity, in place; return what each limit removed.

    Args:
        scores: [queries, k]; minus infinity for what was removed before.
        lowest: [queries, 1], the score of the hardest positive of each query.
        limits: ``absolute_margin``, ``relative_margin`` (a share of the positive's score), ``max_score`` and
            ``min_score``, those that are set.
    """
    left, removals = scores.size, {}
    for name, value in limits.items():
        removed = _exceeds(name, scores, lowest, value) & (scores != -np.inf)
        scores[removed] = -np.inf
        count = int(removed.sum())
        if count:
            removals[name] = Removal(count, count / left)
            left -= count
    return removals


def select(candidates: NegativeCandidates, options: MiningOptions) -> NegativeCandidates:
    """Return ``num_negatives`` candidates of each query, by falling score; minus infinity where there are fewer."""
    order = best_places(candidates.scores, options.range_min, options.last)
    if options.sampling_strategy == "random":
        scores = np.take_along_axis(candidates.scores, order, 1)
        order = np.take_along_axis(order, _sample(scores, options.num_negatives), 1)
    order = order[:, : options.num_negatives]
    ids, scores = (np.take_along_axis(part, order, 1) for part in (candidates.ids, candidates.scores))
    return replace(candidates, ids=ids, scores=scores)


def best_places(scores: Array, first: int, last: int) -> Array:
    """Return the columns of the candidates from rank ``first`` (from 0) up to ``last``, by falling score."""
    return np.argsort(-scores, axis=1, kind="stable")[:, first:last]


def are_pairs(ids: Array, owners: Array, others: Array, size: int) -> Array:
    """Return which candidates ``ids`` [queries, k] are one of the pairs of a query and a text.

    Args:
        ids: numbers of texts; -1 for none.
        owners, others: for each pair the number of the query and that of the text.
        size: one more than the largest number of a text.
    """
    keys = np.arange(len(ids))[:, None] * size + ids
    return np.isin(keys, owners * size + others) & (ids >= 0)


def _exceeds(name: str, scores: Array, lowest: Array, value: Any) -> Array:
    """Return which candidates an option removes; ``lowest`` [queries, 1] are the scores of the hardest positives."""
    if name == "absolute_margin":
        return scores + value > lowest
    if name == "relative_margin":
        # Of the magnitude: a share of a negative score would move the limit upwards.
        return scores > lowest - abs(lowest) * value
    return scores > value if name == "max_score" else scores < value


def _sample(scores: Array, count: int) -> Array:
    """Return the places of candidates drawn at random, in order; minus infinity only where there are too few others."""
    options = np.maximum((~np.isinf(scores)).sum(1), count)
    return np.array([sorted(random.sample(range(size), k=count)) for size in options.tolist()])
