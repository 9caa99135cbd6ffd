"""``nearfield embed --ray`` on two simulated nodes: the same bytes as on one machine, also after faults."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder
from nearfield.hardware import cpu_name
from tests.parity.multivector import FIXED, own
from tests.support import tiny_pictures
from tests.support.cli_runner import Ran, run
from tests.support.cluster_faults import CLOCK, CPU_VARIABLE, DEADLY, FULL, HIDDEN_VARIABLE, ONCE, ONCE_NAME, SLEEP
from tests.support.media_sets import bad_items, good_items, write_folder, write_tar
from tests.support.simulated_cluster import add_node, simulated_cluster

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with simulated_cluster(2) as simulated:
        yield simulated


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, tmp_path: Path) -> Any:
    """Run ``nearfield embed`` with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    words = ["--precision", "float32", "--id-field", "id", "--json", "--quiet"]
    folder = tiny.recipe.folder
    return lambda *more, model=folder: run(capsys, monkeypatch, "embed", *more, "--model", model, *words)


def _write(path: Path, count: int, special: dict[int, str] | None = None) -> None:
    texts = [f"the cat sat on {'the mat ' * (at % 5)}{(special or {}).get(at, '')}" for at in range(count)]
    path.write_text("".join(json.dumps({"id": f"n{at}", "text": text}) + "\n" for at, text in enumerate(texts)))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _report(ran: Ran, code: int = 0) -> dict[str, Any]:
    assert ran.code == code, ran.err
    report: dict[str, Any] = json.loads(ran.out)
    return report


def test_a_folder_begun_here_is_continued_on_a_cluster_and_finished_here(
    cluster: Any, embed: Any, tmp_path: Path
) -> None:
    """One worker is killed on the way; the bytes are those of a run without a cluster and without a fault."""
    _write(Path("rows.jsonl"), 200, {130: f"{ONCE}{tmp_path / 'killed'}"})
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 20]
    assert _report(embed("rows.jsonl", "-o", "whole/", "--shard-rows", 20))["written"] == 10
    assert _report(embed(*command, "--shard", "1/5"))["written"] == 2
    report = _report(embed(*command, "--ray", cluster.address))
    assert Path("killed").exists()
    assert (report["written"], report["skipped"], report["state"]) == (8, 2, "complete")
    assert report["cluster"]["retries"] == 1
    assert sum(node["rows"] for node in report["cluster"]["nodes"]) == 160
    assert _files(Path("out")) == _files(Path("whole"))
    assert not list(Path("out/_shards").glob("drafts-*"))
    Path("out/part-00003.parquet").unlink()
    assert _report(embed(*command))["written"] == 1
    assert _files(Path("out")) == _files(Path("whole"))
    assert _report(embed(*command, "--ray", cluster.address))["skipped"] == 10


def test_a_shard_that_cannot_be_read_is_set_aside_and_the_others_are_written(
    cluster: Any, embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfield.cluster.embed import ClusterRunner

    _write(Path("rows.jsonl"), 60)
    encode = ClusterRunner.encode

    def damaged(self: ClusterRunner, *arguments: Any) -> Any:
        content = Path("rows.jsonl").read_text(encoding="utf-8")
        Path("rows.jsonl").write_text(content.replace('{"id": "n25"', '["id": "n25"'), encoding="utf-8")
        return encode(self, *arguments)

    monkeypatch.setattr(ClusterRunner, "encode", damaged)
    report = _report(embed("rows.jsonl", "-o", "out/", "--shard-rows", 20, "--ray", cluster.address), code=1)
    assert (report["written"], report["elsewhere"], report["state"]) == (2, 0, "partial")
    (message,) = report["cluster"]["set_aside"]
    assert message.startswith("shard 1: An input changed while it was read") and "line 26: not JSON" in message


def test_an_input_that_disappears_is_set_aside_and_the_others_are_written(
    cluster: Any, embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfield.cluster.embed import ClusterRunner

    _write(Path("a.jsonl"), 40)
    _write(Path("b.jsonl"), 20)
    encode = ClusterRunner.encode

    def removed(self: ClusterRunner, *arguments: Any) -> Any:
        Path("b.jsonl").unlink()
        return encode(self, *arguments)

    monkeypatch.setattr(ClusterRunner, "encode", removed)
    report = _report(embed("a.jsonl", "b.jsonl", "-o", "out/", "--shard-rows", 20, "--ray", cluster.address), code=1)
    assert (report["written"], report["state"]) == (2, "partial")
    (message,) = report["cluster"]["set_aside"]
    assert message.startswith("shard 2:") and "b.jsonl" in message


def test_a_text_that_ends_its_process_is_named_and_the_rest_is_done(cluster: Any, embed: Any) -> None:
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 20, "--ray", cluster.address]
    _write(Path("rows.jsonl"), 60, {33: DEADLY})
    report = _report(embed(*command), code=1)
    assert (report["written"], report["state"]) == (2, "partial")
    (message,) = report["cluster"]["set_aside"]
    assert "rows.jsonl, line 34, id 'n33', ends the process" in message
    _write(Path("rows.jsonl"), 60, {33: "harmless"})
    report = _report(embed(*command))
    assert (report["written"], report["skipped"], report["state"]) == (1, 2, "complete")


def test_two_runs_at_one_folder_write_each_shard_once(cluster: Any, embed: Any, tiny: Encoder) -> None:
    """One encodes here and the other on the cluster, at the same time; the bytes are those of one run."""
    _write(Path("rows.jsonl"), 200, dict.fromkeys(range(0, 200, 4), f"{SLEEP}0.05"))
    command = ["rows.jsonl", "--shard-rows", 10]
    words = ["--precision", "float32", "--id-field", "id", "--model", tiny.recipe.folder, "-o", "out/", "--json", "-q"]
    line = [sys.executable, "-m", "nearfield.cli", "embed", *map(str, command + words)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as here:
        there = _report(embed(*command, "-o", "out/", "--ray", cluster.address))
        alone = json.loads(here.communicate(timeout=120)[0])
    assert here.returncode == 0
    assert there["written"] + alone["written"] == 20
    assert "complete" in (there["state"], alone["state"])
    assert _report(embed(*command, "-o", "whole/"))["written"] == 20
    assert _files(Path("out")) == _files(Path("whole"))


def test_clocks_that_jump_change_nothing(cluster: Any, embed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the command is hours wrong at each look, and those of workers are turned back on the way."""
    _write(Path("rows.jsonl"), 80, {30: CLOCK, 50: CLOCK})
    os.utime("rows.jsonl", (2e9, 2e9))  # written in the future
    command = ["rows.jsonl", "--shard-rows", 20]
    assert _report(embed(*command, "-o", "whole/"))["written"] == 4
    true_time, draw = time.time, random.Random(1)
    monkeypatch.setattr(time, "time", lambda: true_time() + draw.uniform(-1e6, 1e6))
    report = _report(embed(*command, "-o", "out/", "--ray", cluster.address))
    assert (report["written"], report["state"], report["cluster"]["retries"]) == (4, "complete", 0)
    assert report["seconds"] < 300
    assert _files(Path("out")) == _files(Path("whole"))


def test_a_machine_without_the_model_gets_it_once_and_its_kind_of_cpu_is_in_the_records(
    cluster: Any, embed: Any, tiny: Encoder, tmp_path: Path
) -> None:
    folder, cache = tiny.recipe.folder, tmp_path / "cache"
    _write(Path("rows.jsonl"), 90, dict.fromkeys(range(0, 90, 5), f"{SLEEP}0.6"))
    variables = {CPU_VARIABLE: "Another CPU", HIDDEN_VARIABLE: str(folder), "NEARFIELD_CACHE": str(cache)}
    node = add_node(cluster, **variables)
    try:
        command = ["rows.jsonl", "--shard-rows", 5]
        report = _report(embed(*command, "-o", "out/", "--ray", cluster.address, "--workers", 3))
    finally:
        cluster.remove_node(node)
    assert (report["written"], report["state"], report["cluster"]["warnings"]) == (18, "complete", [])
    assert report["cpus"] == sorted(["Another CPU", cpu_name()])
    records = json.loads(Path("out/_manifest.json").read_text(encoding="utf-8"))["shards"]
    assert {record["cpu"] for record in records} == set(report["cpus"])
    (copy,) = (path for path in (cache / "cluster").iterdir() if path.is_dir())
    assert {path.name for path in (copy / folder.name).iterdir()} == {path.name for path in folder.iterdir()}
    assert _report(embed(*command, "-o", "whole/"))["cpus"] == [cpu_name()]
    files = [{name: data for name, data in _files(Path(at)).items() if name[0] != "_"} for at in ("out", "whole")]
    assert files[0] == files[1]


def test_a_node_whose_disk_is_full_is_named_and_the_others_write_all(cluster: Any, embed: Any, tmp_path: Path) -> None:
    _write(Path("rows.jsonl"), 100, dict.fromkeys(range(100), f"{FULL}{tmp_path / 'full'}"))
    report = _report(embed("rows.jsonl", "-o", "out/", "--shard-rows", 10, "--ray", cluster.address))
    assert (report["written"], report["state"], report["cluster"]["set_aside"]) == (10, "complete", [])
    (warning,) = report["cluster"]["warnings"]
    assert "is full" in warning and "No space left on device" in warning
    Path("full").write_text("*", encoding="utf-8")
    ran = embed("rows.jsonl", "-o", "more/", "--shard-rows", 10, "--ray", cluster.address)
    assert (ran.code, "the disk is full" in ran.err, "repeat the command" in ran.err) == (1, True, True), ran.err


def test_a_worker_that_fits_no_node_is_refused(cluster: Any, embed: Any) -> None:
    _write(Path("rows.jsonl"), 5)
    ran = embed("rows.jsonl", "-o", "out/", "--ray", cluster.address, "--per-worker", "cpus=64")
    assert (ran.code, "No node of the cluster has 64 cores" in ran.err) == (1, True), ran.err


@pytest.mark.parametrize("form", ["parquet", "npy", "jsonl"])
def test_multivectors_are_the_same_bytes(cluster: Any, embed: Any, form: str, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    model = own("bert", FIXED)(tmp_path / "colbert")
    _write(Path("rows.jsonl"), 60)
    command = ["rows.jsonl", "--shard-rows", 15, "--shard-format", form, "--dtype", "float16"]
    assert _report(embed(*command, "-o", "whole/", model=model))["written"] == 4
    assert _report(embed(*command, "-o", "out/", "--ray", cluster.address, model=model))["written"] == 4
    assert _files(Path("out")) == _files(Path("whole"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def embed_pictures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> Any:
    monkeypatch.chdir(tmp_path)
    words = ["--model", clip, "--precision", "float32", "--json", "--quiet", "--skip-unreadable"]
    return lambda *more: run(capsys, monkeypatch, "embed", *more, *words)


def test_pictures_begun_here_are_continued_on_a_cluster_and_finished_here(cluster: Any, embed_pictures: Any) -> None:
    """A worker is killed on the way; bad pictures are set aside alike; ids are paths as they were written."""
    items = good_items(40) | {
        f"g00{place}-{name}.jpg": data for place, (name, data) in enumerate(bad_items().items(), 11)
    }
    write_folder(Path("photos"), items | {f"g0025{ONCE_NAME}": items["g0001.png"]})
    command = ["photos/*", "--shard-rows", 5]
    assert _report(embed_pictures(*command, "-o", "whole/"))["set_aside"] == 5
    assert _report(embed_pictures(*command, "-o", "out/", "--shard", "1/5"))["written"] == 2
    report = _report(embed_pictures(*command, "-o", "out/", "--ray", cluster.address))
    assert Path("photos/killed").exists()
    Path("photos/killed").unlink()
    assert (report["written"], report["skipped"], report["set_aside"], report["texts"]) == (8, 2, 5, 41)
    assert (report["cluster"]["retries"], report["cluster"]["set_aside"], report["unit"]) == (1, [], "picture")
    assert _files(Path("out")) == _files(Path("whole"))
    Path("out/part-00004.parquet").unlink()
    assert _report(embed_pictures(*command, "-o", "out/"))["written"] == 1
    assert _files(Path("out")) == _files(Path("whole"))
    assert _report(embed_pictures(*command, "-o", "out/", "--ray", cluster.address, "--retry-set-aside"))["written"] > 0
    assert _files(Path("out")) == _files(Path("whole"))


def test_pictures_of_a_table_and_of_a_tar_are_the_same_bytes(cluster: Any, embed_pictures: Any) -> None:
    items = good_items(12) | bad_items()
    write_folder(Path("data"), items)
    write_tar(Path("data/a.tar"), [(f"{name.removesuffix('.png')}.png", data) for name, data in items.items()])
    lines = [json.dumps({"id": name, "image": name}) for name in [*items, "none.png"]]
    Path("data/rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for words in (["data/rows.jsonl", "--media", "image", "--id-field", "id"], ["data/a.tar"]):
        command = [*words, "--shard-rows", 6]
        name = words[0].rpartition("/")[2]
        assert _report(embed_pictures(*command, "-o", f"{name}-whole/"))["state"] == "complete"
        report = _report(embed_pictures(*command, "-o", f"{name}-out/", "--ray", cluster.address))
        assert (report["texts"], report["state"]) == (12, "complete")
        assert _files(Path(f"{name}-out")) == _files(Path(f"{name}-whole"))
