"""Replicas on sets of CPUs beside one device with all of these CPUs, in turns: throughput, and the wait of one text."""

from __future__ import annotations

import argparse
import statistics
import time

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


def seconds_of(encoder: Encoder, texts: list[str]) -> float:
    """Return the seconds that texts take."""
    started = time.perf_counter()
    encoder.encode(texts)
    return time.perf_counter() - started


def milliseconds_of_one(encoder: Encoder) -> float:
    """Return the median time of one short text, in milliseconds."""
    times = [seconds_of(encoder, [f"river bank {number}"]) for number in range(60)]
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
        runs = [(seconds_of(one, texts), seconds_of(several, texts)) for _ in range(options.runs + 1)][1:]
        plain, replicated = (statistics.median(times) for times in zip(*runs, strict=True))
        ratios = sorted(first / second for first, second in runs)
        print(
            f"{load:6} one {len(texts) / plain:8.1f} texts/s, replicas {len(texts) / replicated:8.1f} texts/s: "
            f"{plain / replicated:.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    print(f"one text: {milliseconds_of_one(one):.2f} ms, replicas {milliseconds_of_one(several):.2f} ms")
    for name, encoder in (("one", one), ("replicas", several)):
        print(f"memory of {name}: {(encoder.bytes or 0) / 1e6:.0f} MB, of other processes {_other(encoder):.0f} MB")
        encoder.close()


def _other(encoder: Encoder) -> float:
    return encoder._model.process_bytes / 1e6


if __name__ == "__main__":
    main()
