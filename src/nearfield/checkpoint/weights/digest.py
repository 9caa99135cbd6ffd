"""SHA-256 of weight files, remembered by path, size and time of change, so that a start need not read them twice."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from nearfield.fileio.atomic import write_atomic

logger = logging.getLogger(__name__)


def of_files(files: Iterable[Path]) -> str:
    """Return one digest over the names and contents of files, whatever their order."""
    total = hashlib.sha256()
    for file in sorted(files, key=lambda path: path.name):
        total.update(f"{file.name}\0{of_file(file)}\n".encode())
    return total.hexdigest()


def of_file(file: Path) -> str:
    """Return the SHA-256 of a file's content in hex, from the cache when the file has not changed since."""
    from nearfield.settings import cache_dir

    real = file.resolve()
    state = real.stat()
    key = hashlib.sha256(f"{real}\0{state.st_size}\0{state.st_mtime_ns}".encode()).hexdigest()
    note = cache_dir() / "digests" / key
    try:
        known = note.read_text(encoding="ascii").strip()
        if len(known) == 64:
            return known
    except (OSError, ValueError) as error:
        logger.debug("no digest cached for %s (%s)", file, error)
    digest = _hash(real)
    _remember(note, digest)
    return digest


def _hash(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(2**22):
            total.update(piece)
    return total.hexdigest()


def _remember(note: Path, digest: str) -> None:
    """Write the note in one step. A cache that cannot be written costs time, never a failure."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, digest, shared=True)
    except OSError as error:
        logger.debug("digest not cached: %s", error)
