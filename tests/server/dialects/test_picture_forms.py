"""Pictures through the APIs of Cohere, SIE, Qdrant, Google and Bedrock: the bits are those of the encoder."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import msgspec
import numpy as np
import pytest

from nearfield.encoder import Encoder
from tests.support import tiny_pictures
from tests.support.serving import serving

# The clients use features of pydantic that are deprecated.
pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `(parse_obj|dict)` method is deprecated:DeprecationWarning"),
]
TEXT = "a red dog"


FILES = tiny_pictures.png_files()
CODES = [base64.b64encode(file).decode() for file in FILES]
URIS = [f"data:image/png;base64,{code}" for code in CODES]
#: Patches and class token of a picture.
PATCHES = 17


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


@pytest.fixture(scope="module")
def url(encoder: Encoder, tiny: Encoder) -> Iterator[str]:
    with serving([encoder, tiny], max_image_bytes=100_000) as address:
        yield address


@pytest.fixture(scope="module")
def model(encoder: Encoder) -> str:
    return encoder.name


@pytest.fixture(scope="module")
def vector(encoder: Encoder) -> Any:
    """The vector of the first picture."""
    return np.asarray(encoder.encode(FILES[0]))


def post(url: str, path: str, body: Any, **headers: str) -> Any:
    """Return the response to JSON."""
    reply = httpx.post(url + path, json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def refusal(url: str, path: str, body: Any, status: int = 400) -> str:
    """Return the body of an error response as text."""
    reply = httpx.post(url + path, json=body, headers={"accept": "application/json"}, timeout=60)
    assert reply.status_code == status, reply.text
    return reply.text


VERTEX = "/v1/projects/p/locations/l/publishers/google/models/MODEL:predict"
Find = Callable[[Any], Any]
#: Paths, bodies and where the vector is in the response. URI and CODE are put in their place.
FORMS: dict[str, tuple[str, Any, Find]] = {
    "cohere v1": (
        "/v1/embed",
        {"model": "MODEL", "images": ["URI"], "input_type": "image"},
        lambda r: r["embeddings"][0],
    ),
    "cohere v2": (
        "/v2/embed",
        {"model": "MODEL", "images": ["URI"], "input_type": "image"},
        lambda r: r["embeddings"]["float"][0],
    ),
    "cohere v2, inputs": (
        "/v2/embed",
        {
            "model": "MODEL",
            "inputs": [{"content": [{"type": "image_url", "image_url": {"url": "URI"}}]}],
            "input_type": "search_document",
        },
        lambda r: r["embeddings"]["float"][0],
    ),
    "sie, base64": (
        "/v1/encode/MODEL",
        {"items": [{"images": [{"data": "CODE", "format": "png"}]}]},
        lambda r: r["items"][0]["dense"]["values"],
    ),
    "sie, uri": (
        "/v1/encode/MODEL",
        {"items": [{"images": [{"data": "URI"}]}]},
        lambda r: r["items"][0]["dense"]["values"],
    ),
    "qdrant": (
        "/qdrant/infer",
        {"inputs": [{"data": "CODE", "data_type": "image", "model": "MODEL"}]},
        lambda r: r["embeddings"][0],
    ),
    "vertex": (
        VERTEX,
        {"instances": [{"image": {"bytesBase64Encoded": "CODE"}}]},
        lambda r: r["predictions"][0]["imageEmbedding"],
    ),
    "gemini": (
        "/v1beta/models/MODEL:embedContent",
        {"content": {"parts": [{"inline_data": {"mime_type": "image/png", "data": "CODE"}}]}},
        lambda r: r["embedding"]["values"],
    ),
    "gemini, batch": (
        "/v1beta/models/MODEL:batchEmbedContents",
        {"requests": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "CODE"}}]}}]},
        lambda r: r["embeddings"][0]["values"],
    ),
    "bedrock": ("/model/MODEL/invoke", {"inputImage": "CODE"}, lambda r: r["embedding"]),
}


def filled(value: Any, model: str, code: str, uri: str) -> Any:
    """Return a path or body with the model and the picture."""
    text = json.dumps(value).replace("MODEL", model).replace('"CODE"', json.dumps(code))
    return json.loads(text.replace('"URI"', json.dumps(uri)))


@pytest.mark.parametrize("form", FORMS)
def test_the_bits_are_those_of_the_encoder(url: str, model: str, vector: Any, form: str) -> None:
    path, body, find = FORMS[form]
    reply = post(url, path.replace("MODEL", model), filled(body, model, CODES[0], URIS[0]), accept="application/json")
    np.testing.assert_array_equal(np.array(find(reply), np.float32), vector)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_refused(url: str, model: str, encoder: Encoder, form: str) -> None:
    path, body, _ = FORMS[form]

    def error(code: str, name: str = model, status: int = 400) -> str:
        found = filled(body, name, code, f"data:image/png;base64,{code}")
        return refusal(url, path.replace("MODEL", name), found, status)

    assert "is not base64: it has the character" in error("iVBO!w0KGgo=")
    assert "truncated" in error(CODES[0][:-40]) or "cannot be decoded" in error(CODES[0][:-40])
    assert "reads texts, and an input is a picture" in error(CODES[0], "tiny")
    assert "At most 100,000 bytes" in error(base64.b64encode(bytes(100_001)).decode(), model, 413)
    for address in ("http://127.0.0.1:9/a.png", "https://169.254.169.254/latest/meta-data"):
        found = filled(body, model, address, address)
        assert "fetching is off" in refusal(url, path.replace("MODEL", model), found)
    found = filled(body, model, "file:///etc/passwd", "file:///etc/passwd")
    assert "is an address that is not fetched" in refusal(url, path.replace("MODEL", model), found)


def test_cohere_client(url: str, model: str, encoder: Encoder) -> None:
    with cohere.ClientV2("none", base_url=url, max_retries=0) as client:
        reply = client.embed(model=model, images=URIS[:2], input_type="image", embedding_types=["float", "ubinary"])
        np.testing.assert_array_equal(
            np.array(reply.embeddings.float_, np.float32), np.asarray(encoder.encode(FILES[:2]))
        )
        assert reply.images is not None and reply.meta is not None and reply.meta.billed_units is not None
        sizes = [(image.width, image.height, image.format, image.bit_depth) for image in reply.images]
        assert sizes == [(60, 40, "png", 24), (33, 100, "png", 24)]
        units = reply.meta.billed_units
        assert (units.images, units.input_tokens, units.image_tokens) == (2, 0, 2 * PATCHES)
        inputs: Any = [
            {"content": [{"type": "text", "text": TEXT}]},
            {"content": [{"type": "image_url", "image_url": {"url": URIS[0]}}]},
        ]
        mixed = client.embed(model=model, inputs=inputs, input_type="search_document", embedding_types=["float"])
        expected = [np.asarray(encoder.encode(item)) for item in (TEXT, FILES[0])]
        np.testing.assert_allclose(np.array(mixed.embeddings.float_, np.float32), expected, atol=1e-6)
        assert mixed.texts == [TEXT] and mixed.images is not None and len(mixed.images) == 1
        both: Any = [{"content": inputs[0]["content"] + inputs[1]["content"]}]
        with pytest.raises(cohere.BadRequestError, match="a text and a picture, and"):
            client.embed(model=model, inputs=both, input_type="search_document")
        with pytest.raises(cohere.BadRequestError, match="the request has texts"):
            client.embed(model=model, texts=[TEXT], input_type="image")
    with cohere.Client("none", base_url=url, max_retries=0) as first:
        old: Any = first.embed(model=model, images=URIS[:1], input_type="image")
        np.testing.assert_array_equal(np.array(old.embeddings, np.float32)[0], np.asarray(encoder.encode(FILES[0])))


def test_sie_in_msgpack(url: str, model: str, vector: Any) -> None:
    body = {"items": [{"id": "a", "images": [{"data": FILES[0], "format": "png"}]}, {"text": TEXT}]}
    headers = {"content-type": "application/msgpack", "accept": "application/msgpack"}
    reply = httpx.post(f"{url}/v1/encode/{model}", content=msgspec.msgpack.encode(body), headers=headers)
    decoded = msgspec.msgpack.decode(reply.content)
    values = decoded["items"][0]["dense"]["values"]
    np.testing.assert_allclose(np.frombuffer(values[b"data"], "<f4"), vector, atol=1e-6)
    assert decoded["usage"]["images"] == 1 and decoded["usage"]["input_tokens"] > PATCHES
    path = f"/v1/encode/{model}"
    assert "Input 0 has a text and a picture" in refusal(
        url, path, {"items": [{"text": "a", "images": [{"data": CODES[0]}]}]}
    )
    assert "2 pictures" in refusal(url, path, {"items": [{"images": [{"data": CODES[0]}] * 2}]})
    assert "not int" in refusal(url, path, {"items": [{"images": [{"data": 3}]}]})
    assert "an input is a sound" in refusal(url, path, {"items": [{"audio": {"data": CODES[0]}}]})
    assert "The video is a picture (PNG)" in refusal(url, path, {"items": [{"video": {"data": CODES[0]}}]})
    models = httpx.get(f"{url}/v1/models", headers={"x-sie-sdk-version": "0.10.1"}).json()["models"]
    assert {each["name"]: each["inputs"] for each in models}[model] == ["text", "image", "video"]


def test_sie_sdk(url: str, model: str, encoder: Encoder, vector: Any, tmp_path: Path) -> None:
    package = pytest.importorskip("sie_sdk", reason="pip install sie-sdk (Python 3.12) in an environment of its own")
    with package.SIEClient(url) as client:
        np.testing.assert_array_equal(client.encode(model, {"images": [FILES[0]]})["dense"], vector)
        # Paths, arrays and Pillow's pictures are sent as JPEG.
        path = tmp_path / "a.png"
        path.write_bytes(FILES[0])
        pixels = np.asarray(tiny_pictures.pictures()[0])
        for source in (path, str(path), pixels, tiny_pictures.pictures()[0]):
            expected = np.asarray(encoder.encode(package.images.to_jpeg_bytes(source)))
            np.testing.assert_array_equal(client.encode(model, {"images": [source]})["dense"], expected)
            assert not np.array_equal(expected, vector)


def test_qdrant_mixes_texts_and_pictures(url: str, model: str, encoder: Encoder, vector: Any) -> None:
    items = [(TEXT, "text"), (CODES[0], "image"), (TEXT, "text")]
    body = {"inputs": [{"data": data, "data_type": kind, "model": model} for data, kind in items]}
    rows = np.array(post(url, "/qdrant/infer", body)["embeddings"], np.float32)
    of_text = np.asarray(encoder.encode(TEXT))
    np.testing.assert_allclose(rows, [of_text, vector, of_text], atol=1e-6)
    body["inputs"][0]["data_type"] = "object"
    assert "is 'object'" in refusal(url, "/qdrant/infer", body)


def test_vertex(url: str, model: str, encoder: Encoder, vector: Any) -> None:
    path = VERTEX.replace("MODEL", model)
    body = {"instances": [{"text": TEXT, "image": {"bytesBase64Encoded": CODES[0]}}]}
    (prediction,) = post(url, path, body)["predictions"]
    np.testing.assert_allclose(prediction["imageEmbedding"], vector, atol=1e-6)
    np.testing.assert_allclose(prediction["textEmbedding"], np.asarray(encoder.encode(TEXT)), atol=1e-6)
    assert set(prediction) == {"imageEmbedding", "textEmbedding"}
    texts = {"instances": [{"content": "cat", "task_type": "RETRIEVAL_QUERY"}, {"content": "cat"}]}
    first, second = post(url, path.replace("/v1/", "/v1beta1/").replace(model, "tiny"), texts)["predictions"]
    assert first["embeddings"]["values"] != second["embeddings"]["values"]
    assert first["embeddings"]["statistics"]["truncated"] is False
    assert second["embeddings"]["statistics"]["token_count"] > 2
    error = json.loads(refusal(url, path, {"instances": [{"image": {"gcsUri": "gs://a/b"}}]}))["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT") and "gcsUri" in error["message"]
    assert "video" in refusal(url, path, {"instances": [{"video": {"gcsUri": "gs://a/b"}}]})
    assert "none of text" in refusal(url, path, {"instances": [{}]})
    assert "dimension" in refusal(url, path, {**body, "parameters": {"dimension": 128}})
    unknown = refusal(url, path.replace(model, "nothing"), body, 404)
    assert json.loads(unknown)["error"]["status"] == "NOT_FOUND"


def test_gemini(url: str, model: str, encoder: Encoder, vector: Any) -> None:
    path = "/v1/models/tiny:batchEmbedContents"
    contents = [{"parts": [{"text": "cat"}, {"text": "dog"}]}, {"parts": [{"text": "cat\ndog"}]}]
    requests: list[dict[str, Any]] = [{"model": "models/tiny", "content": content} for content in contents]
    requests.insert(1, {"content": contents[1], "taskType": "RETRIEVAL_QUERY"})
    requests.append({"content": contents[1], "embedContentConfig": {"task_type": "RETRIEVAL_QUERY"}})
    rows = [each["values"] for each in post(url, path, {"requests": requests})["embeddings"]]
    np.testing.assert_allclose([rows[0], rows[1]], [rows[2], rows[3]], atol=1e-6)
    assert rows[0] != rows[1]
    mixed = {"parts": [{"text": "cat"}, {"inlineData": {"data": CODES[0]}}]}
    assert "content has a text and a picture" in refusal(
        url, f"/v1beta/models/{model}:embedContent", {"content": mixed}
    )
    assert "needs parts" in refusal(url, f"/v1beta/models/{model}:embedContent", {"content": {"parts": [{}]}})
    assert "needs parts" in refusal(url, f"/v1beta/models/{model}:embedContent", {})


def test_bedrock(url: str, model: str, encoder: Encoder, vector: Any) -> None:
    path, of_text = f"/model/{model}/invoke", np.asarray(encoder.encode(TEXT))
    both = post(url, path, {"inputText": TEXT, "inputImage": CODES[0]})
    np.testing.assert_allclose(both["embedding"], (of_text + vector) / 2, atol=1e-6)
    alone = post(url, path, {"inputText": TEXT, "embeddingTypes": ["binary", "float"]})
    np.testing.assert_allclose(alone["embedding"], of_text, atol=1e-6)
    assert alone["embeddingsByType"]["binary"] == (of_text > 0).astype(int).tolist()
    assert alone["inputTextTokenCount"] == both["inputTextTokenCount"] == int(encoder.encode([TEXT]).tokens.sum())
    assert post(url, path, {"inputImage": CODES[0]})["inputTextTokenCount"] == 0
    reply = httpx.post(url + path, json={})
    assert (reply.status_code, reply.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert "send at least one" in reply.json()["message"]
    sized = httpx.post(url + path, json={"inputText": TEXT, "embeddingConfig": {"outputEmbeddingLength": 8}})
    assert "outputEmbeddingLength" in sized.json()["message"]


def test_a_key_in_the_header_of_google(encoder: Encoder) -> None:
    body = {"content": {"parts": [{"text": "cat"}]}}
    with serving([encoder], api_keys=["secret"]) as address:
        path = f"{address}/v1beta/models/{encoder.name}:embedContent"
        assert httpx.post(path, json=body, headers={"x-goog-api-key": "secret"}).status_code == 200
        for headers in ({}, {"x-goog-api-key": "wrong"}):
            reply = httpx.post(path, json=body, headers=headers)
            assert reply.status_code == 401
            assert reply.json()["error"]["status"] == "UNAUTHENTICATED"


BAD = base64.b64encode(b"no picture").decode()
GEMINI_BAD = {"content": {"parts": [{"inlineData": {"data": BAD}}]}}
GEMINI_TEXT = {"content": {"parts": [{"text": "cat"}]}}


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (
            "/v1beta/models/clip:batchEmbedContents",
            {"requests": [{**GEMINI_TEXT, "taskType": "RETRIEVAL_QUERY"}, GEMINI_TEXT, GEMINI_BAD]},
            "requests[2].content: The picture",
        ),
        (
            "/v1/projects/p/locations/l/publishers/google/models/clip:predict",
            {
                "instances": [
                    {"text": TEXT, "image": {"bytesBase64Encoded": CODES[0]}},
                    {"image": {"bytesBase64Encoded": BAD}},
                ]
            },
            "instances[1]: The picture",
        ),
        (
            "/qdrant/infer",
            {
                "inference": "search",
                "inputs": [
                    {"data": TEXT, "data_type": "text", "model": "clip", "options": {"normalize": False}},
                    {"data": BAD, "data_type": "image", "model": "clip"},
                ],
            },
            "Input 1: The picture",
        ),
        ("/weaviate/clip/vectorize", {"texts": [TEXT], "images": [CODES[0], BAD]}, "images[1]: The picture"),
    ],
)
def test_errors_name_the_input_as_the_request_numbers_it(url: str, path: str, body: Any, name: str) -> None:
    assert name in refusal(url, path, body)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"text": "cat", "fileData": {"fileUri": "https://example.com/a.png"}}, "content has fileData"),
        ({"file_data": {"file_uri": "gs://a/b"}}, "which is not fetched"),
        ({"inlineData": {"data": CODES[0]}, "videoMetadata": {"fps": 5}}, "there is no 'videoMetadata'"),
        ({"inlineData": {"data": CODES[0]}, "inline_data": {"data": CODES[1]}}, "send one of them"),
    ],
)
def test_no_field_of_a_part_of_gemini_is_ignored(url: str, part: Any, message: str) -> None:
    assert message in refusal(url, "/v1beta/models/clip:embedContent", {"content": {"parts": [part]}})
