"""Factor analysis of a table with unknown cells, by expectation maximisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array

#: Strength of the prior that a column has no loading, in models.
_RIDGE = 1.0
#: Prior of a column's noise: that many models with that variance, of a column of variance 1.
_NOISE_MODELS, _NOISE = 2.0, 0.1
_LEAST_NOISE = 0.01


@dataclass(frozen=True)
class Estimated:
    """What a factor analysis says of every cell.

    ``values`` are the means [rows, columns]. The covariance of a row's cells is
    ``loadings @ spread[row] @ loadings.T``; ``noise`` [columns] is the variance that each cell has besides.
    """

    values: Array
    loadings: Array
    spread: Array
    noise: Array

    def error(self, row: int, columns: Array, tasks: int) -> float:
        """Return the standard error of a mean over ``tasks`` cells of which those in ``columns`` are estimated."""
        weight = self.loadings[columns].sum(0) / tasks
        return float(np.sqrt(weight @ self.spread[row] @ weight + self.noise[columns].sum() / tasks**2))


def estimate(table: Array, factors: int = 4, rounds: int = 60) -> Estimated:
    """Fit a factor analysis to a table [rows, columns] whose unknown cells are NaN, and estimate all cells.

    Each column has its own mean, loadings and noise (Rubin and Thayer 1982), with weak priors on the last two, so that
    columns with few figures do not fit them exactly.
    """
    centre, scale = np.nanmean(table, 0), np.nanstd(table, 0) + 1e-6
    known = ~np.isnan(table)
    cells = np.where(known, (table - centre) / scale, 0.0)
    count = len(table)
    _, sizes, directions = np.linalg.svd(cells, full_matrices=False)
    loadings = directions[:factors].T * sizes[:factors] / np.sqrt(count)
    means, noise = np.zeros(table.shape[1]), np.full(table.shape[1], 0.3)
    for _ in range(rounds):
        spread, scores = _posterior(cells, known, means, loadings, noise)
        loadings, means = _loadings(cells, known, spread, scores)
        # Factors have variance 1: without this step, noise that is small makes their scale converge too slowly
        # (Liu, Rubin and Wu 1998).
        loadings = loadings @ np.linalg.cholesky(spread.mean(0) + scores.T @ scores / count)
        spread, scores = _posterior(cells, known, means, loadings, noise)
        rest = (cells - scores @ loadings.T - means) ** 2 + spread.reshape(count, -1) @ _products(loadings).T
        squares = np.where(known, rest, 0.0).sum(0) + _NOISE_MODELS * _NOISE
        noise = np.maximum(squares / (known.sum(0) + _NOISE_MODELS), _LEAST_NOISE)
    spread, scores = _posterior(cells, known, means, loadings, noise)
    values = (scores @ loadings.T + means) * scale + centre
    return Estimated(values, loadings * scale[:, None], spread, noise * scale**2)


def _posterior(cells: Array, known: Array, means: Array, loadings: Array, noise: Array) -> tuple[Array, Array]:
    """Return covariance [rows, factors, factors] and mean [rows, factors] of the factors, given a row's known cells."""
    factors = loadings.shape[1]
    weights = known / noise
    precision = (weights @ _products(loadings)).reshape(-1, factors, factors) + np.eye(factors)
    spread = np.linalg.inv(precision)
    pull = (weights * np.where(known, cells - means, 0.0)) @ loadings
    return spread, (spread @ pull[:, :, None])[:, :, 0]


def _loadings(cells: Array, known: Array, spread: Array, scores: Array) -> tuple[Array, Array]:
    """Return loadings [columns, factors] and means [columns]: a regression on the factors for each column."""
    rows, factors = scores.shape
    design = np.concatenate([scores, np.ones((rows, 1))], axis=1)
    moments = design[:, :, None] * design[:, None, :]
    moments[:, :factors, :factors] += spread
    left = (known.T.astype(float) @ moments.reshape(rows, -1)).reshape(-1, factors + 1, factors + 1)
    right = np.where(known, cells, 0.0).T @ design
    solved = np.linalg.solve(left + _RIDGE * np.eye(factors + 1), right[:, :, None])[:, :, 0]
    return solved[:, :factors], solved[:, factors]


def _products(loadings: Array) -> Array:
    """Return the products of all pairs of a column's loadings, [columns, factors²]."""
    return (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)
