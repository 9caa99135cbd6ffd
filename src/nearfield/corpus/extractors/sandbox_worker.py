"""The worker process of the extractor sandbox: it reads jobs from standard input and runs one extractor after another.

``sandbox.py`` starts it with ``python -m``. Jobs and replies are lines of JSON. A job is acknowledged before it is
run, so that the parent can distinguish a worker that crashed on a document from one that had ended before. The document
is written to a file, since it may be large. Nothing is pickled: a parser that was taken over can send text only.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import msgspec

from nearfield.corpus.document import StoredFile
from nearfield.corpus.extractors import Extractor, create_extractor
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.windows import WindowedDocument
from nearfield.errors import InputError, NearfieldError

#: Sent when a job has been read and before it is run.
STARTED = b"started"
#: Sent before a page that takes long: the deadline begins again.
PAGE = b"page"
#: Seconds after its deadline at which a worker ends itself, in case its parent no longer does.
GRACE = 60.0


class ExtractionJob(msgspec.Struct, frozen=True):
    """One file to extract: the extractor's class, the file, its name for messages, and where its document goes.

    ``windowed`` asks for the windows of the document, which can be read one after another. ``state`` is that of a
    ``StoredFile``.
    """

    module: str
    extractor: str
    source: str
    name: str
    target: str
    deadline: float
    options: ExtractionOptions = ExtractionOptions()
    windowed: bool = False
    state: tuple[int, int] | None = None


class ExtractionReply(msgspec.Struct, frozen=True):
    """The outcome of a job: an empty ``error`` for success, else the error's class name, its message and parameter."""

    error: str = ""
    message: str = ""
    param: str | None = None


def main(memory: int) -> None:
    """Run the jobs that arrive on standard input until it is closed, with ``memory`` bytes for all of them."""
    # Parsers may print: only replies may reach the pipe to the parent.
    jobs, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _limit(memory)
    for line in jobs:
        job = msgspec.json.decode(line, type=ExtractionJob)
        _send(replies, STARTED)
        _send(replies, msgspec.json.encode(_reply(job, partial(_send, replies, PAGE))))


def _send(replies: BinaryIO, line: bytes) -> None:
    try:
        replies.write(line + b"\n")
        replies.flush()
    except BrokenPipeError:  # the parent was killed
        os._exit(1)


def _limit(memory: int) -> None:
    """Limit the memory beyond what the process uses now, and let the system end it first when memory runs out."""
    # The parent handles an interrupt of the keyboard, and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.disable()
    warnings.simplefilter("ignore")
    used = 0
    with contextlib.suppress(OSError, ValueError):  # not Linux
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        Path("/proc/self/oom_score_adj").write_text("1000")
    _, maximum = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + memory if maximum == resource.RLIM_INFINITY else min(used + memory, maximum)
    resource.setrlimit(resource.RLIMIT_AS, (limit, maximum))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reply(job: ExtractionJob, send_page: Callable[[], None]) -> ExtractionReply:
    def on_page() -> None:
        signal.setitimer(signal.ITIMER_REAL, job.deadline + GRACE)
        send_page()

    signal.setitimer(signal.ITIMER_REAL, job.deadline + GRACE)
    try:
        _extract(job, on_page)
    except NearfieldError as error:
        return ExtractionReply(type(error).__name__, str(error), error.param if isinstance(error, InputError) else None)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        kind = next((base for base in (MemoryError, OSError) if isinstance(error, base)), type(error))
        return ExtractionReply(kind.__name__, str(getattr(error, "strerror", None) or error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ExtractionReply()


def _extract(job: ExtractionJob, on_page: Callable[[], None]) -> None:
    extractor: type[Extractor] = attrgetter(job.extractor)(import_module(job.module))
    instance = create_extractor(extractor, job.options)
    instance.on_page = on_page
    source = Path(job.source)
    stored = StoredFile(b"stored", source, job.state) if extractor.reads_stored else None
    document = instance.extract(source.read_bytes() if stored is None else stored, job.name)
    with Path(job.target).open("wb") as file:
        if job.windowed:
            WindowedDocument.from_document(document).write(file)
        else:
            file.write(msgspec.json.encode(document))


if __name__ == "__main__":
    main(int(sys.argv[1]))
