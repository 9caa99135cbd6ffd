"""Cohere's embed, rerank and tokenize APIs, v1 and v2: https://docs.cohere.com/reference/embed

Relevance scores are between 0 and 1, as in the hosted API: see ``rerank.relevance_scores``.
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, Route
from nearfield.server.dialects.cohere.embed import read_embed, read_embed_v1, write_embed
from nearfield.server.dialects.cohere.rerank import is_rerank_request, read_rerank, read_rerank_v1, write_rerank
from nearfield.server.dialects.cohere.responses import error_body
from nearfield.server.dialects.cohere.schemas import (
    CohereByTypeReply,
    CohereDetokenizeReply,
    CohereDetokenizeRequest,
    CohereEmbedRequest,
    CohereEmbedV1Request,
    CohereError,
    CohereFloatsReply,
    CohereKeyReply,
    CohereRerankReply,
    CohereRerankRequest,
    CohereRerankV1Request,
    CohereTokenizeReply,
    CohereTokenizeRequest,
)
from nearfield.server.dialects.cohere.tokenize import (
    read_detokenize,
    read_tokenize,
    read_tokenizer_file,
    write_detokenize,
    write_tokenize,
    write_tokenizer_file,
)
from nearfield.server.http.request_context import RequestContext


def check_key(_: None, __: RequestContext) -> dict[str, bool]:
    """Return that the key is valid: a request with a wrong key does not get here."""
    return {"valid": True}


_TEXT_EXAMPLE = "How tall is Mont Blanc?"
_EMBED_EXAMPLE = {
    "model": "all-MiniLM-L6-v2",
    "input_type": "search_query",
    "texts": [_TEXT_EXAMPLE],
    "embedding_types": ["float"],
}
_RERANK_EXAMPLE = {
    "model": "ms-marco-MiniLM-L6-v2",
    "query": _TEXT_EXAMPLE,
    "documents": ["Mont Blanc is 4806 m high.", "The Seine flows through Paris."],
    "top_n": 1,
}
_TOKENIZE_EXAMPLE = {"model": "all-MiniLM-L6-v2", "text": _TEXT_EXAMPLE}


class CohereDialect:
    """Cohere's API."""

    name = "cohere"
    error_type = CohereError
    routes = (
        Route(
            "/v1/embed",
            "Embed texts",
            read_embed_v1,
            write_embed,
            CohereEmbedV1Request,
            CohereFloatsReply | CohereByTypeReply,
            example=_EMBED_EXAMPLE,
        ),
        Route(
            "/v2/embed",
            "Embed texts",
            read_embed,
            write_embed,
            CohereEmbedRequest,
            CohereByTypeReply,
            example=_EMBED_EXAMPLE,
        ),
        Route(
            "/v1/rerank",
            "Rank documents by a query",
            read_rerank_v1,
            write_rerank,
            CohereRerankV1Request,
            CohereRerankReply,
            example=_RERANK_EXAMPLE,
            matches=is_rerank_request,
        ),
        Route(
            "/v2/rerank",
            "Rank documents by a query",
            read_rerank,
            write_rerank,
            CohereRerankRequest,
            CohereRerankReply,
            example=_RERANK_EXAMPLE,
        ),
        Route(
            "/v1/tokenize",
            "Tokenise a text",
            read_tokenize,
            write_tokenize,
            CohereTokenizeRequest,
            CohereTokenizeReply,
            example=_TOKENIZE_EXAMPLE,
        ),
        Route(
            "/v1/detokenize",
            "Decode token ids to a text",
            read_detokenize,
            write_detokenize,
            CohereDetokenizeRequest,
            CohereDetokenizeReply,
            example={"model": "all-MiniLM-L6-v2", "tokens": [2129, 4206]},
        ),
        Route(
            "/v1/tokenizers/{model:path}",
            "Download a model's tokenizer.json",
            read_tokenizer_file,
            write_tokenizer_file,
            method="GET",
        ),
        Route("/v1/check-api-key", "Check an API key", check_key, response_type=CohereKeyReply),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return Cohere's error body, with the keys that clients of other APIs on the same paths read."""
        return error_body(error)
