"""Rows that teach nothing, on vectors whose cosines are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.training.fine_tuning.columns import TrainColumns
from nearfield.training.fine_tuning.torch_training.row_checks import easy_share


class KnownAngles:
    """Gives a text that is a number of degrees the vector at that angle."""

    def encode(self, texts: Sequence[str], *, role: str) -> Array:
        angles = np.radians([float(text) for text in texts])
        return 3 * np.stack([np.cos(angles), np.sin(angles)], 1)


def columns(*rows: tuple[str, ...]) -> TrainColumns:
    names = ("anchor", "positive", "negative_1")[: len(rows[0])]
    texts = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return TrainColumns(cast(Any, texts), dict.fromkeys(names, "symmetric"))


def share(rows: TrainColumns, plan: list[list[int]]) -> float:
    return easy_share(cast(Any, KnownAngles()), rows, plan, 1)


def test_a_row_is_easy_if_its_positive_is_clearly_nearer_than_all_others_of_the_batch() -> None:
    rows = columns(("0", "10"), ("90", "80"), ("180", "170"), ("178", "5"))
    assert share(rows, [[0, 1, 2, 3]]) == 0.5


def test_a_judged_negative_counts_too() -> None:
    rows = columns(("0", "10", "12"), ("90", "80", "300"))
    assert share(rows, [[0, 1]]) == 0.5


def test_rows_that_are_all_easy_are_refused() -> None:
    rows = columns(("0", "10"), ("90", "80"))
    with pytest.raises(InputError, match="In 100% of the rows the base already puts the positive clearly first"):
        share(rows, [[0, 1]])
