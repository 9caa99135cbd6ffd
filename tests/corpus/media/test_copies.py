"""Copies of pictures and of parts of videos: stored once with all of their places, none of which is ever lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.cli.demo.computed_models import write_pixel_model
from nearfield.corpus.collection import Collection
from nearfield.corpus.config import parse_config
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.media.image import Image
from tests.support.collection_state import collection_state

pytest.importorskip("PIL")
pytest.importorskip("imagehash")

Open = Callable[..., Collection]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    with Encoder(str(write_pixel_model(tmp_path_factory.mktemp("models"))), backend="reference") as encoder:
        yield encoder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two copies of one picture, and another picture."""
    from tests.support.picture_copies import COPIES, scene

    folder = tmp_path / "files"
    folder.mkdir()
    for name, seed, form in (("a.png", 1, "PNG"), ("b.jpg", 1, "JPEG 75"), ("c.jpg", 2, "JPEG 75")):
        (folder / name).write_bytes(COPIES[form](scene(seed)))
    return folder


@pytest.fixture
def index(tmp_path: Path, files: Path, model: Encoder) -> Iterator[Open]:
    """Return a collection of the files, indexed again; ``home`` names one of several, the rest are settings."""
    opened: list[Collection] = []

    def run(home: str = "one", copies: float | None = 0.95, ocr: bool = False) -> Collection:
        config: dict[str, Any] = {
            "features": {"visual": {"model": str(model.recipe.folder), "reads": ["image", "video"]}},
            "segments": {"video": {"time_split_interval": 2.0}},
            "clean": {} if copies is None else {"copies": copies},
            "ocr": ocr,
            "store": f"memory:{tmp_path / home}",
        }
        collection = Collection.ensure("album", config, home=tmp_path / home, encoder_of=lambda _: model)
        opened.append(collection)
        report = collection.index([parse_source(str(files))], allow_removal=True)
        assert not report.failures, report.to_text()
        return collection

    yield run
    for collection in opened:
        collection.close()


def places(collection: Collection, query: Path) -> list[str]:
    """Return the place of the best hit and its other places, by path."""
    (hit,) = collection.search(Image(query), k=1)
    return [str(hit.fields["path"]), *(place.document.partition("#")[2] for place in hit.also)]


def test_copies_are_one_hit_with_all_places(index: Open, files: Path) -> None:
    collection = index()
    assert places(collection, files / "b.jpg") == ["a.png", "b.jpg"]
    assert places(collection, files / "c.jpg") == ["c.jpg"]
    assert collection.manifest.counts()["chunks"] == 2 and collection.manifest.counts()["documents"] == 3
    (only,) = collection.search(Image(files / "a.png"), k=1, where={"path": "b.jpg"})
    assert only.fields["path"] == "b.jpg", "a filter finds the place that it names"
    (like,) = collection.search(like=collection.documents()[1].id, k=1)
    assert like.fields["path"] == "c.jpg", "more like a copy, without itself and its original"
    assert collection.verify()["whole"]
    assert places(index("apart", None), files / "b.jpg") in (["a.png"], ["b.jpg"])


def test_a_copy_is_there_when_the_stored_one_goes(index: Open, files: Path) -> None:
    index()
    shutil.copyfile(files / "b.jpg", files / "d.jpg")
    assert places(index(), files / "b.jpg") == ["a.png", "b.jpg", "d.jpg"], "added"
    shutil.copyfile(files / "c.jpg", files / "a.png")
    changed = index()
    assert places(changed, files / "b.jpg") == ["b.jpg", "d.jpg"], "the stored file has another picture"
    assert places(changed, files / "c.jpg") == ["c.jpg", "a.png"]
    (files / "b.jpg").unlink()
    removed = index()
    assert places(removed, files / "d.jpg") == ["d.jpg"], "the stored file is gone"
    removed.remove([document.id for document in removed.documents() if document.id.endswith("c.jpg")])
    assert places(removed, files / "c.jpg") == ["a.png"], "removed by its id"
    assert removed.verify()["whole"]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_next_run_finishes_what_a_dead_one_began(
    nth: int, index: Open, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends within the transaction that commits a document: all before is in the store and the manifest."""

    class Killed(BaseException):
        pass

    replace, calls = Manifest.replace, []

    def dying(self: Manifest, *rest: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == nth:
            raise Killed
        replace(self, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "replace", dying)
        with pytest.raises(Killed):
            index("killed")
    (files / "0.png").write_bytes((files / "a.png").read_bytes())
    expected, actual = index("whole"), index("killed")
    assert actual.verify()["whole"]
    assert places(actual, files / "b.jpg") == places(expected, files / "b.jpg") == ["0.png", "a.png", "b.jpg"]
    assert collection_state(actual)["documents"] == collection_state(expected)["documents"]


def test_forms_and_unlike_vectors_are_no_copies(index: Open, files: Path) -> None:
    from PIL import ImageDraw, ImageFont

    from tests.support.scanned_pages import blank

    for number in ("4711", "4712"):
        form = blank((600, 400))
        ImageDraw.Draw(form).text((60, 150), f"Invoice {number}", "black", ImageFont.load_default(60))
        form.save(files / f"{number}.png")
    assert places(index("forms"), files / "4711.png") == ["4711.png"]
    strict = index("strict", 1.0)
    assert places(strict, files / "b.jpg") == ["b.jpg"], "saved again as JPEG, it is less near than that"


@pytest.mark.slow
def test_scans_that_look_alike_with_other_words_are_no_copies(index: Open, files: Path) -> None:
    pytest.importorskip("rapidocr")
    from tests.support.scanned_pages import blank, draw

    for path in files.iterdir():
        path.unlink()
    for number in ("118", "119"):
        page = blank((600, 300))
        draw(page, ["Delivery of the blue chairs", f"to the room {number} in the north wing"], 40, 90, 28)
        page.save(files / f"{number}.png")
    assert places(index("unread"), files / "118.png") == ["118.png", "119.png"]
    assert places(index("read", ocr=True), files / "118.png") == ["118.png"]


def test_parts_of_videos(index: Open, files: Path) -> None:
    pytest.importorskip("av")
    from tests.support.scene_films import SceneFilm, write_scenes

    for path in files.iterdir():
        path.unlink()
    film = write_scenes(SceneFilm(cuts=(2.0,), seconds=4.0))
    for name in ("film.mp4", "same.mp4"):
        (files / name).write_bytes(film)
    collection = index()
    hits = collection.search(like=collection.documents()[0].id, k=9)
    assert not hits, "both parts of the other film are copies of those of the first"
    (duplicate, other) = collection.manifest.duplicates(collection.documents()[1].id)
    assert (duplicate.chunk.fields["start_time"], other.chunk.fields["start_time"]) == (0.0, 2.0)
    assert collection.verify()["whole"]


def test_the_setting_needs_pictures() -> None:
    with pytest.raises(InputError, match="reads pictures or videos"):
        parse_config({"clean": {"copies": 0.98}})
