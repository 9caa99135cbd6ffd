"""Index runs with workers that are threads: the same collection as without, whatever happens to workers."""

from __future__ import annotations

import errno
import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.cluster import RayWorkers
from nearfield.cluster.indexing import ray_workers
from nearfield.cluster.indexing.index_worker import IndexWorker
from nearfield.corpus.collection import Collection
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.errors import ClusterFailed, InputError, StorageFull, StoreFailed
from nearfield.testing import write_tiny_model
from tests.support.collection_state import collection_state
from tests.support.inline_ray import InlineActorDied, InlineRay
from tools.crash import write_documents

pytestmark = [pytest.mark.process, pytest.mark.slow]

#: A file with this word ends its worker.
DEADLY = "mat mat blue mat"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", prompts={"query": "query ", "document": "say "})


@pytest.fixture(scope="module")
def encoder(model: Path) -> Iterator[Encoder]:
    """Computes each text by itself, so that its vector does not depend on how texts were batched."""
    with Encoder(str(model), precision="float32", reproducible=True, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    """Let documents of a few kilobytes be long ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nearfield.corpus.indexing.context._RETRY_PAUSES", (0.0,))
        for module in ("stages.extract_stage", "document_task"):
            patch.setattr(f"nearfield.corpus.indexing.{module}.PART_CHUNKS", 32)
        patch.setattr("nearfield.cluster.indexing.index_worker._PAGE_CHUNKS", 40)
        patch.setattr("nearfield.cluster.indexing.ray_workers._MIN_REFERENCED", 10_000)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_documents(folder, 40)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    (folder / "empty.txt").write_bytes(b"")
    long = " ".join(f"The cat number {number} sat on the mat." for number in range(300))
    (folder / "long.txt").write_text(long, encoding="utf-8")
    with zipfile.ZipFile(folder / "papers.zip", "w") as archive:
        archive.writestr("one.md", "# One\n\nThe dog said hello to the world.\n")
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, files: Path, model: Path, encoder: Encoder) -> Any:
    """Return a function that indexes a folder into a new collection, or one of a name, and returns report and state."""
    place = tmp_path_factory.mktemp("collections")
    features = {"dense": {"model": str(model)}, "short": {"of": "dense", "dtype": "binary"}}
    names = (f"collection-{number}" for number in itertools.count())

    def run(
        workers: RayWorkers | None, name: str | None = None, folder: Path = files, **options: Any
    ) -> tuple[IndexReport, dict[str, Any]]:
        name = name or next(names)
        config = {"chunks": {"tokens": 24}, "features": features, "store": f"memory:{place / name}-store"}
        with Collection.ensure(name, config, home=place, encoder_of=lambda _: encoder) as collection:
            report = collection.index([parse_source(str(folder))], workers=workers, **options)
            return report, collection_state(collection)

    return run


@pytest.fixture(scope="module")
def plain(index: Any) -> tuple[IndexReport, dict[str, Any]]:
    """What a run without workers gives."""
    result: tuple[IndexReport, dict[str, Any]] = index(None)
    return result


def _without_times(report: IndexReport) -> dict[str, Any]:
    return {
        name: value
        for name, value in report.to_dict().items()
        if name not in ("collection", "seconds", "run_seconds", "cluster")
    }


def _failing(monkeypatch: pytest.MonkeyPatch, method: str, fail: Callable[[Any], None]) -> None:
    """Let a method of workers call ``fail`` with its requests first."""
    whole = getattr(IndexWorker, method)

    def failing(self: IndexWorker, requests: Any, *rest: Any) -> Any:
        fail(requests)
        return whole(self, requests, *rest)

    monkeypatch.setattr(IndexWorker, method, failing)


def test_a_collection_is_the_same_bit_for_bit(index: Any, plain: Any, workers: RayWorkers) -> None:
    """With a long document that arrives in pages, a file that workers read, an archive, and files that cannot be read.

    The manifest has the same rows in the same order, the store the same records, and the report the same counts.
    """
    alone, _ = plain
    report, actual = index(workers)
    assert alone.failed == 2 and alone.chunks > 200
    assert actual == plain[1]
    assert _without_times(alone) == _without_times(report)
    assert report.cluster is not None
    (node,) = report.cluster.nodes
    assert (node.files, node.chunks, report.cluster.retries) == (44, alone.embedded, 0)


def test_a_long_document_continues_on_another_worker(
    index: Any, plain: Any, workers: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker with its first parts stops: another one begins again, and returns only the parts that are missing."""
    deaths: list[int] = []

    def fail(requests: Any) -> None:
        if requests[0].skip and len(deaths) < 2:
            deaths.append(requests[0].skip)
            raise InlineActorDied

    _failing(monkeypatch, "split", fail)
    monkeypatch.setattr("nearfield.cluster.indexing.job_queue.MAX_FAILURES", 3)
    report, actual = index(workers)
    assert (len(deaths), report.cluster.retries) == (2, 2)
    assert actual == plain[1]


def test_a_file_that_workers_do_not_see_is_sent_to_them(
    index: Any, plain: Any, workers: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfield.cluster.indexing.messages import FileReference

    looked: list[Path] = []
    monkeypatch.setattr(FileReference, "read", lambda self: looked.append(self.path))
    _, actual = index(workers)
    assert {path.name for path in looked} == {"long.txt"}
    assert actual == plain[1]


def test_a_reference_is_of_the_same_bytes_only(tmp_path: Path) -> None:
    from nearfield.cluster.indexing.messages import FileReference

    (tmp_path / "a").write_bytes(b"same")
    reference = FileReference.from_bytes(tmp_path / "a", b"same")
    assert reference.read() == b"same"
    for other in (b"SAME", b"same and more", b""):
        (tmp_path / "a").write_bytes(other)
        assert reference.read() is None
    (tmp_path / "a").unlink()
    assert reference.read() is None


@pytest.mark.parametrize("method", ["split", "embed"])
def test_a_file_that_ends_its_workers_is_set_aside_and_the_others_are_done(
    index: Any, tmp_path: Path, workers: RayWorkers, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_documents(tmp_path / "files", 12)
    (tmp_path / "files" / "deadly.txt").write_text(f"The dog said {DEADLY} to the world.", encoding="utf-8")

    def fail(requests: Any) -> None:
        texts = (str(request) for request in requests)
        if any(DEADLY in text for text in texts):
            raise InlineActorDied

    with monkeypatch.context() as patched:
        _failing(patched, method, fail)
        report, actual = index(workers, method, tmp_path / "files")
    ((_, message),) = report.failures
    assert "deadly.txt: the worker that processed it stopped, twice" in message
    assert {row[3] for key, row in actual["documents"].items() if key != "deadly.txt"} == {"done"}
    assert (report.new, report.failed, actual["documents"]["deadly.txt"][3]) == (13, 1, "failed")
    again, actual = index(workers, method, tmp_path / "files", retry_failed=True)
    assert (again.changed, again.failed, actual["documents"]["deadly.txt"][3]) == (1, 0, "done")


def test_a_worker_whose_disk_is_full_is_not_used_further(
    index: Any, plain: Any, workers: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: list[int] = []

    def fail(_: Any) -> None:
        if not full:
            full.append(1)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _failing(monkeypatch, "split", fail)
    report, actual = index(workers)
    assert actual == plain[1]
    assert "The disk of 127.0.0.1 is full" in report.cluster.warnings[0]

    def always(_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _failing(monkeypatch, "split", always)
    with pytest.raises(StorageFull, match="disks of all workers"):
        index(workers)


def test_a_store_that_fails_ends_the_run_and_the_next_one_completes_it(
    index: Any, plain: Any, workers: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfield.stores.memory import MemoryStore

    def refuse(*_: Any) -> None:
        raise StoreFailed("no connection")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryStore, "upsert", refuse)
        with pytest.raises(StoreFailed):
            index(workers, "refused")
    _, actual = index(workers, "refused")
    assert actual == plain[1]


@pytest.mark.parametrize(
    "difference", [{"version": "0.0.1"}, {"identity": "other"}, {"spaces": {"dense": {}, "short": {}}}], ids=str
)
def test_machines_that_compute_something_else_are_refused(
    index: Any, workers: RayWorkers, difference: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = ray_workers.create_order
    monkeypatch.setattr(ray_workers, "create_order", lambda *places: replace(order(*places), **difference))
    with pytest.raises(ClusterFailed, match=r"No worker could start.*127\.0\.0\.1"):
        index(workers)


def test_a_run_without_changes_starts_no_worker(index: Any, workers: RayWorkers, inline_ray: InlineRay) -> None:
    index(workers, "same")
    assert inline_ray.actors
    inline_ray.actors.clear()
    report, _ = index(workers, "same")
    assert (report.documents, inline_ray.actors) == (0, [])


def test_options_are_checked_before_a_collection_is_created() -> None:
    for workers in (RayWorkers("nowhere"), RayWorkers("auto", 0), RayWorkers("auto", None, "cpus=half")):
        with pytest.raises(InputError):
            workers.check()


def test_late_chunks_and_sparse_vectors_are_the_same(tmp_path: Path, workers: RayWorkers, model: Path) -> None:
    from tests.parity.m3 import write as write_m3

    folder = tmp_path / "files"
    write_documents(folder, 6)
    m3 = write_m3(tmp_path / "m3")
    features = {name: {"model": str(m3), "kind": name} for name in ("dense", "sparse", "multivector")}
    for name, config in (
        ("late", {"features": {"dense": {"model": str(model)}}, "chunks": {"by": "late", "tokens": 16}}),
        ("three", {"features": features}),
    ):
        states = []
        for kind, places in (("plain", None), ("cluster", workers)):
            definition = {**config, "store": f"memory:{tmp_path / name / kind}"}
            with Collection.create(f"{name}-{kind}", definition, home=tmp_path / "home") as collection:
                collection.index([parse_source(str(folder))], workers=places)
                states.append(collection_state(collection))
        assert {key: value for key, value in states[0].items() if key != "vectors"} == {
            key: value for key, value in states[1].items() if key != "vectors"
        }
        for table, vectors in states[0]["vectors"].items():
            for key, vector in vectors.items():
                other = states[1]["vectors"][table][key]
                for left, right in zip(np.atleast_1d(vector), np.atleast_1d(other), strict=True):
                    np.testing.assert_allclose(left, right, atol=1e-5)
