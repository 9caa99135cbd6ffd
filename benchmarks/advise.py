"""Compare the speed that ``nearfield advise`` estimates with the measured speed of whole models.

The models are of random weights, but for all-MiniLM-L6-v2; widths of 384 and 768 are calibrated, 512 lies between.
Texts have up to 8,192 tokens, where attention takes most of the time; each model runs on those that it can read.
Estimate and runs take turns, so that both meet the same machine; each ratio is within a round. Both count CPU seconds
over cores, since other work on the machine would else be taken for the model's; the speed by wall clock is printed
beside it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nearfield.encoder import Encoder
from nearfield.evaluation.performance.load_test import LocalTarget, measure_bulk
from nearfield.evaluation.performance.workloads import texts_of_tokens
from nearfield.evaluation.planning.speed.calibration import Clock, calibrate
from nearfield.evaluation.planning.speed.model_shapes import ModelShape
from nearfield.hardware import plan_cpu
from nearfield.testing import write_tiny_model

#: The share by which an estimate may miss.
BOUND = 0.30
#: Tokens of a text.
LENGTHS = (16, 128, 240, 512, 2048, 8192)
#: The longest texts of the random models.
_LONGEST = 8192


def _bert(size: int, layers: int) -> Callable[[Path], str]:
    def write(home: Path) -> str:
        heads = size // (32 if size < 512 else 64)
        options: dict[str, Any] = {"heads": heads, "inner": 4 * size, "length": _LONGEST, "spread": 0.02}
        return str(write_tiny_model(home / f"{size}x{layers}", size=size, layers=layers, **options))

    return write


def _modernbert(home: Path) -> str:
    from tests.support import tiny_models

    options = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 1152, "num_hidden_layers": 22}
    kinds = ["full_attention" if layer % 3 == 0 else "sliding_attention" for layer in range(22)]
    more = {
        "max_position_embeddings": _LONGEST,
        "initializer_range": 0.02,
        "layer_types": kinds,
        "local_attention": 128,
    }
    return str(tiny_models.TINY["modernbert"](home / "modernbert", **options, **more))


SHAPES: dict[str, tuple[ModelShape, Callable[[Path], str]]] = {
    "all-MiniLM-L6-v2": (ModelShape("", 384, 6, 1536), lambda _: "all-MiniLM-L6-v2"),
    "384 x 6": (ModelShape("", 384, 6, 1536), _bert(384, 6)),
    "512 x 8": (ModelShape("", 512, 8, 2048), _bert(512, 8)),
    "BERT-base, 768 x 12": (ModelShape("", 768, 12, 3072), _bert(768, 12)),
    "1024 x 4": (ModelShape("", 1024, 4, 4096), _bert(1024, 4)),
    "ModernBERT-base, 768 x 22, gated": (ModelShape("", 768, 22, 1152, gated=True), _modernbert),
}


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return for each shape and length the ratio of the estimate to the run, and both in tokens a second."""
    ratios: dict[str, list[float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    seconds, memory = [], {}
    with tempfile.TemporaryDirectory(prefix="nearfield-advise-") as place:
        folders = {name: write(Path(place)) for name, (_, write) in SHAPES.items()}
        for _ in range(rounds):
            calibration = calibrate()
            seconds.append(calibration.seconds)
            share = calibration.share or 1
            print(f"  calibrated in {calibration.seconds:.0f} s with {share:.0%} of the cores", flush=True)
            for name, (shape, _) in SHAPES.items():
                with Encoder(folders[name], compile_cache=False) as encoder:
                    memory[name] = {"loaded_mib": round((encoder.bytes or 0) / 2**20)}
                    lengths = [length for length in LENGTHS if length <= encoder.max_length]
                    for length in lengths[:1] if quick else lengths:
                        real, wall, tokens = _run(encoder, length, 1.0 if quick else 3.0)
                        estimate = calibration.tokens_per_second(shape, tokens)
                        key = f"{name}, {length} tokens"
                        ratios.setdefault(key, []).append(estimate / real)
                        rows[key] = {"estimated": round(estimate), "measured": round(real), "by the wall": round(wall)}
                        print(
                            f"  {key}: {estimate:,.0f} estimated, {real:,.0f} measured, {wall:,.0f} by the wall",
                            flush=True,
                        )
    for key, values in ratios.items():
        rows[key]["ratio"] = {"median": round(statistics.median(values), 2), "low": round(min(values), 2)}
        rows[key]["ratio"]["high"] = round(max(values), 2)
    missed = [key for key, row in rows.items() if abs(row["ratio"]["median"] - 1) > BOUND]
    return {
        "calibration_seconds": round(statistics.median(seconds), 1),
        "rows": rows,
        "missed": missed,
        "met": not missed,
        "memory": memory,
    }


def _run(encoder: Encoder, length: int, seconds: float) -> tuple[float, float, float]:
    """Return tokens a second of a real run by CPU seconds and by the wall, and the tokens of a text."""
    texts = texts_of_tokens(encoder.tokenizer, length, max(plan_cpu().streams, 6000 // length))
    target, clock = LocalTarget(encoder), Clock.for_options({})
    if length < 2048:  # a longer run is long beside the compilation of its kernels
        target.bulk(texts[: len(texts) // 2])
    with clock.timing() as passed:
        result = measure_bulk(target.bulk, texts, seconds)
    tokens = result["tokens_per_text"]
    return result["passes"] * len(texts) * tokens / passed[0], result["tokens_per_second"], tokens


def table(results: dict[str, Any]) -> str:
    """Return the ratios as a Markdown table."""
    lines = ["| model, texts | estimated / measured | range over rounds |", "|---|---|---|"]
    for key, row in results["rows"].items():
        ratio = row["ratio"]
        lines.append(f"| {key} | {ratio['median']:.2f} | {ratio['low']:.2f} to {ratio['high']:.2f} |")
    return "\n".join(lines)
