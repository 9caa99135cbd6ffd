"""Jina's rerank API, and that of Infinity and vLLM: request bodies to exchanges, and scores to response bodies.

It also handles the requests to /v1/rerank that match no other API: the response has the keys that the clients of each
API read.
"""

from __future__ import annotations

from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.jina.embeddings import read_item
from nearfield.server.dialects.jina.schemas import InfinityRerankRequest, JinaItem, JinaRerankRequest
from nearfield.server.dialects.schemas import rank_results
from nearfield.server.exchange import Rank, RerankOptions
from nearfield.server.http.request_context import RequestContext


def is_rerank_request(context: RequestContext) -> bool:
    """Return whether a body of /rerank is Jina's: it has ``documents``, where TEI has ``texts``."""
    return "documents" in context.fields


def read_rerank(request: JinaRerankRequest, context: RequestContext) -> Rank:
    """Convert a body of POST /v1/rerank to an exchange."""
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


def read_infinity_rerank(request: InfinityRerankRequest, context: RequestContext) -> Rank:
    """Convert a body of POST /rerank to an exchange."""
    exchange = read_rerank(request, context)
    if request.raw_scores:
        exchange.bounded, exchange.options = False, RerankOptions(activation="identity")
    return exchange


def write_infinity_rerank(exchange: Rank) -> JsonObject:
    """Return the response body of POST /rerank."""
    return {**write_rerank(exchange), "object": "rerank"}


def write_rerank(exchange: Rank) -> JsonObject:
    """Return the documents by descending score."""
    results = rank_results(exchange, exchange.reply_options["documents"])
    name = exchange.model or (exchange.description.name if exchange.description is not None else "")
    usage = {"total_tokens": exchange.tokens, "prompt_tokens": exchange.tokens}
    return {"model": name, "object": "list", "usage": usage, "results": results, "data": results}


def _read_ranked(item: str | JinaItem, label: str, field: str, context: RequestContext) -> str | Image | MixedContent:
    """Return a query or document of a ranking."""
    try:
        ranked = read_item(item, label, context)
    except InputError as error:
        error.param = field
        raise
    if isinstance(ranked, (Audio, Video)):
        raise InputError(f"{label} is a sound or a video, and no model here ranks these.", param=field)
    return ranked
