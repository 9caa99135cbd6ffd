"""Agents see what the hits of a media collection show."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from PIL import Image as PillowImage

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.server.collections.mcp import OpenCollections, create_server
from tests.support import media_files

pytest.importorskip("transformers")
pytest.importorskip("soundfile")
pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return media_files.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def encoders(models: dict[str, str]) -> Iterator[dict[str, Encoder]]:
    loaded = {path: Encoder(path, compile_cache=False, precision="float32") for path in models.values()}
    yield loaded
    for encoder in loaded.values():
        encoder.close()


@pytest.fixture
def home(tmp_path: Path, models: dict[str, str], encoders: dict[str, Encoder]) -> Path:
    files, config = media_files.write_media(tmp_path / "files"), media_files.media_config(models, "")
    place = tmp_path / "home"
    with Collection.create("media", config, home=place, encoder_of=encoders.__getitem__) as collection:
        report = collection.index([parse_source(str(files))])
        assert not report.failures, report.to_text()
    return place


async def search(home: Path, encoders: dict[str, Encoder], **options: Any) -> Any:
    opened = OpenCollections((), home, encoders.__getitem__)
    with closing(opened):
        async with Client(create_server(opened)) as client:
            return await client.call_tool("search", {"collection": "media", "query": "a photo", "k": 12, **options})


async def test_a_picture_stands_after_the_number_of_its_hit(home: Path, encoders: dict[str, Encoder]) -> None:
    reply = await search(home, encoders, where={"kind": "image"}, pictures=2)
    assert not reply.is_error, reply
    _, *parts = reply.content
    assert [part.type for part in parts] == ["text", "image"] * 2
    assert parts[0].text == "Picture of [1]:"
    with PillowImage.open(io.BytesIO(base64.b64decode(parts[1].data))) as picture:
        assert (picture.format, max(picture.size) <= 512) == ("JPEG", True)


async def test_without_pictures_only_text_is_sent(home: Path, encoders: dict[str, Encoder]) -> None:
    reply = await search(home, encoders, pictures=0)
    assert [part.type for part in reply.content] == ["text"]


async def test_a_file_that_is_gone_has_no_picture(home: Path, encoders: dict[str, Encoder]) -> None:
    for path in (home.parent / "files").iterdir():
        path.unlink()
    reply = await search(home, encoders)
    assert not reply.is_error, reply
    assert [part.type for part in reply.content] == ["text"]
