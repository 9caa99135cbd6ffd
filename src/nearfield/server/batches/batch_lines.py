"""Batch files: the lines of requests that come, checked one by one, and those of answers that go, added one by one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from nearfield.server.files.file_store import guarding, new_id, write_all

#: Most requests in a batch, most inputs of all of them together, and most bytes of its file.
MOST_LINES, MOST_INPUTS, MOST_BYTES = 50_000, 50_000, 200 * 2**20
#: Most bytes of one line, and characters of a custom_id.
_LONGEST_LINE, _LONGEST_ID = 32 * 2**20, 512
#: Complaints about a file that are kept.
_MOST_PROBLEMS = 100
#: Bytes at an answer's start that hold its custom_id, and at its end that hold the tokens that were read.
_HEAD, _TAIL = 8192, 1024
_STARTS = re.compile(rb'\{"id":"batch_req_[0-9a-f]{32}","custom_id":("(?:[^"\\]|\\.)*"),"response":')
_TOKENS = re.compile(rb'"total_tokens":(\d+)')


class LineError(msgspec.Struct):
    """What is wrong with a batch, and in which line of its file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchLine(msgspec.Struct):
    """One request of a file."""

    custom_id: str
    method: str
    url: str
    body: dict[str, Any]


#: Reads a line of requests.
decode = msgspec.json.Decoder(BatchLine).decode


class Checker:
    """Looks at a file's lines one by one, and gathers what is wrong."""

    def __init__(self, endpoint: str) -> None:
        self.total = 0
        self.model: str | None = None
        self._endpoint = endpoint
        self._inputs = 0
        self._seen: set[bytes] = set()
        self._problems: list[LineError] = []
        self._models: set[str | None] = set()

    def take(self, number: int, raw: bytes) -> bool:
        """Check a line; return whether to go on."""
        self.total += 1
        try:
            self._problems += self._check(number, raw)
        except msgspec.ValidationError as error:
            named = re.search(r"`\$\.(\w+)|required field `(\w+)`", str(error))
            param = (named[1] or named[2]) if named else None
            self._problems.append(LineError("invalid_request", f"Line {number}: {str(error)[:300]}.", number, param))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            told = f"Line {number} is not valid JSON: {str(error)[:300] or type(error).__name__}."
            self._problems.append(LineError("invalid_json_line", told, number))
        if self.total > MOST_LINES:
            self._problems = [LineError("too_many_requests", f"A batch may hold {MOST_LINES} requests; this has more.")]
        elif self._inputs > MOST_INPUTS:
            self._problems = [LineError("too_many_inputs", f"A batch may hold {MOST_INPUTS} inputs; this has more.")]
        else:
            return len(self._problems) < _MOST_PROBLEMS
        return False

    def verdict(self) -> list[LineError]:
        """Return what is wrong, and keep the model if all lines name the same."""
        self.model = self._models.pop() if len(self._models) == 1 else None
        if not self.total:
            return [LineError("empty_file", "The file holds no requests: give one JSON object a line.")]
        return self._problems

    def _check(self, number: int, raw: bytes) -> Iterator[LineError]:
        if len(raw) > _LONGEST_LINE:
            yield LineError("line_too_long", f"Line {number} is longer than {_LONGEST_LINE} bytes.", number)
            return
        line = decode(raw)
        if not 0 < len(line.custom_id) <= _LONGEST_ID:
            told = f"Line {number}: custom_id must have 1 to {_LONGEST_ID} characters."
            yield LineError("invalid_custom_id", told, number, "custom_id")
            return
        seen = mark(line.custom_id)
        if seen in self._seen:
            told = f"Line {number}: the custom_id {line.custom_id[:100]!r} was there before; each must be unique."
            yield LineError("duplicate_custom_id", told, number, "custom_id")
        self._seen.add(seen)
        if line.method != "POST":
            yield LineError("invalid_method", f"Line {number}: method must be 'POST'.", number, "method")
        if line.url != self._endpoint:
            told = f"Line {number}: url must be the batch's endpoint, {self._endpoint!r}, not {line.url[:100]!r}."
            yield LineError("invalid_url", told, number, "url")
        model = line.body.get("model")
        if len(self._models) < 2:
            self._models.add(model if isinstance(model, str) else None)
        self._inputs += _inputs(line.body.get("input"))


def _inputs(given: Any) -> int:
    """Count inputs: a list of integers is one."""
    return 1 if not isinstance(given, list) or all(type(item) is int for item in given) else len(given)


def lines(path: Path, at: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Yield the lines of a file that are not blank: number (from ``at``), bytes, and where the next one starts.

    Of a line that is too long only the beginning is read.
    """
    number = 0
    with guarding(), path.open("rb") as content:
        content.seek(at)
        while raw := content.readline(_LONGEST_LINE + 1):
            number += 1
            if at == 0 and number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            rest = raw
            while len(rest) > _LONGEST_LINE and not rest.endswith(b"\n"):
                rest = content.readline(_LONGEST_LINE + 1)
            end = content.tell()
            if raw.strip():
                yield number, raw, end


def answers(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the answers of a file up to the first damaged one: custom_id, tokens read, where the next one starts."""
    for head, tail, end in _ends(path):
        start = _STARTS.match(head)
        if start is None:
            return
        tokens = _TOKENS.findall(tail)
        yield orjson.loads(start[1]), int(tokens[-1]) if tokens else 0, end


def _ends(path: Path) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield of each whole line its first and last bytes, and where the next one starts: one may be very long."""
    with path.open("rb") as content:
        while head := content.readline(_HEAD):
            tail = head
            while not tail.endswith(b"\n"):
                more = content.readline(1 << 20)
                if not more:
                    return
                tail = (tail[-_TAIL:] + more)[-_TAIL:]
            yield head, tail[-_TAIL:], content.tell()


def append(path: Path, line: bytes) -> None:
    """Add a line to a file; blocks. If it does not fit, the file is as before.

    Raises:
        StorageFull, StorageFailed: it cannot be written.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    with guarding(), os.fdopen(os.open(path, flags, 0o600), "ab", 0) as out:
        size = out.seek(0, os.SEEK_END)
        try:
            write_all(out, line)
        except OSError:
            out.truncate(size)
            raise


def written(custom_id: str, response: bytes, error: bytes) -> bytes:
    name = new_id("batch_req_").encode()
    return b'{"id":"%s","custom_id":%s,"response":%s,"error":%s}\n' % (name, orjson.dumps(custom_id), response, error)


def mark(custom_id: str) -> bytes:
    """Return what stands for a custom_id where many are remembered."""
    return hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
