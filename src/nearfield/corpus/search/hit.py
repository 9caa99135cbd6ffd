"""Found: what a search returns: a chunk, where it comes from, and why it is there."""

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
    """A chunk that was found. ``score`` is of the last stage, the higher the better; results come best first.

    ``document`` is the document's id, which names its source and key; ``highlights`` are the sentences of ``text`` that
    match best, each from start up to end in characters of it, the best first. ``also`` are other places where nearly
    the same text stands. ``stages`` tell the score (and rank, from 1) that each stage gave, such as
    ``{"dense": {"score": 0.71, "rank": 2}}``.
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

    def told(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return asdict(self)
