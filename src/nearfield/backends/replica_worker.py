"""The process of a replica: it loads a packed program, and runs a thread for each connection that it gets.

Its arguments are two descriptors: a socket to its parent, and the file of the program. The parent has chosen its CPUs
before it began, so that all threads and memory of it are on them. It ends with its parent, and not by signals that a
terminal or systemd sends to all processes of a server: that finishes its work first.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle

import numpy as np

from nearfield.backends import Executor, Program
from nearfield.hardware import bound_heaps, return_memory

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


def main(link: int, file: int) -> None:
    """Serve until the parent closes its end of the socket."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    bound_heaps()
    parent = Connection(link)
    try:
        program = _load(parent, file)
        while True:
            connection = Connection(recv_handle(parent))
            threading.Thread(target=_serve, args=(program, connection), daemon=True).start()
    except (EOFError, OSError):
        os._exit(0)  # threads may be in native code


def _end_with_parent(process: int) -> None:
    """End when the parent has, also where a process that was forked from it still has its end of the socket."""
    try:
        descriptor = os.pidfd_open(process)
    except (AttributeError, OSError):
        return  # no such call here: the end of the socket says it
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    os._exit(0)  # threads may be in native code


def _load(parent: Connection, file: int) -> Program:
    """Return the program, once the parent knows that it is loaded, or why it is not."""
    load = parent.recv()
    try:
        with os.fdopen(file, "rb") as opened:
            program: Program = load(np.memmap(opened, np.uint8, "r"))
    except Exception as error:
        parent.send_bytes(_dump(error))
        raise EOFError from error
    return_memory()
    parent.send_bytes(_dump(None))
    return program


def _serve(program: Program, connection: Connection) -> None:
    """Run batches until the parent closes the connection."""
    executor = program.create_executor()
    try:
        while True:
            connection.send_bytes(_dump(_run(executor, connection.recv_bytes())))
    except (EOFError, OSError):
        connection.close()


def _run(executor: Executor, request: bytes) -> object:
    """Return the outputs of a batch, or the error."""
    try:
        inputs, outputs = pickle.loads(request)
        return executor.run(inputs, outputs)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        return error


def _dump(value: object) -> bytes:
    """Pickle a reply; of an error that cannot be pickled, or not be read again, its text."""
    if not isinstance(value, Exception):
        return pickle.dumps(value, 5)
    try:
        data = pickle.dumps(value, 5)
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - errors of libraries are of any kind
        return pickle.dumps(RuntimeError(f"{type(value).__name__}: {value}"), 5)
    return data


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
