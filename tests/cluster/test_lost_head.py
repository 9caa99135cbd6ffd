"""A cluster that is lost during a run, a run that is ended, and clusters that cannot be used: one sentence each.

The same command completes what it began.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder
from tests.support.cluster_faults import SLEEP
from tests.support.simulated_cluster import unconnected_cluster

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]
_SECONDS = 240
#: Runs the command with the faults of workers, in a process that believes to have some version of Ray.
_CODE = """
import sys
from nearfield.cluster.ray_runtime import import_ray
from tests.support import cluster_faults
ray = import_ray()
address, ray.__version__ = sys.argv.pop(1), sys.argv.pop(1)
if ray.__version__ == "2.60.0":
    hook = {"worker_process_setup_hook": cluster_faults.install}
    ray.init(address, log_to_driver=False, logging_level="ERROR", runtime_env=hook)
from nearfield.cli import main
main()
"""


@pytest.fixture
def words(tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a command whose ten shards take a second each."""
    monkeypatch.chdir(tmp_path)
    texts = [f"the cat {SLEEP}0.1 {'sat ' * (at % 4)}" for at in range(100)]
    rows = [json.dumps({"id": at, "text": text}) for at, text in enumerate(texts)]
    Path("rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    words = ["embed", "rows.jsonl", "--model", str(tiny.recipe.folder), "--id-field", "id", "--shard-rows", "10"]
    return [*words, "--precision", "float32", "--json", "--quiet"]


def _start(address: str, words: list[str], version: str = "2.60.0") -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", _CODE, address, version, *words, "--ray", address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _records() -> list[Path]:
    """Return the records of the shards that are complete."""
    return list(Path("out/_shards").glob("0*.json"))


def _wait_for_shards(run: subprocess.Popen[str]) -> None:
    """Wait until the first shard is there."""
    limit = time.monotonic() + _SECONDS
    while not _records() and time.monotonic() < limit and run.poll() is None:
        time.sleep(0.1)


def _files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def test_after_the_head_stopped_the_same_command_completes_on_another_cluster(words: list[str]) -> None:
    words = [*words, "-o", "out/"]
    with unconnected_cluster(1) as cluster:
        run = _start(cluster.address, words)
        _wait_for_shards(run)
        cluster.remove_node(cluster.head_node, allow_graceful=False)
        _, error = run.communicate(timeout=_SECONDS)
    assert run.returncode == 1, error
    (line,) = [line for line in error.splitlines() if line.startswith("nearfield: ")]
    assert "The Ray cluster ended" in line and "repeat the command" in line and "Traceback" not in error, error
    written = len(_records())
    assert 0 < written < 10
    with unconnected_cluster(1) as cluster:
        other = _start(cluster.address, words, version="2.61.0")
        refusal = other.communicate(timeout=_SECONDS)[1]
        assert (other.returncode, "another version of Ray or Python" in refusal) == (1, True), refusal
        run = _start(cluster.address, words)
        out, error = run.communicate(timeout=_SECONDS)
    assert run.returncode == 0, error
    assert json.loads(out)["written"] == 10 - written and not list(Path("out/_shards").glob("drafts-*"))
    command = [sys.executable, "-m", "nearfield.cli", *words[:-1], "whole/"]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    assert _files("out") == _files("whole")


def _end_raylet(cluster: Any, _: subprocess.Popen[str]) -> None:
    """End Ray on this machine in order, and the head only after that, as ``ray stop`` does."""
    cluster.head_node.all_processes["raylet"][0].process.terminate()


def _kill_raylet(cluster: Any, _: subprocess.Popen[str]) -> None:
    cluster.head_node.all_processes["raylet"][0].process.kill()


@pytest.mark.parametrize(
    ("end", "status", "sentence"),
    [
        (_end_raylet, 1, "The Ray cluster ended: Ray on this machine"),
        (_kill_raylet, 1, "The Ray cluster ended: Ray on this machine"),
        (lambda _, run: run.send_signal(signal.SIGINT), 130, "interrupted"),
        (lambda _, run: run.send_signal(signal.SIGTERM), 143, "ended by SIGTERM"),
    ],
    ids=["raylet ends", "raylet is killed", "Ctrl-C", "SIGTERM"],
)
def test_a_run_that_ends_for_another_reason_says_that_the_same_command_continues(
    words: list[str], end: Callable[[Any, subprocess.Popen[str]], None], status: int, sentence: str
) -> None:
    words = [*words, "-o", "out/"]
    with unconnected_cluster(1) as cluster:
        run = _start(cluster.address, words)
        _wait_for_shards(run)
        end(cluster, run)
        _, error = run.communicate(timeout=_SECONDS)
    assert run.returncode == status, error
    (line,) = [line for line in error.splitlines() if line.startswith("nearfield: ")]
    assert sentence in line and "continues where it stopped" in line and "Traceback" not in error, error
    written = len(_records())
    assert 0 < written < 10
    done = subprocess.run([sys.executable, "-m", "nearfield.cli", *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["written"] == 10 - written


def test_an_address_where_no_ray_runs_is_one_sentence(words: list[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        command = [sys.executable, "-m", "nearfield.cli", *words, "-o", "out/", "--ray", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    assert f"There is no Ray cluster at {address}" in done.stderr and "ray start --head" in done.stderr
