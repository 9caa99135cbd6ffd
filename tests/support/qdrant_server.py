"""Qdrant server: Qdrant's own engine, as a package brings it, behind a small part of the server's HTTP interface.

Bodies are read by the client's models, which are generated from the server's OpenAPI description. What is stored,
matched
and scored is the engine's; only the way to it is ours.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from tests.support.requirements import missing, quick_folder


@dataclass
class Engine:
    """Collections in a folder, as what answers to an HTTP method and a path after a collection's name."""

    folder: Path
    shards: dict[str, Any] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    def exists(self, name: str, _: None) -> Any:
        """Return whether a collection exists."""
        return {"exists": name in self.shards}

    def create(self, name: str, body: models.CreateCollection) -> bool:
        """Make a collection."""
        from qdrant_edge import EdgeConfig, EdgeShard

        dense = {each: _params(told) for each, told in (body.vectors or {}).items()}
        sparse = {each: _sparse_params(told) for each, told in (body.sparse_vectors or {}).items()}
        config = EdgeConfig(vectors=dense or None, sparse_vectors=sparse or None, wal_enabled=False)
        path = self.folder / f"{name}-{next(self._numbers)}"
        path.mkdir(parents=True)
        self.shards[name] = EdgeShard.create(str(path), config)
        return True

    def drop(self, name: str, _: None) -> bool:
        """Remove a collection."""
        self.shards.pop(name).close()
        return True

    def index(self, name: str, body: models.CreateFieldIndex) -> Any:
        """Make an index of a field."""
        from qdrant_edge import PayloadSchemaType, UpdateOperation

        kind = getattr(PayloadSchemaType, body.field_schema.value.capitalize())
        return self._update(name, UpdateOperation.create_field_index(body.field_name, kind))

    def upsert(self, name: str, body: models.PointsList) -> Any:
        """Write points."""
        from qdrant_edge import Point, UpdateOperation

        points = [
            Point(each.id, _vectors(each.vector), {**each.payload, _TRUTHS: _truths(each)}) for each in body.points
        ]
        return self._update(name, UpdateOperation.upsert_points(points))

    def delete(self, name: str, body: models.FilterSelector) -> Any:
        """Remove points."""
        from qdrant_edge import UpdateOperation

        return self._update(name, UpdateOperation.delete_points_by_filter(_condition(body.filter)))

    def retrieve(self, name: str, body: models.PointRequest) -> Any:
        """Return points by their ids."""
        found = self.shards[name].retrieve(body.ids, body.with_payload, body.with_vector)
        return [_told(each) for each in found]

    def count(self, name: str, body: models.CountRequest) -> Any:
        """Count points."""
        from qdrant_edge import CountRequest

        return {
            "count": self.shards[name].count(CountRequest(bool(body.exact), body.filter and _condition(body.filter)))
        }

    def scroll(self, name: str, body: models.ScrollRequest) -> Any:
        """Return a page of points."""
        from qdrant_edge import ScrollRequest

        where = body.filter and _condition(body.filter)
        request = ScrollRequest(body.offset, body.limit, where, body.with_payload, body.with_vector)
        points, after = self.shards[name].scroll(request)
        return {"points": [_told(each) for each in points], "next_page_offset": after and str(after)}

    def query(self, name: str, body: models.QueryRequest) -> Any:
        """Return the nearest points."""
        from qdrant_edge import Query, QueryRequest

        told = QueryRequest(
            limit=body.limit,
            query=Query.Nearest(_vector(body.query.nearest), body.using),
            with_vector=body.with_vector,
            with_payload=body.with_payload,
            filter=body.filter and _condition(body.filter),
            params=body.params and _search_params(body.params),
        )
        found = self.shards[name].query(told)
        return {"points": [{**_told(each), "score": each.score, "version": each.version} for each in found]}

    def _update(self, name: str, operation: Any) -> Any:
        self.shards[name].update(operation)
        return {"operation_id": 0, "status": "completed"}


#: Where truths lie once more, as strings: the package hands True on to its engine as 1.
_TRUTHS = "truths"
#: Method and what follows a collection's name -> the body's type, and what answers it.
ANSWERS: Mapping[tuple[str, str], tuple[Any, Callable[[Engine, str, Any], Any]]] = {
    ("GET", "exists"): (None, Engine.exists),
    ("PUT", ""): (models.CreateCollection, Engine.create),
    ("DELETE", ""): (None, Engine.drop),
    ("PUT", "index"): (models.CreateFieldIndex, Engine.index),
    ("PUT", "points"): (models.PointsList, Engine.upsert),
    ("POST", "points"): (models.PointRequest, Engine.retrieve),
    ("POST", "points/delete"): (models.FilterSelector, Engine.delete),
    ("POST", "points/count"): (models.CountRequest, Engine.count),
    ("POST", "points/scroll"): (models.ScrollRequest, Engine.scroll),
    ("POST", "points/query"): (models.QueryRequest, Engine.query),
}


@dataclass
class QdrantServer:
    """A server on loopback. ``requests`` holds method, path, query and body of each request that it got."""

    engine: Engine
    version: str = "1.15.0"
    key: str | None = None
    requests: list[tuple[str, str, dict[str, list[str]], Any]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"qdrant://127.0.0.1:{self.port}"

    def bodies(self, method: str, path: str) -> list[Any]:
        """Return what was sent there."""
        return [body for verb, place, _, body in self.requests if verb == method and place.endswith(path)]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return the status and the result for a request."""
        if path == "/collections":
            return 200, {"collections": [{"name": name} for name in self.engine.shards]}
        name, _, rest = path.removeprefix("/collections/").partition("/")
        if name not in self.engine.shards and (method, rest) not in (("GET", "exists"), ("PUT", "")):
            return 404, f"Not found: Collection `{name}` doesn't exist!"
        kind, found = ANSWERS[method, rest]
        try:
            return 200, found(self.engine, name, kind and TypeAdapter(kind).validate_python(body))
        except (ValidationError, ValueError, RuntimeError) as error:
            return 400, str(error)


@contextmanager
def serving(**told: Any) -> Iterator[QdrantServer]:
    """Serve a fresh one."""
    if find_spec("qdrant_edge") is None:
        missing("qdrant_edge is not installed")
    folder = tempfile.mkdtemp(prefix="nearfield-", dir=quick_folder())
    served = QdrantServer(Engine(Path(folder)), **told)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for name in list(served.engine.shards):
            served.engine.drop(name, None)
        shutil.rmtree(folder)


def _handler(served: QdrantServer) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            text = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(text) if text else None
            with lock:
                served.requests.append((self.command, parts.path, parse_qs(parts.query), body))
                if served.key is not None and self.headers.get("api-key") != served.key:
                    self._send(401, {"status": {"error": "Must provide an API key"}})
                elif parts.path == "/":
                    self._send(200, {"title": "qdrant", "version": served.version})
                else:
                    status, result = served.answer(self.command, parts.path, body)
                    good, bad = {"result": result, "status": "ok", "time": 0.0}, {"status": {"error": result}}
                    self._send(status, good if status == 200 else bad)

        def _send(self, status: int, told: Any) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def _params(told: models.VectorParams) -> Any:
    import qdrant_edge as edge

    many = told.multivector_config and edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    hnsw = told.hnsw_config and edge.HnswIndexConfig(told.hnsw_config.m or 0, 100, 10_000)
    return edge.EdgeVectorParams(
        size=told.size,
        distance=getattr(edge.Distance, told.distance.value),
        multivector_config=many,
        datatype=getattr(edge.VectorStorageDatatype, (told.datatype or models.Datatype.FLOAT32).value.capitalize()),
        quantization_config=_quantization(told.quantization_config),
        hnsw_config=hnsw,
    )


def _quantization(told: Any) -> Any:
    import qdrant_edge as edge

    if isinstance(told, models.ScalarQuantization):
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, told.scalar.quantile, told.scalar.always_ram)
    return told and edge.BinaryQuantizationConfig(told.binary.always_ram)


def _sparse_params(told: models.SparseVectorParams) -> Any:
    import qdrant_edge as edge

    kind = told.index and told.index.datatype and told.index.datatype.value.capitalize()
    return edge.EdgeSparseVectorParams(datatype=kind and getattr(edge.VectorStorageDatatype, kind))


def _search_params(told: models.SearchParams) -> Any:
    import qdrant_edge as edge

    asked = told.quantization
    rescored = asked and edge.QuantizationSearchParams(bool(asked.ignore), asked.rescore, asked.oversampling)
    return edge.SearchParams(told.hnsw_ef, bool(told.exact), rescored)


def _vectors(told: Any) -> Any:
    return {name: _vector(each) for name, each in told.items()}


def _vector(told: Any) -> Any:
    from qdrant_edge import SparseVector

    return SparseVector(told.indices, told.values) if isinstance(told, models.SparseVector) else told


def _told(point: Any) -> dict[str, Any]:
    """Return a point as JSON can say it."""
    vectors = point.vector and {name: _named(each) for name, each in point.vector.items()}
    payload = {name: value for name, value in (point.payload or {}).items() if name != _TRUTHS}
    return {"id": str(point.id), "payload": payload, "vector": vectors}


def _truths(point: models.PointStruct) -> dict[str, str]:
    return {name: str(value) for name, value in point.payload["fields"].items() if isinstance(value, bool)}


def _named(vector: Any) -> Any:
    sparse = hasattr(vector, "indices")
    return {"indices": list(vector.indices), "values": list(vector.values)} if sparse else vector


def _condition(told: Any) -> Any:
    import qdrant_edge as edge

    if isinstance(told, models.Filter):
        parts: dict[str, Any] = {}
        for name in ("must", "should", "must_not"):
            each = getattr(told, name)
            parts[name] = each and [_condition(part) for part in (each if isinstance(each, list) else [each])]
        return edge.Filter(**parts)
    if isinstance(told, models.HasIdCondition):
        return edge.HasIdCondition(set(told.has_id))
    if isinstance(told, models.IsEmptyCondition):
        return edge.IsEmptyCondition(told.is_empty.key)
    if told.range is not None:
        bounds = {name: getattr(told.range, name) for name in ("gte", "gt", "lte", "lt")}
        return edge.FieldCondition(told.key, range=edge.RangeFloat(**bounds))
    one = isinstance(told.match, models.MatchValue)
    if one and isinstance(told.match.value, bool):
        return edge.FieldCondition(told.key.replace("fields", _TRUTHS), match=edge.MatchValue(str(told.match.value)))
    match = edge.MatchValue(told.match.value) if one else edge.MatchAny(told.match.any)
    return edge.FieldCondition(told.key, match=match)
