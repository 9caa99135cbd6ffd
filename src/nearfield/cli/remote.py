"""Remote: asking a running server, for the commands that do."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated, Any

import typer

LOCAL = "http://127.0.0.1:8080"
Server = Annotated[str, typer.Option("--url", help="Where the server is.")]


def ask(url: str, path: str, key: str | None, body: dict[str, Any] | None = None, **options: Any) -> Any:
    """Ask a running server and return what its JSON says; options and errors as for ``fetch``."""
    from nearfield.errors import NearfieldError

    data = fetch(url, path, key, body, **options)
    try:
        return json.loads(data)
    except ValueError as error:
        raise NearfieldError(f"{url} is no Nearfield server: its {path} is not JSON.") from error


def fetch(
    url: str,
    path: str,
    key: str | None,
    body: dict[str, Any] | None = None,
    *,
    timeout: float = 600.0,
    fine: Collection[int] = (),
) -> bytes:
    """Ask a running server and return the body of its reply; ``fine`` are statuses that are no refusals.

    Raises:
        InputError: the URL is none.
        NearfieldError: the server refused, in its words, or it does not answer.
    """
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from nearfield.errors import InputError, NearfieldError

    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url must begin with http:// or https://, not {url!r}.")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url.rstrip("/") + path, data, headers), timeout=timeout) as reply:
            return bytes(reply.read())
    except HTTPError as error:
        with error:
            content = error.read()
        if error.code in fine:
            return content
        raise NearfieldError(_told(content, error.code)) from error
    except (InvalidURL, ValueError):
        # From nothing: its message may show the key.
        raise InputError(
            f"No server can be asked at {url!r}, or not with this --key: look for stray characters."
        ) from None
    except (URLError, OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NearfieldError(f"{url} does not answer: {reason}. Is a server running?") from error


def _told(data: bytes, status: int) -> str:
    try:
        return str(json.loads(data)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {status}"
