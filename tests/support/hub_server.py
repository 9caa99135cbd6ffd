"""A Hub on loopback: enough of its API for huggingface_hub to list and fetch a repository."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "a" * 40


@dataclass
class FakeHub:
    """Repositories by id (a folder each), and what was asked for."""

    repos: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    #: Break the connection after this many bytes of each file larger than it.
    cut: int | None = None
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""
    #: Headers of a hostile Hub, in place of the right ones, for files; ``{url}`` is its own address.
    headers: dict[str, str] = field(default_factory=dict)
    #: Changes the description of a repository, and the list of its files, before they are sent.
    change: Callable[[Any], Any] = lambda document: document
    #: Content to send in place of files, by name, and a redirect of the lists of files.
    contents: dict[str, bytes] = field(default_factory=dict)
    listing_redirect: str | None = None

    def fetched(self) -> set[str]:
        """The names of the files that were asked for by GET."""
        return {
            line.split("/resolve/")[1].split("/", 1)[1] for line in self.asked if "GET" in line and "/resolve/" in line
        }


@contextmanager
def fake_hub(hub: FakeHub) -> Iterator[FakeHub]:  # noqa: C901 - a server in one place
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def _answer(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            hub.tokens.add(self.headers.get("authorization", ""))
            if "/resolve/" not in path and not path.startswith("/api/models/"):
                self._send(404, b"{}", {})
            elif "/tree/" in path:
                self._tree(*path.removeprefix("/api/models/").split("/tree/", 1))
            elif path.startswith("/api/models/"):
                self._api(path.removeprefix("/api/models/").split("/revision/"))
            else:
                repo, _, rest = path.removeprefix("/").partition("/resolve/")
                self._file(repo, *rest.split("/", 1))

        def _api(self, parts: list[str]) -> None:
            home = hub.repos.get(parts[0])
            if home is None:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                return
            if len(parts) > 1 and parts[1] not in ("main", COMMIT):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            names = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
            files = [{"rfilename": name} for name in names]
            told = {"_id": "1", "id": parts[0], "modelId": parts[0], "sha": COMMIT, "siblings": files, "private": False}
            self._send(200, json.dumps(hub.change({**told, "tags": [], "downloads": 0})).encode(), {})

        def _tree(self, repo: str, _: str) -> None:
            home = hub.repos[repo]
            paths = sorted(path for path in home.rglob("*") if path.is_file())
            files = [
                {"type": "file", "path": str(path.relative_to(home)), "size": path.stat().st_size, "oid": "0" * 40}
                for path in paths
            ]
            if hub.listing_redirect is not None:
                self._send(307, b"", {"Location": hub.listing_redirect})
                return
            self._send(200, json.dumps(hub.change(files)).encode(), {})

        def _file(self, repo: str, revision: str, name: str) -> None:
            path = hub.repos.get(repo, Path("none")) / name
            if repo in hub.gated:
                self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask for access"})
                return
            if not path.is_file() or revision not in ("main", COMMIT):
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", **hub.headers})
                return
            data = hub.contents.get(name, path.read_bytes())
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            headers = {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            headers |= {key: value.format(url=hub.url) for key, value in hub.headers.items()}
            if "Location" in headers:
                self._send(302, b"", headers)
                return
            start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._send(206 if start else 200, data[start:], headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cut is not None and len(body) > hub.cut:
                self.wfile.write(body[: hub.cut])
                self.close_connection = True
                return
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
