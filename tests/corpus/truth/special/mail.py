"""Mails: encoded words, replies, attachments, HTML without plain text, and a mailbox."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP

from tests.corpus.truth.model import TruthFile
from tests.corpus.truth.topics import topics
from tests.corpus.truth.writers import markup, messages, office


def _encoded() -> bytes:
    mail = messages.message("Frühjahrsmüdigkeit und Öffnungszeiten", "placeholder")
    mail.set_content(
        "Das Büro öffnet erst um zehn Uhr, weil alle müde sind.\n", charset="iso-8859-1", cte="quoted-printable"
    )
    return mail.as_bytes()


def _reply() -> bytes:
    body = "The crane can be used again.\n\n> Is the crane repaired?\n> We need it on Friday.\n-- \nAnna Keller\n"
    mail = messages.message("Re: Crane", body)
    mail["In-Reply-To"] = "<0@example.org>"
    return mail.as_bytes()


def _attached() -> bytes:
    mail = messages.message("Papers for Thursday", "Please read the two papers before the meeting.\n")
    docx = office.docx(topics()["travel-expenses"])
    mail.add_attachment(docx, maintype="application", subtype="octet-stream", filename="expenses.docx")
    mail.add_attachment("Bring your own cup.\n", filename="hint.txt")
    return mail.as_bytes()


def _markup_only() -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["Subject"], mail["From"], mail["To"] = "Museum night", "news@example.org", "anna@example.org"
    mail.set_content(markup.html(topics()["clock-museum"]).decode(), subtype="html", cte="base64")
    return mail.as_bytes()


def _report() -> bytes:
    mail = messages.message("Undelivered mail", "placeholder")
    mail.clear_content()
    mail["Content-Type"] = 'multipart/report; report-type=delivery-status; boundary="part"'
    recipient = "Final-Recipient: rfc822; bob@example.net\nAction: failed\nStatus: 5.1.1\n"
    status = f"Reporting-MTA: dns; mx.example.org\n\n{recipient}"
    header = "Subject: Berth prices\nFrom: anna@example.org\n"
    parts = {
        "text/plain": "Your mail was not delivered.\n",
        "message/delivery-status": status,
        "text/rfc822-headers": header,
    }
    content = "".join(f"--part\nContent-Type: {kind}\n\n{text}\n" for kind, text in parts.items())
    return mail.as_bytes() + content.encode() + b"--part--\n"


def _two_encodings() -> bytes:
    head = b"Subject: Harbour\nFrom: anna@example.org\nContent-Type: text/plain; charset=utf-8\n\n"
    return head + "Die Fähre fährt über Nacht.\n".encode() + "Grüße aus dem Büro der Hafenbehörde\n".encode("latin-1")


def _damaged_boundary() -> bytes:
    mail = messages.message("Two papers", "The first paper is short.\n")
    mail.add_attachment("The second paper has the prices.\n", filename="prices.txt")
    data = mail.as_bytes()
    boundary = mail.get_boundary("").encode()
    return data.replace(
        b"--" + boundary + b"\r\nContent-Type: text/plain; charset", b"--??\r\nContent-Type: text/plain; charset"
    )


def files() -> Iterator[TruthFile]:
    """Yield mails with one fault each."""
    yield TruthFile(
        "encoded.eml",
        _encoded,
        ("Frühjahrsmüdigkeit und Öffnungszeiten", "Das Büro öffnet erst um zehn Uhr, weil alle müde sind."),
        absent=("=?utf-8", "=FC"),
        fault="encoded words",
    )
    yield TruthFile(
        "reply.eml",
        _reply,
        ("Crane", "The crane can be used again.", "Is the crane repaired?", "We need it on Friday."),
        absent=("Message-ID", "MIME-Version"),
        fault="replies",
    )
    yield TruthFile(
        "attached.eml",
        _attached,
        (
            *("Papers for Thursday", "Please read the two papers before the meeting."),
            *(*topics()["travel-expenses"].pieces, "Bring your own cup."),
        ),
        absent=("base64",),
        fault="attachments",
    )
    yield TruthFile(
        "markup-only.eml",
        _markup_only,
        ("Museum night", *topics()["clock-museum"].pieces),
        absent=("color: teal", "<p>"),
        fault="HTML without plain text",
    )
    mails = [topics()[name] for name in ("office-move", "chamber-choir", "ward-visits")]
    yield TruthFile(
        "archive.mbox",
        lambda: messages.mbox(*mails),
        tuple(piece for topic in mails for piece in topic.pieces),
        absent=("MIME-Version",),
        fault="mailboxes",
    )
    yield TruthFile(
        "undelivered.eml",
        _report,
        ("Undelivered mail", "Your mail was not delivered.", "bob@example.net", "failed", "5.1.1", "Berth prices"),
        absent=("MIME-Version", "--part"),
        fault="reports of delivery",
    )
    yield TruthFile(
        "two-encodings.eml",
        _two_encodings,
        ("Harbour", "Die Fähre fährt über Nacht.", "Grüße aus dem Büro der Hafenbehörde"),
        absent=("Content-Type",),
        fault="two encodings",
    )
    yield TruthFile(
        "damaged-boundary.eml",
        _damaged_boundary,
        ("Two papers", "The first paper is short.", "The second paper has the prices."),
        absent=("Content-", "--"),
        fault="damaged boundaries",
    )
