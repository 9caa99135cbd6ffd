"""Several runs that write to the same folder on S3 at the same time, where nothing is locked."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.s3_kills import Command
from nearfield import Encoder
from nearfield.bulk.shard_plan import Shard
from nearfield.bulk.storage.shard_bucket import ShardBucket
from nearfield.errors import InputError
from nearfield.fileio.s3.path import S3Path
from tests.support.s3_bucket import OUT, Run, content, ids_of, manifest_of, names, put_jsonl, some_rows
from tests.support.s3_server import BUCKET, Faults

pytest.importorskip("obstore", reason="needs nearfield[s3]")
pytest.importorskip("moto.server", reason="needs moto, a server of S3: pip install 'moto[server]'")
pytestmark = pytest.mark.process

DATA = f"s3://{BUCKET}/data/"


@pytest.mark.slow
def test_two_runs_at_once_of_which_one_is_killed_lose_and_double_nothing(
    home: S3Path, faults: Faults, tiny: Encoder, tmp_path: Path, embed: Run
) -> None:
    put_jsonl("data/a.jsonl", some_rows(600))  # 12 shards
    command = Command(DATA, OUT, Path(tiny.recipe.folder), tmp_path / "drafts")
    faults.refused = 0.2
    runs = [command.start(), command.start()]
    while faults.uploads < 3 and any(process.poll() is None for process in runs):
        time.sleep(0.01)
    runs[0].send_signal(signal.SIGKILL)
    codes = [process.wait(timeout=120) for process in runs]
    faults.refused = 0.0
    assert codes == [-signal.SIGKILL, 0]
    assert manifest_of(home)["state"] == "complete"
    assert ids_of(home) == [f"n{at}" for at in range(600)]
    named = [name for shard in manifest_of(home)["shards"] for name in shard["files"]]
    assert sorted(named) == [name for name in names(home) if name.startswith("part-")]


def test_of_two_runs_that_write_the_same_record_one_has_written_it(embed: Run, home: S3Path, faults: Faults) -> None:
    """One field distinguishes their records, so that a lost answer is not taken for a lost race."""
    put_jsonl("data/a.jsonl", some_rows(10))
    name = "_shards/00000.json"
    embed(DATA, "-o", OUT)
    record = json.loads(content(home, name))
    home.client.delete([home.child(name).key])

    def write_first(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(name):
            faults.before = lambda method, path: None
            home.client.create(home.child(name).key, json.dumps({**record, "writer": "another"}, indent=1).encode())

    faults.before = write_first
    assert json.loads(embed(DATA, "-o", OUT, "--json").out)["written"] == 0
    assert json.loads(content(home, name)) == {**record, "writer": "another"}
    assert "writer" not in manifest_of(home)["shards"][0]


def test_runs_begin_at_different_shards(home: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(number, number * 10, 10, "") for number in range(8)]
    monkeypatch.setattr("nearfield.bulk.storage.shard_bucket.secrets.randbelow", random.Random(4).randrange)
    arranged = [ShardBucket(home).arrange(shards) for _ in range(50)]
    assert all(Counter(order) == Counter(shards) for order in arranged)
    assert {order[0].number for order in arranged} == set(range(8))
    assert not ShardBucket(home).arrange([])


def test_a_process_of_another_run_does_not_join(embed: Run, home: S3Path) -> None:
    """What a worker sees must be the folder of its run: another endpoint may have a bucket of the same name."""
    put_jsonl("data/a.jsonl", some_rows(10))
    embed(DATA, "-o", OUT)
    folder = ShardBucket(home)
    folder.schema()
    ShardBucket(home, folder.generation).join()
    embed(DATA, "-o", OUT, "--restart")
    with pytest.raises(InputError, match="is not the folder of this run: set AWS_ENDPOINT_URL"):
        ShardBucket(home, folder.generation).join()


def test_what_a_run_writes_after_another_has_restarted_the_folder_counts_as_none(
    embed: Run, home: S3Path, faults: Faults
) -> None:
    put_jsonl("data/a.jsonl", some_rows(30))
    restarts = [True]

    def restart(method: str, path: str) -> None:
        if faults.uploads == 1 and restarts:
            restarts.clear()
            folder = ShardBucket(home)
            schema = folder.schema() or {}
            folder.clear()
            folder.set_schema({key: value for key, value in schema.items() if key != "generation"}, {})

    faults.before = restart
    first = json.loads(embed(DATA, "-o", OUT, "--shard-rows", 10, "--json").out)
    assert first["state"] == "partial"
    assert json.loads(embed(DATA, "-o", OUT, "--shard-rows", 10, "--json").out)["state"] == "complete"
    assert ids_of(home) == [f"n{at}" for at in range(30)]
