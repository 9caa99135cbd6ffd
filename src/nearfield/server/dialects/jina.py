"""Jina's embeddings and rerank API: https://api.jina.ai/redoc and https://jina.ai/embeddings/

It also handles the requests to /v1/rerank that match no other API: the response has the keys that the clients of each
API read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, cast

import msgspec

from nearfield.errors import InputError, InputTooLong, NearfieldError, nearest
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.server.dialects import JsonObject, JsonValue, Reply, Route, message_of, shared_error_body
from nearfield.server.dialects.schemas import RERANK_EXAMPLE, Name, rank_results, to_base64, to_json_rows
from nearfield.server.exchange import Encode, EncodeKeywords, EncodeLateChunks, EncodeOptions, Rank, RerankOptions
from nearfield.server.exchange.content_parts import join_parts
from nearfield.server.exchange.picture_inputs import picture_from_text
from nearfield.server.http.request_body import convert
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.description import ModelDescription
from nearfield.vectors.outputs import Outputs

#: Fields that no other API on the same paths has.
JINA_FIELDS = frozenset(
    {"task", "embedding_type", "encoding_type", "late_chunking", "normalized", "return_multivector"}
)
Type = Literal["float", "base64", "binary", "ubinary"]
#: Tasks with one kind of text: a model that was not trained for the task gets no prompt.
_SYMMETRIC_TASKS = ("text-matching", "classification", "separation", "clustering")
#: Suffixes of the other tasks, and their roles.
_TASK_ROLES = {".query": "query", ".passage": "document", ".document": "document"}
_PARAM_NAMES = {"precision": "embedding_type", "truncate_dim": "dimensions", "role": "task", "top_k": "top_n"}


class JinaItem(msgspec.Struct):
    """One input or document: a text, or in inputs a picture (``url`` and ``bytes`` are older names), or its parts."""

    text: str | None = None
    image: JsonValue = None
    pdf: JsonValue = None
    content: JsonValue = None
    url: JsonValue = None
    bytes: JsonValue = None


class JinaContent(msgspec.Struct):
    """The parts of an input that are read together."""

    content: list[str | JinaItem]


class JinaEmbeddingRequest(msgspec.Struct):
    """Body of POST /v1/embeddings in Jina's form.

    ``normalized`` scales vectors to unit length; a model whose own last module does so always does.
    """

    input: str | list[str | JinaItem]
    model: Name
    task: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    dimensions: int | None = None
    normalized: bool | None = None
    late_chunking: bool = False
    truncate: bool = False
    embedding_type: Type | None = None
    #: LlamaIndex's name of ``embedding_type``.
    encoding_type: Type | None = None
    #: OpenAI's field, used without ``embedding_type``.
    encoding_format: Literal["float", "base64"] | None = None
    return_multivector: bool = False


class JinaUsage(msgspec.Struct):
    """Number of tokens read."""

    total_tokens: int
    prompt_tokens: int


class JinaEmbedding(msgspec.Struct, omit_defaults=True):
    """One input's vector (``embedding``), or the vectors of its tokens (``embeddings``)."""

    object: Literal["embedding", "embeddings"]
    index: int
    embedding: list[float] | str | None = None
    embeddings: list[list[float]] | None = None


class JinaEmbeddingReply(msgspec.Struct):
    """Response body of POST /v1/embeddings."""

    model: str
    object: Literal["list"]
    usage: JinaUsage
    data: list[JinaEmbedding]


class JinaRerankRequest(msgspec.Struct):
    """Body of POST /v1/rerank; without ``model``, the first served reranker is used."""

    query: str | JinaItem
    documents: list[str | JinaItem]
    model: Name | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = True
    #: Maximum number of tokens read of each document.
    max_doc_length: Annotated[int, msgspec.Meta(ge=1)] | None = None


class InfinityRerankRequest(JinaRerankRequest):
    """Body of POST /rerank with documents, as clients of Infinity and vLLM send it: by default none are returned."""

    return_documents: bool = False
    #: Whether scores are the numbers of the model, not scaled to between 0 and 1.
    raw_scores: bool = False


class JinaRankResult(msgspec.Struct, omit_defaults=True):
    """Index and score of one document, and the document from the request."""

    index: int
    relevance_score: float
    document: str | dict[str, JsonValue] | None = None


class JinaRerankReply(msgspec.Struct):
    """Response body of POST /v1/rerank; ``data`` repeats ``results`` for clients that read that key.

    In the response of POST /rerank, ``object`` is ``rerank``: Infinity's client accepts nothing else.
    """

    model: str
    object: Literal["list", "rerank"]
    usage: JinaUsage
    results: list[JinaRankResult]
    data: list[JinaRankResult]


class JinaFieldError(msgspec.Struct):
    """A field with a wrong value."""

    field: str
    message: str
    type: str


class JinaError(msgspec.Struct, omit_defaults=True):
    """Body of an error response; Jina's clients show ``detail``."""

    detail: str
    message: str
    error: dict[str, JsonValue]
    code: str
    errors: list[JinaFieldError] = []


# -- embeddings ----------------------------------------------------------------------------------------------------


def is_embeddings_request(context: RequestContext) -> bool:
    """Return whether a body of /v1/embeddings is Jina's, by fields that only Jina has, or inputs that are objects."""
    if JINA_FIELDS & context.fields or isinstance(context.body.get("truncate"), bool):
        return True
    inputs = context.body.get("input")
    return isinstance(inputs, list) and dict in map(type, inputs)


def _read_embeddings(request: JinaEmbeddingRequest, context: RequestContext) -> Encode:
    kind = request.embedding_type or request.encoding_type
    items = [request.input] if isinstance(request.input, str) else request.input
    inputs = [_read_item(item, f"input {index}", context) for index, item in enumerate(items)]
    if request.return_multivector:
        return _read_multivector(request, inputs, kind)
    options: EncodeKeywords = {"precision": kind if kind in ("binary", "ubinary") else "float32"}
    if request.dimensions is not None:
        options["truncate_dim"] = request.dimensions
    if request.normalized:
        options["normalize_embeddings"] = True
    base64 = kind == "base64" or (kind is None and request.encoding_format == "base64")
    exchange: Encode
    if request.late_chunking:
        texts = [item for item in inputs if isinstance(item, str)]
        if len(texts) < len(inputs):
            raise InputError("late_chunking is for texts: send pictures without it.", param="late_chunking")
        exchange = EncodeLateChunks(model=request.model, inputs=[texts], options=EncodeOptions(**options))
    else:
        options["truncate"] = _truncation_policy(request)
        exchange = Encode(model=request.model, inputs=inputs, options=EncodeOptions(**options))
    exchange.options_for = _choose_task_options(request.task)
    exchange.reply_options = {"base64": base64}
    return exchange


def _read_multivector(
    request: JinaEmbeddingRequest, inputs: Sequence[str | Image | MixedContent], kind: str | None
) -> Encode:
    if request.dimensions is not None or request.late_chunking:
        other = "late_chunking" if request.late_chunking else "dimensions"
        raise InputError(f"return_multivector cannot be combined with {other}: leave one of them out.", param=other)
    if kind not in (None, "float"):
        raise InputError(
            f"return_multivector returns numbers, not {kind!r}: leave embedding_type out.", param="embedding_type"
        )
    return Encode(
        model=request.model,
        inputs=inputs,
        options=EncodeOptions(outputs="multivector", truncate=_truncation_policy(request)),
        needs=("multivector",),
        options_for=_choose_task_options(request.task),
    )


def _truncation_policy(request: JinaEmbeddingRequest) -> str:
    return "report" if request.truncate else "error"


def _choose_task_options(task: str | None) -> Callable[[ModelDescription], EncodeKeywords] | None:
    """Return a function from the model to the encoder's options for the task; None without a task."""
    if task is None:
        return None

    def choose(model: ModelDescription) -> EncodeKeywords:
        # The role, too: a late-interaction model marks its queries by it.
        role = next((role for suffix, role in _TASK_ROLES.items() if task.endswith(suffix)), None)
        if task in model.tasks:
            return {"task": task} if role is None else {"task": task, "role": role}
        if role is not None:
            return {"role": role}
        if task not in _SYMMETRIC_TASKS:
            known = {*model.tasks, *_SYMMETRIC_TASKS, "retrieval.query", "retrieval.passage"}
            raise InputError(f"{model.name} has no task {task!r}. {nearest(task, known)}", param="task")
        return {"prompt": ""}

    return choose


def _read_item(item: str | JinaItem, field: str, context: RequestContext) -> str | Image | MixedContent:
    """Return an input; a string is a text, whatever it looks like.

    Raises:
        InputError: it has no part, or one that no model here reads.
    """
    if isinstance(item, str):
        return item
    present = [name for name in item.__struct_fields__ if getattr(item, name) is not None]
    if len(present) > 1 and {"content", "pdf"} & set(present):
        raise InputError(f"{field} has {' and '.join(present)}: send each in a separate input.", param="input")
    if len(present) > 1:
        parts = [_read_single(name, getattr(item, name), field, context) for name in present]
        return join_parts(parts, field, "input")
    if present == ["content"]:
        return _read_content(item.content, field, context)
    if not present or present[0] == "pdf":
        raise InputError(
            f"{field} {'contains a pdf' if present else 'has no text'}: send a string, "
            '{"text": "..."} or {"image": "..."}.',
            param="input",
        )
    return _read_single(present[0], getattr(item, present[0]), field, context)


def _read_single(name: str, value: object, field: str, context: RequestContext) -> str | Image:
    if name == "text":
        return str(value)
    if not isinstance(value, str):
        raise InputError(f"{field}: {name} must be a string: a data URI or base64.", param="input")
    return picture_from_text(value, context.picture_limits, field)


def _read_content(content: JsonValue, field: str, context: RequestContext) -> str | Image | MixedContent:
    """Return the one input that the parts of ``content`` make."""
    parts = convert({"content": content}, JinaContent).content
    if any(isinstance(part, JinaItem) and part.content is not None for part in parts):
        raise InputError(f"{field} has content within content.", param="input")
    read = [_read_item(part, field, context) for part in parts]
    flat = [piece for part in read for piece in (part.parts if isinstance(part, MixedContent) else (part,))]
    return join_parts(cast("list[str | Image]", flat), field, "input")


def _read_ranked(item: str | JinaItem, label: str, field: str, context: RequestContext) -> str | Image | MixedContent:
    """Return a query or document of a ranking."""
    try:
        return _read_item(item, label, context)
    except InputError as error:
        error.param = field
        raise


def _write_embeddings(exchange: Encode) -> JsonObject:
    usage = {"total_tokens": exchange.tokens, "prompt_tokens": exchange.tokens}
    return {"model": exchange.model, "object": "list", "usage": usage, "data": _embedding_objects(exchange)}


def _embedding_objects(exchange: Encode) -> list[JsonObject]:
    result = exchange.result
    if isinstance(result, Outputs) and result.multivector is not None:
        return [
            {"object": "embeddings", "index": index, "embeddings": rows}
            for index, rows in enumerate(result.multivector)
        ]
    vectors = exchange.vectors
    rows = [to_base64(row) for row in vectors.data] if exchange.reply_options["base64"] else to_json_rows(vectors)
    return [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]


# -- rerank --------------------------------------------------------------------------------------------------------


def is_rerank_request(context: RequestContext) -> bool:
    """Return whether a body of /rerank is Jina's: it has ``documents``, where TEI has ``texts``."""
    return "documents" in context.fields


def _read_rerank(request: JinaRerankRequest, context: RequestContext) -> Rank:
    return Rank(
        model=request.model,
        query=_read_ranked(request.query, "query", "query", context),
        documents=[
            _read_ranked(item, f"documents {index}", "documents", context)
            for index, item in enumerate(request.documents)
        ],
        top_k=request.top_n,
        max_document_tokens=request.max_doc_length,
        bounded=True,
        reply_options={"documents": context.body["documents"] if request.return_documents else None},
    )


def _read_infinity_rerank(request: InfinityRerankRequest, context: RequestContext) -> Rank:
    exchange = _read_rerank(request, context)
    if request.raw_scores:
        exchange.bounded, exchange.options = False, RerankOptions(activation="identity")
    return exchange


def _write_infinity_rerank(exchange: Rank) -> JsonObject:
    return {**_write_rerank(exchange), "object": "rerank"}


def _write_rerank(exchange: Rank) -> JsonObject:
    results = rank_results(exchange, exchange.reply_options["documents"])
    name = exchange.model or (exchange.description.name if exchange.description is not None else "")
    usage = {"total_tokens": exchange.tokens, "prompt_tokens": exchange.tokens}
    return {"model": name, "object": "list", "usage": usage, "results": results, "data": results}


_EMBEDDINGS_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "task": "retrieval.query"}
_RERANK_EXAMPLE = {**RERANK_EXAMPLE, "top_n": 1}


class JinaDialect:
    """Jina's API."""

    name = "jina"
    error_type = JinaError
    routes = (
        *(
            Route(
                path,
                "Embed texts and pictures",
                _read_embeddings,
                _write_embeddings,
                JinaEmbeddingRequest,
                JinaEmbeddingReply,
                example=_EMBEDDINGS_EXAMPLE,
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
            example=_RERANK_EXAMPLE,
        ),
        Route(
            "/rerank",
            "Rank documents by a query",
            _read_infinity_rerank,
            _write_infinity_rerank,
            InfinityRerankRequest,
            JinaRerankReply,
            matches=is_rerank_request,
        ),
    )

    def refuse(self, error: NearfieldError) -> object:
        """Return Jina's error body: with status 422 and the field if a value is wrong, as Jina's server does."""
        param = getattr(error, "param", None)
        field = _PARAM_NAMES.get(param, param) if param else None
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        code = "INPUT_TOKEN_LIMIT_EXCEEDED" if isinstance(error, InputTooLong) else error.code
        detail = {"message": message_of(error), "type": kind, "param": field, "code": code}
        body: JsonObject = {**shared_error_body(error, kind, field), "error": detail, "code": code}
        if isinstance(error, InputError) and error.status == 400 and not isinstance(error, InputTooLong):
            body["errors"] = [{"field": field or "body", "message": message_of(error), "type": error.code}]
            return Reply(body, 422)
        return body
