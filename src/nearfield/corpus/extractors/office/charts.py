"""Charts and diagrams (SmartArt) of Office documents: titles, data and texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nearfield.corpus.extractors.office.package import Element, attribute, descendants, local_name
from nearfield.corpus.extractors.office.sheets.number_format import format_value

#: Points of a chart that are read.
_MAX_POINTS = 5000


@dataclass
class ChartData:
    """A chart: its titles, and a table with a row for each category and a column for each series."""

    titles: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def read_chart(root: Element) -> ChartData:
    """Return the titles and the data of a chart part; also of the newer kinds, such as waterfalls."""
    chart = ChartData()
    for title in descendants(root, "title"):
        text = " ".join(paragraph_texts(title)) or _cached_text(title)
        if text and text not in chart.titles:
            chart.titles.append(text)
    series = [_series(item) for item in descendants(root, "ser")] or list(_newer_series(root))
    series = [(name, categories, values) for name, categories, values in series if values]
    if series:
        chart.rows = _table(series)
    return chart


_Series = tuple[str, dict[int, str], dict[int, str]]


def _series(element: Element) -> _Series:
    parts = {local_name(child): child for child in element}
    name = _cached_text(parts["tx"]) if "tx" in parts else ""
    categories = _points(parts.get("cat", parts.get("xVal")))
    values = _points(parts.get("val", parts.get("yVal")))
    for at, size in _points(parts.get("bubbleSize")).items():
        values[at] = f"{values.get(at, '')} ({size})".strip()
    return name, categories, values


def _points(element: Element | None) -> dict[int, str]:
    """Return the cached values of a chart's data by their positions; levels of categories are joined."""
    if element is None:
        return {}
    points: dict[int, str] = {}
    code = next((item.text or "" for item in descendants(element, "formatCode")), "")
    for point in descendants(element, "pt"):
        value = next((item.text or "" for item in descendants(point, "v")), "")
        at = int(attribute(point, "idx") or 0)
        text = _number(value, attribute(point, "formatCode") or code)
        if text and len(points) < _MAX_POINTS:
            points[at] = f"{text} {points[at]}" if at in points else text
    return points


def _number(value: str, code: str) -> str:
    try:
        return format_value(float(value), code or "General")
    except ValueError:
        return " ".join(value.split())


def _cached_text(element: Element) -> str:
    return " ".join(" ".join((item.text or "").split()) for item in descendants(element, "v")).strip()


def _newer_series(root: Element) -> Iterator[_Series]:
    data = {attribute(item, "id"): item for item in descendants(root, "data")}
    for item in descendants(root, "series"):
        link = next((attribute(child, "val") for child in item if local_name(child) == "dataId"), "")
        element = data.get(link)
        if element is None:
            continue
        sets: dict[str, dict[int, str]] = {}
        for dimension in element:
            sets[local_name(dimension)] = {
                int(attribute(point, "idx") or 0): _number(point.text or "", "")
                for point in descendants(dimension, "pt")
            }
        title = next(item.iter("{*}tx"), None)
        name = "" if title is None else _cached_text(title)
        yield name, sets.get("strDim", {}), sets.get("numDim", {})


def _table(series: Sequence[_Series]) -> list[list[str]]:
    names = [name for name, _, _ in series]
    rows = [["", *names]] if any(names) else [["", *(str(number) for number in range(1, len(series) + 1))]]
    positions = sorted({at for _, _, values in series for at in values})
    for at in positions:
        category = next((categories[at] for _, categories, _ in series if at in categories), str(at + 1))
        rows.append([category, *(values.get(at, "") for _, _, values in series)])
    return rows


def paragraph_texts(element: Element) -> Iterator[str]:
    """Yield the paragraphs of DrawingML text below an element, each on one line."""
    for paragraph in descendants(element, "p"):
        text = " ".join("".join(item.text or "" for item in descendants(paragraph, "t")).split())
        if text:
            yield text


def read_diagram(root: Element) -> list[tuple[int, str]]:
    """Return the texts of a diagram's data part with their depths, in the order of the diagram's tree."""
    texts: dict[str, str] = {}
    for point in descendants(root, "pt"):
        if attribute(point, "type") in ("", "node", "asst", "doc"):
            texts[attribute(point, "modelId")] = " ".join(paragraph_texts(point))
    children: dict[str, list[tuple[int, str]]] = {}
    below: set[str] = set()
    for link in descendants(root, "cxn"):
        if attribute(link, "type") in ("", "parOf"):
            target = attribute(link, "destId")
            children.setdefault(attribute(link, "srcId"), []).append((int(attribute(link, "srcOrd") or 0), target))
            below.add(target)
    lines: list[tuple[int, str]] = []
    seen: set[str] = set()
    stack = [(point, 0) for point in reversed([point for point in texts if point not in below])]
    while stack:
        point, depth = stack.pop()
        if point in seen:
            continue
        seen.add(point)
        text = texts.get(point, "")
        if text:
            lines.append((depth, text))
        below_it = sorted(children.get(point, []), reverse=True)
        stack.extend((child, depth + bool(text)) for _, child in below_it)
    lines.extend((0, text) for point, text in texts.items() if text and point not in seen)
    return lines
