"""Sources of documents: the table of kinds of sources, one file for each.

To add one, copy ``stdin.py``, list the documents in ``items``, and add a row to ``REGISTRY``.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfield.corpus.document import SourceItem
from nearfield.errors import InputError, nearest
from nearfield.fileio.s3.path import refuse_object
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

#: Suffixes of files in which each row is a document.
TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


class Source(ABC):
    """A source of documents. ``options`` are JSON data from which the same source can be opened again."""

    #: Its name in ``REGISTRY``.
    kind: str
    #: Names of files that the last listing skipped, with the reasons; of very many, the first ones.
    skipped: Sequence[tuple[str, str]] = ()

    #: Resolved folders that contain no documents: a collection writes its own files there.
    without: Sequence[Path] = ()

    #: Whether pictures are documents, which OCR reads.
    pictures: bool = False
    #: Types of media files that are documents, since features read them: picture, pdf, sound, video.
    media: Collection[str] = ()

    #: Whether sounds and videos are documents, whose speech is recognised.
    recordings: bool = False

    #: Whether a listing is complete, so that documents missing from it were deleted.
    whole: bool = True

    #: The options that ``open_source`` got; None if the source was created otherwise, with all of its options.
    stated: Mapping[str, Any] | None = None

    def __init__(self, location: str, **options: Any) -> None:
        self.location = location
        self.options = options

    @property
    def name(self) -> str:
        """The unique name among a collection's sources; it never changes."""
        return f"{self.kind}:{self.location}"

    @abstractmethod
    def items(self) -> Iterator[SourceItem]:
        """Yield all documents, each key once, in the same order each time.

        Raises:
            InputError, OSError: the source cannot be listed completely; documents may be missing from the listing.
        """

    def watch(self) -> list[str]:
        """Return the paths to watch for changes of this source; empty if it cannot be watched."""
        return []


def open_source(kind: str, location: str, **options: Any) -> Source:
    """Return the source of a kind at a location.

    Raises:
        InputError: there is no such kind, it has no such option, or the location is an object on S3.
    """
    refuse_object(location, param="source")
    source_class: type[Source] = REGISTRY.load(kind)
    parameters = inspect.signature(source_class).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = next((name for name in options if name not in known and not open_ended), None)
    if unknown is not None:
        raise InputError(
            f"A source of kind {kind!r} has no option {unknown!r}. {nearest(unknown, known)}", param=unknown
        )
    source = source_class(location, **options)
    source.stated = options
    return source
