"""Page numbers: they are recognised by their sequence, and other digits at the edges of pages stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nearfield.corpus import extractors
from nearfield.corpus.document import Block, Document
from nearfield.corpus.indexing.cleaning.document_cleaner import clean
from tests.support.sample_documents import column, pdf

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August")
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii")


def paged(*texts: str) -> Document:
    blocks, at = [], 0
    for number, text in enumerate(texts, 1):
        blocks.append(Block(at, at + len(text), page=number))
        at += len(text) + 1
    return Document("\n".join(texts), tuple(blocks))


def body(number: int) -> str:
    """Return four lines that differ from those of other pages in more than digits."""
    return "\n".join(
        f"{line} of {MONTHS[number % 8].lower()} {number // 8 * 'x'}" for line in ("Wind", "Rain", "Snow", "Sun")
    )


def edges(line: Callable[[int], str], count: int = 8, *, top: bool = False) -> Document:
    parts = [(line(number), body(number)) if top else (body(number), line(number)) for number in range(1, count + 1)]
    return paged(*("\n".join(part) for part in parts))


def edge_lines(document: Document) -> list[str]:
    """Return the lines of the cleaned text that are not of the pages' bodies."""
    return [line for line in clean(document).document.text.splitlines() if line.strip() and " of " not in line]


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize(
    "line",
    [
        lambda n: str(n),
        lambda n: f"- {n} -",
        lambda n: f"[{n}]",
        lambda n: f"{n + 344}",
        lambda n: f"{n} / 8",
        lambda n: f"Page {n}",
        lambda n: f"PAGE {n} OF 8",
        lambda n: f"Seite {n} von 8",
        lambda n: f"S. {n}",
        lambda n: f"p. {n}",
        lambda n: f"Página {n} de 8",
        lambda n: f"第 {n} 页",
        lambda n: f"стр. {n}",
        lambda n: ROMAN[n - 1],
        lambda n: f"- {ROMAN[n - 1].upper()} -",
        lambda n: f"Report 2024 | {n}",
        lambda n: f"{n} • Report 2024",
        lambda n: f"Report 2024    {n}",
        lambda n: f"Report 2024, Page {n}/8",
        lambda n: f"Report {n % 2} | {n}",  # a running title for left and one for right pages
        lambda n: "" if n in (3, 6) else str(n),  # pages without a number
    ],
)
def test_numbers_that_rise_with_the_pages_are_removed(line: Callable[[int], str], top: bool) -> None:
    document = edges(line, top=top)
    cleaned = clean(document)
    assert edge_lines(document) == []
    assert cleaned.document.text.count("Wind") == 8
    assert sum(cleaned.dropped.values()) == sum(bool(line(number)) for number in range(1, 9))


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize(
    "line",
    [
        lambda n: f"Closing balance: {863 + 137 * n}.50 EUR",
        lambda n: f"Total {100 * n}",
        lambda n: f"Carried forward: {n},000.00",
        lambda n: f"{n}.50",
        lambda n: f"EUR {n}",
        lambda n: f"$ {n}",
        lambda n: f"{n} %",
        lambda n: f"{n} Footnote: see bulletin {n}00{n}",
        lambda n: f"{n} Section about part {n}",
        lambda n: f"Invoice {1000 + n}",
        lambda n: f"Invoice {n}",
        lambda n: f"Chapter {n}",
        lambda n: f"Question {n} in 8",
        lambda n: f"{n * n}",
        lambda n: f"Page {9 - n}",
        lambda n: f"Page {n * 7}",
        lambda n: f"See page {(3, 1, 4, 1, 5, 9, 2, 6)[n - 1]}",
        lambda n: f"{2016 + n * 2}",
        lambda n: f"2024-0{n}-01",
        lambda n: ["MIX", "CIVIC", "LIVID", "VIVID", "MILD", "DIM", "LID", "ILL"][n - 1],
    ],
)
def test_other_digits_at_the_edges_of_pages_stay(line: Callable[[int], str], top: bool) -> None:
    document = edges(line, top=top)
    assert clean(document).document is document


def test_roman_numbers_before_arabic_ones_are_removed() -> None:
    document = edges(lambda n: ROMAN[n - 1] if n <= 6 else str(n - 6), 16)
    assert edge_lines(document) == []


def test_numbers_are_removed_only_in_their_sequence() -> None:
    """A table's last row on one page is a number too."""
    document = paged(*(f"{body(n)}\n{n * 31}\n{n}" for n in range(1, 9)))
    assert edge_lines(document) == [str(n * 31) for n in range(1, 9)]


def test_few_pages_keep_their_numbers() -> None:
    document = edges(lambda n: f"Page {n}", 3)
    assert clean(document).document is document


@pytest.mark.parametrize(
    ("line", "is_number"),
    [
        (lambda n: f"Chapter 4: Function reference {n + 2}", True),
        (lambda n: f"{n} FUNCTION REFERENCE", True),
        (lambda n: f"Manual of Acme {n}", True),
        (lambda n: f"Function reference {n * 3}", False),
        (lambda n: f"Function table {n}", False),
        (lambda n: f"Reference {n}", False),
        (lambda n: f"{n} Functional references", False),
    ],
)
def test_a_number_beside_a_title_of_the_document_is_a_page_number(line: Callable[[int], str], is_number: bool) -> None:
    pages = edges(line)
    text = f"4 Function reference\n{pages.text}"
    moved = (Block(block.start + 21, block.end + 21, page=block.page) for block in pages.blocks)
    document = Document(text, (Block(0, 20, "heading", 1, page=1), *moved), title="Manual of Acme")
    cleaned = clean(document)
    assert (cleaned.document is document) is not is_number
    assert sum(cleaned.dropped.values()) == (8 if is_number else 0)
    assert len(cleaned.passages) == is_number


# -- PDF files -----------------------------------------------------------------------------------------------------


def cleaned_pdf(*pages: tuple[str, ...]) -> str:
    document = extractors.REGISTRY.load("pdf")().extract(pdf([column(*lines) for lines in pages]), "a.pdf")
    return clean(document).document.text


def test_closing_balances_of_statements_stay() -> None:
    pages = [
        (f"Statement for {month}", f"Rent of {month} 52.20", f"Closing balance: {900 + n * 7}.50 EUR", f"Page {n} of 6")
        for n, month in enumerate(MONTHS[:6], 1)
    ]
    text = cleaned_pdf(*pages)
    for line in (line for page in pages for line in page):
        assert (line in text) == ("Page" not in line)


def test_totals_and_numbers_of_invoices_stay() -> None:
    pages = [
        (f"Invoice {n}", f"Goods of {month}", "Net amount", f"Total: {n * 119} EUR")
        for n, month in enumerate(MONTHS, 1)
    ]
    assert cleaned_pdf(*pages).split() == " ".join(line for page in pages for line in page).split()


def test_footnotes_and_section_numbers_of_a_manual_stay() -> None:
    filling = "then the bolts are tightened to the torque that is given in the table below, and"
    pages = [
        (
            "ACME Pump manual, revision 7",
            f"- {n} -",
            f"{n} Section about part {n}",
            f"In {month} the part is tested,",
            filling,
            "then the seal is inspected.",
            f"{n} Footnote: see bulletin {n}001 for part {n}.",
        )
        for n, month in enumerate(MONTHS, 1)
    ]
    text = cleaned_pdf(*pages)
    assert text.split() == " ".join(line for page in pages for line in page[2:]).split()
