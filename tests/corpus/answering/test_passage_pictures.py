"""Answers from passages that are pictures: what a chat endpoint receives, and which endpoints refuse it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from nearfield.corpus.answering.answer import ask
from nearfield.corpus.answering.chat_client import ChatEndpoint
from nearfield.corpus.answering.passage_pictures import MAX_SIDE, passage_pictures
from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import AnswerFailed, InputError
from tests.support import media_files
from tests.support.chat_server import MODEL, ChatServer, Refuse, Say, chatting

pytest.importorskip("transformers")
pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of a large picture, a scanned PDF and a text."""
    folder, home = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("home")
    models = media_files.write_models(tmp_path_factory.mktemp("models"))
    loaded = {models[name]: Encoder(models[name], compile_cache=False) for name in ("text", "clip")}
    (folder / "photo.png").write_bytes(media_files.picture(1, size=(1500, 600)))
    (folder / "scan.pdf").write_bytes(media_files.scan([5, 6, 7]))
    (folder / "cat.txt").write_text("A blue dog said hello to the world.", encoding="utf-8")
    features = {"text": {"model": models["text"]}, "visual": {"model": models["clip"], "reads": ["image", "page"]}}
    config = {"features": features, "store": f"memory:{home}"}
    with Collection.create("seen", config, home=home, encoder_of=loaded.__getitem__) as created:
        created.index([parse_source(str(folder))])
        yield created
    for encoder in loaded.values():
        encoder.close()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chatting() as results:
        yield results


def test_pictures_follow_the_texts_and_are_cited(collection: Collection, server: ChatServer) -> None:
    server.script = [Say(["It shows a dog [3], and says hello [1]."])]
    chat = ChatEndpoint(server.url + "/v1", MODEL, timeout=20.0)
    answer = collection.ask("a blue dog", chat, k=9, min_score=0, pictures=3)
    content = server.asked[0].body["messages"][1]["content"]
    images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert len(images) == 3 and content[0]["type"] == "text" and "hello to the world" in content[0]["text"]
    sizes = [PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size for uri in images]
    assert all(max(size) <= MAX_SIDE for size in sizes)
    assert [passage.kind == "text" for passage in answer.passages] == [True, False, False, False]
    assert [part["text"] for part in content[1::2]] == [
        f"The picture of passage [{number}], which is data too:" for number in (2, 3, 4)
    ]
    assert {citation.number for citation in answer.citations} == {1, 3}
    for passage in answer.passages[1:]:
        if passage.kind == "page":
            assert f"page {passage.page}" in content[0]["text"]


def test_without_the_option_no_picture_is_sent(collection: Collection, server: ChatServer) -> None:
    chat = ChatEndpoint(server.url + "/v1", MODEL, timeout=20.0)
    collection.ask("a blue dog", chat, k=9, min_score=0)
    assert isinstance(server.asked[0].body["messages"][1]["content"], str)


def test_endpoints_that_read_none_are_named(collection: Collection, server: ChatServer) -> None:
    server.script = [Refuse(400, {"error": {"message": "image_url is not supported"}})]
    chat = ChatEndpoint(server.url + "/v1", MODEL, timeout=20.0)
    with pytest.raises(AnswerFailed, match=r"image_url is not supported.* 2 pictures"):
        collection.ask("a blue dog", chat, k=9, min_score=0, pictures=2)
    with pytest.raises(InputError, match="with /v1"):
        collection.ask("a blue dog", ChatEndpoint(server.url + "/api", MODEL), k=9, min_score=0, pictures=2)
    with pytest.raises(InputError, match="pictures must be a whole number from 0 to 16"):
        collection.ask("a blue dog", chat, pictures=17)


def test_files_that_have_gone_have_no_picture(collection: Collection, tmp_path: Path) -> None:
    hits = collection.search("a blue dog", 9, where={"kind": "image"})
    assert len(passage_pictures(collection.document_file, hits, 9)) == 1
    path = Path(hits[0].document.removeprefix("files:").replace("#", "/"))
    moved = path.rename(tmp_path / "moved.png")
    try:
        assert passage_pictures(collection.document_file, hits, 9) == []
        assert ask("a blue dog", hits).found is False
    finally:
        moved.rename(path)
