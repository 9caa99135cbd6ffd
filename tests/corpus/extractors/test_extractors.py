"""Extractors: each type of file becomes text whose blocks lie where they say, and no file costs more than itself."""

from __future__ import annotations

import datetime
import io
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearfield.corpus import extractors
from nearfield.corpus.document import Document, NamedBytes, SourceItem
from nearfield.corpus.extractors import PICTURE, REGISTRY, SOUND, VIDEO, kind_of, suffix_of, zip_safety
from nearfield.corpus.extractors.reader import ROW, DocumentReader
from nearfield.corpus.extractors.reader import kind_of as kind_by_content
from nearfield.errors import InputError, InputTooLong, MissingExtra
from tests.corpus.extractors.test_old_office import sample
from tests.corpus.truth.writers.office import open_document
from tests.support import hostile_clients, sample_documents, sample_files
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing

pytestmark = pytest.mark.process

LONGDOCS = SHARED_FOLDER / "data" / "longdocs"
LEVELS = 60_000


def _write_docx(file: Any) -> None:
    file.core_properties.author = "Ann"
    file.add_heading("The title", 0)
    file.add_heading("One", 1)
    file.add_paragraph("Some text\twith a tab.")
    for item in ("first", "second"):
        file.add_paragraph(item, style="List Bullet")
    file.add_heading("Two", 2)
    table = file.add_table(2, 2)
    for at, text in enumerate(("head", "a|b", "x\ny", "z")):
        table.cell(at // 2, at % 2).text = text
    file.add_paragraph("The end.")


def _write_pptx(file: Any) -> None:
    slide = file.slides.add_slide(file.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "First slide", "one\ntwo"
    slide.notes_slide.notes_text_frame.text = "Said, not shown."
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "Second slide"
    table = slide.shapes.add_table(2, 2, 0, 0, 100, 100).table
    table.cell(0, 0).text, table.cell(1, 1).text = "head", "value"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 10, 10).text_frame.text = "In a group."


HTML = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Tea &amp; milk</title>
<meta name="author" content="Ann"><script>var secret = 1;</script></head><body><nav>Home | About</nav>
<article><h1>Tea</h1><p>{}</p><h2>Milk</h2><ul><li>cold</li><li>warm</li></ul><pre>pour(milk)</pre></article>
<footer>All rights reserved</footer></body></html>""".format("Tea is a drink that many people like. " * 20)

MARKDOWN = """---
title: The guide
tags: [a, b]
year: 2024
when: 2024-05-06
odd: {a: 1}
---

Intro *text*.

# One # #

Setext
heading
-------

- a
- b

  more

1. x

> quoted
> # no heading

```rust
# no heading
fn main() {}
```

    indented code

| a | b |
|---|---|
| 1 | 2 |

<!-- left out -->

<div>
kept
</div>

###### Six
#
[ref]: http://example.com
last"""

#: A good file of each type.
SAMPLES: dict[str, tuple[str, bytes]] = {
    "text": ("a.txt", b"First paragraph,\nof two lines.\n\n\n  Second.\r\n \t\r\nThird\n"),
    "markdown": ("a.md", MARKDOWN.encode()),
    "code": ("a.py", b"import os\n\n\ndef f():\n    return 1\n\n\nclass A:\n    pass\n"),
    "html": ("a.html", HTML.encode()),
    "pdf": (
        "a.pdf",
        sample_documents.pdf(
            [sample_documents.column("One line,", "and a second one."), sample_documents.column("Page two.")]
        ),
    ),
    "docx": ("a.docx", sample_documents.docx(_write_docx)),
    "pptx": ("a.pptx", sample_documents.pptx(_write_pptx)),
    "xlsx": ("a.xlsx", sample_documents.xlsx({"Sheet": [["Item", "Price"], ["Tea", 3.5]]})),
    "odt": ("a.odt", open_document("text", "<office:text><text:p>Text</text:p></office:text>")),
    "ods": (
        "a.ods",
        open_document(
            "spreadsheet",
            '<office:spreadsheet><table:table table:name="Sheet"><table:table-row><table:table-cell>'
            "<text:p>Tea</text:p></table:table-cell></table:table-row></table:table></office:spreadsheet>",
        ),
    ),
    "odp": (
        "a.odp",
        open_document(
            "presentation",
            "<office:presentation><draw:page><draw:frame><draw:text-box><text:p>Text</text:p></draw:text-box></draw:frame>"
            "</draw:page></office:presentation>",
        ),
    ),
    **{kind: (f"a.{kind}", sample(kind)) for kind in ("doc", "xls", "ppt")},
    "rtf": ("a.rtf", rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\pard\outlinelevel0 Head\par}\pard Text\par}"),
    "eml": ("a.eml", sample_files.mail("A subject", "The text of a mail.", attachments={"a.txt": b"A file."})),
    "msg": ("a.msg", sample_files.outlook_message("A subject", "The text of a message.")),
    "mbox": ("a.mbox", sample_files.mailbox([sample_files.mail("A subject", "The text of a mail.")])),
    "notebook": ("a.ipynb", sample_files.notebook([{"cell_type": "markdown", "source": "# A title\n\nText."}])),
    "epub": ("a.epub", sample_files.epub({"one": "<h1>One</h1><p>The text of a chapter.</p>"})),
    "delimited": ("a.csv", b"city,people\nOslo,700000\nRome,2800000\n"),
    "jsonl": ("a.jsonl", b'{"city": "Oslo", "people": 700000}\n{"city": "Rome"}\n'),
    "slack": (
        "a.slack-channel",
        b'{"channel": "a", "lists": {}, "days": [[{"ts": "1709287200.0", "user": "U1", "text": "A message."}]]}',
    ),
    "whatsapp": ("chat.txt", b"31.12.23, 23:59 - Ann: Happy new year\n01.01.24, 00:01 - Bob: Thanks\n"),
    "rst": (
        "a.rst",
        b"Head\n====\n\n.. note::\n\n   Text.\n\n* one\n* two\n\n===  ===\na    b\n===  ===\n1    2\n===  ===\n",
    ),
    "org": ("a.org", b"* Head\n:A:\n:END:\nText.\n- one\n| a | b |\n#+BEGIN_SRC sh\nls\n#+END_SRC\n"),
    "asciidoc": ("a.adoc", b"= Head\n:toc:\n\nText.\n\n* one\n\n|===\n|a |b\n|===\n\n----\nls\n----\n"),
    "latex": ("a.tex", rb"\section{Head} Text \emph{two}. \begin{itemize}\item one\end{itemize} $x^2$"),
    "subtitles": (
        "a.srt",
        b"1\n00:00:01,000 --> 00:00:02,000\n<i>Text.</i>\n\n2\n00:00:03,000 --> 00:00:04,000\nEnd.\n",
    ),
    "json": ("a.json", b'{"title": "Head", "list": [{"a": "Text.", "b": 1.5}], "more": [1, 2], "none": null}'),
    "xml": ("a.xml", b"<book><title>Head</title><p>Text <b>two</b>.</p><row><a>1</a><b>2</b></row></book>"),
    "calendar": ("a.ics", sample_files.CALENDAR.encode()),
    "contacts": ("a.vcf", sample_files.CONTACTS.encode()),
}


def extract(name: str, data: bytes) -> Document:
    kind = kind_of(name)
    assert kind is not None
    found: Document = REGISTRY.load(kind)().extract(data, name)
    check(found)
    return found


def check(document: Document) -> None:
    """Blocks are in order, apart, and begin and end with what can be seen; between them nothing is lost but markup."""
    at = 0
    for block in document.blocks:
        text = document.text[block.start : block.end]
        assert at <= block.start < block.end <= len(document.text)
        assert text.strip() and text == text.rstrip(), text
        assert (block.level > 0) == (block.kind == "heading")
        at = block.end


def pieces(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def headings(document: Document) -> list[tuple[int, str]]:
    return [(block.level, document.text[block.start : block.end]) for block in document.blocks if block.level]


@pytest.fixture(scope="module")
def reader() -> Iterator[DocumentReader]:
    with DocumentReader() as made:
        yield made


# -- the registry -----------------------------------------------------------------------------------------------------


def test_every_row_has_a_sample_and_reads_it() -> None:
    # Pictures need OCR, and sounds speech recognition: test_ocr.py and test_speech.py read them.
    assert {*SAMPLES, PICTURE, SOUND, VIDEO} == set(REGISTRY.names())
    for kind, (name, data) in SAMPLES.items():
        assert kind_by_content(data, name) == kind
        assert REGISTRY.load(kind)().extract(data, name).text.strip()


@pytest.mark.parametrize("kind", SAMPLES)
def test_no_part_of_a_file_raises_anything_else(kind: str) -> None:
    name, data = SAMPLES[kind]
    extractor = REGISTRY.load(kind)()
    for end in (0, 1, 8, len(data) // 3, len(data) - 2):
        try:
            check(extractor.extract(data[:end], name))
        except InputError:
            pass


@pytest.mark.parametrize("kind", ["pdf", "docx", "pptx", "xlsx"])
def test_damaged_files_are_refused(kind: str) -> None:
    name, data = SAMPLES[kind]
    for bad in (data[: len(data) // 2], b"", os.urandom(500), b"just text"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            REGISTRY.load(kind)().extract(bad, name)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300), kind=st.sampled_from(list(SAMPLES)))
def test_random_bytes_raise_nothing_else(data: bytes, kind: str) -> None:
    try:
        check(REGISTRY.load(kind)().extract(data, "file"))
    except InputError:
        pass


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(list(SAMPLES)), at=st.floats(0, 1), new=st.binary(min_size=1, max_size=20))
def test_changed_bytes_raise_nothing_else(kind: str, at: float, new: bytes) -> None:
    name, data = SAMPLES[kind]
    place = int(at * len(data))
    try:
        check(REGISTRY.load(kind)().extract(data[:place] + new + data[place + len(new) :], name))
    except InputError:
        pass


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab #-=>`|*[]:<!\t\n\r\x0b\x0c\u2028_1.~+\x00", max_size=60))
def test_any_markdown_has_exact_spans(text: str) -> None:
    check(extractors.markdown.parse_markdown(text))  # type: ignore[attr-defined]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="a \t\n\r\x0b\x0c\u2028\x85", max_size=40))
def test_any_text_has_its_paragraphs(text: str) -> None:
    document = Document(text, tuple(extractors.text.paragraphs(text)))
    check(document)
    assert "".join(piece for _, piece in pieces(document)).count("a") == text.count("a")


def test_what_a_parser_raises_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"x\.txt: damaged, or not of the type that its name says\.$"):
        hostile_clients.Wrong().extract(b"a", "x.txt")


def test_types_by_name() -> None:
    for name, kind in {
        "README": "text", "a/b/Makefile": "code", "A.PDF": "pdf", "x.tar.gz": None, "notes.MD": "markdown",
        "a.unknown": None, "": None, "dir.md/plain": None,
    }.items():  # fmt: skip
        assert kind_of(name) == kind
    assert suffix_of("application/pdf") == ".pdf" and suffix_of("text/html") == ".html"
    assert suffix_of("image/png") == ".png" and suffix_of("image/x-icon") == ""


# -- text ----------------------------------------------------------------------------------------------------------


def test_text_is_the_files_own() -> None:
    document = extract(*SAMPLES["text"])
    assert document.text == SAMPLES["text"][1].decode()
    assert [text for _, text in pieces(document)] == ["First paragraph,\nof two lines.", "  Second.", "Third"]
    assert document.form == "prose" and document.blocks[0].page is None


def test_form_feeds_are_pages() -> None:
    document = extract("a.txt", b"one\n\x0c\ntwo\n\nthree\x0cfour")
    assert [(block.page, text) for block, (_, text) in zip(document.blocks, pieces(document), strict=True)] == [
        (1, "one"), (2, "two"), (2, "three"), (3, "four"),
    ]  # fmt: skip


GERMAN = "Grüße aus München: schöne Wörter über Käse, Öl und Übermut, die größer sind als früher gehört. " * 3
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 3


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-16-be"),
        (GERMAN, "utf-16-le"),
        (GERMAN, "utf-32"),
        (GERMAN, "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        ("日本語の文章はここにあります。" * 20, "shift_jis"),
    ],
)
def test_encodings(text: str, encoding: str) -> None:
    assert extract("a.txt", text.encode(encoding)).text == text


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 8,
        b"\x7fELF" + bytes(200),
        os.urandom(4096),
        "Text".encode("utf-16") + b"\x00",
        b"\0\1\2" * 50,
    ],
)
def test_binary_data_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.txt: "):
        extract("a.txt", data)


def test_a_single_line_of_many_megabytes() -> None:
    text = "word " * 2_000_000
    document = extract("a.txt", text.encode())
    assert document.text == text and len(document.blocks) == 1
    assert not Document(" " * 1000, tuple(extractors.text.paragraphs(" " * 1000))).blocks


def test_code_has_its_language() -> None:
    document = extract(*SAMPLES["code"])
    assert (document.form, document.language) == ("code", "python")
    assert pieces(document)[1] == ("code", "def f():\n    return 1")
    assert extract("Dockerfile", b"FROM scratch").language == "docker"


# -- Markdown ------------------------------------------------------------------------------------------------------


def test_markdown_structure() -> None:
    document = extract(*SAMPLES["markdown"])
    assert document.text == MARKDOWN
    assert document.title == "The guide" and document.form == "markdown"
    assert document.meta == {"tags": "a, b", "year": 2024, "when": "2024-05-06"}
    assert headings(document) == [(1, "One #"), (2, "Setext\nheading"), (6, "Six")]
    assert pieces(document)[0] == ("paragraph", MARKDOWN.partition("\n\n")[0])
    assert pieces(document)[1:] == [
        ("paragraph", "Intro *text*."),
        ("heading", "One #"),
        ("heading", "Setext\nheading"),
        ("list", "- a\n- b\n\n  more"),
        ("list", "1. x"),
        ("quote", "> quoted\n> # no heading"),
        ("code", "```rust\n# no heading\nfn main() {}\n```"),
        ("code", "    indented code"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("paragraph", "<div>\nkept\n</div>"),
        ("heading", "Six"),
        ("paragraph", "last"),
    ]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("text\n\n## Later\n\n# `Code` and [link](http://x) *here*", "Code and link here"),
        ("## Only *second*\n\n### third", "Only second"),
        ("no heading", ""),
        ("---\n[broken\n---\n\n# Title", "Title"),
        ("---\njust text\n---\n", "just text"),
        ("---\ntitle: 12\n---\n# Other", "12"),
        ("---\r\ntitle: windows\r\n---\r\n# Other\r\n", "windows"),
        ("---\n" + "[" * 3000 + "\n---\n# Deep", "Deep"),
    ],
)
def test_markdown_titles(text: str, title: str) -> None:
    assert extract("a.md", text.encode()).title == title


def test_lines_that_end_in_other_ways_keep_their_places() -> None:
    document = extract("a.md", "# A\r\n\r\ntext\u2028same\x0bline\r\n## B\rend".encode())
    assert pieces(document) == [
        ("heading", "A"), ("paragraph", "text\u2028same\x0bline"), ("heading", "B"), ("paragraph", "end"),
    ]  # fmt: skip


def test_front_matter_that_grows_is_no_bomb() -> None:
    lines = ["a0: &a0 x"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    document = extract("a.md", ("---\n" + "\n".join(lines) + "\n---\n# T").encode())
    assert document.title == "T" and len(document.meta) <= 2


# -- HTML ----------------------------------------------------------------------------------------------------------


def test_html_main_content() -> None:
    document = extract(*SAMPLES["html"])
    assert document.title == "Tea & milk"
    assert document.meta == {"author": "Ann", "lang": "en"}
    assert headings(document) == [(1, "Tea"), (2, "Milk")]
    assert ("list", "- cold\n- warm") in pieces(document)
    for gone in ("secret", "Home | About"):
        assert gone not in document.text


def test_html_without_main_content_gives_all_that_is_seen() -> None:
    page = (
        "<title>T</title><style>p{}</style><h1>Hi</h1><p>a<b>b</b> c<script>x</script></p><ul><li>z</ul><pre>k  v</pre>"
    )
    document = extract("a.html", page.encode())
    assert pieces(document) == [("heading", "Hi"), ("paragraph", "ab c"), ("list", "- z"), ("code", "```\nk  v\n```")]
    assert document.title == "T"


@pytest.mark.parametrize("encoding", ["cp1252", "koi8-r", "utf-8", "shift_jis"])
def test_html_in_the_encoding_it_names(encoding: str) -> None:
    word = {"cp1252": "Käse", "koi8-r": "сыр", "utf-8": "сыр", "shift_jis": "日本"}[encoding]
    named = "iso-8859-1" if encoding == "cp1252" else encoding
    page = f'<html><head><meta http-equiv=a content="text/html; charset={named}"></head><p>{word}</p></html>'
    assert extract("a.html", page.encode(encoding)).text == word
    page = f"<?xml version='1.0' encoding='{named}'?><html><body><p>{word}</p></body></html>"
    assert extract("a.xhtml", page.encode(encoding)).text == word


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        "<div>" * LEVELS + "deep" + "</div>" * LEVELS,
        "<b>" * LEVELS + "deep",
        "<table><tr><td>" * 2000 + "deep",
        "<head><title>T</title><body>" + "<font>" * 3000 + "<svg/><script>if (1 < 2) x()</script><p>deep</p>",
        "<p>deep" + "<a href=x" * 5000,
        "<!DOCTYPE html [<!ENTITY a 'deep'><!ENTITY b '&a;&a;&a;'>]><p>deep &b;</p>",
        "</p></div>deep<p <p> <<<>>> &#x110000; &#xd800;",
    ],
)
def test_broken_html_is_read_whole(page: str) -> None:
    found = extract("a.html", page.encode()).text
    assert "deep" in found and "x()" not in found


def test_html_that_no_tree_holds_is_read_like_any_other() -> None:
    page = "<title>T</title><h1>Hi</h1><p>a<b>b</b> c<ul><li>z</ul><pre>k  v</pre>"
    document = extract("a.html", (page + "<i>" * 3000 + "<p>last").encode())
    assert pieces(document)[:4] == [
        ("heading", "Hi"),
        ("paragraph", "ab c"),
        ("list", "- z"),
        ("code", "```\nk  v\n```"),
    ]
    assert document.text.endswith("last") and document.title == "T"


# -- PDF -----------------------------------------------------------------------------------------------------------


def test_pdf_paragraphs_headings_and_pages() -> None:
    first = [(72.0, 800.0, 22.0, "The Great Title")]
    first += sample_documents.column(
        "A first paragraph has an exam-", "ple of a broken word, and", "it ends here.", top=760
    )
    first += sample_documents.column("The second is a state-of-the-", "art one. An example is here.", top=700)
    first += [(72.0, 650.0, 15.0, "A smaller one")]
    first += sample_documents.column("Text (in parentheses) goes on", "to the end.", top=630)
    first += sample_documents.column("An indented one.", top=602, left=90)
    document = extract("a.pdf", sample_documents.pdf([first, sample_documents.column("Page two.")], {"Author": "Jane"}))
    assert [(block.kind, block.page) for block in document.blocks] == [
        ("heading", 1), ("paragraph", 1), ("paragraph", 1), ("heading", 1), ("paragraph", 1), ("paragraph", 1),
        ("paragraph", 2),
    ]  # fmt: skip
    assert [text for _, text in pieces(document)] == [
        "The Great Title",
        "A first paragraph has an example of a broken word, and\nit ends here.",
        "The second is a state-of-the-art one. An example is here.",
        "A smaller one",
        "Text (in parentheses) goes on\nto the end.",
        "An indented one.",
        "Page two.",
    ]
    assert headings(document) == [(1, "The Great Title"), (2, "A smaller one")]
    assert (document.title, document.meta, document.form) == ("The Great Title", {"author": "Jane"}, "prose")


def test_pdf_titles() -> None:
    pages = [sample_documents.column("Some text.")]
    assert extract("a.pdf", sample_documents.pdf(pages, {"Title": "Told"})).title == "Told"
    assert extract("a.pdf", sample_documents.pdf(pages, {"Title": "Microsoft Word - draft.doc"})).title == ""


def test_pdf_without_text_asks_for_ocr() -> None:
    with pytest.raises(InputError, match="no text layer"):
        extract("a.pdf", sample_documents.pdf([[], []]))


def test_pdf_with_a_password_says_so() -> None:
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O ({'o' * 32}) /U ({'u' * 32}) /P -4 >> /ID [(a) (b)]"
    with pytest.raises(InputError, match="encrypted with a password"):
        extract("a.pdf", sample_documents.pdf([sample_documents.column("Secret.")], extra=lock))


# -- Office --------------------------------------------------------------------------------------------------------


def test_docx_in_document_order() -> None:
    document = extract(*SAMPLES["docx"])
    assert pieces(document) == [
        ("heading", "The title"),
        ("heading", "One"),
        ("paragraph", "Some text\twith a tab."),
        ("list", "- first\n- second"),
        ("heading", "Two"),
        ("table", "| head | a\\|b |\n| --- | --- |\n| x y | z |"),
        ("paragraph", "The end."),
    ]
    assert [level for level, _ in headings(document)] == [1, 1, 2]
    assert document.text.startswith("# The title\n\n# One\n\n")
    assert (document.title, document.form, document.meta) == ("The title", "markdown", {"author": "Ann"})


def test_docx_changes_count_as_made_and_controls_are_read() -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    body = (
        f"<w:p><w:ins w:id='1'>{run.format('added')}</w:ins><w:del w:id='2'><w:r><w:delText>gone</w:delText></w:r>"
        f"</w:del></w:p><w:sdt><w:sdtContent><w:p>{run.format('controlled')}</w:p></w:sdtContent></w:sdt>"
    )
    data = sample_documents.edited(
        SAMPLES["docx"][1], {"word/document.xml": lambda old: old.replace(b"<w:body>", b"<w:body>" + body.encode())}
    )
    assert pieces(extract("a.docx", data))[:2] == [("paragraph", "added"), ("paragraph", "controlled")]


def test_pptx_slides_are_pages() -> None:
    document = extract(*SAMPLES["pptx"])
    assert [(block.page, *piece) for block, piece in zip(document.blocks, pieces(document), strict=True)] == [
        (1, "heading", "First slide"),
        (1, "list", "- one\n- two"),
        (1, "paragraph", "Said, not shown."),
        (2, "heading", "Second slide"),
        (2, "table", "| head |  |\n| --- | --- |\n|  | value |"),
        (2, "paragraph", "In a group."),
    ]
    assert document.title == "First slide"


def test_xlsx_rows_name_their_columns() -> None:
    day = datetime.datetime(2024, 1, 2)
    sheets: dict[str, list[list[Any]]] = {
        "Prices": [["Price list"], [], ["Item", "Price", "Since"], ["Tea", 3.5, day], ["Milk", 2, None, "more"]],
        "Empty": [],
        "Numbers": [[1, 2], [0.1 + 0.2, True]],
        "List": [["one"], ["two"]],
    }
    document = extract("a.xlsx", sample_documents.xlsx(sheets))
    assert pieces(document) == [
        ("heading", "Prices"),
        ("paragraph", "Price list"),
        ("table", "Item: Tea\nPrice: 3.5\nSince: 2024-01-02"),
        ("table", "Item: Milk\nPrice: 2\nD: more"),
        ("heading", "Numbers"),
        ("table", "A: 1\nB: 2"),
        ("table", "A: 0.3\nB: TRUE"),
        ("heading", "List"),
        ("paragraph", "one"),
        ("paragraph", "two"),
    ]
    assert document.form == "table"
    with pytest.raises(InputError, match="no text"):
        extract("a.xlsx", sample_documents.xlsx({"Empty": []}))


def test_xlsx_that_claims_to_be_huge_is_read_as_it_is() -> None:
    data = sample_documents.edited(
        SAMPLES["xlsx"][1],
        {"xl/worksheets/sheet1.xml": lambda old: old.replace(b'"A1:B2"', b'"A1:XFD1048576"')},
    )
    assert pieces(extract("a.xlsx", data))[1:] == [("table", "Item: Tea\nPrice: 3.5")]


def test_zip_bombs_are_not_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("word/document.xml", bytes(2**20))
    zip_safety.check_archive(buffer.getvalue(), "a.docx")
    with pytest.raises(InputError, match=r"a\.docx: would unpack to 1,048,576 bytes"):
        zip_safety.check_archive(buffer.getvalue(), "a.docx", max_bytes=2**19)


def test_files_of_a_zip_that_are_larger_than_they_say() -> None:
    """The directory lies: no more is read than it says."""
    data = bytearray(sample_documents.edited(SAMPLES["docx"][1], {"word/document.xml": lambda old: old + b" " * 2**24}))
    place = data.rindex(b"PK\x01\x02", 0, data.rindex(b"word/document.xml"))
    data[place + 24 : place + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(InputError):
        extract("a.docx", bytes(data))


BOMB = (
    b"<!DOCTYPE x [<!ENTITY a0 'ha'>"
    + b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
    + b"]>"
)


@pytest.mark.parametrize(
    ("kind", "part", "place"),
    [
        ("docx", "word/document.xml", b"Some text"),
        ("pptx", "ppt/slides/slide1.xml", b"First slide"),
        ("xlsx", "xl/worksheets/sheet1.xml", b"3.5"),
        ("xlsx", "xl/sharedStrings.xml", b"Tea"),
    ],
)
def test_entities_are_not_expanded(kind: str, part: str, place: bytes) -> None:
    def edit(old: bytes) -> bytes:
        head, _, rest = old.partition(b"?>") if old.startswith(b"<?xml") else (b"", b"", old)
        assert place in rest
        return (head + b"?>" if head else b"") + BOMB + rest.replace(place, b"&a9;")

    name, data = SAMPLES[kind]
    try:
        assert len(extract(name, sample_documents.edited(data, {part: edit})).text) < 1000
    except InputError:
        pass


def test_old_and_encrypted_office_files_say_so() -> None:
    with pytest.raises(InputError, match=r"x\.doc: encrypted, or of Office before 2007"):
        kind_by_content(zip_safety.OLD + bytes(100), "x.doc")


# -- the reader ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_reader_reads_each_type_and_says_which(reader: DocumentReader) -> None:
    for kind, (name, data) in SAMPLES.items():
        document, message = reader.document(data, name)
        assert message == kind
        check(document)
        extracted = REGISTRY.load(kind)().extract(data, name)
        assert replace(document, has_lines=extracted.has_lines) == extracted  # the reader compares text and file


def test_names_that_lie(reader: DocumentReader) -> None:
    for name, kind in {"a.txt": "pdf", "a.docx": "pdf", "a": "xlsx", "a.html": "docx", "a.bin": "html"}.items():
        assert reader.document(SAMPLES[kind][1], name)[1] == kind
    assert reader.document(b"plain words", "unknown.xyz")[1] == "text"
    assert reader.document(b"<html> is how pages begin", "about.md")[1] == "markdown"
    assert reader.document(NamedBytes(b"# Title", "page.md"), "http://x/page")[1] == "markdown"
    with pytest.raises(InputError, match=r"a\.ico: there is no extractor for \.ico"):
        reader.document(b"\0\0\1\0\1\0", "a.ico")
    with pytest.raises(InputError, match=r"a\.txt: the file is empty"):
        reader.document(b"", "a.txt")


def test_rows_and_unreadable_items(reader: DocumentReader) -> None:
    row = Document("text")
    assert reader.read(SourceItem("k", "n", lambda: row)) == (row, ROW)

    def fail() -> bytes:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(InputError, match=r"n\.txt: cannot be read \(Permission denied\)"):
        reader.read(SourceItem("k", "n.txt", fail))


@pytest.mark.slow
def test_a_hanging_parser_costs_its_document_only(tmp_path: Path) -> None:
    with DocumentReader(deadline=2.0) as reader:
        with pytest.raises(InputError, match=r"x\.pdf: took more than 2 seconds"):
            reader.extract(hostile_clients.Hanging, b"data", "x.pdf")
        assert reader.extract(hostile_clients.Where, b"data", str(tmp_path / "asked")).text


def test_crashing_and_greedy_parsers_cost_their_documents_only() -> None:
    with DocumentReader(memory=2**28) as reader:
        for extractor, message in (
            (hostile_clients.Crashing, "the parser crashed on it"),
            (hostile_clients.Greedy, "takes more than 256 MiB of memory"),
        ):
            with pytest.raises(InputError, match=rf"x\.pdf: {message}"):
                reader.extract(extractor, b"data", "x.pdf")
            assert reader.extract(REGISTRY.load("pdf"), SAMPLES["pdf"][1], "a.pdf").blocks
        folder = Path(reader._sandbox._folder.name)  # type: ignore[union-attr]
        workers = [worker.process for worker in reader._sandbox._workers]
        assert workers and all(worker.poll() is None for worker in workers)
        assert folder.is_dir() and not list(folder.iterdir())
    assert not folder.exists()
    assert all(worker.poll() is not None for worker in workers)


def test_a_process_that_is_ended_from_outside_is_replaced(reader: DocumentReader, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    first = reader.extract(hostile_clients.Where, b"data", str(log))
    assert first.title == "\ufffd title" and first.meta == {"number": 1, "share": 0.5, "yes": True}
    assert first.text == reader.extract(hostile_clients.Where, b"data", str(log)).text != str(os.getpid())
    os.kill(int(first.text), signal.SIGKILL)
    assert reader.extract(hostile_clients.Where, b"data", str(log)).text not in (first.text, str(os.getpid()))
    assert log.read_text().count("asked") == 3


def test_errors_keep_their_type_and_message(reader: DocumentReader) -> None:
    with pytest.raises(MissingExtra, match=r"^It needs a library\.$"):
        reader.extract(hostile_clients.Refusing, b"extra", "x.pdf")
    with pytest.raises(InputTooLong, match=r"^It is too long\.$") as raised:
        reader.extract(hostile_clients.Refusing, b"long", "x.pdf")
    assert raised.value.param == "text"


def test_what_a_parser_prints_is_no_reply(reader: DocumentReader) -> None:
    for _ in range(2):
        assert reader.extract(hostile_clients.Printing, b"data", "x.pdf").text == "text"


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with DocumentReader() as reader:
        assert reader.document(SAMPLES["pdf"][1], "a.pdf")[0].blocks


def test_large_texts_are_read_apart(reader: DocumentReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.corpus.extractors.reader._IN_PROCESS", 10)
    document, kind = reader.document(MARKDOWN.encode(), "a.md")
    assert kind == "markdown" and replace(document, has_lines=False) == extract("a.md", MARKDOWN.encode())


def test_a_script_without_guard_runs_once(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(SAMPLES["pdf"][1])
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            print("begun")
            from pathlib import Path
            from nearfield.corpus.extractors.reader import DocumentReader
            with DocumentReader() as reader:
                print(reader.document(Path("a.pdf").read_bytes(), "a.pdf")[0].text)
        """)
    )
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "begun\nOne line,\nand a second one.\n\nPage two.\n", done.stderr


# -- real files ----------------------------------------------------------------------------------------------------


def _longdoc(name: str) -> Path:
    path = LONGDOCS / name
    if not path.exists():
        missing(f"no {path}")
    return path


def test_the_rust_book() -> None:
    for path in sorted(_longdoc("rust-book").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        document = extract(path.name, path.read_bytes())
        assert document.text == text
        # What lies between blocks is markup: marks of headings, comments, and definitions of links.
        between = [text[a.end : b.start] for a, b in zip(document.blocks, document.blocks[1:], strict=False)]
        assert all(not part.strip(" \n#=-") or part.strip(" \n#=-")[0] in "<[" for part in between), path.name
    document = extract("a.md", _longdoc("rust-book/ch04-01-what-is-ownership.md").read_bytes())
    assert document.title == "What Is Ownership?"
    assert (3, "Ownership Rules") in headings(document)


def test_an_rfc_has_its_pages() -> None:
    data = _longdoc("rfc2616.txt").read_bytes()
    document = extract("rfc2616.txt", data)
    assert document.text == data.decode()
    found = next(block for block in document.blocks if "3.3.1 Full Date" in document.text[block.start : block.end])
    contents = [block for block in document.blocks if block.page == 20]
    assert found.page is not None and contents
    assert document.blocks[-1].page == 176
