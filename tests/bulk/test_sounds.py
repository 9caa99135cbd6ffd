"""``nearfield embed`` of sounds: rows, segments, unreadable files, and a run that stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.dataset as datasets
import pytest
from pyarrow import parquet

from nearfield import Audio, Encoder
from nearfield.bulk.media_files.detection import media_form
from nearfield.bulk.media_files.sound_source import SoundRows
from tests.support import bad_media, tiny_pictures, tiny_sounds
from tests.support.cli_runner import Ran, run
from tests.support.media_sets import write_tar

soundfile = pytest.importorskip("soundfile")
pytestmark = [pytest.mark.slow, pytest.mark.process]

Run = Callable[..., Ran]
#: Sounds in the order of their paths: seconds and format of each.
SOUNDS = {"2024/c.flac": (0.5, "FLAC"), "a.WAV": (2.25, "WAV"), "b.ogg": (0.3, "OGG"), "d.mp3": (0.4, "MP3")}


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sounds.write_clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture(scope="module")
def encoder(clap: Path) -> Encoder:
    return Encoder(str(clap), precision="float32", modalities=("audio",))


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sounds"
    (folder / "2024").mkdir(parents=True)
    for number, (name, (seconds, kind)) in enumerate(SOUNDS.items()):
        rise = np.linspace(0, 1, round(seconds * 16_000))
        soundfile.write(
            folder / name, rise * tiny_sounds.tone(seconds, 300 + 200 * number, 16_000), 16_000, format=kind
        )
    (folder / "notes.txt").write_text("no sound")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clap: Path) -> Run:
    options = ("--model", clap, "--precision", "float32")
    return lambda *words: run(capsys, monkeypatch, "embed", *words, *options)


def test_a_folder_of_sounds(embed: Run, encoder: Encoder, sounds: Path) -> None:
    ran = embed("sounds/", "-o", "sounds.parquet", "--json")
    assert ran.code == 0, ran.err
    table = parquet.read_table("sounds.parquet")
    assert table["id"].to_pylist() == list(SOUNDS)
    assert table.column_names == ["id", "embedding", "tokens", "truncated"]
    expected = encoder.encode([Audio(path=sounds / name) for name in SOUNDS])
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), np.asarray(expected), atol=1e-6)
    assert table.schema.metadata[b"nearfield.fingerprint"].decode() == encoder.fingerprint
    report = json.loads(ran.out)
    total = sum(seconds for seconds, _ in SOUNDS.values())
    assert (report["unit"], report["texts"], report["video_seconds"]) == ("sound", 4, 0)
    assert report["audio_seconds"] == pytest.approx(total, abs=0.1)
    text = embed("sounds/a.WAV", "-o", "again.jsonl").out
    assert "1 sound, 2.2 seconds" in text and "sounds/s" in text


def test_segments_are_rows_with_their_times(embed: Run, encoder: Encoder, sounds: Path) -> None:
    ran = embed("sounds", "-o", "x.parquet", "--segments", "1", "--json")
    assert ran.code == 0, ran.err
    rows = parquet.read_table("x.parquet").to_pylist()
    assert [row["start"] for row in rows] == [0, 0, 1, 2, 0, 0]
    assert [row["id"] for row in rows[1:4]] == ["a.WAV#t=0,1", "a.WAV#t=1,2", "a.WAV#t=2,2.25"]
    samples, rate = soundfile.read(sounds / "a.WAV", dtype="float32")
    parts = [Audio(samples[start * rate : (start + 1) * rate], rate=rate) for start in range(3)]
    expected = np.asarray(encoder.encode(parts))
    np.testing.assert_allclose([row["embedding"] for row in rows[1:4]], expected, atol=1e-6)
    assert json.loads(ran.out)["unit"] == "segment"


def test_when_inputs_are_sounds(embed: Run, sounds: Path) -> None:
    assert media_form([sounds], None) == media_form([sounds / "a.WAV", Path("sounds/*.ogg")], None) == "audio"
    assert media_form([sounds / "a.WAV", sounds / "notes.txt"], None) is None
    tiny_pictures.pictures()[0].save(sounds / "cover.png")
    assert media_form([sounds], None) == "image" and media_form([sounds], "audio") == "audio"
    assert "sounds holds 4 sounds too, left out here: --format audio" in embed("sounds", "-o", "x.jsonl").err
    assert embed("sounds", "-o", "y.jsonl", "--format", "audio").code == 0
    assert len(Path("y.jsonl").read_text().splitlines()) == 4
    assert (
        "a.WAV is a sound, and other inputs are not" in embed("sounds/a.WAV", "sounds/notes.txt", "-o", "z.jsonl").err
    )


def test_unreadable_files_are_named_before_the_work_or_left_out(embed: Run, sounds: Path) -> None:
    (sounds / "bad.mp3").write_text("a text")
    (sounds / "head.flac").write_bytes(b"fLaC" + bytes(60))
    ran = embed("sounds", "-o", "x.jsonl")
    assert ran.code == 2 and "2 of 6 sounds cannot be read" in ran.err and "bad.mp3 is no known sound" in ran.err
    assert "head.flac cannot be decoded as FLAC" in ran.err and not Path("x.jsonl").exists()
    (sounds / "nan.wav").write_bytes(bad_media.wav(8000, 1, np.full(8000, np.nan, np.float32)))
    ran = embed("sounds", "-o", "x.jsonl", "--skip-unreadable")
    assert ran.code == 0, ran.err
    assert "3 files that cannot be read" in ran.out and "nan.wav from" not in ran.err
    assert [json.loads(line)["id"] for line in Path("x.jsonl").read_text().splitlines()] == list(SOUNDS)


def test_segments_in_shards(embed: Run, sounds: Path) -> None:
    """They are those of a file of vectors; a sound without a header is set aside, and shards begin within a sound."""
    (sounds / "bad.mp3").write_text("a text")
    for path in filter(Path.is_file, sounds.rglob("*")):
        os.utime(path, (path.stat().st_mtime - 60,) * 2)
    words = ("sounds", "--segments", "0.5")
    assert embed(*words, "-o", "one.parquet", "--skip-unreadable").code == 0
    ran = embed(*words, "-o", "out/", "--shard-rows", "2", "--shard", "2/2", "--json")
    assert (ran.code, json.loads(ran.out)["unit"]) == (1, "segment"), ran.err
    assert Path("out/_shards/plan.json").exists()
    report = json.loads(embed(*words, "-o", "out/", "--shard-rows", "2", "--json", "--skip-unreadable").out)
    assert (report["state"], report["set_aside"], report["texts"]) == ("complete", 1, 8)
    columns = ["id", "start", "end", "embedding", "tokens"]
    one, several = parquet.read_table("one.parquet"), datasets.dataset("out").to_table()
    for name in ("id", "start", "end", "tokens"):
        assert one[name].to_pylist() == several[name].to_pylist()
    expected, actual = (np.array(table["embedding"].to_pylist()) for table in (one, several))
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert "keep" not in several.column_names and set(several.column_names) == {*columns, "truncated"}
    assert "there, 1.0 here" in embed("sounds", "--segments", "1", "-o", "out/").err


def test_sounds_in_a_column_and_in_a_tar(embed: Run, sounds: Path, encoder: Encoder) -> None:
    data = {name.partition(".")[0]: (sounds / name).read_bytes() for name in ("a.WAV", "b.ogg", "d.mp3")}
    parquet.write_table(arrow.table({"id": list(data), "audio": list(data.values())}), "a.parquet")
    write_tar(Path("a.tar"), [(f"{name}.wav", content) for name, content in data.items()])
    assert embed("a.parquet", "--media", "audio", "--id-field", "id", "-o", "column/").code == 0
    assert embed("a.tar", "-o", "tar/").code == 0
    expected = np.asarray(encoder.encode([Audio(content) for content in data.values()]))
    for folder in ("column", "tar"):
        table = datasets.dataset(folder).to_table()
        assert table["id"].to_pylist() == list(data)
        np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), expected, atol=1e-6)


def test_a_run_with_other_segments_is_another_run(sounds: Path) -> None:
    sources = [SoundRows([sounds], sounds / "x", seconds) for seconds in (None, 1, 2)]
    assert len({json.dumps(source.identity()) for source in sources}) == 3
    parts = SoundRows([sounds], sounds / "x", 1)
    assert parts.count() == 6
    digests = [parts.digest(rows) for rows in range(7)]
    assert digests[2] == digests[3] == digests[4] and len(set(digests)) == 5


def test_what_is_for_other_inputs_is_refused(embed: Run, sounds: Path) -> None:
    assert "--fps is for videos" in embed("sounds", "-o", "x.jsonl", "--fps", "2").err
    assert "seconds must be" in embed("sounds", "-o", "x.jsonl", "--segments", "0").err
