"""Repair of MIME: parts that the parser misses, because a boundary line is damaged, missing or too early."""

from __future__ import annotations

import email
import re
from email.errors import CloseBoundaryNotFoundDefect
from email.message import EmailMessage
from typing import cast

from nearfield.corpus.extractors.messages.mail_text import MailPolicy
from nearfield.corpus.extractors.messages.transfer_encoding import raw_content

_POLICY = MailPolicy()
#: The start of a part: a line of a boundary, or a blank one, and a header field that only parts have.
_START = re.compile(
    rb"(?:^|(?<=\n))(?:-[^\r\n]{0,90})?\r?\n"
    rb"(?=content-(?:type:[ \t]*[\w.+-]+/[\w.+-]+|transfer-encoding:|disposition:))",
    re.IGNORECASE,
)
#: The line at the end of all parts, which may be damaged.
_CLOSE = re.compile(rb"(?:\A|\r?\n)--\S[^\r\n]{0,80}-[ \t]*(?:\r?\n\s*)?\Z")
_BOUNDARY = re.compile(rb"^--(?!-*[ \t\r]*$|[ \t])([^\r\n]{1,80}?)[ \t\r]*$", re.MULTILINE)
#: The start of a message with parts whose header does not say so.
_UNSTATED = re.compile(
    rb"\A\s*(?:this is a multi-?part message[^\n]*\n\s*)?--\S[^\n]*\n(?:content-|\r?\n)", re.IGNORECASE
)


def parse_message(data: bytes) -> EmailMessage:
    """Return a parsed message or part; also one with parts whose header does not say so."""
    message = _parsed(data)
    if "content-type" not in message and _UNSTATED.match(raw_content(message)):
        return with_boundary(message) or message
    return message


def with_boundary(part: EmailMessage) -> EmailMessage | None:
    """Return a part whose boundary is missing or wrong, parsed with the one that its lines show; None if none does."""
    content = raw_content(part)
    lines = [match[1] for match in _BOUNDARY.finditer(content)]
    boundary = next((line for line in lines if lines.count(line) > 1 or line + b"--" in lines), None)
    if boundary is None or b'"' in boundary:
        return None
    kind = part.get_content_type() if part.get_content_maintype() == "multipart" else "multipart/mixed"
    fields = "".join(f"{name}: {value}\n" for name, value in part.raw_items() if name.lower() != "content-type")
    head = f"{fields}Content-Type: {kind}; boundary=".encode("utf-8", "surrogateescape")
    repaired = _parsed(b'%b"%b"\n\n%b' % (head, boundary, content))
    return repaired if repaired.is_multipart() else None


def split_lost_parts(content: bytes) -> tuple[bytes, list[EmailMessage]]:
    """Return the content before the parts that it contains, and these: the boundary before them is damaged."""
    if b"\ncontent-" not in content.lower():
        return content, []
    before, *parts = _START.split(content)
    return before, [parse_message(_CLOSE.sub(b"", part)) for part in parts]


def outside_parts(container: EmailMessage) -> tuple[bytes, list[EmailMessage]]:
    """Return the text after the closing boundary of a container, and the parts before its first and after its last."""
    preamble, epilogue = (
        (text or "").encode("utf-8", "surrogateescape") for text in (container.preamble, container.epilogue)
    )
    _, first = split_lost_parts(preamble)
    text, last = split_lost_parts(epilogue)
    return _BOUNDARY.sub(b"", text).strip(), [*first, *last]


def is_cut(message: EmailMessage) -> bool:
    """Return whether a message ends before its last part does."""
    return any(isinstance(defect, CloseBoundaryNotFoundDefect) for defect in message.defects)


def _parsed(data: bytes) -> EmailMessage:
    return cast(EmailMessage, email.message_from_bytes(data, policy=_POLICY))
