"""Quotas of files and batches, full disks, exhausted descriptors, and clocks that jump."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import NotThere, Overloaded, QuotaExceeded, StorageFull
from nearfield.server.batches import batch_runner, batch_store, line_runner
from nearfield.server.batches.batch_store import BatchStore
from nearfield.server.files import file_store
from nearfield.server.files.file_store import FileStore
from nearfield.server.files.file_threads import in_thread
from nearfield.server.files.quota import StorageLimits, StorageUsage
from nearfield.server.files.wall_clock import WallClock
from nearfield.server.http.content_bounds import ContentBounds
from tests.support.batches import wait_for_batch
from tests.support.serving import serving

ENDPOINT: Any = "/v1/embeddings"
DAY, YEAR = 86_400, 365 * 86_400


def _client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)


def _lines(count: int) -> bytes:
    body = {"model": "tiny", "input": "cat"}
    lines = [{"custom_id": str(n), "method": "POST", "url": ENDPOINT, "body": body} for n in range(count)]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _upload(client: openai.OpenAI, content: bytes) -> Any:
    return client.files.create(file=("batch.jsonl", content), purpose="batch")


def _batch(client: openai.OpenAI, count: int = 1) -> Any:
    name = _upload(client, _lines(count)).id
    return client.batches.create(input_file_id=name, endpoint=ENDPOINT, completion_window="24h")


# -- quotas ----------------------------------------------------------------------------------------------------------


@pytest.mark.network
def test_the_files_of_a_key_are_bounded(tiny: Encoder) -> None:
    settings: dict[str, Any] = {"max_key_stored_bytes": "1MB", "max_stored_bytes": "1500KB", "max_key_files": 3}
    with (
        serving([tiny], api_keys=("one", "two"), **settings) as url,
        _client(url, "one") as one,
        _client(url, "two") as two,
    ):
        first = _upload(one, b"x" * 700_000)
        with pytest.raises(openai.PermissionDeniedError, match="max_key_stored_bytes") as refused:
            _upload(one, b"x" * 400_000)
        assert refused.value.code == "quota_exceeded"
        with pytest.raises(openai.APIStatusError, match="max_stored_bytes") as full:
            _upload(two, b"x" * 900_000)
        assert (full.value.status_code, full.value.code) == (507, "storage_full")
        one.files.delete(first.id)
        for _ in range(3):
            _upload(one, b"x")
        with pytest.raises(openai.PermissionDeniedError, match="max_key_files"):
            _upload(one, b"x")
        assert _upload(two, b"x" * 900_000).bytes == 900_000


@pytest.mark.network
def test_unfinished_batches_of_a_key_are_bounded(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    open_again, real = threading.Event(), tiny.run_encode

    async def run_encode(*arguments: Any, **options: Any) -> Any:
        if not open_again.is_set():
            raise Overloaded("closed", retry_after=0.01)
        return await real(*arguments, **options)

    monkeypatch.setattr(tiny, "run_encode", run_encode)
    with (
        serving([tiny], api_keys=("one", "two"), max_key_batches=2) as url,
        _client(url, "one") as one,
        _client(url, "two") as two,
    ):
        batches = [_batch(one), _batch(one)]
        with pytest.raises(openai.RateLimitError, match="max_key_batches") as refused:
            _batch(one)
        assert refused.value.code == "too_many_batches"
        assert int(refused.value.response.headers["retry-after"]) == 30
        other = _batch(two)
        open_again.set()
        assert {wait_for_batch(one, batch.id).status for batch in batches} == {"completed"}
        assert wait_for_batch(two, other.id).status == wait_for_batch(one, _batch(one).id).status == "completed"


@pytest.mark.network
def test_a_batch_that_waits_releases_its_slot(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, full = tiny.run_encode, threading.Event()

    async def run_encode(*arguments: Any, **options: Any) -> Any:
        if not full.is_set():
            full.set()
            raise Overloaded("full", retry_after=600)
        return await real(*arguments, **options)

    monkeypatch.setattr(tiny, "run_encode", run_encode)
    monkeypatch.setattr(batch_runner, "_MAX_OPEN", 1)
    for module in (batch_runner, line_runner):
        monkeypatch.setattr(module, "_MAX_WAIT", 600.0)
    with (
        serving([tiny], api_keys=("one", "two")) as url,
        _client(url, "one") as one,
        _client(url, "two") as two,
    ):
        waiting = _batch(one)
        assert full.wait(30)
        assert wait_for_batch(two, _batch(two).id).status == "completed"
        assert one.batches.retrieve(waiting.id).status == "in_progress"
        one.batches.cancel(waiting.id)
        assert wait_for_batch(one, waiting.id).status == "cancelled"


@pytest.mark.network
def test_results_of_batches_count(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_store, "_WINDOW_LINES", 1)
    with serving([tiny], max_key_stored_bytes="4KB") as url, _client(url) as client:
        batch = wait_for_batch(client, _batch(client, 20).id)
        assert batch.status == "failed"
        assert [error.code for error in batch.errors.data] == ["quota_exceeded"]
        assert 0 < batch.request_counts.completed < 20
        assert client.files.content(batch.output_file_id).text.count("\n") == batch.request_counts.completed


async def test_pending_files_count(tmp_path: Path) -> None:
    """Many uploads at once cannot take more than the quota before the first is complete."""
    store = FileStore(tmp_path, StorageLimits(owner_bytes=100, owner_files=3))
    async with store.draft("one") as first, store.draft("one") as second, store.draft("two") as other:
        first.write(b"x" * 60)
        with pytest.raises(QuotaExceeded):
            second.write(b"x" * 60)
        second.write(b"x" * 40)
        other.write(b"x" * 60)
        await store.keep(first, owner="one", purpose="batch", filename="a")
        async with store.draft("one"):
            with pytest.raises(QuotaExceeded, match="max_key_files"):
                async with store.draft("one"):
                    pass
    assert store._pending == {}
    store.close()


@pytest.mark.network
def test_records_of_what_is_over_are_bounded(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_store, "_MAX_ENDED", 2)
    monkeypatch.setattr(file_store, "_MAX_GONE", 2)
    with serving([tiny]) as url, _client(url) as client:
        batches = [wait_for_batch(client, _batch(client).id) for _ in range(5)]
        assert [batch.id for batch in client.batches.list()] == [batch.id for batch in batches[:1:-1]]
        assert client.files.content(batches[0].output_file_id).text  # results are files, and stay
        files = [_upload(client, b"x").id for _ in range(4)]
        for file in files:
            client.files.delete(file)
        for file in files[:2]:
            with pytest.raises(openai.BadRequestError, match="after"):
                client.files.list(after=file)
        assert client.files.list(after=files[3]).data


def test_no_limit() -> None:
    StorageUsage(10**9, 10**15, 10**15).check(StorageLimits(0, 0, 0, 0), 10**15)


# -- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    result = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, check=False
    )
    if result.returncode:
        pytest.skip("no permission to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def _fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("ab", 0) as file:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - the loop ends with it
    return path


async def _store_file(store: FileStore, content: bytes) -> str:
    async with store.draft("") as draft:
        await in_thread(draft.write, content)
        return (await store.keep(draft, owner="", purpose="batch", filename="a")).id


@pytest.mark.parametrize("start", ["running", "new", "killed"])
async def test_records_and_files_are_read_on_a_full_disk(small_disk: Path, start: str) -> None:
    store = FileStore(small_disk / "data")
    name = await _store_file(store, b"x" * 100_000)
    if start == "new":
        store.close()
    filler = _fill(small_disk)
    if start != "running":
        if start == "killed":  # SQLite's log remains, and its shared index is lost
            (small_disk / "data" / "server.db-shm").unlink()
            filler = _fill(small_disk)
        store = FileStore(small_disk / "data")
    assert (await store.find(name, "")).bytes == 100_000
    assert [file.id for file in (await store.page("", after=None, limit=10))[0]] == [name]
    assert sum([len(chunk) async for chunk in store.chunks(name, 100_000)]) == 100_000
    assert BatchStore(store, ContentBounds(1, 1, 1, 1, 1, 1)).page("", None, 10) == ([], False)
    assert BatchStore(store, ContentBounds(1, 1, 1, 1, 1, 1)).unfinished() == []
    with pytest.raises(StorageFull):
        await _store_file(store, b"x")
    if start == "running":
        await store.delete(name, "")  # what it frees is enough for the record
        with pytest.raises(NotThere):
            await store.find(name, "")
    filler.unlink()
    store.close()
    store = FileStore(small_disk / "data")
    assert await _store_file(store, b"x" * 1000)
    store.close()


async def test_contents_leave_a_reserve_for_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, free = FileStore(tmp_path), [50 * 2**20 + 1000]
    monkeypatch.setattr(file_store, "disk_bytes", lambda _: (5000 * 2**20, free[0]))
    async with store.draft("") as draft:
        draft.write(b"x" * 900)
        with pytest.raises(StorageFull, match="disk is full"):
            draft.write(b"x" * 1100)
    free[0] = 50 * 2**20 - 1
    with pytest.raises(StorageFull):
        await _store_file(store, b"x")
    store.close()


EXHAUSTED = """
import asyncio, os, resource, sys, time
from pathlib import Path
from nearfield.errors import NearfieldError
from nearfield.server.files.file_store import FileStore

async def main():
    store = FileStore(Path(sys.argv[1]))
    async with store.draft("") as draft:
        file = await store.keep(draft, owner="", purpose="batch", filename="a")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    opened = []
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    started = time.monotonic()
    async def upload():
        async with store.draft(""):
            pass
    for _ in range(3):
        for call in (lambda: store.find(file.id, ""), lambda: store.page("", after=None, limit=5), upload):
            try:
                await call()
            except NearfieldError as error:
                print(error.status, error)
    assert time.monotonic() - started < 20
    for descriptor in opened:
        os.close(descriptor)
    print((await store.find(file.id, "")).id == file.id)

asyncio.run(main())
"""


@pytest.mark.process
def test_exhausted_descriptors_are_an_error_that_passes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXHAUSTED, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    message = "503 The server has too many files and connections open. Try again in a moment."
    assert result.stdout.splitlines() == [message] * 9 + ["True"], result.stderr
    assert result.stderr.count("no file descriptors left") == 1


# -- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_a_jump_of_the_clock_is_followed_after_an_hour(jump: int, caplog: pytest.LogCaptureFixture) -> None:
    times = {"wall": 1e9, "elapsed": 50.0}
    clock = WallClock(lambda: times["wall"], lambda: times["elapsed"])

    def pass_time(seconds: float) -> float:
        times["wall"] += seconds
        times["elapsed"] += seconds
        return clock()

    assert clock() == 1e9
    assert pass_time(10) == 1e9 + 10
    times["wall"] += 60  # a small correction is followed at once
    assert clock() == 1e9 + 70
    times["wall"] += jump
    assert clock() == 1e9 + 70
    assert pass_time(3000) == 1e9 + 3070
    assert caplog.text.count("jumped") == 1
    times["wall"] -= jump  # corrected before the hour is over: as if it had not been
    assert pass_time(600) == 1e9 + 3670
    times["wall"] += jump
    clock()
    assert pass_time(3599) == 1e9 + 7269
    assert pass_time(1) == 1e9 + 7270 + jump


async def test_nothing_is_lost_by_a_jump_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jump = [0.0]
    monkeypatch.setattr(FileStore, "clock", staticmethod(WallClock(lambda: time.time() + jump[0])))
    store = FileStore(tmp_path)
    async with store.draft("") as draft:
        draft.write(b"x")
        file = await store.keep(draft, owner="", purpose="batch", filename="a", seconds=3600)
    for jump[0] in (YEAR, -YEAR, 0.0):
        store._swept = None
        store.sweep()
        assert (await store.find(file.id, "")).id == file.id
        assert store.path(file.id).exists()
    store.close()


@pytest.mark.network
@pytest.mark.parametrize(("passed", "status"), [(DAY + 1, "expired"), (YEAR, "expired"), (-YEAR, "completed")])
def test_a_batch_after_time_without_a_server(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, passed: int, status: str
) -> None:
    """It expires if its window has passed. A clock that was set back does not give it more than a window."""
    monkeypatch.setattr(batch_store, "_WINDOW_LINES", 1)
    left, real = [2], tiny.run_encode

    async def run_encode(*arguments: Any, **options: Any) -> Any:
        if left[0] <= 0:
            raise Overloaded("closed", retry_after=0.01)
        left[0] -= 1
        return await real(*arguments, **options)

    monkeypatch.setattr(tiny, "run_encode", run_encode)
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        name = _batch(client, 4).id
        until = time.monotonic() + 60
        while (counts := client.batches.retrieve(name).request_counts) is None or counts.completed < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
    left[0] = 100 if passed < 0 else 0
    monkeypatch.setattr(FileStore, "clock", staticmethod(lambda: time.time() + passed))
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        batch = wait_for_batch(client, name)
        assert batch.status == status
        done = client.files.content(batch.output_file_id).text.count("\n")
        assert batch.request_counts is not None
        assert done == batch.request_counts.completed == (4 if status == "completed" else 2)
        assert batch.request_counts.failed == 4 - done


@pytest.mark.network
@pytest.mark.parametrize(("status", "outcome"), [("finalizing", "completed"), ("cancelling", "cancelled")])
@pytest.mark.parametrize("passed", [0, DAY + 1])
def test_a_restart_while_a_batch_ends(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, outcome: str, passed: int
) -> None:
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        batch = wait_for_batch(client, _batch(client, 3).id)
        content = client.files.content(batch.output_file_id).content
    store = FileStore(tmp_path)  # as a kill would have left it, before the results were in place
    store.path(batch.output_file_id).rename(store.path(batch.output_file_id + ".partial"))
    with store.records(write=True) as database:
        database.execute("DELETE FROM files WHERE id = ?", (batch.output_file_id,))
        (record,) = database.execute("SELECT record FROM batches").fetchone()
        changed = {**json.loads(record), "status": status, "output_file_id": None, "completed_at": None}
        database.execute("UPDATE batches SET status = ?, record = ?", (status, json.dumps(changed).encode()))
    store.close()
    monkeypatch.setattr(FileStore, "clock", staticmethod(lambda: time.time() + passed))
    with serving([tiny], data_dir=tmp_path) as url, _client(url) as client:
        ended = wait_for_batch(client, batch.id)
        assert (ended.status, ended.request_counts.completed) == (outcome, 3)
        assert client.files.content(ended.output_file_id).content == content
