"""Extractors for e-mails (``.eml``) and mailboxes (``.mbox``), by Python's own email package."""

from __future__ import annotations

import email
import email.policy
import email.utils
import io
import re
from email.message import EmailMessage, Message
from typing import cast

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.messages.mail_document import (
    MailAttachment,
    MailContent,
    mail_document,
    plain_body,
)
from nearfield.corpus.extractors.messages.mailbox import message_places, unescape_message
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.errors import InputError

_SHOWN = ("From", "To", "Cc", "Date")
_KNOWN_HEADERS = re.compile(rb"^(?:from|to|subject|date|message-id|mime-version|received):", re.I | re.M)
_ENCRYPTED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
_ARMOR = "-----BEGIN PGP MESSAGE-----"


class EmlExtractor(Extractor):
    """E-mails."""

    suffixes = dict.fromkeys((".eml", ".emlx", ".mht", ".mhtml"), "message/rfc822")
    uses_ocr = True

    def parse(self, data: bytes, name: str) -> Document:
        """Return subject, header fields, body and attachments of a message."""
        return message_document(_without_length(data), name, self)


class MboxExtractor(Extractor):
    """Mailboxes. A folder's source lists each message as a document; elsewhere all messages are one document."""

    suffixes = dict.fromkeys((".mbox", ".mbx"), "application/mbox")
    uses_ocr = True

    def parse(self, data: bytes, name: str) -> Document:
        """Return all messages in order, each one as a section."""
        builder, failed = DocumentBuilder(), 0
        for place in message_places(io.BytesIO(data)):
            try:
                builder.append(message_document(unescape_message(data[place.start : place.end]), name, self))
            except InputError:
                failed += 1
        if not len(builder):
            raise InputError(f"{name}: no messages, or none that can be read.")
        if failed:
            builder.losses.append(Loss(f"{failed} message{'s' if failed > 1 else ''} (damaged, empty or encrypted)"))
        return builder.document("markdown")


def message_document(data: bytes, name: str, outer: Extractor) -> Document:
    """Return the document of a message; its attachments are read with the options of ``outer``.

    Raises:
        InputError: it is no message, or is encrypted.
    """
    if not _KNOWN_HEADERS.search(data[: 2**16]):
        raise InputError(f"{name}: not an e-mail: it has no header.")
    message = email.message_from_bytes(data, policy=email.policy.default)
    if message.get_content_type() in _ENCRYPTED and message.get_param("smime-type") != "signed-data":
        raise InputError(f"{name}: the message is encrypted. Export it after decryption.")
    bodies: list[Document] = []
    attachments: list[MailAttachment] = []
    losses: list[Loss] = []
    _collect(message, name, bodies, attachments, losses)
    headers = [(field, _header(message, field)) for field in _SHOWN]
    return mail_document(
        MailContent(
            subject=_header(message, "Subject"),
            headers=headers,
            bodies=bodies,
            attachments=attachments,
            losses=losses,
            author=_header(message, "From"),
            date=_date(message),
        ),
        outer,
    )


def _header(message: EmailMessage, field: str) -> str:
    try:
        return " ".join(str(message.get(field, "")).split())
    except (ValueError, TypeError, IndexError, AttributeError, LookupError):  # the parser fails on some damaged fields
        return " ".join(str(dict(message.raw_items()).get(field, "")).split())


def _date(message: EmailMessage) -> str:
    try:
        moment = email.utils.parsedate_to_datetime(_header(message, "Date"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
    return moment.isoformat()


def _collect(
    message: EmailMessage,
    name: str,
    bodies: list[Document],
    attachments: list[MailAttachment],
    losses: list[Loss],
) -> None:
    """Add the bodies and attachments of a message or part; of alternatives the one that says most."""
    kind = message.get_content_type()
    if kind == "multipart/alternative":
        _collect_alternative(message, name, bodies, attachments, losses)
    elif message.is_multipart() and kind != "message/rfc822":
        for part in message.iter_parts():
            _collect(cast(EmailMessage, part), name, bodies, attachments, losses)
    elif _is_body(message):
        bodies.append(_body(message, name))
    else:
        attachment = _attachment(message)
        if attachment is not None:
            attachments.append(attachment)


def _collect_alternative(
    message: EmailMessage,
    name: str,
    bodies: list[Document],
    attachments: list[MailAttachment],
    losses: list[Loss],
) -> None:
    """Add one alternative: the body that has the most words, which is plain text if they are equal."""
    choices = []
    for part in message.iter_parts():
        choice: tuple[list[Document], list[MailAttachment], list[Loss]] = ([], [], [])
        _collect(cast(EmailMessage, part), name, *choice)
        choices.append(choice)
    if choices:
        best = max(choices, key=lambda choice: sum(_size(body) for body in choice[0]))
        bodies += best[0]
        losses += best[2]
        # A calendar or a picture may be beside the body, in any alternative.
        attachments += [attachment for choice in choices for attachment in choice[1]]


def _size(body: Document) -> int:
    """Return the words of a body; a tenth more is needed for HTML, whose links and footers say little."""
    words = len(body.text.split())
    return words * 10 if body.form == "prose" else words * 9


def _is_body(message: EmailMessage) -> bool:
    is_text = message.get_content_type() in ("text/plain", "text/html", "text/enriched")
    return is_text and not message.is_attachment() and not message.get_filename()


def _body(message: EmailMessage, name: str) -> Document:
    payload = message.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = message.get_content_charset() or ""
    if not data.strip():
        return Document("")
    if message.get_content_type() == "text/html":
        text = decode(data, name, charset) if charset else None
        return HtmlExtractor().parse(data if text is None else b"\xef\xbb\xbf" + text.encode("utf-8", "replace"), name)
    text = decode(data, name, "" if charset in ("us-ascii", "utf-8", "utf8") else charset)
    if _ARMOR in text:
        raise InputError(f"{name}: the message is encrypted. Export it after decryption.")
    if message.get_param("format") == "flowed":
        text = _unflowed(text, joined=message.get_param("delsp") == "yes")
    return plain_body(text)


def _unflowed(text: str, *, joined: bool) -> str:
    """Return a text of format=flowed (RFC 3676) with its soft line breaks removed."""
    lines: list[str] = []
    soft = False
    for line in text.splitlines():
        if line.startswith(" "):
            line = line[1:]
        if soft and not line.startswith(">"):
            lines[-1] = (lines[-1].removesuffix(" ") if joined else lines[-1]) + line
        else:
            lines.append(line)
        soft = line.endswith(" ") and line != "-- " and not line.startswith(">")
    return "\n".join(lines)


def _attachment(message: EmailMessage) -> MailAttachment | None:
    kind = message.get_content_type()
    if kind == "message/rfc822":
        inner = message.get_payload()
        part = inner[0] if isinstance(inner, list) and inner else None
        return MailAttachment("message.eml", part.as_bytes()) if isinstance(part, Message) else None
    payload = message.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return None
    from nearfield.corpus.extractors import suffix_of

    name = message.get_filename() or f"{kind.partition('/')[0]}{suffix_of(kind) or '.' + kind.partition('/')[2]}"
    return MailAttachment(name, payload, is_inline=kind.startswith("image/") and "content-id" in message)


def _without_length(data: bytes) -> bytes:
    """Return a message without the first line of Apple's ``.emlx``, the number of its bytes, and what follows these."""
    first, _, rest = data.partition(b"\n")
    return rest[: int(first)] if first.strip().isdigit() and len(first) < 12 else data
