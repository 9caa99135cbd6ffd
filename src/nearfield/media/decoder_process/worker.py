"""The process that decodes files: it runs the jobs that arrive on its connection, until that is closed.

``pool.py`` starts it with ``python -m``. A job is acknowledged before it runs, so that the parent can distinguish a
process that a file has crashed from one that had ended before.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import resource
import select
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from nearfield.arrays import Array
from nearfield.errors import InputError, NearfieldError
from nearfield.hardware import return_memory
from nearfield.media.decoder_process import messages
from nearfield.media.decoder_process.messages import JobMessage, ReplyMessage, ReserveMessage, StartMessage
from nearfield.media.limits import ByteSemaphore, replace_decode_memory

#: What a decoder returns: values that msgpack has, and arrays.
Decoded = tuple[dict[str, Any], list[Array]]
#: A function that decodes an open file with the options of the job. It returns a result, or yields several.
DecodeTask = Callable[[BinaryIO, dict[str, Any]], Decoded | Iterator[Decoded]]
#: Seconds without a job after which the process ends.
IDLE_SECONDS = 60.0
#: Bytes of a result from which on freed memory is returned to the system.
_LARGE = 2**22
#: Seconds of the processor beyond those of the job at which the system ends the process, if its parent does not.
_GRACE = 60


class ParentMemory(ByteSemaphore):
    """The memory of all decoders of the parent. What is reserved is free again once the parent has the reply."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__(0)
        self._link = link

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until the parent has reserved ``size`` bytes."""
        messages.send_message(self._link, ReserveMessage(size))
        messages.receive_bytes(self._link, len(messages.GRANTED))
        yield


def main() -> None:
    """Run the jobs that arrive until the connection is closed, or until there was none for a while."""
    link = socket.socket(fileno=0)
    # The parent handles an interrupt of the keyboard, and closes the connection.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.disable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not Linux: when memory runs out, the system ends this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    replace_decode_memory(ParentMemory(link))
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while select.select([link], [], [], IDLE_SECONDS)[0]:
            _run(link, messages.receive_message(link, JobMessage))


def _run(link: socket.socket, job: JobMessage) -> None:
    messages.send_message(link, StartMessage())
    largest = 0
    with _source(link, job) as file:
        for reply, arrays in _replies(job, file):
            messages.send_message(link, reply)
            messages.send_arrays(link, arrays)
            largest = max(largest, sum(array.nbytes for array in arrays))
            del arrays
    if largest > _LARGE:
        return_memory()


def _source(link: socket.socket, job: JobMessage) -> BinaryIO:
    """Return the file of a job: its bytes, or the one whose descriptor the parent sends."""
    if job.size is not None:
        return io.BytesIO(messages.receive_bytes(link, job.size))
    _, descriptors, _, _ = socket.recv_fds(link, 1, 1)
    return open(descriptors[0], "rb")  # noqa: PTH123 - a descriptor has no path


def _replies(job: JobMessage, file: BinaryIO) -> Iterator[tuple[ReplyMessage, list[Array]]]:
    """Yield the results of a job, or its error, each with the arrays that follow it."""
    try:
        module, _, name = messages.TASKS[job.task].partition(":")
        task: DecodeTask = getattr(import_module(module), name)
        _limit(job)
        file.seek(0)
        result = task(file, job.options)
        if isinstance(result, tuple):
            yield _reply(*result)
            return
        for values, arrays in result:
            yield _reply(values, arrays, more=True)
        yield ReplyMessage(), []
    except NearfieldError as error:
        param = error.param if isinstance(error, InputError) else None
        yield ReplyMessage(type(error).__name__, str(error), param), []
    except Exception as error:  # noqa: BLE001 - the parent raises it
        kind = MemoryError if isinstance(error, MemoryError) else type(error)
        yield ReplyMessage(kind.__name__, str(error)), []


def _reply(values: dict[str, Any], arrays: list[Array], *, more: bool = False) -> tuple[ReplyMessage, list[Array]]:
    return ReplyMessage(values=values, arrays=[messages.head_of(array) for array in arrays], more=more), arrays


def _limit(job: JobMessage) -> None:
    """Limit the memory beyond what the process uses now, and the time of the processor."""
    with contextlib.suppress(OSError, ValueError):  # not Linux
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _set_limit(resource.RLIMIT_AS, used + job.memory)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _set_limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime + job.seconds) + _GRACE)


def _set_limit(kind: int, value: int) -> None:
    _, maximum = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if maximum == resource.RLIM_INFINITY else min(value, maximum), maximum))


if __name__ == "__main__":
    main()
