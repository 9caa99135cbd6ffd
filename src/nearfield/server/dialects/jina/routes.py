"""Jina's embeddings and rerank API: https://api.jina.ai/redoc and https://jina.ai/embeddings/"""

from __future__ import annotations

from nearfield.errors import InputError, InputTooLong, NearfieldError
from nearfield.server.dialects import JsonObject, Reply, Route, message_of, shared_error_body
from nearfield.server.dialects.jina.embeddings import is_embeddings_request, read_embeddings, write_embeddings
from nearfield.server.dialects.jina.rerank import (
    is_rerank_request,
    read_infinity_rerank,
    read_rerank,
    write_infinity_rerank,
    write_rerank,
)
from nearfield.server.dialects.jina.schemas import (
    InfinityRerankRequest,
    JinaEmbeddingReply,
    JinaEmbeddingRequest,
    JinaError,
    JinaRerankReply,
    JinaRerankRequest,
)
from nearfield.server.dialects.schemas import RERANK_EXAMPLE

_PARAM_NAMES = {"precision": "embedding_type", "truncate_dim": "dimensions", "role": "task", "top_k": "top_n"}
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
                "Embed texts, pictures and sounds",
                read_embeddings,
                write_embeddings,
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
            read_rerank,
            write_rerank,
            JinaRerankRequest,
            JinaRerankReply,
            example=_RERANK_EXAMPLE,
        ),
        Route(
            "/rerank",
            "Rank documents by a query",
            read_infinity_rerank,
            write_infinity_rerank,
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
