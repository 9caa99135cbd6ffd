"""The routes of the web console: they serve static files, and nothing else. The page uses the public HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

PATH = "/console"
STATIC = Path(__file__).parent / "static"
#: The package that draws maps, and its folder of files for the browser.
_MAP_FILES = ("nearfield.jobs.map", "static")
#: No inline code, nothing from another host, no frame around it; trusted types refuse to read a text as markup.
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "media-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
#: Browsers check before each use that a file has not changed, as a new version of the server may have others.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": "; ".join(_POLICY),
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
    }
)


class ConsoleFiles(StaticFiles):
    """The files of the console, with its security policy."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """Return a file, or that it has not changed, as ``StaticFiles`` does."""
        response = super().file_response(*arguments, **options)
        response.headers.update(HEADERS)
        return response


def routes() -> tuple[Route, Mount]:
    """Return the routes of the page and of its files. They need no key, as there are no data in them."""
    files = ConsoleFiles(directory=STATIC, packages=[_MAP_FILES])

    async def page(request: Request) -> Response:
        if request.scope["raw_path"].endswith(b"/"):  # the page's addresses are relative, and wrong below a slash
            return RedirectResponse(f"..{PATH}")
        return await files.get_response("index.html", request.scope)

    return Route(PATH, page), Mount(PATH, files)
