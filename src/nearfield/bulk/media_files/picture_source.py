"""Pictures of files, folders and patterns, as a source of bulk embedding: one row for each, its path as the id."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from nearfield.bulk.input_table import expand_paths
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, PICTURES
from nearfield.errors import InputError
from nearfield.media.decoding import check_sides
from nearfield.media.files import open_regular_file
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS
from nearfield.media.picture.picture_header import read_header
from nearfield.message_text import count_of

SizeT = TypeVar("SizeT", int, float)
#: Unreadable files that a message names.
_NAMED = 10


class PictureSource:
    """Files of pictures, in the order of their paths. Ids are paths below the folder, if one folder is the only input.

    Otherwise they are the paths as they were written.

    Args:
        inputs: files, folders and patterns.
        output: what the run writes, which is no input.
        skip_unreadable: decode every picture once before the work, and leave out those that cannot be read.
        on_skipped: called with a message for each of them.
    """

    unit = "picture"
    form: ClassVar[str] = PICTURES
    id_field = "path"
    resumable = True

    def __init__(
        self,
        inputs: Sequence[Path],
        output: Path,
        *,
        skip_unreadable: bool = False,
        on_skipped: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.paths = expand_paths(inputs, self.form, output)
        self.skipped = 0
        self._root = inputs[0] if len(inputs) == 1 and inputs[0].is_dir() else None
        self._skip_unreadable = skip_unreadable
        self._on_skipped = on_skipped
        self._pixels: list[int] = []
        self._hash, self._hashed = hashlib.sha256(), 0

    def identity(self) -> list[object]:
        """Return what distinguishes this source from another, beside its files."""
        return [self.form, None if self._root is None else str(self._root.resolve())]

    def digest(self, rows: int) -> str:
        """Return a digest of the files of the first rows, by names, sizes and times of change.

        A run can be resumed if those files are the same that it has encoded, whatever follows.
        """
        if rows < self._hashed:
            self._hash, self._hashed = hashlib.sha256(), 0
        for path in self.paths[self._hashed : rows]:
            status = path.stat()
            self._hash.update(json.dumps([str(path.resolve()), status.st_size, status.st_mtime_ns]).encode() + b"\n")
        self._hashed = rows
        return self._hash.hexdigest()

    def count(self, on_id: Callable[[object], None] = lambda _: None) -> int:
        """Return the number of pictures, after reading the header of each, or with ``skip_unreadable`` all of it.

        Raises:
            InputError: some cannot be read; the message names the first ones.
        """
        sizes = self._check_files(_decode if self._skip_unreadable else _read_header)
        self._pixels = [0, *accumulate(sizes)]
        for key, _ in self.rows():
            on_id(key)
        return len(sizes)

    def _check_files(self, check: Callable[[Path], SizeT]) -> list[SizeT]:
        """Return what a function returns for each file. Those for which it raises InputError are left out, if allowed.

        Raises:
            InputError: some cannot be read; the message names the first ones.
        """
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            results = list(threads.map(partial(_try, check), self.paths))
        errors = [result for result in results if isinstance(result, InputError)]
        if errors and not self._skip_unreadable:
            raise _unreadable(errors, len(self.paths), self.form)
        for error in errors:
            self._on_skipped(f"{error} It is left out.")
        read = [
            (path, size) for path, size in zip(self.paths, results, strict=True) if not isinstance(size, InputError)
        ]
        self.paths, self.skipped = tuple(path for path, _ in read), len(errors)
        return [size for _, size in read]

    def rows(self) -> Iterator[tuple[str, Any]]:
        """Yield id and picture; a picture is opened when it is encoded."""
        for path in self.paths:
            yield self._name_of(path), Image(path=path)

    def _name_of(self, path: Path) -> str:
        return (path if self._root is None else path.relative_to(self._root)).as_posix()

    def megapixels(self, start: int, stop: int) -> float:
        """Return the millions of pixels of some rows, after ``count``."""
        return (self._pixels[stop] - self._pixels[start]) / 1e6

    def seconds(self, rows: int) -> float:  # noqa: ARG002 - videos and sounds have some
        """Return the seconds of the first rows: none."""
        return 0.0

    def times(self, start: int, stop: int) -> Mapping[str, list[float]]:  # noqa: ARG002 - as above
        """Return the columns of seconds of some rows: none."""
        return {}


def _try(check: Callable[[Path], SizeT], path: Path) -> SizeT | InputError:
    try:
        return check(path)
    except InputError as error:
        return error


def _read_header(path: Path) -> int:
    limits = DEFAULT_PICTURE_LIMITS
    with open_regular_file(path, limits.max_bytes) as file:
        header = read_header(file, limits, str(path))
    check_sides(header.width, header.height, limits, str(path))
    return header.width * header.height


def _decode(path: Path) -> int:
    picture = Image(path=path).read()
    return picture.width * picture.height


def _unreadable(errors: Sequence[InputError], total: int, form: str) -> InputError:
    total_files = count_of(total, MEDIA_NOUNS[form])
    more = f"\n  and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
    names = "".join(f"\n  {error}" for error in errors[:_NAMED])
    return InputError(
        f"{len(errors):,} of {total_files} cannot be read. Remove them, or add --skip-unreadable:{names}{more}",
        param="inputs",
    )
