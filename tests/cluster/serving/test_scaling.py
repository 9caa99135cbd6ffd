"""When engines are started and stopped."""

from __future__ import annotations

from nearfield.cluster.serving.scaling import EngineLoad, ScalingPolicy


def _policy(min_count: int = 1, max_count: int = 4) -> ScalingPolicy:
    return ScalingPolicy(min_count, max_count, queue_seconds=2.0, idle_seconds=60.0)


def test_a_long_queue_starts_as_many_engines_as_shorten_it() -> None:
    policy, load = _policy(), EngineLoad(1, queued=6000, speed=1000.0, busy=1.0)
    assert policy.decide(load, 0.0) == 1
    assert policy.decide(load, 4.9) == 1
    assert policy.decide(load, 5.0) == 3


def test_a_burst_starts_none() -> None:
    policy, load = _policy(), EngineLoad(1, queued=6000, speed=1000.0, busy=1.0)
    policy.decide(load, 0.0)
    policy.decide(EngineLoad(1, 0, 1000.0, 1.0), 3.0)
    assert policy.decide(load, 5.0) == 1


def test_there_are_never_more_or_fewer_than_allowed() -> None:
    policy, load = _policy(2, 3), EngineLoad(2, queued=10**6, speed=10.0)
    policy.decide(load, 0.0)
    assert policy.decide(load, 6.0) == 3
    assert policy.decide(EngineLoad(1, 0), 7.0) == 2


def test_an_idle_engine_ends_after_a_while_one_at_a_time() -> None:
    policy, load = _policy(0), EngineLoad(3, 0, 1000.0)
    assert policy.decide(load, 0.0) == 3
    assert policy.decide(load, 59.0) == 3
    assert policy.decide(load, 60.0) == 2
    assert policy.decide(EngineLoad(2, 0, 1000.0), 61.0) == 2
    assert policy.decide(EngineLoad(2, 0, 1000.0), 121.0) == 1


def test_an_engine_that_computes_does_not_end() -> None:
    policy = _policy(0)
    assert [policy.decide(EngineLoad(1, 0, 1000.0, busy=0.5), now) for now in (0.0, 100.0, 200.0)] == [1, 1, 1]


def test_the_first_token_starts_an_engine_where_there_is_none() -> None:
    policy = _policy(0)
    assert policy.decide(EngineLoad(0, 0), 0.0) == 0
    assert policy.decide(EngineLoad(0, 1), 0.5) == 1


def test_a_dead_engine_is_replaced_at_once() -> None:
    assert _policy(2, 2).decide(EngineLoad(1, 0), 0.0) == 2
