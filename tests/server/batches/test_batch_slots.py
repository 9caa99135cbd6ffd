"""Slots of open batches, and the check of files, shared between owners."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield.errors import ShuttingDown
from nearfield.server.batches import batch_lines, batch_slots, batch_store
from nearfield.server.batches.batch import BatchJob, BatchObject, Status
from nearfield.server.batches.batch_slots import BatchSlots
from nearfield.server.batches.batch_store import BatchStore, FileCheck
from nearfield.server.files.file_store import FileStore
from nearfield.server.http.content_bounds import ContentBounds
from nearfield.server.http.limits import RequestLimits

ENDPOINT = "/v1/embeddings"


def _job(owner: str, number: int, status: Status = "in_progress") -> BatchJob:
    batch = BatchObject(f"{owner}{number}", "batch", ENDPOINT, "file-1", "24h", status, 0)
    return BatchJob(batch, owner, "file-2", "file-3")


def _names(jobs: list[BatchJob]) -> list[str]:
    return [job.batch.id for job in jobs]


def test_owners_get_equal_shares_of_free_slots() -> None:
    slots = BatchSlots(4)
    jobs = [*(_job("a", number) for number in range(6)), *(_job("b", number) for number in range(2))]
    assert sorted(_names(slots.choose(jobs))) == ["a0", "a1", "b0", "b1"]


def test_an_owner_releases_slots_beyond_its_share() -> None:
    slots = BatchSlots(4)
    mine, others = [_job("a", number) for number in range(6)], [_job("b", number) for number in range(6)]
    assert _names(slots.choose(mine)) == ["a0", "a1", "a2", "a3"]
    assert not any(slots.must_release(job) for job in mine[:4])
    assert slots.choose([*mine, *others]) == []
    assert [slots.must_release(job) for job in mine[:4]] == [True, True, False, False]
    assert _names(slots.choose([*mine, *others])) == ["b0", "b1"]
    assert not any(slots.must_release(job) for job in (*mine[2:4], *others[:2]))


def test_no_more_slots_are_released_than_batches_wait() -> None:
    slots = BatchSlots(4)
    mine = [_job("a", number) for number in range(4)]
    slots.choose(mine)
    slots.choose([*mine, _job("b", 0)])
    assert [slots.must_release(job, idle=True) for job in mine] == [True, False, False, False]


def test_an_idle_batch_makes_way_for_an_owner_without_one() -> None:
    slots = BatchSlots(1)
    mine, other = _job("a", 0), _job("b", 0)
    slots.choose([mine])
    slots.choose([mine, other])
    assert not slots.must_release(mine)
    assert slots.must_release(mine, idle=True)
    slots.pause("a0", 60)
    assert slots.choose([mine, other]) == [other]
    slots.release("b0")
    assert slots.choose([mine]) == []
    assert 0 < (slots.next_end() or 0) <= 60
    assert _names(slots.choose([_job("a", 0, "cancelling")])) == ["a0"]


def test_a_cancelled_batch_does_not_wait_for_a_slot() -> None:
    slots = BatchSlots(1)
    slots.choose([_job("a", 0)])
    assert _names(slots.choose([_job("a", 1), _job("a", 2, "cancelling"), _job("b", 0, "cancelling")])) == ["a2", "b0"]
    slots.release("a0")
    assert slots.choose([_job("a", 1)]) == []
    slots.release("a2")
    slots.release("b0")
    assert _names(slots.choose([_job("a", 1)])) == ["a1"]


def test_an_open_batch_makes_way_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = BatchSlots(1)
    mine, other = _job("a", 0), _job("b", 0)
    slots.choose([mine])
    slots.choose([mine, other])
    monkeypatch.setattr(batch_slots, "_SLICE_SECONDS", -1.0)
    assert not slots.must_release(mine, sliced=False)
    assert slots.must_release(mine)


# -- checks of files -------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> BatchStore:
    return BatchStore(FileStore(tmp_path), ContentBounds.from_limits(RequestLimits(2**20, 1000, 10_000, 30.0, 100)))


def _check(store: BatchStore, monkeypatch: pytest.MonkeyPatch, content: bytes, tmp_path: Path) -> FileCheck:
    path = tmp_path / "content"
    path.write_bytes(content)
    monkeypatch.setattr(store, "_input", lambda job: path)
    return store.check(_job("a", 0))


def test_blank_lines_are_bounded(store: BatchStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batch_lines, "_MAX_BLANK_LINES", 3)
    check = _check(store, monkeypatch, b"\n" * 1000, tmp_path)
    while not check.advance():
        pass
    assert [problem.code for problem in check.problems] == ["too_many_blank_lines"]
    check.close()


def test_a_file_is_checked_in_slices_and_a_stop_ends_it(
    store: BatchStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(batch_store, "_SLICE_SECONDS", -1.0)
    check = _check(store, monkeypatch, b"\n" * 1000, tmp_path)
    assert not check.advance()
    assert not check.advance()
    store.stop()
    with pytest.raises(ShuttingDown):
        check.advance()
    check.close()
