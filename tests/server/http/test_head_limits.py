"""What is parsed of a request's target and headers is bounded, before it is parsed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.server.app import create_app
from nearfield.server.files.upload import _MultipartReader
from nearfield.server.http.head_limits import _check_headers

KEY = "secret-of-the-test-0123456789"


@pytest.fixture
def client(tiny: Encoder) -> TestClient:
    """Return a client of a server with a key, which it does not send."""
    return TestClient(create_app(settings.load(api_keys=[KEY], trusted_proxies=["testclient"]), [tiny]))


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v1/models?" + "a&" * 3000, 414, "uri_too_long"),
        ("/v1/models?" + "a" * 5000, 414, "uri_too_long"),
        ("/v1/models?" + "a=1&" * 64, 400, "too_many_query_fields"),
        ("/v1/models/" + "a" * 5000, 414, "uri_too_long"),
        ("/health?" + "a&" * 100, 400, "too_many_query_fields"),
        ("/v1/models?" + "&".join(["a=1"] * 64), 401, "invalid_api_key"),
        ("/v1/models/" + "a" * 4000, 401, "invalid_api_key"),
    ],
)
def test_long_targets_are_refused_without_a_key(client: TestClient, target: str, status: int, code: str) -> None:
    reply = client.get(target)
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("name", ["accept", "content-type", "content-encoding", "host", "x-forwarded-for"])
def test_long_headers_that_would_be_parsed_are_refused(client: TestClient, name: str) -> None:
    reply = client.post("/encode", headers={name: "a," * 600})
    assert reply.status_code == 431
    assert name in reply.json()["error"]["message"]
    assert client.post("/encode", headers={name: "a" * 500}).status_code == 401


def test_many_headers_of_one_name_are_refused() -> None:
    several = [(b"x-forwarded-for", b"1.2.3.4," * 100)] * 6
    refusal = _check_headers({"headers": several})
    assert refusal is not None
    assert refusal.status == 431
    assert _check_headers({"headers": several[:5]}) is None


def test_other_headers_may_be_long(client: TestClient) -> None:
    long = {"cookie": "a=b; " * 2000, "traceparent": "a" * 2000, "authorization": f"Bearer {KEY}"}
    assert client.get("/v1/models", headers=long).status_code == 200


def test_the_query_is_read_of_clients_with_a_key_only(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    authorized = {"authorization": f"Bearer {KEY}"}
    assert client.get("/v1/models?endpoint=rerank", headers=authorized).json()["data"] == []
    monkeypatch.setattr("starlette.datastructures.parse_qsl", fail)
    assert client.get("/v1/models?endpoint=rerank").status_code == 401
    assert client.get("/v1/models?endpoint=rerank", headers=authorized).status_code == 500


def test_the_address_of_a_trusted_proxy_is_replaced_by_that_of_its_client(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = create_app(settings.load(api_keys=[KEY], trusted_proxies=["testclient"]), [tiny])
    peers: list[str | None] = []
    check: Callable[..., Any] = site.state.server.authenticate

    def authenticate(*args: Any) -> Any:
        peers.append(args[1])
        return check(*args)

    monkeypatch.setattr(site.state.server, "authenticate", authenticate)
    TestClient(site).get("/v1/models", headers={"x-forwarded-for": "9.9.9.9, 1.2.3.4"})
    assert peers == ["1.2.3.4"]


def test_the_path_of_a_log_line_is_cut(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nearfield.access"):
        client.get("/" + "a" * 60_000)
    lines = [record.getMessage() for record in caplog.records if record.name == "nearfield.access"]
    assert [len(line) < 1100 for line in lines if "/aaa" in line] == [True]


def test_a_long_content_disposition_of_a_form_is_refused() -> None:
    reader = _MultipartReader(b"x", lambda _: lambda _: None, 1000, "file", max_files=1)
    reader.feed(b'--x\r\nContent-Disposition: form-data; name="a"' + b";" * 1000 + b"\r\n\r\n1\r\n")
    with pytest.raises(InputError, match="Content-Disposition"):
        reader.feed(b'--x\r\nContent-Disposition: form-data; name="file"' + b";" * 3000 + b"\r\n\r\n1\r\n--x--\r\n")
