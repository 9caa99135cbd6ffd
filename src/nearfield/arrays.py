"""Types of arrays and of results, for annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: The result of one input: an array, a number, or several of these in order or by name.
ResultRow: TypeAlias = "Array | float | tuple[ResultRow, ...] | dict[str, ResultRow]"
