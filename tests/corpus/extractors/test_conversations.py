"""Slack exports and subtitles: all that a reader sees of messages is read, and what cannot be read is declared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY


def conversation(*messages: object, **more: object) -> Document:
    """Return the document of a channel with these messages."""
    people = [{"id": "U1", "real_name": "Ann"}, {"id": "U2", "profile": {"real_name": "Bob"}}]
    bundle = {"channel": "office", "lists": {"users.json": people}, "days": [list(messages)], **more}
    document: Document = REGISTRY.load("slack")().extract(json.dumps(bundle).encode(), "a.slack-channel")
    return document


def message(text: str = "", at: float = 1772442000, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "user": "U1", "ts": f"{at}.000100", "text": text, **fields}


def text_of(**fields: Any) -> str:
    document = conversation(message(**fields))
    assert not document.losses
    return document.text.partition("Ann: ")[2]


def reasons(document: Document) -> list[str]:
    return [loss.reason for loss in document.losses]


SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "The *budget* of <@U2>"}}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"text": "a &amp; b for <@U2> in <#C1|sales>, <!here> <!subteam^S1|@team>: <http://x.y|page>"},
         "a & b for @Bob in #sales, @here @team: page (http://x.y)"),
        ({"text": "<!date^1772442000^{date}|2 March>"}, "2 March"),
        ({"blocks": [SECTION, {"type": "section", "fields": [{"type": "plain_text", "text": "5,000 euros"}]}]},
         "The *budget* of @Bob\n5,000 euros"),
        ({"text": "The budget of Bob", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "May"}}]},
         "The budget of Bob\nMay"),
        ({"text": "The *budget* of <@U2>", "blocks": [SECTION]}, "The *budget* of @Bob"),
        ({"blocks": [{"type": "image", "image_url": "http://x", "alt_text": "A chart of sales",
                      "title": {"type": "plain_text", "text": "Sales"}}]}, "Sales\nA chart of sales"),
        ({"blocks": [{"type": "actions", "elements": [
            {"type": "button", "text": {"type": "plain_text", "text": "Pay"}}]}]}, "Pay"),
        ({"blocks": [{"type": "rich_text", "elements": [
            {"type": "rich_text_section", "elements": [
                {"type": "text", "text": "Ask "}, {"type": "user", "user_id": "U2"}]},
            {"type": "rich_text_list", "elements": [
                {"type": "rich_text_section", "elements": [{"type": "text", "text": "one"}]},
                {"type": "rich_text_section", "elements": [{"type": "link", "url": "http://x.y"}]}]},
        ]}]}, "Ask @Bob\none\nhttp://x.y"),
        ({"text": "Ask @Bob one", "blocks": [{"type": "rich_text", "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": "Ask @Bob one"}]}]}]}, "Ask @Bob one"),
        ({"attachments": [{"pretext": "New order", "title": "Chairs", "text": "twelve of them", "fallback": "x",
                           "fields": [{"title": "Price", "value": "500"}, None]}]},
         "New order\nChairs\ntwelve of them\nPrice: 500"),
        ({"attachments": [None, {"fallback": "Only this"}]}, "Only this"),
        ({"attachments": [{"blocks": [SECTION]}]}, "The *budget* of @Bob"),
        ({"attachments": [{"message_blocks": [{"message": {"blocks": [SECTION]}}]}]}, "The *budget* of @Bob"),
    ],
)  # fmt: skip
def test_what_a_message_shows(fields: dict[str, Any], text: str) -> None:
    assert text_of(**fields) == text


def test_files_with_text() -> None:
    files = [{"name": "a.txt", "preview": "Terms of payment"}, None,
             {"title": "voice", "transcription": {"preview": {"content": "call me back"}}}]  # fmt: skip
    document = conversation(message("see", files=files))
    assert "see\n[file: a.txt]\nTerms of payment\n[file: voice]\ncall me back" in document.text
    assert reasons(document) == ["2 attached files (the export has links only)"]


def test_edited_deleted_and_answered_messages() -> None:
    first, second, third = message("first", 1772442000), message("second", 1772442060), message("third", 1772442120)
    document = conversation(
        first,
        second,
        third,
        message("an answer", 1772442180, thread_ts=first["ts"], user="U2"),
        {"type": "message", "subtype": "message_changed", "ts": "1772442200", "message": {**second, "text": "changed"}},
        {"type": "message", "subtype": "message_deleted", "ts": "1772442300", "deleted_ts": third["ts"]},
        message("again", 1772442240, edited={"user": "U1"}),
    )
    assert document.text.split("\n\n")[2:] == [
        "09:00 Ann: first", "09:01 (edited) Ann: changed", "09:02 (deleted) Ann: third", "09:03 (reply) Bob: an answer",
        "09:04 (edited) Ann: again",
    ]  # fmt: skip
    assert not document.losses


def test_what_is_not_read_is_declared() -> None:
    unknown = {"type": "hologram", "text": {"type": "plain_text", "text": "words of it"}}
    document = conversation(
        message("hello", blocks=[unknown]), message(at=1772442060, subtype="huddle_thread"), None, 5
    )
    assert "words of it" in document.text
    assert reasons(document) == [
        "2 messages or days of messages that are damaged",
        "1 block of the type hologram",
        "1 message of the type huddle_thread",
    ]


@pytest.mark.parametrize(
    "broken",
    [{"ts": "never"}, {"ts": None}, {"ts": ["x"]}, {"attachments": "x"}, {"files": {}}, {"blocks": [None, 5]},
     {"user": None}, {"user_profile": "x", "user": "U9"},
     {"attachments": [{"message_blocks": [{"message": "x"}]}]}, {"ts": "9e99"}],
)  # fmt: skip
def test_a_broken_message_costs_no_channel(broken: dict[str, Any]) -> None:
    lists = {"users.json": [None, {"name": "x"}, {"id": "U1", "profile": 5, "name": "ann"}], "channels.json": {"a": 1}}
    document = conversation(message("first"), {**message("second"), **broken}, lists=lists)
    assert "ann: first" in document.text and "second" in document.text


# -- subtitles -----------------------------------------------------------------------------------------------------

CUE = "00:00:01,000 --> 00:00:02,000\nThe ships leave at nine.\n"
WEB_CUE = CUE.replace(",", ".")


@pytest.mark.parametrize(
    ("name", "text", "paragraphs"),
    [
        ("a.srt", f"The harbour, part one\nby Ann\n\n1\n{CUE}", ["The harbour, part one\nby Ann"]),
        ("a.srt", f"The <i>harbour</i>\n1\n{CUE}", ["The harbour"]),
        ("a.srt", f"One.\n\nTwo.\n\n1\n\n{CUE}", ["One.", "Two."]),
        ("a.srt", f"Without a number\n{CUE}", ["Without a number"]),
        ("a.srt", f"1\n{CUE}", []),
        ("a.vtt", f"WEBVTT - Harbour\nKind: captions\n\nNOTE made by Ann\n\nintro\n{WEB_CUE}", []),
        (
            "a.vtt",
            f"WEBVTT\n\nSTYLE\n::cue {{ color: red }}\n\nBefore all of it\n\nfirst\n{WEB_CUE}",
            ["Before all of it"],
        ),
        ("a.vtt", f"WEBVTT\n\nBefore all of it\n\n{WEB_CUE}", ["Before all of it"]),
    ],
)
def test_text_before_the_first_cue(name: str, text: str, paragraphs: list[str]) -> None:
    document = REGISTRY.load("subtitles")().extract(text.encode(), name)
    assert document.text.split("\n\n") == [*paragraphs, "[0:01] The ships leave at nine."]


def test_text_after_a_blank_line_of_a_cue() -> None:
    text = f"1\n{CUE}\nAll of them.\n00:00:03,000 --> 00:00:04,000\nGoodbye.\n"
    assert "All of them. Goodbye." in REGISTRY.load("subtitles")().extract(text.encode(), "a.srt").text
    web = f"WEBVTT\n\n{WEB_CUE}\nAll of them.\n\n00:00:03.000 --> 00:00:04.000\nGoodbye.\n"
    assert "All of them. Goodbye." in REGISTRY.load("subtitles")().extract(web.encode(), "a.vtt").text
