"""Mails: subject, header fields, body and attachments are read, and what cannot be read is declared."""

from __future__ import annotations

import email.policy
import io
from email.message import EmailMessage

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.extractors.messages.mailbox import message_places, unescape_message
from nearfield.errors import InputError
from tests.support import sample_documents, sample_files


def extract(data: bytes, kind: str = "eml") -> Document:
    document: Document = REGISTRY.load(kind)().extract(data, f"a.{kind}")
    return document


def headings(document: Document) -> list[tuple[int, str]]:
    return [(block.level, document.text[block.start : block.end]) for block in document.blocks if block.level]


def test_a_mail_with_an_answer_and_attachments() -> None:
    text = "Hello Bob,\n\nthe delivery of the größere order comes on Friday.\n\n> when does it come?\n"
    pages = [sample_documents.column("An invoice of 500 euros.")]
    document = extract(
        sample_files.mail(
            "Größe der Lieferung",
            text,
            html="<p>Hello Bob,</p><p>the delivery of the größere order comes on Friday.</p>",
            attachments={
                "terms.txt": b"Terms of payment: 30 days.",
                "invoice.pdf": sample_documents.pdf(pages),
                "data.xyz": b"\0\1\2",
                "photo.jpg": b"\xff\xd8\xff\xe0 not a picture",
                "empty.txt": b"",
                "signature.asc": b"-----BEGIN PGP SIGNATURE-----",
            },
        )
    )
    assert document.title == "Größe der Lieferung" and document.form == "markdown"
    assert document.meta == {"author": "Änne Müller <anne@example.org>", "date": "2026-03-02T10:11:12+01:00"}
    assert "From: Änne Müller <anne@example.org>\nTo: Bob <bob@example.org>\nDate: Mon, 02 Mar 2026" in document.text
    assert document.text.count("comes on Friday") == 1
    assert [block.kind for block in document.blocks if "when does" in document.text[block.start : block.end]] == [
        "quote"
    ]
    assert headings(document) == [
        (1, "Größe der Lieferung"), (2, "Attachment: terms.txt"), (2, "Attachment: invoice.pdf"),
    ]  # fmt: skip
    assert "Terms of payment" in document.text and "An invoice of 500 euros" in document.text
    reasons = " ".join(loss.reason for loss in document.losses)
    assert "photo.jpg" in reasons and "empty.txt" in reasons and "signature" not in reasons
    assert "data.xyz (no extractor for this type)" in reasons
    assert document.visible_words and document.visible_words > 30


@pytest.mark.parametrize(
    ("content_type", "charset", "encoding"),
    [("text/plain", "iso-8859-1", "latin-1"), ("text/plain", "koi8-r", "koi8-r"), ("text/plain", "x-none", "cp1252"),
     ("text/plain", "", "cp1252"), ("text/html", "iso-2022-jp", "iso-2022-jp")],
)  # fmt: skip
def test_bodies_in_the_encoding_that_the_mail_states(content_type: str, charset: str, encoding: str) -> None:
    text = {"koi8-r": "Привет, как дела сегодня вечером", "iso-2022-jp": "これは日本語の文書です。"}.get(
        encoding, "Die Größe der Straße ist über alles bekannt"
    )
    body = f"<p>{text}</p>" if "html" in content_type else text
    stated = f"; charset={charset}" if charset else ""
    head = f"From: a@b.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: {content_type}{stated}\r\n\r\n"
    document = extract(head.encode() + body.encode(encoding))
    assert text in document.text and document.title == "Grüße"


def test_forwarded_messages_within_messages() -> None:
    inner: EmailMessage | None = None
    for number in range(8):
        message = EmailMessage(policy=email.policy.default)
        message["From"], message["Subject"] = "a@b.org", f"Level {number}"
        message.set_content(f"text of level {number}")
        if inner is not None:
            message.add_attachment(inner)
        inner = message
    assert inner is not None
    document = extract(inner.as_bytes())
    assert "text of level 7" in document.text and "text of level 4" in document.text
    assert "text of level 0" not in document.text and "more than 4 times" in document.losses[0].reason


def test_flowed_text_has_whole_paragraphs() -> None:
    head = b"From: a@b.org\nSubject: x\nContent-Type: text/plain; format=flowed\n\n"
    document = extract(head + b"one long line \nthat goes on \nand ends.\n\n-- \nsignature\n")
    assert "one long line that goes on and ends.\n\n-- \nsignature" in document.text


def test_html_that_says_more_than_its_plain_alternative() -> None:
    html = "<h1>Offer</h1><p>" + "All prices of the summer catalogue are lower now. " * 5 + "</p>"
    document = extract(sample_files.mail("Offer", "Please view this message in a browser.", html=html))
    assert "summer catalogue" in document.text and "view this message" not in document.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"Subject: x\nFrom: a\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nAAAA", "encrypted"),
        (b"Subject: x\nContent-Type: multipart/encrypted; boundary=b\n\n--b\n\nx\n--b--", "encrypted"),
        (b"Subject: x\n\n-----BEGIN PGP MESSAGE-----\n\nabc", "encrypted"),
        (b"just some text\nwithout any header", "not an e-mail"),
        (b"\x00\x01\x02" * 100, "not an e-mail"),
    ],
)
def test_encrypted_and_damaged_mails_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        extract(data)


def test_mailboxes() -> None:
    escaped = sample_files.mail("Two", "Second text here.\n\nFrom the start of a line\n").replace(
        b"\nFrom the", b"\n>From the"
    )
    data = sample_files.mailbox([sample_files.mail("One", "First text here."), escaped])
    assert len(list(message_places(io.BytesIO(data)))) == 2
    document = extract(data + b"\nFrom x@y Mon Mar  2 10:11:12 2026\ndamaged\n", "mbox")
    assert [text for level, text in headings(document) if level == 1] == ["One", "Two"]
    assert "\nFrom the start of a line" in document.text
    assert document.losses[0].reason == "1 message (not an e-mail: it has no header)"
    assert unescape_message(b">>From x\n>From y\n> From z") == b">From x\nFrom y\n> From z"
    with pytest.raises(InputError, match="no messages"):
        extract(b"nothing of a mailbox", "mbox")


def test_a_mailbox_whose_first_message_has_no_line_before_it() -> None:
    first, second = sample_files.mail("One", "First text here."), sample_files.mail("Two", "Second text here.")
    for start in (first, b"\xef\xbb\xbf" + sample_files.mailbox([first])):
        document = extract(start + b"\n" + sample_files.mailbox([second]), "mbox")
        assert [text for level, text in headings(document) if level == 1] == ["One", "Two"]
