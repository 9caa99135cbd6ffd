"""Searches over HTTP by pictures and by passages: parts of JSON bodies, of forms, and ids."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from tests.support import media_files
from tests.support.chat_server import MODEL, ChatServer, Say, chatting
from tests.support.serving import serving

pytest.importorskip("transformers")
pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with chatting() as server:
        yield server


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, chat: ChatServer) -> Iterator[str]:
    """A server of the collection ``photos``, of pictures and texts, with a chat endpoint."""
    folder, home = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("home")
    models = media_files.write_models(tmp_path_factory.mktemp("models"))
    loaded = {name: Encoder(models[name], compile_cache=False, precision="float32") for name in ("text", "clip")}
    for number in (1, 2, 3):
        (folder / f"photo{number}.png").write_bytes(media_files.picture(number))
    (folder / "cat.txt").write_text("A blue dog said hello to the world.", encoding="utf-8")
    config = {"features": {"text": {"model": "text"}, "visual": {"model": "clip", "kind": "image"}}}
    with Collection.create("photos", config, home=home, encoder_of=loaded.__getitem__) as photos:
        photos.index([parse_source(str(folder))])
    options = {"served_collections": "all", "collections_dir": home, "chat_url": f"{chat.url}/v1", "chat_model": MODEL}
    with serving(list(loaded.values()), **options) as url:
        yield url
    for encoder in loaded.values():
        encoder.close()


def search(base: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{base}/collections/photos/search", json=body, timeout=60)


def data_uri(seed: int) -> str:
    return f"data:image/png;base64,{base64.b64encode(media_files.picture(seed)).decode()}"


def paths(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [hit["fields"]["path"] for hit in reply.json()["results"]]


def test_a_picture_as_a_part(base: str) -> None:
    for seed in (1, 2, 3):
        reply = search(base, query={"image": data_uri(seed)}, k=4)
        assert paths(reply)[0] == f"photo{seed}.png" and len(paths(reply)) == 3
        assert reply.json()["results"][0]["kind"] == "image"


def test_several_parts_with_weights(base: str) -> None:
    parts = [{"image": data_uri(1)}, {"image": data_uri(2)}]
    assert paths(search(base, query=parts, part_weights=[9, 1]))[0] == "photo1.png"
    assert paths(search(base, query=parts, part_weights=[1, 9]))[0] == "photo2.png"
    both = paths(search(base, query=[{"image": data_uri(1)}, {"text": "a blue dog"}]))
    assert sorted(both) == ["cat.txt", "photo1.png", "photo2.png", "photo3.png"]
    assert paths(search(base, query=[{"text": "a blue"}, {"text": "dog"}], kind="text")) == ["cat.txt"]


def test_a_form_uploads_a_file(base: str) -> None:
    files = [("image", ("photo.png", media_files.picture(3), "image/png"))]
    data = {"k": "2", "where": '{"kind": "image"}'}
    reply = httpx.post(f"{base}/collections/photos/search", files=files, data=data, timeout=60)
    assert paths(reply)[0] == "photo3.png" and len(paths(reply)) == 2


def test_kinds_of_passages(base: str) -> None:
    assert paths(search(base, query="a blue dog", kind="text")) == ["cat.txt"]
    pictures = search(base, query="a blue dog", kind=["image", "page"], where={"path": {"ne": "photo1.png"}})
    assert sorted(paths(pictures)) == ["photo2.png", "photo3.png"]
    form = {"text": (None, "a blue dog"), "kind": (None, "image")}
    reply = httpx.post(f"{base}/collections/photos/search", files=form, timeout=60)
    assert len(paths(reply)) == 3
    assert search(base, query="a blue dog", kind="picture").status_code in (400, 422)
    schemas = httpx.get(f"{base}/openapi.json", timeout=60).json()["components"]["schemas"]
    assert '"enum": ["audio", "image", "page", "text", "video"]' in json.dumps(schemas["SearchRequest"])


def test_more_like_a_passage(base: str) -> None:
    first = search(base, query={"image": data_uri(1)}).json()["results"][0]
    more = search(base, like=first["id"], group_by="document", others=0)
    assert sorted(paths(more)) == ["photo2.png", "photo3.png"]
    assert search(base, like="nothing").status_code == 404


def test_an_answer_from_pictures(base: str, chat: ChatServer) -> None:
    chat.script = [Say(["It shows noise [2]."])]
    body = {"question": "a blue dog", "min_score": 0, "pictures": 2}
    answers = [
        httpx.post(f"{base}/collections/photos/ask", json={**body, "stream": stream}, timeout=60)
        for stream in (False, True)
    ]
    (citation,) = answers[0].json()["citations"]
    assert (citation["number"], citation["kind"]) == (2, "image")
    assert '"kind":"image"' in answers[1].text.rpartition("event: answer")[2]
    for asked in chat.asked:
        content = asked.body["messages"][1]["content"]
        assert [part["type"] for part in content].count("image_url") == 2
    refused = httpx.post(f"{base}/collections/photos/ask", json={**body, "pictures": 17}, timeout=60)
    assert refused.status_code in (400, 422) and "pictures" in refused.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "query is missing"),
        ({"query": []}, "query has no part"),
        ({"query": [{}]}, "Part 0 has none of"),
        ({"query": {"image": "https://example.org/a.png"}}, "not fetched"),
        ({"query": {"image": "!!"}}, "base64"),
        ({"query": {"image": "AAAA"}}, "picture"),
        ({"query": {"image": data_uri(1)}, "mode": "text"}, "visual"),
        ({"query": [{"image": data_uri(1)}], "part_weights": [1, 2]}, "part_weights"),
        ({"query": "a dog", "group_by": "author"}, "document"),
    ],
)
def test_searches_that_are_refused(base: str, body: dict[str, Any], message: str) -> None:
    reply = search(base, **body)
    assert reply.status_code in (400, 422), reply.text
    assert message in reply.json()["detail"]
