"""Silences of a sound: stretches whose loudness stays below a level."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nearfield.arrays import Array

#: Decibels of full scale below which it is silent, and seconds that a silence lasts at least.
LEVEL, SHORTEST = -40.0, 0.5
#: Seconds whose mean square is one value of loudness.
_WINDOW = 0.01


def find_silences(
    blocks: Iterable[Array], rate: int, *, level: float = LEVEL, shortest: float = SHORTEST
) -> list[tuple[float, float]]:
    """Return start and end of each silence in seconds, in order; they are right to a hundredth of a second.

    Args:
        blocks: samples, float32 [n], where 1 is full scale, in blocks of any length.
        rate: samples a second.
        level: decibels relative to full scale. A window of 10 ms whose root mean square is below it is silent.
        shortest: seconds of the shortest silence that counts.
    """
    window = max(1, round(_WINDOW * rate))
    quiet = np.concatenate([np.zeros(0, bool), *_quiet_windows(blocks, window, 10 ** (level / 10))])
    edges = np.diff(np.concatenate(([0], quiet.astype(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    seconds = window / rate
    return [
        (start * seconds, end * seconds)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        if (end - start) * seconds >= shortest
    ]


def _quiet_windows(blocks: Iterable[Array], window: int, power: float) -> Iterable[Array]:
    """Yield for each window whether it is silent; a last part of a window belongs to none."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        samples = np.concatenate([rest, block])
        whole = len(samples) // window * window
        windows = samples[:whole].reshape(-1, window)
        yield np.einsum("ij,ij->i", windows, windows) / window < power
        rest = samples[whole:]
