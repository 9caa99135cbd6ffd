"""Searches of a collection by pictures, sounds and chunks, through the models that indexed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NotThere
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.video.video import Video
from tests.support import media_files

pytest.importorskip("transformers")
pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media_files.write_media(tmp_path_factory.mktemp("search") / "files")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Collection]:
    home = tmp_path_factory.mktemp("home")
    models = media_files.write_models(tmp_path_factory.mktemp("models"))
    loaded = {path: Encoder(path, compile_cache=False, precision="float32") for path in models.values()}
    config = media_files.media_config(models, f"memory:{home}")
    with Collection.create("media", config, home=home, encoder_of=loaded.__getitem__) as created:
        created.index([parse_source(str(folder))])
        yield created
    for encoder in loaded.values():
        encoder.close()


def test_a_picture_finds_itself(collection: Collection, folder: Path) -> None:
    hits = collection.search(Image(folder / "photo.png"), 3, where={"kind": "image"})
    assert hits[0].fields["path"] == "photo.png" and hits[0].score > 0.5
    assert {hit.kind for hit in collection.search(Image(folder / "photo.png"), 50)} == {"image", "page", "video"}


def test_a_sound_finds_its_parts(collection: Collection, folder: Path) -> None:
    hits = collection.search(Audio(folder / "tone.wav", start=2.0, end=4.0), 9)
    assert [hit.kind for hit in hits] == ["audio"] * 3
    assert {hit.start_time for hit in hits} == {0.0, 2.0, 4.0} and hits[0].score > 0.5


def test_a_video_finds_its_parts(collection: Collection, folder: Path) -> None:
    hits = collection.search(Video(folder / "clip.mp4", start=0.0, end=2.0), 9, where={"kind": "video"})
    assert len(hits) == 3 and {hit.fields["path"] for hit in hits} == {"clip.mp4"}


def test_more_like_a_hit_or_a_document(collection: Collection, folder: Path) -> None:
    (photo,) = collection.search(Image(folder / "photo.png"), 1, where={"kind": "image"})
    hits = collection.search(like=photo, k=50)
    assert hits and photo.id not in {hit.id for hit in hits}
    assert [hit.id for hit in collection.search(like=photo.id, k=50)] == [hit.id for hit in hits]
    document = next(each.id for each in collection.documents() if each.id.endswith("#scan.pdf"))
    hits = collection.search(like=document, k=50)
    assert hits and document not in {hit.document for hit in hits}
    text = next(each.id for each in collection.documents() if each.id.endswith("#cat.txt"))
    hits = collection.search(like=text, k=50)
    assert {hit.document.partition("#")[2] for hit in hits} == {"dog.txt"}
    with pytest.raises(NotThere, match="no chunk or document nothing"):
        collection.search(like="nothing")


def test_parts_with_weights(collection: Collection, folder: Path) -> None:
    picture, other = Image(folder / "photo.png"), Image(folder / "beach.jpg")
    for weights, name in (([9.0, 1.0], "photo.png"), ([1.0, 9.0], "beach.jpg")):
        hits = collection.search([picture, other], 1, part_weights=weights, where={"kind": "image"})
        assert hits[0].fields["path"] == name
    both = collection.search(MixedContent((picture, "a blue dog")), 50)
    assert {"text", "image"} <= {hit.kind for hit in both}
    together = collection.search_many(["a blue dog", picture, [picture, "a blue dog"]], 5)
    assert together[0] == collection.search("a blue dog", 5)
    assert together[1] == collection.search(picture, 5)
    assert together[2] == collection.search([picture, "a blue dog"], 5)


def test_groups_by_file(collection: Collection) -> None:
    hits = collection.search("a blue dog", 8, group_by="document", others=1)
    documents = [hit.document for hit in hits]
    assert len(documents) == len(set(documents)) == 8
    grouped = next(hit for hit in hits if hit.document.endswith("#tone.wav"))
    (other,) = grouped.others
    assert other.document == grouped.document and other.start_time != grouped.start_time
    long = collection.search("a blue dog", 50, where={"duration": {"gte": 5}, "kind": "audio"}, group_by="document")
    assert [hit.document.partition("#")[2] for hit in long] == ["tone.wav"]


@pytest.mark.parametrize("where", [{"kind": "images"}, {"not": {"kind": {"in": ["text", "images"]}}}])
def test_unknown_kinds_are_refused(collection: Collection, where: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Did you mean 'image'"):
        collection.search("a blue dog", where=where)


def test_what_no_model_reads_is_refused(collection: Collection, folder: Path) -> None:
    with pytest.raises(InputError, match=r"\(text\) reads pictures: .*searched by it: 'visual'"):
        collection.search(Image(folder / "photo.png"), mode="text")
