"""Content of the parts of mails: base64 that is cut, damaged or followed by text is decoded as far as possible."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from email.message import EmailMessage
from itertools import islice

_LINE = re.compile(rb"[A-Za-z0-9+/]*={0,2}[ \t\r]*")
_SOUND = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
#: Damaged lines that are looked at for the start of a text.
_MAX_DAMAGED = 100
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
#: A file in uuencode within a text: its name and its lines.
_UUENCODED = re.compile(
    r"^begin [0-7]{3,4} (\S[^\r\n]*)\r?\n((?:[ -`]{1,62}\r?\n)*?)[ `]?\r?\n?end[ \t]*$", re.MULTILINE
)


@dataclass(frozen=True)
class PartContent:
    """The content of a part. ``rest`` is text after its encoded end, such as the footer of a mailing list.

    ``damaged`` says that bytes are missing.
    """

    data: bytes
    rest: bytes = b""
    damaged: bool = False


def part_content(part: EmailMessage) -> PartContent:
    """Return the content of a part without its transfer encoding."""
    if str(part.get("content-transfer-encoding", "")).strip().lower() == "base64":
        return decode_base64(raw_content(part))
    payload = part.get_payload(decode=True)
    return PartContent(payload if isinstance(payload, bytes) else b"")


def raw_content(part: EmailMessage) -> bytes:
    """Return the content of a part in its transfer encoding; empty if it has parts."""
    stated = part["content-transfer-encoding"]
    del part["content-transfer-encoding"]
    payload = part.get_payload(decode=True)
    if stated is not None:
        part["content-transfer-encoding"] = str(stated)
    return payload if isinstance(payload, bytes) else b""


def decode_base64(encoded: bytes) -> PartContent:
    """Return the content of base64. Python's decoder returns base64 itself where a single letter is missing."""
    digits = encoded.translate(None, b" \t\r\n")
    if len(digits) % 4 == 0 and _SOUND.fullmatch(digits):
        return PartContent(binascii.a2b_base64(digits))
    lines = encoded.split(b"\n")
    doubtful = (at for at, line in enumerate(lines) if not _LINE.fullmatch(line))
    end = next((at for at in islice(doubtful, _MAX_DAMAGED) if _is_text(lines[at:])), len(lines))
    data, damaged = b"", False
    for piece in re.split(rb"(?<==)(?![=\s]*\Z)(?!=)", b"\n".join(lines[:end])):  # each may have its own padding
        damaged |= any(not _LINE.fullmatch(line) for line in piece.split(b"\n"))
        digits = _NO_BASE64.sub(b"", piece)
        damaged |= len(digits) % 4 != 0 and not piece.rstrip().endswith(b"=")
        digits = digits[: len(digits) - (len(digits) % 4 == 1)]
        data += binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
    return PartContent(data, b"\n".join(lines[end:]), damaged)


def _is_text(lines: list[bytes]) -> bool:
    """Return whether lines are text rather than damaged base64: at least half of them are no base64."""
    written = [line for line in lines if line.strip()]
    return sum(not _LINE.fullmatch(line) for line in written) * 2 >= len(written)


def split_uuencoded(text: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a text without the files in uuencode that it contains, and their names and contents."""
    files: list[tuple[str, bytes]] = []

    def decoded(match: re.Match[str]) -> str:
        try:
            data = b"".join(map(binascii.a2b_uu, match[2].splitlines()))
        except binascii.Error:
            return match[0]
        files.append((match[1].strip(), data))
        return ""

    return _UUENCODED.sub(decoded, text), files
