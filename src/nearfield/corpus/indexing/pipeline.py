"""Line: steps that run side by side, each in a thread of its own, with bounded queues between them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Step = Callable[[Iterator[Any]], Iterator[Any]]


class _PipelineStopped(Exception):
    """The line was stopped while a step waited."""


class BoundedQueue(Generic[T]):
    """A queue between two steps that holds so much by weight, or one thing that is heavier."""

    def __init__(self, room: int, weight: Callable[[T], int]) -> None:
        self._room, self._weight = room, weight
        self._held: deque[T] = deque()
        self._load = 0
        self._ended = self._stopped = False
        self._changed = threading.Condition()

    def put(self, thing: T) -> None:
        """Wait for room, and add."""
        size = self._weight(thing)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._held or self._load + size <= self._room)
            if self._stopped:
                raise _PipelineStopped
            self._held.append(thing)
            self._load += size
            self._changed.notify_all()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let whoever waits go, and hold nothing any more."""
        with self._changed:
            self._stopped = True
            self._held.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._held or self._ended)
                if self._stopped:
                    raise _PipelineStopped
                if not self._held:
                    return
                thing = self._held.popleft()
                self._load -= self._weight(thing)
                self._changed.notify_all()
            yield thing


def run_pipeline(
    source: Iterable[Any], steps: Sequence[Step], *, room: int, weight: Callable[[Any], int]
) -> Generator[Any, None, None]:
    """Yield what the last step makes of what the first is given; order stays.

    The first error of any step ends the line and is raised here; closing the iterator ends it too, and waits for all.
    """
    belts: list[BoundedQueue[Any]] = [BoundedQueue(room, weight) for _ in range(len(steps) + 1)]
    errors: list[BaseException] = []

    def work(made: Callable[[], Iterator[Any]], out: BoundedQueue[Any]) -> None:
        try:
            for thing in made():
                out.put(thing)
            out.end()
        except _PipelineStopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever reads the line
            errors.append(error)
            for belt in belts:
                belt.stop()

    made: list[Callable[[], Iterator[Any]]] = [lambda: iter(source)]
    made += [_bound(step, belt) for step, belt in zip(steps, belts, strict=False)]
    threads = [
        threading.Thread(target=work, args=(each, belt), name="nearfield-line", daemon=True)
        for each, belt in zip(made, belts, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from belts[-1]
    except _PipelineStopped:
        pass
    finally:
        for belt in belts:
            belt.stop()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _bound(step: Step, belt: BoundedQueue[Any]) -> Callable[[], Iterator[Any]]:
    return lambda: step(iter(belt))
