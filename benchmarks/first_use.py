"""Seconds and memory of first use: import, load and encode, in fresh processes, beside other libraries.

Each step's figures are those of the whole process after it. Engines take turns; weights and compiled graphs are in the
disk's cache, as they are for anybody who starts a program for the second time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.contender import onnx_folder

STEPS = ("import", "load", "first encode", "second encode")
#: What each library does for its steps, in a separate process: ``folder`` is the model's.
_PROGRAMS: dict[str, tuple[str, str, str]] = {
    "nearfield": ("import nearfield", "model = nearfield.Encoder(folder)", "model.encode(TEXTS)"),
    "sentence-transformers": (
        "from sentence_transformers import SentenceTransformer",
        "model = SentenceTransformer(folder, device='cpu')",
        "model.encode(TEXTS)",
    ),
    "fastembed": (
        "from benchmarks.contender import load_fastembed\nfrom pathlib import Path\nimport fastembed",
        "model = load_fastembed(Path(folder), 384)",
        "model(TEXTS)",
    ),
}
_PROGRAM = """
import json, sys, time
TEXTS, folder = [f"How tall is Mont Blanc in {year}?" for year in range(2001, 2009)], sys.argv[1]
rows = []

def mib(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

def record():
    rows.append([time.perf_counter() - started, mib("VmRSS"), mib("VmHWM")])

started = time.perf_counter()
"""


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Return for each library, and each step, the median seconds, MiB and peak MiB of fresh processes."""
    installed = [name for name in _PROGRAMS if find_spec(name.replace("-", "_"))]
    folders = {name: onnx_folder(folder) if name == "fastembed" else folder for name in installed}
    runs: dict[str, list[list[list[float]]]] = {name: [] for name in installed}
    for number in range(rounds + 1):
        for name in installed:
            figures = _run(name, folders[name])
            if number:  # the first fills the disk's cache
                runs[name].append(figures)
    return {name: _summary(figures) for name, figures in runs.items()}


def _run(name: str, folder: Path) -> list[list[float]]:
    imports, load, encode = _PROGRAMS[name]
    parts = [_PROGRAM, imports, "record()", load, "record()", encode, "record()", encode, "record()"]
    code = "\n".join([*parts, "print(json.dumps(rows))"])
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _summary(runs: list[list[list[float]]]) -> dict[str, dict[str, float]]:
    """Return the figures of each step: the medians over runs, and the range of the seconds."""
    summary = {}
    for step, name in enumerate(STEPS):
        seconds, memory, peak = (sorted(run[step][column] for run in runs) for column in range(3))
        summary[name] = {
            "seconds": round(statistics.median(seconds), 3),
            "low": round(seconds[0], 3),
            "high": round(seconds[-1], 3),
            "mib": round(statistics.median(memory), 1),
            "peak_mib": round(statistics.median(peak), 1),
        }
    return summary


def table(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table: seconds since the start, and MiB, after each step."""
    lines = [f"| after | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for step in STEPS:
        cells = [f"{row[step]['seconds']:.2f} s, {row[step]['mib']:.0f} MiB" for row in results.values()]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)
