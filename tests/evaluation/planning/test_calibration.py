"""Calibration: the costs of a token are solved from timed runs of small random models, and attention is never lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield import hardware
from nearfield.errors import InputError, MachineBusy
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.performance import load_test
from nearfield.evaluation.planning.speed import calibration_runs, core_share
from nearfield.evaluation.planning.speed.calibration import Calibration, WidthTiming, calibrate
from nearfield.evaluation.planning.speed.calibration_runs import (
    RunPlan,
    TableMeasurement,
    TimedRun,
    WidthMeasurement,
    time_runs,
)
from nearfield.evaluation.planning.speed.core_share import Clock, cores_of, require_idle_cores, require_share
from nearfield.evaluation.planning.speed.model_shapes import ModelShape
from nearfield.evaluation.planning.speed.token_costs import RunKey, RunTime, solve_costs
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.support.cli_runner import run

SHAPE = ModelShape("", 384, inner=1536)
MEASURED = Calibration(
    (WidthTiming(384, 1e-5, 1.2e-11, 6e-11), WidthTiming(1024, 2e-5, 1e-11, 5e-11)),
    4e-6,
    8.0,
    100 * 2**20,
    "float32",
    20.0,
    0.9,
)
FIXED, WEIGHT, MEETING = 7e-6, 1.3e-11, 4e-11


def _cost(layers: int, tokens: float) -> float:
    return FIXED + layers * (SHAPE.layer_weights * WEIGHT + tokens * 384 * MEETING)


def _times(*more: RunKey) -> dict[RunKey, RunTime]:
    keys = ((1, 32), (3, 32), (1, 2048), *more)
    return {(layers, tokens): RunTime(_cost(layers, tokens), float(tokens)) for layers, tokens in keys}


# -- the model of the costs -----------------------------------------------------------------------------------------


def test_the_costs_are_solved_exactly() -> None:
    costs = solve_costs(SHAPE, _times())
    assert costs.fixed == pytest.approx(FIXED)
    assert costs.weight == pytest.approx(WEIGHT)
    assert costs.meeting == pytest.approx(MEETING)
    calibration = Calibration((costs,), 0.0, 4.0, 0, "float32", 0.0)
    assert calibration.seconds_per_token(ModelShape("", 384, 12, 1536), 100) == pytest.approx(_cost(12, 100))


def test_attention_grows_as_the_runs_grow() -> None:
    times = _times((1, 512), (1, 8192))
    short, longest = times[1, 32].seconds, times[1, 8192]
    times[1, 8192] = RunTime(short + 1.5 * (longest.seconds - short), longest.tokens)
    costs = solve_costs(SHAPE, times)
    assert [tokens for tokens, _ in costs.growth] == [512, 2048, 8192]
    assert [factor for _, factor in costs.growth] == pytest.approx([1.0, 1.0, 1.5])
    calibration = Calibration((costs,), 0.0, 4.0, 0, "float32", 0.0)
    for tokens, time_of_run in ((512, times[1, 512]), (2048, times[1, 2048]), (8192, times[1, 8192])):
        estimate = calibration.seconds_per_token(ModelShape("", 384, 1, 1536), tokens)
        assert estimate == pytest.approx(time_of_run.seconds, rel=0.01)


@given(noise=st.lists(st.floats(0.3, 3.0), min_size=5, max_size=5))
def test_no_noise_loses_attention(noise: list[float]) -> None:
    """At least a multiply-add for each pair and unit of width remains, whatever the times of the runs."""
    times = {
        key: RunTime(run.seconds * factor, run.tokens)
        for (key, run), factor in zip(_times((1, 512), (1, 8192)).items(), noise, strict=True)
    }
    costs = solve_costs(SHAPE, times)
    calibration = Calibration((costs,), 0.0, 4.0, 0, "float32", 0.0)
    pair = 12 * 384 * costs.weight
    lengths = (16, 512, 2048, 8192)
    seconds = [calibration.seconds_per_token(ModelShape("", 384, 12, 1536), tokens) for tokens in lengths]
    assert costs.weight > 0 and costs.fixed >= 0 and all(factor > 0 for _, factor in costs.growth)
    assert seconds == sorted(seconds)
    for at in (2, 3):
        assert seconds[at] - seconds[at - 1] >= (lengths[at] - lengths[at - 1]) * pair * 0.99


def test_long_texts_that_seem_as_fast_as_short_ones_cost_more() -> None:
    times = _times() | {(1, 2048): RunTime(_cost(1, 32), 2048.0)}
    calibration = Calibration((solve_costs(SHAPE, times),), 0.0, 4.0, 0, "float32", 0.0)
    deep = ModelShape("", 384, 12, 1536)
    assert calibration.tokens_per_second(deep, 16) > 2 * calibration.tokens_per_second(deep, 8192)


def test_between_widths_costs_lie_between() -> None:
    inner, outer = (MEASURED._at(width, 100)[1] for width in (384, 1024))
    assert outer < MEASURED._at(600, 100)[1] < inner
    assert MEASURED._at(4096, 100) == MEASURED._at(1024, 100) and MEASURED._at(64, 100) == MEASURED._at(384, 100)


def test_between_lengths_attention_lies_between() -> None:
    width = WidthTiming(384, 0.0, 1e-11, 2e-11, ((512, 0.5), (8192, 1.5)))
    costs = [width.meeting_at(tokens) for tokens in (0, 16, 512, 2048, 8192, 100_000)]
    assert costs == pytest.approx([1e-11, 1e-11, 1e-11, 2e-11, 3e-11, 3e-11])
    wider = WidthTiming(768, 0.0, 1e-11, 2e-11)
    calibration = Calibration((width, wider), 0.0, 4.0, 0, "float32", 0.0)
    assert calibration._at(512, 8192)[2] == pytest.approx(3e-11 + (2e-11 - 3e-11) * np.log2(512 / 384))


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(5, "just now"), (60, "1 minute ago"), (7300, "2 hours ago"), (86_400 * 3, "3 days ago"), (-50, "just now")],
)
def test_an_age_is_in_words(seconds: float, age: str) -> None:
    assert Calibration((), 0, 0, 0, "", 0, measured_at=time.time() - seconds).age == age
    assert MEASURED.age == "at an unknown time" and MEASURED.age_seconds is None


# -- timed runs -----------------------------------------------------------------------------------------------------


class ScriptedRun(TimedRun):
    """A run whose passes take the seconds of a list, the last of them again and again."""

    def __init__(self, seconds: list[float]) -> None:
        with tiny_encoder() as encoder:
            super().__init__(encoder, ["text"])
        self.script = seconds
        self.passes = 0

    def _encode(self, clock: Clock) -> float:
        self.wall = self.script[min(self.passes, len(self.script) - 1)]
        self.passes += 1
        self.spent += self.wall
        self.tokens = 10 * len(self.texts)
        return self.wall / 10


def _plan(rounds: int = 4, deadline: float = 1e9) -> RunPlan:
    return RunPlan(Clock(1), rounds, deadline)


def test_the_fastest_run_counts_and_the_first_does_not() -> None:
    run = ScriptedRun([0.06, 0.3, 0.1, 0.2, 0.4])
    times = time_runs({(1, 32): run}, _plan())
    assert times[1, 32] == RunTime(0.01, 10.0) and run.passes == 5


def test_a_slow_first_run_counts() -> None:
    run = ScriptedRun([4.0])
    assert time_runs({(1, 32): run}, _plan())[1, 32].seconds == 0.4
    assert run.passes == 1


def test_after_the_deadline_each_run_still_has_a_time() -> None:
    runs: dict[RunKey, TimedRun] = {(1, 32): ScriptedRun([0.1]), (3, 32): ScriptedRun([0.1])}
    assert {*time_runs(runs, _plan(deadline=0.0))} == {*runs}
    assert all(len(run.seconds) == 1 for run in runs.values())


def test_a_run_that_is_too_short_to_measure_gets_more_texts() -> None:
    run = ScriptedRun([0.06, 0.001, 0.02, 0.2])
    times = time_runs({(1, 32): run}, _plan(rounds=2))
    assert len(run.texts) == 8 * 3 and run.seconds == [0.02, 0.02]
    assert times[1, 32].tokens == 10.0


def test_texts_grow_no_further_than_a_limit() -> None:
    run = ScriptedRun([1e-6])
    time_runs({(1, 32): run}, _plan(rounds=1))
    assert calibration_runs._MAX_TOKENS <= run.tokens <= 8 * calibration_runs._MAX_TOKENS


@pytest.mark.slow
def test_a_calibration_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MIN_LANE_TOKENS", "_RUN_TOKENS"):
        monkeypatch.setattr(calibration_runs, name, 256)
    monkeypatch.setattr(calibration_runs, "_MIN_SECONDS", 1e-4)
    stages: list[str] = []
    monkeypatch.setattr(core_share, "MIN_SHARE", 0.0)  # the machine that runs the tests may be busy
    calibration = calibrate(widths=(64,), rounds=1, on_stage=stages.append, precision="float32")
    assert stages == ["a table of vectors (step 1 of 2)", "width 64 (step 2 of 2)"]
    (width,) = calibration.widths
    assert width.weight > 0 and width.meeting > 0 and calibration.table > 0 and calibration.precision == "float32"
    assert calibration.bytes_per_parameter >= 2 and calibration.age == "just now"
    assert calibration.share is not None and calibration.share > 0
    assert [round(tokens, -2) for tokens, _ in width.growth] == [500, 2000, 8000]
    deep, wide = ModelShape("", 64, 12, 256), ModelShape("", 64, 12, 512)
    assert calibration.tokens_per_second(deep, 64) > calibration.tokens_per_second(wide, 64)
    assert all(seconds > 0 for _, seconds in width.growth)


@pytest.mark.parametrize("widths", [(100,), (384, 0), ()])
def test_widths_that_cannot_be_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="multiples of 32"):
        calibrate(widths=widths)


# -- CPU time and busy machines -------------------------------------------------------------------------------------


def test_another_device_is_timed_by_wall_clock() -> None:
    assert Clock.for_options({"backend": "torch"}).share is None
    clock = Clock.for_options({"threads": 1})
    with clock.timing() as passed:
        sum(range(200_000))
    assert passed[0] > 0 and clock.share is not None and clock.share > 0


def test_a_share_is_that_of_the_quota_and_not_of_the_cores_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with 1.5 of 64 cores runs two threads at three quarters of their speed: it is not busy."""
    monkeypatch.setattr(hardware, "core_allowance", lambda: 1.5)
    assert cores_of({}) == 1.5 and cores_of({"threads": 1}) == 1.0 and cores_of({"threads": 64}) == 1.5
    passed = iter([0.0, 0.0, 2.0])
    worked = iter([0.0, 3.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(passed))
    monkeypatch.setattr(time, "process_time", lambda: next(worked))
    clock = Clock.for_options({})
    with clock.timing() as seconds:
        pass
    assert seconds == [2.0] and clock.share == 1.0


def test_an_idle_core_is_hashed_on() -> None:
    assert 0 < core_share.core_share(1.0, 0.02) <= 1.0


def _shares(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[float]:
    waiting = list(shares)
    monkeypatch.setattr(core_share, "core_share", lambda _: waiting.pop(0))
    return waiting


def test_a_moment_of_other_work_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = _shares(monkeypatch, 0.1, 0.2, 0.7, 0.9)
    require_idle_cores(2.0)
    assert waiting == [0.9]


def test_a_busy_machine_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    _shares(monkeypatch, 0.1, 0.31, 0.2, 0.3)
    monkeypatch.setattr(os, "getloadavg", lambda: (97.25, 0, 0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    with pytest.raises(MachineBusy, match=r"31% of its 2 cores, and needs 50% .*97.2 on 64 CPUs\). Wait until"):
        require_idle_cores(2.0)


def test_load_alone_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the load is that of the whole host."""
    monkeypatch.setattr(os, "getloadavg", lambda: (500.0, 500.0, 500.0), raising=False)
    _shares(monkeypatch, 0.95)
    require_idle_cores(1.5)
    require_share(0.95, 1.5)
    require_share(None, 1.5)


@pytest.mark.parametrize("share", [0.79, 0.8])
def test_measurements_by_wall_clock_warn_of_other_work(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(hardware, "core_allowance", lambda: 2.0)
    _shares(monkeypatch, share)
    warning = core_share.busy_warning({})
    assert (warning is not None) == (share < 0.8)
    assert warning is None or warning.startswith("Other work leaves this process 79% of its 2 cores")


@pytest.mark.parametrize("command", [("size", "1k", "--dims", 32, "--tokens", 8, "--measure"), ("speed",)])
@pytest.mark.slow
def test_commands_warn_of_other_work(
    command: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    monkeypatch.setattr(load_test, "measure_bulk", partial(_bulk, load_test.measure_bulk))
    for share, warned in ((0.5, True), (1.0, False)):
        _shares(monkeypatch, share)
        name = ("--model", model) if command[0] == "size" else (model, "--seconds", 0.05, "--clients", 1)
        result = run(capsys, monkeypatch, *command, *name, "--json")
        assert result.code == 0 and ("Other work leaves this process 50%" in result.err) == warned


def _bulk(measure: Callable[..., JsonDict], encode: object, texts: list[str], seconds: float) -> JsonDict:
    return measure(encode, texts[:16], min(seconds, 0.05))


def test_a_fraction_of_a_core_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)
    with pytest.raises(MachineBusy, match=r"20% of its 1.5 cores, and needs 50%\. Wait"):
        require_share(0.2, 1.5)


def test_work_that_begins_during_a_calibration_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(core_share, "core_share", lambda _: 1.0)
    monkeypatch.setattr(Clock, "share", property(lambda _: 0.2))
    measured: list[int] = []
    _replace_runs(monkeypatch, measured)
    with pytest.raises(MachineBusy, match="20%"):
        calibrate(widths=(384, 768, 1024))
    assert measured == [384]


def test_a_slow_machine_is_measured_at_two_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix of 1,024 is multiplied there about as fast as one of 768."""
    monkeypatch.setattr(core_share, "MIN_SHARE", 0.0)
    measured: list[int] = []
    _replace_runs(monkeypatch, measured)
    for seconds, expected in ((1000.0, [384, 768, 1024]), (0.0, [384, 768])):
        measured.clear()
        calibration = calibrate(seconds=seconds, threads=1)
        assert measured == expected == [width.hidden for width in calibration.widths]
        assert all([tokens for tokens, _ in width.growth] == [2048, 8192] for width in calibration.widths)
        assert calibration.bytes_per_parameter == expected[-1] / 100


def _replace_runs(monkeypatch: pytest.MonkeyPatch, measured: list[int]) -> None:
    def measure(home: Path, hidden: int, *_: object, growth: bool, forced: bool) -> WidthMeasurement:
        measured.append(hidden)
        return WidthMeasurement(
            replace(SHAPE, hidden=hidden), _times(*([(1, 8192)] if growth and forced else [])), hidden / 100
        )

    monkeypatch.setattr("nearfield.evaluation.planning.speed.calibration.measure_width", measure)
    monkeypatch.setattr(
        "nearfield.evaluation.planning.speed.calibration.measure_table", lambda *_: TableMeasurement(1e-6, "bf16", 0)
    )
