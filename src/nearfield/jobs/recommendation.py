"""`Recommender` and `recommend`: more like these, less like those, nothing seen, not all the same, and rather new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import (
    require_count,
    require_list,
    require_number,
    require_numbers,
    require_positive,
)
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, check_vectors, vectors_of
from nearfield.jobs.sources.job_items import JobItems, require_items
from nearfield.message_text import count_of
from nearfield.text_inputs import describe

#: Liked items, the nearest, whose similarity counts: a user has several interests, and one is enough.
_NEAREST_LIKED = 3
#: Items among which diverse ones are chosen, for each that is chosen: the best.
_CANDIDATES = 20


@dataclass(frozen=True)
class Recommendation:
    """One item: its id, its number among the items, its score, and the id of the liked item that it is nearest to."""

    id: object
    number: int
    score: float
    because_of: object


@dataclass(frozen=True)
class Taste:
    """What a user likes and does not, as ids of items.

    Attributes:
        like: liked items; of a history, the latest is last.
        unlike: items of which there should be less.
        seen: further items that are not recommended; what is in ``like`` and ``unlike`` never is.
        half_life: the number of later liked items after which one counts half; None: all count the same.
    """

    like: Sequence[object]
    unlike: Sequence[object] = ()
    seen: Iterable[object] = ()
    half_life: float | None = None


class Recommender:
    """Recommends items by their vectors; each call costs one product of the vectors with those of the liked items.

    Args:
        ids: of the items, each once.
        vectors: float [n, dim], of which directions count.
        ages: the age of each item in days, or any other unit; see ``age_half_life`` of ``recommend``.

    Raises:
        InputError: the columns differ in length, or an id is there twice.
    """

    def __init__(self, ids: Sequence[object], vectors: ArrayLike, *, ages: ArrayLike | None = None) -> None:
        self._ids = require_list("ids", ids)
        require_items(self._ids, 1, "A recommendation")
        self._vectors = check_vectors(vectors, len(self._ids)).rows
        self._places: Mapping[str, int] = {str(key): place for place, key in enumerate(self._ids)}
        if len(self._places) != len(self._ids):
            raise InputError("ids must be different: one is there twice.", param="ids")
        self._ages = None if ages is None else require_numbers("ages", ages, len(self._ids))

    def recommend(
        self, taste: Taste, count: int = 10, *, diversity: float = 0.3, age_half_life: float | None = None
    ) -> list[Recommendation]:
        """Return the best items for a taste, the best first; fewer if there are no more.

        A score is the mean cosine to the three nearest liked items, minus the cosine to the nearest unliked one.

        Args:
            taste: what is liked.
            count: how many.
            diversity: from 0 (the best scores) to 1 (unlike each other), by maximal marginal relevance (Carbonell &
                Goldstein 1998).
            age_half_life: the age at which an item's score is half.

        Raises:
            InputError: nothing is liked, an id is unknown, or a number is out of range.
        """
        self._check(taste, count, diversity, age_half_life)
        liked, unliked = self._find(taste.like, "like"), self._find(taste.unlike, "unlike")
        if not liked:
            raise InputError("Nothing is liked: give the ids of some items.", param="like")
        both = next((place for place in liked if place in unliked), None)
        if both is not None:
            raise InputError(f"The item {str(self._ids[both])!r} is liked and unliked: name it once.", param="unlike")
        similarity = self._vectors @ self._vectors[liked].T
        scores = _score(similarity, _weights(len(liked), taste.half_life))
        if unliked:
            scores -= np.maximum((self._vectors @ self._vectors[unliked].T).max(1), 0)
        if age_half_life is not None and self._ages is not None:
            scores = np.where(scores > 0, scores * 0.5 ** (np.maximum(self._ages, 0) / age_half_life), scores)
        scores[[*liked, *unliked, *self._find(taste.seen, "seen")]] = -np.inf
        return [
            Recommendation(
                self._ids[place], place, float(scores[place]), self._ids[liked[int(similarity[place].argmax())]]
            )
            for place in self._diverse(scores, count, diversity)
        ]

    def _check(self, taste: Taste, count: int, diversity: float, age_half_life: float | None) -> None:
        if not isinstance(taste, Taste):
            raise InputError(f"taste must be a Taste, and is {describe(taste)}.", param="taste")
        require_count("count", count)
        require_number("diversity", diversity)
        if not 0 <= diversity <= 1:
            raise InputError(f"diversity must be from 0 to 1, and is {diversity}.", param="diversity")
        require_positive("half_life", taste.half_life)
        require_positive("age_half_life", age_half_life)
        if age_half_life is not None and self._ages is None:
            raise InputError("age_half_life needs the ages of the items.", param="age_half_life")

    def _find(self, ids: Iterable[object], name: str) -> list[int]:
        keys = list(map(str, require_list(name, ids)))
        unknown = next((key for key in keys if key not in self._places), None)
        if unknown is not None:
            raise InputError(
                f"{name}: there is no item {unknown!r} among {count_of(len(self._ids), 'item')}, such as "
                f"{str(self._ids[0])!r}.",
                param=name,
            )
        return [self._places[key] for key in keys]

    def _diverse(self, scores: Array, count: int, diversity: float) -> list[int]:
        """Return places by maximal marginal relevance among the best candidates."""
        best = np.argsort(-scores, kind="stable")[: max(_CANDIDATES * count, 100)]
        pool = best[np.isfinite(scores[best])]
        gain, chosen = (1 - diversity) * scores[pool], []
        near = np.zeros(len(pool))
        for _ in range(min(count, len(pool))):
            place = int((gain - diversity * near).argmax())
            chosen.append(int(pool[place]))
            gain[place] = -np.inf
            near = np.maximum(near, self._vectors[pool] @ self._vectors[pool[place]])
        return chosen


def recommend(
    texts: Sequence[str],
    like: Sequence[object],
    *,
    ids: Sequence[object] | None = None,
    unlike: Sequence[object] = (),
    seen: Iterable[object] = (),
    count: int = 10,
    diversity: float = 0.3,
    half_life: float | None = None,
    ages: ArrayLike | None = None,
    age_half_life: float | None = None,
    vectors: ArrayLike | None = None,
    model: JobModel = DEFAULT_MODEL,
    accept_license: bool = False,
    progress: bool = False,
) -> list[Recommendation]:
    """Return items like some and unlike others. For many users, use a ``Recommender``.

    Args:
        texts: one for each item.
        like, unlike, seen, half_life: as for ``Taste``; ids, or numbers of texts from 0 on where there are no ids.
        ids: of the items.
        count, diversity, age_half_life: as for ``Recommender.recommend``.
        ages: the age of each item.
        vectors: those of the texts, if there are any; otherwise the model computes them.
        model, accept_license, progress: as for ``find_topics``.

    Raises:
        InputError: an id is unknown, or an argument is invalid.
    """
    items = JobItems.from_texts(texts, ids)
    rows = vectors_of(items.texts, vectors, model, "clustering", accept_license=accept_license, progress=progress).rows
    taste = Taste(like, unlike, seen, half_life)
    recommender = Recommender(items.ids, rows, ages=ages)
    return recommender.recommend(taste, count, diversity=diversity, age_half_life=age_half_life)


def _weights(count: int, half_life: float | None) -> Array:
    """Return the weight of each liked item [count]; that of the last is 1."""
    later = np.arange(count - 1, -1, -1)
    return np.ones(count) if half_life is None else 0.5 ** (later / half_life)


def _score(similarity: Array, weights: Array) -> Array:
    """Return the mean of the largest weighted similarities [n] to liked items [n, liked]."""
    weighted = similarity * weights
    depth = min(_NEAREST_LIKED, weighted.shape[1])
    return np.asarray(np.partition(weighted, -depth, axis=1)[:, -depth:].mean(1), np.float64)
