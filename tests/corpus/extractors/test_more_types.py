"""Notebooks, books, calendars and address books: what a reader sees is read in order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.support import sample_files


def extract(kind: str, name: str, data: bytes) -> Document:
    document: Document = REGISTRY.load(kind)().extract(data, name)
    return document


def pieces(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


# -- notebooks -----------------------------------------------------------------------------------------------------


def test_cells_of_a_notebook() -> None:
    picture = {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure size 640x480>"}}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "source": ["# Sales\n", "\n", "The *figures* of May.\n"]},
        {
            "cell_type": "code",
            "source": "print(total)",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["total: 5\n", "\x1b[31mdone\x1b[0m\n"]},
                picture,
                {"output_type": "execute_result", "data": {"text/plain": ["   a\n", "0  1"], "text/html": "<table>"}},
                {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": []},
            ],
        },
        {
            "cell_type": "markdown",
            "source": "## Next\n\n![A chart of sales](attachment:x.png) and ![](data:image/png;base64,AA)",
        },
        {"cell_type": "raw", "source": "raw text"},
    ]
    document = extract("notebook", "a.ipynb", sample_files.notebook(cells, authors=[{"name": "Ann"}]))
    assert [piece for piece in pieces(document) if piece[0] == "heading"] == [("heading", "Sales"), ("heading", "Next")]
    assert ("code", "```python\nprint(total)\n```") in pieces(document)
    assert ("code", "```text\ntotal: 5\ndone\n```") in pieces(document)
    assert "0  1" in document.text and "KeyError: 'x'" in document.text and "raw text" in document.text
    assert "Figure" not in document.text and "base64" not in document.text and "A chart of sales" in document.text
    assert document.title == "Sales" and document.meta == {"author": "Ann"}
    assert document.losses[0].reason == "2 pictures without a description"


def test_notebooks_of_version_3_long_outputs_and_damage() -> None:
    old = {
        "nbformat": 3,
        "metadata": {},
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "level": 2, "source": "Old"},
                    {"cell_type": "code", "input": "1 + 1", "outputs": [{"output_type": "pyout", "text": ["2"]}]},
                ]
            }
        ],
    }
    document = extract("notebook", "a.ipynb", json.dumps(old).encode())
    assert pieces(document)[0] == ("heading", "Old") and "1 + 1" in document.text and "\n2\n" in document.text
    long = [{"cell_type": "code", "source": "x", "outputs": [{"output_type": "stream", "text": "word " * 50_000}]}]
    document = extract("notebook", "a.ipynb", sample_files.notebook(long))
    assert len(document.text) < 30_000 and document.losses[0].words == 46_000
    for bad in (b"[]", b"{", b"null"):
        with pytest.raises(InputError):
            extract("notebook", "a.ipynb", bad)


# -- books ---------------------------------------------------------------------------------------------------------


def test_chapters_of_a_book_in_order() -> None:
    chapters = {
        "two": "<h1>The start</h1><p>It was a dark night in the harbour.</p><img src='x.png'/>",
        "one": "<h1>The end</h1><p>All of them went home.</p><ul><li>first</li><li>second</li></ul><img src='y.png'/>",
    }
    document = extract("epub", "a.epub", sample_files.epub(chapters))
    headings = [text for kind, text in pieces(document) if kind == "heading"]
    assert headings == ["The start", "The end"] and "Contents" not in document.text
    assert document.title == "A book" and document.meta["author"] == "Ann Writer"
    assert [loss.reason for loss in document.losses] == ["2 pictures without a description"]
    assert document.visible_words and document.visible_words <= count_words(document.text) + 2


def test_books_with_damage_or_encryption() -> None:
    encryption = (
        '<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptedData>'
        '<e:EncryptionMethod Algorithm="{}"/></e:EncryptedData></encryption>'
    )
    body = {"one": "<p>The text of a chapter with words.</p>"}
    fonts = {"META-INF/encryption.xml": encryption.format("http://www.idpf.org/2008/embedding")}
    assert "chapter with words" in extract("epub", "a.epub", sample_files.epub(body, more=fonts)).text
    rights = {"META-INF/encryption.xml": encryption.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")}
    with pytest.raises(InputError, match="digital rights"):
        extract("epub", "a.epub", sample_files.epub(body, more=rights))
    with pytest.raises(InputError, match="no EPUB book"):
        extract("epub", "a.epub", sample_files.zip_file({"a.txt": "x"}))
    data = sample_files.epub({**body, "two": "<p>more</p>"})
    document = extract("epub", "a.epub", data.replace(b"two.xhtml", b"gone.html"))
    assert document.losses[0].reason.startswith("1 chapter (damaged or missing: two.xhtml")


# -- calendars and address books -----------------------------------------------------------------------------------


def test_events_of_a_calendar() -> None:
    document = extract("calendar", "a.ics", sample_files.CALENDAR.encode())
    assert document.title == "Team"
    assert pieces(document) == [
        ("heading", "Budget review, second round"),
        (
            "paragraph",
            (
                "Start: 2026-03-02 (Monday) 09:30 Europe/Berlin\nEnd: 2026-03-02 (Monday) 10:30 Europe/Berlin\n"
                "Repeats: weekly on Monday, Wednesday until 2026-05-01\nLocation: Room 5\n"
                "Organizer: Ann <ann@example.org>\nAttendees: Bob, Jr. <bob@example.org>, carl@example.org"
            ),
        ),
        ("paragraph", "Please bring the figures of the last quarter\nand the plan for the next one."),
        ("heading", "Send the invoice"),
        ("paragraph", "Due: 2026-03-10 (Tuesday)"),
    ]
    assert document.visible_words and document.visible_words <= count_words(document.text)


def test_contacts_of_an_address_book() -> None:
    document = extract("contacts", "a.vcf", sample_files.CONTACTS.encode())
    headings = [text for kind, text in pieces(document) if kind == "heading"]
    assert headings == ["Änne Müller", "Groß Karl"]
    assert "Phone: +49 30 123456 (work), +49 170 123456 (cell)" in document.text
    assert "Address: Hauptstraße 5, Berlin, 10115, Germany" in document.text
    assert "Note: Prefers calls in the morning, not by mail." in document.text
    assert "Note: a long note that goes on and on" in document.text
    assert [loss.reason for loss in document.losses] == ["1 picture without a description"]


@pytest.mark.parametrize("kind", ["calendar", "contacts"])
@pytest.mark.parametrize("data", [b"just text", b"BEGIN:VCALENDAR\nEND:VCALENDAR\n", b"END:VCARD\nBEGIN:VEVENT\n:\n"])
def test_files_without_entries_are_refused(kind: str, data: bytes) -> None:
    with pytest.raises(InputError, match="no entries"):
        extract(kind, "a.x", data)
