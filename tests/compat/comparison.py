"""Compare results of the same code with two libraries: kinds of objects, shapes, dtypes, and numbers within noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Largest difference of a number, relative to the largest of the result, that float32 explains.
NOISE = 2e-5


def assert_equal(ours: Any, original: Any, place: str = "result") -> None:
    """Fail unless two results are equal but for rounding, and are used in the same way."""
    kind = _kind(original)
    assert _kind(ours) == kind, f"{place}: {type(ours)} instead of {type(original)}"
    if kind == "mapping":
        assert set(ours) == set(original), place
        for name in original:
            assert_equal(ours[name], original[name], f"{place}[{name!r}]")
    elif kind == "sequence":
        assert len(ours) == len(original), place
        for number, (one, other) in enumerate(zip(ours, original, strict=True)):
            assert_equal(one, other, f"{place}[{number}]")
    elif kind in ("array", "tensor", "number"):
        _assert_numbers(ours, original, place)
    else:
        assert ours == original, place


def _assert_numbers(ours: Any, original: Any, place: str) -> None:
    assert getattr(ours, "dtype", None) == getattr(original, "dtype", None), place
    one, other = np.asarray(ours), np.asarray(original)
    assert one.shape == other.shape, f"{place}: {one.shape} instead of {other.shape}"
    if other.dtype.kind == "f":
        scale = max(1.0, float(np.abs(other).max(initial=0)))
        assert float(np.abs(one.astype(np.float64) - other).max(initial=0)) <= NOISE * scale, place
    else:
        np.testing.assert_array_equal(one, other, err_msg=place)


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_, str, bytes, type(None))):
        return type(value).__name__.removesuffix("_")
    if type(value).__module__.startswith("torch"):
        return "tensor" if hasattr(value, "numpy") else type(value).__name__
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, (int, float, np.number)):
        return "number"
    if isinstance(value, Mapping):
        return "mapping"
    return "sequence" if isinstance(value, (list, tuple)) else type(value).__name__
