"""Sources: one file, one kind of place that documents come from."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nearfield.corpus.document import SourceItem
from nearfield.errors import InputError, nearest
from nearfield.registry import Registry

REGISTRY = Registry(
    "source",
    {
        "files": "nearfield.corpus.sources.files:FileSource",
        "table": "nearfield.corpus.sources.table:TableSource",
        "stdin": "nearfield.corpus.sources.stdin:StdinSource",
        "urls": "nearfield.corpus.sources.urls:UrlSource",
    },
    group="nearfield.sources",
)

#: Suffixes of files that hold a document in each row.
TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


class Source(ABC):
    """A place that documents come from. ``options`` can be said in JSON, and make the same source again."""

    #: The row of the shelf.
    kind: str
    #: Names and reasons of what the last listing left out that might have been wanted; of very many, the first ones.
    skipped: Sequence[tuple[str, str]] = ()

    #: Folders in which there are no documents, resolved: where what is made of them is kept.
    without: Sequence[Path] = ()

    #: Whether a listing is all there is, so that what it lacks is gone.
    whole: bool = True

    def __init__(self, location: str, **options: Any) -> None:
        self.location = location
        self.options = options

    @property
    def name(self) -> str:
        """What tells it from a collection's other sources, for good."""
        return f"{self.kind}:{self.location}"

    @abstractmethod
    def items(self) -> Iterator[SourceItem]:
        """Yield all documents to be, in an order that stays the same, each key once.

        Raises:
            InputError, OSError: the place cannot be listed; what was yielded before is not all there is.
        """

    def watch(self) -> list[str]:
        """Return the paths whose changes are changes of this source; none where that cannot be told."""
        return []


def open_source(kind: str, location: str, **options: Any) -> Source:
    """Return the source of a kind at a location.

    Raises:
        InputError: there is no such kind, or it does not take these options.
    """
    found = REGISTRY.load(kind)
    taken = inspect.signature(found).parameters
    known = [name for name, each in taken.items() if each.kind is each.KEYWORD_ONLY]
    open_ended = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    unknown = next((name for name in options if name not in known and not open_ended), None)
    if unknown is not None:
        raise InputError(
            f"A source of kind {kind!r} has no option {unknown!r}. {nearest(unknown, known)}", param=unknown
        )
    made: Source = found(location, **options)
    return made
