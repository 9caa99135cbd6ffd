"""Search hits: the chunks that a search returns, with their documents, places and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfield.stores.filters import Value


@dataclass(frozen=True)
class Location:
    """A place in a document, in characters of its text as extracted."""

    document: str
    start: int
    end: int
    page: int | None = None


@dataclass(frozen=True)
class SearchHit:
    """A chunk that matches a query. ``score`` is that of the last stage, the higher the better; the best hit is first.

    ``document`` is the document's id, which names its source and key; ``highlights`` are the sentences of ``text`` that
    match best, each from start to end in characters of it, the best first. ``also`` are other places with nearly the
    same text. ``stages`` are the score and rank (from 1) by stage, such as ``{"dense": {"score": 0.71, "rank": 2}}``.
    """

    id: str
    document: str
    score: float
    text: str
    title: str = ""
    start: int = 0
    end: int = 0
    page: int | None = None
    headings: tuple[str, ...] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
    highlights: tuple[tuple[int, int], ...] = ()
    also: tuple[Location, ...] = ()
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return asdict(self)
