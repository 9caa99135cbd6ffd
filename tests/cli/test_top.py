"""nearfield top: a frame of a real server, one that is dead, and the terminal as it was."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from nearfield import settings
from nearfield.cli import top
from nearfield.cli.terminal.dashboard import DashboardFrame, draw
from nearfield.encoder import Encoder
from tests.support.cli_runner import run
from tests.support.serving import serving

pytestmark = pytest.mark.network


def _free() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def _text(frame: DashboardFrame, width: int = 80) -> str:
    from rich.console import Console

    console = Console(width=width, file=open(os.devnull, "w"), record=True, color_system=None)  # noqa: SIM115, PTH123
    with console.file:
        console.print(draw(frame))
    return console.export_text()


def _embed(url: str, *texts: str) -> None:
    for text in texts:
        assert httpx.post(url + "/v1/embeddings", json={"model": "tiny", "input": text}).status_code == 200


@pytest.mark.slow
def test_a_frame_of_a_running_server(fleet_url: str) -> None:
    view = top.ServerView(fleet_url, None)
    first = view.read()
    assert first.figures is not None
    assert first.figures.requests is None
    _embed(fleet_url, "hello", "hello world", "cat")
    httpx.post(fleet_url + "/v1/embeddings", json={"model": "nope", "input": "cat"})
    frame = view.read()
    stats = frame.figures
    assert stats is not None
    assert stats.seconds is not None
    (route,) = stats.routes
    assert route.route == "/v1/embeddings"
    assert {status: round(rate * stats.seconds) for status, rate in route.rates.items()} == {"200": 3, "404": 1}
    assert stats.tokens is not None
    assert stats.tokens * stats.seconds == pytest.approx(stats.tokens_by_model["tiny"] * stats.seconds)
    assert set(stats.stages) >= {"tokenise", "queue", "run", "reply"}
    assert set(stats.queue) == {"interactive", "bulk"}
    assert stats.queue["bulk"].inputs == 0
    assert stats.batch_fill is not None
    assert stats.padding is not None
    if sys.platform == "linux":
        assert stats.resident_bytes is not None
        assert stats.resident_bytes > 10 * 2**20
    text = _text(frame)
    assert "ready" in text
    assert "not ready" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    for word in ("tiny", "m3", "tiny-reranker", "tiny-classifier", "loaded", "/v1/embeddings", "200: ", "404: ", "p99"):
        assert word in text, text


def test_the_metrics_tell_of_each_model(fleet_url: str) -> None:
    page = httpx.get(fleet_url + "/metrics").text
    assert 'nearfield_model_loaded{model="tiny"} 1.0' in page
    assert 'nearfield_models_users{model="m3"} 0.0' in page
    assert re.search(r'nearfield_model_bytes\{model="tiny-reranker"\} \d', page)


def test_the_frame_says_why_a_server_is_not_ready(fleet_url: str) -> None:
    frame = top.ServerView(fleet_url, None).read()
    reasons = ["1 of 2 [bold]lanes[/bold] are being replaced"]
    odd = DashboardFrame(
        fleet_url, 0.0, ready={"ready": False, "reasons": reasons}, models=frame.models, figures=frame.figures
    )
    text = _text(odd)
    assert "not ready" in text
    assert reasons[0] in text  # literally: no markup


def test_long_names_are_cut_to_the_width(fleet_url: str) -> None:
    frame = top.ServerView(fleet_url, None).read()
    models: Any = {**frame.models, "models": [{**frame.models["models"][0], "id": "organisation/" + "long-" * 30}]}
    text = _text(DashboardFrame(fleet_url, 0.0, ready=frame.ready, models=models, figures=frame.figures))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "organisation/long-" in text


@pytest.mark.slow
def test_once_and_json(fleet_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(capsys, monkeypatch, "top", "--once", "--url", fleet_url, "--interval", "0.1")
    assert (shown.code, shown.err) == (0, "")
    assert f"Nearfield at {fleet_url}" in shown.out
    assert "\x1b" not in shown.out
    stats = run(capsys, monkeypatch, "top", "--once", "--json", "--url", fleet_url, "--interval", "0.1")
    figures = json.loads(stats.out)
    assert figures["ready"] is True
    assert figures["figures"]["seconds"] >= 0.1
    assert {model["id"] for model in figures["models"]} == {"tiny", "m3", "tiny-reranker", "tiny-classifier"}


def test_a_dead_server_is_said_and_asked_again(tiny: Encoder) -> None:
    base = _free()
    view = top.ServerView(base, None)
    for _ in range(2):
        frame = view.read()
        assert frame.figures is None
        assert f"{base} does not answer" in frame.error
        assert "no answer" in _text(frame)
        assert frame.to_dict()["error"] == frame.error
    with serving([tiny]) as alive:
        view = top.ServerView(alive, None)
        view.read()
        assert view.read().figures is not None
    assert view.read().figures is None
    frame = view.read()
    assert "does not answer" in frame.error


def test_after_an_outage_rates_begin_anew(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([tiny]) as base:
        view = top.ServerView(base, None)
        view.read()
        with monkeypatch.context() as down:
            down.setattr(view, "_url", _free())
            assert view.read().error
        stats = view.read().figures
        assert stats is not None
        assert stats.seconds is None
        stats = view.read().figures
        assert stats is not None
        assert stats.seconds is not None


def test_once_with_a_dead_server_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(capsys, monkeypatch, "top", "--once", "--url", _free())
    assert ran.code == 1
    assert "does not answer" in ran.err
    assert ran.out == ""


def test_a_url_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(capsys, monkeypatch, "top", "--url", "localhost:8080")
    assert ran.code == 2
    assert "http://" in ran.err


def test_a_key_that_cannot_be_sent_is_not_shown(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(capsys, monkeypatch, "top", "--once", "--url", url, "--key", "secret\nvalue")
    assert ran.code == 2
    assert "secret" not in ran.err + ran.out


@pytest.mark.slow
def test_the_key_is_sent(tiny: Encoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with serving([tiny], api_keys=("sesame-open",)) as base:
        refused = run(capsys, monkeypatch, "top", "--once", "--url", base)
        assert refused.code == 1
        assert "does not answer" not in refused.err
        monkeypatch.setenv("NEARFIELD_KEY", "sesame-open")
        assert run(capsys, monkeypatch, "top", "--once", "--url", base, "--interval", "0.1").code == 0
        assert settings.load().port == 8080  # the variable is no unknown setting


@contextmanager
def _other_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_kind_of_server_is_told_apart() -> None:
    with _other_server() as base:
        assert "no Nearfield server" in top.ServerView(base, None).read().error


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("alive", [True, False])
def test_ctrl_c_leaves_the_terminal_as_it_was(url: str, alive: bool) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nearfield.cli", "top", "--url", url if alive else _free(), "--interval", "0.2"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        marker = b"Stop with Ctrl-C"
        seen = b""
        while seen.count(marker) < 2:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        while data := _rest(ours):
            seen += data
        assert process.wait(20) == 0
    os.close(ours)
    assert seen.index(b"\x1b[?1049h") < seen.rindex(b"\x1b[?1049l")  # to the other screen, and back
    assert seen.index(b"\x1b[?25l") < seen.rindex(b"\x1b[?25h")  # the cursor is there again
    assert b"Traceback" not in seen
    assert (b"no answer" in seen) is not alive


def _rest(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux' way of saying that the other end is closed
        return b""
