"""Webhooks at the end of batches: signed, to allowed hosts alone, and delivered although receivers fail."""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError, SettingsError
from nearfield.fileio import url_safety
from nearfield.server.batches.webhooks import webhook_sender, webhook_store
from nearfield.server.batches.webhooks.callback_hosts import CallbackHosts
from nearfield.server.batches.webhooks.signature import parse_secret
from tests.support.paths import ROOT
from tests.support.serving import serving
from tests.support.webhook_receiver import receiving

pytestmark = pytest.mark.network

SECRET, OLD_SECRET = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SETTINGS: dict[str, Any] = {"webhook_hosts": ["127.0.0.1"], "webhook_secrets": [SECRET]}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "tiny", "input": "a blue cat"}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "_FIRST_WAIT", 0.05)
    monkeypatch.setattr(webhook_sender, "_WAIT_FACTOR", 1.0)


def _create(url: str, callback: str, line: Any = LINE) -> Any:
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        file = client.files.create(file=("a.jsonl", json.dumps(line).encode()), purpose="batch")
        metadata = {"callback_url": callback, "team": "a"}
        return client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata=metadata
        )


def _verify(headers: dict[str, str], body: bytes, secret: str = SECRET) -> Any:
    """Verify a message with OpenAI's own client."""
    with openai.OpenAI(api_key="none", webhook_secret=secret) as client:
        return client.webhooks.unwrap(body, headers)


def _run_guide(headers: dict[str, str], body: bytes) -> None:
    """Verify a message, and a changed one, with the code of the guide."""
    page = (ROOT / "docs/guides/deploy.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.split("<!-- webhook -->\n```python\n")[1].split("```")[0], names)
    names["verify"](SECRET, headers, body)
    for changed in (headers | {"webhook-id": "evt_other"}, headers | {"webhook-timestamp": "1"}):
        with pytest.raises(ValueError):
            names["verify"](SECRET, changed, body)


def _metric(url: str, outcome: str) -> float:
    lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if f'outcome="{outcome}"' in line]
    return sum(float(line.split()[-1]) for line in lines if line.startswith("nearfield_webhooks_total"))


def _until(url: str, outcome: str, count: float) -> None:
    until = time.monotonic() + 60
    while _metric(url, outcome) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_end_of_a_batch_is_signed_and_sent_until_a_receiver_takes_it(tiny: Encoder) -> None:
    secrets = [SECRET, OLD_SECRET]
    with receiving([500, 429, 204]) as receiver, serving([tiny], **{**SETTINGS, "webhook_secrets": secrets}) as url:
        batch = _create(url, receiver.url)
        messages = receiver.wait_for(3)
        _until(url, "delivered", 1)
        assert _metric(url, "retried") == 2
    assert len(messages) == 3
    assert len({headers["webhook-id"] for _, headers, _ in messages}) == 1
    for path, headers, body in messages:
        assert path == "/hook?team=a"
        for secret in secrets:
            event = _verify(headers, body, secret)
            assert (event.type, event.data.id, event.id) == ("batch.completed", batch.id, headers["webhook-id"])
        assert json.loads(body).keys() == {"id", "object", "created_at", "type", "data"}
        with pytest.raises(openai.InvalidWebhookSignatureError):
            _verify(headers, body + b" ")
        _run_guide(headers, body)


def test_a_batch_that_fails_sends_that(tiny: Encoder) -> None:
    with receiving([200]) as receiver, serving([tiny], **SETTINGS) as url:
        _create(url, receiver.url, {"custom_id": "a"})
        ((_, headers, body),) = receiver.wait_for(1)
    assert _verify(headers, body).type == "batch.failed"


def test_a_slow_receiver_is_tried_again(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "_ATTEMPT_SECONDS", 0.5)
    with receiving([200], seconds=3) as receiver, serving([tiny], **SETTINGS) as url:
        _create(url, receiver.url)
        assert len(receiver.wait_for(2)) >= 2
        _until(url, "delivered", 1)
        assert _metric(url, "retried") >= 1


def test_redirects_are_not_followed_and_attempts_are_limited(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "_MAX_ATTEMPTS", 3)
    with (
        receiving([200]) as other,
        receiving([307], location=other.url) as receiver,
        serving([tiny], **SETTINGS) as url,
    ):
        _create(url, receiver.url)
        _until(url, "abandoned", 1)
        assert len(receiver.received) == 3
        assert other.received == []
        assert _metric(url, "delivered") == 0


def test_a_receiver_that_is_gone_gets_nothing_more(tiny: Encoder) -> None:
    with receiving([410]) as receiver, serving([tiny], **SETTINGS) as url:
        _create(url, receiver.url)
        _until(url, "abandoned", 1)
        assert len(receiver.received) == 1


def test_a_restart_goes_on(tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving([503, 200]) as receiver:
        monkeypatch.setattr(webhook_sender, "_FIRST_WAIT", 60.0)
        with serving([tiny], data_dir=tmp_path, **SETTINGS) as url:
            batch = _create(url, receiver.url)
            _until(url, "retried", 1)
        assert len(receiver.received) == 1
        with sqlite3.connect(tmp_path / "server.db") as database:
            assert database.execute("SELECT attempts FROM webhooks").fetchall() == [(1,)]
            database.execute("UPDATE webhooks SET next_at = 0")
        database.close()
        with serving([tiny], data_dir=tmp_path, **SETTINGS) as url:
            httpx.get(f"{url}/v1/batches/{batch.id}")
            # The tests' server has no lifespan: a new batch makes it look for work.
            _create(url, receiver.url)
            messages = receiver.wait_for(3)
            _until(url, "delivered", 2)
        events = [json.loads(body)["data"]["id"] for _, _, body in messages]
        assert events.count(batch.id) == 2
        # With webhooks off nothing is sent, and nothing hinders the batches.
        with serving([tiny], data_dir=tmp_path) as url:
            assert httpx.get(f"{url}/v1/batches/{batch.id}").json()["status"] == "completed"


def test_a_callback_url_is_checked_when_the_batch_is_created(tiny: Encoder) -> None:
    body = {"input_file_id": "file-x", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    with serving([tiny]) as url:
        reply = httpx.post(f"{url}/v1/batches", json={**body, "metadata": {"callback_url": "https://a.example"}})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "metadata.callback_url")
        assert "sends no webhooks" in reply.json()["error"]["message"]
        assert httpx.post(f"{url}/v1/batches", json={**body, "metadata": {"team": "a"}}).status_code == 404


def test_an_owner_has_a_limited_number_of_waiting_webhooks(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "_FIRST_WAIT", 60.0)
    monkeypatch.setattr(webhook_store, "MAX_WAITING", 1)
    with receiving([500]) as receiver, serving([tiny], **SETTINGS) as url:
        _create(url, receiver.url)
        _until(url, "retried", 1)
        with pytest.raises(openai.RateLimitError) as refused:
            _create(url, receiver.url)
        assert refused.value.code == "too_many_batches"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://other.example/", "other hosts only"),
        ("https://hooks.example.com.evil.example/", "other hosts only"),
        ("https://evil.example#hooks.example.com", "other hosts only"),
        ("https://evil.example\\@hooks.example.com/", "user name"),
        ("https://hooks.example.com@evil.example/", "user name"),
        ("ftp://hooks.example.com/", "https://"),
        ("hooks.example.com/", "https://"),
        ("https://", "https://"),
        ("https://[", "other hosts only"),
        ("https://a\x00b/", "not a valid URL"),
        ("http://127.0.0.1:8080/", "other hosts only"),
        ("http://2130706433/", "other hosts only"),
        ("http://[::ffff:10.0.0.1]/", "other hosts only"),
        ("http://169.254.169.254/latest", "other hosts only"),
    ],
)
def test_other_urls_are_refused(url: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        CallbackHosts(["hooks.example.com", "10.1.0.0/16"]).check(url)


def test_hosts_and_addresses_of_the_list_are_allowed() -> None:
    hosts = CallbackHosts(["Hooks.Example.com", "10.1.0.0/16", "::1"])
    for url in ("https://HOOKS.example.com:8443/a?b=c", "http://10.1.2.3/", "http://[::1]:9/"):
        assert str(hosts.check(url)).lower() == url.lower()


@pytest.mark.parametrize(
    ("addresses", "sent"), [(["127.0.0.1"], False), (["93.184.216.34", "10.0.0.1"], False), (["127.0.0.9"], True)]
)
def test_a_name_must_lead_to_public_or_listed_addresses(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, addresses: list[str], sent: bool
) -> None:
    asked: list[str] = []

    async def post(_: Any, client: Any, webhook: Any, target: Any, address: str) -> int:
        asked.append(address)
        return 200

    monkeypatch.setattr(url_safety, "resolve", lambda host, port: addresses)
    monkeypatch.setattr(webhook_sender.WebhookSender, "_post", post)
    monkeypatch.setattr(webhook_sender, "_MAX_ATTEMPTS", 1)
    hosts = ["hooks.example.com", "127.0.0.9"]
    with serving([tiny], **{**SETTINGS, "webhook_hosts": hosts}) as url:
        _create(url, "https://hooks.example.com/")
        _until(url, "delivered" if sent else "abandoned", 1)
    assert asked == (addresses if sent else [])


@pytest.mark.parametrize("secret", ["", "whsec_", SECRET[6:], "whsec_AAAA", "whsec_" + "A" * 200, "whsec_" + "!" * 40])
def test_a_wrong_secret_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(SettingsError, match="webhook_secrets"):
        parse_secret(secret)


def test_hosts_need_a_secret_and_must_be_hosts(tiny: Encoder) -> None:
    with pytest.raises(SettingsError, match="webhook_secrets"), serving([tiny], webhook_hosts=["a.example"]):
        pass
    for host in ("https://a.example", "a.example:8080", "a.example/x", ""):
        with pytest.raises(SettingsError, match="webhook_hosts"):
            CallbackHosts([host])


def test_proxies_of_the_environment_are_not_used(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "_FIRST_WAIT", 0.5)
    with receiving([500, 200]) as receiver, serving([tiny], **SETTINGS) as url:
        _create(url, receiver.url)
        receiver.wait_for(1)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        receiver.wait_for(2)
