"""Conversion of the bodies of jobs to exchanges: over texts of the body, or over the documents of a collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nearfield.errors import InputError, NotThere
from nearfield.jobs.classification.zero_shot_texts import label_sentences
from nearfield.jobs.job_vectors import JobVectors, Purpose
from nearfield.jobs.sources.job_items import JobItems
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.jobs import job_work
from nearfield.server.dialects.jobs.job_work import ItemWork
from nearfield.server.dialects.jobs.schemas import (
    CollectionDriftRequest,
    DriftRequest,
    DuplicateRequest,
    JobOptions,
    LabelOptions,
    LabelRequest,
    OutlierOptions,
    OutlierRequest,
    RecommendOptions,
    RecommendRequest,
    TopicOptions,
    TopicRequest,
)
from nearfield.server.exchange import VectorJob
from nearfield.server.exchange.vector_job import JobWork
from nearfield.server.http.request_context import RequestContext
from nearfield.units import format_bytes

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection

#: Documents of a collection that one request reads at most.
MAX_DOCUMENTS = 20_000
#: Bytes of all scores of a reply at most, each with the name of its label; and those of the number of one.
MAX_SCORE_BYTES, _NUMBER_BYTES = 2**26, 24


# -- over texts --------------------------------------------------------------------------------------------------------


def read_labels(request: LabelRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/classify to an exchange."""
    return _classify(_read_texts(request.input), request, context)


def read_topics(request: TopicRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/topics to an exchange."""
    return _over_items(_read_texts(request.input), job_work.topics_of(request), request, context)


def read_recommend(request: RecommendRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/recommend to an exchange."""
    items = _read_texts(request.input, request.ids)
    return _over_items(items, job_work.recommendations_of(request), request, context)


def read_outliers(request: OutlierRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/outliers to an exchange."""
    return _over_items(_read_texts(request.input), job_work.outliers_of(request), request, context)


def read_drift(request: DriftRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/drift to an exchange."""
    return _drift(_read_texts(request.reference, field="reference"), request, context)


def read_duplicates(request: DuplicateRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/duplicates to an exchange."""
    items = _read_texts(request.input, request.ids)
    inputs = items.texts if request.by_meaning else ()
    if request.model is not None and not request.by_meaning:
        raise InputError("A model is needed with by_meaning alone: send both or none.", param="model")
    return _job(inputs, "clustering", partial(job_work.duplicates_of, request, items), request.model, context)


# -- over collections --------------------------------------------------------------------------------------------------


async def read_collection_labels(request: LabelOptions, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/classify/{collection} to an exchange."""
    return _classify(await _read_documents(context), request, context)


async def read_collection_topics(request: TopicOptions, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/topics/{collection} to an exchange."""
    return _over_items(await _read_documents(context), job_work.topics_of(request), request, context)


async def read_collection_recommend(request: RecommendOptions, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/recommend/{collection} to an exchange."""
    return _over_items(await _read_documents(context), job_work.recommendations_of(request), request, context)


async def read_collection_outliers(request: OutlierOptions, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/outliers/{collection} to an exchange."""
    return _over_items(await _read_documents(context), job_work.outliers_of(request), request, context)


async def read_collection_drift(request: CollectionDriftRequest, context: RequestContext) -> VectorJob:
    """Convert a body of POST /jobs/drift/{collection} to an exchange."""
    return _drift(await _read_documents(context), request, context)


async def _read_documents(context: RequestContext) -> JobItems:
    if context.collections is None:
        raise NotThere("Batches cannot use collections: send the request by itself.")
    return await context.collections.use(context.path["collection"], _collection_items, context.allowed, models=False)


def _collection_items(collection: Collection) -> JobItems:
    from nearfield.jobs.sources.collection_items import collection_items

    return collection_items(collection, max_documents=MAX_DOCUMENTS)


# -- both --------------------------------------------------------------------------------------------------------------


def _read_texts(texts: Sequence[str], ids: Sequence[object] | None = None, field: str = "input") -> JobItems:
    if not texts:
        raise InputError(f"{field} is empty: send at least one text.", param=field)
    return JobItems.from_texts(texts, ids)


def _classify(items: JobItems, request: LabelOptions, context: RequestContext) -> VectorJob:
    names, sentences = label_sentences(request.labels, request.templates)
    _check_scores(len(items), names)
    texts = [*(items.texts if items.vectors is None else ()), *sentences]
    work: Callable[..., JsonObject] = partial(job_work.label_items, items, names)
    return _job(texts, "classification", work, request.model or items.model or None, context)


def _check_scores(texts: int, names: Sequence[str]) -> None:
    """Raise InputError if the reply, which has the score of each label for each text, would be too large."""
    size = texts * sum(len(name.encode("utf-8", "replace")) + _NUMBER_BYTES for name in names)
    if size > MAX_SCORE_BYTES:
        raise InputError(
            f"The scores of {texts:,} texts for {len(names):,} labels would have {format_bytes(size)}, and a reply has "
            f"{format_bytes(MAX_SCORE_BYTES)} of them at most: send fewer texts, or fewer or shorter labels.",
            param="labels",
        )


def _drift(reference: JobItems, request: CollectionDriftRequest, context: RequestContext) -> VectorJob:
    new = _read_texts(request.input)
    texts = [*(reference.texts if reference.vectors is None else ()), *new.texts]
    work: Callable[..., JsonObject] = partial(job_work.drift_of, reference, request)
    return _job(texts, "clustering", work, request.model or reference.model or None, context)


def _over_items(items: JobItems, work: ItemWork, request: JobOptions, context: RequestContext) -> VectorJob:
    """Return the exchange of a job that needs the vectors of the items alone."""
    has_vectors = items.vectors is not None
    if has_vectors and request.model is not None:
        raise InputError("A job uses the vectors that a collection has: leave the model out.", param="model")

    def run(vectors: JobVectors | None) -> dict[str, Any]:
        known = job_work.stored_rows(items) or vectors
        assert known is not None
        return work(items, known)

    return _job(() if has_vectors else items.texts, "clustering", run, request.model, context)


def _job(
    texts: Sequence[str], purpose: Purpose, work: JobWork, model: str | None, context: RequestContext
) -> VectorJob:
    if context.job_threads is None:
        raise RuntimeError("the server runs no jobs")
    return VectorJob(model=model, inputs=list(texts), purpose=purpose, work=work, in_thread=context.job_threads.run)
