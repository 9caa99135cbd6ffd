"""``nearfield embed`` of pictures to shards: files, tables and tars; what cannot be read; what is done again."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.dataset as datasets
import pytest
from pyarrow import parquet

from nearfield import Encoder, Image
from nearfield.bulk.embed import EmbedRequest
from nearfield.bulk.embed import embed as run_bulk
from nearfield.bulk.media_files.detection import MediaInputs, MediaLayout, find_media
from nearfield.bulk.media_files.media_table import find_place
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.media_files.tar_samples import read_samples
from nearfield.bulk.report import FolderReport
from nearfield.bulk.shard_encoder import ShardEncoder
from nearfield.bulk.shard_plan import Shard
from nearfield.errors import InputError
from nearfield.fileio.url_safety import parse_networks
from nearfield.media.fetch import FetchPolicy
from tests.support import tiny_pictures
from tests.support.cli_runner import Ran, run
from tests.support.media_sets import BAD_REASONS, bad_items, good_items, write_folder, write_tar
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.process]

Run = Callable[..., Ran]
COUNT = 30


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def encoder(clip: Path) -> Encoder:
    return Encoder(str(clip), precision="float32", modalities=("image",))


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    words = ("--model", clip, "--precision", "float32")
    return lambda *more: run(capsys, monkeypatch, "embed", *more, *words)


def _mixed() -> dict[str, bytes]:
    """Good files, and bad ones among them, by name."""
    good, bad = list(good_items(COUNT).items()), [(f"b-{name}.jpg", data) for name, data in bad_items().items()]
    for place, item in zip((0, 7, 8, 20, COUNT + 4), bad, strict=True):
        good.insert(place, item)
    return dict(good)


def _shards(folder: Path) -> dict[str, bytes]:
    """The bytes of everything but the locks and the plan."""
    names = ("part-*", "_manifest.json", "_set_aside.jsonl")
    return {path.name: path.read_bytes() for name in names for path in sorted(folder.glob(name))}


def _set_aside(folder: Path) -> dict[object, str]:
    lines = (folder / "_set_aside.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["id"]: line["reason"] for line in map(json.loads, lines)}


def _report(ran: Ran, code: int = 0) -> dict[str, Any]:
    assert ran.code == code, ran.err
    report: dict[str, Any] = json.loads(ran.out)
    return report


def _check_rows(folder: Path, encoder: Encoder, expected: dict[str, bytes]) -> None:
    """Compare ids and vectors of a folder with those of ``encode``."""
    table = datasets.dataset(folder).to_table()
    assert table["id"].to_pylist() == list(expected)
    vectors = np.asarray(encoder.encode([Image(data) for data in expected.values()]))
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), vectors, atol=1e-6)


def _check_reasons(reasons: dict[object, str], ids: list[object]) -> None:
    assert list(reasons) == ids
    for reason, part in zip(reasons.values(), BAD_REASONS.values(), strict=True):
        assert part in reason


# -- files ---------------------------------------------------------------------------------------------------------


def test_files_become_shards_and_what_cannot_be_read_is_set_aside(embed: Run, encoder: Encoder) -> None:
    good = {name: data for name, data in sorted(_mixed().items()) if name.startswith("g")}
    write_folder(Path("photos/2024"), _mixed())
    words = ("photos", "-o", "out/", "--shard-rows", 8)
    report = _report(embed(*words, "--json"), code=1)
    assert (report["texts"], report["set_aside"], report["unit"], report["shards"]) == (COUNT, 5, "picture", 5)
    assert (report["state"], report["tokens"]) == ("complete", 17 * COUNT)
    _check_rows(Path("out"), encoder, {f"2024/{name}": data for name, data in good.items()})
    reasons = _set_aside(Path("out"))
    assert sorted(map(str, reasons)) == sorted(f"2024/b-{name}.jpg" for name in BAD_REASONS)
    assert all(part in reasons[f"2024/b-{name}.jpg"] for name, part in BAD_REASONS.items())
    before = _shards(Path("out"))
    ran = embed(*words, "--skip-unreadable")
    assert (ran.code, "Nothing new was written" in ran.out) == (0, True)
    assert "5 pictures that cannot be read: see out/_set_aside.jsonl" in ran.out
    assert _shards(Path("out")) == before
    manifest = json.loads(before["_manifest.json"])
    assert (manifest["rows"], manifest["set_aside"]) == (COUNT + 5, 5)
    assert "set_aside_rows" not in manifest["shards"][0]


@pytest.mark.parametrize("form", ["npy", "jsonl"])
def test_other_formats_have_no_rows_of_what_was_set_aside(embed: Run, encoder: Encoder, form: str) -> None:
    write_folder(Path("photos"), _mixed())
    _report(embed("photos", "-o", "out/", "--shard-rows", 20, "--shard-format", form, "--json"), code=1)
    lines = [
        json.loads(line) for path in sorted(Path("out").glob("part*.jsonl")) for line in path.read_text().splitlines()
    ]
    assert [line["id"] for line in lines] == [name for name in sorted(_mixed()) if name.startswith("g")]
    parts = [np.load(path) for path in sorted(Path("out").glob("*.npy"))]
    rows = np.concatenate(parts) if parts else np.array([line["embedding"] for line in lines])
    good = [Image(data) for name, data in sorted(_mixed().items()) if name.startswith("g")]
    np.testing.assert_allclose(rows, np.asarray(encoder.encode(good)), atol=1e-6)


def test_a_file_that_was_changed_added_or_repaired_is_encoded_again(embed: Run, encoder: Encoder) -> None:
    items = good_items(20)
    write_folder(Path("photos"), items | {"g0004.png": b"bad"})
    words = ("photos", "-o", "out/", "--shard-rows", 5, "--json")
    assert _report(embed(*words), code=1)["written"] == 4
    write_folder(Path("photos"), {"g0004.png": items["g0004.png"]})
    report = _report(embed(*words))
    assert (report["written"], report["skipped"], report["set_aside"]) == (1, 3, 0)
    assert not Path("out/_set_aside.jsonl").exists()
    write_folder(Path("photos"), {"h.png": items["g0001.png"]})
    assert _report(embed(*words))["written"] == 1
    _check_rows(Path("out"), encoder, items | {"h.png": items["g0001.png"]})


def test_shards_with_set_aside_items_are_tried_again_on_request(embed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture is refused at first, though its file does not change: a disk that is out of reach for a while."""
    write_folder(Path("photos"), good_items(20))
    words, read, failing = ("photos", "-o", "out/", "--shard-rows", 5, "--json"), Image.read, ["g0007.png"]

    def broken(self: Image, *limits: Any) -> Any:
        if Path(self.name).name in failing:
            raise InputError(f"{self.name} cannot be read: Stale file handle.")
        return read(self, *limits)

    monkeypatch.setattr(Image, "read", broken)
    assert _report(embed(*words), code=1)["set_aside"] == 1
    failing.clear()
    assert _report(embed(*words), code=1)["written"] == 0
    report = _report(embed(*words, "--retry-set-aside"))
    assert (report["written"], report["skipped"], report["set_aside"], report["texts"]) == (1, 3, 0, 20)


def test_a_name_that_is_not_utf8_and_a_link_to_nothing(embed: Run) -> None:
    write_folder(Path("photos"), good_items(2))
    Path("photos/g0000.png").rename(os.fsdecode(b"photos/caf\xe9.png"))
    assert _report(embed("photos", "-o", "out/", "--json"))["texts"] == 2
    assert datasets.dataset("out").to_table()["id"].to_pylist() == ["caf\\udce9.png", "g0001.png"]


def test_a_killed_run_continues_with_the_same_bytes(embed: Run, clip: Path) -> None:
    """Three runs are killed by a picture that ends the process, each in another shard."""
    write_folder(Path("photos"), _mixed())
    words = ["embed", "photos", "-o", "out/", "--shard-rows", "6", "--model", str(clip), "--precision", "float32"]
    code = (
        "import os, signal, sys\nfrom nearfield import cli\nfrom nearfield.media.image import Image\n"
        "read, name = Image.read, sys.argv[1]\n"
        "def deadly(self, *limits):\n"
        "    if self.name.endswith(name):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(self, *limits)\n"
        "Image.read = deadly\nsys.argv = ['nearfield', *sys.argv[2:]]\ncli.main()\n"
    )
    for name in ("g0004.png", "g0012.png", "g0029.png"):
        done = subprocess.run([sys.executable, "-c", code, name, *words], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert embed("photos", "-o", "out/", "--shard-rows", 6).code == 1
    assert embed("photos", "-o", "whole/", "--shard-rows", 6).code == 1
    assert _shards(Path("out")) == _shards(Path("whole"))


def test_shares_of_several_processes_make_the_same_folder(embed: Run) -> None:
    write_folder(Path("photos"), _mixed())
    words = ("photos", "--shard-rows", 6, "--skip-unreadable", "--json")
    assert [_report(embed(*words, "-o", "out/", "--shard", f"{part}/3"))["written"] for part in (2, 3, 1)] == [2, 2, 2]
    assert _report(embed(*words, "-o", "whole/"))["written"] == 6
    assert _shards(Path("out")) == _shards(Path("whole"))


def test_a_file_that_changes_during_a_run_costs_its_shard_alone(
    embed: Run, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = good_items(20)
    write_folder(Path("photos"), items)
    words, write = ("photos", "-o", "out/", "--shard-rows", 5, "--json"), ShardEncoder.write

    def changing(self: ShardEncoder, shard: Shard, *more: Any) -> bool:
        if shard.number == 1:
            Path("photos/g0007.png").unlink(missing_ok=True)
        return write(self, shard, *more)

    monkeypatch.setattr(ShardEncoder, "write", changing)
    ran = embed(*words)
    assert (ran.code, "An input changed while it was read" in ran.err) == (2, True)
    assert json.loads(Path("out/_manifest.json").read_text())["rows"] == 15
    write_folder(Path("photos"), {"g0007.png": items["g0007.png"]})
    monkeypatch.setattr(ShardEncoder, "write", write)
    assert _report(embed(*words))["written"] == 1
    _check_rows(Path("out"), encoder, items)


def test_a_forecast_of_pictures(embed: Run) -> None:
    write_folder(Path("photos"), _mixed())
    report = _report(embed("photos", "-o", "out/", "--shard-rows", 10, "--dry-run", "--json"))
    assert (report["texts"], report["shards"], report["unit"]) == (COUNT + 5, 4, "picture")
    assert report["tokens_to_do"] == 17 * (COUNT + 5) and report["tokens_per_second"] > 0
    assert not Path("out").exists()
    assert "35 pictures in 4 shards" in embed("photos", "-o", "out/", "--shard-rows", 10, "--dry-run").out


# -- tables --------------------------------------------------------------------------------------------------------


def test_a_column_of_bytes_of_parquet(embed: Run, encoder: Encoder) -> None:
    items = {Path(name).stem: data for name, data in _mixed().items()}
    columns = {"key": list(items), "image": list(items.values()), "caption": [f"about {name}" for name in items]}
    parquet.write_table(arrow.table(columns), "data.parquet", row_group_size=9)
    os.utime("data.parquet", (1e9, 1e9))
    words = ("data.parquet", "--media", "image", "--id-field", "key", "--keep", "caption", "-o", "out/")
    report = _report(embed(*words, "--shard-rows", 7, "--json"), code=1)
    assert (report["texts"], report["set_aside"], report["unit"]) == (COUNT, 5, "picture")
    good = {name: data for name, data in items.items() if name.startswith("g")}
    _check_rows(Path("out"), encoder, good)
    assert datasets.dataset("out").to_table()["caption"].to_pylist() == [f"about {name}" for name in good]
    _check_reasons(_set_aside(Path("out")), [f"b-{name}" for name in BAD_REASONS])
    assert Path("out/_shards/plan.json").exists()
    assert _report(embed(*words, "--skip-unreadable", "--json"))["skipped"] == 5


def test_structs_of_hugging_face_and_rows_without_ids(embed: Run, encoder: Encoder) -> None:
    files = list(good_items(4).values())
    write_folder(Path("data"), {"one.png": files[1]})
    cells = [{"bytes": files[0], "path": "x.png"}, {"bytes": None, "path": "one.png"}, None, {"bytes": files[3]}]
    parquet.write_table(arrow.table({"image": cells}), "data/train.parquet")
    assert _report(embed("data", "--media", "image", "-o", "out/", "--json"), code=1)["texts"] == 3
    table = datasets.dataset("out").to_table()
    assert table["id"].to_pylist() == [0, 1, 3]
    vectors = np.asarray(encoder.encode([Image(files[at]) for at in (0, 1, 3)]))
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), vectors, atol=1e-6)
    (line,) = map(json.loads, Path("out/_set_aside.jsonl").read_text().splitlines())
    assert (line["row"], line["id"], line["reason"]) == (2, None, "it holds nothing.")
    assert line["where"].endswith("train.parquet, row 3")


def test_paths_are_relative_to_the_table_and_a_missing_file_is_set_aside(embed: Run, encoder: Encoder) -> None:
    items = good_items(6)
    write_folder(Path("data/photos"), items)
    lines: list[object] = [{"id": name, "file": f"photos/{name}"} for name in items]
    uri = "data:image/png;base64," + base64.b64encode(items["g0002.png"]).decode()
    lines += [{"id": "none", "file": "photos/none.png"}, {"id": "uri", "file": uri}]
    lines += [{"id": "number", "file": 7}, {"id": "ftp", "file": "ftp://a/b.png"}, {"id": "nul", "file": "a\0b"}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"id": \n{"file": "photos/g0000.png"}\n'
    Path("data/rows.jsonl").write_text(text, encoding="utf-8")
    words = ("data/rows.jsonl", "--media", "image", "--field", "file", "--id-field", "id", "-o", "out/", "--json")
    assert _report(embed(*words, "--shard-rows", 5), code=1)["set_aside"] == 6
    _check_rows(Path("out"), encoder, {**items, "uri": items["g0002.png"]})
    reasons = [json.loads(line) for line in Path("out/_set_aside.jsonl").read_text().splitlines()]
    assert [entry["id"] for entry in reasons] == ["none", "number", "ftp", "nul", None, None]
    parts = ("No such file", "holds int", "another kind than http", "is no path", "not JSON", "no field 'id'")
    assert all(part in entry["reason"] for part, entry in zip(parts, reasons, strict=True))
    write_folder(Path("data/photos"), {"none.png": items["g0001.png"]})
    report = _report(embed(*words), code=1)
    assert (report["written"], report["skipped"], report["set_aside"]) == (1, 2, 5)


def test_a_list_of_paths_as_plain_text_and_a_csv(embed: Run, encoder: Encoder) -> None:
    items = good_items(3)
    write_folder(Path("photos"), items)
    Path("list.txt").write_text("photos/g0000.png\n\nphotos/g0002.png\n", encoding="utf-8")
    assert _report(embed("list.txt", "--media", "image", "-o", "out/", "--json"), code=1)["texts"] == 2
    assert datasets.dataset("out").to_table()["id"].to_pylist() == [0, 2]
    Path("list.csv").write_text("id,image\n" + "".join(f"{name},photos/{name}\n" for name in items), encoding="utf-8")
    assert _report(embed("list.csv", "--media", "image", "--id-field", "id", "-o", "csv/", "--json"))["texts"] == 3
    _check_rows(Path("csv"), encoder, items)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A server of the files in the folder ``site``, on this machine."""
    (tmp_path / "site").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.network
def test_addresses_are_fetched_if_an_option_says_so(
    embed: Run, encoder: Encoder, clip: Path, site: str, tmp_path: Path
) -> None:
    items = good_items(40)
    write_folder(Path("site"), items)
    rows = [{"id": name, "image": f"{site}/{name}"} for name in [*items, "none.png"]]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ("rows.jsonl", "--media", "image", "--id-field", "id", "--shard-rows", 15)
    assert "nothing is fetched unless --media-urls https" in embed(*words, "-o", "no/").err
    assert _report(embed(*words, "-o", "private/", "--media-urls", "http", "--json"), code=1)["set_aside"] == 41
    assert set(_set_aside(Path("private")).values()) == {
        f"Addresses with port {site.rpartition(':')[2]} are not fetched, only 80, 443."
    }
    policy = FetchPolicy(
        enabled=True,
        allow_http=True,
        ports=(int(site.rpartition(":")[2]),),
        allow_private=parse_networks(["127.0.0.0/8"]),
    )
    request = EmbedRequest(
        [Path("rows.jsonl")], "out/", str(clip), media="image", id_field="id", fetching=policy,
        loading={"precision": "float32"},
    )  # fmt: skip
    report = run_bulk(request)
    assert isinstance(report, FolderReport) and (report.texts, report.set_aside) == (40, 1)
    _check_rows(Path("out"), encoder, items)
    assert _set_aside(Path("out")) == {"none.png": "The address cannot be fetched: it answered with status 404."}


def test_what_cells_may_hold() -> None:
    folder = Path("/data")
    assert find_place(folder, b"x") == b"x" and find_place(folder, {"bytes": b"x", "path": "y"}) == b"x"
    assert find_place(folder, "a/../b.png") == Path("/data/b.png") and find_place(folder, "/c.png") == Path("/c.png")
    assert str(find_place(folder, "HTTPS://a/b")) == "WebAddress(url='HTTPS://a/b')"
    for value in (None, "", {"bytes": None, "path": None}, 5, [1], {"other": 1}, "gs://bucket/key"):
        with pytest.raises(InputError):
            find_place(folder, value)


# -- tars ----------------------------------------------------------------------------------------------------------


def _members() -> list[tuple[str, bytes]]:
    """Members of samples, of which each has a caption and one only that."""
    members = []
    for number, (name, data) in enumerate(_mixed().items()):
        stem, suffix = name.split(".")
        members += [(f"set/{stem}.{suffix}", data), (f"set/{stem}.txt", f"number {number}".encode())]
    return [
        *members,
        ("set/alone.txt", b"no picture"),
        ("set/._g0000.png", b"of macOS"),
        ("set/dir.d/n.0.PNG", members[2][1]),
    ]


def test_samples_of_tars(embed: Run, encoder: Encoder) -> None:
    write_tar(Path("a.tar"), _members())
    write_tar(Path("b.tar"), list(good_items(3).items()))
    words = ("a.tar", "b.tar", "--keep", "txt", "-o", "out/", "--shard-rows", 7)
    report = _report(embed(*words, "--json"), code=1)
    assert (report["texts"], report["set_aside"], report["unit"]) == (COUNT + 4, 6, "picture")
    table = datasets.dataset("out").to_table()
    good = [name.removesuffix(".png") for name in _mixed() if name.startswith("g")]
    ids = [*(f"set/{name}" for name in good), "set/dir.d/n", "g0000", "g0001", "g0002"]
    assert table["id"].to_pylist() == ids
    assert table["txt"].to_pylist()[:2] == ["number 1", "number 2"] and table["txt"].to_pylist()[-4:] == [None] * 4
    vectors = np.asarray(encoder.encode([Image(data) for data in good_items(COUNT).values()]))
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist())[:COUNT], vectors, atol=1e-6)
    reasons = _set_aside(Path("out"))
    assert reasons.pop("set/alone") == "It has no member of a picture, only txt."
    _check_reasons(reasons, [f"set/b-{name}" for name in BAD_REASONS])
    assert _report(embed(*words, "--skip-unreadable", "--json"))["skipped"] == 6


def test_links_in_tars_are_set_aside(embed: Run) -> None:
    items = good_items(2)
    write_folder(Path("photos"), items)
    Path("photos/hard.png").hardlink_to("photos/g0000.png")
    Path("photos/soft.png").symlink_to("g0001.png")
    with tarfile.open("a.tar", "w") as archive:
        for name in ("g0000.png", "g0001.png", "hard.png", "soft.png"):
            archive.add(f"photos/{name}", name)
    assert _report(embed("a.tar", "-o", "out/", "--json"), code=1)["texts"] == 2
    assert {key: "is a link" in reason for key, reason in _set_aside(Path("out")).items()} == {
        "hard": True,
        "soft": True,
    }


def test_shards_of_tars_begin_anywhere(embed: Run) -> None:
    write_tar(Path("a.tar"), _members())
    words = ("a.tar", "--shard-rows", 4, "--skip-unreadable", "--json")
    assert _report(embed(*words, "-o", "whole/"))["state"] == "complete"
    for part in (3, 1, 2):
        _report(embed(*words, "-o", "out/", "--shard", f"{part}/3"))
    assert _shards(Path("out")) == _shards(Path("whole"))


@pytest.mark.parametrize("fault", ["cut", "header", "no end", "no tar", "nothing"])
def test_a_damaged_tar_costs_what_follows_and_a_reason_says_so(embed: Run, fault: str) -> None:
    members = list(good_items(9).items())
    data = write_tar(Path("a.tar"), members).read_bytes()
    sizes = [512 + (len(content) + 511) // 512 * 512 for _, content in members]
    sixth = sum(sizes[:5])
    damaged: dict[str, bytes] = {
        "cut": data[: sixth + 700],
        "header": data[:sixth] + b"x" * 512 + data[sixth + 512 :],
        "no end": data[: sum(sizes)],
        "no tar": b"this is no tar" * 100,
        "nothing": b"",
    }
    Path("a.tar").write_bytes(damaged[fault])
    write_tar(Path("b.tar"), [("last.png", members[0][1])])
    report = _report(embed("a.tar", "b.tar", "--media", "image", "--shard-rows", 2, "-o", "out/", "--json"), code=1)
    counts = {"cut": (5, 2), "header": (5, 1), "no end": (9, 1), "no tar": (0, 1), "nothing": (0, 1)}
    assert (report["texts"] - 1, report["set_aside"]) == counts[fault]
    ids = datasets.dataset("out").to_table()["id"].to_pylist()
    assert ids == [*(f"g{number:04}" for number in range(counts[fault][0])), "last"]
    reason = list(_set_aside(Path("out")).values())[-1]
    assert {"cut": "cannot be read", "header": "damaged", "no end": "cut off"}.get(fault, "cannot be read") in reason
    with Path("b.tar").open("rb") as file:
        assert [(sample.key, sample.problem) for sample in read_samples(file)] == [("last", "")]


# -- options -------------------------------------------------------------------------------------------------------


def test_what_inputs_are(tmp_path: Path) -> None:
    items = good_items(1)
    photos, tars, tables = (tmp_path / name for name in ("photos", "tars", "tables"))
    write_folder(photos, items)
    tars.mkdir()
    write_tar(tars / "a.tar", [("a.flac", b""), ("b.flac", b""), ("c.jpg", b"")])
    write_folder(tables, {"a.csv": b"image\n"} | items)
    files, archives = MediaInputs("image", MediaLayout.FILES), MediaInputs("audio", MediaLayout.TAR)
    assert find_media([photos], None, None) == find_media([photos], None, "image") == files
    assert find_media([tables], "image", None) == files and find_media([tables], None, None) is None
    assert find_media([tables], None, "video") == MediaInputs("video", MediaLayout.TABLE)
    assert find_media([tars], None, None) == find_media([tars / "*.tar"], None, None) == archives
    assert find_media([tars], "tar", "image") == MediaInputs("image", MediaLayout.TAR)
    for inputs, form, media, message in (
        ([photos], None, "picture", "Unknown kind 'picture'"),
        ([photos], "image", "audio", "leave --media audio out"),
        ([photos, tars], None, "image", "by a run each"),
        ([write_tar(tmp_path / "x.tar", [("a.bin", b"")])], None, None, "Name the kind with --media"),
    ):
        with pytest.raises(InputError, match=message):
            find_media(inputs, form, media)


def test_options_of_other_inputs_are_refused(embed: Run) -> None:
    write_folder(Path("photos"), good_items(1))
    write_tar(Path("a.tar"), list(good_items(1).items()))
    Path("a.csv").write_text("file\nx.png\n", encoding="utf-8")
    Path("texts.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    for words, message in (
        (("a.tar", "-o", "x.parquet"), "end the name with a slash, x.parquet/"),
        (("a.csv", "--media", "image", "-o", "x.jsonl"), "end the name with a slash"),
        (("a.csv", "--media", "image", "-o", "x/"), "no column 'image'"),
        (("texts.jsonl", "--media", "image", "-o", "x/"), "name the one of the pictures with --field"),
        (("photos", "--field", "jpg", "-o", "x/"), "--field is for columns"),
        (("photos", "--keep", "txt", "-o", "x/"), "--keep is for columns"),
        (("a.tar", "--id-field", "id", "-o", "x/"), "leave --id-field out"),
        (("a.tar", "--media-urls", "https", "-o", "x/"), "--media-urls is for a column of addresses"),
        (("texts.jsonl", "--media-urls", "https", "-o", "x/"), "--media-urls is for tables of media"),
        (("texts.jsonl", "--retry-set-aside", "-o", "x/"), "--retry-set-aside is for pictures"),
        (("a.csv", "--media", "image", "--media-urls", "ftp", "-o", "x/"), "--media-urls 'ftp' is unknown"),
        (("a.csv", "--media", "image", "--media-host", "a.org", "-o", "x/"), "--media-host needs --media-urls"),
        (("a.tar", "--segments", "5", "--media", "audio", "-o", "x/"), "--segments is for files"),
        (("photos", "-o", "s3://bucket/x.parquet"), "on S3, the output is a folder of shards"),
    ):
        ran = embed(*words)
        assert (ran.code, message in ran.err) == (2, True), (words, ran.err)
    assert not Path("x").exists()


def test_the_section_of_the_guide(embed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands on pictures, each into the same folder, and what it says of the list of what was set aside."""
    page = (ROOT / "docs" / "guides" / "bulk.md").read_text(encoding="utf-8")
    section = page.split("## Pictures, sounds and videos")[1].split("\n## ")[0]
    commands = [shlex.split(line) for line in re.findall(r"^\$ nearfield embed (.+)$", section, re.M)]
    assert len(commands) == 5
    items = good_items(4)
    write_folder(Path("photos"), items | {"wrong.png": b""})
    write_tar(Path("train-0.tar"), list(items.items()))
    columns = {"sku": list(items), "photo": list(items.values()), "title": ["a"] * 4}
    parquet.write_table(arrow.table(columns), "products.parquet")
    Path("rows.jsonl").write_text('{"image": "https://images.example.org/a.png"}\n', encoding="utf-8")
    codes = []
    for command in commands[:4]:
        shutil.rmtree("vectors", ignore_errors=True)
        codes.append(embed(*command).code)
    assert codes == [1, 0, 0, 1]
    (reason,) = _set_aside(Path("vectors")).values()
    assert "the server allows other hosts only" in reason
    exec(re.findall(r"```python\n(.*?)```", section, re.S)[0], {})
    assert capsys.readouterr().out.startswith("None Nothing is fetched from 'images.example.org'")


def test_another_folder_of_vectors_is_not_mixed_up(embed: Run) -> None:
    write_folder(Path("photos"), good_items(3))
    assert embed("photos", "-o", "out/").code == 0
    assert "dims 24 there, 8 here" in embed("photos", "-o", "out/", "--dims", "8", "--force-dims").err


def test_reading_ahead_keeps_the_order_and_stops_with_its_reader() -> None:
    started: list[int] = []

    def double(item: int) -> int:
        started.append(item)
        return item * 2

    results = read_ahead(double, range(1000), 2)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    results.close()  # type: ignore[attr-defined]
    assert len(started) < 20
    assert list(read_ahead(str, range(9), 3)) == [str(number) for number in range(9)]
