"""Rows and texts of the reports, terminal and HTML: tested pairs, and the items that decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nearfield.evaluation.json_types import JsonMapping

#: Name of the mean of several data sets.
_MEAN = "mean of all"


def tested_pairs(comparison: JsonMapping) -> list[JsonMapping]:
    """Return all tests: of several data sets first those of their mean."""
    overall = comparison["overall"] if len(comparison["datasets"]) > 1 else []
    return [*overall, *comparison["significance"]]


def dataset_label(pair: JsonMapping) -> str:
    """Return the data set of a test."""
    return str(pair["dataset"] or _MEAN)


def deciding_headline(comparison: JsonMapping) -> str:
    """Return on how many items each of the two variants is better."""
    deciding = comparison["verdict"]["deciding"]
    a, b = deciding_labels(comparison)
    counts = {side: f"{count:,}" for side, count in deciding["counts"].items()}
    return f"{a} scores higher on {counts['a']} items, {b} on {counts['b']}, and {counts['equal']} are equal."


def deciding_labels(comparison: JsonMapping) -> tuple[str, str]:
    """Return the labels of the two variants between which the items decide."""
    labels = {row["name"]: row["label"] for row in comparison["variants"]}
    deciding = comparison["verdict"]["deciding"]
    return labels[deciding["a"]], labels[deciding["b"]]


def preferences(item: JsonMapping, labels: Mapping[str, str]) -> list[tuple[str, JsonMapping]]:
    """Return what each variant ranked first, with a heading; once if it is the same for both."""
    first = {side: choices[0] for side, choices in item.get("first", {}).items() if choices}
    if len(first) == 2 and first["a"] == first["b"]:
        return [("Both rank first", first["a"])]
    return [(f"{labels[side]} ranks first", choice) for side, choice in first.items()]


def ranks_text(item: JsonMapping, expected: JsonMapping, labels: Mapping[str, str]) -> str:
    """Return at which rank each variant has an expected document, as far as the ranks are stored."""
    if "id" not in expected or not any(item["first"].values()):
        return ""
    ranks = {side: [choice.get("id") for choice in choices] for side, choices in item["first"].items()}
    texts = (f"{labels[side]}: {_rank_text(expected['id'], ids)}" for side, ids in ranks.items())
    return f" ({', '.join(texts)})"


def _rank_text(document: str, ids: Sequence[str]) -> str:
    return f"rank {ids.index(document) + 1}" if document in ids else f"not in the first {len(ids)}"
