"""The measured speed of an engine: recent, and at its fastest."""

from __future__ import annotations

import pytest

from nearfield.engine.admission import Throughput
from nearfield.engine.job import Batch, Ticket
from tests.engine.test_engine import FakeRunner


def _record(throughput: Throughput, runner: FakeRunner, tokens: int, seconds: float) -> None:
    throughput.record(Batch(runner, Ticket.from_ids(runner, [[1] * tokens]).jobs), seconds, 2)


def test_other_load_lowers_the_recent_speed_only() -> None:
    throughput, runner = Throughput(), FakeRunner(batch_tokens=100)
    _record(throughput, runner, 100, 0.1)
    for _ in range(60):
        _record(throughput, runner, 100, 10.0)
    assert throughput.tokens_per_second < 24
    assert throughput.peak_tokens_per_second == pytest.approx(2000)


def test_small_batches_do_not_show_how_fast_an_engine_can_be() -> None:
    throughput, runner = Throughput(), FakeRunner(batch_tokens=1000)
    _record(throughput, runner, 40, 1.0)
    assert throughput.tokens_per_second > 0
    assert throughput.peak_tokens_per_second == 0
