"""The folder of a survey, in that of its collection: what it reads, how far it is, and its result or its error.

The server that computes a survey holds the lock of its folder. All of them read progress and result from it, so that
it does not matter which process a client asks, or whether it was restarted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from nearfield import __version__
from nearfield.errors import InputError, NearfieldError, Overloaded, StoreFailed, TooLarge
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.locks import LockedFile, release_lock, try_lock

_FOLDER = "surveys"
#: Errors that keep their status.
_ERRORS = (InputError, Overloaded, StoreFailed, TooLarge)
#: Finished surveys of a collection that are stored.
_MAX_STORED = 8
SurveyKind = Literal["map", "duplicates"]


class SurveyRequest(msgspec.Struct, frozen=True):
    """What is asked of a collection: a map or duplicates, of passages or of documents, by the vectors of a feature.

    ``meaning`` also compares texts by vectors whose cosine is ``threshold`` or more; ``similarity`` is the share of
    common character 5-grams of near copies.
    """

    kind: SurveyKind
    of: Literal["passages", "documents"]
    feature: str
    meaning: bool = False
    similarity: float = 0.8
    threshold: float = 0.97


@dataclass(frozen=True)
class SurveyProgress:
    """What is being done, and the share that is done, 0 to 1."""

    step: str
    share: float


class SurveyError(msgspec.Struct):
    """An error by the name of its class: one of ``_ERRORS``, or else a failure of the server."""

    kind: str
    message: str

    def to_error(self) -> NearfieldError:
        """Return the error itself."""
        known: dict[str, type[NearfieldError]] = {kind.__name__: kind for kind in _ERRORS}
        return known.get(self.kind, NearfieldError)(self.message)


class SurveyFolder:
    """The folder of one survey of one state of a collection. All methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_request(cls, collection: Path, state: str, request: SurveyRequest) -> SurveyFolder:
        """Return the folder for a request and the digest of a collection's state; it need not exist."""
        options = hashlib.sha256(__version__.encode() + msgspec.json.encode(request)).hexdigest()[:16]
        return cls(collection / _FOLDER / state / f"{request.kind}-{options}")

    @property
    def result(self) -> Path:
        """The file with the body of the response, once the survey is done."""
        return self.path / "result.json"

    @property
    def passages(self) -> Path:
        """The passages of the collection, one a line."""
        return self.path / "passages.jsonl"

    @property
    def vectors(self) -> Path:
        """Their vectors, float32 [n, dim]."""
        return self.path / "vectors.npy"

    def begin(self) -> LockedFile | None:
        """Return the lock of a survey that is to be computed now; None if it is done, or another request computes it.

        Raises:
            NearfieldError: it has failed since the last request; the next one tries again.
        """
        if self.result.exists():
            return None
        for folder in (self.path.parent.parent, self.path.parent, self.path):
            folder.mkdir(mode=0o700, exist_ok=True)  # without parents: a collection that is being dropped stays gone
        lock = try_lock(self.path / "lock", mode=0o600)
        if lock is None or self.result.exists():
            if lock is not None:
                release_lock(lock)
            return None
        error = self._take_error()
        if error is not None:
            release_lock(lock)
            raise error
        try:
            self.report("waits", 0.0)
        except BaseException:
            release_lock(lock)
            raise
        return lock

    def discard(self) -> None:
        """Remove the folder of a survey that is not computed, and of its state if there is no other."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.path.parent.rmdir()

    def remove_others(self) -> None:
        """Remove surveys of earlier states of the collection, and the oldest of this one."""
        states = self.path.parent
        for folder in states.parent.iterdir():
            if folder != states:
                shutil.rmtree(folder, ignore_errors=True)
        done = sorted(states.glob("*/result.json"), key=lambda path: path.stat().st_mtime)
        for path in done[: 1 - _MAX_STORED]:
            shutil.rmtree(path.parent, ignore_errors=True)

    def report(self, step: str, share: float) -> None:
        """Record how far the survey is."""
        write_atomic(self.path / "progress.json", json.dumps(asdict(SurveyProgress(step, round(share, 3)))))

    def progress(self) -> SurveyProgress:
        """Return how far the survey is."""
        try:
            return msgspec.json.decode((self.path / "progress.json").read_bytes(), type=SurveyProgress)
        except (OSError, msgspec.DecodeError):  # it has just begun
            return SurveyProgress("waits", 0.0)

    def fail(self, error: Exception) -> None:
        """Record why the survey failed, for the next request."""
        is_known = isinstance(error, NearfieldError)
        message = str(error) if is_known else "The server could not compute it; see its log."
        name = type(error).__name__ if is_known else NearfieldError.__name__
        write_atomic(self.path / "error.json", msgspec.json.encode(SurveyError(name, message)))

    def is_finished(self) -> bool:
        """Return whether there is a result, or an error of the computation."""
        return self.result.exists() or (self.path / "error.json").exists()

    def _take_error(self) -> NearfieldError | None:
        path = self.path / "error.json"
        try:
            error = msgspec.json.decode(path.read_bytes(), type=SurveyError).to_error()
        except (OSError, msgspec.DecodeError):
            return None
        path.unlink(missing_ok=True)
        return error

    def remove_inputs(self) -> None:
        """Remove what only the computation needs."""
        for path in (self.passages, self.vectors):
            path.unlink(missing_ok=True)

    def parts(self, size: int = 2**20) -> Iterator[bytes]:
        """Yield the result in parts."""
        with self.result.open("rb") as file:
            while part := file.read(size):
                yield part
