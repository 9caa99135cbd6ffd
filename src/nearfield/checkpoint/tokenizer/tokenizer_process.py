"""Run a tokenizer in a process that is killed after some seconds (`TokenizerProcess`)."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
import tokenizers

from nearfield.checkpoint.tokenizer.tokenizer_worker import (
    LENGTH_BYTES,
    TokenizerState,
    WorkerReply,
    WorkerRequest,
    write_message,
)
from nearfield.errors import ModelUnavailable
from nearfield.fork_safety import PerProcess, ProcessLock

#: Seconds for the texts of one request to the process, and the characters of them: linear work takes some 0.1 s.
SECONDS, CHARACTERS_PER_REQUEST = 5.0, 2**17
#: Seconds for the process to start.
_START_SECONDS = 60.0
#: Bytes that are read at once.
_READ_BYTES = 2**16


class TextFailedError(Exception):
    """The tokenizer failed on the text at ``index``."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index, self.reason = index, reason


class TokenizerProcess:
    """A tokenizer in a process of this program. It starts when it is needed; threads wait for each other.

    A text that takes longer than ``seconds`` costs the process, and the next text starts another.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, seconds: float = SECONDS) -> None:
        self._tokenizer, self._seconds = tokenizer, seconds
        self._set_up()

    def __getstate__(self) -> dict[str, object]:
        return {"_tokenizer": self._tokenizer, "_seconds": self._seconds}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._set_up()

    def __del__(self) -> None:
        self._kill()

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool, whole: bool) -> list[WorkerReply]:
        """Tokenise texts; ``whole`` returns tokens and offsets too.

        Raises:
            TextFailedError: the tokenizer failed on a text, or took too long for it.
            ModelUnavailable: other threads' texts took all the time.
        """
        replies: list[WorkerReply] = []
        for start, part in _parts(texts):
            request = WorkerRequest(part, add_special_tokens, whole)
            seconds = self._seconds * max(1.0, sum(map(len, part)) / CHARACTERS_PER_REQUEST)
            replies += self._run(request, start, len(part), seconds)
        return replies

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Return the text of token ids. Raises as ``encode`` does."""
        request = WorkerRequest(special_tokens=not skip_special_tokens, ids=list(ids))
        return self._run(request, 0, 1, self._seconds)[0].text

    def _set_up(self) -> None:
        self._lock = ProcessLock()
        #: A forked process starts its own: with the parent's, each would read replies that are for the other.
        self._process = PerProcess["subprocess.Popen[bytes]"]()

    def _run(self, request: WorkerRequest, first: int, count: int, seconds: float) -> list[WorkerReply]:
        """Return the replies to a request, one for each text; ``first`` is the index of its first text."""
        if not self._lock.acquire(timeout=2 * self._seconds):
            raise ModelUnavailable(
                "The tokenizer of this model is busy with texts that take it long.", retry_after=self._seconds
            )
        try:
            process = self._started()
            assert process.stdin is not None
            until = time.monotonic() + seconds
            replies: list[WorkerReply] = []
            try:
                write_message(process.stdin, request)
                while len(replies) < count:
                    replies.append(self._receive(process, until))
                    if replies[-1].error:
                        raise TextFailedError(first + len(replies) - 1, replies[-1].error)
            except TextFailedError:
                self._drop_unless_done(len(replies) == count)
                raise
            except TimeoutError:
                self._kill()
                raise TextFailedError(first + len(replies), f"it takes more than {seconds:g} s") from None
            except (EOFError, OSError, msgspec.DecodeError):
                self._kill()
                raise TextFailedError(first + len(replies), "the tokenizer crashed") from None
        finally:
            self._lock.release()
        return replies

    def _drop_unless_done(self, done: bool) -> None:
        """Kill the process if replies of a failed request are still to come."""
        if not done:
            self._kill()

    def _started(self) -> subprocess.Popen[bytes]:
        running = self._process.peek()
        if running is not None and running.poll() is None:
            return running
        # The parent's import path. What the library prints of a panic is no line of a log.
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-m", "nearfield.checkpoint.tokenizer.tokenizer_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        )
        self._process.set(process)
        assert process.stdin is not None
        state = TokenizerState(self._tokenizer.to_str(), self._tokenizer.encode_special_tokens, 8 * self._seconds)
        try:
            write_message(process.stdin, state)
            write_message(process.stdin, WorkerRequest([""]))
            self._receive(process, time.monotonic() + _START_SECONDS)
        except (EOFError, OSError, TimeoutError) as error:
            self._kill()
            raise ModelUnavailable("The process of this model's tokenizer does not start.") from error
        return process

    def _receive(self, process: subprocess.Popen[bytes], until: float) -> WorkerReply:
        size = int.from_bytes(_read_exactly(process, LENGTH_BYTES, until), "big")
        return msgspec.msgpack.decode(_read_exactly(process, size, until), type=WorkerReply)

    def _kill(self) -> None:
        processes = getattr(self, "_process", None)  # an object whose creation failed has none
        process = None if processes is None else processes.pop()
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:  # it flushes what the process did not read
                pass


def _parts(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield texts in groups of bounded characters, with the index of each group's first text."""
    start, size = 0, 0
    for index, text in enumerate(texts):
        if index > start and size + len(text) > CHARACTERS_PER_REQUEST:
            yield start, list(texts[start:index])
            start, size = index, 0
        size += len(text)
    yield start, list(texts[start:])


def _read_exactly(process: subprocess.Popen[bytes], size: int, until: float) -> bytes:
    assert process.stdout is not None
    poll, parts, missing = select.poll(), [], size
    poll.register(process.stdout, select.POLLIN)
    while missing:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        data = os.read(process.stdout.fileno(), min(missing, _READ_BYTES))
        if not data:
            raise EOFError
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)
