"""Measure: how near Nearfield comes to a case's reference, in each precision and in each company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support.tiny_models import TEXTS

PAIRS = [(first, second) for first, second in zip(TEXTS, [*TEXTS[3:], *TEXTS[:3]], strict=True) if second.strip()]


@dataclass(frozen=True)
class Nearness:
    """The smallest and mean cosine to the reference, and the largest difference of a value."""

    least: float
    mean: float
    apart: float


def inputs(case: Case) -> list[Any]:
    """What a case is asked to encode: texts, or pairs for scores; one of them is too long for the model."""
    return list(PAIRS) if case.output == "scores" else list(TEXTS)


def ours(case: Case, folder: Path, items: Sequence[Any], *, alone: bool = False, **options: Any) -> list[Array]:
    """Encode with Nearfield in one call, or each input in a separate call; shapes are the reference's."""
    from nearfield import Encoder, Reranker

    calls = [[item] for item in items] if alone else [list(items)]
    kind: Any = Reranker if case.output == "scores" else Encoder
    with kind(str(folder), **{**case.options, **options}) as model:
        return [row for call in calls for row in _call(case, model, call)]


def _call(case: Case, model: Any, items: list[Any]) -> list[Array]:
    if case.output == "scores":
        scores = model.score([first for first, _ in items], [second for _, second in items], **case.wanted)
        return [np.atleast_1d(row) for row in scores.data]
    found: Any = model.encode(items, **case.wanted)
    found = found[case.output] if "outputs" in case.wanted else found
    return list(found) if case.output == "multivector" else list(np.asarray(found))


def nearness(rows: Sequence[Array], truth: Sequence[Array]) -> Nearness:
    """Compare results, each as one long vector."""
    cosines = [cosine(one, other) for one, other in zip(rows, truth, strict=True)]
    apart = max(float(np.abs(one - other).max(initial=0)) for one, other in zip(rows, truth, strict=True))
    return Nearness(min(cosines), float(np.mean(cosines)), apart)


def cosine(a: Array, b: Array) -> float:
    """Compare two results; two zero vectors are the same."""
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    x, y = (one.astype(np.float64).ravel() for one in (a, b))
    sizes = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / sizes if sizes else float(np.allclose(x, y))
