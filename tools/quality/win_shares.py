"""How often a model with a higher mean also has the higher figure on a task that the mean leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nearfield.arrays import Array
from tools.quality.purposes import Purpose
from tools.quality.scores import RawScores

#: Lower ends of the ranges of differences, in points.
STEPS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Fewer models, tasks or pairs of models say too little.
_MODELS, _TASKS, _PAIRS = 15, 5, 40
#: Purposes that are counted together, by the start of their names; the first that fits counts.
GROUPS = ("retrieval:en", "retrieval:", "sts:", "classification:", "clustering:", "code")


def render_shares(scores: RawScores, purposes: Sequence[Purpose]) -> str:
    """Return the shares as TOML: by group of purposes, [difference from which on, share, pairs]."""
    lines = [
        "# Of two models, how often the one with the higher mean has the higher figure on a task that the mean omits.",
        "# group of purposes = [[difference in points from which on, share, pairs], ...]. Written by tools/quality.",
        "",
    ]
    for group in GROUPS:
        members = [purpose for purpose in purposes if _group(purpose.name) == group]
        rows = [f"[{step}, {share:.2f}, {count}]" for step, share, count in win_shares(scores, members)]
        if rows:
            lines.append(f'"{group}" = [{", ".join(rows)}]')
    return "\n".join(lines) + "\n"


def _group(purpose: str) -> str | None:
    return next((group for group in GROUPS if purpose.startswith(group)), None)


def win_shares(scores: RawScores, purposes: Sequence[Purpose]) -> Iterator[tuple[float, float, int]]:
    """Yield for each range of differences its lower end, the share of wins, and the number of comparisons."""
    pairs = [part for purpose in purposes for part in _comparisons(scores, purpose)]
    if not pairs:
        return
    differences, wins = np.concatenate([part[0] for part in pairs]), np.concatenate([part[1] for part in pairs])
    for low, high in zip(STEPS, (*STEPS[1:], np.inf), strict=True):
        inside = (differences >= low) & (differences < high)
        if inside.sum() >= _PAIRS:
            yield low, float(wins[inside].mean()), int(inside.sum())


def _comparisons(scores: RawScores, purpose: Purpose) -> Iterator[tuple[Array, Array]]:
    """Yield for each task that is left out: differences of the other tasks' means, and who wins on the task."""
    table = np.asarray([[scores.mean(model, task) for task in purpose.tasks] for model in sorted(scores.cells)])
    table = table[~np.isnan(table).any(axis=1)] if len(purpose.tasks) else table
    if len(table) < _MODELS or table.shape[1] < _TASKS:
        return
    for at in range(table.shape[1]):
        rest = np.delete(table, at, axis=1).mean(axis=1)
        ahead = rest[:, None] - rest[None]
        first, second = np.nonzero(ahead > 0)
        won = table[first, at] - table[second, at]
        yield ahead[first, second], np.where(won == 0, 0.5, won > 0)
