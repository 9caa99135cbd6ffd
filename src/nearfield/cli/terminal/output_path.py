"""Target: a file that a command will write when its work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nearfield.errors import InputError


def require_writable(path: Path | None) -> None:
    """See that a file can be written, before the work of hours that it is for; its folder is made.

    Raises:
        InputError: it cannot.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the file to write.", param="output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") if path.exists() else tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.", param="output") from error
