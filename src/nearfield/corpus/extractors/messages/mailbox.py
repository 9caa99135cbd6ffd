"""The places of messages in a mailbox of the format mbox, without parsing them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

#: The line before each message of a mailbox.
_FIELD = re.compile(rb"(?:from|to|subject|date|message-id|received|return-path|x-[\w-]+): ", re.IGNORECASE)
_FROM_LINE = re.compile(rb"From (?:\S+ |.*)?.*\d{4}")


@dataclass(frozen=True)
class MessagePlace:
    """Start and end of a message in a mailbox, in bytes, and its id if it has one."""

    start: int
    end: int
    message_id: str = ""


def message_places(file: BinaryIO) -> Iterator[MessagePlace]:
    """Yield the place of each message of a mailbox, after the line that separates it from the one before."""
    start: int | None = None
    position, blank, in_head, message_id = 0, True, False, ""
    while line := file.readline(2**16):
        if start is None and _FIELD.match(line):  # the first message lacks its line
            start, in_head = position, True
        if not position and line.startswith(codecs.BOM_UTF8):
            line, position = line[3:], 3
        if blank and line.startswith(b"From ") and _FROM_LINE.match(line):
            if start is not None:
                yield MessagePlace(start, position, message_id)
            start, in_head, message_id = position + len(line), True, ""
        blank = not line.strip()
        in_head = in_head and not blank
        if in_head and line[:11].lower() == b"message-id:":
            message_id = line[11:].decode("ascii", "replace").strip().strip("<>")
        position += len(line)
    if start is not None:
        yield MessagePlace(start, position, message_id)


def unescape_message(data: bytes) -> bytes:
    """Return a message of a mailbox without the signs that escape its lines which begin with "From "."""
    return re.sub(rb"^>(>*From )", rb"\1", data, flags=re.MULTILINE)
