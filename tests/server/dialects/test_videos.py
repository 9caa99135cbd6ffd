"""Videos through the forms of APIs that take them, over a real socket: `Encoder.encode`'s bits, usage, refusals."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.media.video.video import Video
from tests.support import tiny_pictures
from tests.support.films import Film, write_film
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.process]

#: Three seconds: three frames of 17 patches.
FILE = write_film(Film(count=36))
DIGITS = base64.b64encode(FILE).decode()
URI = f"data:video/mp4;base64,{DIGITS}"
TOKENS = 3 * 17


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as model:
        yield model


@pytest.fixture(scope="module")
def expected(clip: Encoder) -> Any:
    return np.asarray(clip.encode(Video(FILE)))


@pytest.fixture(scope="module")
def url(clip: Encoder) -> Iterator[str]:
    with serving([clip], max_video_bytes=200_000, max_video_seconds=60) as base:
        yield base


def chat(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def voyage(part: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": [{"content": [part]}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", chat({"type": "video_url", "video_url": {"url": URI}})),
        ("/v1/embeddings", chat({"type": "video_url", "video_url": URI})),
        ("/v1/multimodalembeddings", voyage({"type": "video_base64", "video_base64": URI})),
        ("/v1/multimodalembeddings", voyage({"type": "video_url", "video_url": URI})),
    ],
)
def test_forms_of_openai_and_voyage(url: str, expected: Any, path: str, body: dict[str, Any]) -> None:
    reply = httpx.post(url + path, json={"model": "clip", **body}, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["data"][0]["embedding"]), expected)
    usage = reply.json()["usage"]
    assert usage["total_tokens"] == TOKENS
    if "inputs" in body:
        assert (usage["video_pixels"], usage["image_pixels"], usage["text_tokens"]) == (3 * 64 * 48, 0, 0)


@pytest.mark.parametrize("value", [URI, DIGITS])
def test_the_native_form(url: str, clip: Encoder, expected: Any, value: str) -> None:
    reply = httpx.post(url + "/encode", json={"model": "clip", "input": [{"video": value}, "a cat"]}, timeout=60)
    assert reply.status_code == 200, reply.text
    rows = np.float32(reply.json()["dense"]["data"])
    assert np.array_equal(rows[0], expected)
    assert np.array_equal(rows[1], np.asarray(clip.encode("a cat")))


def test_the_native_form_in_msgpack_and_as_a_form(url: str, expected: Any) -> None:
    body = msgspec.msgpack.encode({"model": "clip", "input": [{"video": FILE}]})
    headers = {"content-type": "application/msgpack", "accept": "application/json"}
    reply = httpx.post(url + "/encode", content=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["dense"]["data"][0]), expected)
    files = [("video", ("clip.mp4", FILE, "video/mp4"))]
    reply = httpx.post(url + "/encode", data={"model": "clip"}, files=files, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["dense"]["data"][0]), expected)


@pytest.mark.parametrize("video", [{"data": FILE, "format": "mp4"}, FILE, {"data": DIGITS}])
def test_the_form_of_sie(url: str, expected: Any, video: Any) -> None:
    body = msgspec.msgpack.encode({"items": [{"id": "a", "video": video}]})
    headers = {"content-type": "application/msgpack", "accept": "application/json"}
    reply = httpx.post(url + "/v1/encode/clip", content=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["items"][0]["dense"]["values"]), expected)


@pytest.mark.parametrize("names", [("inline_data", "mime_type"), ("inlineData", "mimeType")])
def test_the_form_of_gemini(url: str, expected: Any, names: tuple[str, str]) -> None:
    part = {names[0]: {names[1]: "video/mp4", "data": DIGITS}}
    body = {"content": {"parts": [part]}}
    reply = httpx.post(url + "/v1beta/models/clip:embedContent", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["embedding"]["values"]), expected)


def broken(data: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("value", "status", "message"),
    [
        ("data:video/mp4;base64,%%%", 400, "part 0"),
        ("http://127.0.0.1/clip.mp4", 400, "fetching is off"),
        ("ftp://127.0.0.1/clip.mp4", 400, "not fetched"),
        (broken(b"a text"), 400, "no known video"),
        (broken(FILE[:900]), 400, "cannot be read as MP4"),
        (broken(FILE + bytes(300_000)), 413, "200,000 bytes"),
        (broken(write_film(Film(count=62, rate=Film().rate / 12))), 413, "62 seconds"),
    ],
)
def test_what_is_refused(url: str, value: str, status: int, message: str) -> None:
    body = {"model": "clip", **chat({"type": "video_url", "video_url": {"url": value}})}
    reply = httpx.post(url + "/v1/embeddings", json=body, timeout=60)
    assert (reply.status_code, message in reply.text) == (status, True), reply.text


def test_a_text_and_a_video_are_no_one_input(url: str) -> None:
    parts = [{"type": "text", "text": "a cat"}, {"type": "video_url", "video_url": URI}]
    body = {"model": "clip", "messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(url + "/v1/embeddings", json=body, timeout=60)
    assert reply.status_code == 400 and "has a video and a text" in reply.text


def test_videos_are_not_ranked(url: str) -> None:
    body = {"query": "a cat", "documents": ["a dog", {"video": URI}]}
    reply = httpx.post(url + "/rank", json=body, timeout=60)
    assert reply.status_code == 400 and "no model here ranks these" in reply.text, reply.text


def test_a_video_at_an_address_is_fetched_with_the_limit_of_videos(
    clip: Encoder, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def fetch(address: str, policy: Any) -> bytes:
        assert address == "https://example.org/clip.mp4"
        limits.append(policy.max_bytes)
        return FILE

    monkeypatch.setattr("nearfield.server.exchange.picture_fetcher.fetch", fetch)
    with serving([clip], media_urls="https", max_video_bytes=300_000) as base:
        part = {"type": "video_url", "video_url": {"url": "https://example.org/clip.mp4"}}
        reply = httpx.post(base + "/v1/embeddings", json={"model": "clip", **chat(part)}, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["data"][0]["embedding"]), expected)
    assert limits == [300_000]
