"""A pipeline of threads connected by bounded queues."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class _PipelineStopped(Exception):
    """The pipeline was stopped while a stage waited."""


class BoundedQueue(Generic[T]):
    """A queue between two stages, bounded by the total weight of its items. One heavier item fits if it is empty."""

    def __init__(self, capacity: int, weight: Callable[[T], int]) -> None:
        self._capacity, self._weight = capacity, weight
        self._items: deque[T] = deque()
        self._load = 0
        self._ended = self._stopped = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Add an item; wait until there is capacity."""
        size = self._weight(item)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._items or self._load + size <= self._capacity)
            if self._stopped:
                raise _PipelineStopped
            self._items.append(item)
            self._load += size
            self._changed.notify_all()

    def end(self) -> None:
        """Mark that no more items will follow."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Drop all items, and wake up waiting threads, which then end."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._items or self._ended)
                if self._stopped:
                    raise _PipelineStopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._load -= self._weight(item)
                self._changed.notify_all()
            yield item


def run_pipeline(
    source: Iterable[T],
    stages: Sequence[Callable[[Iterator[T]], Iterator[T]]],
    *,
    capacity: int,
    weight: Callable[[T], int],
    on_stop: Callable[[], None] = lambda: None,
) -> Generator[T, None, None]:
    """Yield the items of the last stage, in order. Source and stages each run in a thread.

    The first error of a stage stops the pipeline and is raised here. Closing the iterator stops the pipeline too, and
    waits for its threads. ``on_stop`` is called in both cases: it must end the waits of stages for anything else than
    their queues.
    """
    queues: list[BoundedQueue[T]] = [BoundedQueue(capacity, weight) for _ in range(len(stages) + 1)]
    errors: list[BaseException] = []

    def work(start: Callable[[], Iterator[T]], output: BoundedQueue[T]) -> None:
        try:
            for item in start():
                output.put(item)
            output.end()
        except _PipelineStopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by the reader of the pipeline
            errors.append(error)
            for queue in queues:
                queue.stop()
            on_stop()

    starts: list[Callable[[], Iterator[T]]] = [lambda: iter(source)]
    starts += [_bind(stage, queue) for stage, queue in zip(stages, queues, strict=False)]
    threads = [
        threading.Thread(target=work, args=(start, queue), name="nearfield-pipeline", daemon=True)
        for start, queue in zip(starts, queues, strict=True)
    ]
    for thread in threads:
        thread.start()
    is_complete = False
    try:
        yield from queues[-1]
        is_complete = True
    except _PipelineStopped:
        pass
    finally:
        for queue in queues:
            queue.stop()
        if not is_complete:
            on_stop()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _bind(stage: Callable[[Iterator[T]], Iterator[T]], queue: BoundedQueue[T]) -> Callable[[], Iterator[T]]:
    return lambda: stage(iter(queue))
