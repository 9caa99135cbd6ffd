"""Forms of a bridge, each fitted in closed form: rotation, ridge, low rank, residual features, local maps.

Sources: Procrustes (Schönemann 1966); low rank and residual maps as in Drift-Adapter (arXiv 2509.23471), with the
residual as a ridge on random ReLU features (Rahimi & Recht 2007) in place of a network that is trained step by step;
one map per cluster, shrunk to the global one, so that a small cluster does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.evaluation.metrics import library
from nearfield.vectors.vector_map import nearest_centroids

#: Strengths of ridges, in units of the mean eigenvalue of the centred inputs.
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
RANKS, CLUSTERS = (32, 64, 128, 256), (4, 8, 16)
#: Random features for each input dimension.
FEATURES_PER_DIMENSION = 4
#: Pairs for each cluster below which local maps are not tried.
MIN_PAIRS_PER_CLUSTER = 50


@dataclass(frozen=True)
class BridgeCandidate:
    """A fitted rule: the form of `VectorMap`, the form as shown, its parameters, and its tensors."""

    form: str
    name: str
    setting: str
    tensors: Mapping[str, Array]


def candidates(x: Array, y: Array, *, seed: int = 1) -> Iterator[BridgeCandidate]:
    """Yield bridges of all forms from rows ``x`` [n, a] to rows ``y`` [n, b], the simplest first."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    centre = _Centred(x, y)
    yield centre.candidate("procrustes", "", _rotation(centre.x, centre.y))
    ridges = {strength: _ridge(centre.x, centre.y, strength) for strength in STRENGTHS}
    for strength, matrix in ridges.items():
        yield centre.candidate("ridge", f"strength {strength:g}", matrix)
    yield from _low_rank(centre, ridges)
    yield from _residual(centre, seed)
    yield from _local(x, y, ridges, seed)


class _Centred:
    """Inputs and targets without their means, which become the offset."""

    def __init__(self, x: Array, y: Array) -> None:
        self.mean_x, self.mean_y = x.mean(0), y.mean(0)
        self.x, self.y = x - self.mean_x, y - self.mean_y

    def candidate(self, name: str, setting: str, matrix: Array) -> BridgeCandidate:
        tensors = {"matrix": matrix, "offset": self.mean_y - self.mean_x @ matrix}
        return BridgeCandidate("linear", name, setting, tensors)


def _rotation(x: Array, y: Array) -> Array:
    """Return the matrix with orthonormal rows or columns that turns x onto y."""
    left, _, right = np.linalg.svd(x.T @ y, full_matrices=False)
    return np.asarray(left @ right)


def _ridge(x: Array, y: Array, strength: float, prior: Array | None = None) -> Array:
    """Return ``(XᵀX + λI)⁻¹(XᵀY + λP)``: shrunk to the prior, by default to zero."""
    moments = x.T @ x
    weight = strength * max(float(np.trace(moments)) / len(moments), 1e-12)
    right = x.T @ y + (0 if prior is None else weight * prior)
    return np.asarray(np.linalg.solve(moments + weight * np.eye(len(moments)), right))


def _low_rank(centre: _Centred, ridges: Mapping[float, Array]) -> Iterator[BridgeCandidate]:
    """Yield ridges whose results are confined to their first principal directions (reduced-rank regression)."""
    width = min(centre.x.shape[1], centre.y.shape[1])
    for strength, matrix in ridges.items():
        _, directions = np.linalg.eigh(matrix.T @ (centre.x.T @ centre.x) @ matrix)
        for rank in (rank for rank in RANKS if rank < width):
            up = directions[:, ::-1][:, :rank].T
            offset = centre.mean_y - centre.mean_x @ matrix @ up.T @ up
            tensors = {"down": matrix @ up.T, "up": up, "offset": offset}
            yield BridgeCandidate("low-rank", "low-rank", f"rank {rank}, strength {strength:g}", tensors)


def _residual(centre: _Centred, seed: int) -> Iterator[BridgeCandidate]:
    """Yield a matrix with random ReLU features beside it, fitted together."""
    width = centre.x.shape[1]
    count = FEATURES_PER_DIMENSION * width
    random = np.random.default_rng(seed)
    scale = 1 / max(float(np.sqrt((centre.x**2).sum(1).mean())), 1e-12)
    hidden = random.standard_normal((width, count)) * scale
    shift = 0.5 * random.standard_normal(count) - centre.mean_x @ hidden
    features = np.maximum((centre.x + centre.mean_x) @ hidden + shift, 0)
    level = features.mean(0)
    # In the units of the inputs, so that one strength suits both.
    unit = float(np.sqrt(centre.x.var(0).mean() / max(features.var(0).mean(), 1e-12)))
    joined = np.concatenate([centre.x, unit * (features - level)], axis=1)
    for strength in STRENGTHS:
        weights = _ridge(joined, centre.y, strength)
        matrix, outer = weights[:width], unit * weights[width:]
        tensors = {"matrix": matrix, "hidden": hidden, "hidden_offset": shift, "outer": outer}
        tensors["offset"] = centre.mean_y - centre.mean_x @ matrix - level @ outer
        yield BridgeCandidate("residual", "residual", f"{count} features, strength {strength:g}", tensors)


def _local(x: Array, y: Array, ridges: Mapping[float, Array], seed: int) -> Iterator[BridgeCandidate]:
    """Yield one ridge for each cluster of the inputs, shrunk to the global one."""
    for count in (count for count in CLUSTERS if len(x) >= count * MIN_PAIRS_PER_CLUSTER):
        centroids = _centroids(x, count, seed)
        clusters = nearest_centroids(x, centroids)
        for strength, prior in ridges.items():
            parts = [_cluster_map(x[clusters == number], y[clusters == number], prior) for number in range(count)]
            if any(part is None for part in parts):
                continue
            matrices, offsets = (np.stack(side) for side in zip(*(part for part in parts if part), strict=True))
            tensors = {"centroids": centroids, "local": matrices, "local_offset": offsets}
            yield BridgeCandidate("local", "local", f"{count} clusters, strength {strength:g}", tensors)


def _cluster_map(x: Array, y: Array, prior: Array) -> tuple[Array, Array] | None:
    """Return matrix and offset of one cluster; None for an empty one."""
    if not len(x):
        return None
    centre = _Centred(x, y)
    matrix = _ridge(centre.x, centre.y, 1.0, prior)
    return matrix, centre.mean_y - centre.mean_x @ matrix


def _centroids(x: Array, count: int, seed: int) -> Array:
    vq = library("scipy.cluster.vq")
    centroids, _ = vq.kmeans2(x, count, minit="++", rng=np.random.default_rng(seed), missing="raise")
    return np.asarray(centroids)
