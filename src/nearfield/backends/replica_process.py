"""`ReplicaProcess`: a program in a separate process, whose threads and memory are on a set of CPUs.

OpenVINO reads once in a process which CPUs it may use, and its threads serve all of its models. Only a process keeps
them on a set of CPUs, and the memory of the weights near to it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path

from nearfield.arrays import Array
from nearfield.backends import Inputs, Program
from nearfield.backends.packed_program import PackedProgram
from nearfield.devices import ModelDevice
from nearfield.errors import ExecutionFailed, ModelUnavailable, OutOfMemory
from nearfield.hardware import CpuPlan, memory_used

#: Seconds after which a batch counts as hung, and its process is ended: less than those of the engine.
_HUNG_SECONDS = 100.0
#: Seconds in which a process whose connections are closed has an exit status.
_REAP_SECONDS = 1.0


class ReplicaLostError(RuntimeError):
    """The process of a replica ended, or does not answer."""


class ReplicaProcess:
    """One process with a program, which ends with this object.

    Args:
        device: the CPUs of the process.
        plan: how many threads each batch gets.
        packed: the program. ``wait`` returns when it is loaded.
    """

    def __init__(self, device: ModelDevice, plan: CpuPlan, packed: PackedProgram) -> None:
        self.device = device
        self._link, child = Pipe()
        with child:
            self._process = _start(device, plan, child, packed)
        self._finalizer = weakref.finalize(self, _end, self._process, self._link, os.getpid())
        self._finalizer.atexit = False  # it ends with its parent
        self._load = packed.load

    def wait(self) -> None:
        """Wait until the program is loaded.

        Raises:
            OutOfMemory: the process was killed.
            ExecutionFailed: it ended.
            Exception: whatever the runtime raised.
        """
        try:
            self._link.send_bytes(_dump_load(self._load))
            error = pickle.loads(self._link.recv_bytes())
        except (EOFError, OSError):
            raise self._failed_start() from None
        if error is not None:
            raise error

    def _failed_start(self) -> Exception:
        status = self._process.wait()
        if status == -9:
            return OutOfMemory(
                f"The process of {self.device.name} was killed while it loaded the model: there is probably too little "
                "memory for one more copy of it. Name fewer devices, or choose a smaller model or precision."
            )
        return ExecutionFailed(f"The process of {self.device.name} ended while it loaded the model (status {status}).")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def bytes(self) -> int:
        """The memory that the process has for itself; 0 if it has ended, or the system does not say."""
        return (memory_used(self._process.pid) or 0) if self.alive else 0

    def connect(self) -> Connection:
        """Return a connection to a new thread of the process.

        Raises:
            ReplicaLostError: it has ended.
        """
        ours, theirs = Pipe()
        with theirs:
            try:
                send_handle(self._link, theirs.fileno(), self._process.pid)
            except OSError as error:
                raise self.lost() from error
        return ours

    def lost(self, what: str = "ended") -> ReplicaLostError:
        """End the process, and return the error for its batches: it has ended, or does not answer."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS if what == "ended" else 0.0)
        status = self._process.poll()
        self._finalizer()
        shown = "" if status is None else f", signal {-status}" if status < 0 else f", status {status}"
        return ReplicaLostError(f"the process of {self.device.name} {what}{shown}")


class ProcessExecutor:
    """Runs batches in a thread of a replica's process."""

    def __init__(self, process: ReplicaProcess) -> None:
        self._process = process
        self._connection = process.connect()

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        """Run one batch there. Raises what the runtime raises there, and ReplicaLostError."""
        try:
            self._connection.send_bytes(pickle.dumps((dict(inputs), outputs), 5))
            if not self._connection.poll(_HUNG_SECONDS):
                raise self._process.lost(f"did not answer within {_HUNG_SECONDS:g} s")
            result: dict[str, Array] | Exception = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._process.lost() from error
        if isinstance(result, Exception):
            raise result
        return result


def _dump_load(load: Callable[[memoryview], Program]) -> bytes:
    return pickle.dumps(load, 5)


def _start(device: ModelDevice, plan: CpuPlan, child: Connection, packed: PackedProgram) -> subprocess.Popen[bytes]:
    """Start the process on its CPUs. A process begins with the affinity of the thread that starts it."""
    # The parent's import path, and not the current directory, whatever it has.
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
    threads = str(max(1, plan.threads // plan.streams))
    descriptors = child.fileno(), packed.file.fileno()

    def start() -> subprocess.Popen[bytes]:
        os.sched_setaffinity(0, device.cpus)
        return subprocess.Popen(
            [sys.executable, "-m", "nearfield.backends.replica_worker", *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": threads},
            pass_fds=descriptors,
        )

    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(start).result()
    except OSError as error:
        raise ModelUnavailable(
            f"No process can be started on {device.name} ({error.strerror or error}).", retry_after=1.0
        ) from error


def _end(process: subprocess.Popen[bytes], link: Connection, parent: int) -> None:
    """End a process, which has nothing to finish: its batches run again elsewhere. A forked process ends none."""
    if os.getpid() == parent:
        process.kill()
        process.wait()
    link.close()
