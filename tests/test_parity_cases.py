"""Every family and head beside its reference: alone, batched with other lengths, over-length, padded on either side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity import Array, Case, cases
from tests.tiny import TEXTS

CASES = cases()
IDS = [f"{case.family}: {case.name}" for case in CASES]
PAIRS = [(first, second) for first, second in zip(TEXTS, [*TEXTS[3:], *TEXTS[:3]], strict=True) if second.strip()]


def inputs(case: Case) -> list[Any]:
    """What a case is asked to encode: texts, or pairs for scores."""
    return list(PAIRS) if case.output == "scores" else list(TEXTS)


def ours(case: Case, folder: Path, items: list[Any], **options: Any) -> list[Array]:
    """Encode with Nearfield, as the reference's shapes are."""
    from nearfield import Encoder, Reranker

    if case.output == "scores":
        with Reranker(str(folder), **{**case.options, **options}) as model:
            scores = model.score([first for first, _ in items], [second for _, second in items], **case.wanted)
        return [np.atleast_1d(row) for row in scores.data]
    with Encoder(str(folder), **{**case.options, **options}) as encoder:
        found: Any = encoder.encode(items, **case.wanted)
    found = found[case.output] if "outputs" in case.wanted else found
    return list(np.asarray(found)) if case.output != "multivector" else list(found)


def cosine(a: Array, b: Array) -> float:
    """Compare two results as one long vector each; two zero vectors are the same."""
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a.astype(np.float64) * b).sum()) / sizes if sizes else float(np.allclose(a, b))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_parity(case: Case, written: dict[int, Path], tmp_path: Path) -> None:
    folder = written.setdefault(id(case.write), case.write(tmp_path))
    items = inputs(case)
    batched = ours(case, folder, items, precision="float32")
    for padding in case.paddings:
        expected = case.expect(folder, items, padding=padding)
        for index, (one, truth) in enumerate(zip(batched, expected, strict=True)):
            assert one.shape == truth.shape, f"input {index}: {items[index]!r}"
            assert cosine(one, truth) >= 0.99999, f"input {index}: {items[index]!r}"
            np.testing.assert_allclose(one, truth, rtol=2e-3, atol=2e-4 * max(1.0, float(np.abs(truth).max(initial=0))))
    alone = [ours(case, folder, [item], precision="float32")[0] for item in items[:3]]
    for one, together in zip(alone, batched, strict=False):
        np.testing.assert_allclose(one, together, rtol=1e-3, atol=1e-4)
