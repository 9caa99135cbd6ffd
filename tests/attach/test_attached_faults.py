"""Servers that end, restart with another model, refuse large requests, are slow, or fail: retried, or a clear error."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from nearfield import Encoder, Reranker, errors
from nearfield.attach import attached_client, open_encoder, open_reranker
from nearfield.attach.attached_client import AttachedClient
from nearfield.client import RetryPolicy
from nearfield.server.exchange.encode import Encode
from nearfield.testing import write_tiny_model
from tests.parity.scores import classifier
from tests.support.cli_runner import run
from tests.support.serving import listening, serving

pytestmark = [pytest.mark.network, pytest.mark.slow]
TEXTS = [f"a cat sat on the mat {'dog ' * (number % 7)}" for number in range(150)]
OPTIONS: Any = {"precision": "float32", "compile_cache": False, "reproducible": True}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """The model of the servers; each input is computed by itself."""
    with Encoder(str(write_tiny_model(tmp_path_factory.mktemp("faults") / "tiny")), **OPTIONS) as encoder:
        yield encoder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of tenths of a second."""
    policy = RetryPolicy(unreachable=True, delay=0.1, growth=1.5, max_delay=0.5)
    monkeypatch.setattr(attached_client, "_WHILE_USED", policy)


def _attached(model: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NEARFIELD_SERVER", url)
    return (open_encoder if isinstance(model, Encoder) else open_reranker)(str(model.recipe.folder))


def _port(state: Any) -> int:
    return int(state.port)


def test_a_server_that_restarts_is_waited_for(local: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening([local]) as state:
        port = _port(state)
        encoder = _attached(local, f"http://127.0.0.1:{port}", monkeypatch)
        parts = encoder.stream(iter(TEXTS), window=50)
        results = [next(parts)]
    ended = threading.Event()

    def serve_again() -> None:
        time.sleep(0.3)
        with listening([local], port=port):
            ended.wait(60)

    server = threading.Thread(target=serve_again)
    server.start()
    try:
        results += parts
    finally:
        ended.set()
        server.join()
    np.testing.assert_array_equal(np.concatenate(results), local.encode(TEXTS))


@pytest.mark.parametrize(
    ("options", "spread", "message"),
    [
        ({}, 0.2, "other weights, tokenizer, prompts or settings"),
        ({"precision": "auto"}, 0.0, "another tiny than at the start: precision is bf16, and was float32"),
        ({"max_length": 16}, 0.0, "another tiny than at the start: max_length is 16, and was 64"),
    ],
    ids=["weights", "precision", "max_length"],
)
def test_a_server_that_restarts_with_another_model_is_refused(
    local: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    spread: float,
    message: str,
) -> None:
    folder = write_tiny_model(tmp_path / "tiny", spread=spread) if spread else local.recipe.folder
    with listening([local]) as state:
        encoder = _attached(local, f"http://127.0.0.1:{_port(state)}", monkeypatch)
        encoder.encode("a cat")
    with Encoder(str(folder), **{**OPTIONS, **options}) as other:
        if "precision" in options and other.precision == local.precision:
            pytest.skip("this processor has no bf16")
        with listening([other], port=_port(state)), pytest.raises(errors.SpaceMismatch, match=message):
            encoder.encode("a cat")


def test_another_reranker_under_the_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = classifier("bert", 1)(tmp_path / "a").rename(tmp_path / "cross")
    second = write_changed(first, tmp_path / "b" / "cross")
    with Reranker(str(first), **OPTIONS) as local, Reranker(str(second), **OPTIONS) as other:
        with listening([local]) as state:
            reranker = _attached(local, f"http://127.0.0.1:{_port(state)}", monkeypatch)
            reranker.score("a cat", ["a dog"])
        with listening([other], port=_port(state)), pytest.raises(errors.SpaceMismatch, match="fingerprint is"):
            reranker.score("a cat", ["a dog"])


def write_changed(folder: Path, copy: Path) -> Path:
    """Write a copy of a model with another bias: other weights, and other scores."""
    shutil.copytree(folder, copy)
    weights = safetensors.numpy.load_file(copy / "model.safetensors")
    weights["classifier.bias"] = weights["classifier.bias"] + 1
    safetensors.numpy.save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize(
    "limits", [{"max_items": 5}, {"max_request_tokens": 60}, {"max_body_bytes": 1024}], ids=["items", "tokens", "bytes"]
)
def test_requests_that_are_too_large_are_sent_in_parts(
    local: Encoder, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    with serving([local], **limits) as url, _attached(local, url, monkeypatch) as encoder:
        np.testing.assert_array_equal(encoder.encode(TEXTS), local.encode(TEXTS))


def test_one_input_that_is_too_large_is_an_error_with_its_number(
    local: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving([local], max_body_bytes=1024) as url,
        _attached(local, url, monkeypatch) as encoder,
        pytest.raises(errors.TooLarge, match=r"Input 3: .*1,?024"),
    ):
        encoder.encode([*TEXTS[:3], "cat " * 1000])


def test_requests_that_take_too_long_are_sent_in_parts(local: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Encode.run

    async def slow(self: Encode, model: Any, bounds: Any) -> None:
        sizes.append(len(self.inputs))
        if len(self.inputs) > 8:
            raise errors.DeadlineExceeded("The request was not done within 30 s. Try again later.")
        await original(self, model, bounds)

    monkeypatch.setattr(Encode, "run", slow)
    with serving([local]) as url, _attached(local, url, monkeypatch) as encoder:
        np.testing.assert_array_equal(encoder.encode(TEXTS), local.encode(TEXTS))
        # The size is found once, not for each batch.
        sizes.clear()
        encoder.encode(TEXTS)
    assert max(sizes) <= 8


def test_replies_of_a_busy_server_are_waited_for(local: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second request is refused with 429 or 503."""
    original, counts = Encode.run, {"calls": 0}

    async def busy(self: Encode, model: Any, bounds: Any) -> None:
        counts["calls"] += 1
        if counts["calls"] % 4 == 1:
            raise errors.Overloaded("The queue is full.", retry_after=0.0)
        if counts["calls"] % 4 == 3:
            raise errors.ModelUnavailable("There is no memory for it.", retry_after=0.0)
        await original(self, model, bounds)

    monkeypatch.setattr(Encode, "run", busy)
    with serving([local]) as url, _attached(local, url, monkeypatch) as encoder:
        np.testing.assert_array_equal(encoder.encode(TEXTS), local.encode(TEXTS))
    assert counts["calls"] > 3


def test_a_job_whose_server_ends_is_continued(
    local: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    words = ("embed", tmp_path / "texts.txt", "--model", local.recipe.folder, "--shard-rows", 30, "-q", "-o")
    original, calls = AttachedClient.post, []

    with listening([local]) as state:
        monkeypatch.setenv("NEARFIELD_SERVER", f"http://127.0.0.1:{_port(state)}")
        done = run(capsys, monkeypatch, *words, f"{tmp_path}/whole/")
        assert done.code == 0, done.err

        def post(self: AttachedClient, *words: Any, **options: Any) -> Any:
            calls.append(words)
            if len(calls) == 3:
                state.listener.should_exit = True
                while state.listener.started and state.listener.servers and state.listener.servers[0].is_serving():
                    time.sleep(0.02)
                self.close()
            return original(self, *words, **options)

        monkeypatch.setattr(AttachedClient, "post", post)
        failed = run(capsys, monkeypatch, *words, f"{tmp_path}/resumed/")
    assert failed.code == 1 and "does not answer" in failed.err, failed
    assert "Is a server running?" in failed.err
    monkeypatch.setattr(AttachedClient, "post", original)
    with listening([local], port=_port(state)):
        done = run(capsys, monkeypatch, *words, f"{tmp_path}/resumed/")
    assert done.code == 0, done.err
    shards = sorted(path.name for path in (tmp_path / "whole").rglob("*") if path.suffix in (".npy", ".parquet"))
    assert len(shards) >= 5
    for name in shards:
        first, second = (next((tmp_path / folder).rglob(name)).read_bytes() for folder in ("whole", "resumed"))
        assert first == second
