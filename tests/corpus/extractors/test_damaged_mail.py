"""Mails that are damaged, signed, encrypted or reports: what can be read is read, and the rest is declared."""

from __future__ import annotations

import base64
import email.policy
from email.message import EmailMessage

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import REGISTRY
from nearfield.corpus.extractors.messages.transfer_encoding import decode_base64
from nearfield.corpus.indexing.accounting import WordCount, account
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError

HEAD = b"From: a@b.org\nSubject: Offer\nMIME-Version: 1.0\n"
TEXT = "The delivery of the twelve chairs comes on Friday at nine.\n" * 8


def extract(data: bytes, kind: str = "eml") -> Document:
    document: Document = REGISTRY.load(kind)().extract(data, f"a.{kind}")
    return document


def reasons(document: Document) -> str:
    return "; ".join(loss.reason for loss in document.losses)


def parts(*contents: bytes, kind: str = "multipart/mixed", boundary: bytes = b"b1", end: bytes = b"--b1--\n") -> bytes:
    """Return a mail of parts, each of which begins with its header fields."""
    head = HEAD + b'Content-Type: %b; boundary="b1"\n\n' % kind.encode()
    return head + b"".join(b"--%b\n%b\n" % (boundary, content) for content in contents) + end


def part(content: bytes, kind: str = "text/plain", *more: str) -> bytes:
    fields = "".join(f"{field}\n" for field in (f"Content-Type: {kind}", *more))
    return fields.encode() + b"\n" + content


# -- encodings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
@pytest.mark.parametrize("charset", ["", "; charset=utf-8"])
@pytest.mark.parametrize(
    ("first", "second", "encoding"),
    [
        ("Grüße aus Köln und Zürich", "Die Straße ist über alles schön", "latin-1"),
        ("Привет, как дела сегодня", "Мы приедем завтра вечером поездом", "koi8-r"),
        ("日本語の本文です。", "これは別の行です。とても長い行です。", "cp932"),
    ],
)
def test_bodies_in_two_encodings(first: str, second: str, encoding: str, charset: str, kind: str) -> None:
    body = (f"<p>{first}</p>\n<p>" if "html" in kind else f"{first}\n\n").encode() + second.encode(encoding)
    document = extract(HEAD + f"Content-Type: {kind}{charset}\n\n".encode() + body)
    assert first in document.text and second in document.text
    assert "UTF-8 mixed with" in reasons(document)


def test_bodies_with_single_wrong_letters_and_without_any_known_encoding() -> None:
    body = "Größe, Maße und Gewicht: äöü; schön für Köln. Der Prei".encode() + b"\xdf" + " ist höher".encode()
    assert "höher" in extract(HEAD + b"\n" + body).text
    document = extract(HEAD + b"Content-Type: text/plain; charset=utf-8\n\nabc \x81\x8d def \xfe\xff\xfc")
    assert "abc" in document.text and "encoding" in reasons(document)
    with_attachment = parts(part(bytes(range(256)) * 4), part(b"Terms of payment.", "text/plain; name=a.txt"))
    document = extract(with_attachment)
    assert "Terms of payment." in document.text and "the body (binary data" in reasons(document)


@pytest.mark.parametrize(
    ("charset", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "He said “no” – for 5 €"),
        ("gb2312", "gb18030", "朱镕基说明天下雨"),
        ("ks_c_5601-1987", "cp949", "한국어 본문입니다"),
        ("windows-1252", "utf-8", "Größe über alles"),
        ("iso-8859-1", "utf-8", "naïve café"),
    ],
)
def test_encodings_that_are_stated_wrongly_as_senders_do(charset: str, encoding: str, text: str) -> None:
    head = HEAD + f"Content-Type: text/plain; charset={charset}\n\n".encode()
    document = extract(head + text.encode(encoding))
    assert text in document.text and not document.losses


def test_a_text_that_ends_within_a_letter() -> None:
    for charset in (b"", b"; charset=utf-8"):
        document = extract(HEAD + b"Content-Type: text/plain" + charset + b"\n\n" + "Größe für Köln: ä".encode()[:-1])
        assert "Größe für Köln: \ufffd" in document.text and "1 damaged character" in reasons(document)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (b"Gr\xc3\xbc\xc3\x9fe aus K\xc3\xb6ln", "Grüße aus Köln"),
        ("Grüße aus der Straße".encode("latin-1"), "Grüße aus der Straße"),
        (b"=?utf-8?B?R3LDvMOfZSBhdXMgS8O2bG7D?=\n =?utf-8?B?vA==?=", "Grüße aus Kölnü"),
        (b"=?utf-8?Q?Gr=C3?= =?utf-8?Q?=BC=C3=9Fe?= an alle", "Grüße an alle"),
        (b"=?x-unknown?Q?Gr=FC=DFe_aus_der_Stra=DFe?=", "Grüße aus der Straße"),
        (b"=?utf-8*de?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?iso-8859-1?Q?a?= =?iso-8859-15?Q?=A4?=", "a€"),
        (b"=?utf-8?B?R3Lwx?= x", "=?utf-8?B?R3Lwx?= x"),
    ],
)
def test_encoded_words(subject: bytes, text: str) -> None:
    assert extract(b"From: a@b.org\nSubject: %b\n\nbody" % subject).title == text


def test_names_of_attachments_with_encoded_words() -> None:
    named = 'text/plain; name="=?utf-8?B?R3LDvMOf?= =?utf-8?B?ZS50eHQ=?="'
    assert "Attachment: Grüße.txt" in extract(parts(part(b"Terms of payment.", named))).text


def test_attachments_in_the_encoding_that_the_mail_states() -> None:
    koi8 = "Привет, друг".encode("koi8-r")
    document = extract(parts(part(koi8, 'text/plain; charset=koi8-r; name="a.txt"')))
    assert "Привет, друг" in document.text and not document.losses
    unknown = extract(
        parts(part("Grüße, schöner Tag heute.".encode("latin-1"), 'text/plain; charset=x-9; name="a.txt"'))
    )
    assert "Grüße, schöner Tag" in unknown.text
    assert "+++ b/main" in extract(parts(part(b"--- a/main\n+++ b/main", 'text/x-diff; name="fix.unknown"'))).text


# -- transfer encodings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [1, 2, 3, 5, 41])
def test_base64_that_is_cut(missing: int) -> None:
    encoded = base64.encodebytes(TEXT.encode()).rstrip()
    head = HEAD + b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"
    document = extract(head + encoded.rstrip(b"=")[:-missing])
    assert "twelve chairs" in document.text and encoded[:20].decode() not in document.text
    missing_bits = (len(encoded.rstrip(b"=")) - missing) % 4
    assert ("cut off" in reasons(document)) == bool(missing_bits)


def test_base64_with_damage_text_after_it_and_without_any() -> None:
    encoded = base64.encodebytes(TEXT.encode())
    damaged = decode_base64(encoded[:100] + b"\xff?" + encoded[100:])
    assert damaged.data == TEXT.encode() and damaged.damaged
    footer = b"_______________\nClub mailing list\nclub@example.org\n"
    content = decode_base64(encoded + footer)
    assert (content.data, content.rest, content.damaged) == (TEXT.encode(), footer, False)
    assert decode_base64(b"YWI=\nY2Q=\nZQ==\n").data == b"abcde"
    assert decode_base64(b"YWJj\n\n").data == b"abc" and not decode_base64(b"YWJj\n\n").damaged
    head = HEAD + b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"
    document = extract(head + encoded + footer)
    assert "twelve chairs" in document.text and "Club mailing list" in document.text and not document.losses
    assert "no base64 at all, but words" in extract(head + b"This is no base64 at all, but words.").text


def test_quoted_printable_with_damage() -> None:
    head = HEAD + b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
    document = extract(head + b"50=% of the Gr=C3=B6=C3=9Fe, K=C3=B6ln, =\nand =XY more =C3")
    assert "of the Größe, Köln, and =XY more" in document.text and "1 damaged character" in reasons(document)


def test_files_in_uuencode() -> None:
    body = b"See the file.\n\nbegin 644 terms.txt\n:5&5R;7,@;V8@<&%Y;65N=#H@,S`@9&%Y<RX`\n`\nend\n\nRegards\n"
    document = extract(HEAD + b"\n" + body)
    assert "Terms of payment: 30 days." in document.text and "5&5R" not in document.text and "Regards" in document.text
    assert "begin 644 of the year" in extract(HEAD + b"\nbegin 644 of the year\nwords of it\nend\n").text


# -- boundaries ----------------------------------------------------------------------------------------------------

ONE, TWO = part(b"The first part has words.\n"), part(b"<p>The second part has others.</p>\n", "text/html")
THREE = part(b"Terms of payment.", 'text/plain; name="terms.txt"')


@pytest.mark.parametrize(
    "data",
    [
        parts(ONE, TWO, THREE).replace(b'boundary="b1"', b'boundary="other"'),
        parts(ONE, TWO, THREE).replace(b'; boundary="b1"', b""),
        parts(ONE, TWO, THREE).replace(b'Content-Type: multipart/mixed; boundary="b1"\n', b""),
        parts(ONE, TWO, THREE).replace(b"--b1\nContent-Type: text/html", b"--bX\nContent-Type: text/html"),
        parts(ONE, TWO, THREE).replace(b"--b1\nContent-Type: text/html", b"\nContent-Type: text/html"),
        parts(ONE, TWO, THREE).replace(b"--b1\nContent-Type: text/plain\n\n", b"--bX\nContent-Type: text/plain\n\n"),
        parts(ONE, TWO, THREE).replace(b"--b1\nContent-Type: text/html", b"--b1--\n--b1\nContent-Type: text/html"),
        parts(ONE, TWO, THREE).replace(b"--b1\nContent-Type: text/html", b"--b1--\n--bX\nContent-Type: text/html"),
        parts(ONE, part(base64.encodebytes(b"<p>The second part has others.</p>"), "text/html",
                        "Content-Transfer-Encoding: base64"), THREE)
        .replace(b"--b1\nContent-Type: text/html", b"--b2\nContent-Type: text/html"),
    ],
    ids=["wrong", "missing", "no type", "damaged", "lost", "first", "early end", "early end and damaged", "base64"],
)  # fmt: skip
def test_parts_behind_a_damaged_boundary(data: bytes) -> None:
    document = extract(data)
    for text in (
        "The first part has words.",
        "The second part has others.",
        "Attachment: terms.txt",
        "Terms of payment.",
    ):
        assert document.text.count(text) == 1
    assert "Content-Type" not in document.text and "--b" not in document.text and not document.losses


def test_text_after_the_last_part_and_a_container_without_any() -> None:
    assert "List: club@example.org" in extract(parts(ONE) + b"\nList: club@example.org\n").text
    document = extract(HEAD + b"Content-Type: multipart/mixed; boundary=x\n\nOnly words, and no parts.\n")
    assert "Only words, and no parts." in document.text
    plain = extract(HEAD + b"\nAn example:\n\n--b1\nContent-Type: text/html\n\n<p>\n")
    assert "--b1\nContent-Type: text/html" in plain.text


def test_a_message_that_is_cut_off() -> None:
    data = parts(ONE, TWO)
    assert not extract(data).losses
    document = extract(data[: data.index(b"others")])
    assert "The second part" in document.text and "cut off" in reasons(document)


# -- reports -------------------------------------------------------------------------------------------------------

_STATUS = b"""Reporting-MTA: dns; mx.example.org
Arrival-Date: Mon, 2 Mar 2026 10:11:12 +0100

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user

Final-Recipient: rfc822; carl@example.net
Action: delayed
Status: 4.2.2
"""


@pytest.mark.parametrize("kind", ["message/delivery-status", "message/global-delivery-status"])
@pytest.mark.parametrize("headers", ["text/rfc822-headers", "message/rfc822-headers", "message/global-headers"])
def test_reports_of_delivery(kind: str, headers: str) -> None:
    original = part(b"Subject: =?utf-8?Q?Gr=C3=B6=C3=9Fe?=\nFrom: ann@example.org\nX-Spam: no\n", headers)
    document = extract(parts(ONE, part(_STATUS, kind), original, kind="multipart/report; report-type=delivery-status"))
    for text in ("bob@example.net", "Action: failed", "550 5.1.1 no such user", "carl@example.net", "Status: 4.2.2"):
        assert document.text.count(text) == 1
    assert "Subject: Größe\nFrom: ann@example.org" in document.text and "X-Spam" not in document.text
    assert not document.losses


def test_other_reports() -> None:
    receipt = part(b"Final-Recipient: rfc822; bob@example.net\nDisposition: manual-action; displayed\n",
                   "message/disposition-notification")  # fmt: skip
    document = extract(parts(ONE, receipt, kind="multipart/report"))
    assert "Final-Recipient: rfc822; bob@example.net\nDisposition: manual-action; displayed" in document.text
    abuse = part(b"Feedback-Type: abuse\nUser-Agent: x/1\n", "message/feedback-report")
    original = part(b"From: ann@example.org\nSubject: Sale\n\nBuy twelve chairs.\n", "message/rfc822")
    document = extract(parts(ONE, abuse, original, kind="multipart/report"))
    assert "Feedback-Type: abuse" in document.text and "Buy twelve chairs." in document.text
    elsewhere = part(
        b"Content-Type: application/pdf\n\n", 'message/external-body; access-type=URL; URL="http://x/a.pdf"'
    )
    assert "not in the message, but at http://x/a.pdf" in reasons(extract(parts(ONE, elsewhere)))


# -- signatures and encryption -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/pgp-signature", b"-----BEGIN PGP SIGNATURE-----\nabc\n-----END PGP SIGNATURE-----"),
        ('application/pgp-signature; name="OpenPGP_signature"', b"-----BEGIN PGP SIGNATURE-----"),
        ('application/x-pkcs7-signature; name="smime.p7s"', b"\x30\x80"),
        ("application/pkcs7-signature", b"\x30\x80"),
        ('application/octet-stream; name="sig.asc"', b"-----BEGIN PGP SIGNATURE-----"),
        ('application/pgp-keys; name="OpenPGP_0xAB.asc"', b"-----BEGIN PGP PUBLIC KEY BLOCK-----"),
    ],
)
def test_a_signature_takes_nothing_from_a_mail(kind: str, content: bytes) -> None:
    document = extract(parts(ONE, part(content, kind), kind="multipart/signed"))
    assert "The first part has words." in document.text and not document.losses


def test_signed_text_is_read_without_its_signature() -> None:
    body = (
        b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nThe chairs come on Friday.\n- -- \nAnn\n"
        b"-----BEGIN PGP SIGNATURE-----\n\niQEzBAEBCAAdFiEE\n-----END PGP SIGNATURE-----\nA footer.\n"
    )
    document = extract(HEAD + b"\n" + body)
    assert "The chairs come on Friday.\n-- \nAnn" in document.text and "A footer." in document.text
    assert "PGP" not in document.text and "iQEz" not in document.text and not document.losses


@pytest.mark.parametrize(
    "encrypted",
    [
        part(b"-----BEGIN PGP MESSAGE-----\n\nabc\n-----END PGP MESSAGE-----\n"),
        part(b"--c\n\nx\n--c--\n", "multipart/encrypted; boundary=c"),
        part(b"\x30\x82", "application/pkcs7-mime; smime-type=enveloped-data"),
        part(b"\x30\x82", 'application/x-pkcs7-mime; name="smime.p7m"'),
    ],
)
def test_encrypted_mails_are_named_as_such(encrypted: bytes) -> None:
    with pytest.raises(InputError, match="the message is encrypted"):
        extract(HEAD + encrypted)
    with pytest.raises(InputError, match="the message is encrypted"):
        extract(parts(encrypted))
    document = extract(parts(ONE, encrypted))
    assert "The first part" in document.text and reasons(document) == "1 encrypted part"


def test_contents_that_are_sealed_are_named() -> None:
    signed = bytes.fromhex("308006092a864886f70d010702a080") + b"Content-Type: text/plain"
    for kind in ("application/pkcs7-mime; smime-type=signed-data", "application/pkcs7-mime"):
        assert "within the signature" in reasons(extract(HEAD + part(signed, kind)))
    outlook = extract(parts(ONE, part(b"\x78\x9f\x3e\x22", 'application/ms-tnef; name="winmail.dat"')))
    assert "winmail.dat (Outlook's own format" in reasons(outlook)
    locked = part(b"-----BEGIN PGP MESSAGE-----\nabc", 'application/octet-stream; name="plan.pdf.asc"')
    assert "plan.pdf.asc (encrypted)" in reasons(extract(parts(ONE, locked)))


# -- other parts ---------------------------------------------------------------------------------------------------


def is_partial(document: Document) -> bool:
    record = DocumentRecord("1", "files", "a.eml", "a.eml", "0", "1")
    return account(record, document, WordCount(text=count_words(document.text)), has_chunks=True).partial


def test_ordinary_mails_are_not_partial() -> None:
    page = part(b"<p>The first part has words.</p><img src='cid:1'><img src='cid:2' alt='Logo'>", "text/html")
    logo = part(b"\x89PNG", "image/png", "Content-ID: <1>")
    style = part(b"p { color: red }", "text/css")
    related = parts(page, logo, style, kind="multipart/related")
    assert not is_partial(extract(related)) and "color" not in extract(related).text
    amp = part(b"<html amp4email></html>", "text/x-amp-html")
    assert not extract(parts(ONE, amp, kind="multipart/alternative")).losses
    assert is_partial(extract(parts(ONE, part(b"\x89PNG", 'image/png; name="plan.png"'))))


def test_a_page_without_words_still_declares_its_pictures() -> None:
    document = extract(HEAD + b"Content-Type: text/html\n\n<img src='offer.png'>")
    assert reasons(document) == "1 picture without a description"


def test_frames_of_a_saved_page() -> None:
    pages = [part(b"<h1>Harbour</h1><p>The ships leave at nine.</p>", "text/html", "Content-Location: http://x/"),
             part(b"<p>Tides of the week.</p>", "text/html", "Content-Location: http://x/frame")]  # fmt: skip
    document = extract(parts(*pages, kind="multipart/related; type=text/html"))
    assert "The ships leave at nine." in document.text and "Tides of the week." in document.text


def test_invitations() -> None:
    event = b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Budget review\nLOCATION:Room 5\nEND:VEVENT\nEND:VCALENDAR\n"
    document = extract(parts(ONE, part(event, "text/calendar; method=REQUEST"), kind="multipart/alternative"))
    assert "Budget review" in document.text and "Location: Room 5" in document.text and not document.losses


def test_messages_within_messages_with_damage() -> None:
    inner = b"From: ann@example.org\nSubject: Gr\xf6\xdfe\nContent-Type: text/plain; =\nX: =?a?\n\nBuy twelve chairs.\n"
    document = extract(parts(ONE, part(inner, "message/rfc822")))
    assert "Buy twelve chairs." in document.text
    encoded = part(base64.encodebytes(inner), "message/rfc822", "Content-Transfer-Encoding: base64")
    assert "Buy twelve chairs." in extract(parts(ONE, encoded)).text
    sealed = part(HEAD + part(b"x", "multipart/encrypted; boundary=c"), "message/rfc822")
    document = extract(parts(ONE, sealed))
    assert "message.eml (the message is encrypted" in reasons(document) and "The first part" in document.text


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Type: ;;;=", b"Content-Type: text/plain; charset*0*=\xff", b"Content-Disposition: ; filename*=x''%",
        b"From: <<@@>", b"Date: Mon, 99 Foo", b"Content-Transfer-Encoding: \xff", b"To: =?utf-8?q?a?= <",
        b"Content-Type: multipart/mixed; boundary=\"\"", b"Content-Type: message/rfc822", b"MIME-Version: \xe4",
        b"Content-Disposition: attachment; filename==?utf-8?B?w?=", b"Message-ID: <[",
    ],
)  # fmt: skip
def test_damaged_fields_cost_no_mail(field: bytes) -> None:
    document = extract(b"Subject: Offer\n" + field + b"\n\nThe delivery comes on Friday.\n")
    assert "The delivery comes on Friday." in document.text


def test_one_damaged_message_costs_no_mailbox() -> None:
    message = EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "Offer"
    message.set_content("The delivery comes on Friday.")
    line = b"From a@b Mon Mar  2 10:11:12 2026\n"
    sealed = HEAD + b"Content-Type: multipart/encrypted; boundary=c\n\nx\n"
    document = extract(line + message.as_bytes() + b"\n" + line + sealed + b"\n" + line + b"no header\n", "mbox")
    assert "The delivery comes on Friday." in document.text
    assert "1 message (the message is encrypted" in reasons(document) and "1 message (not an e-mail" in reasons(
        document
    )
