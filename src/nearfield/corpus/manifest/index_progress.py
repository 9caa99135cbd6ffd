"""How far an index run is, in a small file in the folder of the collection, for other processes to read.

The process that indexes holds the lock of the file, so that what a killed process left is known to be old.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import msgspec

from nearfield.fileio.locks import release_lock, try_lock, waiting_lock
from nearfield.progress import Progress, Shown

_FILE = "indexing.json"
#: Seconds between two writes.
_SECONDS = 0.5


class IndexProgress(msgspec.Struct, frozen=True):
    """What an index run has done: documents, parts of them included, of ``total`` (None: unknown), and tokens."""

    documents: float
    total: int | None
    tokens: int
    seconds: float
    label: str = ""

    @property
    def share(self) -> float | None:
        """The share of the documents that is done, 0 to 1; None if their number is unknown."""
        return None if self.total is None else min(1.0, self.documents / max(1, self.total))


def read_index_progress(folder: Path) -> IndexProgress | None:
    """Return how far the index run is that writes to a collection's folder; None if there is none."""
    path = folder / _FILE
    if not path.exists():
        return None
    lock = try_lock(path, required=False)
    if lock is not None:
        release_lock(lock)
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=IndexProgress)
    except (OSError, msgspec.DecodeError):  # it has just ended, or is being written
        return None


class SharedProgress(Progress):
    """A progress bar whose counts other processes can read."""

    def __init__(self, folder: Path, *, label: str, shown: Shown) -> None:
        super().__init__(None, label=label, unit="documents", shown=shown)
        self._path, self._file_lock, self._due = folder / _FILE, ExitStack(), 0.0

    def __enter__(self) -> SharedProgress:
        super().__enter__()
        with suppress(OSError):  # the run itself says what is wrong with the disk
            self._file_lock.enter_context(waiting_lock(self._path))
            self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._file_lock.close()
        super().__exit__(kind, error, trace)

    def set_total(self, total: int) -> None:
        """Set the number of documents, once it is known."""
        super().set_total(total)
        self._write()

    def relabel(self, label: str) -> None:
        """Change the label."""
        super().relabel(label)
        self._write_sometimes()

    def advance(self, texts: float, tokens: int, megapixels: float = 0.0) -> None:
        """Add the documents, or a part of one, and tokens done since the last call; may be called from any thread."""
        super().advance(texts, tokens, megapixels)
        self._write_sometimes()

    def _write_sometimes(self) -> None:
        with self._lock:
            if time.monotonic() < self._due:
                return
            self._due = time.monotonic() + _SECONDS
        self._write()

    def _write(self) -> None:
        counts = IndexProgress(round(self.texts, 4), self._total, self.tokens, round(self.seconds, 1), self._label)
        with suppress(OSError):
            self._path.write_bytes(msgspec.json.encode(counts))
