"""Dialects: one file, one API: its shapes, and how its requests become Exchanges and these its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nearfield.errors import NearfieldError
from nearfield.server.models import Models
from nearfield.shelf import Shelf

#: Where several claim a path, the first in this order whose ``claims`` says yes answers.
SHELF = Shelf(
    "dialect",
    {"openai": "nearfield.server.dialects.openai:OpenAi"},
    group="nearfield.dialects",
)
JSON, MSGPACK = "application/json", "application/msgpack"


@dataclass(frozen=True)
class Call:
    """What a route may look at beside its body: ``fields`` are all names that the body had, nulls included."""

    models: Models
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()
    request_id: str = ""


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
    read: Callable[[Any, Call], Any]
    write: Callable[[Any], Any] = as_it_is
    #: Struct of the body; None where there is none.
    takes: Any = None
    #: Type of the reply's body.
    gives: Any = None
    method: str = "POST"
    example: Mapping[str, Any] | None = None
    #: Whether a request to a path that others claim too is this API's; None where it is whoever else's it is not.
    claims: Callable[[Call], bool] | None = None
    #: Whether it is answered without a key.
    public: bool = False
    #: What bodies may be beside JSON.
    media: tuple[str, ...] = (JSON,)
    #: What a single value as body stands for: some clients send no object.
    wrap: str | None = None


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
