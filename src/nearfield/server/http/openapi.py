"""The OpenAPI document of all dialects together, and a page that shows it without loading anything from other sites."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from nearfield import __version__
from nearfield.server.dialects import Dialect, Route
from nearfield.server.files.form_body import FORM
from nearfield.server.http.request_body import JSON

#: A part of the document.
JsonObject: TypeAlias = dict[str, Any]
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

#: Summary, status and description of the paths that belong to no dialect.
_SERVER_PATHS = {
    "/health": ("Liveness probe", "200", "The process is alive"),
    "/ready": ("Readiness probe; 503 with reasons when requests would not be served", "200", "Ready"),
    "/metrics": ("Prometheus metrics", "200", "Text"),
    "/openapi.json": ("This document", "200", "JSON"),
    "/docs": ("This page", "200", "HTML"),
    "/console": ("Web console", "200", "HTML"),
}


_ERRORS = {
    400: "The request is invalid; the message says why",
    401: "The API key is missing or wrong",
    403: "The API key does not allow this",
    404: "The model or collection is not served here",
    406: "No supported response format matches the Accept header",
    408: "The body did not arrive in time",
    409: "The collection is being written, or its vectors are of another space",
    413: "The request exceeds a limit, or could not be processed in time",
    415: "The body is not JSON, or has an unsupported encoding",
    422: "The request cannot be served; the message says why",
    424: "The model cannot do this",
    429: "Too many requests; Retry-After says when to try again",
    502: "The chat endpoint did not answer",
    503: "The server is shutting down, or the model is unavailable",
    507: "The server's disk is full",
}


def document(dialects: Iterable[Dialect]) -> JsonObject:
    """Return the OpenAPI 3.1 document of a server with these dialects."""
    routes = [(dialect, route) for dialect in dialects for route in dialect.routes]
    types = list(
        dict.fromkeys(
            kind
            for dialect, route in routes
            for kind in (route.request_type, route.form_type, route.response_type, dialect.error_type)
            if kind
        )
    )
    references, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(types, references, strict=True))
    paths: JsonObject = {}
    for dialect, route in routes:
        operations = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", route.path), {})
        operation = _operation(dialect, route, by_type)
        method = route.method.lower()
        operations[method] = _merge(operations[method], operation) if method in operations else operation
    for path, (summary, status, text) in _SERVER_PATHS.items():
        operation = {"summary": summary, "tags": ["server"], "responses": {status: {"description": text}}}
        paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nearfield", "version": __version__, "description": "Embeddings on your own machine."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(dialect: Dialect, route: Route, schemas: dict[Any, JsonObject]) -> JsonObject:
    operation: JsonObject = {"summary": route.summary, "tags": [dialect.name]}
    names = _PATH_PARAMETER.findall(route.path)
    if names:
        schema = {"type": "string", "minLength": 1, "pattern": r"^[^\n]+$"}  # routes do not match line breaks
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]
    if route.request_type is not None:
        body: JsonObject = {"schema": schemas[route.request_type]}
        if route.example is not None:
            body["example"] = route.example
        media = (FORM,) if route.upload else route.request_media
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(media, body)}
        if route.form_type is not None:
            operation["requestBody"]["content"][FORM] = {"schema": schemas[route.form_type]}
    success: JsonObject = {"description": "The answer"}
    if route.response_type is not None:
        content = {"schema": schemas[route.response_type]}
        success["content"] = {media: content if media == JSON else {} for media in route.response_media}
    error = {JSON: {"schema": schemas[dialect.error_type]}}
    errors = {str(status): {"description": text, "content": error} for status, text in _ERRORS.items()}
    return {**operation, "responses": {str(route.status): success, **({} if route.public else errors)}}


def _merge(first: JsonObject, second: JsonObject) -> JsonObject:
    """Merge the operations of two APIs on one path: any of their bodies is accepted, and each has its own response."""
    summary = f"{first['summary']} ({', '.join(first['tags'])})"
    merged = {**first, "tags": [*first["tags"], *second["tags"]], "summary": summary}
    for name in {"requestBody", "responses"} & {*first, *second}:
        merged[name] = {**first.get(name, {})}
    for media, body in second.get("requestBody", {}).get("content", {}).items():
        known = first.get("requestBody", {}).get("content", {}).get(media)
        combined = body if known is None else {**known, "schema": _any_of(known["schema"], body["schema"])}
        merged["requestBody"]["content"] = {**merged["requestBody"].get("content", {}), media: combined}
    for status, response in second["responses"].items():
        known = first["responses"].get(status, response)
        schemas = [part["content"][JSON]["schema"] for part in (known, response) if "content" in part]
        content = {"content": {JSON: {"schema": _any_of(*schemas)}}} if len(schemas) == 2 else {}
        merged["responses"][status] = {"description": known["description"], **content}
    return merged


def _any_of(first: JsonObject, second: JsonObject) -> JsonObject:
    known = first.get("anyOf") or [first]
    return first if second in known else {"anyOf": [*known, second]}


def page(content: JsonObject) -> str:
    """Render the document as one HTML page with examples."""
    rows = "".join(
        f"<h3><code>{method.upper()} {html.escape(path)}</code></h3>"
        f"<p>{html.escape(operation['summary'])}</p>{_example(path, operation)}"
        for path, operations in content["paths"].items()
        for method, operation in operations.items()
    )
    schemas = "".join(
        f"<h3>{html.escape(name)}</h3><pre>{html.escape(json.dumps(schema, indent=2))}</pre>"
        for name, schema in content["components"]["schemas"].items()
    )
    return _PAGE.format(version=__version__, rows=rows, schemas=schemas, python=html.escape(_PYTHON))


def _example(path: str, operation: JsonObject) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("example")
    if body is None:
        return ""
    text = f"curl http://localhost:8080{path} -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body)}'"
    return f"<pre>{html.escape(text)}</pre>"


_PYTHON = """from openai import OpenAI

client = OpenAI(base_url="http://localhost:8080/v1", api_key="none")
reply = client.embeddings.create(model="all-MiniLM-L6-v2", input=["How tall is Mont Blanc?"])
print(reply.data[0].embedding)"""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Nearfield {version}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }}
  pre {{ background: #f4f5f7; padding: .8rem; overflow-x: auto; border-radius: 6px; font-size: 14px }}
  h3 {{ margin: 1.6rem 0 .2rem }} p {{ margin: .2rem 0 }}
</style>
<h1>Nearfield {version}</h1>
<p>Machine-readable: <a href="/openapi.json">/openapi.json</a></p>
<h2>From Python</h2><pre>{python}</pre>
<h2>Paths</h2>{rows}
<h2>Bodies</h2>{schemas}
</html>"""
