"""A data set: files, folders and patterns of tables, read row by row with the columns that are carried over."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfield.bulk.text_source import STDIN, TextSource
from nearfield.errors import InputError

#: What is read in a folder; plain text only where it is asked for by name, because most of it is no data.
_SUFFIXES = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "txt": (".txt", ".text", ".md"),
}
_TABLES = tuple(suffix for form, suffixes in _SUFFIXES.items() if form != "txt" for suffix in suffixes)


def expand_paths(inputs: Sequence[Path], form: str | None, output: Path) -> tuple[Path, ...]:
    """Return the files that are meant by files, folders and patterns: those of a folder or pattern sorted by path.

    Folders are searched to the bottom; names that begin with a dot or an underscore are passed by, and so is the
    output's folder. What an earlier input named already is not read again.

    Raises:
        InputError: a folder holds no file of a known format, or a pattern matches none.
        OSError: a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    plain: list[Path] = []
    for given in inputs:
        if given == STDIN or given.is_file() or not (given.is_dir() or glob.has_magic(str(given))):
            plain.append(given)
            found.setdefault(given.resolve(), given)
            continue
        fresh = [path for path in _meant(given, form, output) if path.resolve() not in found]
        plain += fresh
        found.update((path.resolve(), path) for path in fresh)
    return tuple(plain)


def _meant(given: Path, form: str | None, output: Path) -> list[Path]:
    matches = [given] if given.is_dir() else _matches(str(given))
    files = [path for match in matches for path in ([match] if match.is_file() else _inside(match, form))]
    written = output.resolve()
    found = [path for path in files if written not in (path.resolve(), *path.resolve().parents)]
    if not found:
        kinds = ", ".join(_known(form))
        raise InputError(
            f"{given}: no file matches." if not given.is_dir() else f"{given} holds no file that ends in {kinds}.",
            param="inputs",
        )
    return found


def _matches(pattern: str) -> list[Path]:
    # Path.glob takes no absolute pattern.
    return sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207


def _inside(folder: Path, form: str | None) -> list[Path]:
    """Return a folder's files of known formats, sorted; links to folders are not followed, and so cannot go round."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        wanted = (name for name in names if not name.startswith((".", "_")) and name.lower().endswith(_known(form)))
        found += (path for path in (Path(place, name) for name in wanted) if path.is_file())
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _known(form: str | None) -> tuple[str, ...]:
    return _TABLES if form is None else _SUFFIXES.get(form, (f".{form}",))


@dataclass(frozen=True)
class InputRow:
    """A row: its id (None where there is none), its text, and the columns that are carried over."""

    key: Any
    text: str
    kept: Mapping[str, Any]


@dataclass(frozen=True)
class _Carried:
    """What a table's row has beside its text."""

    key: Any
    kept: Mapping[str, Any]


@dataclass(frozen=True)
class InputTable(TextSource):
    """Texts, with their ids and with the columns named in ``keep``."""

    keep: tuple[str, ...] = ()
    #: Those columns to keep that a row has had so far.
    seen: set[str] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.resumable:
            raise InputError(
                "A folder of shards is made in two passes, and stdin can be read but once: put it into a file first, "
                "or write to a single file.",
                param="inputs",
            )
        plain = next((path for path in self.paths if self.keep and self.form_of(path) == "txt"), None)
        if plain is not None:
            raise InputError(f"{plain}: plain text holds no columns. Leave --keep out.", param="keep")

    @property
    def columns(self) -> list[str]:
        """The fields that are read, each once."""
        return list(dict.fromkeys([*super().columns, *self.keep]))

    def pick(self, where: str, row: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a row's id and kept columns, and its text. A field that a line of JSON leaves out is None."""
        key, text = super().pick(where, row)
        self.seen.update(name for name in self.keep if name in row)
        return _Carried(key, {name: row.get(name) for name in self.keep}), text

    def check_kept(self) -> None:
        """Refuse a column that no row had, once all were read.

        Raises:
            InputError: there is such a column.
        """
        missing = next((name for name in self.keep if name not in self.seen), None)
        if missing is not None:
            raise InputError(f"No row has a field {missing!r} that could be kept.", param="keep")

    def wide(self) -> Iterator[InputRow]:
        """Yield the rows.

        Raises:
            InputError: a row cannot be read, or holds a bare text where columns are to be kept.
        """
        for head, text in self.rows():
            if isinstance(head, _Carried):
                yield InputRow(head.key, text, head.kept)
            elif self.keep:
                raise InputError(f"A line of JSON is a bare text, without the column {self.keep[0]!r}.", param="keep")
            else:
                yield InputRow(head, text, {})
