"""OpenAPI: the document of all dialects together, and a page that shows it without fetching anything from elsewhere."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from nearfield import __version__
from nearfield.server.dialects import JSON, Dialect, Route

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

_OWN = {
    "/health": ("Whether the process lives", "200", "It lives"),
    "/ready": ("Whether work is taken; 503 with reasons when not", "200", "It is"),
    "/metrics": ("Prometheus metrics", "200", "Text"),
    "/openapi.json": ("This document", "200", "JSON"),
    "/docs": ("This page", "200", "HTML"),
}


_REFUSALS = {
    400: "Something in the request is wrong; the message says what",
    401: "No API key, or a wrong one",
    403: "The key may not do this",
    404: "The model or collection is not served here",
    406: "Accept names no form that replies have here",
    408: "The body did not arrive in time",
    409: "The collection is being written, or its vectors are of another space",
    413: "Larger than the limits allow, or than could be done in time",
    415: "The body is not JSON, or encoded in a way that is not read",
    422: "The request cannot be served; the message says why",
    424: "The model cannot do this",
    429: "Too busy; Retry-After says when to come back",
    502: "The chat endpoint gave no answer",
    503: "The server is shutting down, or the model cannot be had",
    507: "The server's disk is full",
}


def document(dialects: Iterable[Dialect]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server that speaks these dialects."""
    routes = [(dialect, route) for dialect in dialects for route in dialect.routes]
    types = list(
        dict.fromkeys(
            kind
            for each, route in routes
            for kind in (route.request_type, route.response_type, each.error_type)
            if kind
        )
    )
    found, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(types, found, strict=True))
    paths: dict[str, Any] = {}
    for dialect, route in routes:
        calls = paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})
        told = _call(dialect, route, by_type)
        method = route.method.lower()
        calls[method] = _joined(calls[method], told) if method in calls else told
    for path, (summary, status, text) in _OWN.items():
        reply = {"summary": summary, "tags": ["server"], "responses": {status: {"description": text}}}
        paths[path] = {"get": reply}
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


def _call(dialect: Dialect, route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": route.summary, "tags": [dialect.name]}
    names = _PARAMETER.findall(route.path)
    if names:
        kind = {"type": "string", "minLength": 1, "pattern": r"^[^\n]+$"}  # routing knows no lines in a path
        told["parameters"] = [{"name": name, "in": "path", "required": True, "schema": kind} for name in names]
    if route.request_type is not None:
        body: dict[str, Any] = {"schema": schemas[route.request_type]}
        if route.example is not None:
            body["example"] = route.example
        media = ("multipart/form-data",) if route.upload else route.request_media
        told["requestBody"] = {"required": True, "content": dict.fromkeys(media, body)}
    done: dict[str, Any] = {"description": "The answer"}
    if route.response_type is not None:
        schema = {"schema": schemas[route.response_type]}
        done["content"] = {kind: schema if kind == JSON else {} for kind in route.response_media}
    refused = {"application/json": {"schema": schemas[dialect.error_type]}}
    refusals = {str(status): {"description": text, "content": refused} for status, text in _REFUSALS.items()}
    return {**told, "responses": {"200": done, **({} if route.public else refusals)}}


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Describe a path that several APIs claim: any of their bodies is taken, and each gets its own answer."""
    joined = {**one, "tags": [*one["tags"], *other["tags"]], "summary": f"{one['summary']} ({', '.join(one['tags'])})"}
    for name in {"requestBody", "responses"} & {*one, *other}:
        joined[name] = {**one.get(name, {})}
    for kind, body in ((kind, body) for kind, body in other.get("requestBody", {}).get("content", {}).items()):
        mine = one.get("requestBody", {}).get("content", {}).get(kind)
        merged = body if mine is None else {**mine, "schema": _any(mine["schema"], body["schema"])}
        joined["requestBody"]["content"] = {**joined["requestBody"].get("content", {}), kind: merged}
    for status, theirs in other["responses"].items():
        ours = one["responses"].get(status, theirs)
        schemas = [each["content"]["application/json"]["schema"] for each in (ours, theirs) if "content" in each]
        told = {"content": {"application/json": {"schema": _any(*schemas)}}} if len(schemas) == 2 else {}
        joined["responses"][status] = {"description": ours["description"], **told}
    return joined


def _any(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    known = one.get("anyOf") or [one]
    return one if other in known else {"anyOf": [*known, other]}


def page(content: dict[str, Any]) -> str:
    """Render the document as one page of HTML, with calls to try."""
    rows = "".join(
        f"<h3><code>{method.upper()} {html.escape(path)}</code></h3>"
        f"<p>{html.escape(call['summary'])}</p>{_example(path, call)}"
        for path, methods in content["paths"].items()
        for method, call in methods.items()
    )
    schemas = "".join(
        f"<h3>{html.escape(name)}</h3><pre>{html.escape(json.dumps(schema, indent=2))}</pre>"
        for name, schema in content["components"]["schemas"].items()
    )
    return _PAGE.format(version=__version__, rows=rows, schemas=schemas, python=html.escape(_PYTHON))


def _example(path: str, call: dict[str, Any]) -> str:
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
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
<p>The same in machine-readable form: <a href="/openapi.json">/openapi.json</a></p>
<h2>From Python</h2><pre>{python}</pre>
<h2>Calls</h2>{rows}
<h2>Bodies</h2>{schemas}
</html>"""
