"""Dialects: one file, one API. Each reads its requests into an Exchange and writes its answers from one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nearfield.errors import NearfieldError
from nearfield.server.exchange import Exchange, Models
from nearfield.shelf import Shelf

SHELF = Shelf(
    "dialect",
    {"openai": "nearfield.server.dialects.openai:OpenAi"},
    group="nearfield.dialects",
)


class Dialect(Protocol):
    """An API: its paths and shapes. It knows neither the engine nor HTTP beyond them."""

    name: str
    #: Paths that take a JSON body and give vectors.
    encode_paths: tuple[str, ...]
    #: Path that lists the models; below it each model has its own.
    models_path: str

    def read(self, body: Mapping[str, Any]) -> Exchange:
        """Turn a decoded body into an Exchange; InputError says what is wrong with it."""
        ...

    def write(self, exchange: Exchange) -> Any:
        """Turn an answered Exchange into the reply's body (numpy arrays allowed)."""
        ...

    def refuse(self, error: NearfieldError) -> Any:
        """Turn an error into the reply's body."""
        ...

    def describe(self, models: Models, name: str | None) -> Any:
        """List the served models, or describe one."""
        ...

    def openapi(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return this API's OpenAPI paths and component schemas."""
        ...
