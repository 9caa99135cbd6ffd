"""Memory and time of one text of 8,192 tokens: ``python -m benchmarks.long_texts [--before REVISION]``.

Models have the shapes of well-known ones with two layers and random weights. Each engine runs in fresh processes, in
turns: Nearfield, and sentence-transformers with torch in float32. The table has the memory that encoding adds to the
loaded model's at its peak (MiB, of a second text of the same length: kernels are compiled), and the processor's seconds
of a text (medians). The text is encoded in float32 by all, and what Nearfield gives is compared with the reference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import stages
from benchmarks.commits import ROOT, checkout, environment

TOKENS = 8192
SHAPES = ("bge-m3", "ModernBERT", "Qwen3-0.6B")
_LOAD = {
    "nearfield": "from nearfield import Encoder\n"
    "model = Encoder(folder, precision='float32', compile_cache=False, threads=2, streams=1)",
    "torch": "from sentence_transformers import SentenceTransformer\n"
    "model = SentenceTransformer(folder, device='cpu')\nmodel.max_seq_length = 8192",
}
_RUN = """
import json, sys, threading, time
folder, text = sys.argv[1], "river " * 9000

def mib(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

%s
model.encode([text[:60]])
model.encode([text])
open("/proc/self/clear_refs", "w").write("5")  # the peak begins again
before, started = mib("VmRSS"), time.process_time()
rows = model.encode([text])
print(json.dumps([mib("VmHWM") - before, time.process_time() - started, [float(value) for value in rows[0]]]))
"""


def write_model(shape: str, folder: Path) -> Path:
    """Write a model of a shape that reads 8,192 tokens, with two layers."""
    kind, sizes = stages.SHAPES[shape]
    sizes = {**sizes, "num_hidden_layers": 2, "max_position_embeddings": TOKENS + 2}
    if "layer_types" in sizes:
        sizes["layer_types"] = ["full_attention", "sliding_attention"]
    if kind == "qwen3":
        return stages.decoder.model("Qwen3Config", save={"max_seq_length": TOKENS}, **sizes)(folder)
    return stages.tiny_models.TINY[kind](folder / "model", max_seq_length=TOKENS, **sizes)


def run(engine: str, tree: Path, folder: Path) -> tuple[float, float, Any]:
    """Encode in a fresh process; return MiB, seconds and the vector."""
    command = [sys.executable, "-W", "ignore", "-c", _RUN % _LOAD[engine], str(folder)]
    done = subprocess.run(command, env=environment(tree), capture_output=True, text=True, check=True)
    mib, seconds, vector = json.loads(done.stdout.splitlines()[-1])
    return mib, seconds, np.array(vector)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.long_texts", description=__doc__)
    parser.add_argument("--before", help="git revision to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=SHAPES, default=SHAPES)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "2"
    with ExitStack() as stack:
        engines = [("nearfield", ROOT), ("torch", ROOT)]
        if options.before:
            engines.insert(0, ("nearfield", stack.enter_context(checkout(options.before))))
        print("| shape | engine | MiB | seconds | cosine to torch |\n|---|---|---|---|---|")
        for shape in options.only:
            folder = write_model(shape, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            rounds = [[run(*engine, folder) for engine in engines] for _ in range(options.rounds)]
            truth = rounds[0][-1][2]
            for number, (engine, tree) in enumerate(engines):
                figures = [statistics.median(one[number][at] for one in rounds) for at in (0, 1)]
                vector = rounds[0][number][2]
                cosine = vector @ truth / np.linalg.norm(vector) / np.linalg.norm(truth)
                label = f"{engine}{' before' if tree is not ROOT else ''}"
                print(f"| {shape} | {label} | {figures[0]:,.0f} | {figures[1]:.2f} | {cosine:.6f} |", flush=True)


if __name__ == "__main__":
    main()
