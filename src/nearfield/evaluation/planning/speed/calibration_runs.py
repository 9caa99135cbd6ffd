"""Runs of small random models: each is repeated in turn with the others, and its fastest time counts.

Other work can only slow a run down (it takes caches and memory bandwidth), so the minimum is the best estimate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nearfield import hardware
from nearfield.encoder import Encoder
from nearfield.evaluation.json_types import Keywords
from nearfield.evaluation.performance import workloads
from nearfield.evaluation.planning.speed.core_share import Clock
from nearfield.evaluation.planning.speed.model_shapes import ModelShape
from nearfield.evaluation.planning.speed.token_costs import (
    DEEP,
    LONG,
    LONGEST,
    MEDIUM,
    RUNS,
    SHALLOW,
    RunKey,
    RunTime,
)
from nearfield.testing import write_tiny_model

#: Tokens of a run at a width of 384, and the minimum for each batch that is computed at once.
_RUN_TOKENS, _MIN_LANE_TOKENS = 3072, 1024
#: A run of a fast device gets more texts until it takes so many seconds or has so many tokens: otherwise the start of
#: its kernels would be measured.
_MIN_SECONDS, _MAX_TOKENS = 0.05, 2**18
#: A first run above these seconds counts: compiling kernels is then a small part of it.
_SLOW_SECONDS = 0.5
#: A run is repeated no more once it took so many seconds in all.
_MAX_SECONDS = 2.5
#: Above the smallest width, the longest texts are left out where one run of them would take more seconds.
_MAX_LONGEST_SECONDS = 5.0
#: The cost of their tokens relative to those of texts of 2,048 tokens, by the growth of attention.
_LONGEST_COST = 3
_TABLE_TOKENS, _TABLE_WIDTH = 256, 256
#: Widths from which on heads are 64 wide, as in most models; those of smaller ones are 32 wide.
_WIDE = 512


@dataclass(frozen=True)
class RunPlan:
    """How runs are timed: at least once, and up to ``rounds`` times before ``deadline`` (seconds on the clock)."""

    clock: Clock
    rounds: int
    deadline: float
    options: Keywords = field(default_factory=dict)

    @property
    def lanes(self) -> int:
        """The number of batches that the options let a model compute at once."""
        return hardware.plan_cpu(self.options.get("threads"), self.options.get("streams")).streams


@dataclass
class TimedRun:
    """A model and texts, which it encodes several times."""

    encoder: Encoder
    texts: list[str]
    #: Seconds per token of each run that counts.
    seconds: list[float] = field(default_factory=list)
    #: Wall time of the last run, and of all.
    wall: float = 0.0
    spent: float = 0.0
    #: Tokens of a run.
    tokens: int = 0

    def warm_up(self, clock: Clock) -> None:
        """Run once, which compiles the kernels."""
        seconds = self._encode(clock)
        if self.wall > _SLOW_SECONDS:
            self.seconds.append(seconds)

    def repeat(self, clock: Clock) -> None:
        """Run and record the time; if it was too short to measure, take more texts instead."""
        seconds = self._encode(clock)
        if not self.seconds and self.wall < _MIN_SECONDS and self.tokens < _MAX_TOKENS:
            self.texts = workloads.more_texts(self.texts, min(8, math.ceil(_MIN_SECONDS / self.wall)))
        else:
            self.seconds.append(seconds)

    def is_pending(self, plan: RunPlan) -> bool:
        """Return whether it must run again."""
        in_time = plan.clock.elapsed < plan.deadline and self.spent < _MAX_SECONDS
        return not self.seconds or (in_time and len(self.seconds) < plan.rounds)

    @property
    def result(self) -> RunTime:
        """The fastest run."""
        return RunTime(min(self.seconds), self.tokens / len(self.texts))

    def _encode(self, clock: Clock) -> float:
        started = time.perf_counter()
        with clock.timing() as passed:
            self.tokens = int(self.encoder.encode(self.texts, show_progress_bar=False).tokens.sum())
        self.wall = time.perf_counter() - started
        self.spent += self.wall
        return passed[0] / self.tokens


@dataclass(frozen=True)
class WidthMeasurement:
    """The times of a width's runs, and the bytes that a loaded model takes per parameter."""

    shape: ModelShape
    times: dict[RunKey, RunTime]
    parameter_bytes: float


@dataclass(frozen=True)
class TableMeasurement:
    """Seconds per token of a static model, the precision of other models, and the bytes that any model takes."""

    seconds: float
    precision: str
    base_bytes: int


def measure_width(
    home: Path, hidden: int, vocabulary: Sequence[str], plan: RunPlan, *, growth: bool, forced: bool = False
) -> WidthMeasurement:
    """Write models of a width below ``home`` and time them.

    With ``growth``, they also run on medium texts, and on the longest if that is quick or ``forced``.
    """
    shape = ModelShape("random", hidden, inner=4 * hidden, vocabulary=len(vocabulary))
    length = LONGEST if growth else LONG
    folders = {layers: _write_model(home, hidden, layers, vocabulary, length) for layers in (SHALLOW, DEEP)}
    with ExitStack() as stack:
        encoders = {layers: stack.enter_context(_load(folder, plan.options)) for layers, folder in folders.items()}
        keys = (*RUNS, (SHALLOW, MEDIUM)) if growth else RUNS
        runs = {key: create_run(encoders[key[0]], key[1], hidden, plan) for key in keys}
        times = time_runs(runs, plan)
        if growth and (forced or _longest_seconds(times[SHALLOW, LONG], plan) < _MAX_LONGEST_SECONDS):
            key = (SHALLOW, LONGEST)
            times |= time_runs({key: create_run(encoders[SHALLOW], LONGEST, hidden, plan)}, plan)
        return WidthMeasurement(shape, times, _parameter_bytes(shape, encoders[SHALLOW], encoders[DEEP]))


def create_run(encoder: Encoder, tokens: int, hidden: int, plan: RunPlan) -> TimedRun:
    """Return a run on texts of ``tokens`` tokens, enough to keep all lanes busy."""
    total = max(_MIN_LANE_TOKENS * plan.lanes, _RUN_TOKENS * 384 // hidden)
    count = max(plan.lanes, total // tokens)
    return TimedRun(encoder, workloads.texts_of_tokens(encoder.tokenizer, tokens, count))


def time_runs(runs: dict[RunKey, TimedRun], plan: RunPlan) -> dict[RunKey, RunTime]:
    """Repeat runs in turn; return the fastest time of each."""
    for run in runs.values():
        run.warm_up(plan.clock)
    while pending := [run for run in runs.values() if run.is_pending(plan)]:
        for run in pending:
            run.repeat(plan.clock)
    return {key: run.result for key, run in runs.items()}


def measure_table(home: Path, hidden: int, vocabulary: Sequence[str], plan: RunPlan) -> TableMeasurement:
    """Time a static model (a table of vectors, in model2vec's layout), written with a model below ``home``."""
    source = _write_model(home, hidden, SHALLOW, vocabulary)
    with _load(source, plan.options) as model:
        rows, precision = model.tokenizer.vocab_size, model.precision
    with _load(_write_table(home / "static", source, rows), plan.options) as encoder:
        tokens = 4 * _RUN_TOKENS
        run = TimedRun(encoder, workloads.texts_of_tokens(encoder.tokenizer, _TABLE_TOKENS, tokens // _TABLE_TOKENS))
        (result,) = time_runs({(0, _TABLE_TOKENS): run}, plan).values()
        hardware.return_memory()
        return TableMeasurement(result.seconds, precision, hardware.memory_used() or 0)


def _write_table(folder: Path, source: Path, rows: int) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (folder / "config.json").write_text('{"model_type": "model2vec", "normalize": true}', encoding="utf-8")
    vectors = np.random.default_rng(0).standard_normal((rows, _TABLE_WIDTH), np.float32)
    save_file({"embeddings": vectors}, folder / "model.safetensors")
    return folder


def _write_model(home: Path, hidden: int, layers: int, vocabulary: Sequence[str], length: int = LONG) -> Path:
    head = 64 if hidden >= _WIDE and hidden % 64 == 0 else 32
    return write_tiny_model(
        home / f"{hidden}x{layers}",
        size=hidden,
        layers=layers,
        heads=hidden // head,
        inner=4 * hidden,
        length=length,
        spread=0.02,
        words=vocabulary,
    )


def _load(folder: Path, options: Keywords) -> Encoder:
    hardware.return_memory()  # memory that is free in the process would not count as the model's
    return Encoder(str(folder), compile_cache=False, **options)


def _longest_seconds(long: RunTime, plan: RunPlan) -> float:
    """Return the seconds that a run of the longest texts takes on an idle machine, by the time of long ones."""
    return long.seconds * plan.lanes * LONGEST * _LONGEST_COST


def _parameter_bytes(shape: ModelShape, shallow: Encoder, deep: Encoder) -> float:
    """Return the bytes per parameter by the memory of two depths, at least 2; 4 where the memory is unknown."""
    if not (shallow.bytes and deep.bytes):
        return 4.0
    return max((deep.bytes - shallow.bytes) / ((DEEP - SHALLOW) * shape.layer_weights), 2.0)
