"""Calibration: measure small random models on this machine to estimate the speed of larger ones.

``token_costs`` has the model of the costs. Between the measured widths they are interpolated by the logarithm of the
width; outside, the nearest width is used.

On the CPU, time is the CPU seconds of the process divided by its cores. The estimate is thus that of an idle machine,
even if the machine was busy; ``Calibration.share`` says how busy. Other devices are timed by wall time.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.errors import InputError
from nearfield.evaluation.performance import workloads
from nearfield.evaluation.planning.speed.calibration_runs import (
    RunPlan,
    TableMeasurement,
    WidthMeasurement,
    measure_table,
    measure_width,
)
from nearfield.evaluation.planning.speed.core_share import Clock, cores_of, require_idle_cores, require_share
from nearfield.evaluation.planning.speed.model_shapes import ModelShape
from nearfield.evaluation.planning.speed.token_costs import LONG, WidthTiming, solve_costs
from nearfield.message_text import count_of

__all__ = ["SECONDS", "WIDTHS", "Calibration", "Clock", "WidthTiming", "calibrate"]

WIDTHS = (384, 768, 1024)
#: Seconds that a calibration may take. A machine so slow that each run alone takes longer needs more.
SECONDS = 18.0
#: The share of these for the table of vectors. It is first: its memory is that of any process with a model.
_TABLE_SHARE = 0.1
#: Widths above the middle one are measured if no more than this share has passed. A machine that is slower multiplies
#: matrices equally fast at each of these widths; on accelerators, wider ones are faster.
_WIDER_SHARE = 0.5
#: Names of the largest units of an age, and their seconds.
_AGES = (("day", 86_400), ("hour", 3600), ("minute", 60))


@dataclass(frozen=True)
class Calibration:
    """The measurements. ``table`` is the seconds per token of a static model (a table of vectors).

    ``share`` is the part of its cores that the process had during the run; None with wall time. A loaded model takes
    ``base_bytes`` and ``bytes_per_parameter`` for each parameter. ``measured_at`` is the time of the end of the
    measurement (Unix seconds); None: unknown.
    """

    widths: tuple[WidthTiming, ...]
    table: float
    bytes_per_parameter: float
    base_bytes: int
    precision: str
    seconds: float
    share: float | None = None
    measured_at: float | None = None

    def seconds_per_token(self, shape: ModelShape, tokens: float) -> float:
        """Return the seconds per token in bulk, on texts of ``tokens`` tokens."""
        if not shape.layers:
            return self.table
        fixed, weight, meeting = self._at(shape.hidden, tokens)
        attention = tokens * shape.heads_width * meeting
        return fixed + shape.layers * (shape.layer_weights * weight + attention) + shape.head_weights * weight

    def tokens_per_second(self, shape: ModelShape, tokens: float) -> float:
        """Return the bulk speed on texts of ``tokens`` tokens."""
        return 1.0 / self.seconds_per_token(shape, tokens)

    def model_bytes(self, parameters: int) -> int:
        """Return the memory of a process with this model, without texts in progress."""
        return round(self.base_bytes + parameters * self.bytes_per_parameter)

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the measurement; None: unknown."""
        return None if self.measured_at is None else max(0.0, time.time() - self.measured_at)

    @property
    def age(self) -> str:
        """When it was measured, in words: ``3 days ago``."""
        seconds = self.age_seconds
        if seconds is None:
            return "at an unknown time"
        unit = next(((name, size) for name, size in _AGES if seconds >= size), None)
        return "just now" if unit is None else f"{count_of(int(seconds // unit[1]), unit[0])} ago"

    def _at(self, hidden: int, tokens: float) -> tuple[float, float, float]:
        """Return the costs per token, per weight and per pair of tokens."""
        at = np.log([width.hidden for width in self.widths])
        rows = [(width.fixed, width.weight, width.meeting_at(tokens)) for width in self.widths]
        fixed, weight, meeting = (float(np.interp(np.log(hidden), at, column)) for column in zip(*rows, strict=True))
        return fixed, weight, meeting


def calibrate(
    *,
    widths: Sequence[int] = WIDTHS,
    rounds: int = 4,
    seconds: float = SECONDS,
    on_stage: Callable[[str], None] | None = None,
    **options: Any,
) -> Calibration:
    """Measure this machine with random models in a temporary folder; takes some 15 seconds on two idle cores.

    Runs take turns, and the fastest time of each counts.

    Args:
        widths: widths of the models. On slow machines, those above the middle one are left out.
        rounds: the maximum number of times that each run is repeated.
        seconds: after these, no run is repeated.
        on_stage: called with a description of each step as it begins.
        options: those of ``Encoder``: backend, device, precision, threads.

    Raises:
        InputError: no width, or one that is no multiple of 32 (the width of a head).
        MachineBusy: this process gets less than half of its cores, before or during the measurement.
    """
    _require_widths(widths)
    cores, clock, stage = cores_of(options), Clock.for_options(options), on_stage or (lambda _: None)
    require_idle_cores(cores)
    steps, measurements = len(widths) + 1, []
    with tempfile.TemporaryDirectory(prefix="nearfield-calibration-") as folder:
        stage(f"a table of vectors (step 1 of {steps})")
        home, vocabulary = Path(folder), _vocabulary()
        table = measure_table(home, min(widths), vocabulary, RunPlan(clock, rounds, seconds * _TABLE_SHARE, options))
        for number, hidden in enumerate(sorted(widths), 1):
            if hidden > _middle(widths) and clock.elapsed > seconds * _WIDER_SHARE:
                break
            stage(f"width {hidden} (step {number + 1} of {steps})")
            deadline = seconds * (_TABLE_SHARE + (1 - _TABLE_SHARE) * number / len(widths))
            plan = RunPlan(clock, rounds, deadline, options)
            growth, smallest = hidden <= _middle(widths), hidden == min(widths)
            measurements.append(measure_width(home, hidden, vocabulary, plan, growth=growth, forced=smallest))
            require_share(clock.share, cores)
    return _calibration(measurements, table, clock)


def _require_widths(widths: Sequence[int]) -> None:
    wrong = next((width for width in widths if width < 32 or width % 32), None)
    if wrong is not None or not widths:
        raise InputError(f"Widths are multiples of 32, not {wrong}.", param="widths")


def _vocabulary() -> list[str]:
    return sorted(set(re.findall(r"\w+", " ".join(workloads.words()).lower())))


def _middle(widths: Sequence[int]) -> int:
    """Return the largest width at which the growth of attention is measured; wider models take too long for it."""
    return sorted(widths)[len(widths) // 2]


def _calibration(measurements: Sequence[WidthMeasurement], table: TableMeasurement, clock: Clock) -> Calibration:
    return Calibration(
        tuple(_share_growth([solve_costs(width.shape, width.times) for width in measurements])),
        table.seconds,
        measurements[-1].parameter_bytes,
        table.base_bytes,
        table.precision,
        clock.elapsed,
        clock.share,
        time.time(),
    )


def _share_growth(timings: Sequence[WidthTiming]) -> Iterator[WidthTiming]:
    """Yield timings; a width that had no time for the longest texts gets the growth of the next smaller one."""
    growth = timings[0].growth
    for timing in timings:
        if timing.growth[-1][0] > 2 * LONG:
            growth = timing.growth
        yield replace(timing, growth=growth)
