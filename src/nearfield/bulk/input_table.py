"""A data set of files, folders and patterns, read row by row with the columns that are carried over."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from nearfield.bulk.media_files.suffixes import MEDIA_SUFFIXES, TAR_SUFFIXES
from nearfield.bulk.text_source import STDIN, RowLocation, TextSource
from nearfield.errors import InputError
from nearfield.fileio.s3.matching import find_objects
from nearfield.fileio.s3.path import Location, S3Path, pin_versions

#: Suffixes of the files that are read in a folder. Plain text is read only if --format names it, because most
#: text files in a folder are not data.
_SUFFIXES = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "txt": (".txt", ".text", ".md"),
    "tar": TAR_SUFFIXES,
}
_TABLE_SUFFIXES = tuple(
    suffix for form, suffixes in _SUFFIXES.items() if form not in ("txt", "tar") for suffix in suffixes
)
_SUFFIXES |= MEDIA_SUFFIXES


def expand_locations(inputs: Sequence[Location], form: str | None, output: Location) -> tuple[Location, ...]:
    """Do what ``expand_paths`` does, also for inputs and outputs on S3; objects are returned with their versions.

    Raises:
        InputError: a folder holds no file of a known format, a pattern matches none, or there is no such object.
        OSError: a folder cannot be read.
    """
    known: set[Location] = set()
    locations: list[Location] = []
    for path in inputs:
        if isinstance(path, S3Path):
            files: list[Location] = [file for file in _expand_objects(path, form, output) if file not in known]
        elif path == STDIN or path.is_file() or not (path.is_dir() or glob.has_magic(str(path))):
            files = [path]
        else:
            files = [file for file in _expand(path, form, output) if file.resolve() not in known]
        locations += files
        known.update(file.resolve() if isinstance(file, Path) else file for file in files)
    return pin_versions(locations)


def expand_paths(inputs: Sequence[Path], form: str | None, output: Path) -> tuple[Path, ...]:
    """Return the files that files, folders and patterns stand for; those of a folder or pattern are sorted by path.

    Folders are searched recursively. Names that begin with a dot or an underscore are skipped, and so is the output's
    folder. A file that an earlier input named is not read again.

    Raises:
        InputError: a folder holds no file of a known format, or a pattern matches none.
        OSError: a folder cannot be read.
    """
    return tuple(path for path in expand_locations(inputs, form, output) if isinstance(path, Path))


def _expand(path: Path, form: str | None, output: Location) -> list[Path]:
    matches = [path] if path.is_dir() else glob_files(str(path))
    files = [file for match in matches for file in ([match] if match.is_file() else list_files(match, form))]
    written = output.resolve() if isinstance(output, Path) else None
    inputs = [file for file in files if written not in (file.resolve(), *file.resolve().parents)]
    if not inputs:
        raise _nothing_found(path, form, is_folder=path.is_dir())
    return inputs


def _expand_objects(path: S3Path, form: str | None, output: Location) -> Sequence[S3Path]:
    files = find_objects(path, suffixes_of(form))
    skipped = output if isinstance(output, S3Path) else None
    inputs = [file for file in files if skipped is None or file.key == path.key or not file.is_within(skipped)]
    if not inputs:
        raise _nothing_found(path, form, is_folder=not glob.has_magic(path.key))
    return inputs


def _nothing_found(path: Location, form: str | None, *, is_folder: bool) -> InputError:
    suffixes = ", ".join(suffixes_of(form))
    message = f"{path} holds no file that ends in {suffixes}." if is_folder else f"{path}: no file matches."
    return InputError(message, param="inputs")


def glob_files(pattern: str) -> list[Path]:
    """Return what a pattern matches, sorted."""
    # Path.glob takes no absolute pattern.
    return sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207


def list_files(path: Path, form: str | None) -> list[Path]:
    """Return the files of a format, or of tables, in a folder, sorted; or a file itself if its suffix is one of those.

    Links to folders may form a cycle and are not followed.
    """
    if path.is_file():
        return [path] if path.name.lower().endswith(suffixes_of(form)) else []
    files: list[Path] = []
    for parent, folders, names in os.walk(path, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        names = [name for name in names if not name.startswith((".", "_")) and name.lower().endswith(suffixes_of(form))]
        files += (file for file in (Path(parent, name) for name in names) if file.is_file())
    return sorted(files)


def _raise(error: OSError) -> None:
    raise error


def suffixes_of(form: str | None) -> tuple[str, ...]:
    """Return the suffixes of the files of a format that are read in a folder; None: those of tables."""
    return _TABLE_SUFFIXES if form is None else _SUFFIXES.get(form, (f".{form}",))


@dataclass(frozen=True)
class InputRow:
    """One row.

    Attributes:
        key: its id; None if there is none.
        text: its text; of other inputs, a text that changes with their content.
        columns: the columns that are carried over.
        location: where it is.
        where: what messages call it, if that is known.
        problem: why it cannot be read; empty if that is not known to be so.
    """

    key: object
    text: str
    columns: Mapping[str, object]
    location: RowLocation
    where: str = field(default="", kw_only=True)
    problem: str = field(default="", kw_only=True)

    def to_input(self) -> Any:
        """Return the input of an encoder."""
        return self.text

    def to_sample(self) -> Any:
        """Return what a sample of rows holds of this one."""
        return self.text


class RowSource(Protocol):
    """A data set, whose rows are read from any of them on. It can be pickled."""

    @property
    def unit(self) -> str:
        """What a row is called in reports."""

    @property
    def id_field(self) -> str | None:
        """What the ids are; None if they are row numbers."""

    @property
    def keep(self) -> tuple[str, ...]:
        """The columns that are carried over."""

    @property
    def paths(self) -> Sequence[Any]:
        """The files."""

    @property
    def sets_aside(self) -> bool:
        """Whether a row that cannot be read is left out and recorded; otherwise it is an error."""

    @property
    def usual_shard_rows(self) -> int:
        """Rows of a shard where nothing else is requested."""

    @property
    def plan_lasts(self) -> bool:
        """Whether a plan may be stored: only if the rows depend on the files of ``identity`` alone."""

    @property
    def sample_size(self) -> int:
        """Rows from which tokens and time are estimated."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What vectors depend on beside rows, model and options."""

    def identity(self) -> list[object]:
        """Return what distinguishes it from another data set, or from itself after a change."""

    def newest_change(self) -> float:
        """Return when a file was last written to, in seconds of the system's clock."""

    def format_of(self, path: Any) -> str:
        """Return the format in which a file is read."""

    def check_keep(self) -> None:
        """Raise InputError if no row had one of the columns; call it after all rows were read."""

    def full_rows(self, start: RowLocation | None = None) -> Iterator[InputRow]:
        """Yield the rows, all of them or those from ``start`` on."""

    def load(self, rows: Iterator[InputRow]) -> Iterator[InputRow]:
        """Yield rows of ``full_rows`` with what ``InputRow.to_input`` needs, in their order."""


@dataclass(frozen=True)
class _KeyAndColumns:
    """What the row of a table has beside its text."""

    key: object
    columns: Mapping[str, object]


@dataclass(frozen=True)
class InputTable(TextSource):
    """Texts with their ids and with the columns named in ``keep``."""

    keep: tuple[str, ...] = ()
    sets_aside: ClassVar[bool] = False
    plan_lasts: ClassVar[bool] = True
    usual_shard_rows: ClassVar[int] = 100_000
    #: Texts from which tokens and time are estimated.
    sample_size: ClassVar[int] = 512
    #: The columns of ``keep`` that at least one row had so far.
    seen: set[str] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.resumable:
            raise InputError(
                "A folder of shards is written in two passes, and stdin can be read only once: save it to a file "
                "first, or write to a single file.",
                param="inputs",
            )
        plain = next((path for path in self.paths if self.keep and self.format_of(path) == "txt"), None)
        if plain is not None:
            raise InputError(f"{plain}: plain text holds no columns. Leave --keep out.", param="keep")

    @property
    def columns(self) -> list[str]:
        """The fields that are read, without repetition."""
        return list(dict.fromkeys([*super().columns, *self.keep]))

    def pick(self, where: str, row: Mapping[str, object]) -> tuple[object, str]:
        """Return the id and the carried columns of a row, and its text. A field that a JSON line omits is None."""
        key, text = super().pick(where, row)
        self.seen.update(name for name in self.keep if name in row)
        return _KeyAndColumns(key, {name: row.get(name) for name in self.keep}), text

    @property
    def facts(self) -> Mapping[str, object]:
        """What vectors depend on beside rows, model and options: nothing."""
        return {}

    def load(self, rows: Iterator[InputRow]) -> Iterator[InputRow]:
        """Return rows as they are encoded."""
        return rows

    def check_keep(self) -> None:
        """Raise InputError if no row had one of the columns of ``keep``; call it after all rows were read."""
        missing = next((name for name in self.keep if name not in self.seen), None)
        if missing is not None:
            raise InputError(f"Check the names of the columns: no row has a field {missing!r}.", param="keep")

    def full_rows(self, start: RowLocation | None = None) -> Iterator[InputRow]:
        """Yield the rows with their columns, all of them or those from ``start`` on.

        Raises:
            InputError: a row cannot be read, or is a bare text although ``keep`` names columns.
        """
        for location, key, text in self.located_rows(start):
            if isinstance(key, _KeyAndColumns):
                yield InputRow(key.key, text, key.columns, location)
            elif self.keep:
                raise InputError(f"A line of JSON is a bare text, without the column {self.keep[0]!r}.", param="keep")
            else:
                yield InputRow(key, text, {}, location)
