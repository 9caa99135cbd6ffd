"""Extractors for e-mails (``.eml``) and mailboxes (``.mbox``), by Python's own email package."""

from __future__ import annotations

import email.utils
import io
import re
from collections import Counter
from email.message import EmailMessage

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor, create_extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.messages.mail_document import MailContent, mail_document
from nearfield.corpus.extractors.messages.mail_text import header_text
from nearfield.corpus.extractors.messages.mailbox import message_places, unescape_message
from nearfield.corpus.extractors.messages.mime_parts import SHOWN_FIELDS, MailParts
from nearfield.corpus.extractors.messages.mime_repair import is_cut, parse_message
from nearfield.errors import InputError

_KNOWN_HEADERS = re.compile(
    rb"^(?:from|to|subject|date|message-id|mime-version|received|content-type):", re.IGNORECASE | re.MULTILINE
)


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
        builder, failed = DocumentBuilder(), Counter[str]()
        for place in message_places(io.BytesIO(data)):
            try:
                builder.append(_message(unescape_message(data[place.start : place.end]), name, self))
            except InputError as error:
                failed[str(error).removeprefix(f"{name}: ").rstrip(".")] += 1
        if not len(builder):
            raise InputError(f"{name}: no messages, or none that can be read.")
        for reason, count in failed.items():
            builder.losses.append(Loss(f"{count} message{'s' if count > 1 else ''} ({reason})"))
        return builder.document("markdown")


def _message(data: bytes, name: str, outer: Extractor) -> Document:
    """Return the document of a message; any error of its parser is one of this message alone."""
    inner = create_extractor(EmlExtractor, outer.options)
    inner.on_page = outer.on_page
    return inner.extract(data, name)


def message_document(data: bytes, name: str, outer: Extractor) -> Document:
    """Return the document of a message; its attachments are read with the options of ``outer``.

    Raises:
        InputError: it is no message, or is encrypted.
    """
    if not _KNOWN_HEADERS.search(data[: 2**16]):
        raise InputError(f"{name}: not an e-mail: it has no header.")
    return _document(parse_message(data), name, outer)


def _document(message: EmailMessage, name: str, outer: Extractor) -> Document:
    parts = MailParts(name, lambda inner, inner_name: _document(inner, inner_name, outer))
    parts.add(message)
    if parts.encrypted and parts.is_empty:
        raise InputError(f"{name}: the message is encrypted. Export it after decryption.")
    return mail_document(
        MailContent(
            subject=header_text(message, "Subject"),
            headers=[(field, header_text(message, field)) for field in SHOWN_FIELDS],
            bodies=parts.bodies,
            attachments=parts.attachments,
            losses=list(dict.fromkeys((*parts.losses, *_losses(message, parts)))),
            author=header_text(message, "From"),
            date=_date(message),
        ),
        outer,
    )


def _losses(message: EmailMessage, parts: MailParts) -> list[Loss]:
    losses = []
    if parts.encrypted:
        plural = "s" if parts.encrypted > 1 else ""
        losses.append(Loss(f"{parts.encrypted} encrypted part{plural}", advice="Export it after decryption."))
    if is_cut(message):
        reason = "the end of the message: it is cut off before the end of its last part"
        losses.append(Loss(reason, advice="Export or download the message again."))
    return losses


def _date(message: EmailMessage) -> str:
    try:
        moment = email.utils.parsedate_to_datetime(header_text(message, "Date"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
    return moment.isoformat()


def _without_length(data: bytes) -> bytes:
    """Return a message without the first line of Apple's ``.emlx``, the number of its bytes, and what follows these."""
    first, _, rest = data.partition(b"\n")
    return rest[: int(first)] if first.strip().isdigit() and len(first) < 12 else data
