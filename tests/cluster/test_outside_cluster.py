"""Runs that are started from outside a cluster: over its client (ray://), and as jobs of its dashboard (--detach)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder
from nearfield.fileio.locks import waiting_lock
from tests.support.simulated_cluster import unconnected_cluster

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    pytest.mark.skipif(find_spec("grpc") is None, reason="Ray's client is not installed: pip install 'ray[client]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]
#: What the dashboard needs and Ray alone does not bring.
HAS_DASHBOARD = all(find_spec(name) for name in ("aiohttp_cors", "colorful", "opencensus", "smart_open"))
_SECONDS = 240


@pytest.fixture(scope="module")
def client_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(client_port: int) -> Iterator[Any]:
    dashboard: dict[str, Any] = {"include_dashboard": HAS_DASHBOARD, "dashboard_port": 0}
    with unconnected_cluster(1, ray_client_server_port=client_port, **dashboard) as simulated:
        yield simulated


@pytest.fixture
def nearfield(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run ``nearfield`` in another process, in an empty folder, and return it when it has ended."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"id": f"n{at}", "text": "the cat " * (at % 4)}) for at in range(60)]
    Path("rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nearfield.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)

    return run


def _embed(output: str, tiny: Encoder) -> list[object]:
    words = ["--id-field", "id", "--shard-rows", 20, "--precision", "float32", "--json", "--quiet"]
    return ["embed", "rows.jsonl", "-o", output, "--model", tiny.recipe.folder, *words]


def _files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def test_a_run_over_the_client_writes_the_same_bytes(
    cluster: Any, client_port: int, nearfield: Any, tiny: Encoder
) -> None:
    done = nearfield(*_embed("out/", tiny), "--ray", f"ray://127.0.0.1:{client_port}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] == 3
    assert nearfield(*_embed("whole/", tiny)).returncode == 0
    assert _files("out") == _files("whole")


@pytest.mark.skipif(HAS_DASHBOARD, reason="This Ray has a dashboard")
def test_without_a_dashboard_detach_is_one_error(cluster: Any, nearfield: Any, tiny: Encoder) -> None:
    done = nearfield(*_embed("out/", tiny), "--ray", cluster.address, "--detach")
    assert (done.returncode, "Jobs need" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.skipif(not HAS_DASHBOARD, reason="Ray has no dashboard here: pip install 'ray[default]'")
def test_a_detached_run_is_followed_to_its_end_and_continued_after_it_was_stopped(
    cluster: Any, nearfield: Any, tiny: Encoder
) -> None:
    place = ("--ray", cluster.address)
    Path("out/_shards").mkdir(parents=True)
    with waiting_lock(Path("out/_shards/run.lock")):  # the job waits for it, however fast the machine is
        submitted = nearfield(*_embed("out/", tiny), *place, "--detach")
        assert submitted.returncode == 0, submitted.stderr
        first = json.loads(submitted.stdout)
        assert first["is_new"]
        again = nearfield(*_embed("out/", tiny), *place, "--detach")
        assert json.loads(again.stdout) | {"state": ""} == first | {"state": "", "is_new": False}
        assert nearfield("cluster", "stop", first["job"], *place).returncode == 0
        assert nearfield("cluster", "logs", first["job"], "--follow", *place).returncode == 1
    second = json.loads(nearfield(*_embed("out/", tiny), *place, "--detach").stdout)
    assert second["is_new"] and second["job"] != first["job"]
    followed = nearfield("cluster", "logs", second["job"], "--follow", *place)
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "Wrote" in followed.stdout and "Shards:       3 (complete)" in followed.stdout
    states = {job["id"]: job["state"] for job in json.loads(nearfield("cluster", "jobs", "--json", *place).stdout)}
    assert states == {first["job"]: "stopped", second["job"]: "succeeded"}
    assert nearfield(*_embed("whole/", tiny)).returncode == 0
    assert _files("out") == _files("whole")
