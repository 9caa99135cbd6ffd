"""OpenAI's embeddings and models API: https://platform.openai.com/docs/api-reference/embeddings

The body of an embeddings request takes further fields of our own: input_type, prompt_name, instruction, truncate,
embedding_dtype. Pictures come in vLLM's chat form (``messages``) and in Infinity's (``modality``).
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, Route
from nearfield.server.dialects.openai.embeddings import read_embeddings, write_embeddings
from nearfield.server.dialects.openai.errors import error_body
from nearfield.server.dialects.openai.image_embeddings import (
    is_chat_request,
    read_chat,
    read_infinity_images,
    read_infinity_sounds,
)
from nearfield.server.dialects.openai.models import get_model, list_models
from nearfield.server.dialects.openai.schemas import (
    ChatEmbeddingRequest,
    InfinityMediaRequest,
    OpenAiEmbeddingReply,
    OpenAiEmbeddingRequest,
    OpenAiModel,
    OpenAiModelList,
)
from nearfield.server.dialects.schemas import ErrorReply

_EXAMPLE = {"model": "all-MiniLM-L6-v2", "input": ["How tall is Mont Blanc?"], "input_type": "query"}


class OpenAiDialect:
    """OpenAI's API of embeddings and models."""

    name = "openai"
    error_type = ErrorReply
    routes = (
        *(
            Route(
                path,
                "Embed texts",
                read_embeddings,
                write_embeddings,
                OpenAiEmbeddingRequest,
                OpenAiEmbeddingReply,
                example=_EXAMPLE,
            )
            for path in ("/v1/embeddings", "/embeddings")
        ),
        *(
            Route(
                path,
                "Embed a message of text, of a picture or of a sound",
                read_chat,
                write_embeddings,
                ChatEmbeddingRequest,
                OpenAiEmbeddingReply,
                matches=is_chat_request,
            )
            for path in ("/v1/embeddings", "/embeddings")
        ),
        Route(
            "/embeddings_image",
            "Embed pictures",
            read_infinity_images,
            write_embeddings,
            InfinityMediaRequest,
            OpenAiEmbeddingReply,
        ),
        Route(
            "/embeddings_audio",
            "Embed sounds",
            read_infinity_sounds,
            write_embeddings,
            InfinityMediaRequest,
            OpenAiEmbeddingReply,
        ),
        Route("/v1/models", "List the models", list_models, response_type=OpenAiModelList, method="GET"),
        # OpenAI's clients with a base URL without /v1. Their list, at /models, is that of model management.
        *(
            Route(path, "Describe a model", get_model, response_type=OpenAiModel, method="GET")
            for path in ("/v1/models/{model:path}", "/models/{model:path}")
        ),
    )

    def refuse(self, error: NearfieldError) -> JsonObject:
        """Return OpenAI's error body."""
        return error_body(error)
