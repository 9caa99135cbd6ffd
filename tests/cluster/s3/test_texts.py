"""``nearfield embed --ray`` with inputs and outputs on S3, on two simulated nodes: the same bytes as on one machine."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder
from nearfield.bulk.shard_encoder import ShardTask
from nearfield.cluster.shard_worker import WorkerOrder
from nearfield.fileio.s3.path import S3Path
from tests.support.cli_runner import run
from tests.support.cluster_faults import DEADLY, ONCE
from tests.support.s3_bucket import OUT, put_jsonl, report_of, shard_files
from tests.support.s3_server import BUCKET, SECRET, Faults

pytest.importorskip("obstore", reason="needs nearfield[s3]")
pytest.importorskip("moto.server", reason="needs moto, a server of S3: pip install 'moto[server]'")
pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]
DATA = f"s3://{BUCKET}/data/"


@pytest.fixture
def embed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, cluster: Any, tmp_path: Path
) -> Any:
    """Run ``nearfield embed`` with the tiny model and shards of 20 rows, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    words = ["--precision", "float32", "--id-field", "id", "--json", "--quiet", "--shard-rows", 20]
    return lambda *more: run(capsys, monkeypatch, "embed", *more, "--model", tiny.recipe.folder, *words)


def _put(name: str, count: int, special: dict[int, str] | None = None) -> None:
    texts = [f"the cat sat on {'the mat ' * (at % 5)}{(special or {}).get(at, '')}" for at in range(count)]
    put_jsonl(name, [{"id": f"n{at}", "text": text} for at, text in enumerate(texts)])


def test_workers_read_from_s3_and_commit_there_and_a_killed_one_is_replaced(
    cluster: Any, embed: Any, drafts: Path, tmp_path: Path
) -> None:
    """The bytes are those of a folder on disk, which another run wrote without a cluster."""
    _put("data/a.jsonl", 70, {50: f"{ONCE}{tmp_path / 'killed'}"})
    _put("data/b.jsonl", 50)
    (tmp_path / "killed").touch()
    assert report_of(embed(DATA, "-o", "whole/"))["written"] == 6
    assert report_of(embed(DATA, "-o", OUT, "--shard", "1/3"))["written"] == 2
    (tmp_path / "killed").unlink()
    report = report_of(embed(DATA, "-o", OUT, "--ray", cluster.address))
    assert (tmp_path / "killed").exists()
    assert (report["written"], report["skipped"], report["state"]) == (4, 2, "complete")
    assert report["cluster"]["retries"] == 1
    assert shard_files(S3Path(BUCKET, "out")) == [path.read_bytes() for path in sorted(Path("whole").glob("part-*"))]
    assert not list(drafts.glob("nearfield-shards-*"))
    assert report_of(embed(DATA, "-o", OUT))["skipped"] == 6


def test_a_text_that_ends_its_process_is_named_by_its_object(cluster: Any, embed: Any) -> None:
    """Its worker's journal is on the worker's node."""
    _put("deadly/a.jsonl", 60, {25: DEADLY})
    home = S3Path(BUCKET, "deadly-out")
    report = report_of(embed(f"s3://{BUCKET}/deadly/a.jsonl", "-o", f"{home}/", "--ray", cluster.address), code=1)
    assert (report["written"], report["state"]) == (2, "partial")
    (message,) = report["cluster"]["set_aside"]
    assert message.startswith(f"shard 1: the text of s3://{BUCKET}/deadly/a.jsonl, line 26, id 'n25', ends the process")


def test_nodes_that_see_another_storage_are_a_clear_error(
    cluster: Any, embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfield.cluster.embed import ClusterRunner

    order = ClusterRunner._order

    def foreign(self: ClusterRunner, task: ShardTask, cpus: int) -> WorkerOrder:
        return order(self, replace(task, generation="that of another storage"), cpus)

    monkeypatch.setattr(ClusterRunner, "_order", foreign)
    _put("data/a.jsonl", 20)
    ran = embed(DATA, "-o", f"s3://{BUCKET}/other/", "--ray", cluster.address)
    assert (ran.code, "No worker could start" in ran.err) == (1, True), ran.err
    assert f"s3://{BUCKET}/other is not the folder of this run: set AWS_ENDPOINT_URL" in ran.err
    assert "variables that were set on their machine at `ray start`" in ran.err
    assert SECRET not in ran.err


def test_keys_that_expire_on_all_nodes_end_the_run_and_blame_no_shard(cluster: Any, embed: Any, faults: Faults) -> None:
    _put("data/a.jsonl", 100)
    faults.uploads = 0
    expired = "400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>"
    faults.answer = lambda method, path: expired if faults.uploads > 1 else None
    ran = embed(DATA, "-o", f"s3://{BUCKET}/expired/", "--ray", cluster.address)
    faults.answer = lambda method, path: None
    assert (ran.code, "No worker can go on" in ran.err) == (1, True), ran.err
    assert "the access keys have expired. Get new ones, and repeat the command to continue." in ran.err
    report = report_of(embed(DATA, "-o", f"s3://{BUCKET}/expired/"))
    assert (report["state"], report["shards"]) == ("complete", report["written"] + report["skipped"])
