"""`draw_map`: texts as points on a map with the names of their topics, written as one HTML file."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from nearfield.argument_checks import require_list, require_mapping, require_path, require_texts
from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.output_path import require_writable
from nearfield.jobs.job_vectors import DEFAULT_MODEL, JobModel, vectors_of
from nearfield.jobs.map.layout import lay_out
from nearfield.jobs.sources.job_items import require_items
from nearfield.jobs.topics.find_topics import MIN_TEXTS, find_topics
from nearfield.jobs.topics.topics import Topics
from nearfield.text_inputs import many_texts

#: Texts of a map at most: a browser holds all of them.
MAX_TEXTS = 500_000
#: Characters of a text, and values of a field, that the file has.
_MAX_CHARACTERS, _MAX_VALUES = 200, 1_000
#: Words of a topic in the name of its region.
_WORDS = 2


@dataclass(frozen=True)
class TextMap:
    """Texts with places from 0 to 1, float32 [n, 2], their topics, and fields by which they can be coloured."""

    texts: Sequence[str]
    places: Array
    topics: Topics
    fields: Mapping[str, Sequence[object]]

    def to_html(self, title: str = "Map") -> str:
        """Return a document that needs no network: search, colours by field, and a text where the pointer is.

        Texts and names are data in it: nothing in them is read as HTML or as code.
        """
        page = (files(__package__) / "map.html").read_text(encoding="utf-8")
        drawing = (files(__package__) / "static" / "point-map.js").read_text(encoding="utf-8")
        data = json.dumps(self._data(), ensure_ascii=False).replace("<", "\\u003c")
        parts = {"__TITLE__": html.escape(title), "__DRAWING__": drawing, "__DATA__": data}
        return re.sub("|".join(parts), lambda mark: parts[mark[0]], page)

    def _data(self) -> dict[str, object]:
        columns = {
            name: {"values": values, "rows": _encode(rows, np.uint16)}
            for name, (values, rows) in self.columns().items()
        }
        return {
            "places": _encode(np.round(self.places * 65_535), np.uint16),
            "texts": [text[:_MAX_CHARACTERS] for text in self.texts],
            "fields": columns,
            "regions": self.regions(),
        }

    def columns(self) -> dict[str, tuple[list[str], Array]]:
        """Return the topics and the fields: their values, the most frequent first, and the number of each text's one.

        A number beyond the values stands for all values that are not listed.
        """
        fields = {"topic": [self._name(number) for number in self.topics.assignments.tolist()], **self.fields}
        return {name: _numbered(values) for name, values in fields.items()}

    def _name(self, number: int) -> str:
        return "(apart)" if number < 0 else self.topics.topics[number].name

    def regions(self) -> list[dict[str, object]]:
        """Return name, place, size and example texts (their numbers) of each topic; the place is the median."""
        regions: list[dict[str, object]] = []
        for topic in self.topics.topics:
            rows = self.topics.assignments == topic.number
            if rows.any():
                x, y = np.median(self.places[rows], axis=0).tolist()
                name = ", ".join(topic.words[:_WORDS]) or topic.name
                place = {"x": round(x, 5), "y": round(y, 5)}
                regions.append({"name": name, **place, "size": topic.size, "examples": list(topic.examples)})
        return regions


def draw_map(
    texts: Sequence[str],
    output: str | Path | None = None,
    *,
    fields: Mapping[str, Sequence[object]] | None = None,
    title: str = "Map",
    count: int | None = None,
    vectors: ArrayLike | None = None,
    model: JobModel = DEFAULT_MODEL,
    seed: int = 1,
    accept_license: bool = False,
    progress: bool = False,
) -> TextMap:
    """Draw texts on a map: near ones have near meanings, and regions have the names of topics.

    Distances within a region mean something, those between regions little: that is how such maps are.

    Args:
        texts: from 10 to 500,000.
        output: the HTML file to write; None: none.
        fields: columns with a value for each text, to colour by.
        title: of the page.
        count: the number of topics, as for ``find_topics``.
        vectors, model, seed, accept_license, progress: as for ``find_topics``.

    Raises:
        InputError: there are too few or too many texts, or a column has another length.
        MissingExtra: scikit-learn is not installed.
    """
    listed = many_texts(texts, "texts")
    require_items(listed, MIN_TEXTS, "A map")
    require_texts(title=title)
    if len(listed) > MAX_TEXTS:
        raise InputError(f"A map has at most {MAX_TEXTS:,} texts, and there are {len(listed):,}: draw a sample.")
    columns = _check_fields(fields, len(listed))
    if output is not None:
        require_writable(require_path("output", output))
    rows = vectors_of(listed, vectors, model, "clustering", accept_license=accept_license, progress=progress).rows
    topics = find_topics(listed, count=count, vectors=rows, seed=seed, progress=progress)
    result = TextMap(listed, lay_out(rows, seed), topics, columns)
    if output is not None:
        write_atomic(Path(output), result.to_html(title).encode("utf-8", "backslashreplace"))
    return result


def _check_fields(fields: Mapping[str, Sequence[object]] | None, count: int) -> dict[str, list[object]]:
    """Return the columns; raise InputError unless each has a value for each text."""
    require_mapping("fields", fields)
    columns = {name: require_list(f"The field {name!r}", values) for name, values in (fields or {}).items()}
    for name, values in columns.items():
        if len(values) != count:
            raise InputError(f"The field {name!r} has {len(values):,} values for {count:,} texts.", param="fields")
    return columns


def _numbered(values: Sequence[object]) -> tuple[list[str], Array]:
    """Return a column as its different values, the most frequent first, and the number of each row's value."""
    texts = np.array([str(value) for value in values])
    names, numbers, counts = np.unique(texts, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return [str(name) for name in names[order][:_MAX_VALUES]], np.minimum(rank[numbers], _MAX_VALUES)


def _encode(values: Array, kind: type[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()).decode()
