"""``nearfield embed`` of pictures: rows, ids, unreadable files, and a run that stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from nearfield import Encoder, Image
from nearfield.bulk.media_files.detection import media_form
from nearfield.bulk.media_files.picture_source import PictureSource
from nearfield.errors import InputError
from nearfield.progress import Progress
from tests.support import bad_media, tiny_pictures
from tests.support.cli_runner import Ran, run

pytestmark = pytest.mark.slow

Run = Callable[..., Ran]
NAMES = ("2024/c.webp", "2024/d.bmp", "a.JPG", "b.png", "e.gif")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def encoder(clip: Path) -> Encoder:
    return Encoder(str(clip), precision="float32", modalities=("image",))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    (folder / "2024").mkdir(parents=True)
    for name, picture in zip(NAMES, tiny_pictures.pictures(), strict=True):
        picture.save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path) -> Run:
    options = ("--model", clip, "--precision", "float32")
    return lambda *words: run(capsys, monkeypatch, "embed", *words, *options)


def test_a_folder_of_photos(embed: Run, encoder: Encoder, photos: Path) -> None:
    ran = embed("photos/", "-o", "photos.parquet", "--json")
    assert ran.code == 0, ran.err
    table = parquet.read_table("photos.parquet")
    assert table["id"].to_pylist() == list(NAMES)
    expected = encoder.encode([Image(path=photos / name) for name in NAMES])
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), np.asarray(expected), atol=1e-6)
    assert table["tokens"].to_pylist() == [17] * 5
    assert table.schema.metadata[b"nearfield.fingerprint"].decode() == encoder.fingerprint
    report = json.loads(ran.out)
    pixels = sum(picture.width * picture.height for picture in tiny_pictures.pictures())
    assert (report["unit"], report["texts"], report["megapixels"]) == ("picture", 5, round(pixels / 1e6, 3))
    text = embed("photos", "-o", "again.jsonl").out
    assert "5 pictures, 0.0 megapixels" in text and "pictures/s" in text and "Truncated" not in text
    assert [json.loads(line)["id"] for line in Path("again.jsonl").read_text().splitlines()] == list(NAMES)


def test_patterns_and_several_folders_have_paths_as_ids(embed: Run, photos: Path) -> None:
    assert embed("photos/*.png", "photos/2024", "photos/b.png", "-o", "x.jsonl").code == 0
    ids = [json.loads(line)["id"] for line in Path("x.jsonl").read_text().splitlines()]
    assert ids == ["photos/b.png", "photos/2024/c.webp", "photos/2024/d.bmp", "photos/b.png"]


def test_when_inputs_are_pictures(photos: Path) -> None:
    assert media_form([photos], None) == media_form([photos / "b.png", Path("photos/*.gif")], None) == "image"
    assert media_form([photos, Path("-")], None) is None
    assert media_form([photos / "b.png", photos / "notes.txt"], None) is None
    assert media_form([Path("photos/none*.png")], None) is None
    (photos / "table.csv").write_text("text\na\n")
    assert media_form([photos], None) is None and media_form([photos], "image") == "image"


def test_unreadable_files_are_named_before_the_work(embed: Run, photos: Path) -> None:
    (photos / "bad.jpg").write_text("a text")
    (photos / "none.png").touch()
    ran = embed("photos", "-o", "x.parquet")
    assert ran.code == 2 and "2 of 7 pictures cannot be read" in ran.err and "Traceback" not in ran.err
    assert "bad.jpg is a text, no picture" in ran.err and "none.png is empty" in ran.err
    assert not Path("x.parquet").exists()


def test_unreadable_files_are_left_out(embed: Run, photos: Path) -> None:
    for number, (data, _, _) in enumerate(bad_media.PICTURES.values()):
        (photos / f"bad{number:02}.jpg").write_bytes(data)
    (photos / "cut.png").write_bytes((photos / "b.png").read_bytes()[:1000])
    ran = embed("photos", "-o", "x.parquet", "--skip-unreadable")
    assert ran.code == 0, ran.err
    count = len(bad_media.PICTURES) + 1
    assert f"{count} files that cannot be read" in ran.out
    names = [*(f"bad{number:02}.jpg" for number in range(count - 1)), "cut.png"]
    assert [name for name in names if name in ran.err] == names
    assert parquet.read_table("x.parquet")["id"].to_pylist() == list(NAMES)


def test_a_run_that_met_a_damaged_picture_continues_without_it(embed: Run, photos: Path, encoder: Encoder) -> None:
    for number in range(420):
        shutil.copy(photos / "b.png", photos / f"f{number:03}.png")
    (photos / "g.png").write_bytes((photos / "b.png").read_bytes()[:1000])
    shutil.copy(photos / "a.JPG", photos / "h.jpg")
    ran = embed("photos", "-o", "x.parquet")
    assert ran.code == 2 and "g.png cannot be decoded as PNG" in ran.err
    (photos / "g.png").unlink()
    report = json.loads(embed("photos", "-o", "x.parquet", "--json").out)
    assert report["texts"] == 426 and report["resumed_at"] >= 100
    rows = np.array(parquet.read_table("x.parquet")["embedding"].to_pylist())
    np.testing.assert_allclose(rows[-1], np.asarray(encoder.encode(Image(path=photos / "h.jpg"))), atol=1e-6)
    np.testing.assert_allclose(rows[2], rows[-1], atol=1e-6)


def test_what_cannot_be_written_is_refused(embed: Run, photos: Path) -> None:
    assert "NPY holds no ids" in embed("photos", "-o", "x.npy").err
    assert "end the name of the output with a slash" in embed("photos", "-o", "x.jsonl", "--shard-rows", "5").err
    assert "leave --id-field out" in embed("photos", "-o", "x.parquet", "--id-field", "id").err
    assert "is for pictures" in embed("photos/notes.txt", "-o", "x.npy", "--skip-unreadable").err
    assert "Only texts have a prompt" in embed("photos", "-o", "x.parquet", "--prompt", "query: ").err
    with pytest.raises(InputError, match="ends in"):
        PictureSource([photos / "2024" / ".."], photos)


def test_the_bar_counts_pictures_and_megapixels() -> None:
    progress = Progress(3, unit="pictures", shown=True)
    with progress:
        progress.advance(2, 34, 1.5)
        assert progress._bar is not None
        speed = progress._bar.tasks[0].fields["speed"]
    assert "pictures/s" in speed and "megapixels/s" in speed and "tokens" not in speed
