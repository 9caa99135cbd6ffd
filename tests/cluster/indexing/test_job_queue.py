"""The queue of jobs: what is tried again, what is set aside, what goes first, and which worker is given up."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import pytest

from nearfield.cluster.indexing.job_queue import DocumentSetAside, JobQueue, WorkJob, WorkUnit, group_items


class Clock:
    """A clock that only moves when it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(clock: Clock) -> JobQueue:
    return JobQueue(clock)


def _job(*requests: str, **options: Any) -> WorkJob:
    return WorkJob("split", [WorkUnit(request) for request in requests], **options)


def test_each_document_gets_its_reply_and_the_number_of_the_worker(jobs: JobQueue) -> None:
    job = _job("a", "b")
    jobs.add(job)
    assert (jobs.take(7), jobs.take(8), jobs.pending, jobs.is_idle) == (job, None, 0, False)
    assert jobs.finish(7, ["A", "B"]) is job
    assert [(unit.future.result().worker, unit.future.result().value) for unit in job.units] == [(7, "A"), (7, "B")]
    assert jobs.is_idle


def test_documents_that_have_begun_go_first(jobs: JobQueue) -> None:
    for job in (_job("a"), _job("b"), _job("c", is_urgent=True), _job("d", is_urgent=True)):
        jobs.add(job)
    taken = [jobs.take(number) for number in range(4)]
    assert [job.units[0].request for job in taken if job is not None] == ["c", "d", "a", "b"]


def test_a_job_waits_for_the_worker_that_it_prefers_while_that_one_runs(jobs: JobQueue) -> None:
    jobs.add(job := _job("a", preferred=1))
    assert jobs.take(0, frozenset({1})) is None
    assert jobs.take(0, frozenset()) is job


def test_documents_of_a_worker_that_stopped_are_tried_one_by_one_and_only_the_guilty_one_is_set_aside(
    jobs: JobQueue,
) -> None:
    group = _job("good", "deadly", "fine")
    jobs.add(group)
    jobs.add(_job("later"))
    jobs.take(0)
    jobs.lose(0, DocumentSetAside("it stopped"))
    order: list[str] = []
    for worker in range(1, 6):
        job = jobs.take(worker)
        assert job is not None
        (unit,) = job.units
        order.append(unit.request)
        if unit.request == "deadly":
            jobs.lose(worker, DocumentSetAside("it stopped"))
        else:
            jobs.finish(worker, [unit.request.upper()])
    assert order == ["good", "deadly", "deadly", "fine", "later"]
    good, deadly, fine = group.units
    assert (good.future.result().value, fine.future.result().value) == ("GOOD", "FINE")
    with pytest.raises(DocumentSetAside, match="it stopped"):
        deadly.future.result()
    assert (jobs.retries, jobs.is_idle) == (4, True)


def test_a_machine_that_stops_is_no_fault_of_a_document(jobs: JobQueue) -> None:
    jobs.add(job := _job("a", "b"))
    for worker in range(5):
        again = jobs.take(worker)
        assert again is not None and again.units is job.units
        jobs.lose(worker, DocumentSetAside("it stopped"), blames=False)
    jobs.take(9)
    jobs.finish(9, ["A", "B"])
    assert job.units[1].future.result().value == "B"


def test_an_idle_worker_copies_a_slow_job_once_and_the_first_result_counts(jobs: JobQueue, clock: Clock) -> None:
    jobs.add(job := _job("a"))
    jobs.take(0)
    clock.now += 10
    assert jobs.take(1) is None
    clock.now += 11
    assert (jobs.take(1), jobs.take(2), jobs.copies) == (job, None, 1)
    assert jobs.finish(1, ["from the copy"]) is job
    assert list(jobs.hanging()) == []
    clock.now += 21
    assert list(jobs.hanging()) == [0]
    assert jobs.finish(0, ["late"]) is None
    assert job.units[0].future.result().value == "from the copy"


def test_the_job_of_a_worker_that_stops_is_left_to_its_copy(jobs: JobQueue, clock: Clock) -> None:
    jobs.add(job := _job("a"))
    jobs.take(0)
    clock.now += 21
    jobs.take(1)
    jobs.lose(0, DocumentSetAside("it stopped"))
    assert (jobs.pending, jobs.retries) == (0, 0)
    jobs.lose(1, DocumentSetAside("it stopped"))
    assert (jobs.pending, jobs.retries) == (1, 1)
    jobs.take(2)
    jobs.finish(2, ["A"])
    assert job.units[0].future.result().value == "A"


def test_a_worker_hangs_after_an_hour_and_twenty_times_the_median(jobs: JobQueue, clock: Clock) -> None:
    jobs.add(_job("a"))
    jobs.add(_job("b"))
    jobs.take(0)
    clock.now += 300
    jobs.finish(0, ["A"])
    jobs.take(1)
    clock.now += 3700
    assert list(jobs.hanging()) == []
    clock.now += 2400
    assert list(jobs.hanging()) == [1]


def test_all_that_wait_get_the_error_of_a_run_that_ends(jobs: JobQueue) -> None:
    running, waiting = _job("a"), _job("b")
    jobs.add(running)
    jobs.add(waiting)
    jobs.take(0)
    jobs.cancel()
    for job in (running, waiting):
        with pytest.raises(CancelledError):
            job.units[0].future.result()
    assert jobs.finish(0, ["too late"]) is None
    assert jobs.is_idle


def test_groups_have_a_limit_and_a_heavy_item_goes_alone() -> None:
    groups = group_items(iter([3, 3, 3, 50, 1, 9, 1]), float, 10)
    assert list(groups) == [[3, 3, 3], [50], [1, 9], [1]]
