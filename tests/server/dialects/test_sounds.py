"""Sounds through the forms of OpenAI's path that take them, over a real socket: `Encoder.encode`'s bits, refusals."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped]

from nearfield.encoder import Encoder
from nearfield.media.audio import Audio
from tests.support import tiny_sounds
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]


def wav(samples: Any) -> bytes:
    """Return the bytes of a WAV file of floats."""
    file = io.BytesIO()
    soundfile.write(file, samples, tiny_sounds.RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


FILE = wav(tiny_sounds.tone(0.5, 440))
DIGITS = base64.b64encode(FILE).decode()
URI = f"data:audio/wav;base64,{DIGITS}"


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_sounds.write_clap(tmp_path_factory.mktemp("models") / "clap")
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as model:
        yield model


@pytest.fixture(scope="module")
def url(clap: Encoder) -> Iterator[str]:
    with serving([clap], max_audio_bytes=200_000, max_audio_seconds=60) as base:
        yield base


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": URI, "modality": "audio"}),
        ("/embeddings", {"input": [DIGITS], "modality": "audio"}),
        ("/embeddings_audio", {"input": [URI]}),
        ("/v1/embeddings", {"messages": [("input_audio", {"data": DIGITS, "format": "wav"})]}),
        ("/v1/embeddings", {"messages": [("audio_url", {"url": URI})]}),
    ],
)
def test_a_sound_gets_the_bits_of_the_encoder(url: str, clap: Encoder, path: str, body: dict[str, Any]) -> None:
    expected = np.asarray(clap.encode(Audio(FILE)))
    if "messages" in body:
        content = [{"type": kind, kind: part} for kind, part in body["messages"]]
        body = {"messages": [{"role": "user", "content": content}]}
    reply = httpx.post(url + path, json={"model": "clap", **body}, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(reply.json()["data"][0]["embedding"]), expected)
    assert reply.json()["usage"]["total_tokens"] == 64


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"input": ["%%%"], "modality": "audio"}, 400, "Input 0"),
        ({"input": ["http://127.0.0.1/rain.wav"], "modality": "audio"}, 400, "not fetched"),
        ({"input": [base64.b64encode(b"no sound").decode()], "modality": "audio"}, 400, "Input 0"),
        ({"input": [base64.b64encode(b"\0" * 300_000).decode()], "modality": "audio"}, 413, "200,000 bytes"),
        ({"input": [[1, 2]], "modality": "audio"}, 400, "token ids"),
        ({"input": [URI], "modality": "image"}, 400, "reads texts and sounds"),
    ],
)
def test_what_is_no_sound_is_refused(url: str, body: dict[str, Any], status: int, message: str) -> None:
    reply = httpx.post(url + "/v1/embeddings", json={"model": "clap", **body}, timeout=60)
    assert (reply.status_code, message in reply.text) == (status, True), reply.text
