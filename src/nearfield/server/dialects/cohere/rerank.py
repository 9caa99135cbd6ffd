"""Cohere's rerank API: request bodies to exchanges, and scores to relevance between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from nearfield.errors import InputError
from nearfield.server.dialects import JsonObject
from nearfield.server.dialects.cohere.responses import reply_meta
from nearfield.server.dialects.cohere.schemas import CohereRerankRequest, CohereRerankV1Request
from nearfield.server.exchange import Rank
from nearfield.server.http.request_context import RequestContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Fields of a rerank request that no other API on that path has.
_COHERE_FIELDS = frozenset({"rank_fields", "max_chunks_per_doc"})
#: Documents that one search unit covers: https://docs.cohere.com/docs/rerank-overview
_DOCUMENTS_PER_UNIT = 100


def is_rerank_request(context: RequestContext) -> bool:
    """Return whether a request is Cohere's, by the headers of its clients or by a field that only Cohere has."""
    headers = context.headers
    if "cohere" in headers.get("x-fern-sdk-name", "").lower() or "request-source" in headers:  # up to version 4
        return True
    return headers.get("user-agent", "").lower().startswith("cohere") or not _COHERE_FIELDS.isdisjoint(context.fields)


def read_rerank_v1(request: CohereRerankV1Request, context: RequestContext) -> Rank:
    """Convert a body of POST /v1/rerank to an exchange."""
    fields = request.rank_fields or ["text"]
    texts = [_document_text(document, fields, index) for index, document in enumerate(request.documents)]
    returned = request.documents if request.return_documents else None
    return Rank(
        model=request.model,
        query=request.query,
        documents=texts,
        top_k=request.top_n,
        bounded=True,
        reply_options={"version": "1", "id": context.request_id, "documents": returned},
    )


def read_rerank(request: CohereRerankRequest, context: RequestContext) -> Rank:
    """Convert a body of POST /v2/rerank to an exchange."""
    return Rank(
        model=request.model,
        query=request.query,
        documents=request.documents,
        top_k=request.top_n,
        max_document_tokens=request.max_tokens_per_doc,
        bounded=True,
        reply_options={"version": "2", "id": context.request_id, "documents": None},
    )


def _document_text(document: str | dict[str, object], fields: Sequence[str], index: int) -> str:
    if isinstance(document, str):
        return document
    values = [document[name] for name in fields if document.get(name) is not None]
    if not values:
        raise InputError(
            f"documents[{index}] has no text to rank: add {' or '.join(map(repr, fields[:8]))} to it, or name other "
            "fields of it in rank_fields.",
            param="documents",
        )
    return "\n".join(value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values)


def write_rerank(exchange: Rank) -> JsonObject:
    """Return the response body: the documents by descending relevance."""
    reply, documents = exchange.reply_options, exchange.reply_options["documents"]
    results: list[JsonObject] = []
    for rank, score in zip(exchange.ranked, relevance_scores(exchange), strict=True):
        result: JsonObject = {"index": rank.index, "relevance_score": score}
        if documents is not None:
            document = documents[rank.index]
            result["document"] = {"text": document} if isinstance(document, str) else document
        results.append(result)
    meta = reply_meta(reply["version"], exchange.dropped, search_units=-(-exchange.size // _DOCUMENTS_PER_UNIT))
    return {"id": reply["id"], "results": results, "meta": meta}


def relevance_scores(exchange: Rank) -> list[object]:
    """Return the scores scaled to between 0 and 1, in the same order.

    A cross-encoder with a sigmoid keeps its scores; other logits get a sigmoid, and those of a tanh become (1 + x) / 2.
    MaxSim is divided by the number of the query's vectors, which gives a mean of cosines, and becomes (1 + mean) / 2.
    If the vectors are not of unit length, it becomes the sigmoid of the mean.
    """
    # float32 is written in its shortest form; as Python floats, scores would have the digits of a double.
    scores: NDArray[np.float32] = np.array([rank.score for rank in exchange.ranked], np.float32)
    model = exchange.description
    if model is not None and not model.is_encoder:
        return list((1 + scores) / 2 if model.activation == "tanh" else scores)
    mean = scores / np.float32(max(1, exchange.summed))
    unit = model is not None and model.multivectors_normalized
    return list(np.clip((1 + mean) / 2, 0, 1) if unit else np.exp(-np.logaddexp(np.float32(0), -mean)))
