"""Texts of the user as a sample: files, folders of files, or the chunks of a collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from nearfield.bulk.text_source import TextSource
from nearfield.corpus.collection import Collection, list_collections
from nearfield.errors import InputError, nearest
from nearfield.hub import existing_path

#: Files of a folder that are read, by their suffix.
SUFFIXES = (".txt", ".md", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


def read_sample(places: Sequence[str | Path], *, field: str = "text", limit: int | None = None) -> list[str]:
    """Return the texts of files, folders and collections that are not empty, at most ``limit``.

    Args:
        places: paths, or names of collections where there is no such path. Plain text has one text in each line.
        field: column or field of the text in tables.
        limit: the most texts; None: all.

    Raises:
        InputError: there is no such file, folder or collection, or there are no texts.
    """
    texts = list(islice((text for place in places for text in _texts(place, field) if text.strip()), limit))
    if not texts:
        raise InputError(f"There are no texts in {', '.join(map(str, places))}.", param="texts")
    return texts


def _texts(place: str | Path, field: str) -> Iterator[str]:
    path = existing_path(str(place))
    if path is None:
        yield from _chunks(str(place))
        return
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    for file in files:
        for _, text in TextSource((file,), None, field, None).rows():
            yield text


def _chunks(name: str) -> Iterator[str]:
    """Yield the texts that the model of a collection reads."""
    if name not in list_collections():
        raise InputError(f"There is no file, folder or collection {name!r}. {nearest(name, list_collections())}")
    with Collection.open(name) as collection:
        after = None
        while page := collection.documents(limit=500, after=after):
            for info in page:
                yield from (chunk.embedded for chunk in collection.manifest.chunks(info.id))
            after = page[-1].id
