"""``nearfield embed`` of media on S3: files, tables and tars; what changes, is denied, or is set aside."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from nearfield.bulk.media_files.detection import MediaInputs, MediaLayout, find_media
from nearfield.bulk.media_files.media_table import find_place
from nearfield.errors import InputError
from nearfield.fileio.s3.path import S3Path
from tests.support import tiny_pictures, tiny_sounds
from tests.support.cli_runner import run
from tests.support.media_sets import BAD_REASONS, bad_items, good_items, write_folder, write_tar
from tests.support.s3_bucket import OUT, Run, content, ids_of, manifest_of, names, put_files, report_of, shard_files
from tests.support.s3_server import BUCKET, Faults

pytest.importorskip("obstore", reason="needs nearfield[s3]")
pytest.importorskip("moto.server", reason="needs moto, a server of S3: pip install 'moto[server]'")
pytestmark = [pytest.mark.process, pytest.mark.slow]

PHOTOS = f"s3://{BUCKET}/photos/"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def pictures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, home: S3Path, tmp_path: Path
) -> Run:
    """Run ``nearfield embed`` with a tiny model of pictures, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    words = ("--model", clip, "--precision", "float32", "--json")
    return lambda *more: run(capsys, monkeypatch, "embed", *more, *words)


def _mixed(count: int = 12) -> dict[str, bytes]:
    """Good files, and bad ones among them, by name."""
    bad = {f"g0003-{name}.jpg": data for name, data in bad_items().items()}
    return dict(sorted({**good_items(count), **bad}.items()))


def _put(items: dict[str, bytes], folder: str = "photos/2024") -> None:
    put_files(items, folder)


def _disk_parts(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(folder).glob("part-*"))]


def _set_aside(home: S3Path) -> dict[object, dict[str, Any]]:
    return {line["id"]: line for line in map(json.loads, content(home, "_set_aside.jsonl").splitlines())}


def test_files_become_shards_and_what_cannot_be_read_is_set_aside(pictures: Run, home: S3Path, tmp_path: Path) -> None:
    """The bytes are those of the same files on a disk. A file that is repaired is encoded again, and no other."""
    items = _mixed()
    _put({**items, "._g.png": b"", "notes.txt": b"no picture"})
    write_folder(tmp_path / "photos" / "2024", items)
    words = ("--shard-rows", 4, "--skip-unreadable")
    report = report_of(pictures(PHOTOS, "-o", OUT, "--shard-rows", 4), code=1)
    assert (report["texts"], report["set_aside"], report["unit"], report["state"]) == (12, 5, "picture", "complete")
    report_of(pictures("photos", "-o", "whole/", *words))
    assert shard_files(home) == _disk_parts("whole")
    lines = _set_aside(home)
    assert list(lines) == [f"2024/{name}" for name in items if "-" in name]
    for name, part in BAD_REASONS.items():
        line = lines[f"2024/g0003-{name}.jpg"]
        assert part in line["reason"] and line["where"] == f"{PHOTOS}2024/g0003-{name}.jpg"
    assert not any("set_aside_rows" in shard for shard in manifest_of(home)["shards"])
    assert report_of(pictures(PHOTOS, "-o", OUT, *words))["skipped"] == 5
    assert report_of(pictures(PHOTOS, "-o", OUT, *words, "--retry-set-aside"))["written"] == 2
    _put({name: items["g0001.png"] for name in items if "-" in name})
    report = report_of(pictures(PHOTOS, "-o", OUT, "--shard-rows", 4))
    assert (report["written"], report["skipped"], report["set_aside"]) == (2, 3, 0)
    assert "_set_aside.jsonl" not in names(home)
    assert ids_of(home) == [f"2024/{name}" for name in items]
    assert not list((tmp_path / "drafts").iterdir())


def test_inputs_and_output_may_be_on_either_side(pictures: Run, home: S3Path, tmp_path: Path) -> None:
    _put(good_items(5))
    write_folder(tmp_path / "photos" / "2024", good_items(5))
    assert report_of(pictures(f"{PHOTOS}2024/*.png", "-o", "disk/"))["texts"] == 5
    assert parquet.read_table("disk")["id"].to_pylist() == [f"{PHOTOS}2024/{name}" for name in good_items(5)]
    assert report_of(pictures("photos", "-o", OUT))["texts"] == 5
    assert ids_of(home) == [f"2024/{name}" for name in good_items(5)]


def test_a_column_of_bytes_paths_and_urls(pictures: Run, home: S3Path) -> None:
    """Objects are looked up for the plan; one that is missing is set aside, and encoded when it is there."""
    items = good_items(6)
    _put(items, "data/photos")
    files = list(items.values())
    cells = [
        {"bytes": files[0], "path": "x.png"},
        {"bytes": None, "path": "photos/g0001.png"},
        {"bytes": None, "path": f"s3://{BUCKET}/data/photos/g0002.png"},
        {"bytes": None, "path": "../data/photos/g0003.png"},
        {"bytes": None, "path": "photos/late.png"},
        {"bytes": None, "path": "/etc/hostname"},
        {"bytes": None, "path": "../../g0003.png"},
        None,
    ]
    sink = io.BytesIO()
    parquet.write_table(arrow.table({"key": [f"k{at}" for at in range(8)], "image": cells}), sink)
    home.client.put("data/rows.parquet", sink.getvalue())
    words = (f"s3://{BUCKET}/data/", "--media", "image", "--id-field", "key", "-o", OUT, "--shard-rows", 2)
    report = report_of(pictures(*words), code=1)
    assert (report["texts"], report["set_aside"], report["written"]) == (4, 4, 4)
    reasons = {key: line["reason"] for key, line in _set_aside(home).items()}
    assert reasons["k4"] == f"There is no object s3://{BUCKET}/data/photos/late.png."
    assert "no path below the bucket of the table" in reasons["k5"] and "no path below" in reasons["k6"]
    assert reasons["k7"] == "it holds nothing."
    write_folder(Path("photos"), dict(list(items.items())[:4]))
    report_of(pictures("photos", "-o", "disk/"))
    expected = parquet.read_table("disk")["embedding"].to_pylist()
    tables = [parquet.read_table(arrow.BufferReader(part)) for part in shard_files(home)]
    assert [row for table in tables for row in table["embedding"].to_pylist()] == expected
    _put({"late.png": files[4]}, "data/photos")
    report = report_of(pictures(*words), code=1)
    assert (report["written"], report["skipped"], report["set_aside"]) == (1, 3, 3)


def _write_tars(folder: Path) -> None:
    folder.mkdir()
    members = []
    for number, (name, data) in enumerate(_mixed().items()):
        members += [(name, data), (f"{name.partition('.')[0]}.txt", f"number {number}".encode())]
    write_tar(folder / "a.tar", members)
    whole = write_tar(folder / "b.tar", [(f"b{name}", data) for name, data in good_items(4).items()])
    whole.write_bytes(whole.read_bytes()[: -(2 << 12)])  # without its end


def test_samples_of_tars_are_those_of_the_same_tars_on_a_disk(
    pictures: Run, home: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards begin anywhere in a tar, and one of the tars is cut off. Little is read at once, so that reads jump."""
    monkeypatch.setattr("nearfield.fileio.s3.path._READ_BYTES", 700)
    _write_tars(tmp_path / "tars")
    _put({path.name: path.read_bytes() for path in (tmp_path / "tars").iterdir()}, "tars")
    words = ("--keep", "txt", "--shard-rows", 4, "--skip-unreadable")
    report = report_of(pictures(f"s3://{BUCKET}/tars/", "-o", OUT, *words))
    whole = report_of(pictures("tars", "-o", "whole/", *words))
    assert (report["texts"], report["set_aside"]) == (whole["texts"], whole["set_aside"])
    assert report["texts"] > 12 and report["set_aside"] >= 6
    assert shard_files(home) == _disk_parts("whole")
    on_disk = map(json.loads, Path("whole/_set_aside.jsonl").read_text(encoding="utf-8").splitlines())
    assert {key: line["reason"] for key, line in _set_aside(home).items()} == {
        line["id"]: line["reason"] for line in on_disk
    }
    assert report_of(pictures(f"s3://{BUCKET}/tars/*.tar", "-o", OUT, *words))["skipped"] == whole["written"]
    for part in (2, 1):
        report_of(pictures(f"s3://{BUCKET}/tars/", "-o", f"s3://{BUCKET}/shares/", *words, "--shard", f"{part}/2"))
    assert shard_files(S3Path(BUCKET, "shares")) == _disk_parts("whole")


def test_segments_of_sounds(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    home: S3Path,
    faults: Faults,
) -> None:
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.chdir(tmp_path)
    clap = tiny_sounds.write_clap(tmp_path_factory.mktemp("models") / "clap")
    Path("sounds").mkdir()
    for number, seconds in enumerate((2.25, 0.5, 1.0)):
        soundfile.write(f"sounds/{number}.wav", tiny_sounds.tone(seconds, 300 + 200 * number, 16_000), 16_000)
    Path("sounds/3.wav").write_bytes(b"no sound")
    _put({path.name: path.read_bytes() for path in Path("sounds").iterdir()}, "sounds")
    options = ("--model", clap, "--precision", "float32", "--json", "--segments", 0.5, "--shard-rows", 3)
    ran = run(capsys, monkeypatch, "embed", f"s3://{BUCKET}/sounds/", "-o", OUT, *options)
    report = report_of(ran, code=1)
    assert (report["unit"], report["set_aside"]) == ("segment", 1)
    assert report_of(run(capsys, monkeypatch, "embed", "sounds", "-o", "whole/", *options), code=1)["written"] > 1
    assert shard_files(home) == _disk_parts("whole")
    assert ids_of(home)[:2] == ["0.wav#t=0,0.5", "0.wav#t=0.5,1"]
    read: list[str] = []
    faults.before = lambda method, path: read.append(path) if method == "GET" and path.endswith(".wav") else None
    ran = run(capsys, monkeypatch, "embed", f"s3://{BUCKET}/sounds/", "-o", OUT, *options)
    assert (report_of(ran, code=1)["written"], read) == (0, [])  # the plan is there


def test_killed_runs_lose_and_double_nothing_while_requests_fail(
    pictures: Run, home: S3Path, faults: Faults, clip: Path, tmp_path: Path
) -> None:
    """Each of three runs is killed after it has written some shards; a third of the requests are answered with 503."""
    items = _mixed(40)
    _put(items)
    write_folder(tmp_path / "photos" / "2024", items)
    words = [PHOTOS, "-o", OUT, "--shard-rows", "4", "--quiet", "--model", str(clip), "--precision", "float32"]
    command = [sys.executable, "-m", "nearfield.cli", "embed", *words]
    faults.refused = 0.3
    for _ in range(3):
        uploads = faults.uploads + 2
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while faults.uploads < uploads and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    report = report_of(pictures(PHOTOS, "-o", OUT, "--shard-rows", 4), code=1)
    faults.refused = 0.0
    assert faults.failures > 5
    assert (report["texts"], report["set_aside"], report["state"]) == (40, 5, "complete")
    assert 0 < report["skipped"] < report["shards"]
    report_of(pictures("photos", "-o", "whole/", "--shard-rows", 4, "--skip-unreadable"))
    assert shard_files(home) == _disk_parts("whole")
    named = [name for shard in manifest_of(home)["shards"] for name in shard["files"]]
    assert sorted(named) == [name for name in names(home) if name.startswith("part-")]
    assert len(_set_aside(home)) == 5


def test_a_picture_that_changes_or_goes_away_costs_its_shard_and_a_denied_one_itself(
    pictures: Run, home: S3Path, faults: Faults
) -> None:
    items = good_items(8)
    _put(items)
    words = (PHOTOS, "-o", OUT, "--shard-rows", 2)

    def change(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/_manifest.json"):  # the first one is written before the work
            faults.before = lambda method, path: None
            _put({"g0002.png": items["g0000.png"]})
            home.client.delete(["photos/2024/g0005.png"])

    def deny(method: str, path: str) -> tuple[str, bytes] | None:
        denied = method == "GET" and path.endswith("g0007.png")
        return ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>") if denied else None

    faults.before, faults.answer = change, deny
    ran = pictures(*words)
    assert (ran.code, "changed while it was read: run the command again" in ran.err) == (2, True), ran.err
    assert ids_of(home) == ["2024/g0000.png", "2024/g0001.png", "2024/g0006.png"]
    assert "denies to read it (AccessDenied)" in _set_aside(home)["2024/g0007.png"]["reason"]
    faults.answer = lambda method, path: None
    report = report_of(pictures(*words, "--retry-set-aside"))
    assert (report["set_aside"], report["state"]) == (0, "complete")
    assert ids_of(home) == [f"2024/{name}" for name in items if name != "g0005.png"]


def test_keys_that_expire_set_nothing_aside(pictures: Run, home: S3Path, faults: Faults) -> None:
    _put(good_items(8))
    read: list[str] = []

    def expire(method: str, path: str) -> tuple[str, bytes] | None:
        if method == "GET" and "/photos/" in path:
            read.append(path)
        expired = len(read) > 3 and "/photos/" in path
        return ("400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>") if expired else None

    faults.answer = expire
    ran = pictures(PHOTOS, "-o", OUT, "--shard-rows", 2)
    assert (ran.code, "the access keys have expired" in ran.err) == (2, True), ran.err
    faults.answer = lambda method, path: None
    assert "_set_aside.jsonl" not in names(home)
    assert report_of(pictures(PHOTOS, "-o", OUT, "--shard-rows", 2))["texts"] == 8


def test_what_inputs_on_s3_are(home: S3Path, tmp_path: Path) -> None:
    item = {"a.png": good_items(1)["g0000.png"]}
    _put(item, "photos")
    _put({"a.csv": b"image\n", **item}, "tables")
    _put({"a.tar": write_tar(tmp_path / "a.tar", [("a.flac", b""), ("b.flac", b"")]).read_bytes()}, "tars")

    def found(*keys: str, form: str | None = None, media: str | None = None) -> MediaInputs | None:
        return find_media([S3Path(BUCKET, key) for key in keys], form, media)

    files, archives = MediaInputs("image", MediaLayout.FILES), MediaInputs("audio", MediaLayout.TAR)
    assert found("photos") == found("photos/a.png") == found("photos/*.png") == found("photos", "photos") == files
    assert found("tables", form="image") == found("tables/*.png") == files
    assert found("tables") is None and found("tables/a.csv") is None and found("none") is None
    assert found("tables", media="video") == MediaInputs("video", MediaLayout.TABLE)
    assert found("tars") == found("tars/a.tar") == found("tars/*") == archives
    assert found("photos", "tars") is None
    with pytest.raises(InputError, match="by a run each"):
        found("photos", "tars", media="image")


def test_a_single_file_of_vectors_of_objects_is_refused(pictures: Run) -> None:
    _put(good_items(1))
    ran = pictures(PHOTOS, "-o", "photos.parquet")
    assert (ran.code, "Media on S3 become a folder of shards: end the name with a slash" in ran.err) == (2, True)
    assert "End its name with a slash" in pictures(PHOTOS, "-o", f"s3://{BUCKET}/x.parquet").err


def test_what_cells_of_a_table_on_s3_may_hold() -> None:
    folder = S3Path("bucket", "data")
    assert find_place(folder, "a/../b.png") == S3Path("bucket", "data/b.png")
    assert find_place(folder, "../c.png") == S3Path("bucket", "c.png")
    assert (
        find_place(folder, "s3://other/d.png") == find_place(Path("/x"), "S3://other/d.png") == S3Path("other", "d.png")
    )
    for value in ("/c.png", "../../c.png", "..", "s3://", "s3://other/../d.png", "gs://other/d.png", "a\0b"):
        with pytest.raises(InputError):
            find_place(folder, value)
