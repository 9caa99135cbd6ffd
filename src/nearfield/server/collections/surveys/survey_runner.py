"""Starts surveys, some at a time, each in a separate process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import msgspec

from nearfield.engine.turns import CALLER
from nearfield.errors import NearfieldError, Overloaded
from nearfield.fileio.locks import LockedFile, release_lock
from nearfield.server.collections.surveys.survey_folder import SurveyFolder, SurveyRequest
from nearfield.server.files.file_threads import in_thread
from nearfield.server.logs import LOG

#: Surveys that are computed at a time, that may wait beside them, and those of one owner.
_AT_A_TIME, _MAX_PENDING, _MAX_OWN = 1, 8, 3
#: Seconds that one may take.
_MAX_SECONDS = 1800.0
#: Bytes of what a failed process printed that are logged.
_LOGGED = 2_000
_MODULE = "nearfield.server.collections.surveys.survey_process"
#: Writes the passages of a survey to its folder.
Dump = Callable[[], Awaitable[None]]


class SurveyRunner:
    """The surveys that this process computes. It is used in one event loop."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._tasks: set[asyncio.Task[None]] = set()
        self._owners: Counter[str] = Counter()

    def check_room(self) -> None:
        """Raise Overloaded if too many surveys wait, of all clients or of this one."""
        if self._owners.total() >= _MAX_PENDING or self._owners[CALLER.get().owner] >= _MAX_OWN:
            raise Overloaded(
                "Too many maps and searches for duplicates are waiting. Try again later.", retry_after=10.0
            )

    def start(self, name: str, folder: SurveyFolder, lock: LockedFile, request: SurveyRequest, dump: Dump) -> None:
        """Begin a survey, which goes on when its client disconnects; ``lock`` is that of its folder."""
        owner = CALLER.get().owner
        self._owners[owner] += 1
        task = asyncio.get_running_loop().create_task(self._run(name, folder, request, dump))
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, owner, lock))

    def _finished(self, owner: str, lock: LockedFile, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._owners[owner] -= 1
        release_lock(lock)

    async def _run(self, name: str, folder: SurveyFolder, request: SurveyRequest, dump: Dump) -> None:
        try:
            async with self._slots:
                await in_thread(folder.remove_others)
                await dump()
                await self._compute(name, folder, request)
        except Exception as error:  # noqa: BLE001 - there is no request that it could be raised in
            if not isinstance(error, NearfieldError):
                LOG.exception("a survey of collection %r failed", name)
            await in_thread(_fail, folder, error)
        finally:
            await in_thread(folder.remove_inputs)

    async def _compute(self, name: str, folder: SurveyFolder, request: SurveyRequest) -> None:
        process = await in_thread(_start, str(folder.path), msgspec.json.encode(request).decode(), name)
        try:
            said = await asyncio.wait_for(_read_errors(process), _MAX_SECONDS)  # until the process ends
        except asyncio.TimeoutError as error:
            raise NearfieldError(f"It took more than {_MAX_SECONDS / 60:g} minutes, and was ended.") from error
        finally:
            await in_thread(_end, process)
        if process.returncode:
            LOG.error("a survey of collection %r failed: %s", name, said[-_LOGGED:].decode(errors="replace"))
            raise NearfieldError(f"The process that computes it ended with status {process.returncode}; see the log.")
        if not await in_thread(folder.is_finished):
            raise NearfieldError("The process that computes it ended without a result.")


def _start(*arguments: str) -> Popen[bytes]:
    """Start the process of a survey with the import path of this one; it ends when its input is closed.

    ``subprocess`` does not fork this process, as uvloop does: libraries with threads, such as LanceDB, may then hang.
    """
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    words = (sys.executable, "-m", _MODULE, *arguments)
    return Popen(words, stdin=PIPE, stdout=DEVNULL, stderr=PIPE, env=environment)


async def _read_errors(process: Popen[bytes]) -> bytes:
    """Return what a process writes to its stderr until it ends; end it if this is cancelled."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stderr)
    try:
        return await reader.read()
    except BaseException:
        process.kill()
        raise
    finally:
        transport.close()


def _end(process: Popen[bytes]) -> None:
    """Wait for the end of a process; one that still runs ends when its input is closed."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _fail(folder: SurveyFolder, error: Exception) -> None:
    if folder.path.is_dir():  # else the collection was dropped
        folder.remove_inputs()  # on a full disk, they leave no space for the error
        folder.fail(error)
