"""Extractor for Outlook messages (``.msg``): properties of MAPI in a compound file, which olefile opens."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.attached_files import nested_file
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.messages.compressed_rtf import decompress
from nearfield.corpus.extractors.messages.mail_document import (
    MailAttachment,
    MailContent,
    mail_document,
    plain_body,
)
from nearfield.corpus.extractors.messages.mail_text import without_armor
from nearfield.corpus.extractors.rtf import RtfExtractor
from nearfield.corpus.extractors.text_encoding import decode_anyway
from nearfield.errors import InputError

if TYPE_CHECKING:
    from olefile import OleFileIO

#: Ids of properties [MS-OXPROPS].
_CLASS, _SUBJECT, _BODY, _HTML, _RTF = "001A", "0037", "1000", "1013", "1009"
_SENDER_NAME, _SENDER_ADDRESS, _SENDER_SMTP, _TO, _CC = "0C1A", "0C1F", "5D01", "0E04", "0E03"
_FILE_NAMES, _DATA, _CONTENT_ID = ("3707", "3704", "3001"), "3701", "3712"
_SUBMITTED, _DELIVERED, _CODE_PAGES = 0x0039, 0x0E06, (0x3FDE, 0x3FFD)
_START, _END, _RECIPIENT_TYPE = 0x0060, 0x0061, 0x0C15
#: Bytes before the properties of a message in its file, of one that is attached, and of a recipient.
_HEAD, _INNER_HEAD, _PART_HEAD = 32, 24, 8
_PROPERTIES = "__properties_version1.0"
_EPOCH = datetime(1601, 1, 1, tzinfo=timezone.utc)


class MsgExtractor(Extractor):
    """Outlook messages."""

    suffixes = dict.fromkeys((".msg", ".oft"), "application/vnd.ms-outlook")
    uses_ocr = True

    def parse(self, data: bytes, name: str) -> Document:
        """Return subject, header fields, body and attachments of a message."""
        import olefile

        if not olefile.isOleFile(data=data):
            raise InputError(f"{name}: damaged, or no Outlook message.")
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            if not file.exists(_PROPERTIES):
                raise InputError(f"{name}: damaged, or no Outlook message.")
            return _OutlookMessage(file, [], name).document(self)


class _OutlookMessage:
    """A message in a compound file, at the root or below an attachment."""

    def __init__(self, file: OleFileIO, path: Sequence[str], name: str, *, head: int | None = None) -> None:
        self._file, self._path, self._name = file, list(path), name
        self._numbers = self._fixed_properties(head or (_INNER_HEAD if path else _HEAD))
        self._encoding = next((f"cp{self._numbers[tag]}" for tag in _CODE_PAGES if tag in self._numbers), "")
        self._encoding = {"cp65001": "utf-8", "cp20127": "", "cp28591": "cp1252"}.get(self._encoding, self._encoding)

    def document(self, outer: Extractor) -> Document:
        """Return the document of the message; its attachments are read with the options of ``outer``."""
        kind = self._text(_CLASS).upper()
        if kind.startswith("IPM.NOTE.SMIME") and "SIGNED" not in kind:
            raise InputError(f"{self._name}: the message is encrypted. Export it after decryption.")
        sender = self._text(_SENDER_NAME)
        address = self._text(_SENDER_SMTP) or self._text(_SENDER_ADDRESS)
        author = f"{sender} <{address}>" if sender and "@" in address and address != sender else sender or address
        moment = self._numbers.get(_SUBMITTED, self._numbers.get(_DELIVERED))
        date = "" if moment is None else _moment(moment)
        headers = [("From", author), *self._recipients(), ("Date", date), *self._times(kind)]
        attachments, losses = self._attachments(outer)
        body = self._body(losses)
        return mail_document(
            MailContent(
                subject=self._text(_SUBJECT),
                headers=headers,
                bodies=[] if body is None else [body],
                attachments=attachments,
                losses=losses,
                author=author,
                date=date,
            ),
            outer,
        )

    def _body(self, losses: list[Loss]) -> Document | None:
        """Return the body: HTML, plain text where it has no words, or RTF; add the loss of a damaged one."""
        # Outlook derives the plain text from the page, with addresses of links and pictures in it.
        for read in (self._page, self._plain, self._rich_text):
            try:
                body = read()
            except InputError as error:
                losses.append(Loss(f"the body ({str(error).removeprefix(f'{self._name}: ').rstrip('.')})"))
                continue
            if body is not None and body.text.strip():
                return body
        return None

    def _plain(self) -> Document | None:
        text, is_encrypted = without_armor(self._text(_BODY))
        if is_encrypted and not text.strip():
            raise InputError("encrypted: export the message after decryption")
        return plain_body(text) if text.strip() else None

    def _page(self) -> Document | None:
        html = self._stream(f"{_HTML}0102") or self._text(_HTML).encode()
        if not html.strip():
            return None
        text = decode_anyway(html, self._name, self._encoding)
        return HtmlExtractor().parse(b"\xef\xbb\xbf" + text.encode("utf-8", "replace"), self._name)

    def _rich_text(self) -> Document | None:
        compressed = self._stream(f"{_RTF}0102")
        return RtfExtractor().parse(decompress(compressed), self._name) if compressed else None

    def _recipients(self) -> list[tuple[str, str]]:
        """Return the recipients: as the message shows them, or by their own properties where it does not."""
        shown = [("To", self._text(_TO)), ("Cc", self._text(_CC))]
        if any(text for _, text in shown):
            return shown
        names: dict[int, list[str]] = {}
        for folder in self._folders("__recip_version1.0_"):
            recipient = _OutlookMessage(self._file, [*self._path, folder], self._name, head=_PART_HEAD)
            name, address = recipient._text("3001"), recipient._text("39FE") or recipient._text("3003")
            text = f"{name} <{address}>" if name and "@" in address and address != name else name or address
            names.setdefault(recipient._numbers.get(_RECIPIENT_TYPE, 1), []).append(text)
        return [(field, "; ".join(names.get(kind, ()))) for kind, field in ((1, "To"), (2, "Cc"))]

    def _times(self, kind: str) -> list[tuple[str, str]]:
        """Return the start and the end of an appointment or a meeting."""
        if not kind.startswith(("IPM.APPOINTMENT", "IPM.SCHEDULE")):
            return []
        times = [("Start", self._numbers.get(_START)), ("End", self._numbers.get(_END))]
        return [(field, f"{_moment(number)[:16].replace('T', ' ')} UTC") for field, number in times if number]

    def _attachments(self, outer: Extractor) -> tuple[list[MailAttachment], list[Loss]]:
        attachments, losses = [], []
        for folder in self._folders("__attach_version1.0_"):
            part = _OutlookMessage(self._file, [*self._path, folder], self._name)
            name = next((name for tag in _FILE_NAMES if (name := part._text(tag))), "attachment")
            if self._file.exists([*part._path, f"__substg1.0_{_DATA}000D"]):
                attachment = self._inner_message([*part._path, f"__substg1.0_{_DATA}000D"], name, outer)
                if isinstance(attachment, Loss):
                    losses.append(attachment)
                else:
                    attachments.append(attachment)
                continue
            attachments.append(
                MailAttachment(name, part._stream(f"{_DATA}0102"), is_inline=bool(part._text(_CONTENT_ID)))
            )
        return attachments, losses

    def _folders(self, start: str) -> list[str]:
        """Return the names of the folders of the message that begin with ``start``, in order."""
        depth = len(self._path)
        entries = self._file.listdir(streams=True, storages=True)
        names = {entry[depth] for entry in entries if len(entry) > depth and entry[:depth] == self._path}
        return sorted(name for name in names if name.startswith(start))

    def _inner_message(self, path: Sequence[str], name: str, outer: Extractor) -> MailAttachment | Loss:
        """Return an attached message, or the loss of one that cannot be read."""
        if not self._file.exists([*path, _PROPERTIES]):
            return Loss(f"the attachment {name} (an embedded object)")
        try:
            with nested_file(name):
                document = _OutlookMessage(self._file, path, name).document(outer)
        except InputError as error:
            return Loss(f"the attachment {name} ({str(error).removeprefix(f'{name}: ').rstrip('.')})")
        return MailAttachment(name, b"", document=document)

    def _text(self, tag: str) -> str:
        """Return a property as text; empty if the message lacks it."""
        wide = self._stream(f"{tag}001F")
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        data = self._stream(f"{tag}001E").rstrip(b"\0")
        return decode_anyway(data, self._name, self._encoding) if data else ""

    def _stream(self, tag: str) -> bytes:
        path = [*self._path, f"__substg1.0_{tag}"]
        if not self._file.exists(path) or self._file.get_type(path) != 2:
            return b""
        with self._file.openstream(path) as stream:
            return bytes(stream.read())

    def _fixed_properties(self, head: int) -> dict[int, int]:
        """Return the properties that are numbers or times."""
        path = [*self._path, _PROPERTIES]
        if not self._file.exists(path):
            return {}
        with self._file.openstream(path) as stream:
            data = stream.read()[head:]
        entries = struct.iter_unpack("<HHIQ", data[: len(data) // 16 * 16])
        return {tag: value if kind == 0x40 else value & 0xFFFFFFFF for kind, tag, _, value in entries}


def _moment(number: int) -> str:
    """Return a time, which counts units of 100 nanoseconds, in ISO format; empty if it is none that Python knows."""
    try:
        return (_EPOCH + timedelta(microseconds=number // 10)).isoformat(timespec="seconds")
    except OverflowError:
        return ""
