"""Draw the ratios as a bar chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Parts of the results that compare with other engines.
COMPARED = ("throughput", "bert_base", "http", "dialects", "pictures", "sounds")


def draw(results: dict[str, Any], target: Path) -> None:
    """Draw how many times faster Nearfield is, a bar for each workload and opponent; nothing where there are none."""
    rows = [
        (name.replace(" / ", "  vs  "), row)
        for part in COMPARED
        for name, row in results.get(part, {}).get("ratios", {}).items()
    ]
    if not rows:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 0.42 * len(rows) + 1.6), layout="constrained")
    names, values = [name for name, _ in rows], [row["median"] for _, row in rows]
    spread = [[row["median"] - row["low"] for _, row in rows], [row["high"] - row["median"] for _, row in rows]]
    axes.barh(names, values, color="#2f6f9f", xerr=spread, error_kw={"ecolor": "#8a8f98", "capsize": 2})
    for place, (value, (_, row)) in enumerate(zip(values, rows, strict=True)):
        axes.text(row["high"] + max(values) * 0.01, place, f"{value:.1f}x", va="center", fontsize=9)
    axes.axvline(1, color="#8a8f98", linewidth=0.8, linestyle="--")
    axes.invert_yaxis()
    axes.set_xlim(0, max(row["high"] for _, row in rows) * 1.12)
    told = results.get("machine", {})
    axes.set_xlabel("times as fast (median of rounds, with range)")
    axes.set_title(
        f"Nearfield against others: {told.get('cpu')}, {told.get('cores')} cores, {told.get('date')}", fontsize=10
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, dpi=130)
    pyplot.close(figure)
