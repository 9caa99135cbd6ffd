"""SVG charts of a comparison; text is drawn as outlines in the page's colour, independent of fonts."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from nearfield.evaluation.comparison import chart_data
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.metrics import library
from nearfield.message_text import escape_controls

#: An object of matplotlib, which has no types.
Axes: TypeAlias = Any
#: Placeholder for the page's text colour, replaced after drawing; no series has it.
_INK = "#010203"
#: The first are distinguishable for colour-blind readers (Okabe & Ito 2008), all on white and on black.
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#b565a7",
    "#c8811a",
    "#2f9fd8",
    "#a03050",
    "#7a7a7a",
    "#6a5acd",
    "#5d8a00",
)
_MARKS = "osD^vPX*"
#: The line from the left edge of a label to its point.
_LEADER = {"arrowstyle": "-", "alpha": 0.4, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 4, "relpos": (0, 0.5)}
#: Width and height in inches and font size in points, for a screen and for a phone.
SIZES: Mapping[str, tuple[float, float, float]] = {"wide": (8.6, 4.6, 10.0), "narrow": (4.0, 4.4, 8.0)}


def draw_charts(comparison: JsonMapping, size: str = "wide") -> dict[str, str]:
    """Return SVG elements of a comparison's charts by name; charts without data are left out.

    ``comparison`` is a result of ``compare``. ``size``: ``wide`` or ``narrow``.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    charts = {}
    for name, (points, paint) in CHARTS.items():
        if points(comparison):
            charts[name] = _svg(comparison, paint, size, f"{size}-{name}")
    return charts


def _svg(comparison: JsonMapping, paint: Callable[..., None], size: str, prefix: str) -> str:
    with library("matplotlib").rc_context(_style(size, prefix)):
        out = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        figure(comparison, paint, size).savefig(out, format="svg", transparent=True, metadata=metadata)
    return _to_inline(out.getvalue(), prefix)


def _style(size: str, prefix: str) -> JsonDict:
    text = SIZES[size][2]
    return {
        "svg.fonttype": "path",
        "svg.hashsalt": prefix,
        "font.size": text,
        "axes.labelsize": text,
        **{f"{part}.color": _INK for part in ("text", "xtick", "ytick")},
        **{f"axes.{part}color": _INK for part in ("label", "edge")},
    }


def figure(comparison: JsonMapping, paint: Callable[..., None], size: str) -> Axes:
    """Return one of ``CHARTS`` as a matplotlib figure."""
    result = library("matplotlib.figure").Figure(figsize=SIZES[size][:2], layout="constrained")
    result.patch.set_alpha(0)
    axes = result.subplots()
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=_INK, alpha=0.12, linewidth=0.7)
    paint(axes, comparison, size)
    return result


def _to_inline(svg: str, prefix: str) -> str:
    """Return the SVG element with prefixed ids, the page's colour, and without a fixed size."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    return body.replace(_INK, "currentColor").replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


# -- charts -------------------------------------------------------------------------------------------------------


def _quality_speed(axes: Axes, comparison: JsonMapping, size: str) -> None:
    rows = chart_data.quality_speed(comparison)
    front = [row for row in rows if row["front"]]
    for row in rows:
        at = _bars(row)
        axes.errorbar(row["x"], row["y"], yerr=at, fmt="none", ecolor=_colour(row["at"]), alpha=0.45, capsize=2.5)
        axes.plot(row["x"], row["y"], _mark(row["at"]), color=_colour(row["at"]), markersize=7)
    if len(front) > 1:
        xs, ys = [row["x"] for row in front], [row["y"] for row in front]
        axes.step(xs, ys, where="pre", color=_INK, alpha=0.45, linewidth=1.2, linestyle="--", zorder=0)
    axes.set_xscale("log")
    axes.set_xlabel(
        "documents prepared for search, per second (logarithmic)" if size == "wide" else "documents/s (log)"
    )
    axes.set_ylabel(_quality(comparison))
    _ticks(axes.xaxis, [row["x"] for row in rows])
    _draw_labels(axes, [(row["x"], row["y"], row["label"], row["at"]) for row in rows], size)


def _quality_bytes(axes: Axes, comparison: JsonMapping, size: str) -> None:
    rows = chart_data.quality_bytes(comparison)
    for series in chart_data.series(rows):
        if len(series) > 1:
            axes.plot([row["x"] for row in series], [row["y"] for row in series], color=_INK, alpha=0.35, linewidth=1)
    for row in rows:
        axes.errorbar(
            row["x"], row["y"], yerr=_bars(row), fmt="none", ecolor=_colour(row["at"]), alpha=0.45, capsize=2.5
        )
        axes.plot(row["x"], row["y"], _mark(row["at"]), color=_colour(row["at"]), markersize=7)
    axes.set_xscale("log", base=2)
    wide = "bytes of the vectors of a document (logarithmic; a line joins dimensions of one dtype)"
    axes.set_xlabel(wide if size == "wide" else "bytes a document (log)")
    axes.set_ylabel(_quality(comparison))
    _ticks(axes.xaxis, [row["x"] for row in rows], base=2 if size == "wide" else 4)
    _draw_labels(axes, [(row["x"], row["y"], row["label"], row["at"]) for row in rows], size)


def _latency(axes: Axes, comparison: JsonMapping, size: str) -> None:
    rows = chart_data.latency(comparison)
    for row in rows:
        axes.plot(row["x"], row["p95"], "-" + _mark(row["at"]), color=_colour(row["at"]), markersize=5, linewidth=1.5)
        axes.plot(row["x"], row["p50"], ":", color=_colour(row["at"]), linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("concurrent clients, each with one request at a time")
    axes.set_ylabel(
        "milliseconds a query (log): line p95, dots p50" if size == "wide" else "ms a query (log): line p95, dots p50"
    )
    clients = sorted({x for row in rows for x in row["x"]})
    axes.set_xticks(clients, [f"{count:g}" for count in clients])
    axes.minorticks_off()
    _ticks(axes.yaxis, [value for row in rows for value in (*row["p50"], *row["p95"])])
    _draw_labels(axes, [(row["x"][-1], row["p95"][-1], row["label"], row["at"]) for row in rows], size)


#: By name: the function that returns the points, and the function that draws them.
CHARTS: Mapping[str, tuple[Callable[[JsonMapping], list[JsonDict]], Callable[..., None]]] = {
    "quality-speed": (chart_data.quality_speed, _quality_speed),
    "quality-storage": (chart_data.quality_bytes, _quality_bytes),
    "latency": (chart_data.latency, _latency),
}


def _quality(comparison: JsonMapping) -> str:
    return f"{chart_data.metric_label(comparison)}, points of 100"


def _bars(row: JsonMapping) -> list[list[float]] | None:
    if row["interval"] is None:
        return None
    low, high = row["interval"]
    return [[max(0.0, row["y"] - low)], [max(0.0, high - row["y"])]]


def _colour(at: int) -> str:
    return _COLOURS[at % len(_COLOURS)]


def _mark(at: int) -> str:
    return _MARKS[(at + at // len(_COLOURS)) % len(_MARKS)]


def _ticks(axis: Axes, values: Sequence[float], base: int = 10) -> None:
    """Set plain numbers at round positions of a logarithmic axis, also if its range is small."""
    ticker = library("matplotlib.ticker")
    span = max(values) / max(min(values), 1e-9)
    steps = (1.0,) if base != 10 or span > 30 else (1.0, 2.0, 5.0) if span > 3 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(ticker.LogLocator(base=base, subs=steps, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def _draw_labels(axes: Axes, rows: Sequence[tuple[float, float, str, int]], size: str) -> None:
    """Draw labels in a column right of the axes, without overlap, each with a thin line to its point."""
    axes.margins(x=0.08, y=0.1)
    low, high = axes.get_ylim()
    wide = size == "wide"
    logarithmic = axes.get_yscale() == "log"
    height = (
        (lambda y: math.log(y / low) / math.log(high / low)) if logarithmic else (lambda y: (y - low) / (high - low))
    )
    max_length = max((len(label) for _, _, label, _ in rows), default=0)
    lines = [_wrap(label, max_length if wide else 18) for _, _, label, _ in rows]
    order = sorted(range(len(rows)), key=lambda at: height(rows[at][1]))
    line = 0.062 if wide else 0.05
    heights = [line * (lines[at].count("\n") + 1) for at in order]
    places = chart_data.place_labels([height(rows[at][1]) for at in order], heights)
    for at, place in zip(order, places, strict=True):
        x, y, _, number = rows[at]
        axes.annotate(
            lines[at],
            xy=(x, y),
            xycoords="data",
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            ha="left",
            color=_colour(number),
            fontweight="bold",
            fontsize=SIZES[size][2] - (0.5 if wide else 0.8),
            annotation_clip=False,
            parse_math=False,  # a name may hold dollar signs
            arrowprops=_LEADER | {"color": _colour(number)},
        )


def _wrap(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(escape_controls(text), max(width, 8))[:2])
