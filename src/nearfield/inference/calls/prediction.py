"""`Prediction`: the likeliest label of an input, and the scores of all labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.arrays import Array


@dataclass(frozen=True)
class Prediction:
    """The likeliest label, its score, and the scores of all labels."""

    label: str
    score: float
    scores: dict[str, float]

    @classmethod
    def from_scores(cls, labels: Sequence[str], row: Array) -> Prediction:
        """Return the prediction of one input, from its score [labels] for each label."""
        best = int(row.argmax())
        return cls(labels[best], float(row[best]), dict(zip(labels, row.tolist(), strict=True)))
