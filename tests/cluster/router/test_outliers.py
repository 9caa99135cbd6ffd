"""Ejection of back-ends that fail requests: when, for how long, and how they return."""

from __future__ import annotations

import pytest

from nearfield.cluster.router.backends.outliers import OutlierDetector


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """A clock that a test sets."""
    return _Clock()


def _eject(detector: OutlierDetector) -> None:
    for _ in range(5):
        detector.record_failure()
    assert detector.ejected


def test_five_failures_in_a_row_eject(clock: _Clock) -> None:
    detector = OutlierDetector(clock)
    assert [detector.record_failure() for _ in range(5)] == [False] * 4 + [True]
    assert detector.ejected and detector.ejected_seconds == 5
    clock.now += 5
    assert not detector.ejected


def test_a_success_between_failures_starts_the_row_again(clock: _Clock) -> None:
    detector = OutlierDetector(clock)
    for _ in range(2):
        assert not any(detector.record_failure() for _ in range(2))
        for _ in range(4):
            detector.record_success()
        clock.now += 11
    assert not detector.ejected


def test_a_share_of_failures_ejects_within_the_window(clock: _Clock) -> None:
    detector = OutlierDetector(clock)
    for _ in range(20):
        detector.record_success()
        detector.record_failure()
    assert detector.ejections == 1
    rare = OutlierDetector(clock)
    for _ in range(20):
        for _ in range(9):
            rare.record_success()
        rare.record_failure()
    assert rare.ejections == 0


def test_ejections_grow_up_to_a_limit_and_are_forgiven(clock: _Clock) -> None:
    detector, seconds = OutlierDetector(clock), []
    for _ in range(9):
        _eject(detector)
        seconds.append(detector.ejected_seconds)
        clock.now += detector.ejected_seconds + 1
    assert seconds == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300, 300])
    clock.now += 121
    _eject(detector)
    assert detector.ejected_seconds == pytest.approx(5)


def test_a_server_that_returns_takes_its_turns_slowly(clock: _Clock) -> None:
    detector = OutlierDetector(clock)
    assert detector.share == 1
    detector.start_slowly()
    shares = []
    for _ in range(4):
        shares.append(round(detector.share, 2))
        clock.now += 4
    assert shares == [0.1, 0.46, 0.82, 1.0]
    _eject(detector)
    clock.now += detector.ejected_seconds
    assert detector.share == pytest.approx(0.1)
