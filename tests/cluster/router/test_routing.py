"""Which back-end gets a request: by model, by queued tokens, by state, and what passes through unchanged."""

from __future__ import annotations

import asyncio
import gzip
import json

import httpx
import msgspec
import pytest

from nearfield.errors import SettingsError
from tests.support.fake_backends import FakeServer, SeenRequest, answering, http_reply, routing

pytestmark = pytest.mark.network
EMBED = "/v1/embeddings"


def _body(model: str = "tiny", text: str = "cat") -> dict[str, str]:
    return {"model": model, "input": text}


async def test_a_request_passes_unchanged() -> None:
    server = FakeServer(
        answering(201, b'{"x": 1}', x_nearfield_fingerprint="f", connection="keep-alive, x-hop", x_hop="1")
    )
    headers = {
        "authorization": "Bearer nf-key",
        "x-request-id": "abc-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-forwarded-for": "6.6.6.6",
        "connection": "close, x-secret",
        "x-secret": "1",
        "content-type": "application/json",
    }
    async with routing(server) as router:
        reply = await router.client.post("/v1/embeddings?a=%20b", content=b'{"model":"tiny"}', headers=headers)
    (request,) = server.seen
    assert (request.method, request.target, request.body) == ("POST", "/v1/embeddings?a=%20b", b'{"model":"tiny"}')
    for name in ("authorization", "x-request-id", "traceparent", "content-type"):
        assert request.header(name) == headers[name]
    # The client cannot say who it is, and what is of its connection ends here.
    assert request.header("x-forwarded-for") == "127.0.0.1"
    assert request.header("host") == "router" and request.header("x-secret") is None
    assert reply.status_code == 201 and reply.content == b'{"x": 1}'
    assert reply.headers["x-nearfield-fingerprint"] == "f" and "x-hop" not in reply.headers
    assert reply.headers["x-request-id"] == "abc-1"


async def test_an_error_passes_unchanged_and_is_not_repeated() -> None:
    servers = [FakeServer(answering(429, b'{"error": 1}', retry_after="7")) for _ in range(2)]
    async with routing(*servers) as router:
        reply = await router.client.post(EMBED, json=_body())
    assert (reply.status_code, reply.headers["retry-after"], reply.content) == (429, "7", b'{"error": 1}')
    assert sum(len(server.seen) for server in servers) == 1


async def test_a_request_goes_to_a_server_that_has_its_model() -> None:
    one = FakeServer(models=["org/One"], names={"org/one": "org/One", "one": "org/One", "alias-of-one": "org/One"})
    two = FakeServer(models=["org/Two"], names={"org/two": "org/Two"})
    async with routing(one, two) as router:
        for name in ("org/One", "ONE", "alias-of-one", "one:latest"):
            assert (await router.client.post(EMBED, json=_body(name))).status_code == 200
        assert (len(one.seen), len(two.seen)) == (4, 0)
        large = {"input": ["word " * 20_000], "model": "org/Two"}
        await router.client.post(EMBED, json=large)
        packed = {"content-type": "application/msgpack"}
        await router.client.post("/encode", content=msgspec.msgpack.encode(large), headers=packed)
        await router.client.post("/encode", content=msgspec.msgpack.encode(_body("org/Two")), headers=packed)
        zipped = gzip.compress(json.dumps(large).encode())
        await router.client.post(EMBED, content=zipped, headers={"content-encoding": "gzip"})
        await router.client.post("/v1beta/models/org/Two:embedContent", json={"content": {}})
        await router.client.get("/v1/models/org/Two")
    assert (len(one.seen), len(two.seen)) == (4, 6)


async def test_a_text_cannot_pass_for_the_name_of_a_model() -> None:
    one, two = FakeServer(models=["one"]), FakeServer(models=["two"])
    async with routing(one, two) as router:
        text = '{"model": "one"} \\"model\\": \\"one\\"'
        await router.client.post(EMBED, json={"input": [text, "x" * 100_000, "model"], "model": "two"})
    assert (len(one.seen), len(two.seen)) == (0, 1)


async def test_a_server_with_the_model_in_memory_is_preferred() -> None:
    loads = FakeServer(models=["a"], on_demand=["BAAI/*"])
    has = FakeServer(models=["a", "BAAI/bge-m3"])
    async with routing(loads, has) as router:
        for _ in range(4):
            await router.client.post(EMBED, json=_body("BAAI/bge-m3"))
        assert (len(loads.seen), len(has.seen)) == (0, 4)
        await has.stop()
        assert (await router.client.post(EMBED, json=_body("BAAI/bge-m3"))).status_code == 200
    assert len(loads.seen) == 1


async def test_a_model_whose_server_is_down_is_unavailable_not_unknown() -> None:
    one, two = FakeServer(models=["one"]), FakeServer(models=["two"])
    async with routing(one, two) as router:
        await two.stop()
        reply = await router.client.post(EMBED, json=_body("two"))
        assert reply.status_code == 503 or reply.status_code == 502
        assert not one.seen
        await router.client.post(EMBED, json=_body("three"))  # none has it: any says so in the words of its API
        assert len(one.seen) == 1


async def test_without_a_name_only_servers_with_the_same_models_answer() -> None:
    same, other, like = FakeServer(models=["a"]), FakeServer(models=["b"]), FakeServer(models=["a"])
    async with routing(same, other, like) as router:
        for _ in range(6):
            await router.client.post("/embed", json={"inputs": "cat"})
    assert (len(same.seen), len(other.seen), len(like.seen)) == (3, 0, 3)


async def test_the_server_with_the_fewest_tokens_is_chosen() -> None:
    busy, free = FakeServer(queued_tokens=5000), FakeServer()
    async with routing(busy, free) as router:
        for _ in range(5):
            await router.client.post(EMBED, json=_body())
    assert (len(busy.seen), len(free.seen)) == (0, 5)


async def test_keep_alive_clients_are_spread_request_by_request() -> None:
    servers = [FakeServer() for _ in range(3)]
    async with routing(*servers) as router:
        for _ in range(9):
            await router.client.post(EMBED, json=_body())
    assert [len(server.seen) for server in servers] == [3, 3, 3]
    assert all(server.connections <= 2 for server in servers)  # connections to servers are used again


async def test_a_server_that_is_not_ready_gets_nothing() -> None:
    stopping, up = FakeServer(ready=False), FakeServer()
    async with routing(stopping, up) as router:
        for _ in range(3):
            assert (await router.client.post(EMBED, json=_body())).status_code == 200
        ready = (await router.client.get("/ready")).json()
    assert not stopping.seen
    assert [backend["state"] for backend in ready["backends"]] == ["down", "up"]
    assert ready["backends"][0]["problem"] == "the server is shutting down"


async def test_without_any_server_the_router_says_so_in_the_form_of_the_api() -> None:
    server = FakeServer()
    async with routing(server) as router:
        await server.stop()
        assert (await router.client.post(EMBED, json=_body())).status_code in (502, 503)
        reply = await router.client.post(EMBED, json=_body())
        assert reply.status_code == 503 and reply.headers["retry-after"] == "1"
        assert reply.json()["error"]["code"] == "no_backend"
        ready = await router.client.get("/ready")
        assert ready.status_code == 503 and ready.json()["reasons"] == ["no back-end is up"]
        assert (await router.client.get("/health")).status_code == 200


async def test_lists_of_models_are_merged() -> None:
    def listing(*models: str) -> bytes:
        return json.dumps({"object": "list", "data": [{"id": model} for model in models]}).encode()

    servers = [
        FakeServer(answering(200, listing(*names)), models=names) for names in (("a", "b"), ("b", "c"), ("a", "b"))
    ]
    async with routing(*servers) as router:
        reply = await router.client.get("/v1/models", headers={"authorization": "Bearer k"})
        assert [model["id"] for model in reply.json()["data"]] == ["a", "b", "c"]
        assert sum(len(server.seen) for server in servers) == 2  # equal ones are asked once
        assert {request.header("authorization") for server in servers for request in server.seen} == {"Bearer k"}
        servers[1].behave = answering(401, b"{}")
        reply = await router.client.get("/v1/models")
        assert [model["id"] for model in reply.json()["data"]] == ["a", "b"]


async def test_files_batches_and_collections_have_one_home() -> None:
    one, two = FakeServer(), FakeServer()
    paths = ("/v1/files", "/v1/batches/b1", "/collections", "/collections/handbook/search")
    async with routing(one, two) as router:
        for path in paths:
            reply = await router.client.get(path) if "search" not in path else await router.client.post(path, json={})
            assert reply.status_code == 501 and "--home" in reply.text
    assert not one.seen and not two.seen
    two = await FakeServer().start()
    async with routing(FakeServer(), two, home=two.url) as router:
        for path in paths[:3]:
            assert (await router.client.get(path)).status_code == 200
        form = {"file": ("lines.jsonl", b"x" * 300_000)}
        assert (await router.client.post("/v1/files", files=form, data={"purpose": "batch"})).status_code == 200
        assert len(two.seen) == 4 and b"x" * 300_000 in two.seen[-1].body
        await two.stop()
        assert (await router.client.get("/v1/files")).status_code in (502, 503)


async def test_models_of_one_server_are_not_changed() -> None:
    server = FakeServer()
    async with routing(server) as router:
        for path in ("/models/load", "/models/unload"):
            reply = await router.client.post(path, json={"model": "tiny"})
            assert reply.status_code == 501 and "call that server" in reply.text
    assert not server.seen


async def test_a_client_elsewhere_without_a_key_changes_no_collection() -> None:
    server = FakeServer()
    async with routing(server) as router:
        transport = httpx.ASGITransport(router.app, client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            assert (await client.post("/collections", json={})).status_code == 403
            assert (
                await client.post("/collections", json={}, headers={"authorization": "Bearer k"})
            ).status_code == 200
    assert len(server.seen) == 1


async def test_a_large_reply_is_streamed() -> None:
    text = b"0123456789" * 500_000
    server = FakeServer(answering(200, text))
    async with routing(server) as router:
        reply = await router.client.post(EMBED, json=_body())
    assert reply.content == text


async def test_head_and_options() -> None:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        whole = http_reply(request, 200, b"{}")
        writer.write(whole[:-2] if request.method == "HEAD" else whole)

    server = FakeServer(answer)
    async with routing(server) as router:
        assert (await router.client.head("/v1/models")).headers["content-length"] == "2"
        assert (await router.client.options(EMBED)).status_code == 200
    assert [request.method for request in server.seen] == ["HEAD", "OPTIONS"]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_reply_that_has_no_body_states_no_length(status: int) -> None:
    """A length is allowed with 304, and uvicorn would wait for that many bytes."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_reply(request, status, b"").replace(b"content-length: 0", b"content-length: 3"))

    async with routing(FakeServer(answer)) as router:
        reply = await router.client.get("/v1/models/tiny")
    assert reply.status_code == status and "content-length" not in reply.headers


async def test_metrics_have_no_text_of_a_request() -> None:
    server = FakeServer()
    async with routing(server) as router:
        await router.client.post("/secret-path", json=_body(text="secret text"))
        await router.client.post(EMBED, json=_body())
        page = (await router.client.get("/metrics", headers={"host": "localhost"})).text
    assert "secret" not in page
    assert 'nearfield_router_requests_total{route="/v1/embeddings",status="200"} 1.0' in page
    assert f'nearfield_router_backend_up{{backend="{server.url}"}} 1.0' in page


@pytest.mark.parametrize(
    "url", ["a:8080", "ftp://a", "http://", "http://a/path", "http://u@a", "http://a:x", "http://a b"]
)
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="no address of a server"):
        async with routing(url):
            pass


async def test_without_an_address_there_is_no_router() -> None:
    with pytest.raises(SettingsError, match="--to"):
        async with routing():
            pass
    with pytest.raises(SettingsError, match="none of the back-ends"):
        async with routing("http://127.0.0.1:9", home="http://127.0.0.1:10"):
            pass
