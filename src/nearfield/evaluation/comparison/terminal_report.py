"""Terminal: a comparison as tables and pictures of characters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nearfield.evaluation.comparison import chart_data
from nearfield.evaluation.comparison.compare import figures
from nearfield.evaluation.comparison.html_report import number
from nearfield.evaluation.metrics import library
from nearfield.evaluation.performance import environment

#: Rows and columns of a picture.
_HEIGHT, _WIDTH = 18, 88
_MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def print_comparison(told: Mapping[str, Any], *, pictures: bool = True) -> None:
    """Print the ranking, what failed, and the pictures."""
    from rich.console import Console

    console = Console()
    for table in (_ranking(told), _failures(told)):
        if table is not None:
            console.print(table)
    shares = ", ".join(f"{name} {100 * weight:.0f}%" for name, weight in told["weights"].items())
    best = " * Pareto-best in quality and speed." if told["front"] else ""
    console.print(f"Weights: {shares} (--weights).{best}", highlight=False)
    console.print(_differences(told), highlight=False)
    if pictures:
        for text in drawn(told, min(_WIDTH, console.width)):
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(environment.line(told["machine"]), highlight=False, style="dim")


def _ranking(told: Mapping[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    rows = {row["name"]: row for row in told["variants"]}
    timed = any(row.get("speed") for row in told["variants"])
    table = Table(title="Ranking", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", justify="left", no_wrap=True)
    table.add_column("variant", overflow="fold", min_width=14)
    for heading in (
        "total",
        chart_data.main(told),
        "95% ±",
        *(("docs/s", "p95 ms", "MiB") if timed else ()),
        "bytes/doc",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, each in enumerate(told["ranking"]):
        row = rows[each["name"]]
        known, interval = figures(row), chart_data.interval(row)
        latency: Mapping[str, Any] = next(iter(((row.get("speed") or {}).get("latency") or {}).values()), {})
        speed = [number(known["speed"], 0), number(latency.get("p95"), 1), _mib(known["memory"])] if timed else []
        table.add_row(
            _mark(told, row),
            row["label"] + (" *" if each["name"] in told["front"] else ""),
            f"{each['total']:.3f}" + ("†" if each["unknown"] else ""),
            number(row["quality"]),
            f"{(interval[1] - interval[0]) / 2:.1f}" if interval else "–",
            *speed,
            number(known["storage"], 0),
            style="bold" if place == 0 else None,
        )
    return table


def _mib(count: float | None) -> str:
    return number(None if count is None else count / 2**20, 0)


def _failures(told: Mapping[str, Any]) -> Any:
    from rich.table import Table

    failed = [(row["label"], error) for row in told["variants"] for error in row["errors"]]
    if not failed:
        return None
    table = Table(title="What failed", title_justify="left")
    for heading in ("variant", "at", "why"):
        table.add_column(heading, overflow="fold")
    for label, error in failed:
        table.add_row(label, error["step"], error["message"], style="red")
    return table


def _differences(told: Mapping[str, Any]) -> str:
    """Say how many pairs differ beyond chance, and what no variant can be told from the best of each data set."""
    pairs, names = told["significance"], {row["name"]: row["label"] for row in told["variants"]}
    if not pairs:
        return ""
    sure = sum(pair["significant"] for pair in pairs)
    lines = [f"{sure} of {len(pairs)} pairs differ beyond chance (p < 0.05, {pairs[0]['test']}, Holm)."]
    for name in dict.fromkeys(pair["dataset"] for pair in pairs):
        own = [pair for pair in pairs if pair["dataset"] == name]
        level = [names[pair["b"]] for pair in own if pair["a"] == own[0]["a"] and not pair["significant"]]
        if level:
            lines.append(f"On {name}, not told apart from the best ({names[own[0]['a']]}): {'; '.join(level)}.")
    return "\n".join(lines)


def drawn(told: Mapping[str, Any], width: int = _WIDTH) -> list[str]:
    """Return the pictures of a comparison, of characters; letters are those of the ranking.

    Raises:
        MissingExtra: plotext is not installed.
    """
    quality, found = chart_data.main(told), []
    for title, rows, x in (
        ("Quality against speed", chart_data.quality_speed(told), "documents/s"),
        ("Quality against dimensions and quantisation", chart_data.quality_bytes(told), "bytes of vectors a document"),
    ):
        if rows:
            marks = [(math.log10(row["x"]), row["y"], row["at"]) for row in rows]
            found.append(_plot(marks, f"{title} ({quality})", f"{x}, logarithmic", width, x=[row["x"] for row in rows]))
    curves = chart_data.latency(told)
    if curves:
        clients = curves[0]["x"]
        marks = [
            (math.log10(count), math.log10(p95), row["at"])
            for row in curves
            for count, p95 in zip(row["x"], row["p95"], strict=True)
        ]
        slowest = [p95 for row in curves for p95 in row["p95"]]
        title = "Milliseconds a query, p95, logarithmic"
        found.append(_plot(marks, title, "clients at once", width, x=clients, every=True, y=slowest))
    return found


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
    """Draw letters; ``x`` and ``y`` are what their logarithms stand for, ``every`` one of which gets a tick."""
    plot = library("plotext").figure
    plot.clear()
    for across, up, at in marks:
        plot.draw(plot.signal([across], [up], marker=_letter(at)))
    for axis, values in (("x", x), ("y", y)):
        if values:
            ticks = sorted(set(values)) if every and axis == "x" else _round(min(values), max(values))
            plot.ruler(axis).ticks([math.log10(each) for each in ticks], [f"{each:,.4g}" for each in ticks])
    plot.theme("colorless")
    plot.title(title)
    plot.label(label, "x")
    plot.plot_size(width, _HEIGHT)
    return str(plot.build().string(colorless=True))


def _round(low: float, high: float) -> list[float]:
    """Return some five numbers from low to high, evenly by their logarithm, of two digits."""
    if high <= low:
        return [low]
    found = [low * (high / low) ** (at / 4) for at in range(5)]
    return sorted({float(f"{each:.2g}") for each in found})


def _mark(told: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return _letter([each["name"] for each in told["variants"]].index(row["name"]))


def _letter(at: int) -> str:
    return _MARKS[at % len(_MARKS)]
