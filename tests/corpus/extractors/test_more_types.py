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


def code_cell(*outputs: object) -> dict[str, Any]:
    return {"cell_type": "code", "source": "show()", "outputs": list(outputs)}


def shown(**data: object) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {name.replace("__", "/"): value for name, value in data.items()}}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (shown(application__json={"total": 512, "name": "Chairs"}), "total: 512\nname: Chairs"),
        (shown(application__json=["a", 1], text__plain="<IPython.core.display.JSON object>"), "a, 1"),
        (shown(text__latex=["$\\frac{1}", "{2}$"]), "$\\frac{1}{2}$"),
        (shown(text__latex="$x^2$", text__plain="<IPython.core.display.Math object>"), "$x^2$"),
        (
            shown(text__markdown="## Sums\n\n*all* of them", text__plain="<IPython.core.display.Markdown object>"),
            "## Sums",
        ),
        (shown(text__html="<b>all sold</b>", text__plain="<IPython.core.display.HTML object>"), "all sold"),
        (shown(text__csv="a,b"), "a,b"),
        ({"output_type": "display_data", "text": ["of version 3"], "png": "AA"}, "of version 3"),
        ({"output_type": "pyout", "html": "<b>page of version 3</b>", "text": "<Html at 0x1>"}, "page of version 3"),
        (shown(text__plain="<1>"), "<1>"),
    ],
)
def test_outputs_of_all_text_forms(output: dict[str, Any], text: str) -> None:
    document = extract("notebook", "a.ipynb", sample_files.notebook([code_cell(output)]))
    assert text in document.text and "object>" not in document.text
    assert not [loss for loss in document.losses if "picture" not in loss.reason]


def test_interactive_outputs_are_declared() -> None:
    chart = shown(**{"application/vnd.vegalite.v5+json": {"mark": "bar"}, "text/plain": "<VegaLite 5 object>"})
    widget = shown(**{"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntSlider(value=3)"})
    script = shown(**{"application/javascript": "run()", "text/plain": "<IPython.core.display.Javascript object>"})
    document = extract("notebook", "a.ipynb", sample_files.notebook([code_cell(chart, widget, script)]))
    assert "object" not in document.text and "IntSlider" not in document.text
    assert [loss.reason for loss in document.losses] == ["2 interactive outputs without a description"]


def test_pictures_in_pages_of_outputs_are_declared() -> None:
    for markup, reason in (
        ("<b>all sold</b><img src='a.png'>", "1 picture without a description"),
        ("<img src='a.png'>", "1 interactive output without a description"),
    ):
        document = extract("notebook", "a.ipynb", sample_files.notebook([code_cell(shown(text__html=markup))]))
        assert [loss.reason for loss in document.losses] == [reason]


@pytest.mark.parametrize(
    "broken",
    [None, "text", 5, [], {"cell_type": "code", "source": None}, {"cell_type": "code", "source": 5},
     {"cell_type": "markdown", "source": ["a", None]}, {"cell_type": "code", "source": "x", "outputs": [None]},
     {"cell_type": "code", "source": "x", "outputs": {"a": 1}}],
)  # fmt: skip
def test_a_broken_cell_costs_no_notebook(broken: Any) -> None:
    cells = [{"cell_type": "markdown", "source": "# Sales"}, broken, {"cell_type": "markdown", "source": "All sold."}]
    document = extract("notebook", "a.ipynb", sample_files.notebook(cells))
    assert "Sales" in document.text and "All sold." in document.text and "None" not in document.text
    assert [loss.reason for loss in document.losses] == ["1 cell or output that is damaged"]


def test_broken_facts_and_outputs_cost_no_notebook() -> None:
    cells = [
        {"cell_type": "heading", "level": "2", "source": "Sales"},
        code_cell({"output_type": "stream", "text": None}, {"output_type": "error", "traceback": 5, "ename": "Bad"}),
        code_cell({"output_type": "display_data", "data": {"text/plain": None, "text/html": 5}}, {}),
    ]
    broken = {"language_info": "python", "kernelspec": None, "authors": "Ann", "title": 5}
    document = extract("notebook", "a.ipynb", sample_files.notebook(cells, **broken))
    assert "Sales" in document.text and "Bad: " in document.text and "```python\nshow()" in document.text


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


def event(*lines: str, end: str = "\r\n") -> bytes:
    """Return a calendar with one event of these lines."""
    return end.join(["BEGIN:VCALENDAR", "BEGIN:VEVENT", *lines, "END:VEVENT", "END:VCALENDAR", ""]).encode()


def card(*lines: str, version: str = "3.0") -> bytes:
    """Return an address book with one card of these lines."""
    return "\r\n".join(["BEGIN:VCARD", f"VERSION:{version}", *lines, "END:VCARD", ""]).encode()


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("DESCRIPTION:Bring the fig", " ures of May"), "Bring the figures of May"),
        (("DESCRIPTION:Bring the fig", "\tures of May"), "Bring the figures of May"),
        (("DESCRIPTION:Bring the", "\t figures of May"), "Bring the figures of May"),
        (("DESCRIPTION:Bring:", "the figures of May", "", "Agenda: the budget"),
         "Bring:\nthe figures of May\n\nAgenda: the budget"),
        (("DESCRIPTION:" + "x" * 62, "yz of May"), "x" * 62 + "yz of May"),
        (("SUMMARY:Budget", "DESCRIPTION;LANGUAGE=en:Bring", "http://example.org/a", "LOCATION:Room 5"),
         "Bring\nhttp://example.org/a"),
        (("X-ALT-DESC;FMTTYPE=text/html:<p>Bring the <b>figures</b></p>",), "Bring the figures"),
        (("DESCRIPTION;ENCODING=BASE64:QnJpbmcgdGhlIGZpZ3VyZXM=",), "Bring the figures"),
        (("EXDATE;TZID=Europe/Berlin:20260302T093000,20260309T093000",),
         "Except on: 2026-03-02 (Monday) 09:30 Europe/Berlin, 2026-03-09 (Monday) 09:30 Europe/Berlin"),
    ],
)  # fmt: skip
def test_lines_of_calendars_however_they_are_folded(lines: tuple[str, ...], text: str, end: str) -> None:
    document = extract("calendar", "a.ics", event(*lines, end=end))
    assert text in document.text and not document.losses


def test_a_fold_within_a_letter() -> None:
    data = event("SUMMARY:Größe").replace("ß".encode(), b"\xc3\r\n \x9f")
    assert "Größe" in extract("calendar", "a.ics", data).text


def test_lines_that_belong_to_nothing_are_declared() -> None:
    document = extract("calendar", "a.ics", event("SUMMARY:Budget", "DTSTART:20260302", "lost words of an event"))
    assert [(loss.reason, loss.words) for loss in document.losses] == [("1 damaged line", 5)]
    photo = ("PHOTO;ENCODING=BASE64;TYPE=JPEG:AAAA", "BBBB", "", "NOTE:a friend")
    document = extract("contacts", "a.vcf", card("FN:Ann", *photo, version="2.1"))
    assert "Note: a friend" in document.text and len(document.losses) == 1  # the picture


@pytest.mark.parametrize(
    ("lines", "version", "text"),
    [
        (("NOTE:a long note that goes", " on"), "2.1", "a long note that goes on"),
        (("NOTE:a long note that go", " es on"), "3.0", "a long note that goes on"),
        (("NOTE:first line", "second line"), "3.0", "first line\nsecond line"),
        (("NOTE;ENCODING=QUOTED-PRINTABLE:Gr=FC=DFe aus der Stra=DFe",), "2.1", "Grüße aus der Straße"),
        (("NOTE;CHARSET=X-NONE;ENCODING=QUOTED-PRINTABLE:Gr=C3=BC=C3=9Fe",), "2.1", "Grüße"),
        (("LABEL;TYPE=WORK:Hauptstr. 5\\nBerlin",), "3.0", "Address label: Hauptstr. 5\nBerlin (work)"),
        (("item1.TEL;TYPE=WORK;TYPE=FAX:030 5",), "3.0", "Phone: 030 5 (work, fax)"),
    ],
)
def test_lines_of_contacts(lines: tuple[str, ...], version: str, text: str) -> None:
    document = extract("contacts", "a.vcf", card("FN:Ann", *lines, version=version))
    assert text in document.text


@pytest.mark.parametrize(
    ("kind", "whole", "last"),
    [("calendar", sample_files.CALENDAR, "Send the invoice"), ("contacts", sample_files.CONTACTS, "a long note")],
)
def test_the_last_entry_of_a_cut_file(kind: str, whole: str, last: str) -> None:
    cut = whole[: whole.index(last) + len(last)]
    document = extract(kind, "a.x", cut.encode())
    assert last in document.text
    assert "the end of 1 entry that is cut off" in [loss.reason for loss in document.losses]


def test_a_calendar_that_is_cut_after_an_entry() -> None:
    document = extract("calendar", "a.ics", event("SUMMARY:Budget").replace(b"END:VCALENDAR\r\n", b""))
    assert [loss.reason for loss in document.losses] == ["what follows the last entry: the file is cut off"]


def test_entries_without_an_end_line() -> None:
    data = card("FN:Ann", "NOTE:a friend").replace(b"END:VCARD\r\n", b"") + card("FN:Bob")
    document = extract("contacts", "a.vcf", data)
    assert "Ann" in document.text and "Note: a friend" in document.text and "Bob" in document.text
    assert [loss.reason for loss in document.losses] == ["the end of 1 entry that is cut off"]
