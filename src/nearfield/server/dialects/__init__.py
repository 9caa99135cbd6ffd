"""Registry of the HTTP APIs, and the protocol that each of them implements.

A dialect is one API: a file here, or a package above 400 lines, and one row in ``REGISTRY``. It declares its structs,
converts a request body to an ``Exchange``, and an answered ``Exchange`` to a response body.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from nearfield.errors import NearfieldError, UnsupportedDimensions
from nearfield.registry import Registry
from nearfield.server.files.form_body import FormPart
from nearfield.server.http.request_body import JSON
from nearfield.server.http.request_context import RequestContext

#: Of several APIs on one path, the first in this order whose ``Route.matches`` returns true handles the request.
REGISTRY = Registry(
    "dialect",
    {
        "cohere": "nearfield.server.dialects.cohere.routes:CohereDialect",
        "voyage": "nearfield.server.dialects.voyage:VoyageDialect",
        "jina": "nearfield.server.dialects.jina.routes:JinaDialect",
        "ollama": "nearfield.server.dialects.ollama.routes:OllamaDialect",
        "native": "nearfield.server.dialects.native.routes:NativeDialect",
        "sie": "nearfield.server.dialects.sie.routes:SieDialect",
        "qdrant": "nearfield.server.dialects.databases.qdrant:QdrantDialect",
        "weaviate": "nearfield.server.dialects.databases.weaviate:WeaviateDialect",
        "gemini": "nearfield.server.dialects.google.gemini:GeminiDialect",
        "vertex": "nearfield.server.dialects.google.vertex:VertexDialect",
        "bedrock": "nearfield.server.dialects.bedrock.routes:BedrockDialect",
        "manage": "nearfield.server.dialects.management.routes:ManagementDialect",
        "collections": "nearfield.server.dialects.collections.routes:CollectionsDialect",
        "jobs": "nearfield.server.dialects.jobs.routes:JobsDialect",
        "tei": "nearfield.server.dialects.tei.routes:TeiDialect",
        "openai-batches": "nearfield.server.dialects.openai.batches:OpenAiBatchesDialect",
        "openai": "nearfield.server.dialects.openai.routes:OpenAiDialect",
    },
    group="nearfield.dialects",
)
#: A response body, or a part of one, before it is encoded.
JsonObject: TypeAlias = dict[str, object]
#: Any JSON value, as the type of a field of a request or response struct.
JsonValue: TypeAlias = Any


@dataclass(frozen=True)
class Reply:
    """A response other than a JSON body with status 200.

    ``content`` is bytes that are sent unchanged, an async iterator of lines to stream, or a value to encode as JSON.
    """

    content: Any
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> AsyncIterator[bytes] | None:
        """The lines of a streamed response, otherwise None."""
        return self.content if isinstance(self.content, AsyncIterator) else None


def return_unchanged(reply: object) -> object:
    """Return what ``read`` returned: the ``write`` of routes that run no model."""
    return reply


@dataclass(frozen=True)
class Route:
    """One path and method of an API.

    ``read`` receives the body as a ``request_type`` and the context. It returns an ``Exchange`` to perform, or the
    response itself. ``write`` turns the answered ``Exchange`` into a response body, which may hold numpy arrays, or a
    ``Reply``.
    """

    path: str
    summary: str
    read: Callable[[Any, RequestContext], Any]
    write: Callable[[Any], Any] = return_unchanged
    #: Struct of the request body; None for a route without a body.
    request_type: Any = None
    #: Type of the response body, for the OpenAPI document.
    response_type: Any = None
    method: str = "POST"
    #: Status of a successful response, for the OpenAPI document.
    status: int = 200
    example: Mapping[str, Any] | None = None
    #: Whether a request to a path shared with other APIs belongs to this one. Exactly one route of each path has None:
    #: it handles the requests that no other route matches.
    matches: Callable[[RequestContext], bool] | None = None
    #: Whether no API key is needed.
    public: bool = False
    #: What the API key must allow: ``infer``, or ``manage`` for routes that change the server.
    scope: str = "infer"
    #: Whether it uses no tokens, and so is served to a key that has used up its tokens of this minute.
    rate_limit_exempt: bool = False
    #: Media types that the request body may have.
    request_media: tuple[str, ...] = (JSON,)
    #: Turns the parts of a form into a body, for routes that also read forms.
    read_form: Callable[[Sequence[FormPart]], dict[str, Any]] | None = None
    #: Struct that describes the form in the OpenAPI document.
    form_type: Any = None
    #: Media types that the response may have, chosen by the Accept header.
    response_media: tuple[str, ...] = (JSON,)
    #: Returns the API key from the request body, for clients that send no Authorization header.
    body_key: Callable[[RequestContext], str | None] | None = None
    #: Finds the API key in a larger body that is not decoded yet, for routes with ``body_key``. It is called before the
    #: client is known, so that it may read only a small part.
    find_key: Callable[[bytes | bytearray], str | None] | None = None
    #: Whether the body is parsed as JSON whatever its Content-Type: curl sends that of a form.
    any_content_type: bool = False
    #: Whether the body is a multipart form with a file. ``read`` streams it from ``RequestContext.upload``;
    #: ``request_type`` only describes the form.
    upload: bool = False


class Dialect(Protocol):
    """One HTTP API: its routes, and its error body."""

    name: str
    routes: tuple[Route, ...]
    #: Type of the body of an error response.
    error_type: Any

    def refuse(self, error: NearfieldError) -> object:
        """Return the body of an error response, or a ``Reply`` if its status differs from ``error.status``."""
        ...


def message_of(error: NearfieldError, *, dimensions: str = "dimensions", force: str | None = None) -> str:
    """Return the message of an error for clients of an API.

    Args:
        error: the error.
        dimensions: the API's field with the number of dimensions.
        force: what forces dimensions there; None if nothing does.
    """
    return error.describe(dimensions, force) if isinstance(error, UnsupportedDimensions) else str(error)


def shared_error_body(
    error: NearfieldError, kind: str, param: str | None = None, *, force: str | None = None
) -> JsonObject:
    """Return an error body with the keys that the clients of every API on the shared paths read.

    ``param`` is the field that is wrong, by the API's name of it; ``force`` is as for ``message_of``.
    """
    message = message_of(error, dimensions=param or "dimensions", force=force)
    return {
        "error": {"message": message, "type": kind, "param": param, "code": error.code},
        "detail": message,
        "message": message,
    }
