"""The items of a survey, passages or whole documents, as its process reads them from the survey's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.server.collections.surveys.survey_folder import SurveyFolder, SurveyRequest
from nearfield.vectors.dense import normalize

#: Characters of a text in a result.
SHOWN_CHARACTERS = 200
_SEPARATOR = "\n"


@dataclass(frozen=True)
class SurveyedItem:
    """A passage, or a document with the texts of its passages; ``rows`` are those of its vectors.

    ``number`` is the place of a passage in its document, from 0; ``aside`` says that it is stored once, as another one.
    """

    id: str
    document: str
    title: str
    number: int
    kind: str
    aside: bool
    fields: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text; for media, which have none, the title."""
        return _SEPARATOR.join(self.texts) or f"{self.kind} {self.title}"

    def to_dict(self) -> dict[str, object]:
        """Return what identifies the item for a client, with the start of its text."""
        texts = {"title": self.title[:SHOWN_CHARACTERS], "text": self.text[:SHOWN_CHARACTERS]}
        return {"id": self.id, "document": self.document, "number": self.number, "kind": self.kind, **texts}


def read_items(folder: SurveyFolder, request: SurveyRequest) -> tuple[list[SurveyedItem], Array]:
    """Return the items of a survey that have vectors, and these as float32 [n, dim] of unit length."""
    items = [item for item in _items(folder, request) if item.rows]
    vectors: Array = np.load(folder.vectors, mmap_mode="r")
    means = np.empty((len(items), vectors.shape[1]), np.float32)
    for number, item in enumerate(items):
        means[number] = normalize(np.asarray(vectors[item.rows], np.float32)).mean(0)
    return items, normalize(means)


def _items(folder: SurveyFolder, request: SurveyRequest) -> list[SurveyedItem]:
    rows = sorted(_read_lines(folder), key=lambda row: (row["document"], row["ordinal"]))
    if request.of == "documents":
        return _by_document(rows)
    if request.kind == "map":  # what is stored once is one point
        rows = [row for row in rows if not row["aside"]]
    return [_item(row, row["id"]) for row in rows]


def _read_lines(folder: SurveyFolder) -> Iterator[dict[str, Any]]:
    with folder.passages.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _item(row: dict[str, Any], key: str) -> SurveyedItem:
    own = [row["row"]] if row["row"] >= 0 else []
    texts = [row["text"]] if row["text"] else []
    return SurveyedItem(
        key, row["document"], row["title"], row["ordinal"], row["kind"], row["aside"], row["fields"], texts, own
    )


def _by_document(rows: list[dict[str, Any]]) -> list[SurveyedItem]:
    items: dict[str, SurveyedItem] = {}
    for row in rows:
        one = _item({**row, "ordinal": 0, "aside": False}, row["document"])
        item = items.setdefault(row["document"], one)
        if item is not one:
            item.texts.extend(one.texts)
            item.rows.extend(one.rows)
    return list(items.values())
