"""Pictures, sounds and videos that the HTTP clients send: the bits of `Encoder.encode` of the same inputs."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import PIL.Image
import pytest

from nearfield import Audio, Encoder, Image, Reranker, Video, catalog
from nearfield.client import AsyncClient, Client
from nearfield.client import inputs as client_inputs
from nearfield.client.inputs import body_inputs, read_input, read_inputs
from nearfield.errors import InputError, ServerRefused
from nearfield.media.limits import SoundLimits
from tests.support import films, tiny_multimodal, tiny_pictures, tiny_sounds
from tests.support.odd_pictures import encode, smooth
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]

PNG = encode(smooth(90, 40, 1), "PNG")
ENTRY = catalog.find("Qwen/Qwen3-VL-Reranker-2B")
assert ENTRY is not None and ENTRY.answer is not None
ANSWER = replace(ENTRY.answer, true="ed", false="er")
OPTIONS: Any = {"precision": "float32", "compile_cache": False}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    paths = {
        "clip": tiny_pictures.write_clip(folder / "clip"),
        "clap": tiny_sounds.write_clap(folder / "clap"),
        "gemma": tiny_multimodal.embedding_gemma2_with_media(folder / "gemma"),
        "qwen": tiny_multimodal.qwen3_vl_embedding(folder / "qwen", modules=False),
    }
    models: dict[str, Any] = {
        name: Encoder(str(paths[name]), reproducible=True, **OPTIONS) for name in ("clip", "clap", "gemma")
    }
    models["qwen"] = Reranker(str(paths["qwen"]), answer=ANSWER, **OPTIONS)
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module")
def url(models: dict[str, Any]) -> Iterator[str]:
    with serving(list(models.values()), max_image_bytes=100_000) as base:
        yield base


def encode_both(url: str, model: str, inputs: Any) -> Any:
    """Return the vectors that both clients return, which are the same."""

    async def run() -> Any:
        async with AsyncClient(url, model) as client:
            return (await client.encode(inputs)).data

    with Client(url, model) as client:
        vectors = client.encode(inputs).data
    np.testing.assert_array_equal(vectors, asyncio.run(run()))
    return vectors


def odd_pictures(folder: Path) -> list[Any]:
    """Return pictures of all types that an input may have, of modes that a PNG has no form for too."""
    (folder / "photo.png").write_bytes(PNG)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 30, 3), np.uint8)
    turned = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(pixels).save(turned, "JPEG", exif=exif)
    inks = PIL.Image.fromarray(random.integers(0, 256, (40, 30, 4), np.uint8), "CMYK")
    clear = PIL.Image.fromarray(random.integers(0, 256, (40, 30, 4), np.uint8), "RGBA")
    return [
        folder / "photo.png",
        PNG,
        bytearray(PNG),
        Image(path=folder / "photo.png"),
        Image(uri=f"data:image/png;base64,{base64.b64encode(PNG).decode()}"),
        turned.getvalue(),
        PIL.Image.open(turned),
        pixels,
        Image(pixels[:, :, 0]),
        inks,
        clear,
        {"image": PNG},
    ]


def test_pictures_of_any_type_have_the_bits_of_encode(url: str, models: dict[str, Any], tmp_path: Path) -> None:
    inputs = ["a red fox", *odd_pictures(tmp_path), {"text": "a blue owl"}]
    expected = models["clip"].encode(inputs).data
    np.testing.assert_array_equal(encode_both(url, "clip", inputs), expected)
    np.testing.assert_array_equal(encode_both(url, "clip", np.array([PNG, "a red fox"], object)), expected[[2, 0]])


def test_a_video_has_the_bits_of_encode(url: str, models: dict[str, Any]) -> None:
    film = films.write_film()
    expected = models["clip"].encode([Video(film), "a red fox"]).data
    np.testing.assert_array_equal(encode_both(url, "clip", [Video(film), "a red fox"]), expected)
    np.testing.assert_array_equal(encode_both(url, "clip", [film, "a red fox"]), expected)


@pytest.mark.parametrize("kind", ["float32", "float64", "int16", "int32", "uint8", "stereo"])
def test_samples_of_any_type_have_the_bits_of_encode(url: str, models: dict[str, Any], kind: str) -> None:
    rate = tiny_sounds.RATE
    samples: Any = tiny_sounds.tone(0.5, 440)
    if kind == "stereo":
        samples = np.stack([samples, tiny_sounds.tone(0.5, 220)], axis=1)
    elif kind.startswith("float"):
        samples = samples.astype(kind)
    else:
        full = np.iinfo(kind)
        samples = (samples * full.max / 2 + (128 if kind == "uint8" else 0)).astype(kind)
    for given in (rate, rate // 2):
        sounds = [Audio(samples, rate=given), Audio(samples, rate=given, start=0.1, end=0.4)]
        np.testing.assert_array_equal(encode_both(url, "clap", sounds), models["clap"].encode(sounds).data)


def test_a_part_of_the_file_of_a_sound_has_the_bits_of_encode(url: str, models: dict[str, Any]) -> None:
    samples = np.stack([tiny_sounds.tone(1.5, 440), tiny_sounds.tone(1.5, 220)], axis=1)
    whole = Audio(Audio(samples, rate=22050).to_file())
    sounds = [whole, *whole.segments(0.5), "rain"]
    np.testing.assert_array_equal(encode_both(url, "clap", sounds), models["clap"].encode(sounds).data)


def test_parts_keep_their_order(url: str, models: dict[str, Any]) -> None:
    other = encode(smooth(5, 7, 3), "PNG")
    inputs = [
        {"text": "a red fox", "image": PNG},
        {"image": PNG, "text": "a red fox"},
        {"image": [PNG, other]},
        ["one", Image(PNG), "two", Image(other)],
        "a blue owl",
    ]
    vectors = encode_both(url, "gemma", inputs)
    np.testing.assert_array_equal(vectors, models["gemma"].encode(inputs).data)
    assert not np.array_equal(vectors[0], vectors[1])


def test_pictures_are_ranked(url: str, models: dict[str, Any]) -> None:
    documents = [PNG, {"text": "a red fox", "image": PNG}, "a blue owl"]
    expected = models["qwen"].rank(Image(PNG), [Image(PNG), *documents[1:]])

    async def rank() -> Any:
        async with AsyncClient(url, "qwen") as client:
            return await client.rank(Image(PNG), documents)

    with Client(url, "qwen") as client:
        ranked = client.rank(Image(PNG), documents)
    assert ranked == asyncio.run(rank())
    assert [entry.index for entry in ranked] == [entry.index for entry in expected]
    np.testing.assert_allclose([entry.score for entry in ranked], [entry.score for entry in expected], atol=1e-6)


def test_what_a_model_does_not_read_is_refused_by_the_server(url: str, tmp_path: Path) -> None:
    with (
        Client(url, "clap") as client,
        pytest.raises(ServerRefused, match="clap reads texts and sounds"),
    ):
        client.encode([Image(PNG)])
    with Client(url, "clip") as client:
        with pytest.raises(ServerRefused, match="Input 1"):
            client.encode(["a red fox", b"no picture"])
        with pytest.raises(ServerRefused, match="a text and a picture"):
            client.encode([{"text": "a red fox", "image": PNG}])
        with pytest.raises(InputError, match=r"missing\.png cannot be read"):
            client.encode(["a red fox", Image(path=tmp_path / "missing.png")])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (PNG, "a list of inputs, and is one"),
        (Image(PNG), "a list of inputs, and is one"),
        (["a red fox", None], "Text 1 is None"),
        (["a red fox", 3], "Text 1 is the number 3"),
        (["a red fox", {"picture": PNG}], "Parts are called text, image, audio, video"),
        (["a red fox", {"image": "photo.png"}], r"no data URI. For a file, write nearfield.Image\(path=...\)"),
        ({"image": [PNG]}, "of type dict with the keys image"),
        ([{"image": []}], "no parts"),
    ],
)
def test_what_is_no_input_is_refused_before_anything_is_sent(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_inputs(inputs)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (Video(films.write_film(), fps=2), "cut the file, or encode it in this process"),
        (Video(films.write_film(), start=1), "cut the file"),
        (Video(np.zeros((3, 8, 8, 3), np.uint8), rate=1), "write it to one, such as MP4"),
    ],
)
def test_a_choice_of_frames_is_refused_as_no_file_says_it(video: Video, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(body_inputs(["a red fox", video]))


def test_the_query_of_a_ranking_is_one_input() -> None:
    with pytest.raises(InputError, match="query must be a text, and is None"):
        read_input(None, "query")


def test_requests_are_cut_by_the_bytes_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_inputs, "BATCH_BYTES", 2 * len(PNG))
    inputs = read_inputs([PNG, "a", PNG, ["b", PNG, PNG], "c", PNG])
    assert [len(batch) for batch in body_inputs(inputs)] == [3, 1, 2]
    assert [len(batch) for batch in body_inputs(["text"] * 150)] == [64, 64, 22]


def test_sounds_longer_than_the_limits_are_not_read() -> None:
    with pytest.raises(InputError, match="seconds"):
        Audio(np.zeros(32_000, np.float32), rate=16_000).to_file(SoundLimits(max_seconds=1))


class _OpenAI(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"object": "list", "data": [{"id": "other"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_other_servers_get_texts_alone() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OpenAI)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        client = Client(f"http://127.0.0.1:{server.server_port}", "other")
        with client, pytest.raises(InputError, match=r"Input 1 is no text, and .* is not a Nearfield server"):
            client.encode(["a red fox", Image(PNG)])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
