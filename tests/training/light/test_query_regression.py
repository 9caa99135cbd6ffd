"""The closed form of the identity-anchored ridge, the ranking loss's gradient, and ranks: against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from nearfield.training.light.query_regression import (
    _ranking_loss,
    first_ranks,
    identity_ridge,
    mean_gain,
    ranking_matrix,
    strongest_of_equals,
)

RANDOM = np.random.default_rng(5)


def test_the_closed_form_is_the_minimum_of_its_definition() -> None:
    x, y = RANDOM.standard_normal((40, 7)), RANDOM.standard_normal((40, 7))
    scale = np.trace(x.T @ x) / 7
    for strength, matrix in identity_ridge(x, y, (0.1, 1.0, 10.0)):
        weight = strength * scale
        wanted = np.linalg.solve(x.T @ x + weight * np.eye(7), x.T @ y + weight * np.eye(7))
        np.testing.assert_allclose(matrix, wanted, atol=1e-10)


def test_a_strong_prior_is_the_identity_and_a_weak_one_least_squares() -> None:
    x, y = RANDOM.standard_normal((40, 7)), RANDOM.standard_normal((40, 7))
    (_, weak), (_, strong) = identity_ridge(x, y, (1e-9, 1e9))
    np.testing.assert_allclose(strong, np.eye(7), atol=1e-6)
    np.testing.assert_allclose(weak, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-6)


def test_the_gradient_of_the_ranking_loss_is_that_of_its_values() -> None:
    x, y = RANDOM.standard_normal((6, 3)), RANDOM.standard_normal((5, 3))
    targets = np.array([0, 1, 2, 3, 4, 0])

    def loss(flat: np.ndarray) -> float:
        return _ranking_loss(flat, 0.05 * x, y, targets, 0.3)[0]

    def gradient(flat: np.ndarray) -> np.ndarray:
        return _ranking_loss(flat, 0.05 * x, y, targets, 0.3)[1]

    # The change is rounded to float32 inside: a larger step hides it.
    error = check_grad(loss, gradient, 0.1 * RANDOM.standard_normal(9), epsilon=1e-3)
    assert error < 1e-2 * np.linalg.norm(gradient(np.zeros(9)))


def test_the_ranking_loss_finds_a_rotation_that_regression_onto_hubs_cannot() -> None:
    documents = RANDOM.standard_normal((60, 8)).astype(np.float32)
    rotation, _ = np.linalg.qr(RANDOM.standard_normal((8, 8)))
    queries = (documents @ rotation + 0.1 * RANDOM.standard_normal((60, 8))).astype(np.float32)
    relevant = [[number] for number in range(60)]
    before = mean_gain(first_ranks(queries, documents, relevant))
    *_, (_, matrix) = ranking_matrix(queries[:40], documents, np.arange(40), (0.1, 0.001))
    after = mean_gain(first_ranks((queries @ matrix)[40:], documents, relevant[40:]))
    assert after > before + 30


def test_too_many_queries_and_documents_are_drawn_with_the_documents_of_the_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = "nearfield.training.light.query_regression"
    monkeypatch.setattr(f"{module}.MAX_QUERIES", 20)
    monkeypatch.setattr(f"{module}.MAX_DOCUMENTS", 30)
    x, y = RANDOM.standard_normal((50, 4)), RANDOM.standard_normal((70, 4))
    matrices = [
        next(matrix for _, matrix in ranking_matrix(x, y, np.arange(50), (1.0,), seed=seed)) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(matrices[0], matrices[1])
    assert not np.array_equal(matrices[0], matrices[2])


def test_ranks_count_ties_against_a_document_and_take_the_best_of_several() -> None:
    documents = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    query = np.array([[1, 0]], np.float32)
    assert first_ranks(query, documents, [[0]]).tolist() == [2]
    assert first_ranks(query, documents, [[0, 1]]).tolist() == [1]
    assert first_ranks(query, documents, [[2, 3]]).tolist() == [3]
    assert mean_gain(np.array([1, 3, 11])) == pytest.approx(100 * (1 + 0.5 + 0) / 3)


def test_the_strongest_prior_within_a_standard_error_of_the_best_is_taken() -> None:
    best = np.tile([0.0, 100.0], 50)
    nearly = best.copy()
    nearly[:2] = [10.0, 80.0]
    worse = best - 5
    tried = [(best, 0.1, np.eye(1)), (nearly, 1.0, np.eye(1)), (worse, 10.0, np.eye(1))]
    assert strongest_of_equals(tried)[1] == 1.0
    assert strongest_of_equals(tried[:1])[1] == 0.1
