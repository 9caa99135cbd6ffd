"""Measuring speed: what is counted, here and at an endpoint. No figure is asserted, only what must hold of all."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError
from nearfield.evaluation.performance import environment, workloads
from nearfield.evaluation.performance.http_target import HttpTarget
from nearfield.evaluation.performance.load_test import LocalTarget, check_load, closed_loop, measure, measure_bulk, peak
from nearfield.testing import tiny_encoder
from tests.support.cli_runner import Ran, run
from tests.support.serving import serving

Run = Callable[..., Ran]
TEXTS = ["a cat sat on the mat", "hello world", "blue search"]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A tiny model."""
    with tiny_encoder(tmp_path_factory.mktemp("model") / "tiny") as found:
        yield found


def test_all_is_measured_of_a_model_here(encoder: Encoder) -> None:
    stages: list[str] = []
    told = measure(LocalTarget(encoder), TEXTS, seconds=0.05, clients=(1, 3), on_stage=stages.append)
    assert stages == ["warming up", "bulk", "1 client", "3 clients"]
    assert json.loads(json.dumps(told)) == told
    read = sum(len(tokens.ids) for tokens in encoder.tokenize(TEXTS))
    assert told["bulk"]["tokens_per_text"] == round(read / 3, 2)
    # Each of the two figures is rounded.
    speed = told["bulk"]["texts_per_second"] * read / 3
    assert told["bulk"]["tokens_per_second"] == pytest.approx(speed, rel=1e-2)
    for row in told["latency"].values():
        assert row["p50"] <= row["p95"] <= row["p99"] <= row["max"]
    assert told["bytes_per_vector"] == 128 and told["dimensions"] == 32
    assert told["memory"]["peak"] >= told["memory"]["before"] > 0
    assert told["machine"]["cores"] >= 1 and told["machine"]["versions"]["nearfield"]


def test_bytes_of_a_vector_are_those_of_its_dtype(encoder: Encoder) -> None:
    assert LocalTarget(encoder, precision="binary").facts["bytes_per_vector"] == 4


def test_a_number_of_clients_is_that_many_at_once() -> None:
    busy, most = 0, 0

    async def ask(_: str) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    times, passed = asyncio.run(closed_loop(ask, TEXTS, 0.01, 5))
    assert most == 5 and len(times) >= 5
    assert passed >= 0.01 and sum(times) <= 5 * passed * 1.01


def test_bulk_is_the_median_of_whole_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lasts = [0.0], iter([1.0, 4.0, 2.0])
    monkeypatch.setattr("nearfield.evaluation.performance.load_test.time.perf_counter", lambda: clock[0])

    def encode(texts: Sequence[str]) -> int:
        clock[0] += next(lasts)
        return 5 * len(texts)

    told = measure_bulk(encode, ["a"] * 8, 7.0)
    assert told == {
        "texts_per_second": 4.0,
        "tokens_per_second": 20.0,
        "tokens_per_text": 5.0,
        "range": [2.0, 8.0],
        "passes": 3,
    }


def test_the_peak_is_what_was_taken_between() -> None:
    with peak() as found:
        held = bytearray(64 * 2**20)
        found.read()
        del held
    assert found.bytes is not None and found.before is not None
    assert found.bytes - found.before > 60 * 2**20


@pytest.mark.parametrize("options", [{"texts": []}, {"texts": TEXTS, "seconds": 0}, {"texts": TEXTS, "clients": (0,)}])
def test_nothing_to_measure_is_refused(encoder: Encoder, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        measure(LocalTarget(encoder), **options)


def test_numbers_of_clients_may_come_from_an_iterator() -> None:
    load = check_load(np.float32(0.5), iter([1, np.int64(4)]))
    assert json.dumps(load) == "[0.5, [1, 4]]"
    for seconds, clients in ((math.inf, [1]), (math.nan, [1]), (1, [0]), (1, [True]), (1, "12")):
        with pytest.raises(InputError, match=r"^(seconds|clients) must be "):
            check_load(seconds, clients)  # type: ignore[arg-type]


def test_the_machine_is_described_in_a_line() -> None:
    told = environment.describe_environment(("numpy", "no-such-package"))
    assert told["versions"]["no-such-package"] == "not installed"
    line = environment.summary_line(told)
    assert told["cpu"] in line and "numpy" in line and "no-such-package" not in line


@pytest.mark.parametrize("tokens", [8, 60])
def test_texts_are_about_as_long_as_asked(encoder: Encoder, tokens: int) -> None:
    lengths = [len(each.ids) for each in encoder.tokenize(workloads.texts_of_tokens(encoder.tokenizer, tokens))]
    assert sum(lengths) / len(lengths) == pytest.approx(tokens, rel=0.35)


# -- endpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_an_endpoint_is_measured_alike(encoder: Encoder) -> None:
    with serving([encoder]) as url:
        told = measure(HttpTarget(f"{url}/v1", encoder.name), TEXTS, seconds=0.05, clients=(2,))
    assert told["dimensions"] == 32 and told["where"].startswith("http://127.0.0.1")
    assert told["bulk"]["tokens_per_text"] == measure_bulk(LocalTarget(encoder).bulk, TEXTS, 0.01)["tokens_per_text"]
    assert told["latency"]["2"]["count"] >= 2


@contextmanager
def _answering(*replies: tuple[int, Any]) -> Iterator[str]:
    """Serve these replies in turn, the last one for ever."""
    left = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


GOOD = (200, {"data": [{"embedding": [0.0, 1.0]}]})


@pytest.mark.network
def test_a_refusal_is_waited_for_and_counted() -> None:
    with _answering((429, {}), (503, {}), GOOD) as url:
        remote = HttpTarget(url, "model")
    assert remote.refused == remote.facts["refused"] == 2


@pytest.mark.network
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {"error": "no key"}), "401.*no key"),
        ((200, {"nothing": 1}), "no OpenAI-compatible"),
        ((200, {"data": []}), "no OpenAI-compatible"),
        ((200, {"data": [{"embedding": [1]}] * 2}), "2 vectors for 1"),
        ((429, {}), "429"),
    ],
)
def test_what_an_endpoint_does_wrong_is_told(reply: tuple[int, Any], message: str) -> None:
    with _answering(reply) as url, pytest.raises(NearfieldError, match=message):
        HttpTarget(url, "model", patience=0.01)


def test_an_endpoint_that_cannot_be_reached_is_an_error() -> None:
    with pytest.raises(NearfieldError, match="does not answer"):
        HttpTarget("http://127.0.0.1:9/v1", "model")
    with pytest.raises(InputError, match="http://"):
        HttpTarget("localhost:8080", "model")


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command(nearfield: Run, encoder: Encoder, tmp_path: Path) -> None:
    folder = encoder.recipe.folder
    words = ("speed", folder, "--seconds", 0.05, "--clients", "1,2")
    told = json.loads(nearfield(*words, "--json", "--dtype", "int8").out)
    assert told["bytes_per_vector"] == 32 and list(told["latency"]) == ["1", "2"]
    (tmp_path / "mine.txt").write_text("hello world\nblue\n", encoding="utf-8")
    shown = nearfield(*words, "--data", tmp_path / "mine.txt").out
    assert "texts/s" in shown and "p99 ms" in shown


@pytest.mark.network
def test_the_command_asks_an_endpoint_with_its_key(nearfield: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with _answering(GOOD) as url:
        said = nearfield("speed", "model", "--url", url, "--key-env", "MY_KEY", "--seconds", 0.05, "--clients", 1)
    assert said.code == 1 and "1 vector for 32 texts" in said.err and "secret" not in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workload", "mixt"), "mixed"),
        (("--clients", "0"), "above 0"),
        (("--url", "http://127.0.0.1:9", "--key-env", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE"),
    ],
)
def test_the_command_says_what_is_wrong(nearfield: Run, words: tuple[str, ...], message: str) -> None:
    said = nearfield("speed", "model", *words)
    assert said.code == 2 and message in said.err
