"""Pictures through every API that takes them, over a real socket: the bits of `Encoder.encode`, and refusals."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import openai
import PIL.Image
import pytest
import voyageai
from openai.types import CreateEmbeddingResponse

from nearfield.encoder import Encoder
from nearfield.media.image import Image
from nearfield.testing import tiny_encoder
from tests.support import tiny_pictures
from tests.support.serving import serving

pytestmark = [pytest.mark.network, pytest.mark.slow]

PICTURES = tiny_pictures.pictures()
PATCHES = 17


def png(picture: PIL.Image.Image) -> bytes:
    """Return the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


FILES = [png(picture) for picture in PICTURES]
DIGITS = [base64.b64encode(data).decode() for data in FILES]
URIS = [f"data:image/png;base64,{digits}" for digits in DIGITS]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")
    with Encoder(str(folder), precision="float32", compile_cache=False, reproducible=True) as model:
        yield model


@pytest.fixture(scope="module")
def texts_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with tiny_encoder(tmp_path_factory.mktemp("models") / "texts", precision="float32") as model:
        yield model


@pytest.fixture(scope="module")
def url(clip: Encoder, texts_only: Encoder) -> Iterator[str]:
    with serving([clip, texts_only], max_image_bytes=100_000) as base:
        yield base


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as one:
        yield one


def rows(reply: Any) -> Any:
    """Return the vectors of a reply in OpenAI's form."""
    body = reply.json()
    assert "data" in body, body
    return np.array([entry["embedding"] for entry in body["data"]], np.float32)


def refusal(reply: httpx.Response, status: int = 400) -> str:
    """Return the message of an error."""
    assert reply.status_code == status, reply.text
    return str(reply.json()["detail"])


def chat(*parts: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    """Return a body of vLLM's chat form."""
    return {"model": "clip", "messages": [{"role": role, "content": list(parts)}], **fields}


def picture_part(uri: str) -> dict[str, Any]:
    """Return a part of a message with a picture."""
    return {"type": "image_url", "image_url": {"url": uri}}


# -- the native API


def test_native_parts_in_any_order(clip: Encoder, url: str) -> None:
    items = [{"image": URIS[0]}, "a cat", {"text": "a dog"}, {"image": DIGITS[1]}]
    body = httpx.post(url + "/encode", json={"model": "clip", "input": items}).json()
    expected = clip.encode([Image(FILES[0]), "a cat", "a dog", Image(FILES[1])])
    np.testing.assert_array_equal(np.array(body["dense"]["data"], np.float32), np.asarray(expected))
    assert body["tokens"] == expected.tokens.tolist()
    assert body["tokens"][0] == body["tokens"][3] == PATCHES
    assert body["usage"]["tokens"] == sum(body["tokens"])
    alone = httpx.post(url + "/encode", json={"model": "clip", "input": {"image": URIS[0]}}).json()
    np.testing.assert_array_equal(np.array(alone["dense"]["data"], np.float32), np.asarray(expected)[:1])


def test_native_bytes_in_msgpack(clip: Encoder, url: str) -> None:
    data = msgspec.msgpack.encode({"model": "clip", "input": [{"image": FILES[2]}, {"image": URIS[0]}, "a cat"]})
    headers = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    reply = httpx.post(url + "/encode", content=data, headers=headers)
    packed = msgspec.msgpack.decode(reply.content)["dense"]["data"]
    expected = clip.encode([Image(FILES[2]), Image(FILES[0]), "a cat"])
    assert packed["data"] == np.asarray(expected).tobytes()


def test_native_form(clip: Encoder, url: str) -> None:
    files: list[Any] = [
        ("image", ("a.png", FILES[0], "image/png")),
        ("text", (None, "eine Katze – naïve".encode())),
        ("image", ("b.bin", FILES[1], "application/octet-stream")),
        ("model", (None, b"clip")),
        ("dimensions", (None, b"8")),
        ("force_dimensions", (None, b"true")),
        ("outputs", (None, b"dense")),
    ]
    body = httpx.post(url + "/encode", files=files).json()
    inputs = [Image(FILES[0]), "eine Katze – naïve", Image(FILES[1])]
    expected = clip.encode(inputs, truncate_dim=8, force_truncate_dim=True)
    np.testing.assert_array_equal(np.array(body["dense"]["data"], np.float32), np.asarray(expected))


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no body"),
        (b"abc", "last boundary is missing"),
        (PART + b"abc", "last boundary is missing"),
        (b"--x--\r\n", "input"),
        (b"--x\r\n\r\nabc\r\n--x--", "no headers"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--", "no name"),
        (b"--xyz" + PART[3:] + b"abc\r\n--x--", "no headers"),
        (PART + b"not a picture\r\n--x--\r\n", "Input 0"),
        (PART.replace(b"image", b"text") + b"\xff\r\n--x--", "not UTF-8"),
        (PART.replace(b"image", b"photo") + b"\xff\r\n--x--", "an input are called 'text', 'image'"),
        (PART.replace(b"image", b"input") + b"cat\r\n--x--", "call its parts 'text', 'image', 'audio'"),
        (2 * (PART.replace(b"image", b"model") + b"clip\r\n") + b"--x--", "'model' twice"),
    ],
)
def test_bad_forms(url: str, content: bytes, words: str) -> None:
    assert words in refusal(httpx.post(url + "/encode", content=content, headers=FORM))
    none = {"Content-Type": "multipart/form-data"}
    assert refusal(httpx.post(url + "/encode", content=content or b"x", headers=none))


def test_forms_with_too_much(url: str) -> None:
    header = b"--x\r\nContent-Disposition: form-data; name=text; a=" + b"b" * 3000 + b"\r\n\r\n\r\n--x--"
    assert "headers" in refusal(httpx.post(url + "/encode", content=header, headers=FORM), 413)
    many = (PART.replace(b"image", b"text") + b"a\r\n") * 20_000 + b"--x--\r\n"
    assert "20000 inputs" in refusal(httpx.post(url + "/encode", content=many, headers=FORM), 413)
    most = b"--x\r\n" * 400_000 + b"--x--"
    assert "parts" in refusal(httpx.post(url + "/encode", content=most, headers=FORM), 413)
    large = PART + b"a" * 200_000 + b"\r\n--x--\r\n"
    assert "Input 0 has 200,000 bytes" in refusal(httpx.post(url + "/encode", content=large, headers=FORM), 413)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"image": "not base64!"}, "Input 1: the text is not base64"),
        ({"image": "data:image/png;base64,%%%"}, "Input 1: the data URI is not base64"),
        ({"image": "https://example.com/a.png"}, "Input 1 is an address"),
        ({"image": ""}, "Input 1 is empty"),
        ({"image": 3}, "Input 1 must be a data URI, base64, or bytes in msgpack, not int"),
        ({"image": ["a"]}, "Input 1: the text is not base64"),
        ({"image": [URIS[0], URIS[1]]}, "Input 1 has 2 pictures, and clip computes no vector of them together"),
        ({"image": URIS[0], "text": "a"}, "Input 1 has a text and a picture, and clip computes"),
        ({}, "Input 1 has none of 'text', 'image', 'audio'"),
        ({"audio": "UklGRg=="}, "clip reads texts, pictures and videos, and an input is a sound"),
        ({"sound": "UklGRg=="}, "sound"),
        ({"image": base64.b64encode(b"hello world").decode()}, "Input 1"),
        (3, "Input 1 is a number"),
    ],
)
def test_native_parts_that_are_refused(url: str, item: Any, words: str) -> None:
    reply = httpx.post(url + "/encode", json={"model": "clip", "input": [{"image": URIS[0]}, item]})
    assert words in refusal(reply)
    assert reply.json()["error"]["param"] == "input"


# -- vLLM's chat form


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_chat_form_with_openai_s_client(clip: Encoder, client: openai.OpenAI, encoding: str | None) -> None:
    body = chat(picture_part(URIS[0])) | ({"encoding_format": encoding} if encoding else {})
    reply = client.post("/embeddings", cast_to=CreateEmbeddingResponse, body=body)
    vector: Any = reply.data[0].embedding
    vector = np.frombuffer(base64.b64decode(vector), "<f4") if encoding == "base64" else np.array(vector, np.float32)
    np.testing.assert_array_equal(vector, np.asarray(clip.encode(Image(FILES[0]))))
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (PATCHES, PATCHES)
    assert len(reply.data) == 1


def test_chat_form_of_texts(clip: Encoder, texts_only: Encoder, url: str) -> None:
    text = [{"type": "text", "text": "a cat"}, {"type": "text", "text": "a dog"}]
    both = httpx.post(url + "/v1/embeddings", json=chat(*text))
    np.testing.assert_array_equal(rows(both)[0], np.asarray(clip.encode("a cat\na dog")))
    plain = {"model": "texts", "messages": [{"role": "user", "content": "a cat"}, {"role": "assistant", "content": ""}]}
    reply = httpx.post(url + "/embeddings", json={**plain, "truncate_prompt_tokens": -1})
    np.testing.assert_array_equal(rows(reply)[0], np.asarray(texts_only.encode("a cat")))


def test_chat_form_with_dimensions(clip: Encoder, url: str) -> None:
    reply = httpx.post(url + "/v1/embeddings", json=chat(picture_part(URIS[0]), dimensions=8))
    assert "was not trained" in refusal(reply)
    whole = rows(httpx.post(url + "/v1/embeddings", json=chat(picture_part(URIS[0]), dimensions=24)))
    np.testing.assert_array_equal(whole[0], np.asarray(clip.encode(Image(FILES[0]))))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            chat(picture_part(URIS[0]), {"type": "text", "text": "a"}),
            "has a text and a picture, and clip computes no vector of them together",
        ),
        (chat(picture_part(URIS[0]), picture_part(URIS[1])), "2 pictures"),
        (chat(), "is empty"),
        (chat(picture_part(DIGITS[0])), "messages 0, part 0 is no data URI"),
        (chat(picture_part("https://example.com/a.png")), "messages 0, part 0 is an address"),
        (chat({"type": "video_url", "video_url": {"url": "x"}}), "part 0 is no data URI"),
        (chat({"type": "file_url", "text": "x"}), "part 0 is 'file_url': send parts of type"),
        (chat({"type": "image_url"}), "has no image_url"),
        (
            {"model": "clip", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]},
            "a message of the role system, and clip has no chat template",
        ),
    ],
)
def test_chat_forms_that_are_refused(url: str, body: dict[str, Any], words: str) -> None:
    reply = httpx.post(url + "/v1/embeddings", json=body)
    assert words in refusal(reply)
    assert reply.json()["error"]["param"] == "messages"


# -- Infinity


def test_infinity_s_modality(clip: Encoder, client: openai.OpenAI, url: str) -> None:
    expected = np.asarray(clip.encode([Image(FILES[0]), Image(FILES[1])]))
    reply = client.embeddings.create(
        model="clip", input=[URIS[0], DIGITS[1]], encoding_format="float", extra_body={"modality": "image"}
    )
    np.testing.assert_array_equal(np.array([entry.embedding for entry in reply.data], np.float32), expected)
    assert reply.usage.total_tokens == 2 * PATCHES
    coded = client.embeddings.create(model="clip", input=URIS[0], extra_body={"modality": "image", "dimensions": 0})
    np.testing.assert_array_equal(np.array(coded.data[0].embedding, np.float32), expected[0])
    older = httpx.post(url + "/embeddings_image", json={"model": "clip", "input": URIS[:2], "dimensions": 0})
    np.testing.assert_array_equal(rows(older), expected)


def test_infinity_s_inputs_that_are_refused(url: str) -> None:
    body = {"model": "clip", "modality": "image"}
    for path in ("/v1/embeddings", "/embeddings", "/embeddings_image"):
        reply = httpx.post(url + path, json={**body, "input": [URIS[0], "https://127.0.0.1/x"]})
        assert "Input 1 is an address" in refusal(reply)
    assert "token ids" in refusal(httpx.post(url + "/v1/embeddings", json={**body, "input": [1, 2]}))
    # A text is a text: without the modality, a data URI is read as letters.
    reply = httpx.post(url + "/v1/embeddings", json={"model": "clip", "input": URIS[0]})
    assert reply.json()["usage"]["truncated_tokens"] > 0


# -- Jina


@pytest.mark.parametrize("name", ["image", "bytes", "url"])
@pytest.mark.parametrize("task", [None, "retrieval.passage", "text-matching"])
def test_jina_s_items(clip: Encoder, url: str, name: str, task: str | None) -> None:
    items = [{name: URIS[0]}, {"text": "a cat"}, "a dog", {"content": [{"image": DIGITS[1]}]}]
    body = {"model": "clip", "input": items, "normalized": True, "truncate": True} | ({"task": task} if task else {})
    reply = httpx.post(url + "/v1/embeddings", json=body)
    inputs = [Image(FILES[0]), "a cat", "a dog", Image(FILES[1])]
    np.testing.assert_array_equal(rows(reply), np.asarray(clip.encode(inputs)))
    assert reply.json()["usage"]["total_tokens"] == int(clip.encode(inputs).tokens.sum())


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"image": "https://example.org/cat.png"}, "input 1 is an address"),
        ({"image": "a?"}, "input 1: the text is not base64"),
        ({"image": {"url": "x"}}, "input 1: image must be a string"),
        ({"pdf": "JVBERi0="}, "input 1 contains a pdf"),
        ({"text": "a", "image": URIS[0]}, "Input 1 has a text and a picture, and clip"),
        ({"content": [{"text": "a"}, {"image": URIS[0]}]}, "Input 1 has a text and a picture, and clip"),
        ({"content": [{"content": []}]}, "content within content"),
        ({"content": []}, "input 1 is empty"),
        ({"content": 3}, "content"),
    ],
)
def test_jina_s_items_that_are_refused(url: str, item: Any, words: str) -> None:
    assert words in refusal(httpx.post(url + "/v1/embeddings", json={"model": "clip", "input": ["cat", item]}), 422)


# -- Voyage


def test_voyage_s_client(clip: Encoder, url: str) -> None:
    voyage = voyageai.Client(api_key="none", base_url=url + "/v1")
    reply = voyage.multimodal_embed([[PICTURES[0]], ["a ", "cat"], [PICTURES[1]]], model="clip")
    expected = clip.encode([PICTURES[0], "a cat", PICTURES[1]])
    np.testing.assert_array_equal(np.array(reply.embeddings, np.float32), np.asarray(expected))
    assert reply.text_tokens == int(expected.tokens[1])
    assert reply.image_pixels == sum(picture.width * picture.height for picture in PICTURES[:2])
    assert (reply.video_pixels, reply.total_tokens) == (0, int(expected.tokens.sum()))
    for content, words in (
        ([{"type": "image_base64", "image_base64": DIGITS[0]}], "inputs 0 is no data URI"),
        ([{"type": "image_url", "image_url": "https://example.com/a.png"}], "inputs 0 is an address"),
        ([{"type": "image_url"}], "has no image_url"),
        ([], "inputs 0 is empty"),
    ):
        body = {"model": "clip", "inputs": [{"content": content}]}
        assert words in refusal(httpx.post(url + "/v1/multimodalembeddings", json=body))


# -- all of them


def test_a_picture_to_a_model_of_texts(url: str) -> None:
    item = {"image": URIS[0]}
    replies = [
        httpx.post(url + "/encode", json={"model": "texts", "input": [item]}),
        httpx.post(url + "/v1/embeddings", json={**chat(picture_part(URIS[0])), "model": "texts"}),
        httpx.post(url + "/v1/embeddings", json={"model": "texts", "input": URIS, "modality": "image"}),
    ]
    for reply in replies:
        assert "texts reads texts, and an input is a picture" in refusal(reply)
    jina = httpx.post(url + "/v1/embeddings", json={"model": "texts", "input": [item]})
    assert "texts reads texts, and an input is a picture" in refusal(jina, 422)


def test_the_model_that_reads_pictures_is_chosen(clip: Encoder, texts_only: Encoder) -> None:
    with serving([texts_only, clip]) as base:
        reply = httpx.post(base + "/encode", json={"input": [{"image": URIS[0]}]}).json()
    assert reply["model"] == clip.name


def test_pictures_that_are_too_large(url: str) -> None:
    large = f"data:image/png;base64,{base64.b64encode(bytes(100_001)).decode()}"
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/encode", {"model": "clip", "input": [{"image": large}]}),
        ("/v1/embeddings", chat(picture_part(large))),
        ("/v1/embeddings", {"model": "clip", "input": large, "modality": "image"}),
        ("/v1/embeddings", {"model": "clip", "input": [{"image": large}]}),
    ]
    for path, body in bodies:
        assert "has 100,001 bytes" in refusal(httpx.post(url + path, json=body), 413)


def test_one_bad_picture_ends_its_request_alone(clip: Encoder, url: str) -> None:
    damaged = base64.b64encode(FILES[0][:-40]).decode()
    reply = httpx.post(url + "/encode", json={"model": "clip", "input": [{"image": URIS[0]}, {"image": damaged}]})
    assert "Input 1" in refusal(reply)
    good = httpx.post(url + "/encode", json={"model": "clip", "input": {"image": URIS[0]}}).json()
    np.testing.assert_array_equal(np.array(good["dense"]["data"], np.float32)[0], np.asarray(clip.encode(PICTURES[0])))


def test_openapi_describes_pictures(url: str) -> None:
    document = httpx.get(url + "/openapi.json").json()
    content = document["paths"]["/encode"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/msgpack", "multipart/form-data"}
    assert "NativeEncodeForm" in content["multipart/form-data"]["schema"]["$ref"]
    assert "image" in document["components"]["schemas"]["NativePart"]["properties"]
    chat_schema = json.dumps(document["paths"]["/v1/embeddings"]["post"])
    assert "ChatEmbeddingRequest" in chat_schema
    assert "/embeddings_image" in document["paths"]
