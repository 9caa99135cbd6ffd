"""Errors of a full disk: recognised whatever library reports them, and raised as one plain error."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearfield.errors import NearfieldError, StorageFull

_TEXT = re.compile(r"no space left on device|disk is full|os error 28\b|disk quota exceeded", re.IGNORECASE)
#: SQLite's error for a full disk where it opens a database, whose message is "disk I/O error".
_SHARED_MEMORY = "SQLITE_IOERR_SHMSIZE"


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is that of a full disk."""
    for _ in range(20):  # a chain may be a cycle
        if error is None:
            return False
        if _says_so(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _says_so(error: BaseException) -> bool:
    by_number = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return by_number or getattr(error, "sqlite_errorname", "") == _SHARED_MEMORY or bool(_TEXT.search(str(error)))


@contextmanager
def explain_full_disk(folder: Path, *, continues: bool = True) -> Iterator[None]:
    """Raise errors of a full disk during the block as ``StorageFull``. ``folder`` is what the block writes to.

    ``continues`` says whether the work goes on where it stopped if it is started again.

    Raises:
        StorageFull: the disk is full; the message says what to do.
    """
    try:
        yield
    except StorageFull:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        reason = str(error) if isinstance(error, NearfieldError) else f"{type(error).__name__}: {error}"
        again = "again: it continues where it stopped." if continues else "again."
        raise StorageFull(
            f"The disk is full ({reason}). Free some space for {folder} or the temporary folder, and run the command "
            f"{again}"
        ) from error
