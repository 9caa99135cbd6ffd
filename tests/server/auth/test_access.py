"""API keys, key files, rate limits, and the access of clients without a key."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import Forbidden, RateLimited, SettingsError
from nearfield.server.auth import keys as auth
from nearfield.server.auth.api_key import ANONYMOUS, ApiKey
from nearfield.server.auth.host_guard import HostGuard
from nearfield.server.auth.key_file import create_key
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.models.model_pool import ModelPool
from tests.support.serving import serving

BODY = {"model": "tiny", "input": "cat"}


def _write(file: Path, *tables: str) -> Path:
    file.write_text("\n".join(f"[[keys]]\n{table}" for table in tables), encoding="utf-8")
    return file


def _post(url: str, key: str | None = None, path: str = "/v1/embeddings", **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(url + path, json={**BODY, **body}, headers=headers)


@pytest.mark.network
@pytest.mark.slow
def test_a_key_has_a_name_scopes_and_models(tmp_path: Path, tiny: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    reader, reader_hash = create_key()
    owner, owner_hash = create_key()
    other, other_hash = create_key()
    file = _write(
        tmp_path / "keys.toml",
        f'name = "reader"\nhash = "{reader_hash}"',
        f'name = "owner"\nhash = "{owner_hash}"\nscopes = ["manage"]',
        f'name = "other"\nhash = "{other_hash}"\nmodels = ["BAAI/*"]',
    )
    with serving([tiny], api_key_file=file) as url:
        assert _post(url, reader).status_code == 200
        assert _post(url, reader, "/models/load").status_code == 403
        assert _post(url, owner, "/models/load").json()["state"] == "loaded"
        refused = _post(url, owner)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        assert "'infer'" in refused.json()["detail"]
        assert _post(url, other).status_code == 403
        assert "may not use tiny" in _post(url, other).json()["detail"]
        assert _post(url).status_code == 401
        assert _post(url, "nf-wrong").status_code == 401
        client = openai.OpenAI(base_url=url + "/v1", api_key=other, max_retries=0)
        with client, pytest.raises(openai.PermissionDeniedError):
            client.embeddings.create(model="tiny", input="cat")
        listings = (
            ("/v1/models", "data"),
            ("/models", "data"),
            ("/models", "models"),
            ("/api/tags", "models"),
            ("/api/ps", "models"),
        )
        for path, name in listings:
            for key, count in ((reader, 1), (other, 0)):
                listing = httpx.get(url + path, headers={"authorization": f"Bearer {key}"}).json()
                assert len(listing[name]) == count, (path, listing)
        described: tuple[tuple[str, dict[str, Any]], ...] = (
            ("GET", {"url": "/v1/models/tiny"}),
            ("GET", {"url": "/v1/models/tiny", "headers": {"x-sie-sdk-version": "0"}}),
            ("GET", {"url": "/info?model=tiny"}),
            ("GET", {"url": "/v1/tokenizers/tiny"}),
            ("POST", {"url": "/api/show", "json": {"model": "tiny"}}),
            ("GET", {"url": "/weaviate/tiny/meta"}),
        )
        with httpx.Client(base_url=url) as http:
            for method, call in described:
                for key, status in ((reader, 200), (other, 403)):
                    headers = {"authorization": f"Bearer {key}", **call.get("headers", {})}
                    reply = http.request(method, **call | {"headers": headers})
                    assert reply.status_code == status, (call, reply.text)
            # Without a name, the first model that the key may use.
            assert http.get("/info", headers={"authorization": f"Bearer {other}"}).status_code == 404
            assert (
                "may not use tiny"
                in http.post(
                    "/predict", json={"inputs": "cat", "model": "tiny"}, headers={"authorization": f"Bearer {other}"}
                ).text
            )
    assert not any(secret in caplog.text for secret in (reader, owner, other))


@pytest.mark.network
def test_a_revoked_key_is_refused_and_a_new_one_accepted(
    tmp_path: Path, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_FILE_CHECK_SECONDS", 0.0)
    first, second = create_key(), create_key()
    file = _write(tmp_path / "keys.toml", f'hash = "{first[1]}"')
    with serving([tiny], api_key_file=file) as url:
        assert [_post(url, key).status_code for key, _ in (first, second)] == [200, 401]
        _write(file, f'name = "the second"\nhash = "{second[1]}"')
        assert [_post(url, key).status_code for key, _ in (first, second)] == [401, 200]
        file.write_text("not toml [", encoding="utf-8")
        assert [_post(url, key).status_code for key, _ in (first, second)] == [401, 200]


@pytest.mark.network
def test_tokens_a_minute_are_bounded(tmp_path: Path, tiny: Encoder) -> None:
    key, digest = create_key()
    file = _write(tmp_path / "keys.toml", f'name = "slow"\nhash = "{digest}"\ntokens_per_minute = 30')
    with serving([tiny], api_key_file=file) as url:
        assert _post(url, key, input="cat " * 60).status_code == 200
        refused = _post(url, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 0 < int(refused.headers["retry-after"]) <= 120


def test_a_rate_limit_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    key = ApiKey("k", b"x" * 32, tokens_per_minute=60)
    key.check_rate()
    key.spend(90)
    with pytest.raises(RateLimited) as refused:
        key.check_rate()
    assert refused.value.retry_after == pytest.approx(31)
    now[0] += refused.value.retry_after
    key.check_rate()
    now[0] += 3600
    key.check_rate()
    key.spend(60)
    with pytest.raises(RateLimited):
        key.check_rate()


def test_keys_say_what_of_their_rates_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    limited = ApiKey("limited", b"x" * 32, tokens_per_minute=60)
    keys = ApiKeys([limited, ApiKey("free", b"y" * 32)])
    assert keys.used() == {}
    keys.charge(limited.digest, 90)
    now[0] += 10
    assert keys.used() == {limited.digest: 80}
    now[0] += 80
    assert keys.used() == {}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('name = "x"', "give either"),
        ('hash = "sha256:12"', "64 hexadecimal"),
        ('hash = "a"\nkey = "b"', "give either"),
        ('key = "a"\nscope = ["infer"]', "unknown field 'scope'. Did you mean 'scopes'"),
        ('key = "a"\nscopes = ["infr"]', "unknown scope 'infr'. Did you mean 'infer'"),
        ('key = "a"\nscopes = "infer"', "list of texts"),
        ('key = "a"\nmodels = [1]', "list of texts"),
        ('key = "a"\ntokens_per_minute = 0', "above 0"),
        ('key = "a"\ntokens_per_minute = true', "above 0"),
    ],
)
def test_a_bad_key_file_says_what_is_wrong(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ApiKeys([], _write(tmp_path / "keys.toml", table))


def test_an_empty_key_file_does_not_open_the_server(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match="no keys"):
        ApiKeys([], tmp_path / "keys.toml")


@pytest.mark.network
def test_without_keys_only_this_machine_may_manage_models(tiny: Encoder) -> None:
    assert HostGuard(True).check({}, "127.0.0.1").may("manage")
    assert HostGuard(True).check({}, "::1").may("manage")
    assert not HostGuard(True).check({}, "10.0.0.9").may("manage")
    assert HostGuard(False).check({"host": "any.example"}, "127.0.0.1") is ANONYMOUS
    assert not ANONYMOUS.may("manage")
    with serving([tiny], host="0.0.0.0") as url:
        refused = _post(url, path="/models/load")
        assert refused.status_code == 403
        assert "api_key_file" in refused.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "app.localhost", ""])
def test_host_names_of_this_machine_are_accepted(host: str) -> None:
    assert HostGuard(True).check({"host": host}, "127.0.0.1").may("infer")


@pytest.mark.network
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "[fe80::1]"]
)
def test_a_foreign_host_is_refused(tiny: Encoder, url: str, host: str) -> None:
    with pytest.raises(Forbidden, match="allowed_hosts"):
        HostGuard(True).check({"host": host}, "127.0.0.1")
    response = httpx.post(url + "/v1/embeddings", json=BODY, headers={"host": host})
    assert response.status_code == 403
    assert HostGuard(True, hosts=("evil.example", "localhost.evil.example", "10.0.0.1", "fe80::1")).check(
        {"host": host}, None
    )


@pytest.mark.network
def test_a_page_of_another_site_is_refused(tiny: Encoder, url: str) -> None:
    def ask(origin: str) -> int:
        return httpx.post(url + "/v1/embeddings", json=BODY, headers={"origin": origin}).status_code

    assert ask("http://localhost:3000") == 200
    assert ask("https://evil.example") == 403
    assert ask("null") == 403
    with serving([tiny], cors_origins=("https://mine.example",)) as open_url:
        headers = {"origin": "https://mine.example"}
        assert httpx.post(open_url + "/v1/embeddings", json=BODY, headers=headers).status_code == 200


@pytest.mark.network
def test_models_are_listed_loaded_and_unloaded(tiny: Encoder) -> None:
    def loader(name: str) -> Encoder:
        return tiny

    with serving(ModelPool(loader=loader, on_demand=["org/tiny"])) as url:
        listed = httpx.get(url + "/models").json()
        assert [(model["id"], model["state"]) for model in listed["models"]] == [("org/tiny", "available")]
        assert httpx.post(url + "/models/load", json={"model": "org/tiny"}).json()["state"] == "loaded"
        assert httpx.get(url + "/models").json()["models"][0]["outputs"] == ["dense"]
        missing = httpx.post(url + "/models/load", json={"model": "org/other"})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.network
@pytest.mark.slow
def test_the_command_line_manages_a_server(tiny: Encoder, url: str) -> None:
    import subprocess
    import sys

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nearfield.cli", "models", *words, "--url", url]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)

    assert "tiny" in run("loaded").stdout
    assert "tiny is loaded" in run("load", "tiny").stdout
    failed = run("load", "nothing")
    assert failed.returncode != 0
    assert "'nothing' is not served here" in failed.stderr


def test_flags_that_are_zero_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from nearfield.cli import app
    from nearfield.server.lifecycle import serve as run

    served: list[Any] = []
    monkeypatch.setattr(run, "serve", lambda settings, announce: served.append(settings))
    result = CliRunner().invoke(app, ["serve", "--port", "0", "--drain-timeout", "0"])
    assert result.exit_code == 0, result.output
    assert (served[0].port, served[0].drain_timeout) == (0, 0)


def test_new_keys_are_stored_as_hashes(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from nearfield.cli import app

    file = tmp_path / "keys.toml"
    outputs = [
        CliRunner().invoke(app, ["keys", "new", "--file", str(file), *flags]).output
        for flags in (["--name", "ci"], ["--name", "boss", "--scope", "manage", "--scope", "infer", "--rate", "100"])
    ]
    secrets = [line for text in outputs for line in text.split() if line.startswith("nf-")]
    assert len(secrets) == 2
    assert not any(secret in file.read_text() for secret in secrets)
    assert file.stat().st_mode & 0o077 == 0
    keys = ApiKeys([], file)
    one, two = (keys.check(f"Bearer {secret}") for secret in secrets)
    assert (one.name, one.scopes, one.tokens_per_minute) == ("ci", ("infer",), None)
    assert (two.name, two.scopes, two.tokens_per_minute) == ("boss", ("manage", "infer"), 100)
    again = CliRunner().invoke(app, ["keys", "new", "--file", str(file), "--name", "ci"])
    assert again.exit_code != 0


@pytest.mark.network
@pytest.mark.slow
def test_forwarded_headers_count_from_trusted_peers_only(tmp_path: Path) -> None:
    from nearfield.testing import write_tiny_model
    from tests.support.serving import Process

    write_tiny_model(tmp_path / "tiny")
    forged = {"x-forwarded-for": "10.1.2.3"}
    for flags, status in (((), 404), (("--trusted-proxy", "127.0.0.1"), 403)):
        process = Process(tmp_path / "tiny", *flags)
        # From this machine a model may be managed (and "x" is not served); from another, without a key, it may not.
        response = httpx.post(process.url + "/models/load", json={"model": "x"}, headers=forged)
        process.terminate()
        assert process.wait() == 0
        assert response.status_code == status


@pytest.mark.network
@pytest.mark.slow
def test_https(tmp_path: Path) -> None:
    import ssl
    import subprocess

    from nearfield.testing import write_tiny_model
    from tests.support.serving import Process

    write_tiny_model(tmp_path / "tiny")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    process = Process(tmp_path / "tiny", "--tls-cert", str(cert), "--tls-key", str(key))
    assert process.url.startswith("https://")
    with httpx.Client(verify=ssl.create_default_context(cafile=str(cert))) as client:
        assert client.post(process.url + "/v1/embeddings", json=BODY).status_code == 200
    process.terminate()
    assert process.wait() == 0


def test_long_names_are_not_loopback_and_not_stored() -> None:
    from nearfield.server.auth import host_guard

    before = host_guard._is_loopback.cache_info().currsize
    assert not host_guard.is_loopback("a" * 60_000 + ".localhost")
    assert host_guard._is_loopback.cache_info().currsize == before
