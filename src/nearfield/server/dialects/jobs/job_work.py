"""The work of each job over HTTP, which runs in a thread: from vectors to the fields of a reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nearfield.jobs.classification.zero_shot_texts import label_rows
from nearfield.jobs.duplicates.find_duplicates import find_duplicate_texts
from nearfield.jobs.job_vectors import JobVectors, check_vectors
from nearfield.jobs.outliers import find_drift, find_outliers
from nearfield.jobs.recommendation import Recommender, Taste
from nearfield.jobs.sources.job_items import JobItems
from nearfield.jobs.topics.find_topics import find_topics
from nearfield.server.dialects.jobs.schemas import (
    CollectionDriftRequest,
    DuplicateRequest,
    OutlierOptions,
    RecommendOptions,
    TopicOptions,
)

#: From the items and their vectors to the fields of a reply.
ItemWork = Callable[[JobItems, JobVectors], dict[str, Any]]


def stored_rows(items: JobItems) -> JobVectors | None:
    """Return the vectors of a collection; None of texts."""
    return None if items.vectors is None else check_vectors(items.vectors, len(items))


def label_items(items: JobItems, names: Sequence[str], vectors: JobVectors) -> dict[str, Any]:
    """Return the nearest label of each item. ``vectors`` are those of texts without stored ones, then of sentences."""
    stored = stored_rows(items)
    if stored is not None:
        stored.require_same_space(vectors)
    count = 0 if stored is not None else len(items)
    rows = vectors.rows[:count] if stored is None else stored.rows
    predictions = label_rows(rows, vectors.rows[count:], names)
    return {
        "results": [
            {"id": key, "label": row.label, "score": row.score, "unsure": row.unsure, "scores": dict(row.scores)}
            for key, row in zip(items.ids, predictions, strict=True)
        ]
    }


def topics_of(options: TopicOptions) -> ItemWork:
    """Return the work that finds topics."""

    def work(items: JobItems, vectors: JobVectors) -> dict[str, Any]:
        facts = find_topics(
            items.texts,
            count=options.count,
            method=options.method,
            min_size=options.min_size,
            vectors=vectors.rows,
            seed=options.seed,
        )
        body = facts.to_dict()
        topics = [
            {**topic, "examples": [items.ids[number] for number in topic["examples"]]} for topic in body["topics"]
        ]
        assigned = zip(items.ids, facts.assignments.tolist(), strict=True)
        names = ("stability", "silhouette", "tried", "merges")
        return {
            "topics": topics,
            "assignments": [{"id": key, "topic": number} for key, number in assigned],
            **{name: body[name] for name in names},
        }

    return work


def recommendations_of(options: RecommendOptions) -> ItemWork:
    """Return the work that recommends items."""

    def work(items: JobItems, vectors: JobVectors) -> dict[str, Any]:
        taste = Taste(options.like, options.unlike, options.seen)
        results = Recommender(items.ids, vectors.rows).recommend(taste, options.count, diversity=options.diversity)
        return {"results": [{"id": row.id, "score": row.score, "because_of": row.because_of} for row in results]}

    return work


def outliers_of(options: OutlierOptions) -> ItemWork:
    """Return the work that finds outliers."""

    def work(items: JobItems, vectors: JobVectors) -> dict[str, Any]:
        results = find_outliers(items.texts, count=options.count, vectors=vectors.rows, seed=options.seed)
        return {"results": [{"id": items.ids[row.number], "score": row.score, "far": row.is_far} for row in results]}

    return work


def drift_of(reference: JobItems, options: CollectionDriftRequest, vectors: JobVectors) -> dict[str, Any]:
    """Return how new texts differ. ``vectors`` are those of a reference without stored ones, then of the new texts."""
    stored = stored_rows(reference)
    if stored is not None:
        stored.require_same_space(vectors)
    count = 0 if stored is not None else len(reference)
    old = vectors.rows[:count] if stored is None else stored.rows
    sides = (old, vectors.rows[count:])
    report = find_drift(reference.texts, options.input, count=options.count, vectors=sides, seed=options.seed)
    return report.to_dict()


def duplicates_of(request: DuplicateRequest, items: JobItems, vectors: JobVectors | None) -> dict[str, Any]:
    """Return the copies among texts."""
    report = find_duplicate_texts(
        items.texts,
        ids=items.ids,
        keep=request.keep,
        similarity=request.similarity,
        threshold=request.threshold,
        vectors=None if vectors is None else vectors.rows,
    )
    return {**report.to_dict(), "links": list(report.rows())}
