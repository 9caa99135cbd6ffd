"""The parts of a mail: bodies, reports and attachments, in order, and what of them cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage, Message
from typing import cast

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import suffix_of
from nearfield.corpus.extractors.attached_files import nested_file
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.messages.mail_document import MailAttachment, plain_body
from nearfield.corpus.extractors.messages.mail_text import (
    header_text,
    known_encoding,
    part_text,
    without_armor,
    word_text,
)
from nearfield.corpus.extractors.messages.mime_repair import (
    outside_parts,
    parse_message,
    split_lost_parts,
    with_boundary,
)
from nearfield.corpus.extractors.messages.transfer_encoding import (
    PartContent,
    decode_base64,
    part_content,
    raw_content,
    split_uuencoded,
)
from nearfield.corpus.extractors.text_encoding import to_utf8
from nearfield.errors import InputError

#: Fields of a message that a reader sees, besides its subject.
SHOWN_FIELDS = ("From", "To", "Cc", "Date")
_BODIES = ("text/plain", "text/html", "text/enriched", "text/richtext")
#: Reports about a message: fields that a reader needs.
_REPORTS = (
    "message/delivery-status", "message/global-delivery-status", "message/disposition-notification",
    "message/global-disposition-notification", "message/feedback-report", "message/tracking-status",
)  # fmt: skip
#: The header of a message that another one is about.
_HEADERS = ("text/rfc822-headers", "message/rfc822-headers", "message/global-headers")
_CMS = ("application/pkcs7-mime", "application/x-pkcs7-mime")
#: The identifier of signed data in CMS; encrypted data has another one.
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
#: Parts that a reader does not see: signatures, keys, forms of the same body, and what a page is styled with.
_UNSEEN = (
    "application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature",
    "application/pgp-keys", "application/applefile", "text/x-amp-html", "text/watch-html",
)  # fmt: skip
_STYLES = ("text/css", "text/javascript", "application/javascript", "application/x-javascript", "font/")
_CUT = "Export or download the message again."


@dataclass
class MailParts:
    """The parts of a message. ``nested`` returns the document of a message that is attached to it."""

    name: str
    nested: Callable[[EmailMessage, str], Document]
    bodies: list[Document] = field(default_factory=list)
    attachments: list[MailAttachment] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    #: The number of parts that are encrypted.
    encrypted: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read, and nothing can be."""
        return not any(body.text.strip() for body in self.bodies) and not self.attachments

    def add(self, part: EmailMessage, *, within: str = "") -> None:
        """Add a part, and those in it. ``within`` is the type of the container around it."""
        kind = part.get_content_type()
        if kind == "multipart/encrypted":
            self.encrypted += 1
        elif part.get_content_maintype() == "multipart":
            self._add_container(part, within)
        elif kind in _UNSEEN or (within == "multipart/related" and kind.startswith(_STYLES)):
            return
        elif kind in _CMS:
            self._add_sealed(part)
        elif kind in _REPORTS:
            self.bodies.append(plain_body("\n\n".join(filter(None, _report_blocks(part)))))
        elif kind in _HEADERS:
            self.bodies.append(plain_body(_shown_header(part)))
        elif part.get_content_maintype() == "message":
            self._add_message(part)
        else:
            self._add_leaf(part, within)

    # -- containers ----------------------------------------------------------------------------------------------

    def _add_container(self, part: EmailMessage, within: str) -> None:
        container = part if part.is_multipart() else with_boundary(part)
        if container is None:
            self._add_unparted(part, within)
            return
        text, parts = outside_parts(container)
        inner = [*_parts(container), *parts]
        if container.get_content_type() == "multipart/alternative":
            self._add_alternative(inner)
        else:
            for item in inner:
                self.add(item, within=container.get_content_type())
        if text:
            self._add_text(text, "")

    def _add_unparted(self, part: EmailMessage, within: str) -> None:
        """Add the text of a container in which no boundary is found, and the parts that it has nevertheless."""
        before, parts = split_lost_parts(raw_content(part))
        for item in parts:
            self.add(item, within=within or "multipart/mixed")
        if before.strip() and not parts:
            self._add_text(before, part.get_content_charset() or "")

    def _add_alternative(self, parts: list[EmailMessage]) -> None:
        """Add one alternative: the body that has the most words, which is plain text if they are equal."""
        choices = []
        for part in parts:
            choice = MailParts(self.name, self.nested)
            choice.add(part, within="multipart/alternative")
            choices.append(choice)
        if not choices:
            return
        best = max(choices, key=lambda choice: sum(map(_size, choice.bodies)))
        self.bodies += best.bodies
        self.losses += best.losses
        self.encrypted += sum(choice.encrypted for choice in choices)
        # A calendar or a picture may be beside the body, in any alternative.
        self.attachments += [attachment for choice in choices for attachment in choice.attachments]

    # -- messages ------------------------------------------------------------------------------------------------

    def _add_message(self, part: EmailMessage) -> None:
        name = _file_name(part) or "message.eml"
        inner = _inner_message(part)
        if part.get_content_type() == "message/external-body":
            stated = [str(part.get_param(name) or "") for name in ("url", "server", "site", "directory", "name")]
            place = word_text(" ".join(filter(None, stated))) or "an unknown place"
            self.losses.append(Loss(f"an attachment that is not in the message, but at {place}"))
            return
        if inner is None:
            self._add_leaf(part, "")
            return
        try:
            with nested_file(name):
                document = self.nested(inner, name)
        except InputError as error:
            reason = str(error).removeprefix(f"{name}: ").rstrip(".")
            self.losses.append(Loss(f"the attachment {name} ({reason})"))
        else:
            self.attachments.append(MailAttachment(name, b"", document=document))

    def _add_sealed(self, part: EmailMessage) -> None:
        """Add what is within a signature (S/MIME); without its type, its first bytes show what it is."""
        data = part_content(part).data
        kind = str(part.get_param("smime-type") or "").lower()
        if kind != "signed-data" and _SIGNED_DATA not in data[:64]:
            self.encrypted += 1
            return
        reason = "the text, which is within the signature (S/MIME)"
        self.losses.append(Loss(reason, advice="Export the message without its signature, or as .msg or PDF."))

    # -- bodies and attachments ----------------------------------------------------------------------------------

    def _add_leaf(self, part: EmailMessage, within: str) -> None:
        lost: list[EmailMessage] = []
        if within:
            before, lost = split_lost_parts(raw_content(part))
            if lost:
                part.set_payload(before.decode("ascii", "surrogateescape"))
        content = part_content(part)
        if _is_body(part):
            self._add_body(part, content)
        else:
            self._add_attachment(part, content, within)
        for item in lost:
            self.add(item, within=within)
        if content.rest.strip():
            self._add_text(content.rest, "")

    def _add_body(self, part: EmailMessage, content: PartContent) -> None:
        if content.damaged:
            self.losses.append(Loss("a part of the body, whose encoding is damaged or cut off", advice=_CUT))
        charset = part.get_content_charset() or ""
        try:
            if part.get_content_type() == "text/html":
                self.bodies.append(_page(content.data, self.name, charset))
            elif content.data.strip():
                self._add_text(content.data, charset, part)
        except InputError as error:
            reason = str(error).removeprefix(f"{self.name}: ").rstrip(".")
            self.losses.append(Loss(f"the body ({reason})"))

    def _add_text(self, data: bytes, charset: str, part: EmailMessage | None = None) -> None:
        """Add a body in plain text, and the files in it."""
        text, is_encrypted = without_armor(part_text(data, self.name, charset))
        self.encrypted += is_encrypted
        text, files = split_uuencoded(text)
        self.attachments += [MailAttachment(name, content) for name, content in files]
        if part is not None and str(part.get_param("format")).lower() == "flowed":
            text = _unflowed(text, joined=str(part.get_param("delsp")).lower() == "yes")
        self.bodies.append(plain_body(text))

    def _add_attachment(self, part: EmailMessage, content: PartContent, within: str) -> None:
        kind, charset = part.get_content_type(), known_encoding(part.get_content_charset() or "")
        major, _, minor = kind.partition("/")
        name = _file_name(part) or f"{major}{suffix_of(kind) or f'.{minor}'}"
        if content.damaged:
            reason = f"a part of the attachment {name}, whose encoding is damaged or cut off"
            self.losses.append(Loss(reason, advice=_CUT))
        data = to_utf8(content.data, charset) if major == "text" and charset else content.data
        is_inline = major == "image" and ("content-id" in part or within == "multipart/related")
        self.attachments.append(MailAttachment(name, data, is_inline=is_inline, media=kind))


def _parts(container: EmailMessage) -> Iterator[EmailMessage]:
    payload = container.get_payload()
    yield from (cast(EmailMessage, part) for part in payload if isinstance(part, Message))


def _size(body: Document) -> int:
    """Return the words of a body; a tenth more is needed for HTML, whose links and footers say little."""
    words = len(body.text.split())
    return words * 10 if body.form == "prose" else words * 9


def _is_body(part: EmailMessage) -> bool:
    return (
        part.get_content_type() in _BODIES and part.get_content_disposition() != "attachment" and not _file_name(part)
    )


def _file_name(part: EmailMessage) -> str:
    try:
        return word_text(part.get_filename() or "")
    except (LookupError, ValueError, TypeError, AttributeError):  # of damaged parameters
        return ""


def _page(data: bytes, name: str, charset: str) -> Document:
    """Return a body in HTML; the encoding that the mail states counts more than that of the page."""
    if known_encoding(charset) or not data.isascii():
        data = b"\xef\xbb\xbf" + part_text(data, name, charset).encode("utf-8", "replace")
    try:
        return HtmlExtractor().parse(data, name)
    except InputError:
        if data.strip(b"\xef\xbb\xbf \t\r\n"):
            raise
        return Document("")


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


# -- messages within messages --------------------------------------------------------------------------------------


def _inner_message(part: EmailMessage) -> EmailMessage | None:
    """Return the message in a part; one that is encoded, against the rules of MIME, is decoded."""
    payload = part.get_payload()
    inner = payload[0] if isinstance(payload, list) and payload else None
    if not isinstance(inner, EmailMessage):
        return None
    if not inner.keys() and str(part.get("content-transfer-encoding", "")).strip().lower() == "base64":
        return parse_message(decode_base64(raw_content(inner)).data)
    return inner


def _report_blocks(part: EmailMessage) -> Iterator[str]:
    """Yield the fields of a report, for each recipient."""
    for block in _parts(part) if part.is_multipart() else ():
        fields = [f"{name}: {header_text(block, name)}" for name in dict.fromkeys(block.keys())]
        yield "\n".join(fields)
        yield raw_content(block).decode("utf-8", "replace").strip()
    if not part.is_multipart():
        yield part_content(part).data.decode("utf-8", "replace").strip()


def _shown_header(part: EmailMessage) -> str:
    """Return the fields of a header that a reader sees."""
    message = _inner_message(part) or parse_message(part_content(part).data)
    fields = [(name, header_text(message, name)) for name in ("Subject", *SHOWN_FIELDS)]
    return "\n".join(f"{name}: {value}" for name, value in fields if value)
