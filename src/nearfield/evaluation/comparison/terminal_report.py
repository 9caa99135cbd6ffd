"""The terminal report of a comparison: tables and character charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nearfield.evaluation.comparison import chart_data, terminal_verdict
from nearfield.evaluation.comparison.html_report import format_number
from nearfield.evaluation.comparison.measures import figures
from nearfield.evaluation.json_types import JsonMapping
from nearfield.evaluation.metrics import library
from nearfield.evaluation.performance import environment
from nearfield.message_text import escape_controls, escape_lines
from nearfield.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Rows and columns of a chart.
_HEIGHT, _WIDTH = 18, 88
#: How the ranking is ordered.
_ORDER = (
    "Order: above the line those whose quality is not distinguishable from the best, by total; then the others, by "
    "quality."
)
_MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def print_comparison(comparison: JsonMapping, *, pictures: bool = True) -> None:
    """Print the verdict, the ranking, the failures, the differences, the items that decide, and the charts."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # names and errors may look like rich's markup
    _print_verdict(console, comparison)
    for table in (_ranking(comparison), _failures(comparison)):
        if table is not None:
            console.print(table)
    shares = ", ".join(f"{name} {100 * weight:.0f}%" for name, weight in comparison["weights"].items())
    best = " * Pareto-best in quality and speed." if comparison["front"] else ""
    console.print(f"{_ORDER} Weights: {shares} (--weights).{best}", highlight=False)
    for caution in comparison["cautions"]:
        console.print(escape_lines(caution), highlight=False)
    _print_differences(console, comparison)
    for line in terminal_verdict.deciding_lines(comparison, console.width):
        console.print(escape_controls(line), highlight=False)
    if pictures:
        for text in draw_charts(comparison, min(_WIDTH, console.width)):
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(environment.summary_line(comparison["machine"]), highlight=False, style="dim")


def _print_verdict(console: Console, comparison: JsonMapping) -> None:
    verdict = comparison["verdict"]
    console.print(escape_controls(verdict["headline"]), highlight=False, style="bold")
    notes = [f"{row['name']} is synthetic, without human judgments." for row in synthetic_sets(comparison)]
    for text in (*verdict["sentences"], *notes):
        console.print(escape_controls(text), highlight=False)
    console.print()


def synthetic_sets(comparison: JsonMapping) -> list[JsonMapping]:
    """Return the data sets without human judgments."""
    return [dataset for dataset in comparison["datasets"] if dataset.get("synthetic")]


def _print_differences(console: Console, comparison: JsonMapping) -> None:
    """Print the pairs that differ, the number of the others, and how p-values were corrected."""
    table = terminal_verdict.difference_table(comparison)
    if table is not None:
        console.print(table)
    for line in terminal_verdict.difference_notes(comparison):
        console.print(escape_controls(line), highlight=False)


def _ranking(comparison: JsonMapping) -> Table:
    from rich import box
    from rich.table import Table

    rows = {row["name"]: row for row in comparison["variants"]}
    timed = any(row.get("speed") for row in comparison["variants"])
    table = Table(title="Ranking", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", justify="left", no_wrap=True)
    table.add_column("variant", overflow="fold", min_width=14)
    for heading in (
        "total",
        chart_data.metric_label(comparison),
        "95% ±",
        *(("docs/s", "p95 ms", "memory") if timed else ()),
        "bytes/doc",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    last = comparison["ranking"][0]["group"] if comparison["ranking"] else None
    for position, place in enumerate(comparison["ranking"]):
        if place["group"] != last:
            table.add_section()
            last = place["group"]
        row = rows[place["name"]]
        known, interval = figures(row), chart_data.interval(row)
        latency: JsonMapping = next(iter(((row.get("speed") or {}).get("latency") or {}).values()), {})
        speed = (
            [format_number(known["speed"], 0), format_number(latency.get("p95"), 1), _memory(known["memory"])]
            if timed
            else []
        )
        table.add_row(
            _mark(comparison, row),
            escape_controls(row["label"]) + (" *" if place["name"] in comparison["front"] else ""),
            f"{place['total']:.3f}" + ("†" if place["unknown"] else ""),
            format_number(row["quality"]),
            f"{(interval[1] - interval[0]) / 2:.1f}" if interval else "–",
            *speed,
            format_number(known["storage"], 0),
            style="bold" if position == 0 else None,
        )
    return table


def _memory(count: float | None) -> str:
    return "–" if count is None else format_bytes(count)


def _failures(comparison: JsonMapping) -> Table | None:
    from rich.table import Table

    failed = [(row["label"], error) for row in comparison["variants"] for error in row["errors"]]
    if not failed:
        return None
    table = Table(title="Failures", title_justify="left")
    for heading in ("variant", "step", "error"):
        table.add_column(heading, overflow="fold")
    for label, error in failed:
        table.add_row(*map(escape_controls, (label, error["step"], " ".join(error["message"].split()))), style="red")
    return table


def draw_charts(comparison: JsonMapping, width: int = _WIDTH) -> list[str]:
    """Return the charts of a comparison as text; letters are those of the ranking.

    Raises:
        MissingExtra: plotext is not installed.
    """
    quality, charts = chart_data.metric_label(comparison), []
    for title, rows, x in (
        ("Quality against speed", chart_data.quality_speed(comparison), "documents/s"),
        (
            "Quality against dimensions and quantisation",
            chart_data.quality_bytes(comparison),
            "bytes of vectors per document",
        ),
    ):
        if rows:
            marks = [(math.log10(row["x"]), row["y"], row["at"]) for row in rows]
            charts.append(
                _plot(marks, f"{title} ({quality})", f"{x}, logarithmic", width, x=[row["x"] for row in rows])
            )
    curves = chart_data.latency(comparison)
    if curves:
        clients = curves[0]["x"]
        marks = [
            (math.log10(count), math.log10(p95), row["at"])
            for row in curves
            for count, p95 in zip(row["x"], row["p95"], strict=True)
        ]
        slowest = [p95 for row in curves for p95 in row["p95"]]
        title = "Milliseconds per query, p95, logarithmic"
        charts.append(_plot(marks, title, "concurrent clients", width, x=clients, every=True, y=slowest))
    return charts


def _plot(
    marks: Sequence[tuple[float, float, int]],
    title: str,
    label: str,
    width: int,
    *,
    x: Sequence[float],
    every: bool = False,
    y: Sequence[float] = (),
) -> str:
    """Plot letters at logarithmic positions; ``x`` and ``y`` are the values, and ``every`` gives each ``x`` a tick."""
    plot = library("plotext").figure
    plot.clear()
    for across, up, at in marks:
        plot.draw(plot.signal([across], [up], marker=_letter(at)))
    for axis, values in (("x", x), ("y", y)):
        if values:
            ticks = sorted(set(values)) if every and axis == "x" else _round_ticks(min(values), max(values))
            plot.ruler(axis).ticks([math.log10(tick) for tick in ticks], [f"{tick:,.4g}" for tick in ticks])
    plot.theme("colorless")
    plot.title(title)
    plot.label(label, "x")
    plot.plot_size(width, _HEIGHT)
    return str(plot.build().string(colorless=True))


def _round_ticks(low: float, high: float) -> list[float]:
    """Return about five numbers of two digits from low to high, evenly spaced by their logarithm."""
    if high <= low:
        return [low]
    ticks = [low * (high / low) ** (at / 4) for at in range(5)]
    return sorted({float(f"{tick:.2g}") for tick in ticks})


def _mark(comparison: JsonMapping, row: JsonMapping) -> str:
    return _letter([variant["name"] for variant in comparison["variants"]].index(row["name"]))


def _letter(at: int) -> str:
    return _MARKS[at % len(_MARKS)]
