"""Handlers of the collections API: collections, searches, answers and documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import msgspec

from nearfield.errors import InputError, NotThere, TooLarge
from nearfield.message_text import count_of
from nearfield.server.collections.collection_service import CollectionService, Evidence
from nearfield.server.dialects import JsonObject, Reply
from nearfield.server.dialects.collections.query_parts import read_query
from nearfield.server.dialects.collections.responses import (
    answer_to_dict,
    chunk_to_dict,
    collection_to_dict,
    hit_to_dict,
    report_to_dict,
    stream_answer,
)
from nearfield.server.dialects.collections.schemas import (
    MAX_LISTED_CHUNKS,
    MAX_LISTED_DOCUMENTS,
    MAX_TEXT_LENGTH,
    AskRequest,
    CollectionRequest,
    DeleteRequest,
    DocumentsRequest,
    SearchRequest,
)
from nearfield.server.files.file_threads import in_thread
from nearfield.server.http.request_context import RequestContext

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection, DocumentInfo
    from nearfield.corpus.manifest.chunk_page import TextPart
    from nearfield.corpus.search.hit import PlacedChunk

SSE_TYPE = "text/event-stream"
#: Rerankers that need no other model; any other name is that of a model.
_MODELLESS_RERANKERS = ("maxsim", "multivector", "sentences")
#: Seconds for an answer if the context has no limits.
_ANSWER_SECONDS = 60.0
_T = TypeVar("_T")


# -- collections -------------------------------------------------------------------------------------------------------


async def list_collections(_: None, context: RequestContext) -> JsonObject:
    """Return the names of the collections, and what the client has stored of what it may."""
    service = collection_service(context)
    return {
        "collections": [{"name": name} for name in await service.list_names()],
        "stored_bytes": await in_thread(service.owner_bytes, context.owner),
        "max_stored_bytes": service.upload_limits.owner_bytes,
    }


async def create_collection(request: CollectionRequest, context: RequestContext) -> JsonObject:
    """Create an empty collection, and return its description."""
    config = msgspec.to_builtins(request)
    name = config.pop("name")
    return collection_to_dict(await collection_service(context).create(name, config, context.allowed))


async def describe_collection(_: None, context: RequestContext) -> JsonObject:
    """Return the description of a collection."""
    return collection_to_dict(await use_collection(context, lambda collection: collection.info(), models=False))


async def drop_collection(_: None, context: RequestContext) -> JsonObject:
    """Delete a collection with its vectors."""
    await collection_service(context).drop(context.path["name"])
    return {"name": context.path["name"]}


# -- search ------------------------------------------------------------------------------------------------------------


async def search(request: SearchRequest, context: RequestContext) -> JsonObject:
    """Return the passages that best match the query."""
    names = [name for name in request.__struct_fields__ if name not in ("query", "k", "kind")]
    query, options = read_query(request, context), _present_options(request, names)
    hits = await _use_reranked(context, lambda collection: collection.search(query, request.k, **options), options)
    return {"collection": context.path["name"], "results": [hit_to_dict(context.path["name"], hit) for hit in hits]}


async def ask(request: AskRequest, context: RequestContext) -> object:
    """Search, and answer the question from the passages: at once, or as a stream of events."""
    started = time.monotonic()
    # Imported here: servers without collections need none of it.
    from nearfield.corpus.search.relevance import MIN_ANSWER_SCORE

    names = ("mode", "where", "rerank", "rerank_depth", "mmr", "min_score")
    options = {"min_score": MIN_ANSWER_SCORE, **_present_options(request, names)}
    evidence = await _use_reranked(context, lambda collection: _evidence(collection, request, options), options)
    name, service = context.path["name"], collection_service(context)
    if request.stream:
        pieces = service.stream(request.question, evidence)
        first = await anext(pieces)  # an error before the first piece still sets the status of the response
        return Reply(stream_answer(name, first, pieces), media_type=SSE_TYPE, headers={"cache-control": "no-cache"})
    seconds = _ANSWER_SECONDS if context.limits is None else context.limits.seconds - (time.monotonic() - started)
    return answer_to_dict(name, await service.ask(request.question, evidence, seconds))


def _present_options(request: SearchRequest | AskRequest, names: Sequence[str]) -> JsonObject:
    options = {name: getattr(request, name) for name in names} | {"where": _where(request)}
    return {name: value for name, value in options.items() if value is not None}


def _where(request: SearchRequest | AskRequest) -> JsonObject | None:
    """Return the filter of a request, with its kinds of passages."""
    if request.kind is None:
        return request.where
    kinds = [request.kind] if isinstance(request.kind, str) else request.kind
    of_kind: JsonObject = {"kind": {"in": kinds}}
    return {"and": [request.where, of_kind]} if request.where else of_kind


def _evidence(collection: Collection, request: AskRequest, options: JsonObject) -> Evidence:
    """Return the passages about a question, and pictures of the best of them."""
    from nearfield.corpus.answering.passage_pictures import passage_pictures

    hits = collection.search(request.question, request.k, **options)
    return Evidence(hits, passage_pictures(collection.document_file, hits, request.pictures))


async def _use_reranked(context: RequestContext, work: Callable[[Collection], _T], options: JsonObject) -> _T:
    """Call ``work`` with the collection, and with the reranker that the options of a search name."""
    reranker = options.get("rerank")
    model = reranker if isinstance(reranker, str) and reranker not in _MODELLESS_RERANKERS else None
    return await use_collection(context, work, reranker=model)


# -- documents ---------------------------------------------------------------------------------------------------------


async def list_documents(_: None, context: RequestContext) -> JsonObject:
    """Return a page of documents."""
    limit = query_number(context, "limit", default=100, min_value=1, max_value=MAX_LISTED_DOCUMENTS)
    state, after = context.query.get("state") or None, context.query.get("after") or None
    documents = await use_collection(
        context, lambda collection: collection.documents(state=state, limit=limit, after=after), models=False
    )
    next_id = documents[-1].id if len(documents) == limit else None
    return {"documents": [asdict(document) for document in documents], "next": next_id}


async def read_document(_: None, context: RequestContext) -> JsonObject:
    """Return a document, and a part of its text."""
    document_id = context.query.get("id", "")
    start = query_number(context, "start", default=0, min_value=0, max_value=2**53)
    length = query_number(context, "length", default=MAX_TEXT_LENGTH, min_value=1, max_value=MAX_TEXT_LENGTH)
    end = query_number(context, "end", default=start + length, min_value=start, max_value=2**53)
    end = min(end, start + length)
    info, part = await use_collection(
        context, lambda collection: _read_document(collection, document_id, start, end), models=False
    )
    place = {"start": part.start, "end": part.start + len(part.text), "total": part.total}
    return {"document": asdict(info), **place, "text": part.text}


def _read_document(collection: Collection, document_id: str, start: int, end: int) -> tuple[DocumentInfo, TextPart]:
    from nearfield.corpus.manifest.chunk_page import read_part

    with _named_by_id():
        info = collection.document(document_id)
    return info, read_part(collection.manifest, info.id, start, end)


@contextmanager
def _named_by_id() -> Iterator[None]:
    """Say of a document that is not there which field of the query names it."""
    try:
        yield
    except InputError as error:
        raise NotThere(str(error), param="id") from error


async def list_chunks(_: None, context: RequestContext) -> JsonObject:
    """Return some chunks of a document."""
    name, document_id = context.path["name"], context.query.get("id", "")
    limit = query_number(context, "limit", default=100, min_value=1, max_value=MAX_LISTED_CHUNKS)
    first = query_number(context, "first", default=0, min_value=0, max_value=2**53)
    chunks, total = await use_collection(
        context, lambda collection: _read_chunks(collection, document_id, first, limit), models=False
    )
    return {"chunks": [chunk_to_dict(name, chunk) for chunk in chunks], "first": first, "total": total}


def _read_chunks(collection: Collection, document_id: str, first: int, limit: int) -> tuple[list[PlacedChunk], int]:
    from nearfield.corpus.manifest.chunk_page import count_chunks, read_chunks
    from nearfield.corpus.search.hit import PlacedChunk

    with _named_by_id():
        document = collection.document(document_id).id
    chunks = read_chunks(collection.manifest, document, first, limit)
    return [PlacedChunk.from_record(chunk) for chunk in chunks], count_chunks(collection.manifest, document)


async def put_documents(request: DocumentsRequest, context: RequestContext) -> JsonObject:
    """Index documents, and return how many were new, changed and failed."""
    _check_count(request.documents, context)
    return report_to_dict(await use_collection(context, lambda collection: collection.put(request.documents)))


async def delete_documents(request: DeleteRequest, context: RequestContext) -> JsonObject:
    """Delete documents, and return how many there were."""
    _check_count(request.documents, context)
    return {"deleted": await use_collection(context, lambda collection: collection.remove(request.documents))}


def _check_count(documents: Sequence[object], context: RequestContext) -> None:
    if not documents:
        raise InputError("documents is empty: send at least one.", param="documents")
    if context.limits is not None and len(documents) > context.limits.items:
        raise TooLarge(
            f"{count_of(len(documents), 'document')}; the maximum of one request is {context.limits.items}. "
            "Send them in parts.",
            param="documents",
        )


# -- request context ---------------------------------------------------------------------------------------------------


def query_number(context: RequestContext, name: str, *, default: int, min_value: int, max_value: int) -> int:
    """Return a whole number of the query string; raise InputError if it is none, or not within the limits."""
    value = context.query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 20 and min_value <= int(value) <= max_value):
        raise InputError(f"{name} must be a number from {min_value} to {max_value}, not {value[:50]!r}.", param=name)
    return int(value)


async def use_collection(
    context: RequestContext, work: Callable[[Collection], _T], *, reranker: str | None = None, models: bool = True
) -> _T:
    """Run ``work`` in a thread on the collection that the path names; ``models``: whether it needs its models."""
    return await collection_service(context).use(
        context.path["name"], work, context.allowed, reranker=reranker, models=models
    )


def collection_service(context: RequestContext) -> CollectionService:
    """Return the service of collections; raise NotThere for a line of a batch, which has none."""
    if context.collections is None:
        raise NotThere("Batches cannot use collections: send the request by itself.")
    return context.collections
