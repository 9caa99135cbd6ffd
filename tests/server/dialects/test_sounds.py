"""Sounds through every API that takes them, over a real socket: the bits of `Encoder.encode`, and refusals."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
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


#: Tokens of a sound of up to ten seconds.
TOKENS = 64


def chat(*parts: Any) -> dict[str, Any]:
    """Return a body of vLLM's chat form."""
    return {"model": "clap", "messages": [{"role": "user", "content": list(parts)}]}


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_sounds.write_clap(tmp_path_factory.mktemp("models") / "clap")
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as model:
        yield model


@pytest.fixture(scope="module")
def url(clap: Encoder) -> Iterator[str]:
    with serving([clap], max_audio_bytes=200_000, max_audio_seconds=60) as base:
        yield base


@pytest.fixture(scope="module")
def vector(clap: Encoder) -> Any:
    """The vector of the sound."""
    return np.asarray(clap.encode(Audio(FILE)))


Find = Callable[[Any], Any]


def nova(**parameters: Any) -> dict[str, Any]:
    """Return a body of Amazon Nova's form."""
    return {
        "taskType": "SINGLE_EMBEDDING",
        "singleEmbeddingParams": {"embeddingPurpose": "GENERIC_INDEX", **parameters},
    }


def first_row(reply: Any) -> Any:
    """Return the vector of a reply in OpenAI's form."""
    assert reply["usage"]["total_tokens"] == TOKENS
    return reply["data"][0]["embedding"]


#: Path, body and where the vector is in the reply.
FORMS: dict[str, tuple[str, dict[str, Any], Find]] = {
    "infinity": ("/v1/embeddings", {"model": "clap", "input": URI, "modality": "audio"}, first_row),
    "infinity, base64": ("/embeddings", {"model": "clap", "input": [DIGITS], "modality": "audio"}, first_row),
    "infinity, older": ("/embeddings_audio", {"model": "clap", "input": [URI]}, first_row),
    "vllm, input_audio": (
        "/v1/embeddings",
        chat({"type": "input_audio", "input_audio": {"data": DIGITS, "format": "wav"}}),
        first_row,
    ),
    "vllm, audio_url": ("/v1/embeddings", chat({"type": "audio_url", "audio_url": {"url": URI}}), first_row),
    "native": ("/encode", {"model": "clap", "input": {"audio": URI}}, lambda reply: reply["dense"]["data"][0]),
    "native, base64": (
        "/encode",
        {"model": "clap", "input": [{"audio": DIGITS}]},
        lambda reply: reply["dense"]["data"][0],
    ),
    "jina": ("/v1/embeddings", {"model": "clap", "input": [{"audio": URI}]}, first_row),
    "jina, content": ("/v1/embeddings", {"model": "clap", "input": [{"content": [{"audio": DIGITS}]}]}, first_row),
    "sie": (
        "/v1/encode/clap",
        {"items": [{"audio": {"data": DIGITS, "format": "wav", "sample_rate": None}}]},
        lambda reply: reply["items"][0]["dense"]["values"],
    ),
    "sie, alone": (
        "/v1/encode/clap",
        {"items": [{"audio": URI}]},
        lambda reply: reply["items"][0]["dense"]["values"],
    ),
    "gemini": (
        "/v1beta/models/clap:embedContent",
        {"content": {"parts": [{"inline_data": {"mime_type": "audio/wav", "data": DIGITS}}]}},
        lambda reply: reply["embedding"]["values"],
    ),
    "gemini, batch": (
        "/v1beta/models/clap:batchEmbedContents",
        {"requests": [{"content": {"parts": [{"inlineData": {"mimeType": "audio/x-wav", "data": DIGITS}}]}}]},
        lambda reply: reply["embeddings"][0]["values"],
    ),
    "nova": (
        "/model/clap/invoke",
        nova(audio={"format": "wav", "source": {"bytes": DIGITS}}),
        lambda reply: reply["embeddings"][0]["embedding"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_gets_the_bits_of_the_encoder(url: str, vector: Any, form: str) -> None:
    path, body, find = FORMS[form]
    reply = httpx.post(url + path, json=body, headers={"accept": "application/json"}, timeout=60)
    assert reply.status_code == 200, reply.text
    assert np.array_equal(np.float32(find(reply.json())), vector)


def test_the_bytes_of_a_file_in_msgpack_and_in_a_form(url: str, clap: Encoder, vector: Any) -> None:
    headers = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    native = msgspec.msgpack.encode({"model": "clap", "input": [{"audio": FILE}]})
    reply = msgspec.msgpack.decode(httpx.post(url + "/encode", content=native, headers=headers).content)
    assert reply["dense"]["data"]["data"] == vector.tobytes()
    for audio in ({"data": FILE, "format": None, "sample_rate": None}, FILE):
        body = msgspec.msgpack.encode({"items": [{"id": "a", "audio": audio}]})
        reply = msgspec.msgpack.decode(httpx.post(url + "/v1/encode/clap", content=body, headers=headers).content)
        assert reply["items"][0]["dense"]["values"][b"data"] == vector.tobytes()
    parts: list[Any] = [("audio", ("rain.wav", FILE)), ("text", (None, "rain")), ("model", (None, "clap"))]
    form = httpx.post(url + "/encode", files=parts).json()
    both = np.asarray(clap.encode([Audio(FILE), "rain"]))
    assert np.array_equal(np.float32(form["dense"]["data"]), both)


def test_nova_s_texts(url: str, clap: Encoder) -> None:
    reply = httpx.post(url + "/model/clap/invoke", json=nova(text={"truncationMode": "END", "value": "rain"})).json()
    assert reply["embeddings"][0]["embeddingType"] == "TEXT"
    assert np.array_equal(np.float32(reply["embeddings"][0]["embedding"]), np.asarray(clap.encode("rain")))


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/encode", {"input": [{"audio": 3}]}, "must be a data URI, base64, or bytes in msgpack, not int"),
        ("/encode", {"model": "clap", "input": [{"audio": URI, "text": "rain"}]}, "has a text and a sound, and clap"),
        ("/encode", {"model": "clap", "input": [{"image": URI}]}, "an input is a picture"),
        ("/v1/encode/clap", {"items": [{"audio": {"format": "wav"}}]}, "data"),
        ("/v1/encode/clap", {"items": [{"audio": URI, "text": "rain"}]}, "has a text and a sound, and clap"),
        ("/v1/encode/clap", {"items": [{"audio": {"data": [1, 2]}}]}, "not list"),
        ("/v1beta/models/clap:embedContent", {"content": {"parts": [{"inlineData": {"data": DIGITS}}]}}, "a picture"),
        ("/model/clap/invoke", nova(audio={"source": {"s3Location": {"uri": "s3://a/b"}}}), "S3 is not read"),
        ("/model/clap/invoke", nova(video={"source": {"bytes": DIGITS}}), "has video: send one of text"),
        ("/model/clap/invoke", nova(), "has no input: send one of text"),
        ("/model/clap/invoke", nova(embeddingMode="AUDIO_VIDEO_COMBINED"), "there is no 'embeddingMode'"),
        ("/model/clap/invoke", nova(text={"truncationMode": "END", "source": {}}), "has no value"),
        ("/model/clap/invoke", {**nova(), "taskType": "SEGMENTED_EMBEDDING"}, "taskType"),
        ("/v1/embeddings", {"model": "clap", "input": [{"audio": 3}]}, "audio must be a string"),
        ("/v1/embeddings", {"model": "clap", "input": [{"video": DIGITS}]}, "contains a video"),
    ],
)
def test_forms_that_are_refused(url: str, path: str, body: dict[str, Any], message: str) -> None:
    reply = httpx.post(url + path, json=body, headers={"accept": "application/json"}, timeout=60)
    assert reply.status_code == (422 if path == "/v1/embeddings" else 400), reply.text
    assert message in reply.text


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_a_large_and_a_distant_sound(url: str, form: str) -> None:
    path, body, _ = FORMS[form]
    text = json.dumps(body)

    def refusal(data: bytes) -> tuple[int, str]:
        code = base64.b64encode(data).decode()
        changed = json.loads(text.replace(DIGITS, code))
        reply = httpx.post(url + path, json=changed, headers={"accept": "application/json"}, timeout=60)
        return reply.status_code, reply.text

    assert refusal(b"no sound")[0] in (400, 422)
    status, message = refusal(bytes(200_001))
    assert (status, "200,001 bytes" in message or "At most 200,000 bytes" in message) == (413, True), message
    distant = json.loads(text.replace(URI, DIGITS).replace(DIGITS, "http://127.0.0.1:9/rain.wav"))
    reply = httpx.post(url + path, json=distant, headers={"accept": "application/json"}, timeout=60)
    assert "sounds are not fetched" in reply.text


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
