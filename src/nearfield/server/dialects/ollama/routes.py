"""Ollama's API for embeddings and models: https://github.com/ollama/ollama/blob/main/docs/api.md

Beyond the documentation, a body is read whatever its Content-Type (the documented curl commands send none), ``name`` is
accepted for ``model``, and error messages are those of Ollama's server/routes.go.
"""

from __future__ import annotations

from nearfield import __version__
from nearfield.errors import NearfieldError
from nearfield.server.dialects import JsonObject, Reply, Route
from nearfield.server.dialects.ollama.models import (
    delete_model,
    list_models,
    list_running,
    pull_model,
    refuse_generate,
    refuse_manage,
    show_model,
)
from nearfield.server.dialects.ollama.requests import read_embed, read_prompt
from nearfield.server.dialects.ollama.responses import error_reply, write_embed, write_prompt
from nearfield.server.dialects.ollama.schemas import (
    OllamaEmbedReply,
    OllamaEmbedRequest,
    OllamaError,
    OllamaModelRequest,
    OllamaProcessesReply,
    OllamaPromptReply,
    OllamaPromptRequest,
    OllamaPullRequest,
    OllamaShowReply,
    OllamaTagsReply,
    OllamaVersionReply,
)
from nearfield.server.http.request_context import RequestContext


def get_version(_: None, __: RequestContext) -> JsonObject:
    """Return the server's version."""
    return {"version": __version__}


def get_status(_: None, __: RequestContext) -> Reply:
    """Return the text by which Ollama's clients recognise a running server."""
    return Reply(b"Ollama is running", media_type="text/plain")


_EMBED_EXAMPLE = {"model": "all-minilm", "input": ["Why is the sky blue?", "Why is the grass green?"]}


class OllamaDialect:
    """Ollama's API."""

    name = "ollama"
    error_type = OllamaError
    routes = (
        Route(
            "/api/embed",
            "Embed texts as vectors of unit length",
            read_embed,
            write_embed,
            OllamaEmbedRequest,
            OllamaEmbedReply,
            example=_EMBED_EXAMPLE,
            any_content_type=True,
        ),
        Route(
            "/api/embeddings",
            "Embed one text",
            read_prompt,
            write_prompt,
            OllamaPromptRequest,
            OllamaPromptReply,
            example={"model": "all-minilm", "prompt": "Why is the sky blue?"},
            any_content_type=True,
        ),
        Route("/api/tags", "List the models", list_models, response_type=OllamaTagsReply, method="GET"),
        Route(
            "/api/show",
            "Describe a model",
            show_model,
            request_type=OllamaModelRequest,
            response_type=OllamaShowReply,
            any_content_type=True,
        ),
        Route("/api/ps", "List the loaded models", list_running, response_type=OllamaProcessesReply, method="GET"),
        Route("/api/pull", "Load a model", pull_model, request_type=OllamaPullRequest, any_content_type=True),
        Route(
            "/api/delete",
            "Unload a model",
            delete_model,
            request_type=OllamaModelRequest,
            method="DELETE",
            scope="manage",
            any_content_type=True,
        ),
        *(
            Route(
                path,
                "Refused: the models of this server do not generate text",
                refuse_generate,
                request_type=OllamaModelRequest,
                any_content_type=True,
            )
            for path in ("/api/generate", "/api/chat")
        ),
        *(
            Route(path, "Refused: models cannot be created here", refuse_manage, any_content_type=True)
            for path in ("/api/create", "/api/copy", "/api/push")
        ),
        Route("/api/version", "Get the version", get_version, response_type=OllamaVersionReply, method="GET"),
        Route("/", "Check that the server runs", get_status, method="GET", public=True),
    )

    def refuse(self, error: NearfieldError) -> Reply:
        """Return Ollama's error body."""
        return error_reply(error)
