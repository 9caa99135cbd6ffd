"""Pictures and sounds over a real socket: bad ones get 4xx that name them; uploads that end, and many at once."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import PIL.Image
import psutil
import pytest

from nearfield.encoder import Encoder
from nearfield.media import decoding
from nearfield.media.decoder_process import pool
from nearfield.media.limits import decode_memory
from tests.support import bad_media, odd_pictures, tiny_pictures, tiny_sounds
from tests.support.serving import listening, serving

pytestmark = [pytest.mark.network, pytest.mark.slow]

GOOD = odd_pictures.encode(odd_pictures.smooth(60, 50, 1), "PNG")
SOUNDS = bad_media.sounds()
SECOND = bad_media.wav(48_000, 1, np.zeros(48_000))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Encoder]]:
    folder = tmp_path_factory.mktemp("models")
    folders = tiny_pictures.write_clip(folder / "clip"), tiny_sounds.write_clap(folder / "clap")
    encoders = [Encoder(str(one), precision="float32", compile_cache=False, reproducible=True) for one in folders]
    yield encoders
    for encoder in encoders:
        encoder.close()


@pytest.fixture(scope="module")
def state(models: list[Encoder]) -> Iterator[Any]:
    with listening(models, max_body_bytes=2**20) as state:
        yield state


@pytest.fixture(scope="module")
def client(state: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{state.port}", timeout=60) as one:
        yield one


def uri(data: bytes) -> str:
    """Return a data URI; its media type does not count."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def encode_json(client: httpx.Client, items: list[Any]) -> httpx.Response:
    """Send pictures and texts in JSON."""
    parts = [{"image": uri(item)} if isinstance(item, bytes) else item for item in items]
    return client.post("/encode", json={"model": "clip", "input": parts})


def encode_msgpack(client: httpx.Client, items: list[Any]) -> httpx.Response:
    """Send them in msgpack."""
    parts = [{"image": item} if isinstance(item, bytes) else item for item in items]
    content = msgspec.msgpack.encode({"model": "clip", "input": parts})
    return client.post("/encode", content=content, headers={"Content-Type": "application/msgpack"})


def encode_form(client: httpx.Client, items: list[Any]) -> httpx.Response:
    """Send them in a form."""
    files: list[Any] = [("model", (None, b"clip"))]
    files += [("image", ("a.jpg", item)) if isinstance(item, bytes) else ("text", (None, item)) for item in items]
    return client.post("/encode", files=files)


FORMS = {"json": encode_json, "msgpack": encode_msgpack, "form": encode_form}


def encode_sounds(client: httpx.Client, items: list[bytes]) -> httpx.Response:
    """Send sounds."""
    return client.post("/embeddings", json={"model": "clap", "input": list(map(uri, items)), "modality": "audio"})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", bad_media.PICTURES)
def test_a_bad_picture(name: str, form: str, client: httpx.Client) -> None:
    data, status, message = bad_media.PICTURES[name]
    reply = FORMS[form](client, [GOOD, "a cat", data, GOOD])
    assert reply.status_code == status, reply.text
    assert re.search(message, reply.text) or not data
    assert "Input 2" in reply.json()["detail"]
    assert reply.json()["error"]["param"] == "input"


@pytest.mark.parametrize("name", SOUNDS)
def test_a_bad_sound(name: str, client: httpx.Client) -> None:
    data, status, message = SOUNDS[name]
    reply = encode_sounds(client, [SECOND, data])
    assert reply.status_code == status, reply.text
    assert re.search(message, reply.text) or not data
    assert "Input 1" in reply.text


def test_a_silent_second(client: httpx.Client, models: list[Encoder]) -> None:
    reply = encode_sounds(client, [SECOND])
    (vector,) = np.array([entry["embedding"] for entry in reply.json()["data"]], np.float32)
    assert np.isfinite(vector).all() and abs(np.linalg.norm(vector) - 1) < 1e-5
    assert vector.tolist() == models[1].encode([bad_media.wav(48_000, 1, np.zeros(48_000))])[0].tolist()


def test_a_text_of_500_words_is_cut_and_counted(client: httpx.Client) -> None:
    body = encode_json(client, [GOOD, "a " * 500]).json()
    assert (body["tokens"], body["dropped"]) == ([17, 16], [0, 486])


def test_neighbours_are_served_and_memory_is_as_before(client: httpx.Client) -> None:
    expected = encode_json(client, [GOOD]).json()["dense"]

    def bad(data: bytes) -> int:
        return encode_msgpack(client, [GOOD, data]).status_code

    def good(_: int) -> Any:
        return encode_json(client, [GOOD]).json()["dense"]

    def all_at_once() -> None:
        with ThreadPoolExecutor(12) as threads:
            refused = threads.map(bad, [data for data, _, _ in bad_media.PICTURES.values()] * 3)
            assert all(reply == expected for reply in threads.map(good, range(30)))
            assert set(refused) == {400, 413}

    all_at_once()
    before = resident()
    for _ in range(3):
        all_at_once()
    assert resident() - before < 48 * 2**20
    assert decode_memory()._reserved == 0


def resident() -> int:
    """Return the resident memory of this process and its children."""
    gc.collect()
    process = psutil.Process(os.getpid())
    return sum(one.memory_info().rss for one in (process, *process.children()))


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition and return its value."""
    end = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
    return value


@pytest.mark.parametrize("form", FORMS)
def test_clients_disconnect_in_the_middle_of_an_upload(
    form: str, state: Any, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    picture = odd_pictures.encode(odd_pictures.smooth(400, 300), "BMP")
    with httpx.Client(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=request.content))
    ) as echo:
        echo.base_url = client.base_url
        request = FORMS[form](echo, [picture, "a cat"]).request
    head = f"POST /encode HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(request.content)}\r\n"
    head += f"content-type: {request.headers.get('content-type', 'application/json')}\r\n\r\n"

    async def leave(share: float) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", state.port)
        writer.write(head.encode() + request.content[: int(share * len(request.content))])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.transport.abort()

    async def leave_all() -> None:
        for _ in range(3):
            await asyncio.gather(*(leave(share) for share in (0.0, 0.2, 0.5, 0.9, 0.999, 1.0)))

    with caplog.at_level(logging.WARNING):
        asyncio.run(leave_all())
        until(lambda: not state.server.body_budget.used_bytes)
        assert FORMS[form](client, [picture, "a cat"]).status_code == 200
    assert not caplog.records, caplog.text
    assert decode_memory()._reserved == 0


def test_fifty_clients_with_large_pictures(client: httpx.Client, state: Any) -> None:
    """Together they have three times the memory of bodies: some are asked to try again, and each is served at last."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    large = odd_pictures.encode(PIL.Image.fromarray(pixels), "PNG")
    assert len(large) > 270_000
    expected = encode_msgpack(client, [large]).content
    outcomes: Counter[int] = Counter()

    def send(_: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=60) as one:
            reply = encode_msgpack(one, [large])
            while reply.status_code == 429:
                outcomes[429] += 1
                time.sleep(float(reply.headers["retry-after"]) / 10)
                reply = encode_msgpack(one, [large])
        outcomes[reply.status_code] += 1
        assert vectors_of(reply.content) == vectors_of(expected)

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(send, range(50)))
    assert outcomes[200] == 50 and set(outcomes) <= {200, 429}
    until(lambda: not state.server.body_budget.used_bytes)
    assert decode_memory()._reserved == 0


def decoders() -> list[psutil.Process]:
    """Return the processes that decode; others of the tests, such as multiprocessing's tracker, have to live on."""
    module = "nearfield.media.decoder_process.worker"
    return [one for one in psutil.Process().children() if module in one.cmdline()]


def vectors_of(content: bytes) -> Any:
    """Return the vectors of a reply."""
    return msgspec.json.decode(content)["dense"]["data"]


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_decoder_that_ends_or_hangs_costs_its_request_alone(
    number: signal.Signals, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 1.0)
    tiff = odd_pictures.encode(odd_pictures.smooth(60, 50, 1), "TIFF")
    expected = vectors_of(encode_msgpack(client, [tiff]).content)
    memory, processes = decode_memory(), pool._pool.peek()
    assert processes is not None
    processes.close()
    with ThreadPoolExecutor(1) as threads:
        with memory.reserve(memory.capacity):
            waiting = threads.submit(encode_json, client, ["a cat", tiff])
            until(lambda: memory._queue)
            for child in decoders():
                child.send_signal(number)
        reply = waiting.result()
    assert reply.status_code == 400 and "Input 1" in reply.json()["detail"], reply.text
    assert ("crashed (SIGKILL)" if number == signal.SIGKILL else "more than 1 seconds") in reply.text
    assert vectors_of(encode_msgpack(client, [tiff]).content) == expected


def test_a_folder_that_does_not_say_how_pictures_are_prepared(models: list[Encoder], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models[0].recipe.folder, tmp_path / "clip"))
    (folder / "preprocessor_config.json").unlink()
    with Encoder(str(folder), precision="float32", compile_cache=False) as model, serving([model]) as url:
        before = httpx.post(url + "/encode", json={"input": "a cat"}).json()["dense"]
        for _ in range(2):
            reply = httpx.post(url + "/encode", json={"input": {"image": uri(GOOD)}}, timeout=60)
            assert reply.status_code == 422, reply.text
            assert "no preprocessor_config.json" in reply.text
        assert httpx.post(url + "/encode", json={"input": "a cat"}).json()["dense"] == before
