"""Small files of types that Python's own libraries can write: mails, notebooks, books, calendars, archives."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import Any


def mail(subject: str, text: str, *, html: str = "", attachments: Mapping[str, bytes] | None = None) -> bytes:
    """Return an e-mail with a body, and another one in HTML if there is one."""
    message = EmailMessage()
    message["From"], message["To"] = "Änne Müller <anne@example.org>", "Bob <bob@example.org>"
    message["Date"], message["Subject"] = "Mon, 02 Mar 2026 10:11:12 +0100", subject
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, data in (attachments or {}).items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def mailbox(messages: Sequence[bytes]) -> bytes:
    """Return a mailbox in the format mbox."""
    return b"".join(b"From anne@example.org Mon Mar  2 10:11:12 2026\n" + data + b"\n\n" for data in messages)


def notebook(cells: Sequence[Mapping[str, Any]], **metadata: Any) -> bytes:
    """Return a notebook of version 4."""
    language = {"language_info": {"name": "python"}}
    data = {"nbformat": 4, "nbformat_minor": 5, "metadata": {**language, **metadata}, "cells": list(cells)}
    return json.dumps(data).encode()


def zip_file(files: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def epub(chapters: Mapping[str, str], *, title: str = "A book", more: Mapping[str, bytes | str] | None = None) -> bytes:
    """Return a book with chapters, which are the bodies of pages by their names."""
    items = "".join(
        f'<item id="{name}" href="text/{name}.xhtml" media-type="application/xhtml+xml"/>' for name in chapters
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in chapters)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title><dc:creator>Ann Writer</dc:creator><dc:language>en</dc:language></metadata>"
        f'<manifest><item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>{items}'
        f'</manifest><spine><itemref idref="nav"/>{order}</spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    )
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{}</body></html>'
    files = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "OEBPS/book.opf": package}
    pages = {f"OEBPS/text/{name}.xhtml": page.format(body) for name, body in chapters.items()}
    return zip_file({**files, "OEBPS/nav.xhtml": page.format("<p>Contents</p>"), **pages, **(more or {})})


CALENDAR = """BEGIN:VCALENDAR\r
VERSION:2.0\r
X-WR-CALNAME:Team\r
BEGIN:VTIMEZONE\r
TZID:Europe/Berlin\r
END:VTIMEZONE\r
BEGIN:VEVENT\r
SUMMARY:Budget review\\, second round\r
DTSTART;TZID=Europe/Berlin:20260302T093000\r
DTEND;TZID=Europe/Berlin:20260302T103000\r
RRULE:FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20260501T000000Z\r
LOCATION:Room 5\r
ORGANIZER;CN=Ann:mailto:ann@example.org\r
ATTENDEE;CN="Bob, Jr.":mailto:bob@example.org\r
ATTENDEE:mailto:carl@example.org\r
DESCRIPTION:Please bring the figures of the last quarter\\nand the plan for t\r
 he next one.\r
BEGIN:VALARM\r
DESCRIPTION:Reminder\r
END:VALARM\r
END:VEVENT\r
BEGIN:VTODO\r
SUMMARY:Send the invoice\r
DUE;VALUE=DATE:20260310\r
END:VTODO\r
END:VCALENDAR\r
"""

CONTACTS = """BEGIN:VCARD
VERSION:3.0
FN:Änne Müller
N:Müller;Änne;;Dr.;
ORG:Example GmbH;Sales
TEL;TYPE=WORK,VOICE:+49 30 123456
TEL;TYPE=CELL:+49 170 123456
EMAIL:anne@example.org
ADR;TYPE=WORK:;;Hauptstraße 5;Berlin;;10115;Germany
NOTE:Prefers calls in the morning\\, not by mail.
PHOTO;ENCODING=b:AAAA
END:VCARD
BEGIN:VCARD
VERSION:2.1
N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Gro=C3=9F;Karl
NOTE;ENCODING=QUOTED-PRINTABLE:a long note that goes on =
and on
END:VCARD
"""
