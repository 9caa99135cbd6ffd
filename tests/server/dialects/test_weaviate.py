"""Weaviate's multi2vec-clip: the bytes that its client sends and reads, over a real socket."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.media.image import Image
from tests.support import tiny_pictures
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]

FILES = tiny_pictures.png_files()[:2]
CODES = [base64.b64encode(file).decode() for file in FILES]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as model:
        yield model


@pytest.fixture(scope="module")
def url(clip: Encoder, tiny: Encoder) -> Iterator[str]:
    # The model of texts alone comes first: it must not be taken for requests without pictures.
    with serving([tiny, clip], max_image_bytes=100_000) as base:
        yield base


def go_body(texts: str, images: str) -> bytes:
    """Return what Go's ``json.Marshal`` writes for the request: no spaces, ``null`` for no slice, HTML escaped."""
    return f'{{"texts":{texts},"images":{images}}}'.encode()


def send(url: str, body: bytes, prefix: str = "") -> httpx.Response:
    """Send a body as Weaviate's client does: without Content-Type."""
    return httpx.post(f"{url}{prefix}/vectorize", content=body, timeout=60)


@pytest.mark.parametrize("prefix", ["", "/weaviate/clip"])
def test_texts_and_pictures_get_the_bits_of_the_encoder(url: str, clip: Encoder, prefix: str) -> None:
    reply = send(url, go_body('["a cat","\\u003cb\\u003e \\u0026 a dog"]', f'["{CODES[0]}","{CODES[1]}"]'), prefix)
    assert reply.status_code == 200, reply.text
    assert list(reply.json()) == ["textVectors", "imageVectors"]
    expected = np.asarray(clip.encode(["a cat", "<b> & a dog", Image(FILES[0]), Image(FILES[1])]))
    assert np.array_equal(np.float32(reply.json()["textVectors"]), expected[:2])
    assert np.array_equal(np.float32(reply.json()["imageVectors"]), expected[2:])


@pytest.mark.parametrize("nothing", ["null", "[]"])
def test_one_of_both_lists_may_be_empty(url: str, clip: Encoder, nothing: str) -> None:
    texts = send(url, go_body('["a cat"]', nothing)).json()
    assert texts["imageVectors"] == []
    assert np.array_equal(np.float32(texts["textVectors"][0]), np.asarray(clip.encode("a cat")))
    pictures = send(url, go_body(nothing, f'["{CODES[0]}"]')).json()
    assert pictures["textVectors"] == []
    assert np.array_equal(np.float32(pictures["imageVectors"][0]), np.asarray(clip.encode(Image(FILES[0]))))


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (go_body("null", "null"), 400, "texts and images are empty"),
        (go_body("null", '["a?"]'), 400, "images[0]: the text is not base64"),
        (go_body("null", '["http://127.0.0.1/a.png"]'), 400, "is an address"),
        (go_body("null", f'["{base64.b64encode(bytes(100_001)).decode()}"]'), 413, "At most 100,000 bytes"),
        (go_body("[1]", "null"), 400, "texts"),
    ],
)
def test_errors_are_in_the_field_that_weaviate_shows(url: str, body: bytes, status: int, words: str) -> None:
    reply = send(url, body)
    assert (reply.status_code, list(reply.json())) == (status, ["error"]), reply.text
    assert words in reply.json()["error"]


def test_a_model_of_texts_alone_is_refused_by_name(url: str, tiny: Encoder) -> None:
    reply = send(url, go_body('["a cat"]', "null"), f"/weaviate/{tiny.name}")
    assert (reply.status_code, reply.json()) == (400, {"error": f"{tiny.name} does not read both texts and pictures."})


def test_meta_and_probes(url: str, clip: Encoder, tiny: Encoder) -> None:
    for prefix in ("", "/weaviate/clip"):
        meta: Any = httpx.get(f"{url}{prefix}/meta").json()
        assert (meta["model"], meta["model_type"], meta["fingerprint"]) == ("clip", "clip_text_model", clip.fingerprint)
        for path in ("ready", "live"):
            reply = httpx.get(f"{url}{prefix}/.well-known/{path}")
            assert (reply.status_code, reply.content) == (204, b"")
    with serving([tiny]) as base:
        assert httpx.get(f"{base}/.well-known/ready").status_code == 404
        assert httpx.get(f"{base}/.well-known/live").status_code == 204
