"""Generator of ``http-api.md``: each route of every dialect, with its request and response fields, from OpenAPI."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nearfield.server.dialects import REGISTRY
from nearfield.server.http import openapi
from tools.reference.markdown import join_page, render_table, to_markdown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = "http-api.md"
_INTRO = """Every route of the server, by API. A running server shows the same at `/docs`, and as an OpenAPI document at
`/openapi.json`.

Where several APIs share a path, the server recognises the API by the fields and headers of the request. The key of a
request is sent as `Authorization: Bearer <key>`. Replies to failed requests are in [errors](errors.md). In the tables,
`a.b` is a field `b` of the object `a`, and `a[].b` a field of each object in the list `a`. Fields in bold are required.

This page is generated from the code by `python -m tools.reference`."""
_TITLES = {
    "openai": "OpenAI: embeddings and models",
    "openai-batches": "OpenAI: files and batches",
    "tei": "Text Embeddings Inference (TEI)",
    "ollama": "Ollama",
    "cohere": "Cohere",
    "jina": "Jina",
    "voyage": "Voyage",
    "qdrant": "Qdrant's inference hook",
    "weaviate": "Weaviate's multi2vec-clip",
    "sie": "SIE",
    "gemini": "Google Gemini",
    "vertex": "Google Vertex AI",
    "bedrock": "Amazon Titan and Nova on Bedrock",
    "native": "Nearfield's own API",
    "collections": "Collections",
    "jobs": "Jobs",
    "manage": "Models in memory, keys, live figures and reports",
    "server": "The server itself",
}
_DEPTH = 3
_HEAD = ("field", "type", "default", "meaning")
#: The columns of a table none of whose fields has a description.
_BARE = 3


_FIELDS = tomllib.loads(Path(__file__).with_name("fields.toml").read_text(encoding="utf-8"))


def render() -> str:
    """Return the whole page."""
    parts: list[str] = []
    for name in sorted(REGISTRY.names(), key=list(_TITLES).index):
        content = openapi.document([REGISTRY.load(name)()])
        parts += [f"## {_TITLES[name]}", *_render_routes(content, name)]
    parts += [f"## {_TITLES['server']}", *_render_routes(openapi.document([]), "server")]
    return join_page("HTTP API", _INTRO, *parts)


def _render_routes(content: Mapping[str, Any], tag: str) -> Iterator[str]:
    """Yield the parts of each route with a tag."""
    schemas = content["components"]["schemas"]
    seen: dict[str, str] = {}
    for path, methods in content["paths"].items():
        for method, call in methods.items():
            if tag not in call["tags"]:
                continue
            route = f"{method.upper()} {path}"
            fields = [
                *_render_body("Request", call.get("requestBody", {}), schemas, _select_meanings(tag, route)),
                *_render_body(
                    "Response", call["responses"].get("200", {}), schemas, _select_meanings(tag, route, responses=True)
                ),
            ]
            first = seen.setdefault("\n".join(fields), route) if fields else route
            yield f"### {route}"
            yield f"{call['summary'].rstrip('.')}."
            yield from [f"The fields are those of `{first}`."] if first != route else fields


def _select_meanings(tag: str, route: str, *, responses: bool = False) -> Mapping[str, str]:
    """Return the meanings of the fields of a route's request, or of its response."""
    tables = ["common", tag, route, *(("responses", f"{tag}-responses") if responses else ())]
    return {name: meaning for table in tables for name, meaning in _FIELDS.get(table, {}).items()}


def _render_body(
    title: str, body: Mapping[str, Any], schemas: Mapping[str, Any], meanings: Mapping[str, str]
) -> Iterator[str]:
    """Yield the media types and the table of fields of a request or response."""
    media = body.get("content", {})
    schema = next((value["schema"] for value in media.values() if "schema" in value), None)
    if schema is None:
        return
    kinds = ", ".join(f"`{kind}`" for kind in media)
    rows = list(_field_rows(schema, schemas, meanings))
    yield f"{title} ({kinds})" + (":" if rows else f": {_format_type(schema, schemas)}.")
    if rows:
        columns = len(_HEAD) if any(row[-1] for row in rows) else _BARE
        yield render_table(_HEAD[:columns], (row[:columns] for row in rows))


def _field_rows(
    schema: Any, schemas: Mapping[str, Any], meanings: Mapping[str, str], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each field of an object, and of the objects inside it down to a depth."""
    schema = _resolve(schema, schemas)
    if "properties" not in schema:
        inner, mark = _inner_object(schema, schemas)
        if inner is not None:
            yield from _field_rows(inner, schemas, meanings, prefix + mark, depth)
        return
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        label = f"{prefix}.{name}" if prefix else name
        shown = f"**`{label}`**" if name in required else f"`{label}`"
        meaning = to_markdown(field.get("description") or meanings.get(label) or meanings.get(name, ""))
        yield shown, _format_type(field, schemas), _format_default(field), meaning
        if depth + 1 < _DEPTH:
            inner, mark = _inner_object(field, schemas)
            if inner is not None:
                yield from _field_rows(inner, schemas, meanings, label + mark, depth + 1)


def _inner_object(schema: Any, schemas: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the object that a schema is, holds in a list or offers as an alternative, with the mark of its path."""
    schema = _resolve(schema, schemas)
    if "properties" in schema:
        return schema, ""
    if schema.get("type") == "array" and "items" in schema:
        inner, mark = _inner_object(schema["items"], schemas)
        return inner, f"[]{mark}"
    for option in schema.get("anyOf", ()):
        inner, mark = _inner_object(option, schemas)
        if inner is not None:
            return inner, mark
    return None, ""


def _resolve(schema: Any, schemas: Mapping[str, Any]) -> Any:
    if not isinstance(schema, Mapping):
        return {}  # a bare true or false, as in lists of a fixed length
    reference = schema.get("$ref")
    return schemas[reference.rsplit("/", 1)[-1]] if reference else schema


def _format_type(schema: Any, schemas: Mapping[str, Any]) -> str:
    """Return a type in words, such as ``string, or list of integer``."""
    schema = _resolve(schema, schemas)
    if "anyOf" in schema:
        names = dict.fromkeys(_format_type(option, schemas) for option in schema["anyOf"])
        return ", or ".join(names)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        kinds = dict.fromkeys(_format_type(item, schemas) for item in schema.get("prefixItems", ()))
        if schema.get("items"):
            item = _format_type(schema["items"], schemas)
            kinds = {f"({item})" if ", or " in item else item: None}
        return f"list of {' and '.join(kinds)}" if kinds else "list"
    return str(schema.get("type", "anything"))


def _format_default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "" if value in (None, "", [], {}) else f"`{value}`"
