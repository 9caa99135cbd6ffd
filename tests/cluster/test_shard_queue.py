"""The queue of shards: retries, copies of slow shards, texts that end processes, and what is set aside."""

from __future__ import annotations

import random

import pytest

from nearfield.bulk.shard_plan import Shard
from nearfield.cluster.shard_queue import ShardQueue, Work


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _queue(count: int, clock: Clock) -> ShardQueue:
    return ShardQueue([Shard(number, number * 10, 10, f"c{number}") for number in range(count)], clock)


def _take(queue: ShardQueue, worker: int) -> int:
    assignment = queue.take(worker)
    assert assignment is not None
    return assignment.shard.number


def test_each_shard_is_taken_once_in_order(clock: Clock) -> None:
    queue = _queue(3, clock)
    assert [_take(queue, worker) for worker in (5, 6, 7)] == [0, 1, 2]
    assert queue.take(8) is None
    assert [queue.finish(worker) for worker in (6, 5, 7)] == [True] * 3
    assert queue.is_done and (queue.closed, queue.retries, queue.copies) == (3, 0, 0)


def test_an_error_is_tried_again_once_and_then_set_aside(clock: Clock) -> None:
    queue = _queue(1, clock)
    _take(queue, 0)
    queue.fail(0, "first")
    assert not queue.is_done
    _take(queue, 1)
    queue.fail(1, "second")
    assert queue.is_done and queue.set_aside == {0: "second"}


def test_a_slow_shard_is_copied_once_and_counted_once(clock: Clock) -> None:
    queue = _queue(3, clock)
    for worker in range(3):
        _take(queue, worker)
    clock.now = 10.0
    assert queue.finish(0) and queue.take(0) is None  # one duration is no median
    assert queue.finish(1) and queue.take(1) is None  # not slow yet
    clock.now = 16.0
    assert _take(queue, 1) == 2
    assert queue.take(0) is None
    assert queue.finish(1) and queue.is_done
    assert not queue.finish(2)
    assert queue.copies == 1


def test_a_stopped_machine_does_not_count_against_its_shard(clock: Clock) -> None:
    queue = _queue(1, clock)
    for worker in range(10):
        assignment = queue.take(worker)
        assert assignment is not None and assignment.work == Work.ENCODE
        queue.lose(worker, suspects=(0, 5), blames=False)
    assert not queue.set_aside and queue.retries == 10


def test_a_text_that_ends_processes_is_found_and_its_shard_set_aside(clock: Clock) -> None:
    queue, guilty, deaths = _queue(2, clock), (0, 7), 0
    for worker in range(100):
        assignment = queue.take(worker)
        if assignment is None:
            break
        if assignment.work == Work.ENCODE:
            if assignment.shard.number != guilty[0]:
                queue.finish(worker)
                continue
            queue.lose(worker, suspects=(4, 10))
        else:
            assert assignment.rows in ((4, 10), (7, 8))
            queue.lose(worker, suspects=(7, 8))
        deaths += 1
    assert queue.is_done and list(queue.set_aside) == [0] and deaths == 4


def test_a_shard_whose_workers_stop_without_a_guilty_text_is_set_aside_in_the_end(clock: Clock) -> None:
    queue = _queue(1, clock)
    for worker in range(100):
        assignment = queue.take(worker)
        if assignment is None:
            break
        if assignment.work == Work.ENCODE:
            queue.lose(worker, suspects=(0, 10))
        else:
            queue.acquit(worker)
    assert "no single text" in queue.set_aside[0]


def test_workers_that_stop_by_chance_lose_no_shard(clock: Clock) -> None:
    """Half of the workers stop at random: an unlucky shard may be examined, and is encoded nevertheless."""
    draw = random.Random(3)
    queue = _queue(200, clock)
    for worker in range(10_000):
        assignment = queue.take(worker)
        if assignment is None:
            break
        if draw.random() < 0.2:
            queue.lose(worker, suspects=(0, 10))
        elif assignment.work == Work.EXAMINE:
            queue.acquit(worker)
        else:
            queue.finish(worker)
    assert queue.is_done and not queue.set_aside


def test_a_shard_of_another_run_is_left_to_it_after_a_second_look(clock: Clock) -> None:
    queue = _queue(1, clock)
    for worker in (0, 1):
        assert not queue.is_done
        _take(queue, worker)
        queue.postpone(worker)
    assert queue.is_done and not queue.set_aside


def test_what_takes_far_too_long_is_hanging(clock: Clock) -> None:
    queue = _queue(2, clock)
    _take(queue, 0)
    clock.now = 60.0
    queue.finish(0)
    _take(queue, 1)
    clock.now = 1000.0
    assert not list(queue.hanging())
    clock.now = 1300.0
    assert [assignment.worker for assignment in queue.hanging()] == [1]
