"""The HTML report of a comparison: one self-contained file with tables and charts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nearfield import units
from nearfield.evaluation.comparison import chart_data, svg_charts
from nearfield.evaluation.comparison.measures import figures
from nearfield.evaluation.comparison.verdict.need import describe_limit
from nearfield.evaluation.comparison.verdict.report_rows import (
    dataset_label,
    deciding_headline,
    deciding_labels,
    preferences,
    ranks_text,
    tested_pairs,
)
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
#: Number of pairs that are not folded.
_MAX_PAIRS = 15
#: By group of the ranking.
_STANDINGS: Mapping[str, str] = {"tied": "not distinguishable", "worse": "worse", "unfit": "misses the need"}


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
    ranked = [
        {**place, "interval": chart_data.interval(place["row"]), "standing": _standing(comparison, place)}
        for place in ranked
    ]
    pairs = [
        {**pair, "first": rows[pair["a"]]["label"], "second": rows[pair["b"]]["label"], "data": dataset_label(pair)}
        for pair in tested_pairs(comparison)
    ]
    parts = [{name: place[name] for name in ("name", "parts", "behind")} for place in ranked]
    return {
        "comparison": comparison,
        "ranked": ranked,
        "metric": chart_data.metric_label(comparison),
        "failed": [row for row in comparison["variants"] if row["errors"]],
        "pairs": pairs,
        "different": [pair for pair in pairs if pair["significant"]],
        "similar": [pair for pair in pairs if not pair["significant"]],
        "max_pairs": _MAX_PAIRS,
        "tests": " and ".join(dict.fromkeys(f"{pair['test']} test" for pair in pairs)),
        "several": len(comparison["datasets"]) > 1,
        "need": " and ".join(describe_limit(name, value) for name, value in comparison["need"].items()),
        "deciding": _deciding(comparison),
        "machine": hardware.summary_line(comparison["machine"]),
        "timed": any(row.get("speed") for row in comparison["variants"]),
        # "</script>" in a name would end the script.
        "parts": json.dumps(parts).replace("<", "\\u003c"),
    }


def _standing(comparison: JsonMapping, place: JsonMapping) -> str:
    """Return how the tests see a variant against the best one that meets the need."""
    if place["name"] == comparison["verdict"]["best"]:
        return "the best"
    return _STANDINGS[place["group"]]


def _deciding(comparison: JsonMapping) -> JsonDict | None:
    """Return the items that decide between two variants, by the better one; None if no item has a score."""
    deciding = comparison["verdict"]["deciding"]
    if deciding is None or not sum(deciding["counts"].values()):
        return None
    labels = dict(zip("ab", deciding_labels(comparison), strict=True))
    groups = [
        {"label": labels[side], "rows": [_deciding_item(item, labels) for item in deciding[f"{side}_better"]]}
        for side in "ab"
    ]
    groups = [group for group in groups if group["rows"]]
    return {"labels": labels, "headline": deciding_headline(comparison), "groups": groups}


def _deciding_item(item: JsonMapping, labels: Mapping[str, str]) -> JsonDict:
    expected = [{**row, "ranks": ranks_text(item, row, labels)} for row in item.get("expected", [])]
    text = item.get("text", item["id"])
    return {**item, "text": text, "preferences": preferences(item, labels), "expected": expected}


def format_bytes(count: float | None) -> str:
    """Return a number of bytes with a unit; a dash for None."""
    return "–" if count is None else units.format_bytes(count)


def format_number(value: float | None, digits: int = 2) -> str:
    """Return a number with some decimals; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"
