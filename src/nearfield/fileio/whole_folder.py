"""Folders that appear whole: they are filled in a temporary place and renamed, so that no reader sees a part of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nearfield.errors import InputError
from nearfield.fileio.disk_space import explain_full_disk
from nearfield.fileio.output_path import probe_writing


def require_new_folder(folder: Path, param: str = "output") -> None:
    """Check before hours of work that a folder can be created, or is there, empty and writable; nothing is left.

    Raises:
        InputError: it is there with something in it, is a file, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already, and is not empty: name a new folder.", param=param)
    try:
        probe_writing(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}.", param=param) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` at the end of the block, unless the block raises.

    A folder that is there must be empty. It stays, and is filled by renaming: it may be a mount point.

    Raises:
        StorageFull: the disk is full.
    """
    place = folder.resolve()
    is_there = place.is_dir()
    parent = place if is_there else place.parent
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{place.name}-"
    with explain_full_disk(parent, continues=False), TemporaryDirectory(prefix=prefix, dir=parent) as temporary:
        partial = Path(temporary) / (place.name or "new")
        partial.mkdir()
        yield partial
        if is_there:
            for path in list(partial.iterdir()):
                path.rename(place / path.name)
        else:
            partial.rename(place)
