"""The check that a matrix can be quantised: of a value that is not finite the codes would be any number."""

from __future__ import annotations

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import WeightsError


def require_finite(matrix: Array) -> None:
    """Raise WeightsError if a matrix has infinite or undefined values."""
    if not np.isfinite((matrix.min(), matrix.max())).all():
        raise WeightsError(
            f"A matrix of weights {list(matrix.shape)} has infinite or undefined values (NaN), and cannot be "
            "quantised: its file is damaged. Fetch the model again, or ask its publisher."
        )
