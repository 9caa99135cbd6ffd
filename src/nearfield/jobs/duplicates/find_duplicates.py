"""`find_duplicate_texts`: copies among texts: equal, nearly equal, and with a model equal in meaning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_number, require_numbers
from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.jobs.duplicates.copy_pairs import by_rank, equal_pairs, near_pairs
from nearfield.jobs.duplicates.text_duplicates import EXACT, MEANING, NEAR, TextDuplicates
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, check_vectors, vectors_of
from nearfield.jobs.sources.job_items import JobItems
from nearfield.media.copies.grouping import CopyLink, group_copies
from nearfield.media.copies.vector_index import CopyVectorIndex
from nearfield.progress import Progress
from nearfield.training.overlap.near_copies import THRESHOLD, grams, jaccard

#: Cosine of vectors from which on two texts mean the same.
MEANING_THRESHOLD = 0.97
#: Texts that are compared by meaning at most: each is compared with all others.
MAX_BY_MEANING = 200_000
KEEP_RULES = ("longest", "first", "newest")


def find_duplicate_texts(
    texts: Sequence[str],
    *,
    ids: Sequence[object] | None = None,
    keep: str = "longest",
    dates: ArrayLike | None = None,
    similarity: float = THRESHOLD,
    model: JobModel | None = None,
    threshold: float = MEANING_THRESHOLD,
    vectors: ArrayLike | None = None,
    accept_license: bool = False,
    progress: bool = False,
) -> TextDuplicates:
    """Find the copies among texts. By each measure, a copy is near the text to keep itself, not only another copy.

    Texts are equal if they differ in case, punctuation and space alone. They are nearly equal if their sets of
    character 5-grams overlap by ``similarity`` (Jaccard): MinHash proposes pairs, and each is compared exactly. Memory
    is that of the texts and about 300 bytes for each, so that millions fit.

    Args:
        texts: any number.
        ids: of the texts; by default their numbers.
        keep: the text of a group to keep: ``longest``, ``first``, or ``newest`` by ``dates``; of several, the first.
        dates: a number for each text, larger for newer ones.
        similarity: from 0.8 to 1.
        model: compares the texts that remain by meaning too, at most 200,000.
        threshold: of the cosine of two vectors. Look at pairs around it before you trust it.
        vectors: those of the texts, in place of those of a model.
        accept_license, progress: as for ``find_topics``.

    Raises:
        InputError: an argument is invalid, or there are too many texts to compare by meaning.
    """
    items = JobItems.from_texts(texts, ids)
    rank = _rank(items.texts, keep, dates)
    _check(similarity, threshold)
    links = _equal_links(items.texts, rank)
    _add_near(links, items.texts, rank, similarity, progress=progress)
    if model is not None or vectors is not None:
        rest = _remaining(links, rank)
        if len(rest) > MAX_BY_MEANING:
            raise InputError(
                f"{len(rest):,} texts remain, and at most {MAX_BY_MEANING:,} are compared by meaning, each with all "
                "others. Leave the model out, or compare parts, such as one month each.",
                param="model",
            )
        chosen = [items.texts[number] for number in rest]
        known = None if vectors is None else check_vectors(vectors, len(items)).rows[rest]
        options = {"accept_license": accept_license, "progress": progress}
        compared = vectors_of(chosen, known, model or DEFAULT_MODEL, "clustering", **options)
        _add_meaning(links, rest, compared.rows, threshold)
    return TextDuplicates(items.texts, items.ids, links)


def _check(similarity: float, threshold: float) -> None:
    for name, value, low in (("similarity", similarity, THRESHOLD), ("threshold", threshold, 0.0)):
        require_number(name, value)
        if not low <= value <= 1:
            raise InputError(f"{name} must be from {low:g} to 1, and is {value}.", param=name)


def _rank(texts: Sequence[str], keep: str, dates: ArrayLike | None) -> Array:
    """Return the rank of each text, int64 [n]: of two copies, the one with the lower rank stays."""
    if keep not in KEEP_RULES:
        raise InputError(f"Unknown rule {keep!r}. {nearest(keep, KEEP_RULES)}", param="keep")
    if (keep == "newest") != (dates is not None):
        raise InputError("keep='newest' and dates go together.", param="dates")
    values = np.zeros(len(texts))
    if keep == "longest":
        values = np.fromiter(map(len, texts), np.float64, len(texts))
    elif dates is not None:
        values = require_numbers("dates", dates, len(texts))
    rank = np.empty(len(texts), np.int64)
    rank[np.argsort(-values, kind="stable")] = np.arange(len(texts))
    return rank


def _equal_links(texts: Sequence[str], rank: Array) -> dict[int, CopyLink]:
    return {int(copy): CopyLink(int(original), EXACT, 1.0) for original, copy in equal_pairs(texts, rank)}


def _add_near(
    links: dict[int, CopyLink], texts: Sequence[str], rank: Array, similarity: float, *, progress: bool
) -> None:
    """Add copies of texts that are no copies themselves: pairs of the best texts are decided first."""
    rest = np.sort(_remaining(links, rank))
    with Progress(len(rest), label="Comparing", shown=progress) as bar:
        pairs = near_pairs([texts[number] for number in rest], rank[rest], bar)
    for original, copy in by_rank(rest[pairs], rank).tolist():
        if original not in links and copy not in links:
            value = jaccard(grams(texts[original]), grams(texts[copy]))
            if value >= similarity:
                links[copy] = CopyLink(original, NEAR, value)
    _follow(links)


def _add_meaning(links: dict[int, CopyLink], rest: Array, vectors: Array, threshold: float) -> None:
    """Add texts with near vectors; ``rest`` are those that are no copies so far, the best first."""
    near = group_copies(np.arange(len(rest)), {MEANING: CopyVectorIndex(vectors, threshold)})
    for copy, link in near.items():
        links[int(rest[copy])] = CopyLink(int(rest[link.original]), MEANING, link.value)
    _follow(links)


def _remaining(links: dict[int, CopyLink], rank: Array) -> Array:
    """Return the texts that are no copies, the best first."""
    order = np.argsort(rank)
    return order[[number not in links for number in order.tolist()]]


def _follow(links: dict[int, CopyLink]) -> None:
    """Let copies of a text that has become a copy be those of the text to keep."""
    for copy, link in links.items():
        above = links.get(link.original)
        if above is not None:
            links[copy] = CopyLink(above.original, above.measure, above.value)
