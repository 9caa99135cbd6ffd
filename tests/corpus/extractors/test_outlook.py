"""Outlook messages: properties, bodies in three formats, attachments and messages in messages."""

from __future__ import annotations

import struct

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.extractors.messages.compressed_rtf import decompress
from nearfield.errors import InputError
from tests.support import sample_files

#: 2 March 2026, 9:11:12 UTC, in units of 100 nanoseconds since 1601.
MOMENT = 134_169_162_720_000_000


def extract(data: bytes) -> Document:
    document: Document = REGISTRY.load("msg")().extract(data, "a.msg")
    return document


def attachment(number: int, name: str, data: bytes) -> dict[str, bytes]:
    folder = f"__attach_version1.0_#{number:08X}"
    return {
        f"{folder}/__properties_version1.0": bytes(8),
        f"{folder}/__substg1.0_3707001F": name.encode("utf-16-le"),
        f"{folder}/__substg1.0_37010102": data,
    }


def test_a_message_with_attachments() -> None:
    more = {
        **attachment(0, "terms.txt", b"Terms of payment: 30 days."),
        **attachment(1, "photo.xyz", b"\x89\0\0"),
        "__attach_version1.0_#00000002/__properties_version1.0": bytes(8),
        "__attach_version1.0_#00000002/__substg1.0_3001001F": "Inner".encode("utf-16-le"),
        "__attach_version1.0_#00000002/__substg1.0_3701000D/__properties_version1.0": bytes(24),
        "__attach_version1.0_#00000002/__substg1.0_3701000D/__substg1.0_0037001F": "Inner".encode("utf-16-le"),
        "__attach_version1.0_#00000002/__substg1.0_3701000D/__substg1.0_1000001F": "Said before.".encode("utf-16-le"),
    }
    document = extract(
        sample_files.outlook_message(
            "Größe der Lieferung",
            "Hello Bob,\r\n\r\nit comes on Friday.\r\n",
            more=more,
            numbers={0x39: (0x40, MOMENT)},
        )
    )
    assert document.title == "Größe der Lieferung"
    assert document.meta == {"author": "Änne Müller <anne@example.org>", "date": "2026-03-02T09:11:12+00:00"}
    assert "From: Änne Müller <anne@example.org>\nTo: Bob; Carl\nDate: 2026-03-02" in document.text
    assert "it comes on Friday." in document.text and "Terms of payment" in document.text
    assert "Attachment: Inner" in document.text and "Said before." in document.text
    assert "photo.xyz" in document.losses[0].reason


@pytest.mark.parametrize(
    ("more", "numbers"),
    [
        ({"__substg1.0_1000001E": "Grüße aus der Straße".encode("cp1252")}, {0x3FFD: (3, 1252)}),
        ({"__substg1.0_1000001E": "Grüße aus der Straße".encode()}, {0x3FDE: (3, 65001)}),
        ({"__substg1.0_1000001E": "Grüße aus der Straße".encode("cp850")}, {0x3FFD: (3, 850)}),
        ({"__substg1.0_10130102": "<p>Grüße aus der Straße</p>".encode()}, {0x3FDE: (3, 65001)}),
        ({"__substg1.0_10130102": "<p>Grüße aus der Straße</p>".encode("cp1252")}, {0x3FDE: (3, 1252)}),
        ({"__substg1.0_1013001F": "<p>Grüße aus der Straße</p>".encode("utf-16-le")}, {0x3FDE: (3, 65001)}),
    ],
)
def test_bodies(more: dict[str, bytes], numbers: dict[int, tuple[int, int]]) -> None:
    assert "Grüße aus der Straße" in extract(sample_files.outlook_message("x", "", more=more, numbers=numbers)).text


def test_a_body_in_compressed_rtf() -> None:
    # The examples of [MS-OXRTFCP].
    simple = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    )
    assert decompress(simple) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    crossing = bytes.fromhex("1a0000001c0000004c5a4675e2d44b51410004205758595a0d6e7d010eb0")
    assert decompress(crossing) == b"{\\rtf1 WXYZWXYZWXYZWXYZWXYZ}"
    document = extract(sample_files.outlook_message("Subject", "", more={"__substg1.0_10090102": simple}))
    assert "hello world" in document.text
    plain = struct.pack("<II4sI", 20, 8, b"MELA", 0) + b"{\\rtf1 }"
    assert decompress(plain) == b"{\\rtf1 }"
    for bad in (b"", b"x" * 20):
        with pytest.raises(InputError, match="damaged"):
            decompress(bad)


def test_encrypted_and_damaged_messages_are_refused() -> None:
    encrypted = {"__substg1.0_001A001F": "IPM.Note.SMIME".encode("utf-16-le")}
    with pytest.raises(InputError, match="encrypted"):
        extract(sample_files.outlook_message("x", "y", more=encrypted))
    data = sample_files.outlook_message("x", "y" * 5000)
    for bad in (b"text", data[:600], data[:1500], sample_files.compound_file({"WordDocument": b"x" * 600})):
        with pytest.raises(InputError, match=r"a\.msg"):
            extract(bad)


def recipient(number: int, kind: int, name: str, address: str) -> dict[str, bytes]:
    folder = f"__recip_version1.0_#{number:08X}"
    return {
        f"{folder}/__properties_version1.0": bytes(8) + struct.pack("<HHIQ", 3, 0x0C15, 6, kind),
        f"{folder}/__substg1.0_3001001F": name.encode("utf-16-le"),
        f"{folder}/__substg1.0_39FE001F": address.encode("utf-16-le"),
    }


def test_a_damaged_body_costs_no_message() -> None:
    damaged = {"__substg1.0_10090102": b"x" * 40}
    document = extract(sample_files.outlook_message("Offer", "", more=damaged))
    assert document.title == "Offer" and document.losses[0].reason == "the body (The body in RTF is damaged)"
    mixed = "Grüße aus Köln und Zürich\r\n".encode() + "die Straße ist über alles schön".encode("cp1252")
    for tag in ("1000001E", "10130102"):
        document = extract(sample_files.outlook_message("Offer", "", more={f"__substg1.0_{tag}": mixed}))
        assert "Zürich" in document.text and "Straße ist über alles" in document.text and document.losses


def test_a_signed_message_whose_content_is_a_file() -> None:
    signed = (
        b'Content-Type: multipart/signed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
        b"It comes on Friday.\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\n0\r\n--b--\r\n"
    )
    more = {"__substg1.0_001A001F": "IPM.Note.SMIME.MultipartSigned".encode("utf-16-le")}
    document = extract(sample_files.outlook_message("Offer", "", more={**more, **attachment(0, "smime.p7m", signed)}))
    assert "It comes on Friday." in document.text and not document.losses


def test_recipients_and_times_that_only_their_own_properties_have() -> None:
    more = {
        **recipient(0, 1, "Bob", "bob@example.org"),
        **recipient(1, 2, "Carl", "carl@example.org"),
        "__substg1.0_0E04001F": b"",
        "__substg1.0_001A001F": "IPM.Appointment".encode("utf-16-le"),
    }
    times = {0x60: (0x40, MOMENT), 0x61: (0x40, MOMENT + 36_000_000_000)}
    document = extract(sample_files.outlook_message("Review", "In room 5.", more=more, numbers=times))
    assert "Cc: Carl <carl@example.org>" in document.text and "To: Bob <bob@example.org>" in document.text
    assert "Start: 2026-03-02 09:11 UTC\nEnd: 2026-03-02 10:11 UTC" in document.text


def test_an_embedded_object_is_named() -> None:
    folder = "__attach_version1.0_#00000000"
    more = {
        f"{folder}/__properties_version1.0": bytes(8),
        f"{folder}/__substg1.0_3001001F": "Sheet".encode("utf-16-le"),
        f"{folder}/__substg1.0_3701000D/Workbook": b"x" * 40,
    }
    document = extract(sample_files.outlook_message("Offer", "See the sheet.", more=more))
    assert document.losses[0].reason == "the attachment Sheet (an embedded object)"
