"""Replicas on sets of CPUs beside one device with all of these CPUs, in turns.

Measured are throughput, the wait of one text, and the CPU time of a text in all processes, which other work on the
machine changes little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from nearfield import Encoder
from nearfield.devices import format_cpus
from nearfield.hardware import allowed_cpus, cpu_name

#: Words of texts by load, and texts of a run.
LOADS = {"short": ((8, 8), 1000), "mixed": ((4, 250), 100), "long": ((170, 190), 40)}


def texts_of(load: str) -> list[str]:
    """Return the texts of a load, which differ."""
    (low, high), count = LOADS[load]
    random = np.random.default_rng(1)
    words = np.array(["river", "bank", "the", "of", "water", "green", "market", "letter", "seven", "runs"])
    return [" ".join(random.choice(words, int(random.integers(low, high + 1)))) for _ in range(count)]


def seconds_of(encoder: Encoder, texts: list[str]) -> tuple[float, float]:
    """Return the seconds that texts take, and the CPU seconds of this process and those of replicas."""
    started, before = time.perf_counter(), cpu_seconds()
    encoder.encode(texts)
    return time.perf_counter() - started, cpu_seconds() - before


def cpu_seconds() -> float:
    """Return the CPU seconds that this process and its children have taken."""
    children = [
        task
        for own in Path("/proc/self/task").iterdir()
        for child in (own / "children").read_text().split()
        for task in Path(f"/proc/{child}/task").iterdir()
    ]
    return time.process_time() + sum(int((task / "schedstat").read_text().split()[0]) for task in children) / 1e9


def milliseconds_of_one(encoder: Encoder) -> float:
    """Return the median time of one short text, in milliseconds."""
    times = [seconds_of(encoder, [f"river bank {number}"])[0] for number in range(60)]
    return 1000 * statistics.median(times)


def main() -> None:
    """Print a row for each load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--devices", default="")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    devices = options.devices or ",".join(f"cpu:{format_cpus([cpu])}" for cpu in sorted(allowed_cpus()))
    one, several = Encoder(options.model), Encoder(options.model, devices=devices)
    print(f"{options.model} ({several.precision}) on {cpu_name()}: one device, and {devices}")
    for load in LOADS:
        texts = texts_of(load)
        runs = [(*seconds_of(one, texts), *seconds_of(several, texts)) for _ in range(options.runs + 1)][1:]
        medians = (statistics.median(times) / len(texts) for times in zip(*runs, strict=True))
        wall, cpu, wall_replicas, cpu_replicas = medians
        ratios, cpu_ratios = sorted(run[0] / run[2] for run in runs), sorted(run[3] / run[1] for run in runs)
        print(
            f"{load:6} texts/s: one {1 / wall:.1f}, replicas {1 / wall_replicas:.1f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f} times); "
            f"CPU ms a text: {1000 * cpu:.2f}, {1000 * cpu_replicas:.2f} "
            f"({cpu_ratios[0]:.2f} to {cpu_ratios[-1]:.2f} times)"
        )
    print(f"one text: {milliseconds_of_one(one):.2f} ms, replicas {milliseconds_of_one(several):.2f} ms")
    for name, encoder in (("one", one), ("replicas", several)):
        print(f"memory of {name}: {(encoder.bytes or 0) / 1e6:.0f} MB, of other processes {_other(encoder):.0f} MB")
        encoder.close()


def _other(encoder: Encoder) -> float:
    return encoder._model.process_bytes / 1e6


if __name__ == "__main__":
    main()
