"""The HTML report of a comparison: one self-contained file with tables and charts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nearfield import units
from nearfield.evaluation.comparison import chart_data, svg_charts
from nearfield.evaluation.comparison.compare import figures
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.evaluation.metrics import library
from nearfield.evaluation.performance import environment as hardware

#: Heading and caption of each chart.
CAPTIONS: Mapping[str, tuple[str, str]] = {
    "quality-speed": (
        "Quality against speed",
        (
            "Higher is better, further right is faster. The dashed line is the Pareto front: no variant is better than "
            "those on it in both. Thin bars are 95% intervals of the quality."
        ),
    ),
    "quality-storage": (
        "Quality against dimensions and quantisation",
        (
            "Further left takes less storage: bytes of the vectors of one document. A line joins variants that differ "
            "only in their dimensions."
        ),
    ),
    "latency": (
        "Latency",
        (
            "Time of one query under concurrent load: encoding, and for variants that search (hybrid, chunked, "
            "reranked, BM25) also the search."
        ),
    ),
}
#: Maximum number of tested pairs in the report.
_MAX_PAIRS = 45


def render_html(comparison: JsonMapping, title: str = "Comparison") -> str:
    """Return a comparison (a result of ``compare``) as an HTML document.

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
    environment.filters |= {"size": format_bytes, "number": format_number, "share": lambda value: f"{100 * value:.0f}%"}
    charts = {name: svg_charts.draw_charts(comparison, name) for name in svg_charts.SIZES}
    pictures = [
        {"name": name, "title": heading, "caption": caption, **{kind: charts[kind][name] for kind in charts}}
        for name, (heading, caption) in CAPTIONS.items()
        if name in charts["wide"]
    ]
    return str(
        environment.get_template("compare.html.j2").render(
            title=title, pictures=pictures, **_template_values(comparison)
        )
    )


def _template_values(comparison: JsonMapping) -> JsonDict:
    rows = {row["name"]: row for row in comparison["variants"]}
    ranked = [
        {**place, "row": rows[place["name"]], "figures": figures(rows[place["name"]])}
        for place in comparison["ranking"]
    ]
    ranked = [{**place, "interval": chart_data.interval(place["row"])} for place in ranked]
    pairs = [
        {**pair, "a": rows[pair["a"]]["label"], "b": rows[pair["b"]]["label"]} for pair in comparison["significance"]
    ]
    parts = [{"name": place["name"], "parts": place["parts"]} for place in ranked]
    return {
        "comparison": comparison,
        "ranked": ranked,
        "metric": chart_data.metric_label(comparison),
        "failed": [row for row in comparison["variants"] if row["errors"]],
        "pairs": pairs[:_MAX_PAIRS],
        "more_pairs": max(0, len(pairs) - _MAX_PAIRS),
        "machine": hardware.summary_line(comparison["machine"]),
        "timed": any(row.get("speed") for row in comparison["variants"]),
        # "</script>" in a name would end the script.
        "parts": json.dumps(parts).replace("<", "\\u003c"),
    }


def format_bytes(count: float | None) -> str:
    """Return a number of bytes with a unit; a dash for None."""
    return "–" if count is None else units.format_bytes(count)


def format_number(value: float | None, digits: int = 2) -> str:
    """Return a number with some decimals; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"
