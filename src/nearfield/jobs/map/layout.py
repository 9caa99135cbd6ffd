"""Places on a map: t-SNE of some vectors (landmarks), beside whose places all others are put."""

from __future__ import annotations

import numpy as np

from nearfield.arrays import Array
from nearfield.jobs.libraries import library

#: Vectors that t-SNE arranges: its time grows faster than their number, and more do not make a better map.
MAX_LANDMARKS = 3_000
#: Landmarks between which another vector is put, and principal components that are compared.
_NEIGHBOURS, _COMPONENTS = 4, 50
#: How far from that place, as a share of the distance of its landmarks: equal places would hide each other.
_JITTER = 0.3
_BLOCK = 8_192


def lay_out(vectors: Array, seed: int) -> Array:
    """Return places of unit vectors [n, dim] on a map, float32 [n, 2], from 0 to 1."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    chosen, others = order[:MAX_LANDMARKS], order[MAX_LANDMARKS:]
    landmarks = _arrange(vectors[chosen], seed)
    places = np.empty((len(vectors), 2))
    places[chosen] = landmarks
    random = np.random.default_rng(seed + 1)
    for start in range(0, len(others), _BLOCK):
        rows = others[start : start + _BLOCK]
        places[rows] = _between(vectors[rows] @ vectors[chosen].T, landmarks, random)
    low, high = places.min(0), places.max(0)
    return np.asarray((places - low) / np.maximum(high - low, 1e-9), np.float32)


def _arrange(vectors: Array, seed: int) -> Array:
    """Return the places of landmarks by t-SNE (van der Maaten & Hinton 2008), begun at principal components."""
    components = min(_COMPONENTS, *vectors.shape)
    flat = library("sklearn.decomposition").PCA(components, random_state=seed).fit_transform(vectors)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = library("sklearn.manifold").TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(model.fit_transform(flat))


def _between(similarity: Array, landmarks: Array, random: np.random.Generator) -> Array:
    """Return the places of vectors by their similarity [n, landmarks]: near the nearest, between those around it."""
    near = np.argpartition(-similarity, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
    values = np.take_along_axis(similarity, near, axis=1)
    first = np.take_along_axis(near, values.argmax(1)[:, None], axis=1)
    # Landmarks that are far away on the map would put the vector where nothing is.
    distance = np.linalg.norm(landmarks[near] - landmarks[first], axis=2)
    weights = np.exp(20 * (values - values.max(1, keepdims=True))) / (1 + distance)
    weights /= weights.sum(1, keepdims=True)
    spread = (weights * distance).sum(1, keepdims=True) + 1e-3
    means = (weights[:, :, None] * landmarks[near]).sum(1)
    return np.asarray(means + _JITTER * spread * random.standard_normal(means.shape))
