"""Workbooks: names of columns belong to their table, values are as shown, and nothing of a sheet is left out."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.office.sheets.number_format import format_value
from nearfield.corpus.extractors.xlsx import XlsxExtractor
from nearfield.corpus.word_count import count_words
from tests.support import sample_documents
from tests.support.office_packages import converted

DAY = datetime.date(2025, 3, 9)


def workbook(*rows: Sequence[Any], edit: Callable[[Any], None] | None = None) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "Sheet"
    for row in rows:
        sheet.append(list(row))
    if edit:
        edit(sheet)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def read(data: bytes) -> Document:
    return XlsxExtractor().extract(data, "a.xlsx")


def texts(data: bytes) -> list[str]:
    """Return the texts of all blocks after the sheet's name, with a slash for each end of a line."""
    document = read(data)
    found = [document.text[block.start : block.end].replace("\n", " / ") for block in document.blocks]
    assert found.pop(0) == "Sheet"
    return found


def bold(*references: str) -> Callable[[Any], None]:
    from openpyxl.styles import Font

    def edit(sheet: Any) -> None:
        for reference in references:
            for row in sheet[reference] if ":" in reference else ((sheet[reference],),):
                for cell in row:
                    cell.font = Font(bold=True)

    return edit


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("Region", "2024", "2025"), ("North", 120, 140)], ["Region: North / 2024: 120 / 2025: 140"]),
        ([("Region", 2024, 2025), ("North", 120, 140)], ["Region: North / 2024: 120 / 2025: 140"]),
        ([(None, 2024, 2025), ("North", 120, 140)], ["A: North / 2024: 120 / 2025: 140"]),
        ([(2024, 2025), (120, 140)], ["2024: 120 / 2025: 140"]),
        ([("Sensor", DAY), ("Roof", 3)], ["Sensor: Roof / 2025-03-09: 3"]),
        ([("Name", "%", "#"), ("Tea", 3, 4)], ["Name: Tea / %: 3 / #: 4"]),
        ([("Shop", 1, 2, 3), ("A", 70, 80, 90)], ["Shop: A / 1: 70 / 2: 80 / 3: 90"]),
        ([("Ann", 1990), ("Bob", 1985)], ["A: Ann / B: 1990", "A: Bob / B: 1985"]),
        ([("Tea", 3.5), ("Milk", 2)], ["A: Tea / B: 3.5", "A: Milk / B: 2"]),
        ([("Ann", "34"), ("Bob", "35")], ["A: Ann / B: 34", "A: Bob / B: 35"]),
        ([("Item", "Remarks"), ("Tea", None)], ["Item: Tea", "Remarks"]),
        ([("Only", "heads")], ["Only | heads"]),
        ([("x", "x"), ("x", "x")], ["A: x / B: x", "A: x / B: x"]),
        ([("a", "b"), ("1", "2"), ("a", "b"), ("3", "4")], ["a: 1 / b: 2", "a: 3 / b: 4"]),
    ],
)
def test_heads(rows: list[Sequence[Any]], expected: list[str]) -> None:
    assert texts(workbook(*rows)) == expected


def test_bold_numbers_are_a_head() -> None:
    assert texts(workbook(("Size", 36, 38), ("Red", 5, 3), edit=bold("A1:C1"))) == ["Size: Red / 36: 5 / 38: 3"]


def test_a_second_table_has_names_of_its_columns_only() -> None:
    rows = [("City", "People"), ("Ghent", 265), (), ("River", "Length"), ("Scheldt", 350), ("Deule", 68)]
    rivers = ["River: Scheldt / Length: 350", "River: Deule / Length: 68"]
    assert texts(workbook(*rows)) == ["City: Ghent / People: 265", *rivers]
    wider = [("City", "People"), ("Ghent", 265), (), ("Scheldt", 350, "long")]
    assert texts(workbook(*wider)) == ["City: Ghent / People: 265", "A: Scheldt / B: 350 / C: long"]


def test_a_gap_within_a_table_keeps_its_names() -> None:
    rows = [("City", "People"), ("Ghent", 265), (), ("Lille", 236), (), (None, 501)]
    assert texts(workbook(*rows)) == ["City: Ghent / People: 265", "City: Lille / People: 236", "People: 501"]
    names = [("Name", "City"), ("Ann", "Bonn"), (), ("Bob", "Bonn"), ("Cy", "Ulm")]
    assert texts(workbook(*names))[1:] == ["Name: Bob / City: Bonn", "Name: Cy / City: Ulm"]


def test_an_empty_row_below_the_head() -> None:
    rows = [("Item", "Price"), (), ("Tea", 3), ("Milk", 2)]
    assert texts(workbook(*rows)) == ["Item: Tea / Price: 3", "Item: Milk / Price: 2"]
    report = [("In millions", None, None, "June"), (None, "Sales", "Profit", "Cost"), (), ("Zone A", 12, 3, 4)]
    assert texts(workbook(*report)) == ["In millions: Zone A / Sales: 12 / Profit: 3 / June Cost: 4"]
    other = [("Name", "City"), ("Ann", "Bonn"), (), ("x", 5)]
    assert texts(workbook(*other))[0] == "Name: Ann / City: Bonn"
    two = [("Prepared by", "Ann"), (), ("Item", "Price"), ("Tea", 3)]
    assert texts(workbook(*two)) == ["Prepared by | Ann", "Item: Tea / Price: 3"]


def test_a_second_head_without_a_gap() -> None:
    rows = [("Item", "Price", "Count"), ("Tea", 3, 4), ("Milk", 2, 9), ("Name", "Age", "Size"), ("Ann", 30, 170)]
    assert texts(workbook(*rows))[2:] == ["Name: Ann / Age: 30 / Size: 170"]
    pairs = [("Item", "Price"), ("Tea", 3), ("Name", "Age"), ("Ann", 30)]
    assert texts(workbook(*pairs, edit=bold("A1:B1", "A3:B3")))[1:] == ["Name: Ann / Age: 30"]
    pairs = [("Item", "Price"), ("Tea", 3), ("Coffee", "unknown"), ("Milk", 2)]
    assert texts(workbook(*pairs))[1] == "Item: Coffee / Price: unknown"


def test_tables_beside_each_other() -> None:
    rows = [("Bird", "Eggs", None, "Tree", "Rings"), ("Wren", 6, None, "Ash", 140), ("Kite", 3, None, "Elm", 205)]
    assert texts(workbook(*rows)) == [
        "Bird: Wren / Eggs: 6", "Bird: Kite / Eggs: 3", "Tree: Ash / Rings: 140", "Tree: Elm / Rings: 205",
    ]  # fmt: skip
    spaced = [("Item", None, "2024", None, "2023"), ("Sales", None, 5, None, 4), ("Costs", None, 3, None, 2)]
    assert texts(workbook(*spaced))[0] == "Item: Sales / 2024: 5 / 2023: 4"


def test_names_and_values_on_a_form() -> None:
    rows = [("Customer:", "Example Ltd"), ("Date:", DAY), ("Total:", 500)]
    assert texts(workbook(*rows)) == ["Customer: Example Ltd", "Date: 2025-03-09", "Total: 500"]
    rows = [("Customer", "Example Ltd"), ("Town", "Ulm")]
    assert texts(workbook(*rows, edit=bold("A1", "A2"))) == ["Customer: Example Ltd", "Town: Ulm"]


def test_merged_cells_and_heads_of_several_rows() -> None:
    def merge(*areas: str) -> Callable[[Any], None]:
        def edit(sheet: Any) -> None:
            for area in areas:
                sheet.merge_cells(area)

        return edit

    heads = [("Item", 2024, None), (None, "Q1", "Q2"), ("Tea", 1, 2)]
    assert texts(workbook(*heads, edit=merge("A1:A2", "B1:C1"))) == ["Item: Tea / 2024 Q1: 1 / 2024 Q2: 2"]
    group = [(None, 2024, None), ("Item", "Q1", "Q2"), ("Tea", 1, 2)]
    assert texts(workbook(*group, edit=merge("B1:C1"))) == ["Item: Tea / 2024 Q1: 1 / 2024 Q2: 2"]
    floors = [("Floor", "Office"), ("Ground", "Post"), (None, "Desk"), ("First", "Sales")]
    assert texts(workbook(*floors, edit=merge("A2:A3"))) == [
        "Floor: Ground / Office: Post", "Floor: Ground / Office: Desk", "Floor: First / Office: Sales",
    ]  # fmt: skip
    titled = [("Fees of 2024", None), ("Item", "Fee"), ("Tea", 3), ("Cold drinks", None), ("Cola", 4)]
    assert texts(workbook(*titled, edit=merge("A1:B1", "A4:B4"))) == [
        "Fees of 2024", "Item: Tea / Fee: 3", "Cold drinks", "Item: Cola / Fee: 4",
    ]  # fmt: skip
    plan = [("Name", "Plan", "Actual"), ("No plan", None, 55)]
    assert texts(workbook(*plan, edit=merge("A2:B2"))) == ["Name: No plan / Actual: 55", "Plan"]


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        (0.125, "0.0%", "12.5%"), (0.125, "0%", "13%"), (1234.5, "#,##0.00", "1,234.50"),
        (-1234.5, "#,##0.00_);(#,##0.00)", "(1,234.50)"), (1234.5, "[$€-407] #,##0.00", "€ 1,234.50"),
        (1234.5, '#,##0.00 "€"', "1,234.50 €"), (0, '#,##0;-#,##0;"-"??', "-"), (7, "000", "007"),
        (1234567, '0.0,,"M"', "1.2M"), (123456789, "000-00-0000", "123-45-6789"), (1.25, "# ?/?", "1 1/4"),
        (0.000123, "0.00E+00", "1.23E-04"), (46028.604166, "DD/MM/YYYY HH:MM", "2026-01-06 14:30"),
        (46028, "[$-409]d\\-mmm\\-yy;@", "2026-01-06"), (46028, "mmm-yy", "2026-01"), (0.5, "h:mm", "12:00"),
        (1.5, "[h]:mm", "36:00"), (46028, "dddd", "Tuesday"), (3, 'General "kg"', "3 kg"), (-0.001, "0.00", "0.00"),
        (5, '[>10]"big";"small"', "small"), (2.5, "0", "3"), (3, "0.##", "3"), (1e20, "General", "1e+20"),
        (59, "yyyy-mm-dd", "1900-02-28"), (61, "yyyy-mm-dd", "1900-03-01"), (3, "[Red]-0", "-3"),
    ],
)  # fmt: skip
def test_numbers_as_shown(value: float, code: str, expected: str) -> None:
    assert format_value(value, code) == expected


ODD = ("", ";;;", '"', "[", "0.0.0", "\\", "#,,", "[$", "E+", "mmmmmmmm", "?/?", "@", "0;;", "_")


@pytest.mark.parametrize("code", ODD)
def test_odd_formats_raise_nothing(code: str) -> None:
    for value in (0, -1.5, 1e308, float("inf"), float("nan"), 46028.5, -46028, 3e9):
        assert isinstance(format_value(value, code), str)


def test_values_of_a_workbook_are_as_shown() -> None:
    def edit(sheet: Any) -> None:
        sheet["B2"].number_format, sheet["C2"].number_format = "0.0%", '#,##0.00 "€"'

    rows = [("Part", "Share", "Price", "Due", "Open"), ("Hull", 0.125, 1234.5, DAY, True)]
    data = workbook(*rows, edit=edit)
    assert texts(data) == ["Part: Hull / Share: 12.5% / Price: 1,234.50 € / Due: 2025-03-09 / Open: TRUE"]


def test_formulas_without_values_are_kept_and_stated() -> None:
    rows = [("Part", "Count", "Sum"), ("Bolt", 40, "=B2*2"), ("Nut", 6, "=B3*2")]
    data = workbook(*rows)
    assert texts(data)[0] == "Part: Bolt / Count: 40 / Sum: =B2*2"
    (loss,) = read(data).losses
    assert loss.reason == "the values of 2 formulas, which the file does not have"
    assert loss.pages == (1,) and loss.advice
    shared = b'<c r="C2"><f t="shared" ref="C2:C3" si="0">B2*2</f><v></v></c>'
    part = "xl/worksheets/sheet1.xml"

    def share(old: bytes) -> bytes:
        old = old.replace(b'<c r="C2"><f>B2*2</f><v></v></c>', shared).replace(
            b'<c r="C2"><f>B2*2</f><v /></c>', shared
        )
        return old.replace(b"<f>B3*2</f>", b'<f t="shared" si="0"/>')

    assert texts(sample_documents.edited(data, {part: share}))[1] == "Part: Nut / Count: 6 / Sum: =B3*2"
    computed = sample_documents.edited(data, {part: lambda old: re.sub(b"<v ?/>|<v></v>", b"<v>80</v>", old)})
    assert texts(computed)[0] == "Part: Bolt / Count: 40 / Sum: 80" and not read(computed).losses


def test_comments_are_with_their_rows() -> None:
    from openpyxl.comments import Comment

    def edit(sheet: Any) -> None:
        sheet["B2"].comment = Comment("Ida:\nMeasured again.", "Ida")
        sheet["A1"].comment = Comment("By parcel", "Bo")
        sheet["E9"].comment = Comment("Alone", "Bo")

    data = workbook(("Plot", "Area"), ("North", 5200), ("South", 4100), edit=edit)
    assert texts(data) == [
        "Comment on A1 by Bo: By parcel",
        "Plot: North / Area: 5200 / Comment on B2 by Ida: Measured again.",
        "Plot: South / Area: 4100",
        "Comment on E9 by Bo: Alone",
    ]


def test_sheets_are_pages_also_hidden_ones() -> None:
    from openpyxl import Workbook
    from openpyxl.chart import BarChart, Reference

    book = Workbook()
    book.active.append(["seen", "x"])
    chart = BarChart()
    chart.title = "Sales by port"
    chart.x_axis.title = "Port"
    chart.add_data(Reference(book.active, min_col=2, min_row=1, max_row=1))
    book.active.add_chart(chart, "D1")
    hidden = book.create_sheet("Secret")
    hidden.append(["one text"])
    hidden.sheet_state = "veryHidden"
    hidden.oddFooter.center.text = "Internal use only"
    hidden.oddFooter.right.text = "&P"
    buffer = io.BytesIO()
    book.save(buffer)
    document = read(buffer.getvalue())
    assert document.page_unit == "sheet"
    assert [(block.page, document.text[block.start : block.end]) for block in document.blocks] == [
        (1, "Sheet"), (1, "seen | x"), (1, "Sales by port"), (1, "Port"),
        (2, "Secret"), (2, "one text"), (2, "Internal use only"),
    ]  # fmt: skip


def test_the_strict_form_and_the_epoch_of_1904() -> None:
    data = workbook(("Day", "x"), (DAY, 1))
    kinds = {
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/main": b"http://purl.oclc.org/ooxml/spreadsheetml/main",
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships":
            b"http://purl.oclc.org/ooxml/officeDocument/relationships",
    }  # fmt: skip

    def strict(old: bytes) -> bytes:
        for transitional, other in kinds.items():
            old = old.replace(transitional, other)
        return old

    parts = ("_rels/.rels", "xl/_rels/workbook.xml.rels", "xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml")
    edits = dict.fromkeys((*parts, "xl/worksheets/sheet1.xml"), strict)
    assert texts(sample_documents.edited(data, edits)) == texts(data) == ["Day: 2025-03-09 / x: 1"]
    mac = {"xl/workbook.xml": lambda old: re.sub(b"<workbookPr[^>]*>", b'<workbookPr date1904="1"/>', old)}
    assert texts(sample_documents.edited(data, mac)) == ["Day: 2029-03-10 / x: 1"]


def test_a_long_table_keeps_its_names_to_the_end() -> None:
    data = workbook(("Number", "Name"), *((at, f"row {at}") for at in range(3000)), (), ("Key", "Word"), (1, "last"))
    found = texts(data)
    assert found[0] == "Number: 0 / Name: row 0" and found[2999] == "Number: 2999 / Name: row 2999"
    assert found[-1] == "Key: 1 / Word: last" and len(found) == 3001


def test_words_are_counted_by_the_cells() -> None:
    document = read(workbook(("Plot", "Area"), ("North field", 5200), ("South", 4100)))
    assert document.visible_words == count_words("Sheet Plot Area North field 5200 South 4100")


@pytest.mark.slow
@pytest.mark.process
def test_a_workbook_that_libreoffice_writes(tmp_path: Path) -> None:
    def edit(sheet: Any) -> None:
        sheet.merge_cells("B1:C1")
        sheet.merge_cells("A1:A2")
        for reference in ("B3", "C3"):
            sheet[reference].number_format = "0.0%"

    rows = [("Item", "Share", None), (None, "Shop", "Online"), ("Tea", 0.125, "=B3*2")]
    data = converted(workbook(*rows, edit=edit), ".xlsx", "xlsx", tmp_path)
    assert texts(data) == ["Item: Tea / Share Shop: 12.5% / Share Online: 25.0%"]
    assert not read(data).losses
