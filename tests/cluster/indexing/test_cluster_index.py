"""Collections on two simulated nodes: the same as on one machine, also after faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nearfield.cluster import RayWorkers
from nearfield.corpus.collection import Collection
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.indexing.stages.write_stage import WriteStage
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import run
from tests.support.cluster_faults import DEADLY, ONCE, SLEEP
from tests.support.collection_state import collection_state
from tests.support.paths import ROOT
from tests.support.simulated_cluster import add_node, simulated_cluster
from tools.crash import write_documents

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]

#: Indexes a folder on a cluster, each document in a batch, and is killed while the 20th is written to the manifest.
_DYING = """
import os, signal, sys
from pathlib import Path
from nearfield.corpus.manifest.manifest import Manifest
replace, calls = Manifest.replace, []
def dying(self, *rest, **options):
    replace(self, *rest, **options)
    calls.append(1)
    if len(calls) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
Manifest.replace = dying
from nearfield.corpus.indexing import run
run._FLUSH_SECONDS = 0.0  # otherwise the first batch may have 20 documents, of which none is stored yet
from nearfield import Encoder
from nearfield.cluster import RayWorkers
from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
home, model, folder, address, store = sys.argv[1:]
config = {"features": {"dense": {"model": model}}, "store": store}
with Encoder(model, precision="float32", reproducible=True) as encoder:
    with Collection.ensure("docs", config, home=Path(home), encoder_of=lambda _: encoder) as collection:
        collection.index([parse_source(folder)], workers=RayWorkers(address))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with simulated_cluster(2) as simulated:
        yield simulated


@pytest.fixture(scope="module")
def workers(cluster: Any) -> RayWorkers:
    return RayWorkers(cluster.address, 2, "cpus=1")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """Computes each text by itself, so that its vector does not depend on how texts were batched."""
    model = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    with Encoder(str(model), precision="float32", reproducible=True) as loaded:
        yield loaded


class Bench:
    """Collections of one folder."""

    def __init__(self, place: Path, encoder: Encoder) -> None:
        self.place, self.encoder, self.folder = place, encoder, place / "files"
        self.store = "memory:"

    def write(self, count: int, special: dict[int, str] | None = None) -> None:
        """Write documents; some have special words."""
        write_documents(self.folder, count)
        for number, words in (special or {}).items():
            (self.folder / f"special-{number:02}.txt").write_text(f"The cat number {number} said {words} to the dog.")

    def address(self, name: str) -> str:
        return f"{self.store}{self.place / name}-store"

    def index(self, name: str, workers: RayWorkers | None, **options: Any) -> tuple[IndexReport, dict[str, Any]]:
        """Index the folder into a collection of a name; return the report and what the collection contains."""
        config = {"features": {"dense": {"model": str(self.encoder.recipe.folder)}}, "store": self.address(name)}
        home = self.place / name
        with Collection.ensure("docs", config, home=home, encoder_of=lambda _: self.encoder) as collection:
            report = collection.index([parse_source(str(self.folder))], workers=workers, **options)
            return report, collection_state(collection)


@pytest.fixture
def bench(tmp_path: Path, encoder: Encoder) -> Bench:
    return Bench(tmp_path, encoder)


@pytest.fixture
def mark() -> Iterator[Path]:
    """A file that does not exist. Its path is so short that it is in one chunk."""
    with tempfile.TemporaryDirectory(prefix="nf", dir="/tmp") as folder:
        yield Path(folder) / "k"


def test_a_collection_begun_here_is_continued_on_a_cluster_and_finished_here(
    bench: Bench, workers: RayWorkers, mark: Path
) -> None:
    """One worker is killed on the way. The vectors are those of runs without a cluster bit for bit, the rows too."""
    bench.write(20)
    for name in ("plain", "mixed"):
        bench.index(name, None)
    bench.write(60, {5: f"{ONCE}{mark}"})
    alone, _ = bench.index("plain", None)
    report, _ = bench.index("mixed", workers)
    assert mark.exists()
    assert report.cluster is not None and report.cluster.retries
    assert sum(node.files for node in report.cluster.nodes) == report.new + report.changed == 41
    assert (report.chunks, report.duplicates, report.tokens) == (alone.chunks, alone.duplicates, alone.tokens)
    (bench.folder / "03" / "00003.md").write_text("# Changed\n\nThe dog said hello.\n")
    (bench.folder / "04" / "00004.md").unlink()
    bench.write(70)
    _, expected = bench.index("plain", None)
    _, actual = bench.index("mixed", None)
    assert actual == expected
    assert bench.index("mixed", workers)[0].documents == 0


def test_a_process_that_is_killed_loses_nothing(bench: Bench, cluster: Any, workers: RayWorkers) -> None:
    pytest.importorskip("lancedb")
    bench.store = "lancedb://"
    bench.write(60)
    _, expected = bench.index("plain", None)
    names = [str(bench.place / "killed"), str(bench.encoder.recipe.folder), str(bench.folder), cluster.address]
    command = [sys.executable, "-c", _DYING, *names, bench.address("killed")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    report, actual = bench.index("killed", workers)
    assert 0 < report.documents < 60
    assert actual == expected


def test_an_interrupt_ends_the_run_at_once_and_the_next_one_continues(bench: Bench, workers: RayWorkers) -> None:
    bench.write(40, {1: f"{SLEEP}120"})
    started = time.monotonic()
    # A signal, as Ctrl-C sends it: it ends a wait, which interrupt_main does not.
    timer = threading.Timer(10, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        bench.index("stopped", workers)
    assert time.monotonic() - started < 60
    _, expected = bench.index("plain", None)
    _, actual = bench.index("stopped", None)
    assert actual == expected


def test_a_machine_that_stops_costs_no_document(bench: Bench, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(40, dict.fromkeys(range(40), f"{SLEEP}0.2"))
    _, expected = bench.index("plain", None)
    monkeypatch.setattr("nearfield.cluster.indexing.remote_stages._TEXTS_PER_JOB", 8)
    nodes, write = [add_node(cluster)], WriteStage.write

    def removing(self: WriteStage, batch: Any) -> None:
        write(self, batch)
        if nodes and batch:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

    monkeypatch.setattr(WriteStage, "write", removing)
    monkeypatch.setattr("nearfield.corpus.indexing.run._FLUSH_SECONDS", 0.0)
    report, actual = bench.index("cluster", RayWorkers(cluster.address, 3, "cpus=1"))
    assert not nodes
    assert actual == expected
    assert report.failed == 0


def test_the_command_sets_a_file_aside_that_ends_its_workers(
    bench: Bench, cluster: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(bench.place / "collections"))
    bench.write(12, {7: DEADLY})
    command = ["index", "docs", bench.folder, "-m", bench.encoder.recipe.folder, "--store", bench.address("docs")]
    ran = run(capsys, monkeypatch, *command, "--ray", cluster.address, "--workers", 2, "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert (report["new"], report["failed"]) == (13, 1)
    ((document, reason),) = report["failures"]
    assert document.endswith("#special-07.txt") and "the worker that processed it stopped, twice" in reason
    assert sum(node["files"] for node in report["cluster"]["nodes"]) == 13
    again = run(capsys, monkeypatch, "index", "docs", "--retry-failed")
    assert again.code == 0 and "1 document changed, 12 unchanged" in again.out


def test_an_address_without_a_cluster_is_an_error_and_leaves_no_collection(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cluster: Any
) -> None:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(bench.place / "collections"))
    bench.write(3)
    command = ["index", "docs", bench.folder, "-m", bench.encoder.recipe.folder, "--store", bench.address("docs")]
    ran = run(capsys, monkeypatch, *command, "--ray", cluster.address, "--per-worker", "cpus=64")
    assert (ran.code, "No node of the cluster has 64 cores" in ran.err) == (1, True), ran.err
    assert not list((bench.place / "collections").glob("docs"))
    for options, message in (
        (("--workers", "2"), "--workers needs --ray"),
        (("--per-worker", "cpus=2"), "--per-worker needs --ray"),
        (("--ray", "nowhere"), "--ray is auto, local, HOST:PORT or ray://HOST:PORT, not 'nowhere'"),
    ):
        ran = run(capsys, monkeypatch, *command, *options)
        assert (ran.code, message in ran.err) == (2, True), ran.err
