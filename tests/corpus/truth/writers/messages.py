"""Writers of mails, notebooks, books, calendars, contacts, and tables as text."""

from __future__ import annotations

import csv
import io
import json
import mailbox
import tempfile
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

from tests.corpus.truth.model import HeadingNode, TableRows, Topic
from tests.corpus.truth.writers.markup import html, markdown_text, plain_text, xhtml
from tests.corpus.truth.writers.office import archive


def message(subject: str, body: str, markup: str = "") -> EmailMessage:
    """Return a mail with a plain body, and with the same text as HTML if there is markup."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Anna Keller <anna@example.org>"
    mail["To"] = "team@example.org"
    mail["Subject"] = subject
    mail["Date"] = "Tue, 04 Mar 2025 09:12:00 +0100"
    mail["Message-ID"] = "<1@example.org>"
    mail.set_content(body)
    if markup:
        mail.add_alternative(markup, subtype="html")
    return mail


def eml(topic: Topic) -> bytes:
    """Return a mail with plain text and HTML; the title is its subject too."""
    return message(topic.title, plain_text(topic).decode(), html(topic).decode()).as_bytes()


def mbox(first: Topic, *others: Topic) -> bytes:
    """Return a mailbox with a mail for each topic."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "box"
        box = mailbox.mbox(path)
        for topic in (first, *others):
            box.add(message(topic.title, plain_text(topic).decode()))
        box.close()
        return path.read_bytes()


def notebook(topic: Topic) -> bytes:
    """Return a Jupyter notebook with a Markdown cell for each section."""
    cells: list[list[str]] = []
    for node in topic.nodes:
        cells += [[]] if isinstance(node, HeadingNode) else []
        cells[-1].append(markdown_text(node))
    return notebook_of([{"cell_type": "markdown", "metadata": {}, "source": "\n\n".join(cell)} for cell in cells])


def notebook_of(cells: Sequence[dict[str, Any] | None]) -> bytes:
    """Return a Jupyter notebook of these cells; None is a damaged one."""
    meta = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": meta, "cells": list(cells)}).encode()


def epub(topic: Topic) -> bytes:
    """Return a book with a chapter for each section."""
    chapters: list[list[Any]] = []
    for node in topic.nodes:
        chapters += [[]] if isinstance(node, HeadingNode) else []
        chapters[-1].append(node)
    pages = [xhtml(Topic(topic.name, tuple(chapter), "", "")) for chapter in chapters]
    names = [f"chapter{at}" for at in range(len(pages))]
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    dublin = f'<dc:title>{topic.title}</dc:title><dc:language>en</dc:language><dc:identifier id="id">1</dc:identifier>'
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">{dublin}</metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    files: dict[str, str | bytes] = {"mimetype": "application/epub+zip", "META-INF/container.xml": container}
    # Stored backwards: the spine has the order, not the archive.
    files |= {f"OEBPS/{name}.xhtml": page for name, page in reversed(list(zip(names, pages, strict=True)))}
    return archive(files | {"OEBPS/content.opf": package})


def comma_separated(rows: TableRows, delimiter: str = ",") -> bytes:
    """Return rows as CSV."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    return buffer.getvalue().encode()


def json_lines(rows: TableRows) -> bytes:
    """Return rows as one JSON object a line, with escapes for all that is not ASCII."""
    return "".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:]).encode()


def calendar(summary: str, description: str, place: str) -> bytes:
    """Return a calendar with one event; long lines are folded, and commas escaped."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//tests//EN", "BEGIN:VEVENT", "UID:1@example.org"]
    lines += ["DTSTAMP:20250301T080000Z", "DTSTART:20250317T090000Z", "DTEND:20250317T103000Z"]
    fields = {"SUMMARY": summary, "DESCRIPTION": description, "LOCATION": place}
    lines += [_folded(f"{name}:{_escaped(value)}") for name, value in fields.items()]
    return "\r\n".join([*lines, "END:VEVENT", "END:VCALENDAR", ""]).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace(";", "\\;").replace("\n", "\\n")


def _folded(line: str) -> str:
    return "\r\n ".join(line[at : at + 60] for at in range(0, len(line), 60))
