"""The cost of a token in a transformer: its parts, and how they follow from the times of a few runs.

The time of a token in bulk is modelled as

    fixed + layers x (weights of a layer x r + tokens of its text x width of the heads x a) + weights of the head x r

A token is multiplied with each weight once; attention compares it with each token of its text. ``fixed`` (tokenising,
embedding, pooling), r and a are solved from the fastest of several runs: one and three layers on short texts, and one
layer on texts of 2,048 tokens, where attention takes a third or more of the time. a grows with the text, since more
scores than the caches hold are computed; its growth is measured at the smaller widths.

Attention cannot be lost in noise. For each pair of tokens and unit of the heads' width it does two multiply-adds (query
with key, weight with value) where a weight takes one. No library computes these at twice the rate of its products of
matrices, so a is at least r.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nearfield.evaluation.planning.speed.model_shapes import ModelShape

#: Layers of the shallow and of the deep model.
SHALLOW, DEEP = 1, 3
#: Tokens of short texts, of medium ones, of those that attention is measured on, and of the longest.
SHORT, MEDIUM, LONG, LONGEST = 32, 512, 2048, 8192
#: Layers and tokens of the runs at each width.
RUNS = ((SHALLOW, SHORT), (DEEP, SHORT), (SHALLOW, LONG))
#: A run's layers, and the tokens of its texts as requested.
RunKey = tuple[int, int]


class RunTime(NamedTuple):
    """Seconds per token of a run, and the tokens of its texts."""

    seconds: float
    tokens: float


@dataclass(frozen=True)
class WidthTiming:
    """Seconds at a width: ``fixed`` per token, ``weight`` per token and weight, ``meeting`` per pair of tokens and
    unit of the heads' width, on texts of 2,048 tokens.

    ``growth`` are tokens of a text, ascending, and the cost of a pair relative to that at 2,048.
    """

    hidden: int
    fixed: float
    weight: float
    meeting: float
    growth: tuple[tuple[float, float], ...] = ((float(LONG), 1.0),)

    def meeting_at(self, tokens: float) -> float:
        """Return the seconds per pair and unit of width on texts of ``tokens`` tokens."""
        lengths, factors = zip(*self.growth, strict=True)
        return self.meeting * float(np.interp(np.log(max(tokens, 1.0)), np.log(lengths), factors))


def solve_costs(shape: ModelShape, times: Mapping[RunKey, RunTime]) -> WidthTiming:
    """Return the costs of a width from the times of its ``RUNS``, and of runs of other lengths where there are any."""
    one, layer = times[SHALLOW, SHORT], _layer(times)
    meeting = max(_extra(shape, times, LONG), _floor(shape, times))
    weight = max(layer - one.tokens * shape.heads_width * meeting, 0.5 * layer) / shape.layer_weights
    fixed = max(0.0, one.seconds - SHALLOW * layer)
    return WidthTiming(shape.hidden, fixed, weight, meeting, _growth(shape, times, meeting))


def _growth(shape: ModelShape, times: Mapping[RunKey, RunTime], long: float) -> tuple[tuple[float, float], ...]:
    """Return the growth of attention. A pair of a shorter text costs no more, and a longer text costs more in all."""
    floor = _floor(shape, times)
    growth = []
    for tokens in sorted(tokens for layers, tokens in times if layers == SHALLOW and tokens > SHORT):
        cost = max(_extra(shape, times, tokens), floor)
        least = (LONG * long + (tokens - LONG) * floor) / tokens
        growth.append((times[SHALLOW, tokens].tokens, (min(cost, long) if tokens <= LONG else max(cost, least)) / long))
    return tuple(growth)


def _floor(shape: ModelShape, times: Mapping[RunKey, RunTime]) -> float:
    """Return the seconds that a pair of tokens takes at least per unit of width: those of a weight."""
    return _layer(times) / shape.layer_weights


def _layer(times: Mapping[RunKey, RunTime]) -> float:
    """Return the seconds that a token of a short text spends in a layer."""
    one, deep = times[SHALLOW, SHORT].seconds, times[DEEP, SHORT].seconds
    return max((deep - one) / (DEEP - SHALLOW), 0.05 * deep)


def _extra(shape: ModelShape, times: Mapping[RunKey, RunTime], tokens: int) -> float:
    """Return the seconds that a pair of tokens adds per unit of width; longer texts cost more only by attention."""
    one, long = times[SHALLOW, SHORT], times[SHALLOW, tokens]
    return (long.seconds - one.seconds) / ((long.tokens - one.tokens) * shape.heads_width)
