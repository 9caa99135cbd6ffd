"""Collections over HTTP: search, answers, documents, and what a server does not reveal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from nearfield.corpus.answering.prompt import UNANSWERED
from nearfield.corpus.collection import Collection
from nearfield.corpus.directory import CollectionDirectory
from nearfield.encoder import Encoder
from nearfield.errors import SettingsError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.auth.key_file import create_key
from nearfield.server.collections import collection_service
from nearfield.server.models.model_pool import ModelPool
from nearfield.settings import load as load_settings
from nearfield.testing import tiny_encoder
from tests.conftest import PROMPTS
from tests.support.chat_server import ChatServer, Refuse, Say, chatting
from tests.support.serving import serving

pytestmark = pytest.mark.network

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "cats", "text": "The cat sat on the mat.\n\nA cat sleeps a lot.", "title": "Cats", "year": 2020},
    {"id": "dogs", "text": "A dog looked at the blue world.", "title": "Dogs", "year": 2022},
    {"id": "words", "text": "Hello world, search the red query."},
]
SETTINGS = settings(
    max_examples=8,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Path:
    """A folder with one collection, ``pets``."""
    place = tmp_path_factory.mktemp("collections")
    config = {"features": {"dense": {"model": "tiny"}}, "fields": {"year": "int"}}
    with Collection.create("pets", config, home=place, encoder_of=lambda _: tiny) as pets:
        pets.put(DOCUMENTS)
    return place


@pytest.fixture(scope="module")
def base(home: Path, fleet: dict[str, LoadedModel]) -> Iterator[str]:
    """A server of all collections in the folder, without a chat endpoint."""
    with serving(list(fleet.values()), served_collections="all", collections_dir=home) as url:
        yield url


@pytest.fixture
def client(base: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base, timeout=60) as http:
        yield http


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chatting() as server:
        yield server


def post(url: str, json: Any) -> httpx.Response:
    """Post to a server that may be busy."""
    return httpx.post(url, json=json, timeout=60)


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=60)


def delete(url: str) -> httpx.Response:
    return httpx.delete(url, timeout=60)


def error_message(reply: httpx.Response, status: int) -> str:
    """Return the message of an error_message response."""
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert body["detail"] == body["error"]["message"] == body["message"]
    return str(body["detail"])


def events(reply: httpx.Response) -> list[tuple[str, Any]]:
    """Return the events of a reply: their kinds and data."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    parts = [part.split("\n") for part in reply.text.split("\n\n") if part]
    return [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in parts]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


# -- search ------------------------------------------------------------------------------------------------------------


def test_a_search(client: httpx.Client) -> None:
    reply = client.post(
        "/collections/pets/search", json={"query": "cat mat", "k": 2, "highlight": True, "explain": True}
    )
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["collection"] == "pets"
    first = body["results"][0]
    assert (first["document"], first["title"], first["fields"]["year"]) == ("put:#cats", "Cats", 2020)
    assert first["text"][slice(*first["highlights"][0])] in first["text"]
    assert {"dense", "bm25", "fused"} <= set(first["stages"])
    assert len(body["results"]) <= 2


def test_results_equal_those_in_python(client: httpx.Client, home: Path, tiny: Encoder) -> None:
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        for query in ("cat", "blue dog", "hello red search"):
            expected = [(hit.id, pytest.approx(hit.score)) for hit in pets.search(query, 3)]
            got = client.post("/collections/pets/search", json={"query": query, "k": 3}).json()["results"]
            assert [(hit["id"], hit["score"]) for hit in got] == expected


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"mode": "bm25"}, "put:#dogs"),
        ({"where": {"year": {"gte": 2021}}}, "put:#dogs"),
        ({"where": {"path": {"in": ["words"]}}}, "put:#words"),
        ({"rerank": "tiny-reranker"}, None),
        ({"rerank": "sentences", "mmr": 0.5}, None),
        ({"exact": True, "mode": "dense"}, None),
    ],
)
def test_options(client: httpx.Client, options: dict[str, Any], first: str | None) -> None:
    reply = client.post("/collections/pets/search", json={"query": "blue dog", **options})
    assert reply.status_code == 200, reply.text
    results = reply.json()["results"]
    assert results
    assert first in (None, results[0]["document"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "   "}, "empty"),
        ({"query": 5}, "query"),
        ({"query": "x" * 40_000}, "32768"),
        ({"query": "a", "k": 0}, "k"),
        ({"query": "a", "k": 1001}, "1000"),
        ({"query": "a", "mode": "hybird"}, "hybrid"),
        ({"query": "a", "where": {"yaer": 2020}}, "year"),
        ({"query": "a", "where": {"year": "x"}}, "year"),
        ({"query": "a", "where": [1]}, "where"),
        ({"query": "a", "mmr": 2}, "mmr"),
        ({"query": "a", "weights": {"nope": 1}}, "nope"),
        ({"query": "a", "mode": "sparse"}, "sparse"),
    ],
)
def test_invalid_searches(client: httpx.Client, body: dict[str, Any], message: str) -> None:
    assert message in error_message(client.post("/collections/pets/search", json=body), 400)


@pytest.mark.parametrize("name", ["tiny", "tiny-classifier"])
def test_a_model_that_is_no_reranker(client: httpx.Client, name: str) -> None:
    message = error_message(client.post("/collections/pets/search", json={"query": "a", "rerank": name}), 404)
    assert "is no reranker" in message
    other = error_message(client.post("/collections/pets/search", json={"query": "a", "rerank": "org/evil"}), 404)
    assert "not served here" in other


def test_concurrent_searches_agree(client: httpx.Client) -> None:
    def ask(number: int) -> Any:
        body = {"query": ("cat", "blue dog", "red")[number % 3], "k": 3}
        return number % 3, client.post("/collections/pets/search", json=body).json()["results"]

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(60)))
    for which in range(3):
        results = [hits for number, hits in answers if number == which]
        assert all(hits == results[0] for hits in results)
        assert results[0]


# -- collections and documents -----------------------------------------------------------------------------------------


def test_the_life_of_a_collection(client: httpx.Client, home: Path) -> None:
    body = {"name": "notes", "features": {"dense": {"model": "tiny"}}, "fields": {"year": "int"}}
    created = client.post("/collections", json=body)
    assert created.status_code == 200, created.text
    assert (created.json()["name"], created.json()["documents"], created.json()["fields"]) == (
        "notes",
        0,
        {"year": "int"},
    )
    assert "already" in error_message(client.post("/collections", json=body), 400)
    assert {"name": "notes"} in client.get("/collections").json()["collections"]
    empty = error_message(client.post("/collections/notes/search", json={"query": "cat"}), 400)
    assert "is empty" in empty

    put = client.post("/collections/notes/documents", json={"documents": DOCUMENTS})
    assert put.status_code == 200, put.text
    assert (put.json()["new"], put.json()["failed"], put.json()["failures"]) == (3, 0, [])
    info = client.get("/collections/notes").json()
    assert (info["documents"], info["states"]) == (3, {"done": 3})
    assert str(home) not in json.dumps(info)
    results = client.post("/collections/notes/search", json={"query": "cat mat"}).json()["results"]
    assert results[0]["document"] == "put:#cats"

    changed = {**DOCUMENTS[0], "text": "Nothing about them."}
    assert client.post("/collections/notes/documents", json={"documents": [changed]}).json()["changed"] == 1
    hits = client.post("/collections/notes/search", json={"query": "mat", "mode": "bm25"}).json()["results"]
    assert "put:#cats" not in [item["document"] for item in hits]

    gone = client.post("/collections/notes/documents/delete", json={"documents": ["put:#dogs", "put:#never"]})
    assert gone.json() == {"deleted": 1}
    listed = client.get("/collections/notes/documents").json()
    assert [item["id"] for item in listed["documents"]] == ["put:#cats", "put:#words"]

    assert client.delete("/collections/notes").json() == {"name": "notes"}
    assert not (home / "notes").exists()
    assert "not served here" in error_message(client.get("/collections/notes"), 404)


def test_documents_are_listed_and_read_in_parts(client: httpx.Client) -> None:
    first = client.get("/collections/pets/documents", params={"limit": 2}).json()
    assert [document["key"] for document in first["documents"]] == ["cats", "dogs"]
    rest = client.get("/collections/pets/documents", params={"limit": 2, "after": first["next"]}).json()
    assert [document["key"] for document in rest["documents"]] == ["words"]
    assert rest["next"] is None
    assert client.get("/collections/pets/documents", params={"state": "failed"}).json()["documents"] == []
    for limit in ("0", "1001", "x", "-1", "9" * 30, "¹"):
        assert "limit" in error_message(client.get("/collections/pets/documents", params={"limit": limit}), 400)

    whole = client.get("/collections/pets/document", params={"id": "put:#dogs"}).json()
    assert whole["text"] == DOCUMENTS[1]["text"]
    assert (whole["start"], whole["end"], whole["total"]) == (0, len(whole["text"]), len(whole["text"]))
    assert whole["document"]["state"] == "done"
    part = client.get("/collections/pets/document", params={"id": "put:#dogs", "start": 2, "length": 3}).json()
    assert (part["text"], part["start"], part["end"]) == ("dog", 2, 5)
    past = client.get("/collections/pets/document", params={"id": "put:#dogs", "start": 10_000}).json()
    assert (past["text"], past["start"]) == ("", past["total"])
    assert "no document" in error_message(client.get("/collections/pets/document", params={"id": "put:#lions"}), 404)
    assert error_message(client.get("/collections/pets/document"), 404)


def test_chunks_of_a_document_are_listed_at_their_places(client: httpx.Client) -> None:
    address = "/collections/pets/document"
    text = client.get(address, params={"id": "cats"}).json()["text"]
    listed = client.get(f"{address}/chunks", params={"id": "cats"}).json()
    assert (listed["first"], listed["total"]) == (0, len(listed["chunks"]))
    assert "".join(text[chunk["start"] : chunk["end"]] for chunk in listed["chunks"]).startswith("The cat sat")
    assert {(chunk["kind"], chunk["clip"], chunk["document"]) for chunk in listed["chunks"]} == {
        ("text", None, "put:#cats")
    }
    last = client.get(f"{address}/chunks", params={"id": "cats", "first": listed["total"] - 1, "limit": 1}).json()
    assert last["chunks"] == listed["chunks"][-1:]
    assert error_message(client.get(f"{address}/chunks", params={"id": "lions"}), 404)
    assert "from 1 to" in error_message(client.get(f"{address}/chunks", params={"id": "cats", "limit": 0}), 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"documents": []}, "empty"),
        ({"documents": [{"text": "no id"}]}, "'id'"),
        ({"documents": [{"id": "a", "text": " "}]}, "'text'"),
        ({"documents": [{"id": "a", "text": "b", "yaer": 1}]}, "yaer"),
        ({"documents": [{"id": "a", "text": "b", "year": "x"}]}, "year"),
        ({"documents": ["a"]}, "documents"),
    ],
)
def test_invalid_documents(client: httpx.Client, body: dict[str, Any], message: str) -> None:
    data = json.dumps(body)
    headers = {"content-type": "application/json"}
    assert message in error_message(client.post("/collections/pets/documents", content=data, headers=headers), 400)
    assert client.get("/collections/pets").json()["documents"] == 3


def test_too_many_documents_in_one_request(tiny: Encoder, home: Path) -> None:
    with serving([tiny], served_collections="pets", collections_dir=home, max_items=2) as url:
        for path in ("documents", "documents/delete"):
            reply = post(
                f"{url}/collections/pets/{path}", json={"documents": DOCUMENTS if path[-1] == "s" else ["a"] * 3}
            )
            assert "in parts" in error_message(reply, 413)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "store": "postgresql://db/x"},
        {"name": "x", "sources": [{"kind": "files", "location": "/etc"}]},
        {"name": "x", "features": {"dense": {"model": "tiny", "revision": "main"}}},
        {"name": "../x"},
        {"name": "X"},
        {"name": ""},
        {"name": "x", "features": {"dense": {"model": "tiny"}}, "fields": {"id": "str"}},
        {"name": "x", "features": {"dense": {"model": "tiny"}, "short": {"of": "nope"}}},
        {"name": "x", "chunks": {"by": "axe"}},
        {"name": "x", "features": {"dense": {"model": "tiny", "kind": "smell"}}},
    ],
)
def test_invalid_definitions(client: httpx.Client, home: Path, body: dict[str, Any]) -> None:
    before = sorted(path.name for path in home.iterdir())
    assert error_message(client.post("/collections", json=body), 400)
    assert sorted(path.name for path in home.iterdir()) == before


def test_a_collection_needs_a_model_that_is_served(client: httpx.Client, home: Path) -> None:
    for model, message in (
        ("org/other", "not served here"),
        ("tiny-reranker", "encodes no texts"),
        (str(home), "not served"),
    ):
        body = {"name": "other", "features": {"dense": {"model": model}}}
        assert message in error_message(client.post("/collections", json=body), 404)
    assert "all-MiniLM-L6-v2" in error_message(client.post("/collections", json={"name": "other"}), 404)
    assert not (home / "other").exists()


def test_a_collection_is_created_with_extractors(client: httpx.Client) -> None:
    text = {"feature_extractor_name": "text_extractor", "parameters": {"model": "tiny", "chunk_size": 20}}
    body: dict[str, Any] = {"name": "extracted", "feature_extractors": [text], "fields": {"year": "int"}}
    created = client.post("/collections", json=body)
    assert created.status_code == 200, created.text
    assert list(created.json()["features"]) == ["text"]
    assert client.post("/collections/extracted/documents", json={"documents": DOCUMENTS}).json()["new"] == 3
    assert client.delete("/collections/extracted").status_code == 200
    body = {"name": "extracted", "feature_extractors": ["face_identity_extractor"]}
    assert "not offered" in error_message(client.post("/collections", json=body), 400)
    body = {"name": "extracted", "feature_extractors": ["image_extractor"]}
    assert "siglip-base-patch16-224" in error_message(client.post("/collections", json=body), 404)


# -- served collections ------------------------------------------------------------------------------------------------


def test_no_collection_is_served_by_default(url: str, tiny: Encoder, home: Path) -> None:
    with serving([tiny], collections_dir=home) as other:
        for place in (url, other):
            assert get(place + "/collections").json()["collections"] == []
            message = error_message(post(place + "/collections/pets/search", json={"query": "cat"}), 404)
            assert "--collections" in message
            assert error_message(get(place + "/collections/pets/document?id=put:%23cats"), 404)
            assert error_message(delete(place + "/collections/pets"), 404)
            body = {"name": "mine", "features": {"dense": {"model": "tiny"}}}
            assert "would not be served" in error_message(post(place + "/collections", json=body), 403)


def test_only_named_collections_are_served(tiny: Encoder, home: Path) -> None:
    with (
        Collection.create("private", {}, home=home),
        serving([tiny], served_collections="pets,later", collections_dir=home) as url,
    ):
        assert get(url + "/collections").json()["collections"] == [{"name": "pets"}]
        message = error_message(get(url + "/collections/private"), 404)
        assert "Known: pets" in message
        body: dict[str, Any] = {"name": "later", "features": {"dense": {"model": "tiny"}}}
        assert post(url + "/collections", json=body).status_code == 200
        assert delete(url + "/collections/later").status_code == 200
        assert error_message(post(url + "/collections", json={**body, "name": "else"}), 403)
    Collection.open("private", home=home).drop()


def test_keys(tiny: Encoder, home: Path, tmp_path: Path) -> None:
    keys = {name: create_key() for name in ("reader", "owner", "other")}
    more = {"reader": "", "owner": 'scopes = ["infer", "manage"]', "other": 'models = ["BAAI/*"]'}
    lines = [f'[[keys]]\nname = "{name}"\nhash = "{digest}"\n{more[name]}' for name, (_, digest) in keys.items()]
    file = tmp_path / "keys.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    file.chmod(0o600)
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/collections/pets/search", {"query": "cat"}),
        ("POST", "/collections/pets/ask", {"question": "cat?"}),
        ("GET", "/collections/pets/document?id=put:%23cats", None),
        ("GET", "/collections/pets", None),
        ("POST", "/collections/pets/duplicates", {}),
        ("POST", "/collections", {"name": "new", "features": {"dense": {"model": "tiny"}}}),
        ("POST", "/collections/new/documents", {"documents": DOCUMENTS[2:]}),
        ("POST", "/collections/new/documents/delete", {"documents": ["words"]}),
        ("DELETE", "/collections/new", None),
    ]
    with (
        serving([tiny], served_collections="all", collections_dir=home, api_key_file=file) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):

        def statuses(key: str | None) -> list[int]:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return [
                client.request(method, path, json=body, headers=headers).status_code for method, path, body in calls
            ]

        assert statuses(keys["reader"][0]) == [200] * 5 + [403] * 4
        assert statuses(keys["other"][0]) == [403] * 9
        assert statuses(None) == [401] * 9
        assert statuses(keys["owner"][0]) == [200] * 9


def test_a_model_on_demand_stays_while_in_use_and_is_loaded_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def loader(name: str) -> Encoder:
        loads.append(name)
        return tiny_encoder(tmp_path / "tiny", prompts=PROMPTS, precision="float32")

    models = ModelPool(loader=loader, on_demand=["tiny"], keep_alive=0)
    begun, go_on, search = threading.Event(), threading.Event(), Collection.search

    def slow(self: Collection, *args: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return search(self, *args, **options)

    monkeypatch.setattr(Collection, "search", slow)
    path, left = "/collections/pets/search", 'route="/collections/{name}/search",status="499"'
    with (
        serving(models, served_collections="all", collections_dir=home) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            client.post(path, json={"query": "cat"}, timeout=httpx.Timeout(20, read=0.5))
        assert begun.wait(20)
        wait_until(lambda: left in client.get("/metrics").text)
        # Its client has left, but its thread still needs the model.
        assert models.entry("tiny").users == 1
        go_on.set()
        wait_until(lambda: models.entry("tiny").state == "available")
        again = client.post(path, json={"query": "cat"})
        assert again.status_code == 200, again.text
        assert again.json()["results"][0]["document"] == "put:#cats"
    assert len(loads) == 2


def test_a_collection_of_a_model_that_is_not_served(fleet: dict[str, LoadedModel], home: Path) -> None:
    with serving([fleet["m3"]], served_collections="all", collections_dir=home) as url:
        message = error_message(post(url + "/collections/pets/search", json={"query": "cat"}), 404)
        assert "'pets' was created with 'tiny'" in message
        assert get(url + "/collections/pets").json()["documents"] == 3


@pytest.mark.slow
def test_a_model_of_another_space_is_refused(fleet: dict[str, LoadedModel], home: Path) -> None:
    with serving(
        ModelPool(loader=lambda _: fleet["m3"], on_demand=["tiny"]), served_collections="all", collections_dir=home
    ) as url:
        message = error_message(post(url + "/collections/pets/search", json={"query": "cat"}), 409)
        assert "nearfield index pets" in message


def test_a_writer_blocks_other_writers_but_no_searches(client: httpx.Client, home: Path) -> None:
    with CollectionDirectory.from_name("pets", home).write_lock():
        assert "being written" in error_message(
            client.post("/collections/pets/documents", json={"documents": DOCUMENTS}), 409
        )
        assert error_message(client.delete("/collections/pets"), 409)
        assert client.post("/collections/pets/search", json={"query": "cat"}).status_code == 200


def test_a_collection_replaced_by_another_of_the_same_name(client: httpx.Client, home: Path, tiny: Encoder) -> None:
    config = {"features": {"dense": {"model": "tiny"}}}
    for text in ("The cat sat.", "A blue dog."):
        with Collection.create("swap", config, home=home, encoder_of=lambda _: tiny) as collection:
            collection.put([{"id": "one", "text": text}])
        results = client.post("/collections/swap/search", json={"query": "cat"}).json()["results"]
        assert [result["text"] for result in results] == [text]
        Collection.open("swap", home=home).drop()
    assert error_message(client.get("/collections/swap"), 404)


def test_a_definition_that_changes_between_requests(
    client: httpx.Client, home: Path, tiny: Encoder, fleet: dict[str, LoadedModel]
) -> None:
    models = {"tiny": tiny, "m3": fleet["m3"]}
    with Collection.create(
        "grows",
        {"features": {"dense": {"model": "tiny"}}},
        home=home,
        encoder_of=lambda name: models[name],  # type: ignore[arg-type,return-value]
    ) as collection:
        collection.put(DOCUMENTS[2:])
        body = {"query": "red", "explain": True}
        assert "m3" not in client.post("/collections/grows/search", json=body).json()["results"][0]["stages"]
        collection.configure({"features": {"dense": {"model": "tiny"}, "words": {"model": "m3", "kind": "sparse"}}})
        collection.index()
        reply = client.post("/collections/grows/search", json={**body, "mode": "words"})
        assert reply.status_code == 200, reply.text
    Collection.open("grows", home=home).drop()


def test_waiting_requests_are_bounded(monkeypatch: pytest.MonkeyPatch, tiny: Encoder, home: Path) -> None:
    monkeypatch.setattr(collection_service, "_WORKERS", 1)
    monkeypatch.setattr(collection_service, "_MAX_WAITING", 0)
    begun, go_on = threading.Event(), threading.Event()

    def stuck(*_: Any, **__: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return []

    monkeypatch.setattr(Collection, "search", stuck)
    with serving([tiny], served_collections="all", collections_dir=home) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, url + "/collections/pets/search", json={"query": "cat"})
        assert begun.wait(20)
        refused = post(url + "/collections/pets/search", json={"query": "cat"})
        assert refused.headers["retry-after"]
        assert "waiting" in error_message(refused, 429)
        go_on.set()
        assert first.result().status_code == 200


def test_several_front_ends_serve_no_collections() -> None:
    from nearfield.server.frontends.supervisor import check

    with pytest.raises(SettingsError, match="served_collections"):
        check(load_settings(frontends=2, served_collections="all"))


# -- answers -----------------------------------------------------------------------------------------------------------


def test_without_a_chat_endpoint_only_passages_are_returned(client: httpx.Client) -> None:
    answer = client.post("/collections/pets/ask", json={"question": "Where did the cat sit?", "min_score": 0}).json()
    assert (answer["text"], answer["found"], answer["cited"]) == ("", True, False)
    assert answer["passages"][0]["document"] == "put:#cats"
    streamed = events(client.post("/collections/pets/ask", json={"question": "Where?", "min_score": 0, "stream": True}))
    assert [kind for kind, _ in streamed] == ["answer"]


def test_an_answer(tiny: Encoder, home: Path, chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_CHAT_KEY", "sk-hidden")
    chat.script = [Say(["On the mat", " [1", "]. Or not [9]."])]
    given_ = {"chat_url": chat.url + "/v1", "chat_model": "chatty"}
    with serving([tiny], served_collections="all", collections_dir=home, **given_) as url:
        elsewhere = {"chat_url": "http://127.0.0.1:1", "endpoint": "http://127.0.0.1:1", "model": "other"}
        body = {"question": "Where did the cat sit?", "k": 2, "min_score": 0, **elsewhere}
        answer = post(url + "/collections/pets/ask", json=body).json()
        assert answer["text"] == "On the mat [1]. Or not."
        assert (answer["found"], answer["cited"], answer["invalid"]) == (True, True, [9])
        assert answer["citations"][0]["document"] == answer["passages"][0]["document"] == "put:#cats"
        assert answer["text"][slice(*answer["citations"][0]["marks"][0])] == "[1]"
        assert (chat.asked[0].headers["authorization"], chat.asked[0].body["model"]) == ("Bearer sk-hidden", "chatty")

        streamed = events(post(url + "/collections/pets/ask", json={**body, "stream": True}))
        assert [kind for kind, _ in streamed[:-1]] == ["text"] * (len(streamed) - 1)
        assert len(streamed) > 2
        assert "".join(data["text"] for _, data in streamed[:-1]) == answer["text"]
        assert streamed[-1] == ("answer", answer)

        chat.script = [Say([UNANSWERED])]
        assert post(url + "/collections/pets/ask", json=body).json()["found"] is False


def test_no_passages_means_no_chat_request(tiny: Encoder, home: Path, chat: ChatServer) -> None:
    with serving([tiny], served_collections="all", collections_dir=home, chat_url=chat.url + "/v1") as url:
        body = {"question": "Where?", "where": {"year": 1900}}
        answer = post(url + "/collections/pets/ask", json=body).json()
        assert (answer["found"], answer["passages"], answer["text"]) == (
            False,
            [],
            "The collection has no answer to this question: no passage is about it.",
        )
    assert chat.asked == []


def test_an_endpoint_that_fails(tiny: Encoder, home: Path, chat: ChatServer) -> None:
    with serving([tiny], served_collections="all", collections_dir=home, chat_url=chat.url + "/api") as url:
        chat.script = [Refuse(401, {"error": "no such key"})]
        for stream in (False, True):  # an error_message before the first word sets the status of the reply
            body = {"question": "Where?", "min_score": 0, "stream": stream}
            reply = post(url + "/collections/pets/ask", json=body)
            assert "no such key" in error_message(reply, 502)
            assert reply.json()["error"]["code"] == "answer_failed"
        chat.script = [Say(["On", " the", " mat"], breaks_after=2)]
        streamed = events(post(url + "/collections/pets/ask", json={"question": "W?", "min_score": 0, "stream": True}))
        assert {kind for kind, _ in streamed[:-1]} == {"text"}
        assert streamed[-1][0] == "error"
        assert "broke off" in streamed[-1][1]["error"]["message"]


def test_a_slow_endpoint_blocks_no_other_request(tiny: Encoder, home: Path, chat: ChatServer) -> None:
    go_on, received = threading.Event(), threading.Event()

    def slow(_: Any) -> Say:
        received.set()
        go_on.wait(30)
        return Say(["Late."])

    chat.script = [slow]
    options = {"served_collections": "all", "collections_dir": home, "chat_url": chat.url, "request_timeout": 2}
    with serving([tiny], chat_kind="openai", **options) as url, ThreadPoolExecutor(1) as pool:
        late = pool.submit(post, url + "/collections/pets/ask", json={"question": "W?", "min_score": 0})
        assert received.wait(20)
        assert get(url + "/health").status_code == 200
        assert post(url + "/collections/pets/search", json={"query": "cat"}).status_code == 200
        assert late.result().status_code in (502, 503)
        go_on.set()


def test_a_disconnect_ends_the_answer(tiny: Encoder, home: Path, chat: ChatServer) -> None:
    go_on = threading.Event()
    chat.script = [Say(["One", " two"], breaks_after=3, waits=go_on)]
    with serving([tiny], served_collections="all", collections_dir=home, chat_url=chat.url + "/v1") as url:
        body = {"question": "W?", "stream": True}
        with httpx.stream("POST", url + "/collections/pets/ask", json=body, timeout=60) as reply:
            assert next(reply.iter_lines()) == "event: text"
        go_on.set()
    threads = [thread for thread in threading.enumerate() if thread.name == "nearfield-waiting"]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


# -- generated bodies --------------------------------------------------------------------------------------------------


def test_bodies_generated_from_the_document(base: str) -> None:
    schema = schemathesis.openapi.from_url(base + "/openapi.json")
    seen: set[int] = set()
    for result in schema.include(path_regex="^/collections").get_all_operations():
        operation = result.ok()

        @SETTINGS
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            if case.path_parameters and case.method != "DELETE":
                case.path_parameters["name"] = "pets"
            reply = case.call(base_url=base)
            seen.add(reply.status_code)
            assert reply.status_code < 500, reply.text[:500]
            case.operation.validate_response(reply)

        check()
    assert {200, 400, 404} <= seen
