"""Apart: extractors run in processes of their own, so that a parser which hangs, crashes or takes all memory costs its
document only: the process is ended, and another takes its place.

File and document pass through a folder, so that no pipe is ever left with half a message in it.
"""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as Late
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import context, popen_spawn_posix, spawn
from pathlib import Path
from typing import Any

import msgspec

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.errors import InputError, MissingExtra, NearfieldError

#: Seconds that a document may take, and bytes of memory.
DEADLINE, MEMORY = 120.0, 2**31
#: Seconds that a process may take to start, or to be ended.
_GRACE = 60.0


class ExtractorSandbox:
    """Some processes that extract. Threads may share it; it starts with its first document."""

    def __init__(self, *, deadline: float = DEADLINE, memory: int = MEMORY, workers: int = 1) -> None:
        self._deadline, self._memory, self._workers = deadline, memory, workers
        # No more is asked at once than there are processes: what waited in a queue would be lost with one.
        self._room = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._pool: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def extract(self, extractor: type[Extractor], data: bytes, name: str) -> Document:
        """Run an extractor, a class that can be imported.

        Raises:
            InputError: of the extractor; or it took too long, too much memory, or crashed.
            MissingExtra: a library is not installed.
        """
        with self._room:
            source, target = self._places()
            try:
                source.write_bytes(data)
                self._ask(extractor, source, name, target)
                return msgspec.json.decode(target.read_bytes(), type=Document)
            except OSError as error:
                raise InputError(f"{name}: cannot be read ({error}).") from error
            finally:
                source.unlink(missing_ok=True)
                target.unlink(missing_ok=True)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._stop()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def _places(self) -> tuple[Path, Path]:
        """Return where to put a file, and where its document will lie."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="nearfield-reading-", ignore_cleanup_errors=True)
            self._count += 1
            folder = Path(self._folder.name)
            return folder / f"{self._count}.in", folder / f"{self._count}.out"

    def _ask(self, extractor: type[Extractor], source: Path, name: str, target: Path) -> None:
        """Have it done; where a process was ended from outside, or with another's, once more."""
        try:
            if self._done(extractor, source, name, target) or self._done(extractor, source, name, target):
                return
        except MemoryError as error:
            raise InputError(f"{name}: takes more than {self._memory >> 20:,} MiB of memory to read.") from error
        except Late as error:
            raise InputError(f"{name}: took more than {self._deadline:g} seconds to read.") from error
        raise InputError(f"{name}: the process that reads it ended without an answer.")

    def _done(self, extractor: type[Extractor], source: Path, name: str, target: Path) -> bool:
        from pebble import ProcessExpired

        pool = self._started()
        try:
            args = [extractor, str(source), name, str(target), self._deadline]
            task = pool.schedule(_work, args=args, timeout=self._deadline)
            task.result(timeout=self._deadline + _GRACE)
        except NearfieldError:
            raise
        except ProcessExpired as error:
            raise InputError(f"{name}: the parser crashed on it (exit code {error.exitcode}).") from error
        except Late:
            if not task.done():  # the task was lost, and the process with it
                self._drop(pool)
            raise
        except (BrokenProcessPool, CancelledError, RuntimeError):
            self._drop(pool)
            return False
        return True

    def _started(self) -> Any:
        with self._lock:
            if self._pool is None:
                self._pool = _pool(self._workers, self._memory)
            return self._pool

    def _drop(self, pool: Any) -> None:
        with self._lock:
            if self._pool is pool:
                self._stop()

    def _stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()


def _pool(workers: int, memory: int) -> Any:
    try:
        from pebble import ProcessPool
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading documents needs pebble: pip install 'nearfield[corpus]'") from error
    return ProcessPool(max_workers=workers, initializer=_prepare, initargs=(memory,), context=_Context())


# -- within the process --------------------------------------------------------------------------------------------


def _prepare(memory: int) -> None:
    """Bound what the process may take beside what it has, and have the system end it first where memory runs out."""
    import contextlib
    import faulthandler
    import resource
    import warnings

    faulthandler.disable()
    warnings.simplefilter("ignore")
    held = 0
    with contextlib.suppress(OSError, ValueError):  # no Linux
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        Path("/proc/self/oom_score_adj").write_text("1000")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bound = held + memory if most == resource.RLIM_INFINITY else min(held + memory, most)
    resource.setrlimit(resource.RLIMIT_AS, (bound, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(extractor: type[Extractor], source: str, name: str, target: str, deadline: float) -> None:
    """Read the file at ``source`` and leave its document at ``target``."""
    import signal

    # Whoever started this process may be gone by the deadline.
    signal.setitimer(signal.ITIMER_REAL, deadline + _GRACE)
    try:
        document = extractor().extract(Path(source).read_bytes(), name)
        Path(target).write_bytes(msgspec.json.encode(document))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# -- how it starts -------------------------------------------------------------------------------------------------

_patching = threading.Lock()
_told = spawn.get_preparation_data


def _without_script(name: str) -> dict[str, Any]:
    return {key: value for key, value in _told(name).items() if not key.startswith("init_main")}


class _Popen(popen_spawn_posix.Popen):
    """Starts a process that does not run the user's script again, as spawned ones do: it needs nothing of it."""

    def _launch(self, process_obj: Any) -> None:
        with _patching:
            spawn.get_preparation_data = _without_script
            try:
                super()._launch(process_obj)  # type: ignore[misc]
            finally:
                spawn.get_preparation_data = _told


class _Process(context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the library's name
        return _Popen(process_obj)


class _Context(context.SpawnContext):
    Process = _Process
