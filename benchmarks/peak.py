"""Peak matrix multiplication speed of this machine, the upper limit for every engine."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from nearfield import hardware
from nearfield.backends.openvino_ops import op, ov


def matrix_peak(*, quick: bool) -> dict[str, float]:
    """Return the best GFLOP/s of a square matrix product by precision, on all usable cores."""
    return {precision: precision_peak(precision, quick=quick) for precision in ("f32", "bf16")}


def precision_peak(precision: str, *, quick: bool) -> float:
    """Return the best GFLOP/s in one precision, f32 or bf16."""
    seconds = 0.3 if quick else 1.5
    return max(_run(precision, size, seconds) for size in (1024, 2048))


def _run(precision: str, size: int, seconds: float) -> float:
    weights = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    x = op.parameter([size, size], ov.Type.f32)
    y: Any = x
    for _ in range(4):  # several products between the conversions at either end
        y = op.matmul(y, op.constant(weights / size), False, True)
    config = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": hardware.usable_cores()}
    request = ov.Core().compile_model(ov.Model([y], [x], "peak"), "CPU", config).create_infer_request()
    request.infer([weights])
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        request.infer()
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return round(best, 1)
