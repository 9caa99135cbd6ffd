"""Cleaning: invisible characters and boilerplate are removed, and each position maps to the original text."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.corpus.document import Block, Document, Form, Span
from nearfield.corpus.indexing.cleaning.boilerplate import Boilerplate, BoilerplateDetector, page_boilerplate
from nearfield.corpus.indexing.cleaning.document_cleaner import clean, drop_tiny
from nearfield.corpus.indexing.cleaning.text_edits import EditedText

ODD = "a b\n\r\u00a0\u00ad\u200b\ufeff\u0301e\u00e9\x00\x0c\ud800\u3000\u1100\u1161.\U000e0041"


def paragraphs(text: str, **options: Any) -> Document:
    """Return a document with a block for each part between blank lines."""
    blocks, at = [], 0
    for piece in text.split("\n\n"):
        kind: Any = "heading" if piece.startswith("# ") else "code" if piece.startswith("```") else "paragraph"
        kind = "table" if piece.startswith("|") else kind
        blocks.append(Block(at, at + len(piece), kind, int(kind == "heading")))
        at += len(piece) + 2
    return Document(text, tuple(blocks), **options)


def paged(*texts: str) -> Document:
    blocks, at = [], 0
    for number, text in enumerate(texts, 1):
        blocks.append(Block(at, at + len(text), page=number))
        at += len(text) + 1
    return Document("\n".join(texts), tuple(blocks))


# -- invisible characters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("caf\u0065\u0301", "caf\u00e9"),
        ("co\u00adopera\u200btion\ufeff", "cooperation"),
        ("a\u00a0b\u202fc\u3000d", "a b c d"),
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
        ("a\x00b\x07c\x1bd\x9fe", "abcde"),
        ("a\ud800b", "a\ufffdb"),
        ("a\n\n\n\n \n b", "a\n\n b"),
        ("\u202eevil\u202c \U000e0041\U000e0042", "evil "),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("\ufb01 x\u00b2 \u2460 \uff21", "\ufb01 x\u00b2 \u2460 \uff21"),
        ("\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e"),
        ("", ""),
    ],
)
def test_signs_are_cleaned(before: str, after: str) -> None:
    assert clean(Document(before)).document.text == after


def test_code_keeps_all_but_control_characters() -> None:
    text = 'x = "\u00a0e\u0301\u200b"\n\n\n\ny = 1\x00\r\n'
    assert clean(Document(text, form="code")).document.text == 'x = "\u00a0e\u0301\u200b"\n\n\n\ny = 1\n'


def test_what_is_clean_stays_the_same_object() -> None:
    document = paragraphs("A caf\u00e9.\n\nTwo lines\nof it.")
    cleaned = clean(document)
    assert cleaned.document is document
    assert cleaned.origin(3, 9) == (3, 9)
    assert not cleaned.dropped


def test_blank_lines_of_code_blocks_stay() -> None:
    text = "a\n\n\n\n```\nx\n\n\n\ny\n```"
    start = text.index("```")
    document = Document(text, (Block(0, 1), Block(start, len(text), "code")), form="markdown")
    assert clean(document).document.text == "a\n\n```\nx\n\n\n\ny\n```"


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from(ODD), max_size=40), st.data())
def test_places_lead_back(text: str, data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    cleaned = clean(Document(text, (Block(low, high),) if low < high else ()))
    now = cleaned.document.text
    assert unicodedata.is_normalized("NFC", now) or "\u0301" in now
    assert clean(Document(now)).document.text == now
    places = [cleaned.origin(at, at + 1) for at in range(len(now))]
    for sign, (start, end) in zip(now, places, strict=True):
        assert 0 <= start < end <= len(text)
        assert clean(Document(text[start:end])).document.text.count(sign) or "\ud800" in text[start:end]
    assert places == sorted(places)
    for low in range(len(now)):
        assert cleaned.origin(low, len(now)) == (places[low][0], places[-1][1])
    for block in cleaned.document.blocks:
        assert 0 <= block.start < block.end <= len(now)


@settings(max_examples=100, deadline=None)
@given(st.text("abc", max_size=12), st.data())
def test_edits_can_be_followed_both_ways(text: str, data: st.DataObject) -> None:
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(text)), max_size=6))))
    edits = [
        (low, high, data.draw(st.sampled_from(["", "X", "YYY"])))
        for low, high in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    edited = EditedText(text, edits)
    for at, sign in enumerate(edited.text):
        low, high = edited.to_old(at, at + 1)
        if sign in "abc":
            assert (high - low, text[low]) == (1, sign)
            assert edited.to_new(low, high) == (at, at + 1)
        else:
            assert any((low, high) == (start, end) for start, end, _ in edits)


# -- boilerplate -------------------------------------------------------------------------------------------------

COOKIES = "We use cookies. Accept all of them."


def site(count: int, shared: int) -> list[Document]:
    letters = [chr(97 + at) for at in range(count)]
    lasts = [COOKIES if at < shared else f"Nothing {letter}" for at, letter in enumerate(letters)]
    return [
        paragraphs(f"# News\n\nStory {letter} says something new.\n\n{last}")
        for letter, last in zip(letters, lasts, strict=True)
    ]


def detect(documents: list[Document]) -> Boilerplate:
    detector = BoilerplateDetector()
    for document in documents:
        detector.add(document)
    return detector.result()


def test_a_line_on_many_documents_is_dropped_and_counted() -> None:
    documents = site(10, 4)
    boilerplate = detect(documents)
    assert boilerplate.lines == [(COOKIES, 0.4)]
    cleaned = clean(documents[0], boilerplate)
    assert cleaned.dropped == {COOKIES: 1}
    assert cleaned.document.text.strip() == "# News\n\nStory a says something new."
    assert [block.kind for block in cleaned.document.blocks] == ["heading", "paragraph"]
    kept = clean(documents[9], boilerplate)
    assert kept.document is documents[9]


@pytest.mark.parametrize(("count", "shared"), [(10, 3), (14, 4), (3, 3), (1, 1)])
def test_what_is_on_few_documents_stays(count: int, shared: int) -> None:
    assert detect(site(count, shared)).lines == []


def test_headings_tables_code_and_numbers_never_are_boilerplate() -> None:
    text = "# Same heading\n\n```\nsame code here\n```\n\n| same | table |\n\n12 34\n\nOther words {}."
    assert detect([paragraphs(text.format(chr(97 + at)), form="markdown") for at in range(8)]).lines == []
    forms: tuple[Form, ...] = ("code", "table")
    for form in forms:
        assert detect([Document(f"same line\nother {chr(97 + at)}", form=form) for at in range(8)]).lines == []


def test_a_block_that_is_wrapped_otherwise_is_the_same_block() -> None:
    notice = "This page is for members only and may not be passed on to others by any means"
    words = notice.split()
    documents = []
    for at in range(8):
        wrapped = " ".join(words[: at + 2]) + "\n" + " ".join(words[at + 2 :])
        documents.append(
            paragraphs(f"Story {chr(97 + at)} is of great interest to its readers and to others.\n\n{wrapped}")
        )
    boilerplate = detect(documents)
    assert len(boilerplate.lines) == 1
    assert clean(documents[3], boilerplate).document.text.strip() == documents[3].text.split("\n\n")[0]


def test_copies_of_a_document_are_no_boilerplate() -> None:
    assert detect([Document("the same story\nin two lines")] * 9).lines == []
    versions = [
        Document("\n\n".join(["A long story that is the same in each version."] * 3 + [f"v {at}"])) for at in range(9)
    ]
    boilerplate = detect(versions)
    assert boilerplate.lines
    assert clean(versions[0], boilerplate).document is versions[0]


def test_heads_feet_and_page_numbers_are_dropped_from_pages() -> None:
    middle = ("cats sat", "dogs ran", "mats lay", "birds flew", "fish swam")
    texts = [
        f"Annual Report\nOf {word} it was said\nthat sum 10{at} was due.\nIt was.\nPage {at} of 12\n{at}"
        for at, word in enumerate(middle, 1)
    ]
    document = paged(*texts)
    assert {line for line, _ in page_boilerplate(document).lines} == {"Annual Report", "Page 1 of 12", "1"}
    cleaned = clean(document)
    assert "Annual" not in cleaned.document.text
    assert "Page" not in cleaned.document.text
    assert cleaned.document.text.count("that sum 10") == 5
    assert cleaned.dropped["Annual Report"] == 5
    assert sum(cleaned.dropped.values()) == 15
    assert cleaned.document.text.count("It was.") == 5
    assert [block.page for block in cleaned.document.blocks] == [1, 2, 3, 4, 5]
    at = cleaned.document.text.index("birds")
    start, end = cleaned.origin(at, at + 5)
    assert document.text[start:end] == "birds"


def test_lines_that_differ_in_digits_in_the_middle_of_a_page_stay() -> None:
    document = paged(
        *(
            f"{word} one\n{word} two\nPrice: {at} dollars\n{word} three\n{word} four"
            for at, word in enumerate("abcdefg")
        )
    )
    assert clean(document).document is document


def test_boilerplate_survives_a_round_trip_through_json() -> None:
    boilerplate = detect(site(10, 6))
    again = Boilerplate.from_rows(json.loads(json.dumps(boilerplate.to_rows())))
    assert again == boilerplate
    assert again.digests == boilerplate.digests != frozenset()


def test_the_order_of_documents_is_of_no_matter() -> None:
    documents = site(10, 6) + [Document(f"Footer\nHeader\nOther {at}\none {at}\nlast {at}\nof {at}") for at in range(9)]
    assert detect(documents).to_rows() == detect(documents[::-1]).to_rows()
    assert [line for line, _ in detect(documents).lines] == ["Footer", "Header", COOKIES]


# -- chunks ------------------------------------------------------------------------------------------------------


def test_chunks_that_say_nothing_are_left_out() -> None:
    pieces = ["* * *", "Page 3", "The cat sat.", "猫は青い", "}", "ok then"]
    text = "\n".join(pieces)
    spans = [Span(text.index(piece), text.index(piece) + len(piece)) for piece in pieces]
    assert [text[span.start : span.end] for span in drop_tiny(text, spans)] == ["The cat sat.", "猫は青い"]
    few = [span for span in spans if text[span.start : span.end] in ("* * *", "Page 3", "ok then")]
    assert [text[span.start : span.end] for span in drop_tiny(text, few)] == ["Page 3", "ok then"]
    assert drop_tiny("* * *", [Span(0, 5)]) == []
