"""Page: a comparison as one HTML file that needs nothing else: tables, pictures and all figures behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nearfield.evaluation.comparison import chart_data, svg_charts
from nearfield.evaluation.comparison.compare import figures
from nearfield.evaluation.metrics import library
from nearfield.evaluation.performance import environment as hardware

#: What each picture shows, as its heading and its caption.
CAPTIONS: Mapping[str, tuple[str, str]] = {
    "quality-speed": (
        "Quality against speed",
        (
            "Higher is better, further right is faster. The dashed line is the Pareto front: no variant beats those on "
            "it in both. Thin bars are 95% intervals of the quality."
        ),
    ),
    "quality-storage": (
        "Quality against dimensions and quantisation",
        (
            "Further left takes less room: bytes of the vectors of one document. A line joins variants that differ in "
            "their dimensions alone."
        ),
    ),
    "latency": (
        "Latency",
        (
            "How long a client waits for one query while others wait for theirs: encoding; for variants that search by "
            "themselves (hybrid, chunked, reranked, BM25) the search too."
        ),
    ),
}
#: Pairs shown of those that were tested.
_PAIRS = 45


def render_html(told: Mapping[str, Any], title: str = "Comparison") -> str:
    """Return a comparison (what ``compare`` returns) as a whole HTML document.

    Raises:
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    jinja = library("jinja2")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("nearfield.evaluation.comparison"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size, "number": number, "share": lambda value: f"{100 * value:.0f}%"}
    drawn = {name: svg_charts.draw_charts(told, name) for name in svg_charts.SIZES}
    shown = [
        {"name": name, "title": heading, "caption": caption, **{kind: drawn[kind][name] for kind in drawn}}
        for name, (heading, caption) in CAPTIONS.items()
        if name in drawn["wide"]
    ]
    return str(environment.get_template("compare.html.j2").render(title=title, pictures=shown, **_facts(told)))


def _facts(told: Mapping[str, Any]) -> dict[str, Any]:
    rows = {row["name"]: row for row in told["variants"]}
    ranked = [{**each, "row": rows[each["name"]], "figures": figures(rows[each["name"]])} for each in told["ranking"]]
    ranked = [{**each, "interval": chart_data.interval(each["row"])} for each in ranked]
    pairs = [{**pair, "a": rows[pair["a"]]["label"], "b": rows[pair["b"]]["label"]} for pair in told["significance"]]
    parts = [{"name": each["name"], "parts": each["parts"]} for each in ranked]
    return {
        "told": told,
        "ranked": ranked,
        "metric": chart_data.main(told),
        "failed": [row for row in told["variants"] if row["errors"]],
        "pairs": pairs[:_PAIRS],
        "more_pairs": max(0, len(pairs) - _PAIRS),
        "machine": hardware.line(told["machine"]),
        "timed": any(row.get("speed") for row in told["variants"]),
        # "<" would end the script that holds it.
        "parts": json.dumps(parts).replace("<", "\\u003c"),
    }


def size(count: float | None) -> str:
    """Return bytes as people read them; a dash where they are not known."""
    if count is None:
        return "–"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{value:,.1f} {unit}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with some digits after the point; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
