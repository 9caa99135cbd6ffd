"""Collections, in Nearfield's own words: searching them, answers from them, and the documents in them.

A server gives access to those that its operator names (``--collections``), and to none otherwise. Searching and reading
need the scope ``infer``; what changes a collection needs ``manage``, or, on a server without keys, a request from its
own machine. A request cannot say where vectors lie, what files are read, or which chat endpoint is asked: the server's
settings do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import orjson

from nearfield.errors import InputError, NearfieldError, NotThere, TooLarge
from nearfield.server.collections.collection_service import CollectionService
from nearfield.server.dialects import JSON, Reply, RequestContext, Route, shared_error_body
from nearfield.server.dialects.schemas import ErrorReply
from nearfield.server.models.model_pool import LONGEST_NAME

if TYPE_CHECKING:
    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.collection import Collection, DocumentInfo
    from nearfield.corpus.indexing.report import IndexReport
    from nearfield.corpus.search.hit import SearchHit

SSE = "text/event-stream"
#: Ways to rerank that need no further model; any other name is a model's.
_WITHOUT_MODEL = ("maxsim", "multivector", "sentences")
#: Characters of a query, documents in one list, characters of a document that are read at once.
_LONGEST_QUERY, _MOST_LISTED, _LONGEST_PART = 32_768, 1000, 1_000_000
#: Passages that a search may return, and an answer rest on.
_MOST_FOUND, _MOST_ASKED = 1000, 100
#: Candidates that one request may have reranked: each costs a model's work.
_MOST_RERANKED = 200

Query = Annotated[str, msgspec.Meta(min_length=1, max_length=_LONGEST_QUERY)]
Model = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)]
Depth = Annotated[int, msgspec.Meta(ge=1, le=_MOST_FOUND)]
Reranked = Annotated[int, msgspec.Meta(ge=1, le=_MOST_RERANKED)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Word = Annotated[str, msgspec.Meta(max_length=64)]


# -- shapes ------------------------------------------------------------------------------------------------------------


class CollectionName(msgspec.Struct):
    """A collection."""

    name: str


class CollectionList(msgspec.Struct):
    """The collections that are served."""

    collections: list[CollectionName]


class CollectionFeature(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of vector that each passage has; see the definition of collections."""

    model: Model | None = None
    kind: Literal["dense", "sparse", "multivector"] = "dense"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    force: bool = False
    dtype: Literal["float32", "float16", "binary"] = "float32"
    of: Word | None = None
    index: Literal["auto", "none"] = "auto"
    quantization: Literal["none", "int8", "binary"] = "none"


class CollectionChunks(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How documents are cut."""

    by: Word = "auto"
    tokens: Annotated[int, msgspec.Meta(ge=8, le=1_000_000)] | None = None
    overlap: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    context: bool = True


class CollectionRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of POST /collections; the first feature's model is all-MiniLM-L6-v2 where none is said."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    features: Annotated[dict[str, CollectionFeature], msgspec.Meta(max_length=16)] = {}
    chunks: CollectionChunks | None = None
    fields: Annotated[dict[str, Literal["str", "int", "float", "bool"]], msgspec.Meta(max_length=64)] = {}
    language: Word | None = None


class CollectionReply(msgspec.Struct):
    """A collection: what is in it, how many documents are in each state, and its vectors."""

    name: str
    documents: int
    chunks: int
    tokens: int
    repeats: int
    states: dict[str, int]
    fields: dict[str, str]
    features: dict[str, Any]
    tables: list[dict[str, Any]]


class SearchRequest(msgspec.Struct):
    """The body of POST /collections/{name}/search; what is left out is as in Python (``Collection.search``)."""

    query: Query
    k: Depth = 10
    mode: Word | None = None
    where: dict[str, Any] | None = None
    rerank: Model | None = None
    rerank_depth: Reranked | None = None
    mmr: Share | None = None
    highlight: bool | Word | None = None
    explain: bool = False
    exact: bool = False
    weights: dict[str, float] | None = None
    fuse: Word | None = None
    depth: Annotated[int, msgspec.Meta(ge=1, le=10 * _MOST_FOUND)] | None = None


class Place(msgspec.Struct):
    """A place in a document, in characters."""

    document: str
    start: int
    end: int
    page: int | None


class Passage(msgspec.Struct):
    """A passage that was found; ``highlights`` are pairs of positions in its text."""

    id: str
    document: str
    score: float
    text: str
    title: str
    start: int
    end: int
    page: int | None
    headings: list[str]
    fields: dict[str, str | int | float | bool]
    highlights: list[list[int]]
    also: list[Place]
    stages: dict[str, dict[str, float]]


class SearchReply(msgspec.Struct):
    """What was found, the best first."""

    collection: str
    results: list[Passage]


class AskRequest(msgspec.Struct):
    """The body of POST /collections/{name}/ask; the options are those of a search."""

    question: Annotated[str, msgspec.Meta(min_length=1, max_length=8000)]
    k: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ASKED)] = 8
    mode: Word | None = None
    where: dict[str, Any] | None = None
    rerank: Model | None = None
    rerank_depth: Reranked | None = None
    mmr: Share | None = None
    stream: bool = False


class Cited(msgspec.Struct):
    """A passage that an answer rests on; ``marks`` are pairs of positions in the answer's text."""

    number: int
    id: str
    document: str
    title: str
    start: int
    end: int
    page: int | None
    headings: list[str]
    marks: list[list[int]]


class AskReply(msgspec.Struct):
    """An answer: ``passages`` are what the chat model was given, [1] first; ``text`` is empty where there is none."""

    collection: str
    text: str
    found: bool
    cited: bool
    citations: list[Cited]
    invalid: list[int]
    passages: list[Passage]
    usage: dict[str, int]
    model: str
    cut: bool
    left_out: int


class DocumentState(msgspec.Struct):
    """A document; ``error`` says why it failed."""

    id: str
    source: str
    key: str
    title: str
    state: str
    error: str
    chunks: int
    tokens: int
    fields: dict[str, Any]


class DocumentList(msgspec.Struct):
    """Documents in the order of their ids; ``next`` is the last of them, to go on after, where there may be more."""

    documents: list[DocumentState]
    next: str | None


class DocumentReply(msgspec.Struct):
    """A document and a part of its text, from ``start`` up to ``end`` of ``total`` characters."""

    document: DocumentState
    start: int
    end: int
    total: int
    text: str


class DocumentsRequest(msgspec.Struct):
    """The body of POST /collections/{name}/documents: each has ``id``, ``text``, ``title`` perhaps, and fields."""

    documents: list[dict[str, Any]]


class Failure(msgspec.Struct):
    """A document that could not be taken in, and why."""

    document: str
    reason: str


class DocumentsReply(msgspec.Struct):
    """How many documents were new, changed and failed, the first failures, and what became of the rest."""

    new: int
    changed: int
    failed: int
    chunks: int
    tokens: int
    failures: list[Failure]


class DeleteRequest(msgspec.Struct):
    """The body of POST /collections/{name}/documents/delete: ids of documents."""

    documents: list[str]


class DeletedReply(msgspec.Struct):
    """How many there were."""

    deleted: int


# -- collections -------------------------------------------------------------------------------------------------------


async def _list(_: None, call: RequestContext) -> dict[str, Any]:
    return {"collections": [{"name": name} for name in await _served(call).listed()]}


async def _create(request: CollectionRequest, call: RequestContext) -> Any:
    told: dict[str, Any] = msgspec.to_builtins(request)
    name = told.pop("name")
    info = await _served(call).create(name, told, call.allowed)
    return _described(info)


async def _one(_: None, call: RequestContext) -> dict[str, Any]:
    return _described(await _use(call, lambda opened: opened.info(), models=False))


async def _drop(_: None, call: RequestContext) -> dict[str, Any]:
    await _served(call).drop(call.path["name"])
    return {"name": call.path["name"]}


def _described(info: Mapping[str, Any]) -> dict[str, Any]:
    """Tell of a collection, but for where its files and its database are: a client need not know."""
    told = info["definition"]
    counts = {name: info[name] for name in ("name", "documents", "chunks", "tokens", "repeats", "states")}
    return {
        **counts,
        "fields": told.get("fields", {}),
        "features": told.get("features", {}),
        "tables": info["tables"],
    }


# -- searching ---------------------------------------------------------------------------------------------------------


async def _search(request: SearchRequest, call: RequestContext) -> dict[str, Any]:
    names = [name for name in request.__struct_fields__ if name not in ("query", "k")]
    found = await _found(call, request.query, request.k, _given(request, names))
    return {"collection": call.path["name"], "results": [each.to_dict() for each in found]}


async def _ask(request: AskRequest, call: RequestContext) -> Any:
    begun = time.monotonic()
    options = _given(request, ("mode", "where", "rerank", "rerank_depth", "mmr"))
    found = await _found(call, request.question, request.k, options)
    name, served = call.path["name"], _served(call)
    if request.stream:
        pieces = served.stream(request.question, found)
        first = await anext(pieces)  # what is refused at once has a status of its own
        return Reply(_events(name, first, pieces), media_type=SSE, headers={"cache-control": "no-cache"})
    left = call.limits.seconds - (time.monotonic() - begun) if call.limits is not None else 60.0
    return _answered(name, await served.ask(request.question, found, left))


def _given(request: SearchRequest | AskRequest, names: Sequence[str]) -> dict[str, Any]:
    found = {name: getattr(request, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


async def _found(call: RequestContext, query: str, k: int, options: Mapping[str, Any]) -> list[SearchHit]:
    reranker = options.get("rerank")
    reranker = None if reranker in _WITHOUT_MODEL else reranker
    return await _use(call, lambda opened: opened.search(query, k, **options), reranker=reranker)


def _answered(name: str, answer: Answer) -> dict[str, Any]:
    return {"collection": name, **answer.to_dict()}


async def _events(name: str, first: Any, pieces: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Yield server-sent events: ``text`` for each piece, then one ``answer``, or an ``error``."""
    piece = first
    try:
        while True:
            if isinstance(piece, str):
                yield _event("text", {"text": piece})
            else:
                yield _event("answer", _answered(name, piece))
            piece = await anext(pieces)
    except StopAsyncIteration:
        return
    except NearfieldError as error:
        yield _event("error", _refusal(error))
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]


def _event(kind: str, told: Mapping[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(told) + b"\n\n"


# -- documents ---------------------------------------------------------------------------------------------------------


async def _documents(_: None, call: RequestContext) -> dict[str, Any]:
    limit = _number(call, "limit", 100, 1, _MOST_LISTED)
    state, after = call.query.get("state") or None, call.query.get("after") or None
    found = await _use(call, lambda opened: opened.documents(state=state, limit=limit, after=after), models=False)
    more = found[-1].id if len(found) == limit else None
    return {"documents": [asdict(each) for each in found], "next": more}


async def _document(_: None, call: RequestContext) -> dict[str, Any]:
    key = call.query.get("id", "")
    start = _number(call, "start", 0, 0, 2**53)
    length = _number(call, "length", _LONGEST_PART, 1, _LONGEST_PART)
    info, text = await _use(call, lambda opened: _read(opened, key), models=False)
    part = text[start : start + length]
    at = min(start, len(text))
    return {"document": asdict(info), "start": at, "end": at + len(part), "total": len(text), "text": part}


def _read(opened: Collection, key: str) -> tuple[DocumentInfo, str]:
    try:
        return opened.document(key), opened.text(key)
    except InputError as error:
        raise NotThere(str(error), param="id") from error


async def _put(request: DocumentsRequest, call: RequestContext) -> dict[str, Any]:
    _check_count(request.documents, call)
    report = await _use(call, lambda opened: opened.put(request.documents))
    return _written(report)


async def _delete(request: DeleteRequest, call: RequestContext) -> dict[str, Any]:
    _check_count(request.documents, call)
    return {"deleted": await _use(call, lambda opened: opened.remove(request.documents))}


def _written(report: IndexReport) -> dict[str, Any]:
    counts = {name: getattr(report, name) for name in ("new", "changed", "failed", "chunks", "tokens")}
    return {**counts, "failures": [{"document": key, "reason": reason} for key, reason in report.failures]}


def _check_count(documents: Sequence[Any], call: RequestContext) -> None:
    if not documents:
        raise InputError("documents is empty: give at least one.", param="documents")
    if call.limits is not None and len(documents) > call.limits.items:
        raise TooLarge(
            f"{len(documents)} documents, where one request may hold {call.limits.items}. Send them in parts.",
            param="documents",
        )


def _number(call: RequestContext, name: str, default: int, low: int, high: int) -> int:
    told = call.query.get(name)
    if told is None:
        return default
    if not (told.isascii() and told.isdigit() and len(told) < 20 and low <= int(told) <= high):
        raise InputError(f"{name} is a number from {low} to {high}, not {told[:50]!r}.", param=name)
    return int(told)


async def _use(call: RequestContext, do: Any, **options: Any) -> Any:
    return await _served(call).use(call.path["name"], do, call.allowed, **options)


def _served(call: RequestContext) -> CollectionService:
    if call.served is None:
        raise NotThere("Collections are no part of batches: send a request of its own.")
    return call.served


def _refusal(error: NearfieldError) -> dict[str, Any]:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return shared_error_body(error, kind, getattr(error, "param", None))


_ONE = "/collections/{name}"
_FIND = {"query": "how do I rotate keys?", "k": 5}
_DOCUMENTS = [{"id": "keys", "text": "Keys are rotated with the rotate command.", "title": "Keys"}]


class CollectionsDialect:
    """The dialect."""

    name = "collections"
    error_type = ErrorReply
    routes = (
        Route(
            "/collections",
            "List the collections",
            _list,
            response_type=CollectionList,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            "/collections",
            "Make an empty collection",
            _create,
            request_type=CollectionRequest,
            response_type=CollectionReply,
            example={"name": "handbook", "fields": {"year": "int"}},
            scope="manage",
        ),
        Route(_ONE, "Describe a collection", _one, response_type=CollectionReply, method="GET", rate_limit_exempt=True),
        Route(_ONE, "Remove a collection", _drop, response_type=CollectionName, method="DELETE", scope="manage"),
        Route(
            f"{_ONE}/search",
            "Find the passages that match a query best",
            _search,
            request_type=SearchRequest,
            response_type=SearchReply,
            example=_FIND,
        ),
        Route(
            f"{_ONE}/ask",
            "Answer a question from the passages that match it best",
            _ask,
            request_type=AskRequest,
            response_type=AskReply,
            example={"question": "how do I rotate keys?", "stream": False},
            response_media=(JSON, SSE),
        ),
        Route(
            f"{_ONE}/documents",
            "List documents",
            _documents,
            response_type=DocumentList,
            method="GET",
            rate_limit_exempt=True,
        ),
        Route(
            f"{_ONE}/documents",
            "Add documents, or replace those of the same ids",
            _put,
            request_type=DocumentsRequest,
            response_type=DocumentsReply,
            example={"documents": _DOCUMENTS},
            scope="manage",
        ),
        Route(
            f"{_ONE}/documents/delete",
            "Remove documents",
            _delete,
            request_type=DeleteRequest,
            response_type=DeletedReply,
            example={"documents": ["keys"]},
            scope="manage",
        ),
        Route(
            f"{_ONE}/document",
            "Read a document (?id=)",
            _document,
            response_type=DocumentReply,
            method="GET",
            rate_limit_exempt=True,
        ),
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Say it as the shared paths do."""
        return _refusal(error)
