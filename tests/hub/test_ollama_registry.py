"""Models from a registry of Ollama's protocol: fetched once, continued, checked; nothing is without the variable."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nearfield import hub
from nearfield.errors import ModelNotFound, NearfieldError, SourceUnavailable
from nearfield.hub.ollama_store import pulled_root
from nearfield.testing import write_tiny_model
from tests.support import gguf_files

pytest.importorskip("gguf")
pytestmark = pytest.mark.network


class Registry(ThreadingHTTPServer):
    """A registry with one model, ``tiny``. ``limit`` ends answers with weights after so many bytes."""

    weights = b""
    digest = ""
    limit: int | None = None
    #: The Range of each request for weights.
    ranges: list[str | None]


class Handler(BaseHTTPRequestHandler):
    """Answers as registry.ollama.ai does: weights by way of a redirect."""

    server: Registry

    def do_GET(self) -> None:
        weights, digest = self.server.weights, self.server.digest
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": len(weights)}
        if self.path == "/v2/library/tiny/manifests/latest":
            self._reply(200, json.dumps({"schemaVersion": 2, "layers": [layer]}).encode())
        elif self.path == f"/v2/library/tiny/blobs/{digest}":
            self._reply(307, b"", Location="/storage")
        elif self.path == "/storage":
            self._send_weights(weights)
        else:
            self._reply(404, b"{}")

    def _send_weights(self, weights: bytes) -> None:
        stated = self.headers.get("Range")
        self.server.ranges.append(stated)
        start = int(stated.removeprefix("bytes=").removesuffix("-")) if stated else 0
        place = {"Content-Range": f"bytes {start}-{len(weights) - 1}/{len(weights)}"} if stated else {}
        self._reply(206 if stated else 200, weights[start:][: self.server.limit], **place)

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    file = gguf_files.convert(write_tiny_model(tmp_path / "tiny"), "bert", "F32")
    with Registry(("127.0.0.1", 0), Handler) as server:
        server.weights, server.ranges = file.read_bytes(), []
        server.digest = f"sha256:{hashlib.sha256(server.weights).hexdigest()}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))
        monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NEARFIELD_OLLAMA_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
        yield server
        server.shutdown()


def test_a_download_continues_and_is_done_once(registry: Registry) -> None:
    registry.limit = 5_000
    with pytest.raises(SourceUnavailable, match=r"ended after 5000 of .* it continues there"):
        hub.locate("ollama:tiny")
    registry.limit = None
    located = hub.locate("ollama:tiny")
    assert located.file is not None and located.file.read_bytes() == registry.weights
    assert hub.locate("ollama:tiny") == located
    assert registry.ranges == [None, "bytes=5000-"]
    assert [model.name for model in hub.remove("ollama:tiny")] == ["ollama:tiny"]
    assert not list(pulled_root().rglob("sha256-*"))


def test_other_bytes_are_refused_and_nothing_of_them_stays(registry: Registry) -> None:
    registry.weights = registry.weights[:-1] + b"x"
    with pytest.raises(SourceUnavailable, match="is not the file with that SHA-256"):
        hub.locate("ollama:tiny")
    assert not list(pulled_root().rglob("*sha256-*"))


def test_nothing_is_fetched_unless_it_is_requested(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFound, match="The registry has no model 'none'"):
        hub.locate("ollama:none")
    for variable, value in (("NEARFIELD_OFFLINE", "1"), ("NEARFIELD_OLLAMA_REGISTRY", "")):
        with monkeypatch.context() as context:
            context.setenv(variable, value)
            with pytest.raises(ModelNotFound, match="Ollama has no models"):
                hub.locate("ollama:tiny")
    monkeypatch.setenv("NEARFIELD_OLLAMA_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(NearfieldError, match="NEARFIELD_OLLAMA_REGISTRY"):
        hub.locate("ollama:tiny")
    assert registry.ranges == []
