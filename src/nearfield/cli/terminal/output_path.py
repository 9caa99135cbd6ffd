"""Check of the file that a command writes when its work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nearfield.errors import InputError


def require_writable(path: Path | None) -> None:
    """Check before hours of work that a file can be written; its folder is created.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file to write.", param="output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") if path.exists() else tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.", param="output") from error
