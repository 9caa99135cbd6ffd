"""What `mine_hard_negatives` prints: scores of positives and negatives, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nearfield.arrays import Array
from nearfield.compat.sentence_transformers.util.mining_table import MinedRows
from nearfield.compat.sentence_transformers.util.negative_selection import MiningOptions, Removal

_STATISTICS: dict[str, Callable[[Array], float]] = {
    "Mean": lambda scores: float(np.mean(scores)),
    "Median": lambda scores: float(np.median(scores)),
    "Std": lambda scores: float(np.std(scores, ddof=min(1, len(scores) - 1))),
    "Min": lambda scores: float(np.min(scores)),
    "25%": lambda scores: float(np.quantile(scores, 0.25)),
    "75%": lambda scores: float(np.quantile(scores, 0.75)),
    "Max": lambda scores: float(np.max(scores)),
}


def print_report(
    mined: MinedRows, positive_scores: Array, options: MiningOptions, removals: Mapping[str, Removal]
) -> None:
    """Print the report."""
    print(to_text(mined, positive_scores, options, removals))  # noqa: T201


def to_text(mined: MinedRows, positive_scores: Array, options: MiningOptions, removals: Mapping[str, Removal]) -> str:
    """Return the report."""
    lines = [_line("Metric", "Positive", "Negative", "Difference")]
    lines.append(_line("Count", f"{len(positive_scores):,}", f"{len(mined.negative_scores):,}", ""))
    columns = (positive_scores, mined.negative_scores, mined.differences)
    for name, function in _STATISTICS.items():
        lines.append(_line(name, *(f"{function(scores):.4f}" if len(scores) else "-" for scores in columns)))
    for name, removal in removals.items():
        value = options.filters[name]
        lines.append(f"Skipped {removal.count:,} candidates ({removal.share:.2%}) due to {name}={value}.")
    missing = mined.max_rows - mined.rows
    if missing > 0:
        share = missing / mined.max_rows
        lines.append(f"Could not find enough negatives for {missing:,} samples ({share:.2%}). {_advice(options)}")
    return "\n".join(lines)


def _line(name: str, *cells: str) -> str:
    return " ".join([f"{name:<6}", *(f"{cell:>14}" for cell in cells)]).rstrip()


def _advice(options: MiningOptions) -> str:
    names = ["range_max"] + ["range_min"] * bool(options.range_min)
    names += [name for name in options.filters if name != "min_score"]
    several = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    return f"Consider adjusting the {several} parameter{'s' * (len(names) > 1)} if you need more."
