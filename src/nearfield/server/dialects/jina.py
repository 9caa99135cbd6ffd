"""Jina's embeddings and rerank API: https://api.jina.ai/redoc and https://jina.ai/embeddings/

What stands on /v1/rerank for no other API is answered here: the reply has the keys that each of their clients reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from nearfield.encoder import Encoder
from nearfield.errors import InputError, InputTooLong, NearfieldError, nearest
from nearfield.server.dialects import Reply, RequestContext, Route, shared_error_body
from nearfield.server.dialects.schemas import RANKING, Name, in_base64, in_lists, ranked
from nearfield.server.exchange import Encode, EncodeLateChunks, Rank
from nearfield.vectors.outputs import Outputs

#: Fields that no other API on these paths has.
OWN = frozenset({"task", "embedding_type", "encoding_type", "late_chunking", "normalized", "return_multivector"})
Type = Literal["float", "base64", "binary", "ubinary"]
#: Tasks whose texts are all alike: a model that was not trained for them apart gets no prompt.
_SYMMETRIC = ("text-matching", "classification", "separation", "clustering")
#: How the others end, and the role that they stand for.
_ROLES = {".query": "query", ".passage": "document", ".document": "document"}
_PARAMS = {"precision": "embedding_type", "truncate_dim": "dimensions", "role": "task", "top_k": "top_n"}


class JinaItem(msgspec.Struct):
    """One input or document: text. The other fields are those of pictures and pages, which no model here reads."""

    text: str | None = None
    image: Any = None
    pdf: Any = None
    content: Any = None
    url: Any = None
    bytes: Any = None


class JinaEmbeddingRequest(msgspec.Struct):
    """The body of POST /v1/embeddings in Jina's form.

    ``normalized`` true scales to unit length; a model whose last module does so always does.
    """

    input: str | list[str | JinaItem]
    model: Name
    task: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    dimensions: int | None = None
    normalized: bool | None = None
    late_chunking: bool = False
    truncate: bool = False
    embedding_type: Type | None = None
    #: What LlamaIndex calls ``embedding_type``.
    encoding_type: Type | None = None
    #: OpenAI's, taken where ``embedding_type`` is left out.
    encoding_format: Literal["float", "base64"] | None = None
    return_multivector: bool = False


class JinaUsage(msgspec.Struct):
    """What was read."""

    total_tokens: int
    prompt_tokens: int


class JinaEmbedding(msgspec.Struct, omit_defaults=True):
    """One input's vector (``embedding``), or the vectors of its tokens (``embeddings``)."""

    object: Literal["embedding", "embeddings"]
    index: int
    embedding: list[float] | str | None = None
    embeddings: list[list[float]] | None = None


class JinaEmbeddingReply(msgspec.Struct):
    """The reply of POST /v1/embeddings."""

    model: str
    object: Literal["list"]
    usage: JinaUsage
    data: list[JinaEmbedding]


class JinaRerankRequest(msgspec.Struct):
    """The body of POST /v1/rerank. Without ``model``, the first reranker that is served."""

    query: str | JinaItem
    documents: list[str | JinaItem]
    model: Name | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = True
    #: Most tokens that are read of each document.
    max_doc_length: Annotated[int, msgspec.Meta(ge=1)] | None = None


class InfinityRerankRequest(JinaRerankRequest):
    """The body of POST /rerank with documents, as Infinity's and vLLM's clients send it: they get none back unasked."""

    return_documents: bool = False
    #: Scores as the model gives them, in place of such between 0 and 1.
    raw_scores: bool = False


class JinaRanked(msgspec.Struct, omit_defaults=True):
    """One document's place, and the document as it was sent."""

    index: int
    relevance_score: float
    document: str | dict[str, Any] | None = None


class JinaRerankReply(msgspec.Struct):
    """The reply of POST /v1/rerank: ``data`` is ``results`` once more, for clients that look there.

    That of POST /rerank calls itself ``rerank``: Infinity's client takes nothing else.
    """

    model: str
    object: Literal["list", "rerank"]
    usage: JinaUsage
    results: list[JinaRanked]
    data: list[JinaRanked]


class JinaField(msgspec.Struct):
    """A field that was wrong."""

    field: str
    message: str
    type: str


class JinaError(msgspec.Struct, omit_defaults=True):
    """Any reply that is no success: ``detail`` is what Jina's clients show."""

    detail: str
    message: str
    error: dict[str, Any]
    code: str
    errors: list[JinaField] = []


# -- embeddings ----------------------------------------------------------------------------------------------------


def is_embeddings_request(call: RequestContext) -> bool:
    """Return whether a body to /v1/embeddings is Jina's: by fields of its own, or inputs that are objects."""
    if OWN & call.fields or isinstance(call.body.get("truncate"), bool):
        return True
    given = call.body.get("input")
    return isinstance(given, list) and dict in map(type, given)


def _read(request: JinaEmbeddingRequest, _: RequestContext) -> Encode:
    kind = request.embedding_type or request.encoding_type
    texts = [request.input] if isinstance(request.input, str) else _texts(request.input, "input")
    if request.return_multivector:
        return _multivector(request, texts, kind)
    wanted: dict[str, Any] = {"precision": kind if kind in ("binary", "ubinary") else "float32"}
    if request.dimensions is not None:
        wanted["truncate_dim"] = request.dimensions
    if request.normalized:
        wanted["normalize_embeddings"] = True
    coded = kind == "base64" or (kind is None and request.encoding_format == "base64")
    common: dict[str, Any] = {"model": request.model, "reply": {"base64": coded}, "by_model": _task(request.task)}
    if request.late_chunking:
        return EncodeLateChunks(inputs=[texts], wanted=wanted, **common)
    return Encode(inputs=texts, wanted={**wanted, "truncate": _policy(request)}, **common)


def _multivector(request: JinaEmbeddingRequest, texts: list[str], kind: str | None) -> Encode:
    if request.dimensions is not None or request.late_chunking:
        other = "late_chunking" if request.late_chunking else "dimensions"
        raise InputError(f"return_multivector cannot be combined with {other}: leave one of them out.", param=other)
    if kind not in (None, "float"):
        raise InputError(
            f"The vectors of return_multivector come as numbers, not as {kind!r}: leave embedding_type out.",
            param="embedding_type",
        )
    return Encode(
        model=request.model,
        inputs=texts,
        wanted={"outputs": "multivector", "truncate": _policy(request)},
        needs=("multivector",),
        by_model=_task(request.task),
    )


def _policy(request: JinaEmbeddingRequest) -> str:
    return "report" if request.truncate else "error"


def _task(task: str | None) -> Any:
    """Return what makes of a task the keywords of a model's ``encode``, or None where none was named."""
    if task is None:
        return None

    def choose(model: Encoder) -> Mapping[str, Any]:
        # The role as well: a late-interaction model marks its queries by that.
        role = next((role for end, role in _ROLES.items() if task.endswith(end)), None)
        if task in model.tasks:
            return {"task": task} if role is None else {"task": task, "role": role}
        if role is not None:
            return {"role": role}
        if task not in _SYMMETRIC:
            known = {*model.tasks, *_SYMMETRIC, "retrieval.query", "retrieval.passage"}
            raise InputError(f"{model.name} has no task {task!r}. {nearest(task, known)}", param="task")
        return {"prompt": ""}

    return choose


def _texts(given: list[str | JinaItem], called: str) -> list[str]:
    return [_text(item, f"{called} {index}", called) for index, item in enumerate(given)]


def _text(item: str | JinaItem, where: str, called: str) -> str:
    if isinstance(item, str):
        return item
    if item.text is not None:
        return item.text
    kinds = [name for name in ("image", "pdf", "content", "url", "bytes") if getattr(item, name) is not None]
    found = f"holds {kinds[0]!r}" if kinds else "has no text"
    raise InputError(
        f'{where} {found}, and this server reads text alone: send a string or {{"text": "..."}}.', param=called
    )


def _write(exchange: Encode) -> dict[str, Any]:
    usage = {"total_tokens": exchange.tokens, "prompt_tokens": exchange.tokens}
    return {"model": exchange.model, "object": "list", "usage": usage, "data": _data(exchange)}


def _data(exchange: Encode) -> list[dict[str, Any]]:
    found = exchange.result
    if isinstance(found, Outputs) and found.multivector is not None:
        return [{"object": "embeddings", "index": at, "embeddings": rows} for at, rows in enumerate(found.multivector)]
    vectors = exchange.vectors
    rows = [in_base64(row) for row in vectors.data] if exchange.reply["base64"] else in_lists(vectors)
    return [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]


# -- rerank --------------------------------------------------------------------------------------------------------


def is_rerank_request(call: RequestContext) -> bool:
    """Return whether a body to /rerank is Jina's, which has documents where others have texts."""
    return "documents" in call.fields


def _read_rerank(request: JinaRerankRequest, call: RequestContext) -> Rank:
    return Rank(
        model=request.model,
        query=_text(request.query, "query", "query"),
        documents=_texts(request.documents, "documents"),
        top_k=request.top_n,
        longest=request.max_doc_length,
        bounded=True,
        reply={"documents": call.body["documents"] if request.return_documents else None},
    )


def _read_bare(request: InfinityRerankRequest, call: RequestContext) -> Rank:
    exchange = _read_rerank(request, call)
    if request.raw_scores:
        exchange.bounded, exchange.wanted = False, {"activation": "identity"}
    return exchange


def _write_bare(exchange: Rank) -> dict[str, Any]:
    return {**_write_rerank(exchange), "object": "rerank"}


def _write_rerank(exchange: Rank) -> dict[str, Any]:
    results = ranked(exchange, exchange.reply["documents"])
    name = exchange.model or (exchange.served.name if exchange.served else "")
    usage = {"total_tokens": exchange.tokens, "prompt_tokens": exchange.tokens}
    return {"model": name, "object": "list", "usage": usage, "results": results, "data": results}


_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "task": "retrieval.query"}
_RANK = {**RANKING, "top_n": 1}


class JinaDialect:
    """The dialect."""

    name = "jina"
    error_type = JinaError
    routes = (
        *(
            Route(
                path,
                "Turn texts into vectors",
                _read,
                _write,
                JinaEmbeddingRequest,
                JinaEmbeddingReply,
                example=_EXAMPLE,
                matches=is_embeddings_request,
            )
            for path in ("/v1/embeddings", "/embeddings")
        ),
        Route(
            "/v1/rerank",
            "Rank documents by a query",
            _read_rerank,
            _write_rerank,
            JinaRerankRequest,
            JinaRerankReply,
            example=_RANK,
        ),
        Route(
            "/rerank",
            "Rank documents by a query",
            _read_bare,
            _write_bare,
            InfinityRerankRequest,
            JinaRerankReply,
            matches=is_rerank_request,
        ),
    )

    def refuse(self, error: NearfieldError) -> Any:
        """Write an error: 422 with the field where the request has a wrong value, as Jina's own server does."""
        param = getattr(error, "param", None)
        field = _PARAMS.get(param, param) if param else None
        code = "INPUT_TOKEN_LIMIT_EXCEEDED" if isinstance(error, InputTooLong) else error.code
        body = shared_error_body(error, "invalid_request_error" if error.status < 500 else "server_error", field)
        body["error"]["code"] = body["code"] = code
        if isinstance(error, InputError) and error.status == 400 and not isinstance(error, InputTooLong):
            body["errors"] = [{"field": field or "body", "message": str(error), "type": error.code}]
            return Reply(body, 422)
        return body
