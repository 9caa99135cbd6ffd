"""Calibration: measure small random models on this machine to estimate the speed of larger ones.

The time of a token is modelled as

    fixed + layers x (weights of a layer x r + tokens of its text x width of the heads x a) + weights of the head x r

A token is multiplied with each weight once; attention compares it with each token of its text (the two products of
2 x width FLOPs each are one unit here). ``fixed`` (tokenising, embedding, pooling), r and a are solved from three runs
at each of a few widths: one and three layers on short texts, three layers on long texts. Between the widths they are
interpolated by the logarithm of the width; outside, the nearest width is used.

On the CPU, time is the CPU seconds of the process divided by its cores. The estimate is thus that of an idle machine,
even if the machine was busy; ``Calibration.share`` says how busy. Other devices are timed by wall time.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import hardware
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonMapping, Keywords
from nearfield.evaluation.performance import workloads
from nearfield.evaluation.planning.speed.model_shapes import ModelShape
from nearfield.testing import write_tiny_model

WIDTHS = (384, 768, 1024)
#: Layers of the shallow and of the deep model; tokens of short and of long texts.
_SHALLOW, _DEEP = 1, 3
_SHORT, _LONG = 32, 256
#: Layers and tokens of each run.
_RUNS = ((_SHALLOW, _SHORT), (_DEEP, _SHORT), (_DEEP, _LONG))
#: Tokens of a run at the first width, and their minimum: at least as many batches as lanes.
_RUN_TOKENS, _MIN_RUN_TOKENS = 3072, 2048
_LENGTH = 512
_STATIC = "static"


@dataclass(frozen=True)
class WidthTiming:
    """Seconds at a width: ``fixed`` per token, ``weight`` per token and weight, ``meeting`` per pair of tokens and
    unit of the heads' width."""

    hidden: int
    fixed: float
    weight: float
    meeting: float


@dataclass(frozen=True)
class Calibration:
    """The measurements. ``table`` is the seconds per token of a static model (a table of vectors).

    ``share`` is the part of its cores that the process had during the run; None with wall time. A loaded model takes
    ``base_bytes`` and ``bytes_per_parameter`` for each parameter.
    """

    widths: tuple[WidthTiming, ...]
    table: float
    bytes_per_parameter: float
    base_bytes: int
    precision: str
    seconds: float
    share: float | None = None

    def seconds_per_token(self, shape: ModelShape, tokens: float) -> float:
        """Return the seconds per token in bulk, on texts of ``tokens`` tokens."""
        if not shape.layers:
            return self.table
        fixed, weight, meeting = self._at(shape.hidden)
        layer = shape.layer_weights * weight + tokens * shape.heads_width * meeting
        return fixed + shape.layers * layer + shape.head_weights * weight

    def tokens_per_second(self, shape: ModelShape, tokens: float) -> float:
        """Return the bulk speed on texts of ``tokens`` tokens."""
        return 1.0 / self.seconds_per_token(shape, tokens)

    def model_bytes(self, parameters: int) -> int:
        """Return the memory of a process with this model, without texts in progress."""
        return round(self.base_bytes + parameters * self.bytes_per_parameter)

    def _at(self, hidden: int) -> tuple[float, float, float]:
        at = np.log([width.hidden for width in self.widths])
        columns = ([getattr(width, name) for width in self.widths] for name in ("fixed", "weight", "meeting"))
        fixed, weight, meeting = (float(np.interp(np.log(hidden), at, values)) for values in columns)
        return fixed, weight, meeting


def calibrate(
    *,
    widths: Sequence[int] = WIDTHS,
    rounds: int = 3,
    on_stage: Callable[[str], None] | None = None,
    **options: Any,
) -> Calibration:
    """Measure this machine with random models in a temporary folder; takes half a minute on two idle cores.

    ``options`` are those of ``Encoder``: backend, device, precision, threads. Runs alternate; the result is the median.

    Raises:
        InputError: no width, or one that is no multiple of 32 (the width of a head).
    """
    wrong = next((width for width in widths if width < 32 or width % 32), None)
    if wrong is not None or not widths:
        raise InputError(f"Widths are multiples of 32, not {wrong}.", param="widths")
    clock, stage = Clock.for_options(options), on_stage or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="nearfield-calibration-") as folder:
        home = Path(folder)
        vocabulary = frozenset(re.findall(r"\w+", " ".join(workloads.words()).lower()))
        timings, sizes = [], []
        for hidden in sorted(widths):
            stage(f"width {hidden}")
            width, size = _measure_width(home, hidden, sorted(vocabulary), rounds, options, clock)
            timings.append(width)
            sizes.append(size)
        stage("a table of vectors")
        table, precision, base = _measure_table(home, min(widths), rounds, options, clock)
    size, passed = statistics.median(sizes), time.perf_counter() - clock.started
    return Calibration(tuple(timings), table, size, base, precision, passed, clock.share)


class Clock:
    """Measures CPU seconds divided by cores, or wall time if another device does the work."""

    def __init__(self, cores: int | None) -> None:
        self.started = time.perf_counter()
        self._cores = cores
        self._worked = self._passed = 0.0

    @classmethod
    def for_options(cls, options: JsonMapping) -> Clock:
        """Return the clock for options of ``Encoder``."""
        if options.get("backend", "openvino") == "torch":
            return cls(None)
        return cls(options.get("threads") or hardware.usable_cores())

    @contextmanager
    def timing(self) -> Iterator[list[float]]:
        """Time a block; afterwards the list has its seconds."""
        seconds: list[float] = []
        started, worked = time.perf_counter(), time.process_time()
        yield seconds
        passed, spent = time.perf_counter() - started, time.process_time() - worked
        self._passed += passed
        self._worked += spent
        seconds.append(spent / self._cores if self._cores else passed)

    @property
    def share(self) -> float | None:
        """The share of its cores that the process had; None with wall time."""
        return self._worked / (self._passed * self._cores) if self._cores and self._passed else None


def _measure_width(
    home: Path, hidden: int, known: Sequence[str], rounds: int, options: Keywords, clock: Clock
) -> tuple[WidthTiming, float]:
    """Measure one width; return its timing and the bytes per parameter."""
    shape = ModelShape("random", hidden, inner=4 * hidden, vocabulary=len(known))
    with ExitStack() as stack:
        encoders = {}
        for layers in (_SHALLOW, _DEEP):
            folder = write_tiny_model(
                home / f"{hidden}x{layers}",
                size=hidden,
                layers=layers,
                heads=hidden // 32,
                inner=4 * hidden,
                length=_LENGTH,
                spread=0.02,
                words=known,
            )
            encoders[layers] = stack.enter_context(Encoder(str(folder), compile_cache=False, **options))
        tokens = max(_MIN_RUN_TOKENS, _RUN_TOKENS * WIDTHS[0] // hidden)
        runs = {key: encoders[key[0]] for key in _RUNS}
        times = _time_runs(runs, rounds, tokens, clock)
        deep, shallow = encoders[_DEEP].bytes, encoders[_SHALLOW].bytes
    added = (_DEEP - _SHALLOW) * shape.layer_weights
    parameter_bytes = (deep - shallow) / added if deep and shallow else 4.0
    return _solve(shape, times), max(parameter_bytes, 2.0)


def _solve(shape: ModelShape, times: dict[tuple[int, int], tuple[float, float]]) -> WidthTiming:
    """Solve for the three costs from the seconds per token and tokens per text of the three runs."""
    (one, short), (three, _), (longer, long) = (times[key] for key in _RUNS)
    # Longer texts cost more per token only through attention; noise can make the difference negative.
    meeting = max(0.0, (longer - three) / (_DEEP * (long - short) * shape.hidden))
    layer = max((three - one) / (_DEEP - _SHALLOW), 0.05 * three)
    weight = max(layer - short * shape.hidden * meeting, 0.5 * layer) / shape.layer_weights
    return WidthTiming(shape.hidden, max(0.0, one - _SHALLOW * layer), weight, meeting)


def _time_runs(
    runs: dict[tuple[int, int], Encoder], rounds: int, run_tokens: int, clock: Clock
) -> dict[tuple[int, int], tuple[float, float]]:
    """Return the median seconds per token and the tokens per text of each run; runs alternate."""
    texts = {
        key: workloads.texts_of_tokens(encoder.tokenizer, key[1], max(4, run_tokens // key[1]))
        for key, encoder in runs.items()
    }
    times: dict[tuple[int, int], list[float]] = {key: [] for key in runs}
    lengths: dict[tuple[int, int], float] = {}
    for number in range(rounds + 1):
        for key, encoder in runs.items():
            with clock.timing() as passed:
                tokens = int(encoder.encode(texts[key], show_progress_bar=False).tokens.sum())
            lengths[key] = tokens / len(texts[key])
            if number:  # the first round compiles the kernels
                times[key].append(passed[0] / tokens)
    return {key: (statistics.median(seconds), lengths[key]) for key, seconds in times.items()}


def _measure_table(home: Path, hidden: int, rounds: int, options: Keywords, clock: Clock) -> tuple[float, str, int]:
    """Measure a static model in model2vec's layout; return its seconds per token, precision and base memory."""
    from safetensors.numpy import save_file

    source, folder = home / f"{hidden}x{_SHALLOW}", home / _STATIC
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (folder / "config.json").write_text('{"model_type": "model2vec", "normalize": true}', encoding="utf-8")
    with Encoder(str(source), compile_cache=False, **options) as base:
        rows, precision = base.tokenizer.vocab_size, base.precision
    save_file(
        {"embeddings": np.random.default_rng(0).standard_normal((rows, 256), np.float32)}, folder / "model.safetensors"
    )
    with Encoder(str(folder), compile_cache=False, **options) as encoder:
        ((seconds, _),) = _time_runs({(0, _LONG): encoder}, rounds, 4 * _RUN_TOKENS, clock).values()
        hardware.return_memory()
        return seconds, precision, hardware.memory_used() or 0
