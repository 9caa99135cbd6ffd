"""The table of ``models list``: a row for each model, with its figure for a purpose and its grade in a language."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nearfield.message_text import quote_name

if TYPE_CHECKING:
    from nearfield.catalog import CatalogEntry
    from nearfield.catalog.languages import LanguageSupport
    from nearfield.catalog.quality import QualityFigure
    from nearfield.cli.terminal.json_types import JsonObject

#: Rank of a model without a figure: behind all others.
_LAST = float("-inf")


def to_row(entry: CatalogEntry, here: bool, purpose: str | None = None, language: str | None = None) -> JsonObject:
    """Return the row of a model; with ``purpose`` its figure, and with the code ``language`` what is known in it."""
    from nearfield import families

    row: dict[str, object] = {
        "id": entry.id,
        "aliases": list(entry.aliases),
        "modalities": list(entry.reads),
        "image_size": entry.image_size,
        "kind": entry.kind,
        "parameters": entry.parameters,
        "dimensions": entry.dimensions,
        "max_length": entry.max_length,
        "languages": list(entry.languages),
        "licence": entry.licence,
        "commercial": entry.commercial,
        "gated": entry.gated,
        "score": dataclasses.asdict(entry.score) if entry.score else None,
        "runs": entry.family in families.REGISTRY.names(),
        "here": here,
    }
    if purpose is not None:
        row["figure"] = _figure(entry, purpose)
    if language is not None:
        from nearfield.catalog.languages import language_support

        row["language"] = dataclasses.asdict(language_support(entry, language))
    return row


def _figure(entry: CatalogEntry, purpose: str) -> JsonObject | None:
    from nearfield.catalog.quality import quality_figures

    figure = quality_figures(entry.id).get(purpose)
    return None if figure is None else dataclasses.asdict(figure)


def sort_rows(rows: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the rows by their figure minus half its error, the best first; those without one last, by id."""
    return sorted(rows, key=lambda row: (-_rank(row.get("figure")), row["id"].lower()))


def _rank(figure: JsonObject | None) -> float:
    return _LAST if figure is None else figure["value"] - figure["error"] / 2


def to_table(rows: Sequence[JsonObject], purpose: str | None = None, language: str | None = None) -> str:
    """Return the rows as a table, with a column for the purpose and for the language."""
    extra = [name for name in (purpose, language) if name is not None]
    form = "{:62} {:20} {:10} {:11} {:>6} {:>5} {:>6}  " + "".join(f"{{:{_width(name)}}} " for name in extra)
    form += "{:12} {:15} {}"
    head = ("model", "alias", "input", "output", "size", "dims", "tokens", *extra, "languages", "licence", "status")
    lines = [form.format(*head).rstrip()]
    for row in rows:
        added = [*([format_figure(row.get("figure"))] if purpose else []), *([_grade(row)] if language else [])]
        lines.append(form.format(*_cells(row), *added, _languages(row), _licence(row), _state(row)).rstrip())
    if any(not row.get("commercial", True) for row in rows):
        lines.append("* The licence does not allow commercial use.")
    return "\n".join([*lines, *_figure_notes(rows, purpose)])


def _width(name: str) -> int:
    return max(len(name), 10)


def _cells(row: JsonObject) -> Iterator[object]:
    yield quote_name(row["id"])
    yield (row.get("aliases") or [""])[0]
    yield ",".join(row.get("modalities", ["?"]))
    yield row.get("kind", "?")
    yield f"{row['parameters'] / 1e6:.0f}M" if row.get("parameters") else "?"
    yield row.get("dimensions", "?")
    yield row.get("max_length", "?")


def format_figure(figure: JsonObject | None) -> str:
    """Return a figure with the error of an estimate, such as ``52.3 ±2.8``; ``-`` if it is not known."""
    if figure is None:
        return "-"
    return f"{figure['value']:.1f}" + (f" ±{figure['error']:.1f}" if figure["error"] else "")


def _grade(row: JsonObject) -> str:
    return str(row.get("language", {}).get("grade", ""))


def _languages(row: JsonObject) -> str:
    """Return the languages of a model, the first ones and a number if there are many."""
    codes = row.get("languages", [])
    return ",".join(codes) if len(codes) <= 3 else f"{','.join(codes[:2])} +{len(codes) - 2}"


def _licence(row: JsonObject) -> str:
    """Return the licence, with a star if it does not allow commercial use."""
    return str(row.get("licence", "")) + ("" if row.get("commercial", True) else "*")


def _state(row: JsonObject) -> str:
    if not row.get("runs", True):
        return "not supported by this version"
    if row.get("gated") and not row["here"]:
        return "gated: ask for access on its page, then set HF_TOKEN"
    return "downloaded" if row["here"] else ""


def _figure_notes(rows: Sequence[JsonObject], purpose: str | None) -> Iterator[str]:
    """Yield what a column of figures means, and the figure of search by words."""
    if purpose is None:
        return
    from nearfield.catalog.quality import BM25, quality_figures

    yield f"{purpose}: points of 100; ± the error of an estimate; - not known. Sorted by figure minus half its error."
    if (bm25 := quality_figures(BM25).get(purpose)) is not None:
        yield f"BM25, which searches by words and needs no model: {format_figure(dataclasses.asdict(bm25))}."
    best = next((row["id"] for row in rows if row.get("figure") is not None), None)
    if best is not None:
        yield f"Tasks and sources of a figure: nearfield models figures {best} {purpose}"


def language_notes(left_out: Sequence[LanguageSupport], name: str) -> Iterator[str]:
    """Yield how many models a filter by a language leaves out: those that are poor in it, and the unknown ones."""
    counts = Counter(support.grade for support in left_out)
    if counts["poor"]:
        yield f"Left out: {_models(counts['poor'])} measured poor in {name}."
    if counts["unknown"]:
        yield f"Not known in {name}, neither measured nor listed: {counts['unknown']} more."


def _models(count: int) -> str:
    return f"{count} model{'s' if count != 1 else ''}"


def figure_line(figure: QualityFigure) -> str:
    """Return a figure with its error, and how many of the purpose's tasks are published."""
    tasks = f" ({figure.published}/{figure.tasks} tasks)" if figure.is_estimated else ""
    return format_figure(dataclasses.asdict(figure)) + tasks
