"""Collections whose features read pictures, pages, sounds and videos."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.config import parse_config
from nearfield.corpus.features import check_models, table_from_dict
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NotThere
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.strict_toml import parse_toml
from tests.support import media_files
from tests.support.collection_state import collection_state
from tests.support.databases import DATABASES
from tests.support.films import Film, write_film
from tests.support.paths import ROOT
from tests.support.recordings import RATE, sound_of, write_recording

pytest.importorskip("transformers")
pytest.importorskip("soundfile")

#: Chunks of the folder that ``write_media`` writes, by kind.
KINDS = {"text": 2, "image": 4, "page": 3, "audio": 3, "video": 3}


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
def files(tmp_path: Path) -> Path:
    return media_files.write_media(tmp_path / "files")


@pytest.fixture
def config(models: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    return media_files.media_config(models, f"memory:{tmp_path}")


@pytest.fixture
def collection(
    tmp_path: Path, files: Path, config: dict[str, Any], encoders: dict[str, Encoder]
) -> Iterator[Collection]:
    created = Collection.create("media", config, home=tmp_path / "home", encoder_of=encoders.__getitem__)
    with created as opened:
        report = opened.index([parse_source(str(files))])
        assert not report.failures, report.to_text()
        yield opened


def chunks_of(collection: Collection) -> list[Any]:
    return [chunk for each in collection.documents() for chunk in collection.manifest.chunks(each.id)]


def records(collection: Collection, feature: str) -> dict[str, Any]:
    table = table_from_dict(collection.manifest.live_tables()[feature].described)
    return {record.id: record for part in collection.store.scan(table, vectors=True) for record in part}


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each input is added that a model embeds as a document from now on."""
    seen: list[Any] = []
    stream = Encoder.stream

    def spy(self: Encoder, texts: Any, **options: Any) -> Any:
        def watched() -> Iterator[Any]:
            for item in texts:
                seen.append(item)
                yield item

        return stream(self, watched(), **options)

    monkeypatch.setattr(Encoder, "stream", spy)
    return seen


# -- indexing ----------------------------------------------------------------------------------------------------


def test_each_table_has_the_chunks_of_the_kinds_that_its_feature_reads(collection: Collection) -> None:
    chunks = {chunk.id: chunk for chunk in chunks_of(collection)}
    assert Counter(chunk.kind for chunk in chunks.values()) == KINDS
    for feature, kinds in (("text", {"text"}), ("visual", {"image", "page", "video"}), ("sound", {"audio"})):
        assert records(collection, feature).keys() == {key for key, chunk in chunks.items() if chunk.kind in kinds}
    assert collection.verify()["whole"]
    assert collection.manifest.keywords.is_consistent()
    assert collection.manifest.keywords.count() == 2


def test_segments_have_their_places(collection: Collection) -> None:
    chunks = chunks_of(collection)
    by_path: dict[str, list[Any]] = {}
    for chunk in chunks:
        by_path.setdefault(chunk.fields["path"], []).append(chunk)
    assert [chunk.payload["page"] for chunk in by_path["scan.pdf"]] == [1, 2, 3]
    sizes = [(chunk.payload["page"], chunk.fields["width"], chunk.fields["height"]) for chunk in by_path["fax.tiff"]]
    assert sizes == [(1, 48, 40), (2, 48, 40)]
    times = [(chunk.payload["start_time"], chunk.payload["end_time"]) for chunk in by_path["tone.wav"]]
    assert times == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)]
    times = [(chunk.fields["start_time"], chunk.fields["end_time"]) for chunk in by_path["clip.mp4"]]
    assert times == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    (photo,) = by_path["photo.png"]
    assert (photo.fields["width"], photo.fields["height"], photo.text, photo.tokens) == (48, 40, "", 0)
    assert "kind" not in by_path["cat.txt"][0].fields


def test_vectors_are_those_of_the_model(collection: Collection, models: dict[str, str], files: Path) -> None:
    encoder = Encoder(models["clip"], compile_cache=False, precision="float32")
    stored = records(collection, "visual")
    for record in stored.values():
        if record.fields["path"] in ("photo.png", "beach.jpg"):
            expected = encoder.encode([Image(files / str(record.fields["path"]))])[0]
            assert np.abs(np.asarray(record.vector) - expected).max() < 1e-5
    pages = [record for record in stored.values() if record.fields["path"] == "fax.tiff"]
    for record in pages:
        expected = encoder.encode([Image(media_files.picture(2 + int(record.fields["page"])))])[0]
        assert np.abs(np.asarray(record.vector) - expected).max() < 1e-5
    encoder.close()


def test_a_second_run_does_nothing(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counting(monkeypatch)
    report = collection.index()
    assert (report.new, report.changed, report.completed, report.unchanged, seen) == (0, 0, 0, 8, [])


def test_a_changed_picture_is_embedded_alone(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {chunk.id for chunk in chunks_of(collection)}
    seen = counting(monkeypatch)
    (files / "photo.png").write_bytes(media_files.picture(99))
    report = collection.index()
    after = {chunk.id for chunk in chunks_of(collection)}
    assert (report.changed, len(seen), len(before - after), len(after - before)) == (1, 1, 1, 1)
    assert collection.verify()["whole"]


def test_removed_and_renamed_files(collection: Collection, files: Path) -> None:
    (files / "clip.mp4").unlink()
    (files / "tone.wav").rename(files / "sound.wav")
    report = collection.index()
    assert (report.removed, report.new) == (2, 1)
    kinds = Counter(chunk.kind for chunk in chunks_of(collection))
    assert kinds == {**{kind: count for kind, count in KINDS.items() if kind != "video"}}
    assert {chunk.fields["path"] for chunk in chunks_of(collection) if chunk.kind == "audio"} == {"sound.wav"}
    assert collection.verify()["whole"]


def test_other_times_of_segments_keep_the_vectors_of_the_same_segments(
    collection: Collection, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    collection.configure({"segments": {"audio": {"time_split_interval": 4.0}, "video": {"time_split_interval": 2.0}}})
    report = collection.index()
    times = [chunk.payload["end_time"] for chunk in chunks_of(collection) if chunk.kind == "audio"]
    assert times == [4.0, 5.0]
    assert (report.completed, len(seen)) == (2, 1)  # the part from 4 to 5 seconds is as before; the video has no sound
    assert collection.verify()["whole"]


def test_a_feature_of_pictures_is_added_later(
    tmp_path: Path, files: Path, config: dict[str, Any], encoders: dict[str, Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    text_alone = {"features": {"text": config["features"]["text"]}, "store": config["store"]}
    with Collection.create("later", text_alone, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        report = collection.index([parse_source(str(files))])
        assert (report.new, report.failed) == (3, 1)  # the scanned PDF has no text
        assert sum(report.skipped_reasons.values()) == 5
        old = records(collection, "text")
        table = collection.manifest.live_tables()["text"].name
        seen = counting(monkeypatch)
        collection.configure({"features": config["features"], "segments": config["segments"]})
        report = collection.index()
        assert not report.failures, report.to_text()
        assert all(not isinstance(item, str) for item in seen) and len(seen) == sum(KINDS.values()) - KINDS["text"]
        assert Counter(chunk.kind for chunk in chunks_of(collection)) == KINDS
        assert collection.manifest.live_tables()["text"].name == table
        assert records(collection, "text").keys() == old.keys()
        assert collection.verify()["whole"]
        collection.configure({"features": text_alone["features"]})
        collection.index(allow_removal=True)
        assert {chunk.kind for chunk in chunks_of(collection)} == {"text"}
        assert collection.manifest.keywords.is_consistent()
        assert collection.verify()["whole"]


def test_a_feature_of_texts_is_added_to_a_collection_of_media(
    tmp_path: Path, files: Path, config: dict[str, Any], encoders: dict[str, Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    media = {**config, "features": {name: config["features"][name] for name in ("visual", "sound")}}
    with Collection.create("media", media, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        collection.index([parse_source(str(files))])
        before = records(collection, "visual")
        seen = counting(monkeypatch)
        collection.configure({"features": config["features"]})
        report = collection.index()
        assert [type(item) for item in seen] == [str, str]  # the two texts, and no picture, sound or video again
        assert report.reused == sum(KINDS.values()) - KINDS["text"]
        after = records(collection, "visual")
        assert {key: (one.payload.get("frames"), np.asarray(one.vector).tobytes()) for key, one in after.items()} == {
            key: (one.payload.get("frames"), np.asarray(one.vector).tobytes()) for key, one in before.items()
        }
        assert collection.verify()["whole"]
        assert {hit.kind for hit in collection.search("blue cat", 50)} == KINDS.keys()


def test_a_second_feature_of_pictures_reads_the_files_again(
    collection: Collection, files: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    second = {"model": config["features"]["visual"]["model"], "kind": "image"}
    collection.configure({"features": {**config["features"], "second": second}})
    report = collection.index([])
    assert not report.failures, report.to_text()
    assert len(seen) == KINDS["image"]
    assert records(collection, "second").keys() == {
        chunk.id for chunk in chunks_of(collection) if chunk.kind == "image"
    }
    assert collection.verify()["whole"]


def test_a_bad_file_or_page_costs_nothing_else(
    tmp_path: Path, config: dict[str, Any], encoders: dict[str, Encoder]
) -> None:
    files = media_files.write_media(tmp_path / "more")
    (files / "broken.png").write_bytes(media_files.picture(8)[:900])
    pages = media_files.tiff([9, 10, 11])
    (files / "half.tiff").write_bytes(pages[: len(pages) - 4000])
    (files / "noise.wav").write_bytes(b"RIFF....WAVE" + bytes(40))
    with Collection.create("bad", config, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        report = collection.index([parse_source(str(files))])
        failed = {document.partition("#")[2]: reason for document, reason in report.failures}
        assert {"broken.png", "noise.wav"} <= failed.keys()
        counts = Counter(chunk.kind for chunk in chunks_of(collection))
        assert counts["text"] == 2 and counts["page"] == 3 and counts["audio"] == 3
        assert collection.verify()["whole"]


def test_pictures_in_an_archive_are_read(tmp_path: Path, config: dict[str, Any], encoders: dict[str, Encoder]) -> None:
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "all.zip", "w") as archive:
        archive.writestr("photo.png", media_files.picture(1))
        archive.writestr("tone.wav", media_files.sound())
    with Collection.create("zip", config, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        report = collection.index([parse_source(str(tmp_path / "zipped"))])
        assert not report.failures, report.to_text()
        assert Counter(chunk.kind for chunk in chunks_of(collection)) == {"image": 1, "audio": 3}
        (document,) = (each.id for each in collection.documents() if each.key == "all.zip!/photo.png")
        assert collection.document_file(document).source() == media_files.picture(1)
        with zipfile.ZipFile(tmp_path / "zipped" / "all.zip", "w") as archive:
            archive.writestr("photo.png", media_files.picture(2))
        with pytest.raises(NotThere, match="has changed since it was indexed"):
            collection.document_file(document)


def test_the_sound_of_videos_and_of_m4a_files_is_read(
    tmp_path: Path, config: dict[str, Any], models: dict[str, str], encoders: dict[str, Encoder]
) -> None:
    samples = sound_of([("alpha", 0, 2), ("delta", 2, 4), ("foxtrot", 4, 5)], 5)
    films = tmp_path / "films"
    films.mkdir()
    for suffix, tracks in ((".mkv", 2), (".mp4", 1), (".m4a", 1), (".aac", 1), (".webm", 0)):
        (films / f"film{suffix}").write_bytes(write_recording(samples, suffix, tracks))
    heard = {**config, "features": {"sound": config["features"]["sound"]}}
    with Collection.create("heard", heard, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        report = collection.index([parse_source(str(films))])
        assert [reason for _, reason in report.failures] == [
            "film.webm has no sound, and the collection reads nothing else of it."
        ]
        times = [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)]
        for name in ("film.mkv", "film.mp4", "film.m4a", "film.aac"):
            hits = collection.search("blue cat", 9, where={"path": name})
            assert {hit.kind for hit in hits} == {"audio"}
            places = sorted((hit.start_time or 0.0, hit.end_time or 0.0) for hit in hits)
            np.testing.assert_allclose(places, times, atol=0.1)
            assert sorted(hit.segment or 0 for hit in hits) == [1, 2, 3]
        (film,) = (each for each in collection.documents() if each.key == "film.mkv")
        assert [loss.reason for loss in film.losses] == ["1 further sound track (track 1)"]
        part = Audio(samples, rate=RATE, start=2, end=4)
        (hit,) = collection.search(part, 1, where={"path": "film.mp4"})
        assert hit.start_time == 2.0


# -- searching ---------------------------------------------------------------------------------------------------


def test_a_text_finds_pictures_by_the_text_tower(
    collection: Collection, encoders: dict[str, Encoder], models: dict[str, str]
) -> None:
    query = encoders[models["clip"]].encode_query("blue cat")
    stored = records(collection, "visual")
    for kind in ("image", "page", "video"):
        alike = [record for record in stored.values() if record.fields["kind"] == kind]
        best = max(alike, key=lambda record: float(np.asarray(record.vector) @ query))
        (hit,) = collection.search("blue cat", 1, mode="visual", where={"kind": kind}, explain=True)
        assert hit.id == best.id and hit.kind == kind
        assert 0 < hit.score <= 1
    hits = collection.search("blue cat", 20)
    assert {"text", "image", "page", "audio", "video"} <= {hit.kind for hit in hits}


def test_hits_say_where_they_are(collection: Collection) -> None:
    hits = collection.search("blue cat", 50)
    described = {hit.location.describe() for hit in hits if hit.kind in ("audio", "video", "page")}
    assert {"0:00-0:02", "0:04-0:05", "page 3"} <= described


def test_hits_name_the_frames_that_their_vectors_come_from(
    collection: Collection, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames() -> dict[int | None, list[tuple[int | None, float]]]:
        hits = collection.search("blue cat", 50, where={"kind": "video"})
        return {hit.segment: [(frame.number, frame.seconds) for frame in hit.frames] for hit in hits}

    expected = {n + 1: [(8 * n, 2.0 * n), (8 * n + 4, 2.0 * n + 1)] for n in range(3)}
    assert frames() == expected
    halves = {**config["segments"], "video": {"time_split_interval": 4.0}}
    collection.configure({"segments": halves})
    seen = counting(monkeypatch)
    collection.index()
    reused = frames()
    assert len(seen) == 1  # the part from 4 to 6 seconds is as before
    assert reused == {1: [(4 * n, float(n)) for n in range(4)], 2: expected[3]}
    bits = {"of": "visual", "dtype": "binary"}
    collection.configure({"features": {**config["features"], "bits": bits}})
    collection.index()
    derived = {
        record.payload["segment"]: record.payload.get("frames")
        for record in records(collection, "bits").values()
        if record.payload["kind"] == "video"
    }
    assert derived[2] == [[16, 4.0], [20, 5.0]]


@pytest.mark.parametrize(
    ("where", "kinds"),
    [
        ({"kind": "image"}, {"image"}),
        ({"kind": {"in": ["text", "audio"]}}, {"text", "audio"}),
        ({"not": {"kind": "text"}}, {"image", "page", "audio", "video"}),
        ({"start_time": {"gte": 2.0}}, {"audio", "video"}),
        ({"width": {"gte": 48}, "kind": "image"}, {"image"}),
        ({"kind": {"exists": True}}, {"text", "image", "page", "audio", "video"}),
    ],
)
def test_filters_by_kind_and_time(collection: Collection, where: Any, kinds: set[str]) -> None:
    assert {hit.kind for hit in collection.search("blue cat dog", 50, where=where)} == kinds


def test_filters_by_the_date_of_pictures_and_videos(
    tmp_path: Path, config: dict[str, Any], encoders: dict[str, Encoder]
) -> None:
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 12:34:56"
    (tmp_path / "dated").mkdir()
    with PIL.Image.open(io.BytesIO(media_files.picture(1))) as picture:
        picture.save(tmp_path / "dated" / "photo.jpg", exif=exif)
    (tmp_path / "dated" / "plain.jpg").write_bytes(media_files.picture(2, "JPEG"))
    (tmp_path / "dated" / "film.mp4").write_bytes(write_film(Film(taken="2023-01-02T03:04:05.000000Z")))
    dated = {**config, "fields": {"date": "str"}}
    with Collection.create("dated", dated, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        collection.index([parse_source(str(tmp_path / "dated"))])
        (hit,) = collection.search("blue cat", 9, where={"date": {"gte": "2024-05", "lt": "2024-06"}})
        assert (hit.fields["path"], hit.fields["date"]) == ("photo.jpg", "2024-05-06T12:34:56")
        (hit, *_) = collection.search("blue cat", 9, where={"date": {"lt": "2024"}})
        assert (hit.fields["path"], hit.fields["date"]) == ("film.mp4", "2023-01-02T03:04:05")


def test_a_model_without_a_text_tower_is_left_out_of_searches_by_text(
    tmp_path: Path, files: Path, models: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    dino = media_files.write_dino(tmp_path / "dino")
    features = {"text": {"model": models["text"]}, "alike": {"model": dino, "kind": "image"}}
    config = {"features": features, "store": f"memory:{tmp_path}"}
    with Collection.create("alike", config, home=tmp_path / "home") as collection:
        report = collection.index([parse_source(str(files))])
        assert Counter(chunk.kind for chunk in chunks_of(collection)) == {"text": 2, "image": 4}, report.to_text()
        assert {hit.kind for hit in collection.search("blue cat", 20)} == {"text"}
        assert "'alike' has vectors of pictures, and its model reads no texts" in caplog.text
        with pytest.raises(InputError, match="reads no texts"):
            collection.search("blue cat", mode="alike")
        assert collection.verify()["whole"]


def test_a_collection_of_pictures_alone_has_keywords_for_texts(
    tmp_path: Path, files: Path, models: dict[str, str], encoders: dict[str, Encoder]
) -> None:
    features = {
        "image": {"model": models["clip"], "kind": "image"},
        "bits": {"of": "image", "dtype": "binary"},
    }
    config = {"features": features, "store": f"memory:{tmp_path}"}
    with Collection.create("alone", config, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        collection.index([parse_source(str(files))])
        assert Counter(chunk.kind for chunk in chunks_of(collection)) == {"text": 2, "image": 4}
        pictures = {chunk.id for chunk in chunks_of(collection) if chunk.kind == "image"}
        assert records(collection, "image").keys() == records(collection, "bits").keys() == pictures
        assert [hit.fields["path"] for hit in collection.search("cat", 1, mode="bm25")] == ["cat.txt"]
        assert len(collection.search("cat", 10, mode="two-stage")) == 4
        assert {hit.kind for hit in collection.search("cat", 10)} == {"text", "image"}
        assert collection.verify()["whole"]


def test_a_feature_of_texts_and_pictures_has_one_table(
    tmp_path: Path, files: Path, models: dict[str, str], encoders: dict[str, Encoder]
) -> None:
    features = {"both": {"model": models["clip"], "reads": ["text", "image"]}}
    config = {"features": features, "store": f"memory:{tmp_path}"}
    with Collection.create("both", config, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
        collection.index([parse_source(str(files))])
        kinds = Counter(record.payload.get("kind", "text") for record in records(collection, "both").values())
        assert kinds["image"] == 4 and kinds["text"] >= 2  # its model reads few tokens at a time
        assert {hit.kind for hit in collection.search("cat", 10)} == {"text", "image"}
        assert {hit.kind for hit in collection.search("cat", 10, where={"kind": "text"})} == {"text"}
        assert collection.verify()["whole"]


# -- definitions -------------------------------------------------------------------------------------------------


def test_a_model_that_cannot_read_the_kind_is_refused(tmp_path: Path, models: dict[str, str]) -> None:
    for model in (models["text"], "all-MiniLM-L6-v2"):
        config = {"features": {"image": {"model": model, "kind": "image"}}}
        with pytest.raises(
            InputError, match=r"reads pictures, and .* reads texts alone\. Models .*google/siglip"
        ) as raised:
            Collection.create("refused", config, home=tmp_path)
        assert raised.value.param == "features"
        assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"reads": []}, "at least one"),
        ({"reads": ["image", "image"]}, "once"),
        ({"kind": "image", "reads": ["audio"]}, "leave 'reads' out"),
        ({"reads": ["smell"]}, "smell"),
    ],
)
def test_wrong_definitions_are_refused(tmp_path: Path, feature: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Collection.create("wrong", {"features": {"image": feature}}, home=tmp_path)


# -- stores ------------------------------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("name", ["memory", "lancedb", "chroma", "qdrant", "pgvector"])
def test_collections_of_media_in_each_store(
    name: str, tmp_path: Path, files: Path, models: dict[str, str], encoders: dict[str, Encoder]
) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "database").mkdir()
    with DATABASES[name](tmp_path / "database") as address:
        config = media_files.media_config(models, address)
        with Collection.create("media", config, home=tmp_path / "home", encoder_of=encoders.__getitem__) as collection:
            collection.index([parse_source(str(files))])
            assert Counter(chunk.kind for chunk in chunks_of(collection)) == KINDS
            for where, kinds in (
                ({"kind": "image"}, {"image"}),
                ({"kind": {"in": ["text", "audio"]}}, {"text", "audio"}),
                ({"start_time": {"gte": 2.0}}, {"audio", "video"}),
            ):
                assert {hit.kind for hit in collection.search("blue cat dog", 50, where=where)} == kinds
            (files / "photo.png").write_bytes(media_files.picture(99))
            (files / "beach.jpg").unlink()
            report = collection.index()
            assert (report.changed, report.removed) == (1, 1)
            before = collection_state(collection)
            collection.export(tmp_path / "export")
            for store in (f"memory:{tmp_path / 'elsewhere'}", address):
                collection.move(store)
                require_same(collection, before)
        with Collection.import_("copy", tmp_path / "export", store=address, home=tmp_path / "home") as copy:
            require_same(copy, before)


def require_same(collection: Collection, expected: dict[str, Any]) -> None:
    """Fail unless a collection is whole and has the chunks and vectors of another."""
    actual = collection_state(collection)
    assert collection.verify()["whole"] and actual["consistent"]
    assert actual["chunks"] == expected["chunks"]
    for feature, vectors in expected["vectors"].items():
        assert actual["vectors"][feature].keys() == vectors.keys()
        for key, vector in vectors.items():
            np.testing.assert_allclose(actual["vectors"][feature][key], vector, atol=1e-6)


# -- the guide ---------------------------------------------------------------------------------------------------


def test_the_definitions_of_the_guide_are_valid() -> None:
    page = (ROOT / "docs" / "guides" / "media-collections.md").read_text(encoding="utf-8")
    album, *others = (parse_toml(block) for block in re.findall(r"```toml\n(.*?)```", page, re.S))
    assert len(re.findall(r"```toml\n(.*?)```", page, re.S)[0].splitlines()) <= 6
    config = parse_config({key: part for block in (album, *others) for key, part in block.items()})
    assert config.media_kinds == ("image",)
    assert config.segments.video.rule.split_method == "scene" and config.segments.video.fps == 2
    check_models(config)


def test_the_program_of_the_guide_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "guides" / "media-collections.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    for name, model in (
        ("openai/clip-vit-base-patch32", "clip"),
        ("all-MiniLM-L6-v2", "text"),
        ("laion/clap-htsat-unfused", "clap"),
    ):
        program = program.replace(f'"{name}"', repr(models[model]))
    media_files.write_media(tmp_path / "album")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "home"))
    exec(program, {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.split()[1].partition(".")[2] for line in lines)
