"""``nearfield embed --detach`` from S3 to S3: the command has no part in the run once it has returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder
from nearfield.fileio.s3.path import S3Path
from tests.support import tiny_pictures
from tests.support.media_sets import bad_items, good_items
from tests.support.s3_bucket import content, ids_of, put_jsonl, shard_files, some_rows
from tests.support.s3_server import BUCKET, SECRET, Faults
from tests.support.simulated_cluster import unconnected_cluster

_NEEDED = ("aiohttp_cors", "colorful", "opencensus", "smart_open")
pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    pytest.mark.skipif(
        not all(map(find_spec, _NEEDED)), reason="Ray has no dashboard here: pip install 'ray[default]'"
    ),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]
_SECONDS = 240
Nearfield = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def address(variables: dict[str, str]) -> Iterator[str]:
    """The address of a cluster with a dashboard, whose nodes have the keys of the server in their environment."""
    with unconnected_cluster(1, include_dashboard=True, dashboard_port=0) as simulated:
        yield simulated.address


@pytest.fixture
def nearfield(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nearfield:
    """Run ``nearfield`` in another process, in an empty folder, and return it when it has ended."""
    monkeypatch.chdir(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nearfield.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)

    return run


def _submitted(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    job: dict[str, Any] = json.loads(done.stdout)
    return job


def test_a_job_of_texts_that_was_stopped_is_continued_by_the_same_command(
    address: str, nearfield: Nearfield, tiny: Encoder, faults: Faults
) -> None:
    put_jsonl("job/a.jsonl", some_rows(60))
    home, place, may_go_on = S3Path(BUCKET, "job-out"), ("--ray", address), threading.Event()
    words = ["embed", f"s3://{BUCKET}/job/", "--id-field", "id", "--model", tiny.recipe.folder, "--json", "--quiet"]
    words += ["--shard-rows", "20", "--precision", "float32"]
    started = faults.uploads

    def hold(method: str, path: str) -> None:
        if faults.uploads > started + 1 and "/part-" in path and method == "PUT":
            may_go_on.wait(_SECONDS)

    faults.before = hold
    job = _submitted(nearfield(*words, "-o", f"{home}/", *place, "--detach"))
    assert job["is_new"] and job["output"] == f"s3://{BUCKET}/job-out"
    again = _submitted(nearfield(*words, "-o", f"{home}/", *place, "--detach"))
    assert (again["job"], again["is_new"]) == (job["job"], False)
    limit = time.monotonic() + _SECONDS
    while faults.uploads < started + 2:
        assert time.monotonic() < limit, nearfield("cluster", "logs", job["job"], *place).stdout
        time.sleep(0.1)
    assert nearfield("cluster", "stop", job["job"], *place).returncode == 0
    logs = nearfield("cluster", "logs", job["job"], "--follow", *place)
    assert (logs.returncode, SECRET in logs.stdout + logs.stderr) == (1, False)
    faults.before = lambda method, path: None
    may_go_on.set()
    second = _submitted(nearfield(*words, "-o", f"{home}/", *place, "--detach"))
    followed = nearfield("cluster", "logs", second["job"], "--follow", *place)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "Shards:       3 (complete)" in followed.stdout
    assert ids_of(home) == [f"n{at}" for at in range(60)]


def test_a_job_of_pictures(address: str, nearfield: Nearfield, tmp_path: Path) -> None:
    clip = tiny_pictures.write_clip(tmp_path / "clip")
    folder = S3Path(BUCKET, "job-photos")
    for name, data in (good_items(12) | bad_items()).items():
        folder.client.put(folder.child(name if "." in name else f"{name}.jpg").key, data)
    words = ["embed", f"{folder}/", "--model", "clip", "--precision", "float32", "--shard-rows", "6", "--quiet"]
    words += ["--skip-unreadable"]
    home, whole, place = S3Path(BUCKET, "job-vectors"), S3Path(BUCKET, "job-whole"), ("--ray", address)
    job = _submitted(nearfield(*words, "-o", f"{home}/", "--json", *place, "--detach"))
    followed = nearfield("cluster", "logs", job["job"], "--follow", *place)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert f"5 pictures that cannot be read: see s3://{BUCKET}/job-vectors/_set_aside.jsonl" in followed.stdout
    assert clip.is_dir() and nearfield(*words, "-o", f"{whole}/").returncode == 0
    assert shard_files(home) == shard_files(whole)
    assert content(home, "_set_aside.jsonl") == content(whole, "_set_aside.jsonl")
