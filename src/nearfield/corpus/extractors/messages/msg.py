"""Extractor for Outlook messages (``.msg``): properties of MAPI in a compound file, which olefile opens."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from nearfield.corpus.document import Document, Loss
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.html import HtmlExtractor
from nearfield.corpus.extractors.messages.compressed_rtf import decompress
from nearfield.corpus.extractors.messages.mail_document import (
    MailAttachment,
    MailContent,
    mail_document,
    nested_message,
    plain_body,
)
from nearfield.corpus.extractors.rtf import RtfExtractor
from nearfield.corpus.extractors.text_encoding import decode_as, decode_text
from nearfield.errors import InputError

if TYPE_CHECKING:
    from olefile import OleFileIO

#: Ids of properties [MS-OXPROPS].
_CLASS, _SUBJECT, _BODY, _HTML, _RTF = "001A", "0037", "1000", "1013", "1009"
_SENDER_NAME, _SENDER_ADDRESS, _SENDER_SMTP, _TO, _CC = "0C1A", "0C1F", "5D01", "0E04", "0E03"
_FILE_NAMES, _DATA, _CONTENT_ID = ("3707", "3704", "3001"), "3701", "3712"
_SUBMITTED, _DELIVERED, _CODE_PAGES = 0x0039, 0x0E06, (0x3FDE, 0x3FFD)
#: Bytes before the properties of a message in its file, and of one that is attached.
_HEAD, _INNER_HEAD = 32, 24
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

    def __init__(self, file: OleFileIO, path: Sequence[str], name: str) -> None:
        self._file, self._path, self._name = file, list(path), name
        self._numbers = self._fixed_properties(_INNER_HEAD if path else _HEAD)
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
        date = "" if moment is None else (_EPOCH + timedelta(microseconds=moment // 10)).isoformat(timespec="seconds")
        headers = [("From", author), ("To", self._text(_TO)), ("Cc", self._text(_CC)), ("Date", date)]
        body = self._body()
        attachments, losses = self._attachments(outer)
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

    def _body(self) -> Document | None:
        """Return the body: plain text, or HTML or RTF where there is none."""
        text = self._text(_BODY)
        html = self._stream(f"{_HTML}0102") or self._text(_HTML).encode()
        plain = plain_body(text) if text.strip() else None
        if html.strip():
            decoded = decode_text(html, self._name, self._encoding).text
            page = HtmlExtractor().parse(b"\xef\xbb\xbf" + decoded.encode("utf-8", "replace"), self._name)
            # Outlook derives the plain text from the page, with addresses of links and pictures in it.
            return page if page.text.strip() else plain
        compressed = self._stream(f"{_RTF}0102")
        if plain is None and compressed:
            return RtfExtractor().parse(decompress(compressed), self._name)
        return plain

    def _attachments(self, outer: Extractor) -> tuple[list[MailAttachment], list[Loss]]:
        attachments, losses = [], []
        folders = {
            entry[len(self._path)]
            for entry in self._file.listdir(streams=True, storages=True)
            if len(entry) > len(self._path) and entry[: len(self._path)] == self._path
        }
        for folder in sorted(name for name in folders if name.startswith("__attach_version1.0_")):
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

    def _inner_message(self, path: Sequence[str], name: str, outer: Extractor) -> MailAttachment | Loss:
        """Return an attached message, or the loss of one that cannot be read."""
        try:
            with nested_message(name):
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
        text = decode_as(data, self._encoding) if self._encoding else None
        return decode_text(data, self._name).text if text is None and data else text or ""

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
