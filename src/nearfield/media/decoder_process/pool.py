"""`DecoderPool`: processes that decode files, with a deadline and a limit of memory for each file.

A process decodes many files. It is killed and replaced when a file crashes it, takes too long or takes all memory.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from nearfield import errors
from nearfield.arrays import Array
from nearfield.errors import InputError, ModelUnavailable, NearfieldError, TooLarge
from nearfield.fork_safety import PerProcess
from nearfield.media.decoder_process import messages
from nearfield.media.decoder_process.messages import (
    ChildMessage,
    JobMessage,
    ReplyMessage,
    ReserveMessage,
    StartMessage,
)
from nearfield.media.limits import decode_memory

ResultT = TypeVar("ResultT")

#: Processes of one parent at most.
MAX_PROCESSES = min(8, max(2, os.cpu_count() or 1))
#: Seconds for a process to start, and for one that runs to begin a job, on a busy machine.
_START_SECONDS, _BEGIN_SECONDS = 60.0, 10.0
#: Seconds in which a process ends that has closed its connection.
_EXIT_SECONDS = 2.0
#: Whether the thread may wait for a process.
_may_wait: ContextVar[bool] = ContextVar("nearfield_may_wait", default=True)
_NO_REPLY = "it sent no valid reply"


@dataclass(frozen=True)
class DecoderJob:
    """How a file is decoded.

    Args:
        task: a name of ``messages.TASKS``.
        name: what messages call the file.
        options: what the task needs to know: values that msgpack has.
        memory: bytes that the process may take for it.
        seconds: time for it; they begin again when memory that other decoders used is free.
    """

    task: str
    name: str
    options: Mapping[str, Any]
    memory: int
    seconds: float


@dataclass(frozen=True)
class DecoderResult:
    """What a task returned."""

    values: dict[str, Any]
    arrays: list[Array] = field(default_factory=list)


class ProcessNeeded(Exception):
    """A file needs a child process, and this thread may not wait for one."""


def without_processes(function: Callable[[], ResultT]) -> ResultT:
    """Call a function that may not wait for a child process.

    Raises:
        ProcessNeeded: it needs one. Nothing was decoded.
    """
    token = _may_wait.set(False)
    try:
        return function()
    finally:
        _may_wait.reset(token)


def _require_process() -> None:
    if not _may_wait.get():
        raise ProcessNeeded


def stream_decoder(job: DecoderJob, source: bytes | BinaryIO) -> Generator[DecoderResult, None, None]:
    """Yield the results of a task that yields several, as ``run_decoder`` returns one. Close it in the end.

    The time of a job begins again after each result. The process waits until its last result was taken, so that one is
    in memory at a time; it is killed if the results are not read to their end.
    """
    _require_process()
    return _pool.get(DecoderPool).stream(job, source)


def run_decoder(job: DecoderJob, source: bytes | BinaryIO) -> DecoderResult:
    """Decode bytes, or a regular file that is open, in a process of this program's pool. May be called from threads.

    Raises:
        InputError: the task refused the file; or it crashed the process, or took too long.
        TooLarge: it takes too much memory.
        MissingExtra: a library is not installed.
        ModelUnavailable: no process could be started.
    """
    _require_process()
    return _pool.get(DecoderPool).run(job, source)


class DecoderPool:
    """Processes that decode files, at most ``processes`` at the same time. They start when they are needed."""

    def __init__(self, processes: int = MAX_PROCESSES) -> None:
        self._slots = threading.BoundedSemaphore(processes)
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []

    def run(self, job: DecoderJob, source: bytes | BinaryIO) -> DecoderResult:
        """Decode a file; see ``run_decoder``."""
        with closing(self.stream(job, source)) as results:
            result = next(results)
            next(results, None)  # it ends: the process may be used again
            return result

    def stream(self, job: DecoderJob, source: bytes | BinaryIO) -> Generator[DecoderResult, None, None]:
        """Yield the results of a file; see ``stream_decoder``."""
        with self._slots:
            process = self._start(job, source)
            try:
                yield from process.results(job)
            except NearfieldError:  # of the task: the process is as before
                self._put_back(process)
                raise
            except BaseException as error:
                refusal = _refusal(job, error, process)
                process.kill()
                if refusal is None:
                    raise
                raise refusal from error
            self._put_back(process)

    def close(self) -> None:
        """End the processes that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def _start(self, job: DecoderJob, source: bytes | BinaryIO) -> DecoderProcess:
        """Return a process that has begun the job: an idle one may have ended before."""
        while (process := self._take()) is not None:
            if process.begin(job, source):
                return process
            process.kill()
        process = DecoderProcess()
        if not process.begin(job, source):
            process.kill()
            raise ModelUnavailable("The process that decodes pictures and sounds does not start.", retry_after=1.0)
        return process

    def _take(self) -> DecoderProcess | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put_back(self, process: DecoderProcess) -> None:
        with self._lock:
            self._idle.append(process)


class DecoderProcess:
    """One process and the connection to it."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            ModelUnavailable: the system starts no process.
        """
        self._link, child = socket.socketpair()
        self._seconds = _START_SECONDS
        # The parent's import path, and not the current directory, whatever it has.
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "MALLOC_ARENA_MAX": "2"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nearfield.media.decoder_process.worker"],
                stdin=child.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=os.sep,
                env=environment,
            )
        except OSError as error:
            self._link.close()
            raise ModelUnavailable(
                f"No process can be started that decodes pictures and sounds ({error.strerror or error}).",
                retry_after=1.0,
            ) from error
        finally:
            child.close()

    def begin(self, job: DecoderJob, source: bytes | BinaryIO) -> bool:
        """Send a job with its file; return whether the process has begun it, or False if it had ended."""
        size = len(source) if isinstance(source, bytes) else None
        message = JobMessage(job.task, dict(job.options), size, job.memory, job.seconds)
        until = time.monotonic() + self._seconds + job.seconds
        try:
            self._link.settimeout(self._seconds)
            messages.send_message(self._link, message)
            if isinstance(source, bytes):
                messages.send_bytes(self._link, source, until)
            else:
                socket.send_fds(self._link, [b"f"], [source.fileno()])
            started: Any = messages.receive_message(self._link, ChildMessage, until)
        except (EOFError, OSError, msgspec.DecodeError):
            return False
        self._seconds = _BEGIN_SECONDS
        return isinstance(started, StartMessage)

    def results(self, job: DecoderJob) -> Iterator[DecoderResult]:
        """Yield what the task of the job returns that has begun.

        Raises:
            TimeoutError: a result took too long.
            EOFError, OSError, msgspec.DecodeError: the process ended, or sent something else than a reply.
            NearfieldError: that of the task.
            MemoryError: there was too little memory.
        """
        until = time.monotonic() + job.seconds
        with ExitStack() as reserved:
            more = True
            while more:
                message: Any = messages.receive_message(self._link, ChildMessage, until)
                if isinstance(message, ReserveMessage):
                    reserved.enter_context(decode_memory().reserve(message.size))
                    self._link.settimeout(job.seconds)
                    self._link.sendall(messages.GRANTED)
                elif isinstance(message, ReplyMessage):
                    arrays = messages.receive_arrays(self._link, message.arrays, job.memory, until)
                    _raise_error(message)
                    more = message.more
                    if more or message.values or arrays:
                        yield DecoderResult(message.values, arrays)
                else:
                    raise msgspec.DecodeError(_NO_REPLY)
                until = time.monotonic() + job.seconds

    def end(self) -> str:
        """Return why the process has ended, which sends no reply any more."""
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(_EXIT_SECONDS)
            with suppress(ValueError):
                return signal.Signals(-code).name
            return f"exit code {code}"
        return _NO_REPLY

    def kill(self) -> None:
        """Kill the process, and close the connection."""
        self.process.kill()
        self.process.wait()
        self._link.close()


def _refusal(job: DecoderJob, error: BaseException, process: DecoderProcess) -> InputError | None:
    """Return the error of a file that has cost its process, or None if that is not the file's fault."""
    if isinstance(error, TimeoutError):
        return InputError(f"{job.name} takes more than {job.seconds:g} seconds to decode.")
    if isinstance(error, (EOFError, OSError, msgspec.DecodeError)):
        return InputError(f"{job.name} cannot be decoded: its decoder crashed ({process.end()}).")
    if isinstance(error, MemoryError):  # the heap is fragmented: the next file gets a new process
        return TooLarge(f"{job.name} needs more memory to decode than there is.")
    return None


def _raise_error(reply: ReplyMessage) -> None:
    """Raise the error of a reply, if it has one, by its class name."""
    if not reply.error:
        return
    if reply.error == MemoryError.__name__:
        raise MemoryError
    kind = getattr(errors, reply.error, None)
    if isinstance(kind, type) and issubclass(kind, InputError):
        raise kind(reply.message, param=reply.param)
    if isinstance(kind, type) and issubclass(kind, NearfieldError):
        raise kind(reply.message)
    raise RuntimeError(f"{reply.error}: {reply.message}")


_pool: PerProcess[DecoderPool] = PerProcess()


@atexit.register
def _end_idle_processes() -> None:
    pool = _pool.peek()
    if pool is not None:
        pool.close()
