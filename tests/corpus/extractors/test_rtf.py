"""Rich text: letters of all encodings, structure, notes, and no control words."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.reader import kind_of
from nearfield.corpus.extractors.rtf import RtfExtractor
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.corpus.extractors.test_docx import BEGIN, GO_ON, SPAN2, cell, item, numbered, table
from tests.support.office_packages import converted, paragraph, word

HEAD = rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset204 B;}{\f2\fcharset128 C;}}"


def read(body: bytes) -> Document:
    return RtfExtractor().extract(HEAD + b"\n" + body + b"}", "a.rtf")


def pieces(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb"caf\'e9 \u8364? \u-10179?\u-8704? \emdash\~\{x\}\\", "café € \U0001f600 —\u00a0{x}\\"),
        (rb"{\f1 \'ef\'f0\'e8}{\f0 \'e9}", "приé"),
        (rb"{\f2 \'93\'fa\'96\'7b}", "日本"),
        (rb"\uc2\u8364\'80\'80 end", "€ end"),
        (rb"a{\*\unknown secret}b{\pict 0102}c{\*\bkmkstart x}d", "abcd"),
        (rb"a{\field{\*\fldinst HYPERLINK x}{\fldrslt link}}", "alink"),
        (rb"old {\deleted gone }new", "old new"),
        (rb"{\info{\title T}{\author Ann}}text\bin4 {}{}", "text"),
        (rb"one\line two\tab three", "one\ntwo\tthree"),
    ],
)
def test_letters_and_groups(body: bytes, text: str) -> None:
    assert read(body).text == text


def test_structure() -> None:
    body = (
        rb"{\stylesheet{\s0 Normal;}{\s1\b heading 1;}{\s2\outlinelevel1 Own;}}"
        rb"{\header Example Ltd\par}{\footer \chpgn  \par}"
        rb"\pard\s1 Head\par\pard\s2 Below\par\pard Text{\footnote\pard Note.\par}{\*\atnauthor Ann}"
        rb"{\*\annotation Sure?} goes on\par{\listtext 1.2\tab}\pard\ilvl1 Clause\par"
        rb"{\listtext\'b7\tab}\pard Bullet\par"
        rb"\pard\bullet\tab old bullet\par"
        rb"\trowd\clmgf\cellx1000\clmrg\cellx2000\cellx3000\intbl A\cell\cell B\cell\row"
        rb"\trowd\cellx1000\cellx2000\cellx3000\intbl 1\cell 2\cell 3\cell\row\pard End\par"
    )
    document = read(body)
    assert pieces(document) == [
        ("paragraph", "Example Ltd"),
        ("heading", "Head"),
        ("heading", "Below"),
        ("paragraph", "Text goes on"),
        ("paragraph", "Footnote 1: Note."),
        ("quote", "Comment by Ann: Sure?"),
        ("list", "  1.2 Clause\n- Bullet\n- old bullet"),
        ("table", "| A |  | B |\n| --- | --- | --- |\n| 1 | 2 | 3 |"),
        ("paragraph", "End"),
    ]
    assert [block.level for block in document.blocks if block.level] == [1, 2]


def test_words_are_counted_without_the_structure() -> None:
    styles = b"{\n" + rb"\*\latentstyles heading 1;List Bullet;}{\info{\title A long title}}"
    document = read(styles + rb"\pard Two w\'f6rds\par\pard and \u8364? three more\par")
    assert document.visible_words == count_words(document.text) == 5
    assert document.title == "A long title"


def test_other_files_and_pictures() -> None:
    with pytest.raises(InputError, match=r"a\.rtf: damaged, or no rich text"):
        RtfExtractor().extract(b"plain", "a.rtf")
    assert kind_of(rb"{\rtf1 x}", "a.doc") == "rtf"
    assert [loss.reason for loss in read(rb"x{\pict\pngblip 00ff}").losses] == ["1 picture without a description"]


@pytest.mark.slow
@pytest.mark.process
def test_a_file_that_libreoffice_writes(tmp_path: Path) -> None:
    levels = numbered(("decimal", "%1."), ("decimal", "%1.%2"))
    heads = (cell("Item", BEGIN) + cell("2023", SPAN2), cell("", GO_ON) + cell("Q1") + cell("Q2"))
    body = item("Term", 0) + item("Start", 1) + paragraph("Пример — “quoted” 日本")
    body += table(*heads, cell("Tea") + cell("1") + cell("2"))
    document = RtfExtractor().extract(converted(word(body, {"numbering": levels}), ".docx", "rtf", tmp_path), "a.rtf")
    assert pieces(document) == [
        ("list", "1. Term\n  1.1 Start"),
        ("paragraph", "Пример — “quoted” 日本"),
        ("table", "| Item | 2023 Q1 | 2023 Q2 |\n| --- | --- | --- |\n| Tea | 1 | 2 |"),
    ]


@pytest.mark.parametrize(
    ("content", "expected", "reasons"),
    [
        (rb"{\shp{\*\shpinst{\sp{\sn shapeType}{\sv 136}}{\sp{\sn gtextUNICODE}{\sv Grand opening}}}}",
         "Grand opening", []),
        (rb"{\*\shppict{\pict{\*\picprop{\sp{\sn wzDescription}{\sv A red bridge}}}\pngblip 00}}",
         "Picture: A red bridge", []),
        (rb"{\shp{\*\shpinst{\sp{\sn pib}{\sv {\pict 00}}}{\sp{\sn wzDescription}{\sv A map}}}}", "Picture: A map", []),
        (rb"{\shp{\*\shpinst{\sp{\sn wzDescription}{\sv A map}}{\sp{\sn pib}{\sv {\pict 00}}}}}", "Picture: A map", []),
        (rb"{\shp{\*\shpinst{\sp{\sn pib}{\sv {\pict 00}}}}}", "", ["1 picture without a description"]),
        (rb"{\pict 00}{\pict 00}", "", ["2 pictures without a description"]),
    ],
)  # fmt: skip
def test_shapes_have_their_texts_and_descriptions(content: bytes, expected: str, reasons: list[str]) -> None:
    document = RtfExtractor().extract(rb"{\rtf1\ansi Before " + content + rb"after\par}", "a.rtf")
    assert document.text.split("\n\n") == ["Before after", *([expected] if expected else [])]
    assert [loss.reason for loss in document.losses] == reasons
    assert document.visible_words == 2


def test_a_text_that_is_there_twice_is_read_once() -> None:
    data = rb"{\rtf1\ansi A {\upr{old form}{\*\ud{new form}}} z{\*\bkmkstart {\upr{x}{\*\ud{hidden}}}}\par}"
    assert RtfExtractor().extract(data, "a.rtf").text == "A new form z"
