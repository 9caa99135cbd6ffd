"""Clusters of unit vectors: their centres, how many there are, and how stable they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.jobs.libraries import library

#: Items above which k-means reads batches, and of which a density is computed.
_MAX_WHOLE, _BATCH = 50_000, 4_096
#: Random starts of k-means, of which the best counts; to choose a number of clusters, one is enough.
_STARTS = 3
_MAX_DENSITY = 20_000
#: Items on which the number of clusters is chosen, and of which a silhouette is computed.
_MAX_CHOICE, _MAX_SILHOUETTE = 10_000, 2_000
#: Runs that are compared, and the share of items that each sees.
_RUNS, _SHARE = 3, 0.8
#: Principal components in which a density is computed: in hundreds of dimensions all distances are alike.
_COMPONENTS = 15
#: Rows of which similarities are computed at a time.
_BLOCK = 16_384
#: Numbers of clusters that are tried.
COUNTS = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256)

#: From unit vectors [n, dim] and a seed to the centres of clusters [clusters, dim], of unit length.
CentreSearch: TypeAlias = Callable[[Array, int], Array]


@dataclass(frozen=True)
class Membership:
    """The nearest centre of each item, int64 [n], and the cosine to it, float32 [n]."""

    cluster: Array
    similarity: Array


def k_means(count: int, starts: int = _STARTS) -> CentreSearch:
    """Return the search for a number of clusters by k-means, on batches where there are many items."""

    def search(vectors: Array, seed: int) -> Array:
        cluster = library("sklearn.cluster")
        if len(vectors) > _MAX_WHOLE:
            model = cluster.MiniBatchKMeans(count, batch_size=_BATCH, n_init=starts, random_state=seed)
        else:
            model = cluster.KMeans(count, n_init=starts, random_state=seed)
        with warnings.catch_warnings():  # of fewer different items than clusters, of which some stay empty
            warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
            return _unit(model.fit(vectors).cluster_centers_)

    return search


def density(min_size: int) -> CentreSearch:
    """Return the search for dense regions by HDBSCAN (Campello et al. 2013), in principal components.

    It returns no centre where nothing is dense. Of many items, it sees some at random.
    """

    def search(vectors: Array, seed: int) -> Array:
        seen = sample_rows(vectors, _MAX_DENSITY, seed)
        size = max(2, round(min_size * len(seen) / len(vectors)))
        components = min(_COMPONENTS, *seen.shape)
        flat = library("sklearn.decomposition").PCA(components, random_state=seed).fit_transform(seen)
        labels = library("sklearn.cluster").HDBSCAN(min_cluster_size=size, copy=True).fit(flat).labels_
        centres = [seen[labels == number].mean(0) for number in range(labels.max() + 1)]
        return _unit(np.stack(centres)) if centres else np.zeros((0, vectors.shape[1]), np.float32)

    return search


def choose_count(vectors: Array, min_size: int, seed: int) -> tuple[int, dict[int, float]]:
    """Return the number of clusters with the highest silhouette (Rousseeuw 1987), and the silhouette of each number."""
    seen = sample_rows(vectors, _MAX_CHOICE, seed)
    largest = max(2, len(seen) // min_size)
    scores = {}
    for count in (count for count in COUNTS if count <= largest):
        centres = k_means(count, starts=1)(seen, seed)
        scores[count] = silhouette(seen, join(seen, centres).cluster, seed)
    return max(scores, key=lambda count: scores[count]), scores


def silhouette(vectors: Array, clusters: Array, seed: int) -> float:
    """Return by how much items are nearer to their cluster than to the next one, from -1 to 1, on a sample."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:_MAX_SILHOUETTE]
    if not 1 < len(np.unique(clusters[rows])) < len(rows):
        return 0.0
    return float(library("sklearn.metrics").silhouette_score(vectors[rows], clusters[rows], metric="cosine"))


def join(vectors: Array, centres: Array) -> Membership:
    """Return the nearest centre of each item."""
    parts = [vectors[start : start + _BLOCK] @ centres.T for start in range(0, len(vectors), _BLOCK)]
    nearest = [part.argmax(1) for part in parts]
    values = [part[np.arange(len(part)), place] for part, place in zip(parts, nearest, strict=True)]
    if not parts:
        return Membership(np.zeros(0, np.int64), np.zeros(0, np.float32))
    return Membership(np.concatenate(nearest), np.concatenate(values))


def stability(vectors: Array, search: CentreSearch, seed: int) -> float:
    """Return how alike the clusters of several runs are: the mean adjusted Rand index, 1 for equal ones, 0 for chance.

    Each run has another seed, and sees another part of the items; all items then join the nearest centre.
    """
    runs = [_run(vectors, search, seed + number) for number in range(1, _RUNS + 1)]
    index = library("sklearn.metrics").adjusted_rand_score
    return float(np.mean([index(first, second) for first, second in combinations(runs, 2)]))


def sample_rows(vectors: Array, count: int, seed: int) -> Array:
    """Return at most so many rows, at random."""
    if len(vectors) <= count:
        return vectors
    return vectors[np.random.default_rng(seed).permutation(len(vectors))[:count]]


def _run(vectors: Array, search: CentreSearch, seed: int) -> Sequence[int]:
    centres = search(sample_rows(vectors, max(2, int(_SHARE * len(vectors))), seed), seed)
    return join(vectors, centres).cluster.tolist() if len(centres) else [0] * len(vectors)


def _unit(centres: Array) -> Array:
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres / np.maximum(lengths, 1e-12), np.float32)
