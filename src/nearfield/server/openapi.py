"""OpenAPI: the document of all dialects together, and a page that shows it without fetching anything from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

from nearfield import __version__
from nearfield.server.dialects import Dialect

_OWN = {
    "/health": ("Whether the process lives", "200", "It lives"),
    "/ready": ("Whether work is taken; 503 with reasons when not", "200", "It is"),
    "/metrics": ("Prometheus metrics", "200", "Text"),
    "/openapi.json": ("This document", "200", "JSON"),
    "/docs": ("This page", "200", "HTML"),
}


def document(dialects: Iterable[Dialect]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server that speaks these dialects."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for dialect in dialects:
        its_paths, its_schemas = dialect.openapi()
        paths |= its_paths
        schemas |= its_schemas
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
