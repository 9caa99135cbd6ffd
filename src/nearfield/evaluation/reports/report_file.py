"""Reading one report: what its file must be, and what its bytes say."""

from __future__ import annotations

import errno
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from nearfield.errors import InputError
from nearfield.evaluation.reports.report import Report
from nearfield.evaluation.reports.report_kinds import KINDS, recognise_kind
from nearfield.message_text import escape_controls
from nearfield.units import format_bytes

#: Version of the files, as their first field.
FORMAT_FIELD, FORMAT = "nearfield_report", 1
#: A larger file is not read. The reports of commands have some hundred kilobytes at most.
MAX_BYTES = 4_000_000
#: What opening a file may not do: follow a link, or wait for the other end of a pipe.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StoredReport(msgspec.Struct):
    """A report as ``report_writer`` stores it."""

    kind: str
    created: datetime
    report: msgspec.Raw


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: the file is no report, or cannot be read; the message says why, without the name of the file.
    """
    try:
        data, changed = _read_bytes(path)
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        raise InputError("It is a link: copy the file itself." if is_link else f"{error.strerror}.") from error
    try:
        return _parse(path.name, data, changed)
    except RecursionError as error:
        raise InputError("Its values are nested too deeply.") from error
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise InputError(f"It is no report of Nearfield: {escape_controls(str(error))[:300]}.") from error


def _read_bytes(path: Path) -> tuple[bytes, float]:
    """Return the bytes of a file, and when it was changed."""
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("It is no file.")
        if status.st_size > MAX_BYTES:
            raise InputError(f"It has {format_bytes(status.st_size)}; reports have {format_bytes(MAX_BYTES)} at most.")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES), status.st_mtime
    finally:
        os.close(descriptor)


def _parse(name: str, data: bytes, changed: float) -> Report:
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    stored = FORMAT_FIELD in fields
    if stored:
        _check_format(fields[FORMAT_FIELD])
        record = msgspec.json.decode(data, type=StoredReport)
        kind, created, content = record.kind, record.created.timestamp(), bytes(record.report)
    else:
        kind, created, content = recognise_kind(fields) or "", changed, data
    if kind not in KINDS:
        raise ValueError(f"its kind {kind!r} is unknown" if stored else "no command writes such fields")
    shown = msgspec.json.decode(content, type=KINDS[kind]).to_content().bounded()
    rows: dict[str, Any] = {field: getattr(shown, field) for field in shown.__struct_fields__}
    return Report(name=name, created=created, kind=kind, score=next(iter(shown.scores), None), **rows)


def _check_format(version: msgspec.Raw) -> None:
    if bytes(version) != str(FORMAT).encode():
        raise ValueError(f"its format is {bytes(version)[:20].decode()}, and this version reads {FORMAT}")
