"""`LabelPrediction`: the label of a text, how likely it is, and whether that is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.inference.calls.prediction import Prediction


@dataclass(frozen=True)
class LabelPrediction(Prediction):
    """The likeliest label and its score, the scores of all labels, and more.

    Attributes:
        chosen: the labels that the text has: the likeliest; with several labels, all from a probability of 0.5 on.
        unsure: whether a person should look at it.
    """

    chosen: tuple[str, ...] = ()
    unsure: bool = False


def build_predictions(
    labels: Sequence[str], scores: Array, unsure: Array, *, several: bool = False
) -> list[LabelPrediction]:
    """Return a prediction for each row of scores [n, labels]; ``unsure`` is bool [n]."""
    predictions = []
    for row, doubt in zip(scores, unsure, strict=True):
        best = int(row.argmax())
        chosen = np.flatnonzero(row >= 0.5).tolist() if several else [best]
        named = tuple(labels[place] for place in chosen)
        values = dict(zip(labels, row.tolist(), strict=True))
        predictions.append(LabelPrediction(labels[best], float(row[best]), values, named, bool(doubt)))
    return predictions
