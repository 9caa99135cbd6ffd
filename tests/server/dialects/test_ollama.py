"""Ollama's official client over a real socket, frameworks that build on it, and requests of its command line."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import ollama
import pytest

from nearfield import __version__, catalog, settings
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused, Overloaded
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.app import create_app
from nearfield.server.dialects.ollama import schemas
from nearfield.server.dialects.ollama.requests import parse_keep_alive
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.support.serving import serving

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
LONG = "cat " * 100
#: Frameworks never close their clients: each connection is for one request.
ONCE: Any = {"headers": {"Connection": "close"}}


@pytest.fixture(scope="module")
def client(fleet_url: str) -> Iterator[ollama.Client]:
    with ollama.Client(host=fleet_url) as client:
        yield client


@pytest.fixture(scope="module")
def http(fleet_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet_url, timeout=60) as client:
        yield client


def _array(rows: Any) -> Any:
    return np.array(rows, np.float32)


def _refused(status: int, reply: httpx.Response) -> str:
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert body.keys() == {"error"}
    assert isinstance(body["error"], str)
    return str(body["error"])


# -- vectors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiny", "m3"])
def test_one_text_has_the_vector_of_python(client: ollama.Client, fleet: dict[str, LoadedModel], kind: str) -> None:
    encoder: Any = fleet[kind]
    for text in TEXTS:
        reply = client.embed(model=encoder.name, input=text)
        np.testing.assert_array_equal(_array(reply.embeddings), np.asarray(encoder.encode([text])))
        assert reply.prompt_eval_count == len(encoder.tokenize([text])[0].ids)


def test_a_list_of_texts_keeps_its_order(client: ollama.Client, tiny: Encoder) -> None:
    vectors = _array(client.embed(model="tiny", input=TEXTS).embeddings)
    np.testing.assert_allclose(vectors, np.asarray(tiny.encode(TEXTS)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_model_name_is_returned_unchanged(client: ollama.Client) -> None:
    for name in ("tiny", "TINY", "tiny:latest", "Tiny-Model:LATEST"):
        reply = client.embed(model=name, input="cat")
        assert reply.model == name
        assert len(reply.embeddings) == 1


def test_durations_are_nanoseconds(http: httpx.Client) -> None:
    reply = http.post("/api/embed", json={"model": "tiny", "input": "cat"}).json()
    assert 0 < reply["load_duration"] < reply["total_duration"] < 60e9
    assert all(isinstance(reply[name], int) for name in ("load_duration", "total_duration", "prompt_eval_count"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A model whose vectors are not of unit length."""
    folder = write_tiny_model(tmp_path_factory.mktemp("plain") / "plain")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        yield encoder


def test_embed_normalises_and_embeddings_does_not(plain: Encoder) -> None:
    own = np.asarray(plain.encode([TEXTS[0]]))
    assert abs(np.linalg.norm(own) - 1) > 0.1
    with serving([plain]) as url, ollama.Client(host=url) as client:
        np.testing.assert_array_equal(_array(client.embeddings(model="plain", prompt=TEXTS[0]).embedding), own[0])
        unit = _array(client.embed(model="plain", input=TEXTS[0]).embeddings)
    np.testing.assert_array_equal(unit, np.asarray(plain.encode([TEXTS[0]], normalize_embeddings=True)))
    np.testing.assert_allclose(np.linalg.norm(unit), 1, atol=1e-6)


def test_the_older_endpoint(client: ollama.Client, tiny: Encoder) -> None:
    reply = client.embeddings(model="tiny", prompt=TEXTS[0], options={"num_ctx": 8}, keep_alive="5m")
    np.testing.assert_array_equal(_array(reply.embedding), np.asarray(tiny.encode([TEXTS[0]]))[0])
    assert client.embeddings(model="tiny", prompt="").embedding == []


def test_dimensions(tmp_path: Path, client: ollama.Client, tiny: Encoder) -> None:
    with pytest.raises(ollama.ResponseError, match="was not trained") as refusal:
        client.embed(model="tiny", input="cat", dimensions=8)
    assert refusal.value.status_code == 400
    whole = np.asarray(tiny.encode(["cat"]))
    for ignored in (0, 32, 33, 10**9):
        np.testing.assert_array_equal(
            _array(client.embed(model="tiny", input="cat", dimensions=ignored).embeddings), whole
        )
    with pytest.raises(ollama.ResponseError, match="not -1"):
        client.embed(model="tiny", input="cat", dimensions=-1)
    with tiny_encoder(tmp_path / "m", precision="float32") as encoder:
        object.__setattr__(encoder.recipe, "matryoshka", (4, 8, 32))
        with serving([encoder]) as url, ollama.Client(host=url) as other:
            short = _array(other.embed(model="m", input="cat", dimensions=4).embeddings)
        np.testing.assert_array_equal(short, np.asarray(encoder.encode(["cat"], truncate_dim=4)))
    assert short.shape == (1, 4)
    np.testing.assert_allclose(np.linalg.norm(short), 1, atol=1e-6)


def test_long_inputs_are_truncated_unless_truncate_is_false(
    client: ollama.Client, http: httpx.Client, tiny: Encoder
) -> None:
    truncated = http.post("/api/embed", json={"model": "tiny", "input": LONG})
    assert truncated.headers["x-nearfield-truncated-tokens"] == "38"
    assert truncated.json()["prompt_eval_count"] == 64
    np.testing.assert_array_equal(_array(truncated.json()["embeddings"]), np.asarray(tiny.encode([LONG])))
    older = http.post("/api/embeddings", json={"model": "tiny", "prompt": LONG})
    assert older.headers["x-nearfield-truncated-tokens"] == "38"
    with pytest.raises(ollama.ResponseError) as refusal:
        client.embed(model="tiny", input=["cat", LONG], truncate=False)
    assert refusal.value.status_code == 400
    assert refusal.value.error.startswith("the input length exceeds the context length")
    assert len(client.embed(model="tiny", input=["cat"], truncate=False).embeddings) == 1


def test_null_is_as_if_left_out(http: httpx.Client, tiny: Encoder) -> None:
    nothing = dict.fromkeys(("truncate", "dimensions", "keep_alive", "options", "name"))
    reply = http.post("/api/embed", json={"model": "tiny", "input": LONG, **nothing}).json()
    np.testing.assert_array_equal(_array(reply["embeddings"]), np.asarray(tiny.encode([LONG])))
    older = http.post("/api/embeddings", json={"model": None, "name": "tiny", "prompt": None, "keep_alive": None})
    assert older.json() == {"embedding": []}
    assert http.post("/api/show", json={"model": "tiny", "name": None, "verbose": None}).status_code == 200
    pulled = http.post("/api/pull", json={"model": "tiny", "stream": None, "insecure": None})
    assert pulled.headers["content-type"] == "application/x-ndjson"
    assert _refused(400, http.post("/api/embed", json={"model": None, "input": "cat"})) == "model is required"


@pytest.mark.parametrize("body", [{"input": ""}, {"input": []}, {"input": None}, {}])
def test_no_input_returns_no_vectors(http: httpx.Client, body: dict[str, Any]) -> None:
    reply = http.post("/api/embed", json={"model": "tiny", **body})
    assert (reply.status_code, reply.json()) == (200, {"model": "tiny", "embeddings": []})
    assert http.post("/api/embed", json={"model": "nope", **body}).status_code == 404


def test_an_empty_text_in_a_list_is_a_text(client: ollama.Client, tiny: Encoder) -> None:
    np.testing.assert_array_equal(
        _array(client.embed(model="tiny", input=[""]).embeddings), np.asarray(tiny.encode([""]))
    )


def test_a_large_reply(client: ollama.Client, tiny: Encoder) -> None:
    vectors = _array(client.embed(model="tiny", input=TEXTS * 1000).embeddings)
    np.testing.assert_allclose(vectors, np.tile(np.asarray(tiny.encode(TEXTS)), (1000, 1)), atol=1e-6)


async def test_the_asynchronous_client(fleet_url: str, tiny: Encoder) -> None:
    async with ollama.AsyncClient(host=fleet_url) as client:
        reply = await client.embed(model="tiny", input=TEXTS[0])
        np.testing.assert_array_equal(_array(reply.embeddings), np.asarray(tiny.encode([TEXTS[0]])))
        assert (await client.embeddings(model="tiny", prompt="cat")).embedding
        assert (await client.list()).models
        steps = [step.status async for step in await client.pull("tiny", stream=True)]
        assert steps[-1] == "success"
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.embed(model="nope", input="cat")


# -- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [5, True, {"text": "cat"}, [1, 2], [["cat"]], ["cat", None], [[1, 2]]])
def test_only_texts_are_inputs(http: httpx.Client, value: Any) -> None:
    message = _refused(400, http.post("/api/embed", json={"model": "tiny", "input": value}))
    assert message.startswith("invalid input type")


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/api/show", "/api/pull", "/api/generate"])
def test_no_body_no_model_or_an_unknown_one(http: httpx.Client, path: str) -> None:
    assert _refused(400, http.post(path)) == "missing request body"
    assert _refused(400, http.post(path, json={})) == "model is required"
    message = _refused(404, http.post(path, json={"model": 'no"pe', "input": "x", "prompt": "x"}))
    assert message.startswith('model "no\\"pe" not found, try pulling it first')
    assert "nearfield serve" in message
    assert _refused(404, http.post(path, json={"model": "tinny", "input": "x", "prompt": "x"})).count("'tiny'")
    assert _refused(400, http.post(path, content=b"{"))
    assert _refused(400, http.post(path, json={"model": 5}))
    assert _refused(404, http.post(path, content=b'{"model": "\xc3\xa9"}'))


def test_a_reranker_has_no_vectors(http: httpx.Client, fleet: dict[str, LoadedModel]) -> None:
    name = fleet["reranker"].name
    for path, text in (("/api/embed", "input"), ("/api/embeddings", "prompt")):
        assert "gives no vectors" in _refused(400, http.post(path, json={"model": name, text: "cat"}))


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_models_that_embed_do_not_generate(http: httpx.Client, path: str) -> None:
    assert _refused(400, http.post(path, json={"model": "tiny"})).startswith('"tiny" does not support generate')


def test_a_full_queue_is_503(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> Any:
        raise Overloaded("The queue is full.", retry_after=2)

    monkeypatch.setattr(tiny, "run_encode", full)
    with serving([tiny]) as url:
        reply = httpx.post(url + "/api/embed", json={"model": "tiny", "input": "cat"})
    assert _refused(503, reply).startswith("server busy, please try again")
    assert reply.headers["retry-after"] == "2"


def test_keys(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([tiny], api_keys=["right"]) as url:
        assert httpx.get(url).text == "Ollama is running"
        for path in ("/api/tags", "/api/version", "/api/ps"):
            assert _refused(401, httpx.get(url + path))
        assert _refused(401, httpx.post(url + "/api/embed", json={"model": "tiny", "input": "cat"}))
        monkeypatch.setenv("OLLAMA_API_KEY", "right")
        with ollama.Client(host=url) as client:
            assert client.embed(model="tiny", input="cat").embeddings
        monkeypatch.setenv("OLLAMA_API_KEY", "wrong")
        with ollama.Client(host=url) as client, pytest.raises(ollama.ResponseError) as refusal:
            client.list()
    assert refusal.value.status_code == 401


def test_content_type_is_ignored_except_from_a_web_page(tiny: Encoder) -> None:
    curl = {"content-type": "application/x-www-form-urlencoded", "authorization": "Bearer right"}
    body = b'{"model": "tiny", "input": "cat"}'
    with serving([tiny], api_keys=["right"]) as url:
        assert len(httpx.post(url + "/api/embed", content=body, headers=curl).json()["embeddings"]) == 1
        page = {**curl, "origin": "http://elsewhere.example"}
        assert "application/json" in _refused(415, httpx.post(url + "/api/embed", content=body, headers=page))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), (300, 300), (0, 0), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("0", 0), ("90", 90),
        ("300ms", 0.3), ("500ns", 5e-7), ("-1", -1), ("-1m", -60), (-1, -1), ("+5s", 5), (1e300, -1), (math.inf, -1),
        ("9" * 50 + "h", -1),
    ],
)  # fmt: skip
def test_keep_alive(value: Any, seconds: float | None) -> None:
    assert parse_keep_alive(value) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("value", ["", "m", "5x", "soon", "5m ", "1 h", ".", "--1", "5m6", "1e3s"])
def test_invalid_durations(http: httpx.Client, value: str) -> None:
    with pytest.raises(InputError, match="invalid keep_alive"):
        parse_keep_alive(value)
    assert _refused(400, http.post("/api/embed", json={"model": "tiny", "input": "cat", "keep_alive": value}))


@pytest.mark.parametrize("keep_alive", [-1, 0, 300.5, "5m", "-1m", None])
def test_options_change_nothing(http: httpx.Client, tiny: Encoder, keep_alive: Any) -> None:
    options = {"num_ctx": 8, "temperature": None, "stop": ["x"]}
    body = {"model": "tiny", "input": TEXTS[0], "keep_alive": keep_alive, "options": options}
    vectors = _array(http.post("/api/embed", json=body).json()["embeddings"])
    np.testing.assert_array_equal(vectors, np.asarray(tiny.encode([TEXTS[0]])))


# -- models ----------------------------------------------------------------------------------------------------


def test_the_list(client: ollama.Client, fleet: dict[str, LoadedModel]) -> None:
    models = {model.model: model for model in client.list().models}
    assert set(models) == {f"{model.name}:latest" for model in fleet.values()}
    one = models["tiny:latest"]
    assert one.details is not None and one.modified_at is not None and one.digest is not None and one.size is not None
    assert (one.details.family, one.details.quantization_level, one.details.format) == ("bert", "F32", "safetensors")
    assert len(bytes.fromhex(one.digest)) == hashlib.sha256().digest_size
    assert len({model.digest for model in models.values()}) == len(fleet)
    assert one.size > (fleet["tiny"].recipe.folder / "model.safetensors").stat().st_size
    assert one.modified_at.tzinfo is not None
    for name in models:
        assert name is not None and client.show(name).capabilities is not None


def test_show(client: ollama.Client, http: httpx.Client, fleet: dict[str, LoadedModel]) -> None:
    shown = client.show("tiny")
    info = shown.modelinfo
    assert info == {"general.architecture": "bert", "bert.context_length": 64, "bert.embedding_length": 32}
    assert shown.capabilities == ["embedding"]
    assert client.show(fleet["reranker"].name).capabilities == []
    for body in ({"name": "tiny"}, {"model": "tiny:latest", "verbose": True}):
        assert http.post("/api/show", json=body).json()["model_info"] == info


def test_running_models(client: ollama.Client, fleet: dict[str, LoadedModel]) -> None:
    running = {model.name: model for model in client.ps().models}
    assert set(running) == {f"{model.name}:latest" for model in fleet.values()}
    one = running["tiny:latest"]
    assert one.context_length == 64
    assert one.expires_at is not None and one.expires_at.year > 2100


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/version"])
def test_head_and_get(http: httpx.Client, path: str) -> None:
    head, got = http.head(path), http.get(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b"" and head.headers["content-type"] == got.headers["content-type"]


def test_status_and_version(http: httpx.Client) -> None:
    got = http.get("/")
    assert (got.text, got.headers["content-type"]) == ("Ollama is running", "text/plain; charset=utf-8")
    assert http.get("/api/version").json() == {"version": __version__}


def test_pull(client: ollama.Client, http: httpx.Client) -> None:
    assert client.pull("tiny").status == "success"
    steps = [step.status for step in client.pull("tiny:latest", stream=True)]
    assert steps == ["pulling manifest", "success"]
    raw = http.post("/api/pull", json={"name": "tiny"})
    assert raw.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["status"] for line in raw.text.splitlines()] == steps
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="nearfield serve") as refusal:
            list(client.pull("nope", stream=stream))
        assert refusal.value.status_code == 404


def test_delete(client: ollama.Client, http: httpx.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="loaded at the start of the server") as refusal:
        client.delete("tiny")
    assert refusal.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="not found") as unknown:
        client.delete("nope")
    assert unknown.value.status_code == 404
    assert _refused(400, http.delete("/api/delete")) == "missing request body"
    assert client.embed(model="tiny", input="cat").embeddings


async def test_models_loaded_on_demand(tmp_path: Path, tiny: Encoder) -> None:
    def load(name: str) -> LoadedModel:
        assert name == "all-minilm"
        encoder = tiny_encoder(tmp_path / "other", precision="float32")
        object.__setattr__(encoder.recipe, "name", "sentence-transformers/all-MiniLM-L6-v2")
        return encoder

    app = create_app(settings.load(), ModelPool([tiny], loader=load, on_demand=["all-minilm"]))
    full = "sentence-transformers/all-MiniLM-L6-v2:latest"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        listed = [one["name"] for one in (await http.get("/api/tags")).json()["models"]]
        assert listed == ["tiny:latest", full, "all-minilm:latest"]  # clients look for the name in Ollama's library
        assert [one["name"] for one in (await http.get("/api/ps")).json()["models"]] == ["tiny:latest"]
        shown = (await http.post("/api/show", json={"model": "all-minilm:latest"})).json()
        assert (shown["model_info"]["bert.embedding_length"], shown["capabilities"]) == (384, ["embedding"])
        assert (await http.post("/api/pull", json={"model": "all-minilm", "stream": False})).json() == {
            "status": "success"
        }
        body = {"model": "all-minilm", "input": "cat", "keep_alive": 600}
        assert len((await http.post("/api/embed", json=body)).json()["embeddings"][0]) == 32
        running = (await http.get("/api/ps")).json()["models"]
        assert [one["name"] for one in running] == ["tiny:latest", full]
        assert running[1]["expires_at"] < running[0]["expires_at"]
        assert (await http.request("DELETE", "/api/delete", json={"model": "all-minilm"})).status_code == 200
        assert [one["name"] for one in (await http.get("/api/ps")).json()["models"]] == ["tiny:latest"]
        assert [one["name"] for one in (await http.get("/api/tags")).json()["models"]] == listed


@pytest.mark.parametrize("works", [True, False])
def test_pull_streams_the_progress_of_a_load(
    tmp_path: Path, tiny: Encoder, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    monkeypatch.setattr("nearfield.server.dialects.ollama.models._PROGRESS_INTERVAL", 0.01)
    reported = threading.Event()

    def load(_: str) -> LoadedModel:
        assert reported.wait(30)
        if not works:
            raise ModelRefused("Its weights are damaged.")
        return tiny_encoder(tmp_path / "other")

    steps = []
    with (
        serving(ModelPool([tiny], loader=load, on_demand=["slow/*"])) as url,
        httpx.stream("POST", f"{url}/api/pull", json={"model": "slow/model"}) as reply,
    ):
        for line in reply.iter_lines():
            steps.append(json.loads(line))
            if len(steps) == 3:
                reported.set()
    assert steps[:3] == [{"status": "pulling manifest"}, *[{"status": "loading slow/model"}] * 2]
    assert steps[-1] == ({"status": "success"} if works else {"error": steps[-1].get("error")})
    assert works or "damaged" in steps[-1]["error"]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nomic-embed-text", "nomic-ai/nomic-embed-text-v1.5"),
        ("nomic-embed-text:v1.5", "nomic-ai/nomic-embed-text-v1.5"),
        ("nomic-embed-text-v2-moe", "nomic-ai/nomic-embed-text-v2-moe"),
        ("mxbai-embed-large", "mixedbread-ai/mxbai-embed-large-v1"),
        ("all-minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-minilm:l6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-minilm:33m", "sentence-transformers/all-MiniLM-L12-v2"),
        ("all-minilm:22m", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-minilm:22m-l6-v2-fp16", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-minilm:33m-l12-v2-fp16", "sentence-transformers/all-MiniLM-L12-v2"),
        ("chroma/all-minilm-l6-v2-f32", "sentence-transformers/all-MiniLM-L6-v2"),
        ("paraphrase-multilingual", "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"),
        ("bge-m3", "BAAI/bge-m3"),
        ("bge-large", "BAAI/bge-large-en-v1.5"),
        ("bge-large:335m", "BAAI/bge-large-en-v1.5"),
        ("bge-large:335m-en-v1.5-fp16", "BAAI/bge-large-en-v1.5"),
        ("bge-m3:567m-fp16", "BAAI/bge-m3"),
        ("mxbai-embed-large:335m-v1-fp16", "mixedbread-ai/mxbai-embed-large-v1"),
        (
            "paraphrase-multilingual:278m-mpnet-base-v2-fp16",
            "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
        ),
        ("jina/jina-embeddings-v2-base-en", "jinaai/jina-embeddings-v2-base-en"),
        ("snowflake-arctic-embed:xs", "Snowflake/snowflake-arctic-embed-xs"),
        ("snowflake-arctic-embed:335m-l-fp16", "Snowflake/snowflake-arctic-embed-l"),
        ("snowflake-arctic-embed", "Snowflake/snowflake-arctic-embed-l"),
        ("snowflake-arctic-embed:m", "Snowflake/snowflake-arctic-embed-m"),
        ("snowflake-arctic-embed:137m", "Snowflake/snowflake-arctic-embed-m-long"),
        ("snowflake-arctic-embed2", "Snowflake/snowflake-arctic-embed-l-v2.0"),
        ("granite-embedding", "ibm-granite/granite-embedding-30m-english"),
        ("granite-embedding:278m", "ibm-granite/granite-embedding-278m-multilingual"),
        ("embeddinggemma", "google/embeddinggemma-300m"),
        ("qwen3-embedding:0.6b", "Qwen/Qwen3-Embedding-0.6B"),
        ("qwen3-embedding:4b", "Qwen/Qwen3-Embedding-4B"),
        ("qwen3-embedding", "Qwen/Qwen3-Embedding-8B"),
        ("qwen3-embedding:8b", "Qwen/Qwen3-Embedding-8B"),
    ],
)
def test_names_of_ollama_s_library(name: str, full: str) -> None:
    for written in (name, f"{name}:latest", name.upper()):
        entry = catalog.find(written)
        assert entry is not None and entry.id == full


@pytest.mark.parametrize("name", ["embeddinggemma:300m-qat-q4_0", "qwen3-embedding:8b-q4_K_M", "llama3.2"])
def test_other_weights_have_other_names(name: str) -> None:
    assert catalog.find(name) is None


async def test_a_name_with_its_tag_may_be_loaded_on_demand(tmp_path: Path, tiny: Encoder) -> None:
    loaded: list[str] = []

    def load(name: str) -> LoadedModel:
        loaded.append(name)
        return tiny_encoder(tmp_path / f"other{len(loaded)}", precision="float32")

    app = create_app(settings.load(), ModelPool([tiny], loader=load, on_demand=["BAAI/*", "nomic-ai/*"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        for name in ("nomic-embed-text:latest", "BAAI/unheard-of:latest"):
            shown = await http.post("/api/show", json={"model": name})
            reply = await http.post("/api/embed", json={"model": name, "input": "cat"})
            assert (reply.status_code, reply.json()["model"]) == (200, name)
            assert shown.status_code == (200 if name.startswith("nomic") else 404)
        assert "no POST /api/web_search" in _refused(404, await http.post("/api/web_search", json={"query": "x"}))
        assert "not allowed" in _refused(405, await http.get("/api/embed"))
        for path in ("/api/create", "/api/copy", "/api/push"):
            assert "operator" in _refused(400, await http.post(path, json={"model": "x", "source": "y"}))
    assert loaded == ["nomic-embed-text", "BAAI/unheard-of"]


def test_responses_match_the_openapi_document(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    named = {"model": "tiny", "input": "cat", "prompt": "cat"}
    calls: list[tuple[str, str, str, type[Any], httpx.Response]] = [
        ("/api/embed", "post", "200", schemas.OllamaEmbedReply, http.post("/api/embed", json=named)),
        ("/api/embeddings", "post", "200", schemas.OllamaPromptReply, http.post("/api/embeddings", json=named)),
        ("/api/tags", "get", "200", schemas.OllamaTagsReply, http.get("/api/tags")),
        ("/api/ps", "get", "200", schemas.OllamaProcessesReply, http.get("/api/ps")),
        ("/api/show", "post", "200", schemas.OllamaShowReply, http.post("/api/show", json=named)),
        ("/api/version", "get", "200", schemas.OllamaVersionReply, http.get("/api/version")),
        ("/api/embed", "post", "404", schemas.OllamaError, http.post("/api/embed", json={"model": "x"})),
    ]
    for path, method, status, kind, answer in calls:
        assert answer.status_code == int(status)
        schema = paths[path][method]["responses"][status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{kind.__name__}"}
        assert msgspec.to_builtins(msgspec.convert(answer.json(), kind)) == answer.json()


# -- frameworks ------------------------------------------------------------------------------------------------


async def test_langchain(fleet_url: str, tiny: Encoder) -> None:
    from langchain_ollama import OllamaEmbeddings

    options: Any = {"base_url": fleet_url, "validate_model_on_init": True, "client_kwargs": ONCE}
    embeddings = OllamaEmbeddings(model="tiny", **options)
    np.testing.assert_array_equal(_array(embeddings.embed_query(TEXTS[0])), np.asarray(tiny.encode([TEXTS[0]]))[0])
    many = np.asarray(tiny.encode(TEXTS))
    np.testing.assert_allclose(_array(embeddings.embed_documents(TEXTS)), many, atol=1e-6)
    np.testing.assert_allclose(_array(await embeddings.aembed_documents(TEXTS)), many, atol=1e-6)
    with pytest.raises(ValueError, match="not found"):
        OllamaEmbeddings(model="nope", **options)


@pytest.mark.slow
async def test_llama_index(fleet_url: str, tiny: Encoder) -> None:
    from llama_index.embeddings.ollama import OllamaEmbedding

    embedding = OllamaEmbedding(model_name="tiny", base_url=fleet_url, keep_alive="5m", client_kwargs=ONCE)
    one = np.asarray(tiny.encode([TEXTS[0]]))[0]
    np.testing.assert_array_equal(_array(embedding.get_query_embedding(TEXTS[0])), one)
    np.testing.assert_array_equal(_array(await embedding.aget_query_embedding(TEXTS[0])), one)
    many = np.asarray(tiny.encode(TEXTS))
    np.testing.assert_allclose(_array(embedding.get_text_embedding_batch(TEXTS)), many, atol=1e-6)


@pytest.mark.parametrize("path", ["", "/api/embeddings"])
def test_chroma(fleet_url: str, tiny: Encoder, path: str) -> None:
    from chromadb.utils.embedding_functions import OllamaEmbeddingFunction

    embed = OllamaEmbeddingFunction(url=fleet_url + path, model_name="tiny")
    np.testing.assert_allclose(_array(embed(TEXTS)), np.asarray(tiny.encode(TEXTS)), atol=1e-6)
    embed._client.close()
