"""What an operator may get wrong or do while a server runs: files of settings, signals, and who writes to the log."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import SettingsError
from nearfield.fileio.output_path import (
    probe_writing,
    probe_writing_file,
    require_writable,
    require_writable_folder,
)
from nearfield.hardware import MemoryLimit
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.lifecycle import serve
from nearfield.server.lifecycle.preflight import check_settings, reload_certificate
from nearfield.server.lifecycle.serve import check_budget
from nearfield.server.lifecycle.tls import certificate_expiry
from nearfield.testing import write_tiny_model
from tests.support.serving import Process


def _certificate(folder: Path, name: str, days: int = 365) -> tuple[Path, Path]:
    """Write a self-signed certificate for localhost, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", str(days)]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    return {
        "one": _certificate(folder, "one"),
        "two": _certificate(folder, "two"),
        "old": _certificate(folder, "old", 3),
    }


def _check(**values: Any) -> None:
    check_settings(settings.load(**values))


# -- before models are loaded --------------------------------------------------------------------------------------


def test_certificates_are_checked(
    certificates: dict[str, tuple[Path, Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (certificate, key), (_, other) = certificates["one"], certificates["two"]
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "utf-8")
    locked = tmp_path / "locked.key"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "utf-8")
    data = {"data_dir": str(tmp_path / "data")}
    _check(tls_cert=certificate, tls_key=key, **data)
    _check(tls_cert=both, **data)
    none = tmp_path / "none.pem"
    for values, message in (
        ({"tls_cert": none}, f"'tls_cert': {none} cannot be read: No such file"),
        ({"tls_cert": certificate, "tls_key": none}, f"'tls_key': {none} cannot be read"),
        ({"tls_cert": tmp_path}, f"{tmp_path} cannot be read: Is a directory"),
        ({"tls_cert": certificate}, f"{certificate} has no private key in PEM. Name its key with tls_key"),
        ({"tls_cert": key, "tls_key": key}, f"{key} has no certificate"),
        ({"tls_cert": certificate, "tls_key": certificate}, f"'tls_key': {certificate} has no private key"),
        ({"tls_cert": certificate, "tls_key": other}, f"key in {other} does not belong to the certificate"),
        ({"tls_cert": damaged, "tls_key": key}, f"{damaged} or {key} is damaged"),
        ({"tls_cert": certificate, "tls_key": locked}, f"key in {locked} is encrypted"),
        ({"tls_key": key}, "'tls_key' needs 'tls_cert'"),
    ):
        with pytest.raises(SettingsError) as error:
            _check(**values, **data)
        assert message in str(error.value), values
    assert caplog.text == ""
    _check(tls_cert=certificates["old"][0], tls_key=certificates["old"][1], **data)
    assert "(tls_cert) expires on" in caplog.text
    expiry = certificate_expiry(certificates["old"][0])
    assert expiry is not None and 2 * 86_400 < expiry - time.time() < 4 * 86_400


def test_folders_and_addresses_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("in the way", "utf-8")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "server.db").write_bytes(b"no database" * 1000)
    _check(data_dir=tmp_path / "data" / "new")
    assert (tmp_path / "data" / "new").is_dir()
    for values, message in (
        ({"data_dir": tmp_path / "file" / "data"}, "'data_dir'"),
        ({"data_dir": tmp_path / "file"}, "files and batches: it is no folder"),
        ({"data_dir": tmp_path / "damaged"}, "file is not a database"),
        ({"collections_dir": tmp_path / "file" / "none"}, "'collections_dir'"),
        ({"collections_dir": tmp_path / "file"}, "'collections_dir'"),
        ({"api_key_file": tmp_path / "none"}, "none cannot be read: No such file or directory."),
        ({"api_keys": ["sha256:12"]}, "64 hexadecimal digits"),
        ({"otel_endpoint": "http://"}, "'otel_endpoint'"),
        ({"otel_endpoint": "http://host:99999"}, "'otel_endpoint'"),
        ({"chat_url": "http://a b"}, "'chat_url'"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, "'trusted_proxies'"),
        ({"trusted_proxies": ["10.0.0.7/24"]}, "without further bits"),
        ({"trusted_proxies": ["proxy.example"]}, "'trusted_proxies' cannot be 'proxy.example'"),
        ({"cors_origins": ["app.example"]}, "'cors_origins' cannot be 'app.example'"),
        ({"cors_origins": ["https://app.example/"]}, "without a path or a slash"),
        ({"cors_origins": ["https://App.example"]}, "in lower case"),
        ({"cors_origins": ["https://*.example"]}, "'cors_origins'"),
        ({"allowed_hosts": ["http://vectors.example"]}, "'allowed_hosts'"),
        ({"allowed_hosts": ["vectors.example:8080"]}, "'allowed_hosts'"),
    ):
        with pytest.raises(SettingsError) as error:
            _check(**values)
        assert message in str(error.value), values
    _check(
        trusted_proxies=["*", "::1", "10.0.0.7", "fd00::/8"],
        cors_origins=["*", "null", "https://app.example:8443", "http://[::1]:3000", "chrome-extension://abc"],
        allowed_hosts=["vectors.example", "::1", "Vectors"],
    )
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "file"))
    _check()  # the default folder: the server is of use without it
    assert "files and batches cannot be stored" in caplog.text


@pytest.mark.process
def test_a_wrong_file_is_reported_before_models_are_loaded(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "nearfield.cli",
        "serve",
        "no/such-model",
        "--tls-cert",
        str(tmp_path / "none.pem"),
    ]
    environment = {**os.environ, "NEARFIELD_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert result.returncode == 2
    assert "none.pem cannot be read" in " ".join(result.stderr.split())


def test_a_folder_of_collections_is_created(tmp_path: Path) -> None:
    _check(collections_dir=tmp_path / "new" / "collections")
    assert (tmp_path / "new" / "collections").is_dir()


def test_a_probe_leaves_no_folder(tmp_path: Path) -> None:
    probe_writing(tmp_path / "new" / "folder")
    probe_writing_file(tmp_path / "new" / "file.parquet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder").mkdir()
    probe_writing(tmp_path / "folder")
    assert (tmp_path / "folder").is_dir()


def test_outputs_are_checked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    require_writable_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    require_writable(tmp_path / "new" / "file.json")
    for call, path in ((require_writable_folder, tmp_path / "file"), (require_writable, tmp_path / "file" / "a.json")):
        with pytest.raises(ValueError, match="cannot be written"):
            call(path)


def test_a_budget_smaller_than_the_first_models_is_refused(tiny: Encoder) -> None:
    check_budget(None, [tiny])
    check_budget(2**40, [tiny])
    with pytest.raises(SettingsError, match="'memory_budget' is 0 B, but the models that are loaded at the start"):
        check_budget(0, [tiny])


@pytest.mark.parametrize(
    ("available", "cause", "warned"), [(340, "cgroup", True), (340, "machine", False), (342, "ulimit -v", False)]
)
def test_a_tight_memory_limit_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, available: int, cause: str, warned: bool
) -> None:
    monkeypatch.setattr(serve, "memory_limit", lambda: MemoryLimit(900 * 2**20, available * 2**20, cause))
    serve.warn_if_memory_is_short(settings.load())
    message = "Of the 900 MiB that this process may take (cgroup), 340 MiB are free, but bodies, replies and cached "
    assert (message + "results may take 341 MiB" in caplog.text) is warned


# -- signals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny")


def _common_name(port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        certificate = secure.getpeercert(binary_form=True) or b""
    return next(name for name in ("one", "two") if name.encode() in certificate)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("frontends", ["1", "2"])
def test_sighup_reads_keys_and_certificate_again(
    tiny_folder: Path, tmp_path: Path, certificates: dict[str, tuple[Path, Path]], frontends: str
) -> None:
    keys, certificate, key = tmp_path / "keys.txt", tmp_path / "cert.pem", tmp_path / "cert.key"
    keys.write_text("first\n", "utf-8")

    def install(name: str) -> None:
        certificate.write_bytes(certificates[name][0].read_bytes())
        key.write_bytes(certificates[name][1].read_bytes())

    install("one")
    flags = ("--api-key-file", str(keys), "--tls-cert", str(certificate), "--tls-key", str(key))
    process = Process(tiny_folder, *flags, "--frontends", frontends, "--log-level", "info", "--log-format", "json")
    assert _common_name(process.port) == "one"
    process.process.send_signal(signal.SIGUSR1)
    process.process.send_signal(signal.SIGUSR2)
    install("two")
    keys.write_text("other\n", "utf-8")
    process.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + 30
    while _common_name(process.port) != "two":
        assert time.monotonic() < until
        time.sleep(0.05)
    with httpx.Client(base_url=process.url, verify=False) as client:
        assert client.get("/v1/models", headers={"authorization": "Bearer other"}).status_code == 200
        key.write_bytes(certificates["one"][1].read_bytes())  # does not belong to the certificate
        process.process.send_signal(signal.SIGHUP)
        for _ in range(5):
            assert client.get("/v1/models", headers={"authorization": "Bearer other"}).status_code == 200
            assert _common_name(process.port) == "two"
            time.sleep(0.05)
    process.process.send_signal(signal.SIGQUIT)
    assert process.wait() == 0
    messages = [json.loads(line)["message"] for line in process.errors.splitlines()]
    assert any("1 key read again, certificate read again" in message for message in messages)
    assert any("does not belong" in message for message in messages)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("frontends", ["1", "2"])
def test_a_closed_terminal_stops_the_server_in_order(tiny_folder: Path, frontends: str) -> None:
    command = [sys.executable, "-m", "nearfield.cli", "serve", str(tiny_folder), "--port", "0"]
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [*command, "--frontends", frontends, "--log-level", "error"])
    shown = b""
    while b" at http" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    status = _wait(child)
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, status


def _wait(child: int) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the server did not stop")


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("frontends", ["1", "2"])
def test_a_second_sigint_does_not_wait(tiny_folder: Path, frontends: str) -> None:
    process = Process(tiny_folder, "--frontends", frontends, "--drain-timeout", "300")
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as client:
        body = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        client.sendall(body)
        time.sleep(0.5)
        process.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def test_a_certificate_that_cannot_be_read_again_stays(
    certificates: dict[str, tuple[Path, Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = certificates["one"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert reload_certificate(None, settings.load()) == "no certificate"
    assert reload_certificate(context, settings.load(tls_cert=certificate, tls_key=key)) == "certificate read again"
    changed = settings.load(tls_cert=certificate, tls_key=tmp_path / "none")
    assert reload_certificate(context, changed) == "certificate unchanged"
    assert "stays the same" in caplog.text


def test_a_key_file_that_cannot_be_read_again_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("one\n", "utf-8")
    keys = ApiKeys(file=file)
    assert keys.reload() == "1 key read again"
    file.write_text("# none\n", "utf-8")
    for _ in range(3):
        keys._reload(file)
    assert caplog.text.count("has no keys") == 1
    assert keys.reload() == "keys unchanged"
    file.unlink()
    for _ in range(3):
        keys._reload(file)
    assert caplog.text.count("keys.txt cannot be read: No such file or directory") == 1
    assert keys.check("one").name == "keys.txt:1"
    assert ApiKeys(["one"]).reload() == "no key file"


# -- logs ----------------------------------------------------------------------------------------------------------

LIBRARIES = """
import asyncio, gc, logging, sys, threading, warnings
from nearfield.server.logs import configure_logging
configure_logging("info", "json")
warnings.warn("a warning of a library")
logging.getLogger("some.library").warning("a log line of a library")
logging.getLogger("some.library").info("not shown")
library = logging.getLogger("other.library")
library.addHandler(logging.StreamHandler())
library.propagate = False
library.warning("a line of its own handler")
print("printed to stderr", file=sys.stderr)
sys.stderr.write("\\r 10%|#         |\\r100%|##########|\\n")
def fail(): raise ValueError("secretword")
thread = threading.Thread(target=fail, name="helper"); thread.start(); thread.join()
class Failing:
    def __del__(self): fail()
Failing()
async def main():
    asyncio.get_running_loop().create_task(asyncio.sleep(0, fail))
    async def lost(): fail()
    task = asyncio.create_task(lost()); await asyncio.sleep(0.01); del task; gc.collect()
asyncio.run(main())
import typer
typer.secho("of the command line", err=True, fg="red")
fail()
"""


def test_libraries_write_no_bare_lines_to_a_json_log() -> None:
    result = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, text=True, timeout=120, check=False)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    messages = " | ".join(line["message"] for line in lines)
    for part in (
        "a warning of a library",
        "a log line of a library",
        "a line of its own handler",
        "printed to stderr",
        "100%|##########|",
        "thread helper failed: ValueError",
        "an error was ignored: ValueError",
        "Task exception was never retrieved",
        "of the command line",
        "the process ends: ValueError",
    ):
        assert part in messages, part
    assert "not shown" not in messages
    assert result.returncode == 1
    assert "secretword" not in "".join(line.get("error", "") for line in lines)
