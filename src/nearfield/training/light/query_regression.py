"""Query maps in closed form and by a ranking loss; both are shrunk to the identity, not to zero.

With few pairs the prior decides: a map that is shrunk to zero, or a free rotation, is worse than no map until pairs
outnumber dimensions about twice. Shrunk to the identity, the map without evidence is the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation.metrics import library
from nearfield.training.light.vector_sets import unit

#: Strengths of the prior, in units of the mean eigenvalue of the queries' second moments.
MEANING_STRENGTHS = tuple(float(10**power) for power in np.arange(-2, 3.01, 0.5))
#: Strengths of the prior of the ranking loss, in nats for a squared Frobenius distance of 1 from the identity.
RANKING_STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
#: Temperature of the softmax over documents (the usual value of training with in-batch negatives).
TEMPERATURE = 0.05
#: Queries and documents of the ranking loss, drawn at random where there are more: a step is their product.
MAX_QUERIES, MAX_DOCUMENTS = 2_000, 4_000
_STEPS = 30


def identity_ridge(
    queries: Array, targets: Array, strengths: Sequence[float] = MEANING_STRENGTHS
) -> Iterator[tuple[float, Array]]:
    """Yield for each strength the matrix ``W = (XᵀX + λI)⁻¹(XᵀY + λI)``, with results ``queries @ W``.

    It minimises ``|XW - Y|² + λ|W - I|²``. Both sides have the same dimensions; one eigendecomposition serves all λ.
    """
    x, y = queries.astype(np.float64), targets.astype(np.float64)
    values, basis = np.linalg.eigh(x.T @ x)
    projected, scale = basis.T @ (x.T @ y), max(values.mean(), 1e-12)
    for strength in strengths:
        weight = strength * scale
        inverse = 1 / (np.maximum(values, 0) + weight)
        yield strength, (basis * inverse) @ (projected + weight * basis.T)


def ranking_matrix(
    queries: Array, documents: Array, positives: Array, strengths: Sequence[float] = RANKING_STRENGTHS, *, seed: int = 1
) -> Iterator[tuple[float, Array]]:
    """Yield for each strength the matrix near the identity with the smallest softmax loss over the documents.

    Args:
        queries: [n, d].
        documents: [m, d].
        positives: for each query the number of its document.
        strengths: of the prior, the strongest first: each fit starts from the one before.
        seed: of the draw of queries and documents where there are too many.
    """
    x, y, targets = _draw(unit(queries), unit(documents), positives, seed)
    optimize, size = library("scipy.optimize"), x.shape[1]
    change = np.zeros(size * size)
    for strength in strengths:
        result = optimize.minimize(
            _ranking_loss,
            change,
            args=(x, y, targets, strength),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _STEPS},
        )
        change = result.x
        yield strength, np.eye(size) + change.reshape(size, size)


def _ranking_loss(flat: Array, x: Array, y: Array, targets: Array, strength: float) -> tuple[float, Array]:
    """Return the loss and its gradient for a change of the identity."""
    size, rows = x.shape[1], np.arange(len(x))
    change = flat.reshape(size, size).astype(np.float32)
    scores = (x + x @ change) @ y.T / TEMPERATURE
    scores -= scores.max(1, keepdims=True)
    exponents = np.exp(scores)
    sums = exponents.sum(1)
    loss = np.mean(np.log(sums) - scores[rows, targets]) + strength * float((change**2).sum())
    shares = exponents / sums[:, None]
    shares[rows, targets] -= 1
    gradient = x.T @ (shares @ y) / (TEMPERATURE * len(x)) + 2 * strength * change
    return float(loss), gradient.ravel().astype(np.float64)


def _draw(x: Array, y: Array, positives: Array, seed: int) -> tuple[Array, Array, Array]:
    """Return at most so many queries, and their documents with others, drawn at random."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(x))[:MAX_QUERIES])
    needed = np.unique(positives[chosen])
    others = random.permutation(np.setdiff1d(np.arange(len(y)), needed))[: max(0, MAX_DOCUMENTS - len(needed))]
    drawn = np.concatenate([needed, others])
    targets = np.searchsorted(needed, positives[chosen])
    return x[chosen], y[drawn], targets


def first_ranks(queries: Array, documents: Array, relevant: Sequence[Sequence[int]]) -> Array:
    """Return for each query the rank, from 1, of its best relevant document by cosine; ties count against it."""
    x, y = unit(queries), unit(documents)
    ranks = np.empty(len(x), np.int64)
    for number, good in enumerate(relevant):
        scores = y @ x[number]
        best = scores[list(good)].max()
        # The other relevant documents with the same score are not in its way.
        ranks[number] = 1 + int((scores > best).sum() + (np.delete(scores, list(good)) == best).sum())
    return ranks


def gains(ranks: Array, cutoff: int = 10) -> Array:
    """Return ``1 / log2(1 + rank)`` within the cutoff, in points: nDCG where one document is relevant."""
    return np.asarray(100 * np.where(ranks <= cutoff, 1 / np.log2(1 + ranks), 0))


def mean_gain(ranks: Array, cutoff: int = 10) -> float:
    """Return the mean of ``gains``."""
    return float(gains(ranks, cutoff).mean())


def strongest_of_equals(tried: Sequence[tuple[Array, float, Array]]) -> tuple[Array, float, Array]:
    """Return the candidate with the strongest prior that is not worse than the best by more than a standard error.

    Each has its gains by query, its strength and its matrix. The rule of one standard error (Breiman et al. 1984,
    "Classification and regression trees", section 3.4.3) changes queries of other kinds than those of the data least.
    """
    best = max(tried, key=lambda entry: float(entry[0].mean()))[0]
    error = np.sqrt(len(best))
    equal = [entry for entry in tried if (best - entry[0]).mean() <= (best - entry[0]).std() / error]
    return max(equal, key=lambda entry: entry[1])
