"""The official OpenAI client, over a real socket."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import ModelNotFound, Overloaded
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder
from tests.support.serving import serving

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        yield client


def _vectors(reply: Any) -> Any:
    assert [item.index for item in reply.data] == list(range(len(reply.data)))
    return np.array([item.embedding for item in reply.data], np.float32)


def test_a_text_and_a_list(client: openai.OpenAI, tiny: Encoder) -> None:
    one = client.embeddings.create(model="tiny", input=TEXTS[0])
    many = client.embeddings.create(model="tiny", input=TEXTS, user="somebody")
    np.testing.assert_allclose(_vectors(many), np.asarray(tiny.encode(TEXTS)), atol=1e-6)
    np.testing.assert_allclose(_vectors(one)[0], _vectors(many)[0], atol=1e-6)
    assert (many.object, many.model) == ("list", "tiny")


def test_the_name_that_pages_of_tei_use_stands_for_the_first_model(fleet: dict[str, Any], tiny: Encoder) -> None:
    name = "text-embeddings-inference"
    for models, expected in (
        ([fleet["reranker"], tiny], tiny),
        (ModelPool([tiny, fleet["m3"]], {fleet["m3"].name: [name]}), fleet["m3"]),  # a model that has the name
    ):
        with serving(models) as base, openai.OpenAI(base_url=base + "/v1", api_key="x") as other:
            reply = other.embeddings.create(model=name, input=TEXTS)
        assert reply.model == expected.name
        np.testing.assert_allclose(_vectors(reply), np.asarray(expected.encode(TEXTS)), atol=1e-6)


def test_usage_counts_the_tokens_read(client: openai.OpenAI, tiny: Encoder) -> None:
    reply = client.embeddings.create(model="tiny", input=TEXTS)
    read = sum(len(tokens.ids) for tokens in tiny.tokenize(TEXTS))
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (read, read)


def test_base64_and_float_are_equal(client: openai.OpenAI) -> None:
    coded = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="base64")
    plain = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float")
    raw = [np.frombuffer(base64.b64decode(str(item.embedding)), "<f4") for item in coded.data]
    np.testing.assert_array_equal(np.stack(raw), _vectors(plain))
    np.testing.assert_array_equal(_vectors(client.embeddings.create(model="tiny", input=TEXTS)), _vectors(plain))


def test_token_ids_of_the_model(tiny: Encoder) -> None:
    ids = [tokens.ids for tokens in tiny.tokenize(TEXTS)]
    expected = np.asarray(tiny.encode(TEXTS))
    with serving([tiny], token_ids="native") as base, openai.OpenAI(base_url=base + "/v1", api_key="x") as client:
        many, one = (client.embeddings.create(model="tiny", input=value) for value in (ids, ids[0]))
        with pytest.raises(openai.BadRequestError, match="token ids, which cannot take the prompt"):
            client.embeddings.create(model="tiny", input=ids, extra_body={"input_type": "query"})
    np.testing.assert_allclose(_vectors(many), expected, atol=1e-6)
    np.testing.assert_allclose(_vectors(one)[0], expected[0], atol=1e-6)


def test_token_ids_of_cl100k_are_decoded_to_text(client: openai.OpenAI, tiny: Encoder) -> None:
    # tiktoken's own: tiktoken.get_encoding("cl100k_base").encode("hello world")
    reply = client.embeddings.create(model="tiny", input=[[15339, 1917]])
    np.testing.assert_array_equal(_vectors(reply)[0], np.asarray(tiny.encode("hello world")))
    with pytest.raises(openai.BadRequestError, match="100300 is no token id of cl100k_base"):
        client.embeddings.create(model="tiny", input=[[100_300]])


def test_token_ids_may_be_refused(tiny: Encoder) -> None:
    with serving([tiny], token_ids="reject") as base:
        client = openai.OpenAI(base_url=base + "/v1", api_key="x")
        with client, pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
            client.embeddings.create(model="tiny", input=[[15339, 1917]])


def test_two_thousand_and_more_inputs(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model="tiny", input=["cat"] * 2048).data) == 2048


def test_roles_prompts_and_instructions(client: openai.OpenAI, tiny: Encoder) -> None:
    def ask(**extra: str) -> Any:
        return _vectors(client.embeddings.create(model="tiny", input="cat", extra_body=extra))

    np.testing.assert_allclose(ask(input_type="query"), np.asarray(tiny.encode_query(["cat"])), atol=1e-6)
    np.testing.assert_allclose(ask(input_type="document"), np.asarray(tiny.encode_document(["cat"])), atol=1e-6)
    np.testing.assert_allclose(ask(prompt_name="query"), ask(input_type="query"), atol=1e-6)
    np.testing.assert_allclose(ask(instruction="red "), np.asarray(tiny.encode(["red cat"])), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "binary", "ubinary"])
def test_quantised_lists_and_bytes(client: openai.OpenAI, tiny: Encoder, dtype: str) -> None:
    expected = tiny.encode(TEXTS, precision=dtype)
    extra = {"embedding_dtype": dtype}
    listed = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="float", extra_body=extra)
    np.testing.assert_allclose(_vectors(listed), expected.data.astype(np.float32), atol=1e-3)
    coded = client.embeddings.create(model="tiny", input=TEXTS, encoding_format="base64", extra_body=extra)
    raw = np.stack([np.frombuffer(base64.b64decode(str(item.embedding)), expected.data.dtype) for item in coded.data])
    np.testing.assert_array_equal(raw, expected.data)


@pytest.mark.slow
def test_dimensions(tmp_path: Path, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="was not trained") as refusal:
        client.embeddings.create(model="tiny", input="cat", dimensions=8)
    assert refusal.value.param == "dimensions"
    assert "Leave dimensions out." in refusal.value.message
    whole = _vectors(client.embeddings.create(model="tiny", input="cat", dimensions=32))
    assert whole.shape == (1, 32)
    with tiny_encoder(tmp_path / "m", precision="float32") as encoder:
        object.__setattr__(encoder.recipe, "matryoshka", (8, 16, 32))
        with serving([encoder]) as base, openai.OpenAI(base_url=base + "/v1", api_key="x") as other:
            short = _vectors(other.embeddings.create(model="m", input="cat", dimensions=8))
        assert short.shape == (1, 8)
        assert abs(float(np.linalg.norm(short)) - 1) < 1e-6


def test_fields_of_infinity_s_client(url: str, tiny: Encoder) -> None:
    body = {"model": "tiny", "input": ["cat"], "dimensions": 0, "modality": "text"}
    reply = httpx.post(url + "/embeddings", json=body)
    assert "x-nearfield-ignored-fields" not in reply.headers
    np.testing.assert_array_equal(
        np.array([reply.json()["data"][0]["embedding"]], np.float32), np.asarray(tiny.encode(["cat"]))
    )
    refused = httpx.post(url + "/embeddings", json={**body, "modality": "image"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
    assert "reads texts" in refused.json()["detail"]


def test_truncation_is_reported_or_refused(client: openai.OpenAI, tiny: Encoder) -> None:
    long = "cat " * 100
    reply = client.embeddings.with_raw_response.create(model="tiny", input=long)
    assert reply.headers["x-nearfield-truncated-tokens"] == "38"
    assert reply.parse().usage.to_dict()["truncated_tokens"] == 38
    mixed = "dog " * 40 + "cat " * 40
    left = client.embeddings.create(model="tiny", input=mixed, extra_body={"truncate": "left"})
    np.testing.assert_allclose(_vectors(left), np.asarray(tiny.encode([mixed], truncate="left")), atol=1e-6)
    right = client.embeddings.create(model="tiny", input=mixed, extra_body={"truncate": "right"})
    assert np.abs(_vectors(left) - _vectors(right)).max() > 0.01
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(model="tiny", input=long, extra_body={"truncate": "error"})
    assert refusal.value.code == "input_too_long"


def test_models(client: openai.OpenAI, url: str) -> None:
    listed = list(client.models.list())
    assert [model.id for model in listed] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "local"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("tony")
    assert httpx.get(url + "/v1/models/some%2Ftiny").json()["error"]["code"] == "model_not_found"


def test_models_without_v1_in_the_base_url(client: openai.OpenAI, url: str) -> None:
    expected = next(iter(client.models.list())).to_dict()
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as plain:
        listed = plain.models.list()
        assert listed.object == "list"
        assert [(model.id, model.created, model.owned_by) for model in listed] == [
            (expected["id"], expected["created"], "local")
        ]
        assert plain.models.retrieve("tiny").to_dict() == expected
        with pytest.raises(openai.NotFoundError):
            plain.models.retrieve("tony")
        assert plain.embeddings.create(model="tiny", input="cat").model == "tiny"


@pytest.mark.slow
def test_ids_with_a_slash(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "tiny") as encoder:
        object.__setattr__(encoder.recipe, "name", "some/tiny")
        with serving([encoder]) as base:
            for path in ("/v1/models/some/tiny", "/v1/models/some%2Ftiny"):
                assert httpx.get(base + path).json()["id"] == "some/tiny"
            with openai.OpenAI(base_url=base + "/v1", api_key="x") as client:
                assert client.models.retrieve("some/tiny").id == "some/tiny"
                assert client.embeddings.create(model="tiny", input="short name").model == "tiny"


def test_a_short_name_shared_by_two_models_is_unknown(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "a") as one, tiny_encoder(tmp_path / "b") as other:
        object.__setattr__(one.recipe, "name", "one/tiny")
        object.__setattr__(other.recipe, "name", "other/tiny")
        models = ModelPool([one, other], {"one/tiny": ["other/tiny", "mine"]})
        assert models.entry("ONE/tiny").model is models.entry("mine").model is one
        assert models.entry("other/tiny").model is other
        with pytest.raises(ModelNotFound, match="one/tiny, other/tiny"):
            models.entry("tiny")


def test_errors_raise_the_client_s_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="tinny", input="cat")
    assert unknown.value.code == "model_not_found"
    assert "Did you mean 'tiny'" in str(unknown.value)
    with pytest.raises(openai.BadRequestError) as empty:
        client.embeddings.create(model="tiny", input=[])
    assert empty.value.param == "input"
    with pytest.raises(openai.BadRequestError) as twice:
        client.embeddings.create(
            model="tiny", input="cat", extra_body={"instruction": "find: ", "prompt_name": "query"}
        )
    assert twice.value.param == "instruction"  # the API's name for it, not the encoder's
    with pytest.raises(openai.BadRequestError, match="encoding_format"):
        client.embeddings.create(model="tiny", input="cat", encoding_format="hex")  # type: ignore[arg-type]


def test_the_client_retries_when_the_header_says_so(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, calls = tiny.run_encode, []

    async def full_at_first(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) % 2:
            raise Overloaded("The queue is full.", retry_after=0.01)
        return await encode(*args, **options)

    monkeypatch.setattr(tiny, "run_encode", full_at_first)
    with serving([tiny]) as base, openai.OpenAI(base_url=base + "/v1", api_key="x", max_retries=1) as client:
        assert client.embeddings.create(model="tiny", input="cat").data
        with pytest.raises(openai.RateLimitError) as refusal:
            client.with_options(max_retries=0).embeddings.create(model="tiny", input="cat")
    assert (len(calls), refusal.value.code) == (3, "overloaded")
    assert refusal.value.response.headers["retry-after-ms"] == "10"


def test_request_ids_and_ignored_fields(client: openai.OpenAI, url: str) -> None:
    reply = client.embeddings.with_raw_response.create(model="tiny", input="cat", extra_body={"colour": "red"})
    assert len(reply.headers["x-request-id"]) == 32
    assert reply.headers["x-nearfield-ignored-fields"] == "colour"
    assert reply.headers["x-nearfield-fingerprint"].endswith(":32:float32")
    mine = httpx.get(url + "/health", headers={"x-request-id": "abc-1"})
    assert mine.headers["x-request-id"] == "abc-1"
    assert len(httpx.get(url + "/health", headers={"x-request-id": "not sane" * 9}).headers["x-request-id"]) == 32


@pytest.mark.slow
async def test_the_asynchronous_client(url: str, tiny: Encoder) -> None:
    import asyncio

    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none") as client:
        replies = await asyncio.gather(
            *(client.embeddings.create(model="tiny", input=[f"cat {n}", "dog"]) for n in range(30))
        )
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="none", input="cat")
    np.testing.assert_allclose(_vectors(replies[9])[0], np.asarray(tiny.encode("cat 9")), atol=1e-6)


@pytest.mark.slow
def test_keys(tmp_path: Path, tiny: Encoder) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"# ours\nplain-key  # comment\nwith#mark\nsha256:{hashlib.sha256(b'hashed-key').hexdigest()}\n")
    with serving([tiny], api_keys=["flag-key", "schl\u00fcssel"], api_key_file=file) as base:
        accented = {b"Authorization": "Bearer schl\u00fcssel".encode()}
        assert httpx.get(base + "/v1/models", headers=accented).status_code == 200
        for key in ("flag-key", "plain-key", "hashed-key", "with#mark"):
            with openai.OpenAI(base_url=base + "/v1", api_key=key) as client:
                assert client.embeddings.create(model="tiny", input="cat").data
                assert list(client.models.list())
        for key in ("wrong", "flag-ke", "with", "sha256:" + "0" * 64):
            with openai.OpenAI(base_url=base + "/v1", api_key=key) as client:
                with pytest.raises(openai.AuthenticationError) as refusal:
                    client.embeddings.create(model="tiny", input="cat")
                assert refusal.value.code == "invalid_api_key"
                with pytest.raises(openai.AuthenticationError):
                    client.models.list()
        body = {"model": "tiny", "input": "cat"}
        assert httpx.post(base + "/v1/embeddings", json=body).status_code == 401
        assert httpx.post(base + "/v1/embeddings", json=body, headers={"Authorization": "flag-key"}).status_code == 200
        assert httpx.get(base + "/metrics").status_code == 401
        assert httpx.get(base + "/health").status_code == httpx.get(base + "/ready").status_code == 200
