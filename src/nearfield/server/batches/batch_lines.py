"""Lines of batch files: read and check requests, append responses."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from nearfield.errors import TooLarge
from nearfield.server.files.file_store import new_id, write_all
from nearfield.server.files.storage_errors import convert_storage_errors
from nearfield.server.http.content_bounds import LARGE_BODY, ContentBounds, check_json
from nearfield.server.http.decode_thread import suspended_collection
from nearfield.server.http.request_body import read_fraction, replace_lone_surrogates
from nearfield.validation_message import describe_validation

#: Maximum number of requests in a batch, of inputs of all its requests, and of bytes of its file.
MAX_LINES, MAX_INPUTS, MAX_BYTES = 50_000, 50_000, 200 * 2**20
#: Maximum number of blank lines in a file.
_MAX_BLANK_LINES = 50_000
#: Maximum bytes of one line, and characters of a custom_id.
_MAX_LINE_BYTES, _MAX_ID_LENGTH = 32 * 2**20, 512
#: Maximum number of errors that are reported for a file.
_MAX_ERRORS = 100
#: Bytes at the start of a response line that hold its custom_id, and at its end that hold its token count.
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


_decode = msgspec.json.Decoder(BatchLine, float_hook=read_fraction).decode


def decode(raw: bytes) -> BatchLine:
    """Decode a line, with U+FFFD for each lone surrogate.

    Raises:
        msgspec.DecodeError: it is not valid.
    """
    try:
        return _decode(raw)
    except msgspec.DecodeError:
        repaired, count = replace_lone_surrogates(raw)
        if not count:
            raise
    return _decode(repaired)


class LineChecker:
    """Checks the lines of a file one by one and collects the errors."""

    def __init__(self, endpoint: str, bounds: ContentBounds) -> None:
        self.total = 0
        self._blank_lines = 0
        self._bounds = bounds
        self.model: str | None = None
        self._endpoint = endpoint
        self._inputs = 0
        self._seen: set[bytes] = set()
        self._problems: list[LineError] = []
        self._models: set[str | None] = set()

    def check(self, number: int, raw: bytes) -> bool:
        """Check a line; return whether to go on."""
        if not raw.strip():
            return self._count_blank()
        self.total += 1
        try:
            self._problems += self._check(number, raw)
        except msgspec.ValidationError as error:
            named = re.search(r"`\$\.(\w+)|required field `(\w+)`", str(error))
            param = (named[1] or named[2]) if named else None
            self._problems.append(
                LineError("invalid_request", f"Line {number}: {describe_validation(error)[:300]}", number, param)
            )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"Line {number} is not valid JSON: {str(error)[:300] or type(error).__name__}."
            self._problems.append(LineError("invalid_json_line", message, number))
        if self.total > MAX_LINES:
            self._problems = [LineError("too_many_requests", f"A batch may hold {MAX_LINES} requests; this has more.")]
        elif self._inputs > MAX_INPUTS:
            self._problems = [LineError("too_many_inputs", f"A batch may hold {MAX_INPUTS} inputs; this has more.")]
        else:
            return len(self._problems) < _MAX_ERRORS
        return False

    def _count_blank(self) -> bool:
        self._blank_lines += 1
        if self._blank_lines <= _MAX_BLANK_LINES:
            return True
        message = f"A batch may have {_MAX_BLANK_LINES} blank lines; this has more."
        self._problems = [LineError("too_many_blank_lines", message)]
        return False

    def finish(self) -> list[LineError]:
        """Return the errors, and set ``model`` if all lines name the same one."""
        self.model = self._models.pop() if len(self._models) == 1 else None
        if not self.total and not self._problems:
            return [LineError("empty_file", "The file holds no requests: give one JSON object a line.")]
        return self._problems

    def _check(self, number: int, raw: bytes) -> Iterator[LineError]:
        if len(raw) > _MAX_LINE_BYTES:
            yield LineError("line_too_long", f"Line {number} is longer than {_MAX_LINE_BYTES} bytes.", number)
            return
        try:
            line = self._decode(raw)
        except TooLarge as error:
            yield LineError("line_too_large", f"Line {number}: {error}", number)
            return
        if not 0 < len(line.custom_id) <= _MAX_ID_LENGTH:
            message = f"Line {number}: custom_id must have 1 to {_MAX_ID_LENGTH} characters."
            yield LineError("invalid_custom_id", message, number, "custom_id")
            return
        digest = digest_of(line.custom_id)
        if digest in self._seen:
            message = f"Line {number}: the custom_id {line.custom_id[:100]!r} was used before; each must be unique."
            yield LineError("duplicate_custom_id", message, number, "custom_id")
        self._seen.add(digest)
        if line.method != "POST":
            yield LineError("invalid_method", f"Line {number}: method must be 'POST'.", number, "method")
        if line.url != self._endpoint:
            message = f"Line {number}: url must be the batch's endpoint, {self._endpoint!r}, not {line.url[:100]!r}."
            yield LineError("invalid_url", message, number, "url")
        model = line.body.get("model")
        if len(self._models) < 2:
            self._models.add(model if isinstance(model, str) else None)
        self._inputs += _inputs(line.body.get("input"))

    def _decode(self, raw: bytes) -> BatchLine:
        """Decode a line; a large one is checked against the bounds before.

        Raises:
            TooLarge: it contains more than the bounds allow.
        """
        if len(raw) <= LARGE_BODY:
            return decode(raw)
        check_json(raw, self._bounds)
        with suspended_collection():
            return decode(raw)


def _inputs(value: Any) -> int:
    """Count inputs: a list of integers is one."""
    return 1 if not isinstance(value, list) or all(type(item) is int for item in value) else len(value)


def read_lines(path: Path, at: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Yield the lines of a file: number (from ``at``), bytes, and where the next one starts.

    Only the beginning of a line that is too long is read.
    """
    number = 0
    with convert_storage_errors(), path.open("rb") as content:
        content.seek(at)
        while raw := content.readline(_MAX_LINE_BYTES + 1):
            number += 1
            if at == 0 and number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            rest = raw
            while len(rest) > _MAX_LINE_BYTES and not rest.endswith(b"\n"):
                rest = content.readline(_MAX_LINE_BYTES + 1)
            end = content.tell()
            yield number, raw, end


def read_responses(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the responses of a file up to the first damaged one: custom_id, tokens, where the next one starts."""
    for head, tail, end in _ends(path):
        start = _STARTS.match(head)
        if start is None:
            return
        tokens = _TOKENS.findall(tail)
        yield orjson.loads(start[1]), int(tokens[-1]) if tokens else 0, end


def _ends(path: Path) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the first and last bytes of each complete line, and where the next one starts: a line may be very long."""
    with path.open("rb") as content:
        while head := content.readline(_HEAD):
            tail = head
            while not tail.endswith(b"\n"):
                more = content.readline(1 << 20)
                if not more:
                    return
                tail = (tail[-_TAIL:] + more)[-_TAIL:]
            yield head, tail[-_TAIL:], content.tell()


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file. Blocks. If it does not fit, the file is unchanged.

    Raises:
        StorageFull, StorageFailed: it cannot be written.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    with convert_storage_errors(), os.fdopen(os.open(path, flags, 0o600), "ab", 0) as out:
        size = out.seek(0, os.SEEK_END)
        try:
            write_all(out, line)
        except OSError:
            out.truncate(size)
            raise


def response_line(custom_id: str, response: bytes, error: bytes) -> bytes:
    """Return a line of a results file; ``response`` and ``error`` are JSON."""
    name = new_id("batch_req_").encode()
    return b'{"id":"%s","custom_id":%s,"response":%s,"error":%s}\n' % (name, orjson.dumps(custom_id), response, error)


def digest_of(custom_id: str) -> bytes:
    """Return a custom_id's digest of 16 bytes, which takes little memory where many are remembered."""
    return hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
