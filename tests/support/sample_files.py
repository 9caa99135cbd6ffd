"""Small files of types that Python's own libraries can write: mails, notebooks, books, calendars, archives."""

from __future__ import annotations

import io
import json
import struct
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


_FREE, _END, _TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound_file(streams: Mapping[str, bytes]) -> bytes:
    """Return a compound file (OLE) with streams, whose paths may have folders."""
    names, contents, children = ["Root Entry"], [b""], {0: list[int]()}
    folders = {"": 0}
    for path, data in streams.items():
        *parents, last = path.split("/")
        for depth, part in enumerate(parents, 1):
            folder, parent = "/".join(parents[:depth]), folders["/".join(parents[: depth - 1])]
            if folder not in folders:
                folders[folder] = len(names)
                children[parent].append(len(names))
                children[len(names)] = []
                names.append(part)
                contents.append(b"")
        children[folders["/".join(parents)]].append(len(names))
        names.append(last)
        contents.append(data)
    # Small streams are in sectors of 64 bytes of the root's stream, which has a table of its sectors.
    starts, mini, mini_table = [_END] * len(names), b"", list[int]()
    for number, data in enumerate(contents):
        if 0 < len(data) < 4096:
            starts[number] = len(mini_table)
            mini_table += _chain(len(mini_table), -(-len(data) // 64))
            mini += data.ljust(-(-len(data) // 64) * 64, b"\0")
    contents[0] = mini
    table, body = list[int](), b""
    directory_sectors = -(-len(names) // 4)
    table += _chain(0, directory_sectors)
    mini_start = len(table)
    mini_data = struct.pack(f"<{len(mini_table)}I", *mini_table)
    parts = [(None, mini_data), *((n, data) for n, data in enumerate(contents) if n == 0 or len(data) >= 4096)]
    for owner, data in parts:
        if owner is not None and data:
            starts[owner] = len(table)
        count = -(-len(data) // 512)
        padding = b"\xff" if owner is None else b"\0"
        table += _chain(len(table), count)
        body += data.ljust(count * 512, padding)
    total = len(table)
    tables = -(-(total + 8) // 127)
    table += [_TABLE] * tables
    table += [_FREE] * (tables * 128 - len(table))
    directory = b"".join(
        _directory_entry(number, name, children, starts[number], contents[number]) for number, name in enumerate(names)
    )
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 62, 3, 0xFFFE, 9, 6) + bytes(6)
    mini_sectors = -(-len(mini_data) // 512)
    head += struct.pack("<IIIIIIIII", 0, tables, 0, 0, 4096, mini_start, mini_sectors, _END, 0)
    head += struct.pack("<109I", *[*range(total, total + tables), *[_FREE] * 109][:109])
    return head + directory.ljust(directory_sectors * 512, b"\0") + body + struct.pack(f"<{len(table)}I", *table)


def _chain(start: int, count: int) -> list[int]:
    """Return the entries of a table for sectors that follow each other."""
    return [*range(start + 1, start + count), _END][:count]


def _directory_entry(number: int, name: str, children: Mapping[int, list[int]], start: int, data: bytes) -> bytes:
    siblings = next((content for content in children.values() if number in content), [number])
    following = siblings[siblings.index(number) + 1 :]
    kind = 5 if number == 0 else 1 if number in children else 2
    below = children.get(number) or [_FREE]
    raw = name.encode("utf-16-le") + b"\0\0"
    entry = raw.ljust(64, b"\0") + struct.pack("<HBB", len(raw), kind, 1)
    entry += struct.pack("<III", _FREE, following[0] if following else _FREE, below[0]) + bytes(36)
    return entry + struct.pack("<IQ", start, len(data))


def outlook_message(
    subject: str,
    text: str,
    *,
    more: Mapping[str, bytes] | None = None,
    numbers: Mapping[int, tuple[int, int]] | None = None,
) -> bytes:
    """Return an Outlook message; ``numbers`` has types and values of properties by their ids."""
    properties = bytes(32) + b"".join(
        struct.pack("<HHIQ", kind, tag, 6, value) for tag, (kind, value) in (numbers or {}).items()
    )
    streams = {
        "__properties_version1.0": properties,
        "__substg1.0_0037001F": subject.encode("utf-16-le"),
        "__substg1.0_1000001F": text.encode("utf-16-le"),
        "__substg1.0_0C1A001F": "Änne Müller".encode("utf-16-le"),
        "__substg1.0_0C1F001F": "anne@example.org".encode("utf-16-le"),
        "__substg1.0_0E04001F": "Bob; Carl".encode("utf-16-le"),
        **(more or {}),
    }
    return compound_file({path: data for path, data in streams.items() if data})
