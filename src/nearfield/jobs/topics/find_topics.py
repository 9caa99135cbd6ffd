"""`find_topics`: clusters of texts, named by their words, with a measure of how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, vectors_of
from nearfield.jobs.libraries import library
from nearfield.jobs.sources.job_items import require_items
from nearfield.jobs.topics.clusters import (
    CentreSearch,
    Membership,
    choose_count,
    density,
    join,
    k_means,
    silhouette,
    stability,
)
from nearfield.jobs.topics.topic_words import topic_words
from nearfield.jobs.topics.topics import Topic, Topics, place_apart
from nearfield.progress import Progress
from nearfield.text_inputs import many_texts

METHODS = ("k-means", "density")
#: Texts below which there are no topics to speak of.
MIN_TEXTS = 10
#: Texts of a topic that are listed.
_EXAMPLES = 3


def find_topics(
    texts: Sequence[str],
    *,
    count: int | None = None,
    method: str = "k-means",
    min_size: int = 5,
    vectors: ArrayLike | None = None,
    model: JobModel = DEFAULT_MODEL,
    seed: int = 1,
    accept_license: bool = False,
    progress: bool = False,
) -> Topics:
    """Find topics: clusters of texts with near vectors.

    A text is apart, and in no topic, if its cosine to the centre is an outlier among those of its topic: below the
    first quartile by more than one and a half times the distance of the quartiles (Tukey's fence).

    Args:
        texts: at least ten.
        count: the number of topics; None: the one of 2 to 256 with the highest silhouette.
        method: ``k-means`` puts each text into a topic; ``density`` finds dense regions by HDBSCAN, whose number
            follows from ``min_size``.
        min_size: texts of the smallest topic that is looked for.
        vectors: their vectors [n, dim], if there are any; otherwise the model computes them.
        model: name, folder or encoder.
        seed: of k-means and of samples.
        accept_license: use a model whose licence does not allow commercial use.
        progress: show bars.

    Raises:
        InputError: there are too few texts, or an argument is invalid.
        MissingExtra: scikit-learn is not installed.
    """
    listed = many_texts(texts, "texts")
    choice = _TopicChoice(count, method, min_size, seed)
    choice.check(listed)
    embedded = vectors_of(listed, vectors, model, "clustering", accept_license=accept_license, progress=progress)
    with Progress(4, label="Clustering", unit="steps", shown=progress) as bar:
        result = _cluster(listed, embedded.rows, choice, bar)
    return replace(result, model=embedded.model, fingerprint=embedded.fingerprint)


@dataclass(frozen=True)
class _TopicChoice:
    """How topics are looked for: the arguments of ``find_topics`` of these names."""

    count: int | None
    method: str
    min_size: int
    seed: int

    def check(self, texts: Sequence[str]) -> None:
        """Raise InputError unless topics of these texts can be looked for so."""
        require_items(texts, MIN_TEXTS, "A search for topics")
        require_count("seed", self.seed, 0)
        self._check_size("min_size", self.min_size, len(texts))
        if self.method not in METHODS:
            raise InputError(f"Unknown method {self.method!r}. {nearest(self.method, METHODS)}", param="method")
        if self.count is not None:
            self._check_size("count", self.count, len(texts))
            if self.method == "density":
                raise InputError("With density, the number of topics follows from min_size: leave count out.")

    def _check_size(self, name: str, value: int, texts: int) -> None:
        require_count(name, value, 2)
        if value > texts // 2:
            raise InputError(
                f"{name} is {value:,}, and of {texts:,} texts it can be {texts // 2:,} at most: there are two topics "
                "or more, of two texts or more each.",
                param=name,
            )

    def search(self, vectors: Array) -> tuple[CentreSearch, dict[int, float]]:
        """Return the search for centres, and the silhouette of each number of topics that was tried."""
        if self.method == "density":
            return density(self.min_size), {}
        if self.count is not None:
            return k_means(self.count), {}
        chosen, tried = choose_count(vectors, self.min_size, self.seed)
        return k_means(chosen), tried


def _cluster(texts: Sequence[str], vectors: Array, choice: _TopicChoice, bar: Progress) -> Topics:
    seed = choice.seed
    search, tried = choice.search(vectors)
    bar.advance(1, 0)
    centres = _by_size(vectors, search(vectors, seed))
    if not len(centres):
        raise InputError("No part of the texts is dense. Lower min_size, or use k-means.", param="min_size")
    membership = join(vectors, centres)
    limits = _limits(membership, len(centres))
    assignments = place_apart(membership, limits)
    bar.advance(1, 0)
    stable = stability(vectors, search, seed)
    bar.advance(1, 0)
    topics = _describe(texts, assignments, membership, len(centres))
    score = silhouette(vectors, membership.cluster, seed)
    bar.advance(1, 0)
    return Topics(topics, assignments, centres, limits, _merges(centres), stable, score, tried)


def _by_size(vectors: Array, centres: Array) -> Array:
    """Return the centres that have items, the largest first."""
    sizes = np.bincount(join(vectors, centres).cluster, minlength=len(centres)) if len(centres) else np.zeros(0, int)
    order = np.argsort(-sizes, kind="stable")
    return centres[order[sizes[order] > 0]]


def _limits(membership: Membership, count: int) -> Array:
    limits = np.full(count, -1.0, np.float32)
    for number in range(count):
        first, third = np.percentile(membership.similarity[membership.cluster == number], [25, 75])
        limits[number] = first - 1.5 * (third - first) - 1e-6
    return limits


def _describe(texts: Sequence[str], assignments: Array, membership: Membership, count: int) -> tuple[Topic, ...]:
    words = topic_words(texts, assignments, count)
    topics = []
    for number in range(count):
        rows = np.flatnonzero(assignments == number)
        nearest_rows = rows[np.argsort(-membership.similarity[rows], kind="stable")][:_EXAMPLES]
        topics.append(Topic(number, len(rows), words[number], tuple(nearest_rows.tolist())))
    return tuple(topics)


def _merges(centres: Array) -> list[tuple[int, int, float]]:
    """Return the hierarchy of centres, by the mean distance of their cosines."""
    if len(centres) < 2:
        return []
    distances = library("scipy.spatial.distance").pdist(centres, "cosine")
    tree = library("scipy.cluster.hierarchy").linkage(np.maximum(distances, 0), "average")
    return [(int(first), int(second), float(distance)) for first, second, distance, _ in tree]
