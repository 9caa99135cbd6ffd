"""What is checked without a cluster: addresses, sizes of workers, options of the command, and reports of usage."""

from __future__ import annotations

import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nearfield.cluster import ray_runtime, shard_worker
from nearfield.cluster.worker_options import NodeSize, WorkerPlan, WorkerSize, plan_workers
from nearfield.errors import ClusterFailed, InputError, MissingExtra
from nearfield.fileio.s3.path import Location, S3Path
from tests.support.cli_runner import run

NODES = [NodeSize(0, 0), NodeSize(8, 1), NodeSize(3, 0)]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, WorkerSize()),
        ("cpus=2", WorkerSize(2)),
        ("gpus=0.5", WorkerSize(None, 0.5)),
        ("cpus=2, gpus=1", WorkerSize(2, 1.0)),
    ],
)
def test_sizes_of_workers_are_parsed(text: str | None, size: WorkerSize) -> None:
    assert WorkerSize.parse(text) == size


@pytest.mark.parametrize("text", ["", "2", "cpu=2", "cpus=0", "cpus=1.5", "gpus=0", "cpus=1,cpus=2", "cpus=2;gpus=1"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--per-worker is cpus=N"):
        WorkerSize.parse(text)


@pytest.mark.parametrize(
    ("size", "count", "plan"),
    [
        (WorkerSize(), None, WorkerPlan(2, 4, 0)),
        (WorkerSize(), 1, WorkerPlan(1, 8, 0)),
        (WorkerSize(), 3, WorkerPlan(3, 3, 0)),
        (WorkerSize(), 50, WorkerPlan(50, 1, 0)),
        (WorkerSize(2), None, WorkerPlan(5, 2, 0)),
        (WorkerSize(None, 0.5), None, WorkerPlan(2, 4, 0.5)),
        (WorkerSize(1, 0.25), None, WorkerPlan(4, 1, 0.25)),
        (WorkerSize(2), 9, WorkerPlan(9, 2, 0)),
    ],
)
def test_workers_fit_the_nodes(size: WorkerSize, count: int | None, plan: WorkerPlan) -> None:
    assert plan_workers(NODES, size, count) == plan


@pytest.mark.parametrize("size", [WorkerSize(9), WorkerSize(1, 2)])
def test_a_worker_larger_than_every_node_is_refused(size: WorkerSize) -> None:
    with pytest.raises(ClusterFailed, match=r"the largest has 8 cores and 1 GPUs"):
        plan_workers(NODES, size, None)


@pytest.mark.parametrize("address", ["auto", "local", "10.0.0.1:6379", "ray://head:10001"])
def test_known_addresses(address: str) -> None:
    ray_runtime.check_address(address)


@pytest.mark.parametrize("address", ["", "head", "head:x", "http://head:1", "head:99999"])
def test_unknown_addresses(address: str) -> None:
    with pytest.raises(InputError, match="--ray is auto, local, HOST:PORT"):
        ray_runtime.check_address(address)


@pytest.mark.network
def test_an_address_where_nothing_listens_is_one_error_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterFailed, match=r"no Ray cluster at .*`ray start --head`"):
            ray_runtime._connect(ModuleType("ray"), address)


@pytest.mark.network
@pytest.mark.parametrize("reply", [b"HTTP/1.0 400 Bad request\r\n\r\n", b""])
def test_an_address_where_something_else_listens_is_one_error(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(_answer, server, reply)
        with pytest.raises(ClusterFailed, match=r"listens at .* is not a Ray cluster"):
            ray_runtime._connect(ModuleType("ray"), f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.network
def test_an_address_where_grpc_listens_is_left_to_ray() -> None:
    grpc = pytest.importorskip("grpc", reason="gRPC is not installed")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        ray_runtime.probe(f"127.0.0.1:{port}")
    finally:
        server.stop(None)


def test_a_cluster_that_refuses_the_connection_may_require_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at head:1")

    ray = ModuleType("ray")
    ray.init = refuse  # type: ignore[attr-defined]
    monkeypatch.setattr(ray_runtime, "probe", lambda _: None)
    with pytest.raises(ClusterFailed, match=r"Failed to connect .* RAY_AUTH_MODE=token .* ~/\.ray/auth_token"):
        ray_runtime._connect(ray, "head:1")
    with pytest.raises(ClusterFailed, match="`ray start --head`"):
        ray_runtime._connect(ray, "auto")


def test_processes_of_ray_that_do_not_start_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.\nSee the logs.")

    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    ray = ModuleType("ray")
    ray.init = fail  # type: ignore[attr-defined]
    with pytest.raises(
        ClusterFailed, match=r"did not start its processes \(The current node timed out during startup\.\)"
    ):
        ray_runtime._connect(ray, "local")
    assert os.environ["RAY_worker_niceness"] == "0"  # noqa: SIM112 - the name that Ray reads
    monkeypatch.delenv("RAY_worker_niceness")


def test_without_a_cluster_here_the_options_of_nearfield_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own sentence names ``--address``, which no command of this package has."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Could not find any running Ray instance. Please set the `--address` flag.")

    ray = ModuleType("ray")
    ray.init = refuse  # type: ignore[attr-defined]
    with pytest.raises(ClusterFailed, match=r"no Ray cluster on this machine.*--ray HOST:PORT.*--ray local") as caught:
        ray_runtime._connect(ray, "auto")
    assert "--address" not in str(caught.value)


@pytest.mark.parametrize(("home", "is_named"), [(S3Path("bucket", "out"), True), (Path("out"), False)])
def test_a_worker_without_keys_says_whose_variables_count(
    home: Location, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command has read the inputs with its own keys, which a user would then look at in vain."""

    def refuse(*_: object) -> None:
        raise ClusterFailed("no access keys.")

    for name, replacement in (("_node", lambda: "10.0.0.2"), ("open_folder", refuse)):
        monkeypatch.setattr(shard_worker, name, replacement)
    monkeypatch.setattr(shard_worker, "open_drafts", lambda *_: Path("drafts"))
    order: Any = SimpleNamespace(precision="float32", run="a", task=SimpleNamespace(home=home, generation="b"))
    encoder: Any = SimpleNamespace(precision="float32")
    with pytest.raises(ClusterFailed, match=r"^10\.0\.0\.2: no access keys\.") as caught:
        shard_worker.ShardWorker()._use(order, encoder)
    assert ("at `ray start`, not those of the command" in str(caught.value)) == is_named


def _answer(server: socket.socket, reply: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1024)
        connection.sendall(reply)


def test_reports_of_usage_are_off_before_ray_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text(
        "import os\n__version__ = '2.60.0'\nusage = os.environ['RAY_USAGE_STATS_ENABLED']\n"
    )
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    try:
        assert ray_runtime.import_ray().usage == "0"
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    finally:
        sys.modules.pop("ray", None)


def test_a_missing_or_old_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nearfield\[ray\]'"):
        ray_runtime.import_ray()
    old = ModuleType("ray")
    old.__version__ = "2.9.3"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", old)
    with pytest.raises(MissingExtra, match=r"2\.9\.3 is too old"):
        ray_runtime.import_ray()


def test_another_version_in_the_cluster_is_named() -> None:
    error = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11")
    assert "Ray: 2.50.0 Python: 3.11 Install the same" in ray_runtime._refusal("auto", error)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-o", "out.npy", "--ray", "local"], "end the name of the output with a slash"),
        (["-o", "out/", "--ray", "local", "--shard", "1/2"], "leave --shard out"),
        (["-o", "out/", "--ray", "nowhere"], "--ray is auto, local"),
        (["-o", "out/", "--ray", "local", "--workers", "0"], "--workers is at least 1"),
        (["-o", "out/", "--ray", "local", "--per-worker", "all"], "--per-worker is cpus=N"),
        (["-o", "out/", "--workers", "2"], "--workers needs --ray"),
        (["-o", "out/", "--per-worker", "cpus=2"], "--per-worker needs --ray"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    ran = run(capsys, monkeypatch, "embed", "rows.jsonl", *more)
    assert (ran.code, message in ran.err) == (2, True), ran.err
    assert not Path("out").exists()
