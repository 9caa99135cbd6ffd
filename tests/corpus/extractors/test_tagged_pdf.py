"""PDFs: alternative texts of tagged files, and tables that go on on the next page."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.pdf import PdfExtractor
from tests.support import sample_documents
from tests.support.sample_documents import Line

_FONT = "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"


def read(data: bytes) -> Document:
    return PdfExtractor().extract(data, "a.pdf")


def tagged(*elements: tuple[str, str, str]) -> bytes:
    """Return a page of marked contents, one below the other: kind, further entries of the element, and text.

    A content without a text is a drawn rectangle.
    """
    parts, bodies = [], []
    for number, (kind, entries, text) in enumerate(elements):
        top = 780 - 100 * number
        drawn = f"BT /F1 11 Tf 72 {top} Td ({text}) Tj ET" if text else f"72 {top} 200 50 re f"
        parts.append(f"/{kind} << /MCID {number} >> BDC {drawn} EMC")
        bodies.append(f"<< /Type /StructElem /S /{kind} /P 6 0 R /Pg 4 0 R /K {number} {entries} >>")
    content = "\n".join(parts)
    links = " ".join(f"{number} 0 R" for number in range(7, 7 + len(elements)))
    head = [
        "<< /Type /Catalog /Pages 2 0 R /MarkInfo << /Marked true >> /StructTreeRoot 6 0 R >>",
        "<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /StructParents 0 /Contents 3 0 R /Resources {_FONT} >>",
        f"<< /Nums [0 [{links}]] >>",
        f"<< /Type /StructTreeRoot /K [{links}] /ParentTree 5 0 R >>",
    ]
    return sample_documents.file_of([*head, *bodies, "<< >>"])


def test_alternative_texts_are_in_their_places() -> None:
    document = read(tagged(
        ("P", "", "The first paragraph."),
        ("Figure", "/Alt (A red bridge at night)", ""),
        ("P", "", "The paragraph after it."),
        ("Formula", "/Alt (a squared)", ""),
    ))  # fmt: skip
    assert document.text.split("\n\n") == [
        "The first paragraph.", "Picture: A red bridge at night", "The paragraph after it.", "Formula: a squared",
    ]  # fmt: skip
    assert document.visible_words == 3 + 6 + 4 + 3
    assert {block.page for block in document.blocks} == {1}


@pytest.mark.parametrize(
    ("kind", "entries", "expected"),
    [
        ("Figure", "/ActualText (SALE)", "Picture: SALE"),
        ("Figure", "/Alt (Sale) /ActualText (Sale)", "Picture: Sale"),
        ("Span", "/E (World Health Organization)", "Abbreviation: World Health Organization"),
        ("Span", "/ActualText (Other words)", "Other words"),
        ("Span", "/Alt (An icon of a ship)", "Description: An icon of a ship"),
        ("Figure", "/Alt <FEFF00E90074006F0069006C0065>", "Picture: \u00e9toile"),
        ("Span", "/ActualText (of)", ""),
        ("Span", "/ActualText (a report\\255s  TEXT)", "a reports TEXT"),
        ("Span", "/ActualText (the  re\\255port of WHO.)", ""),
        ("Figure", "/Alt (image1.png)", ""),
        ("Link", "/Alt (Go to the page of it)", ""),
        ("Figure", "/Alt ( )", ""),
    ],
)
def test_texts_of_the_structure_that_the_page_lacks(kind: str, entries: str, expected: str) -> None:
    parts = read(tagged(("P", "", "The report of WHO."), (kind, entries, ""))).text.split("\n\n")
    assert parts == ["The report of WHO.", *([expected] if expected else [])]


def test_a_page_with_a_described_picture_alone_has_a_text() -> None:
    assert read(tagged(("Figure", "/Alt (A map of the harbour)", ""))).text == "Picture: A map of the harbour"


# -- tables over several pages ---------------------------------------------------------------------------------------


def rows(*texts: Sequence[str], top: float) -> list[Line]:
    places = (72, 230, 400)
    return [
        (places[column], top - 16 * number, 10, text)
        for number, row in enumerate(texts)
        for column, text in enumerate(row)
    ]


HEAD = ("Item", "Supplier", "Price")
FIRST = [HEAD, ("Bolts", "Nord Ltd", "12"), ("Nuts", "Example Ltd", "14"), ("Nails", "West Ltd", "18")]
SECOND = [("Screws", "Nord Ltd", "22"), ("Rivets", "Example Ltd", "27"), ("Hooks", "West Ltd", "31")]
NAMES = "| Item | Supplier | Price |"


def tables(*pages: list[Line]) -> list[tuple[int | None, str]]:
    document = read(sample_documents.pdf(pages))
    return [
        (block.page, document.text[block.start : block.end]) for block in document.blocks if block.kind == "table"
    ]  # fmt: skip


def test_a_table_that_goes_on_has_the_names_of_its_columns() -> None:
    note = [(72, 60, 9, "Page 1 of 3")]
    third = [("Pins", "Nord Ltd", "3"), ("Rods", "West Ltd", "5"), ("Caps", "East Ltd", "7")]
    found = tables(
        [(72, 780, 10, "The prices of this year are these."), *rows(*FIRST, top=200), *note],
        [(72, 800, 9, "Price list"), *rows(*SECOND, top=760), *note],
        [*rows(*third, top=760), (72, 400, 10, "All prices are without tax.")],
    )
    assert [(page, text.split("\n")[0]) for page, text in found] == [(1, NAMES), (2, NAMES), (3, NAMES)]
    assert found[1][1].endswith("| Screws | Nord Ltd | 22 |\n| Rivets | Example Ltd | 27 |\n| Hooks | West Ltd | 31 |")


def test_names_that_the_next_page_repeats_are_there_once() -> None:
    found = tables(rows(*FIRST, top=200), rows(HEAD, *SECOND, top=760))
    assert found[1][1].count("Supplier") == 1


@pytest.mark.parametrize(
    "second",
    [
        rows(("Name", "City", "Age"), ("Ada", "Ghent", "36"), ("Piet", "Lier", "41"), ("Eva", "Ypres", "29"), top=760),
        [(72, 790, 10, "Table 2. Other goods"), *rows(*SECOND, top=760)],
        [*((72, 800 - 14 * at, 10, f"A line of a paragraph that is number {at}") for at in range(6)),
         *rows(*SECOND, top=600)],
        [line for line in rows(*SECOND, top=760) if line[0] < 400],
        [(left + 40, height, size, text) for left, height, size, text in rows(*SECOND, top=760)],
    ],
)  # fmt: skip
def test_another_table_does_not_get_these_names(second: list[Line]) -> None:
    found = tables(rows(*FIRST, top=200), second)
    assert found[0][1].startswith(NAMES)
    assert all("Supplier" not in text for _, text in found[1:])


def test_a_caption_that_says_so_is_no_other_table() -> None:
    second = [(72, 790, 10, "Table 1 (continued)"), *rows(*SECOND, top=760)]
    assert tables(rows(*FIRST, top=200), second)[1][1].startswith(NAMES)
