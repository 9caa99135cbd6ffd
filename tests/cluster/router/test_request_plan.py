"""What paths mean to the router: every route of every API has a plan, and only what computes may be repeated."""

from __future__ import annotations

import time
import zlib

import pytest
from starlette.datastructures import Headers

from nearfield.cluster.router.request_plan import RequestPlanner, estimated_tokens, model_of
from nearfield.server.dialects import REGISTRY

DIALECTS = [REGISTRY.load(name)() for name in REGISTRY.order()]
PLANNER = RequestPlanner(DIALECTS)

#: In msgpack, of more bytes than are decoded to find the name.
_LONG_TEXT = b"\xdb" + (9_000_000).to_bytes(4, "big") + b"y" * 9_000_000


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_changes_something_is_never_repeated(dialect: object) -> None:
    for route in dialect.routes:  # type: ignore[attr-defined]
        path = route.path.replace("{model:path}", "org/x").replace("{name}", "n")
        plan, _ = PLANNER.find(route.method, path)
        assert plan.template is not None, route.path
        if route.scope == "manage" or route.upload or dialect.name in ("collections", "openai-batches"):  # type: ignore[attr-defined]
            assert plan.kind in ("home", "refused"), route.path
        elif route.method == "DELETE":
            assert plan.kind not in ("repeatable", "merged"), route.path


@pytest.mark.parametrize(
    ("method", "path", "kind", "model"),
    [
        ("POST", "/v1/embeddings", "repeatable", None),
        ("POST", "/v1/embeddings/", "repeatable", None),
        ("POST", "/rerank", "repeatable", None),
        ("POST", "/tokenize", "repeatable", None),
        ("POST", "/model/amazon.titan-embed-text-v2:0/invoke", "repeatable", "amazon.titan-embed-text-v2:0"),
        ("POST", "/v1/encode/org/x", "repeatable", "org/x"),
        ("GET", "/v1/models", "merged", None),
        ("GET", "/v1/models/org/x", "repeatable", "org/x"),
        ("POST", "/api/pull", "once", None),
        ("POST", "/models/unload", "refused", None),
        ("POST", "/v1/files", "home", None),
        ("POST", "/v1/batches/b/cancel", "home", None),
        ("POST", "/collections/c/ask", "home", None),
        ("GET", "/anything", "repeatable", None),
        ("POST", "/anything", "once", None),
    ],
)
def test_plans(method: str, path: str, kind: str, model: str | None) -> None:
    plan, parameters = PLANNER.find(method, path)
    assert (plan.kind, parameters.get("model")) == (kind, model)


@pytest.mark.parametrize(
    ("body", "media", "model"),
    [
        (b'{"model": "a/b"}', "application/json", "a/b"),
        (b'{"model": "a/b"}', "text/plain", "a/b"),
        (b'{"model": 5}', "application/json", None),
        (b'{"model": "' + b"a" * 600 + b'"}', "application/json", None),
        (b"[" * 100_000, "application/json", None),
        (b"\xff\x00", "application/json", None),
        (b'{"x": [{"model": "no"}, "' + b"y" * 70_000 + b'"], "model": "a\\u00e9"}', "application/json", "aé"),
        (b'{"x": "' + b"y" * 9_000_000 + b'", "model": "a\\u00e9"}', "application/json", "aé"),
        (b'{"x": "' + b"y" * 9_000_000 + b'", "model": "a\\q"}', "application/json", None),
        (b'{"x": "' + b"y" * 70_000 + b'", "model": "a\\q"}', "application/json", None),
        (b"\x81\xa5model\xa3a/b", "application/msgpack", "a/b"),
        (b"\x82\xa1x" + _LONG_TEXT + b"\xa5model\xd9\x03a/b", "application/msgpack", "a/b"),
        (b"\x82\xa1x" + _LONG_TEXT + b"\xa5model\xda\x00\x03a/b", "application/msgpack", "a/b"),
        (
            b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na/b\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "a/b",
        ),
    ],
)
def test_names_of_models_in_bodies(body: bytes, media: str, model: str | None) -> None:
    assert model_of({}, Headers({"content-type": media}), body) == model


@pytest.mark.parametrize(
    "piece",
    [
        b'"model" ',
        b'"model":"',
        b'"model":"' + b"\\a" * 600,
        b'"model"' + b" " * 5000,
        b'name="model"\r\n' + b"a\r\n" * 20,
    ],
)
@pytest.mark.parametrize("media", ["application/json", "multipart/form-data; boundary=x"])
def test_a_search_for_the_name_is_short(piece: bytes, media: str) -> None:
    data, started = piece * (2**23 // len(piece)), time.thread_time()
    assert model_of({}, Headers({"content-type": media}), data) is None
    assert time.thread_time() - started < 0.5  # without its bounds it takes seconds


@pytest.mark.parametrize("size", [100_000, 20_000_000])
def test_the_name_in_a_compressed_body(size: int) -> None:
    data = zlib.compressobj(1, wbits=31)
    body = data.compress(b'{"model": "a/b", "x": "' + b"y" * size + b'"}') + data.flush()
    assert model_of({}, Headers({"content-encoding": "gzip"}), body) == "a/b"


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compressobj(9, wbits=31)
    data = bomb.compress(b'{"x": "' + b" " * 20_000_000) + bomb.flush()
    assert model_of({}, Headers({"content-encoding": "gzip"}), data) is None
    assert model_of({}, Headers({"content-encoding": "gzip"}), b"no gzip") is None


def test_tokens_are_estimated_within_bounds() -> None:
    assert [estimated_tokens(size) for size in (0, 400, 10**9)] == [1, 101, 65_536]
