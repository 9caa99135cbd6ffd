"""Run extractors in worker processes with a deadline and a memory limit, so that a crashing parser fails one document.

A worker (``sandbox_worker.py``) is reused for many documents. It is killed and replaced when a parser hangs, crashes
or takes all memory. Files and documents pass through a private temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from nearfield import errors
from nearfield.corpus.document import Document, StoredFile
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.sandbox_worker import GRACE, PAGE, STARTED, ExtractionJob, ExtractionReply
from nearfield.corpus.extractors.windows import WindowedDocument
from nearfield.errors import InputError, NearfieldError
from nearfield.units import format_bytes

#: Seconds and bytes of memory that one document may take; the seconds begin again after each page that OCR has read.
DEADLINE, MEMORY = 120.0, 2**31
#: Bytes of memory for the models of OCR, and for what they compute.
OCR_MEMORY = 2**31
#: The same for speech recognition, beside its model, of which several copies are in memory while it is loaded.
SPEECH_MEMORY, SPEECH_COPIES = 2**31, 4
#: Workers that a document is given to before it fails: an idle one may have been killed from outside.
_ATTEMPTS = 2
#: Pages of a document after which the deadline begins again.
_MAX_PAGES = 5000
#: Bytes of a reply, whatever the worker sends.
_MAX_REPLY = 2**20
_INVALID = "it sent no valid reply"
#: Seconds in which a process that closed its pipe ends.
_EXIT = 5.0


class ExtractorSandbox:
    """Up to ``workers`` processes that extract documents. Threads may share it; workers start when they are needed."""

    def __init__(self, *, deadline: float = DEADLINE, memory: int = MEMORY, workers: int = 1) -> None:
        self._deadline, self._memory = deadline, memory
        self._slots = threading.BoundedSemaphore(workers)
        self._lock = threading.Lock()
        self._workers: set[SandboxProcess] = set()
        self._idle: list[SandboxProcess] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def extract(
        self,
        extractor: type[Extractor],
        data: bytes,
        name: str,
        options: ExtractionOptions = ExtractionOptions(),  # noqa: B008 - it is frozen
    ) -> Document:
        """Run an extractor, which must be an importable class, and return the document.

        Raises:
            InputError: the extractor refused the file; or it took too long, took too much memory, or crashed.
            MissingExtra: a library is not installed.
        """
        with self._run_extractor(extractor, data, name, options, windowed=False) as file:
            return msgspec.json.decode(file.read(), type=Document)

    def extract_windows(
        self, extractor: type[Extractor], data: bytes, name: str, options: ExtractionOptions
    ) -> WindowedDocument:
        """Return the windows of the document, of which one at a time is in memory; else as ``extract``."""
        return WindowedDocument.read(self._run_extractor(extractor, data, name, options, windowed=True))

    def _run_extractor(
        self, extractor: type[Extractor], data: bytes, name: str, options: ExtractionOptions, *, windowed: bool
    ) -> BinaryIO:
        """Return the open file that an extractor wrote; it has no name any more, and ends when it is closed."""
        with self._slots:
            source, target = self._paths()
            try:
                if not isinstance(data, StoredFile):
                    source.write_bytes(data)
                self._run(
                    ExtractionJob(
                        module=extractor.__module__,
                        extractor=extractor.__qualname__,
                        source=str(data.path if isinstance(data, StoredFile) else source),
                        state=data.state if isinstance(data, StoredFile) else None,
                        name=name,
                        target=str(target),
                        deadline=self._deadline,
                        options=options,
                        windowed=windowed,
                    )
                )
                return target.open("rb")
            except OSError as error:
                raise InputError(f"{name}: cannot be read ({error.strerror or error}).") from error
            finally:
                source.unlink(missing_ok=True)
                target.unlink(missing_ok=True)

    def close(self) -> None:
        """End the workers and remove the temporary folder. The sandbox may be used again."""
        with self._lock:
            workers, self._workers, self._idle = self._workers, set(), []
            for worker in workers:
                worker.kill()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def _paths(self) -> tuple[Path, Path]:
        """Return the paths for a file and for its document."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="nearfield-reading-", ignore_cleanup_errors=True)
            self._count += 1
            folder = Path(self._folder.name)
            return folder / f"{self._count}.in", folder / f"{self._count}.out"

    def _run(self, job: ExtractionJob) -> None:
        """Run a job in a worker; in another one if the first had ended before it could start the job."""
        for _ in range(_ATTEMPTS):
            worker = self._take(Path(job.target).parent)
            reply = None
            try:
                reply = worker.run(job)
            except EOFError:
                continue
            except TimeoutError as error:
                raise InputError(f"{job.name}: took more than {self._deadline:g} seconds to read.") from error
            except ChildProcessError as error:
                raise InputError(f"{job.name}: the parser crashed on it ({error}).") from error
            finally:
                # After a lack of memory the heap is fragmented: the next document gets a fresh process.
                self._return(worker, reusable=reply is not None and reply.error != MemoryError.__name__)
            return self._check(job, reply)
        raise InputError(f"{job.name}: the process that reads it ended without an answer.")

    def _check(self, job: ExtractionJob, reply: ExtractionReply) -> None:
        """Raise the error of a reply, if there is one, by its class name."""
        if not reply.error:
            return
        if reply.error == MemoryError.__name__:
            memory = format_bytes(self._memory, self._memory)
            raise InputError(f"{job.name}: takes more than {memory} of memory to read.")
        if reply.error == OSError.__name__:
            raise OSError(reply.message)
        kind = getattr(errors, reply.error, None)
        if isinstance(kind, type) and issubclass(kind, InputError):
            raise kind(reply.message, param=reply.param)
        if isinstance(kind, type) and issubclass(kind, NearfieldError):
            raise kind(reply.message)
        raise RuntimeError(f"{job.name}: extractor {job.extractor}: {reply.error}: {reply.message}")

    def _take(self, folder: Path) -> SandboxProcess:
        """Return an idle worker, or start one."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            worker = SandboxProcess(self._memory, folder)
            self._workers.add(worker)
            return worker

    def _return(self, worker: SandboxProcess, *, reusable: bool) -> None:
        with self._lock:
            if reusable and worker in self._workers:
                self._idle.append(worker)
                return
            self._workers.discard(worker)
        worker.kill()


class SandboxProcess:
    """One worker process and the pipes to it."""

    def __init__(self, memory: int, folder: Path) -> None:
        """Start it in ``folder``: Python puts the current directory on the import path, and this one has no modules."""
        command = [sys.executable, "-m", "nearfield.corpus.extractors.sandbox_worker", str(memory)]
        # The parent's import path, so that plugins are found.
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._jobs, self._replies = self.process.stdin, self.process.stdout
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        self._received = b""

    def run(self, job: ExtractionJob) -> ExtractionReply:
        """Send a job and return the reply.

        Raises:
            EOFError: the process had ended before it started the job.
            TimeoutError: the job took longer than its deadline, or the process too long to start.
            ChildProcessError: the process ended during the job, or sent something else than a reply.
        """
        try:
            self._jobs.write(msgspec.json.encode(job) + b"\n")
            self._jobs.flush()
        except BrokenPipeError as error:
            raise EOFError from error
        if self._line(GRACE) != STARTED:
            raise ChildProcessError(_INVALID)
        try:
            line = self._line(job.deadline)
            for _ in range(_MAX_PAGES):
                if line != PAGE:
                    break
                line = self._line(job.deadline)
            return msgspec.json.decode(line, type=ExtractionReply)
        except EOFError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise ChildProcessError(f"exit code {self.process.wait(timeout=_EXIT)}") from None
            raise ChildProcessError(_INVALID) from None
        except msgspec.DecodeError as error:
            raise ChildProcessError(_INVALID) from error

    def kill(self) -> None:
        """Kill the process and close the pipes."""
        self.process.kill()
        self.process.wait()
        self._replies.close()
        with contextlib.suppress(OSError):  # it flushes what the process did not read
            self._jobs.close()

    def _line(self, seconds: float) -> bytes:
        """Return the next line that the process sends."""
        until = time.monotonic() + seconds
        while b"\n" not in self._received:
            if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000):
                raise TimeoutError
            data = os.read(self._replies.fileno(), 2**16)
            if not data:
                raise EOFError
            self._received += data
            if len(self._received) > _MAX_REPLY:
                raise ChildProcessError(_INVALID)
        line, _, self._received = self._received.partition(b"\n")
        return line
