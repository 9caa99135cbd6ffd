"""The document of an e-mail, whatever its file format: subject, header fields, body, and what its attachments say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.corpus.document import Block, Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.attached_files import read_attached
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError, MissingExtra
from nearfield.stores.filters import Value

#: Attachments of one message that are read.
_MAX_ATTACHMENTS = 200
#: Attachments that a loss names.
_MAX_NAMED = 5
_QUOTED = re.compile(r"(?:[ \t]*>[^\n]*(?:\n|\Z))+")
_SIGNATURES = ("smime.p7s", "signature.asc")
_SIGNATURE_STARTS = (b"-----BEGIN PGP SIGNATURE", b"-----BEGIN PGP PUBLIC KEY")
_SIGNED_MAIL = re.compile(rb"\s*content-type:\s*multipart/signed", re.IGNORECASE)
_ENCRYPTED_START = b"-----BEGIN PGP MESSAGE"
#: The first bytes of Outlook's own format for the content of a message (TNEF), and its usual name.
_TNEF, _TNEF_NAME = b"\x78\x9f\x3e\x22", "winmail.dat"


@dataclass(frozen=True)
class MailAttachment:
    """A file in a message. ``is_inline`` says that the body shows it, as a picture.

    ``document`` is that of an attached message, which was read already. ``media`` is the type that the message states.
    """

    name: str
    data: bytes
    is_inline: bool = False
    document: Document | None = None
    media: str = ""


@dataclass(frozen=True)
class MailContent:
    """What a message has. ``headers`` are the fields that a reader sees, such as From and Date, in order."""

    subject: str
    headers: Sequence[tuple[str, str]]
    bodies: Sequence[Document]
    attachments: Sequence[MailAttachment] = ()
    losses: Sequence[Loss] = ()
    author: str = ""
    date: str = ""


def plain_body(text: str) -> Document:
    """Return the document of a body in plain text; quoted lines are quotes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    blocks = []
    for block in paragraphs(text):
        is_quote = _QUOTED.fullmatch(text, block.start, block.end) is not None
        blocks.append(Block(block.start, block.end, "quote") if is_quote else block)
    return Document(text, tuple(blocks))


def mail_document(content: MailContent, outer: Extractor) -> Document:
    """Return the document of a message, with its attachments as sections, read with the options of ``outer``."""
    builder = DocumentBuilder()
    builder.heading(content.subject, 1)
    fields = "\n".join(f"{name}: {' '.join(value.split())}" for name, value in content.headers if value.strip())
    builder.add(fields)
    builder.visible_words = count_words(content.subject) + count_words(fields)
    builder.losses += content.losses
    for body in content.bodies:
        builder.append(body, levels=1)
    _add_attachments(builder, content.attachments, outer)
    facts = {"author": content.author, "date": content.date}
    meta: dict[str, Value] = {name: value for name, value in facts.items() if value}
    return builder.document("markdown", content.subject, meta)


def _add_attachments(builder: DocumentBuilder, attachments: Sequence[MailAttachment], outer: Extractor) -> None:
    unread: dict[str, list[str]] = {}
    for number, attachment in enumerate(attachments):
        if attachment.name.lower() in _SIGNATURES or attachment.data.lstrip().startswith(_SIGNATURE_STARTS):
            continue
        if number >= _MAX_ATTACHMENTS:
            unread.setdefault(f"only the first {_MAX_ATTACHMENTS} are read", []).append(attachment.name)
            continue
        try:
            document = _attached_document(attachment, outer)
        except (InputError, MissingExtra) as error:
            reason = str(error).removeprefix(f"{attachment.name}: ").rstrip(".")
            reason = "a picture without a description" if attachment.is_inline else reason
            unread.setdefault(reason, []).append(attachment.name)
            continue
        builder.heading(f"Attachment: {attachment.name}", 2)
        builder.visible_words = (builder.visible_words or 0) + count_words(f"Attachment {attachment.name}")
        builder.append(document, levels=2)
    for reason, names in unread.items():
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        plural = "s" if len(names) > 1 else ""
        builder.losses.append(Loss(f"the attachment{plural} {', '.join(names[:_MAX_NAMED])}{more} ({reason})"))


def _attached_document(attachment: MailAttachment, outer: Extractor) -> Document:
    if attachment.document is not None:
        return attachment.document
    _require_readable(attachment)
    # Outlook stores a signed message as a file that is a mail.
    name = f"{attachment.name}.eml" if _SIGNED_MAIL.match(attachment.data) else attachment.name
    return read_attached(attachment.data, name, outer, attachment.media)


def _require_readable(attachment: MailAttachment) -> None:
    """Raise InputError if an attachment is empty, encrypted, or in a format that hides what is in it."""
    if not attachment.data:
        raise InputError(f"{attachment.name}: the file is empty.")
    if attachment.data.lstrip().startswith(_ENCRYPTED_START):
        raise InputError(f"{attachment.name}: encrypted.")
    if attachment.data.startswith(_TNEF) or attachment.name.lower() == _TNEF_NAME:
        raise InputError(
            f"{attachment.name}: Outlook's own format, with the text or the files of the message; export it as .msg"
        )
