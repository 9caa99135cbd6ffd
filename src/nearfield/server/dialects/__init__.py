"""Dialects: one file, one API: its shapes, and how its requests become Exchanges and these its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nearfield.errors import NearfieldError
from nearfield.registry import Registry
from nearfield.server.batches.batch_runner import BatchRunner
from nearfield.server.collection_service import CollectionService
from nearfield.server.files.file_store import FileStore
from nearfield.server.files.upload import MultipartUpload
from nearfield.server.models.model_pool import ModelPool
from nearfield.server.request_body import RequestLimits

#: Where several claim a path, the first in this order whose ``claims`` says yes answers.
REGISTRY = Registry(
    "dialect",
    {
        "cohere": "nearfield.server.dialects.cohere.routes:CohereDialect",
        "voyage": "nearfield.server.dialects.voyage:VoyageDialect",
        "jina": "nearfield.server.dialects.jina:JinaDialect",
        "ollama": "nearfield.server.dialects.ollama.routes:OllamaDialect",
        "native": "nearfield.server.dialects.native.routes:NativeDialect",
        "sie": "nearfield.server.dialects.sie.routes:SieDialect",
        "qdrant": "nearfield.server.dialects.qdrant:QdrantDialect",
        "manage": "nearfield.server.dialects.model_management:ModelManagement",
        "collections": "nearfield.server.dialects.collections.routes:CollectionsDialect",
        "tei": "nearfield.server.dialects.tei.routes:TeiDialect",
        "openai-batches": "nearfield.server.dialects.openai.batches:OpenAiBatchesDialect",
        "openai": "nearfield.server.dialects.openai.embeddings:OpenAiDialect",
    },
    group="nearfield.dialects",
)
JSON, MSGPACK = "application/json", "application/msgpack"


@dataclass(slots=True)
class RequestContext:
    """What a route may look at beside its body: ``fields`` are all names that the body had, nulls included.

    It is filled in while a request is read, and not changed by routes.
    """

    models: ModelPool
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    request_id: str = ""
    limits: RequestLimits | None = None
    #: What token ids are, where an API leaves that open: ``cl100k``, ``native`` (the model's own) or ``reject``.
    token_ids: str = "cl100k"
    #: Whether the asker may use the model of a full id.
    allowed: Callable[[str], bool] = lambda _: True
    #: ``http`` or ``https``, as the client sees it.
    scheme: str = "http"
    #: Digest of the asker's key, in hexadecimals: whose the files and batches are. Empty without keys.
    owner: str = ""
    files: FileStore | None = None
    batches: BatchRunner | None = None
    #: The collections that are served, None where a request came in a batch.
    served: CollectionService | None = None
    #: The body of a route with ``upload``, yet to be read.
    upload: MultipartUpload | None = None


@dataclass(frozen=True)
class Reply:
    """A reply that is more than a JSON body with status 200.

    ``content`` is bytes as they are, lines that come one by one, or anything that JSON can say.
    """

    content: Any
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> AsyncIterator[bytes] | None:
        """The lines, where the reply is a stream."""
        return self.content if isinstance(self.content, AsyncIterator) else None


def as_it_is(answer: Any) -> Any:
    """Write what ``read`` gave: for routes that need no model."""
    return answer


@dataclass(frozen=True)
class Route:
    """One path of an API.

    ``read`` turns the body, as a ``takes``, and the Call into an Exchange, or gives the reply at once; ``write`` turns
    the answered Exchange into the reply's body (numpy arrays allowed) or a Reply.
    """

    path: str
    summary: str
    read: Callable[[Any, RequestContext], Any]
    write: Callable[[Any], Any] = as_it_is
    #: Struct of the body; None where there is none.
    takes: Any = None
    #: Type of the reply's body.
    gives: Any = None
    method: str = "POST"
    example: Mapping[str, Any] | None = None
    #: Whether a request to a path that others claim too is this API's; None where it is whoever else's it is not.
    claims: Callable[[RequestContext], bool] | None = None
    #: Whether it is answered without a key.
    public: bool = False
    #: What a key must allow: ``infer``, or ``manage`` for what changes the server.
    scope: str = "infer"
    #: Whether it costs no tokens, and is answered to a key that has used up its own for this minute.
    free: bool = False
    #: What bodies may be beside JSON.
    media: tuple[str, ...] = (JSON,)
    #: What replies may be beside JSON, where the request's Accept says so.
    replies: tuple[str, ...] = (JSON,)
    #: Gives the key of a request that has none in its header: for clients that send it in the body.
    key: Callable[[RequestContext], str | None] | None = None
    #: Whether a body is read as JSON whatever its header says: curl calls it a form, and the API takes that.
    lax: bool = False
    #: Whether the body is a form with a file (multipart/form-data), which ``read`` takes from ``Call.upload`` bit by
    #: bit; ``takes`` then only describes it.
    upload: bool = False


class Dialect(Protocol):
    """An API. It knows neither the engine nor HTTP beyond its paths, shapes and headers."""

    name: str
    routes: tuple[Route, ...]
    #: Type of the body of a refusal.
    refuses: Any

    def refuse(self, error: NearfieldError) -> Any:
        """Turn an error into the reply's body, or a Reply where its status differs from the error's own."""
        ...


def shared_refusal(error: NearfieldError, kind: str, param: str | None = None) -> dict[str, Any]:
    """Return the error's body on paths that several APIs share: each of their clients finds its own keys in it."""
    told = str(error)
    return {
        "error": {"message": told, "type": kind, "param": param, "code": error.code},
        "detail": told,
        "message": told,
    }
