"""``nearfield embed`` and ``similarity`` of videos: rows, segments, unreadable files, and a run that stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from nearfield import Encoder, Image, Video
from nearfield.bulk.media_files.detection import media_form
from nearfield.bulk.media_files.video_source import VideoOptions, VideoRows
from nearfield.errors import InputError
from tests.support import tiny_pictures
from tests.support.cli_runner import Ran, run
from tests.support.films import Film, write_film

pytestmark = [pytest.mark.slow, pytest.mark.process]

Run = Callable[..., Ran]
#: Seconds of each film.
FILMS = {"2024/b.webm": 2.0, "a.MP4": 3.5}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def encoder(clip: Path) -> Iterator[Encoder]:
    with Encoder(str(clip), precision="float32") as model:
        yield model


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "clips"
    (folder / "2024").mkdir(parents=True)
    (folder / "a.MP4").write_bytes(write_film(Film(count=42)))
    (folder / "2024/b.webm").write_bytes(write_film(Film("webm vp9", seed=1)))
    (folder / "notes.txt").write_text("no video")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path) -> Run:
    options = ("--model", clip, "--precision", "float32")
    return lambda *words: run(capsys, monkeypatch, "embed", *words, *options)


def test_a_folder_of_videos(embed: Run, encoder: Encoder, clips: Path) -> None:
    ran = embed("clips/", "-o", "clips.parquet", "--json")
    assert ran.code == 0, ran.err
    table = parquet.read_table("clips.parquet")
    assert table["id"].to_pylist() == list(FILMS)
    assert table.column_names == ["id", "embedding", "tokens", "truncated"]
    expected = encoder.encode([Video(path=clips / name) for name in FILMS])
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), np.asarray(expected), atol=1e-6)
    assert table["tokens"].to_pylist() == [2 * 17, 3 * 17]
    assert table.schema.metadata[b"nearfield.fingerprint"].decode() == encoder.fingerprint
    report = json.loads(ran.out)
    assert (report["unit"], report["texts"], report["video_seconds"]) == ("video", 2, pytest.approx(5.5, abs=0.05))
    text = embed("clips/a.MP4", "-o", "again.jsonl", "--fps", "12", "--max-frames", "5").out
    assert "1 video, 3.5 seconds" in text and "videos/s" in text
    row = json.loads(Path("again.jsonl").read_text())
    few = encoder.encode(Video(path=clips / "a.MP4", fps=12, max_frames=5))
    np.testing.assert_allclose(row["embedding"], np.asarray(few), atol=1e-6)
    assert row["tokens"] == 5 * 17


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_segments_are_rows_with_their_times(embed: Run, encoder: Encoder, clips: Path, form: str) -> None:
    ran = embed("clips", "-o", f"x.{form}", "--segments", "1", "--json")
    assert ran.code == 0, ran.err
    if form == "parquet":
        rows = parquet.read_table("x.parquet").to_pylist()
    else:
        rows = list(map(json.loads, Path("x.jsonl").read_text().splitlines()))
    assert [row["start"] for row in rows] == [0, 1, 0, 1, 2, 3]
    assert [row["end"] for row in rows] == pytest.approx([1, 2, 1, 2, 3, 3.5], abs=0.05)
    assert rows[-2]["id"] == "a.MP4#t=2,3"
    parts = [part for name in FILMS for part in Video(path=clips / name).segments(1)]
    expected = np.asarray(encoder.encode(parts))
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-6)
    assert json.loads(ran.out)["unit"] == "segment"


def test_a_run_with_other_frames_is_another_run(clips: Path) -> None:
    sources = [VideoRows([clips], clips / "x", VideoOptions(*options)) for options in ((), (10,), (None, 2), (5, 2, 8))]
    assert len({json.dumps(source.identity()) for source in sources}) == 4
    parts = VideoRows([clips], clips / "x", VideoOptions(1))
    assert parts.count() == 6
    digests = [parts.digest(rows) for rows in range(7)]
    assert digests[1] == digests[2] and digests[3] == digests[6] and len(set(digests)) == 3
    (clips / "a.MP4").write_bytes(write_film(Film(count=43)))
    again = VideoRows([clips], clips / "x", VideoOptions(1))
    assert again.digest(0) == digests[0]
    again.count()
    assert again.digest(2) == digests[2] and again.digest(3) != digests[3]


def test_when_inputs_are_videos(embed: Run, clips: Path) -> None:
    assert media_form([clips], None) == media_form([clips / "a.MP4", Path("clips/2024/*.webm")], None) == "video"
    assert media_form([clips / "notes.txt"], None) is None and media_form([Path("-")], None) is None
    tiny_pictures.pictures()[0].save(clips / "poster.png")
    assert media_form([clips], None) == "image" and media_form([clips], "video") == "video"
    ran = embed("clips", "-o", "x.jsonl")
    assert ran.code == 0 and "clips holds 2 videos too, left out here: --format video reads them" in ran.err
    assert embed("clips", "-o", "y.jsonl", "--format", "video").code == 0
    assert len(Path("y.jsonl").read_text().splitlines()) == 2


def test_unreadable_files_are_named_before_the_work_or_left_out(embed: Run, clips: Path) -> None:
    (clips / "bad.mp4").write_text("a text")
    ran = embed("clips", "-o", "x.jsonl")
    assert ran.code == 2 and "1 of 3 videos cannot be read" in ran.err and "bad.mp4 is no known video" in ran.err
    ran = embed("clips", "-o", "x.jsonl", "--skip-unreadable")
    assert ran.code == 0, ran.err
    assert "1 file that cannot be read" in ran.out
    assert [json.loads(line)["id"] for line in Path("x.jsonl").read_text().splitlines()] == list(FILMS)


def test_what_cannot_be_written_is_refused(embed: Run, clips: Path) -> None:
    assert "NPY holds no ids" in embed("clips", "-o", "x.npy").err
    assert "ids of videos are their paths" in embed("clips", "-o", "x.parquet", "--id-field", "id").err
    assert "--segments is for videos" in embed("clips/notes.txt", "-o", "x.npy", "--segments", "5").err
    assert "seconds must be" in embed("clips", "-o", "x.jsonl", "--segments", "0").err
    assert "max_frames must be" in embed("clips", "-o", "x.jsonl", "--max-frames", "0").err
    (clips / "none").mkdir()
    with pytest.raises(InputError, match="ends in"):
        VideoRows([clips / "none"], clips / "x")


def test_similarity_of_a_video(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, encoder: Encoder, clips: Path
) -> None:
    (clips / "film").write_bytes((clips / "a.MP4").read_bytes())
    tiny_pictures.pictures()[0].save(clips / "poster.png")
    words = ("similarity", "clips/film", "a cat", "clips/poster.png", "clips/none.mp4", "--model", clip, "--json")
    ran = run(capsys, monkeypatch, *words)
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    others = ["a cat", Image(path=clips / "poster.png"), "clips/none.mp4"]
    expected = encoder.similarity(encoder.encode([Video(path=clips / "film")]), encoder.encode(others))[0]
    assert report["video"] == "clips/film"
    assert [next(iter(row)) for row in report["scores"]] == ["text", "image", "text"]
    np.testing.assert_allclose([row["score"] for row in report["scores"]], expected, atol=1e-2)
