"""Texts of mails: header fields with encoded words, and bodies in the encoding that the mail states."""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import EmailMessage
from email.policy import EmailPolicy
from typing import Any

from nearfield.corpus.extractors.text_encoding import decode_anyway, decode_as, decode_text
from nearfield.errors import InputError

#: Names of encodings in mails that mean no single one, those that Python lacks, and those that are parts of others.
_NO_ENCODING = ("us-ascii", "ascii", "utf-8", "utf8", "unknown-8bit", "x-unknown", "default", "binary", "8bit")
_READ_AS = {
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "ansi", "x-ansi", "iso8859-1"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "x-gbk", "gb_2312-80"), "gb18030"),
    **dict.fromkeys(("ks_c_5601-1987", "ks_c_5601", "euc-kr", "x-windows-949"), "cp949"),
    **dict.fromkeys(("shift_jis", "shift-jis", "x-sjis", "sjis"), "cp932"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e"), "iso-8859-8"),
    **dict.fromkeys(("utf8mb4", "x-utf-8", "utf-8-bom"), ""),
    "iso-8859-9": "cp1254", "tis-620": "cp874", "iso-8859-11": "cp874", "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman", "x-mac-cyrillic": "mac_cyrillic", "unicode-1-1-utf-7": "utf-7",
    "iso-2022-jp": "iso2022_jp_ext",
}  # fmt: skip
_SINGLE_BYTE = ("cp125", "windows-125", "iso-8859")
_WORDS = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?=(?:\s*=\?[^?\s]+\?[bBqQ]\?[^?]*\?=)*")
_LISTS = ("to", "cc")
_SIGNED = re.compile(
    r"-----BEGIN PGP SIGNED MESSAGE-----\r?\n(?:[\w-]+: [^\n]*\n)*\r?\n(.*?)\r?\n?"
    r"-----BEGIN PGP SIGNATURE-----.*?(?:-----END PGP SIGNATURE-----|\Z)",
    re.DOTALL,
)
_KEY = re.compile(r"-----BEGIN PGP PUBLIC KEY BLOCK-----.*?(?:-----END PGP PUBLIC KEY BLOCK-----|\Z)", re.DOTALL)
_ENCRYPTED = re.compile(r"-----BEGIN PGP MESSAGE-----.*?(?:-----END PGP MESSAGE-----|\Z)", re.DOTALL)


class MailPolicy(EmailPolicy):
    """The default policy; a header field that its parser fails on is a plain text."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return a parsed header field, or its text."""
        try:
            return super().header_fetch_parse(name, value)
        except Exception:  # noqa: BLE001 - the parser of fields raises anything for damaged ones
            return " ".join(value.split())


def header_text(message: EmailMessage, field: str) -> str:
    """Return the text of a header field; several fields of addresses are joined."""
    values = [str(value) for name, value in message.raw_items() if name.lower() == field.lower()]
    return ", ".join(map(word_text, values if field.lower() in _LISTS else values[:1]))


def word_text(value: str) -> str:
    """Return the text of a field or a file's name, with its encoded words and letters that are not ASCII.

    The parser of Python's policies decodes each word alone, and damages letters that are split between two.
    """
    text = _unescaped(value)
    return " ".join(_WORDS.sub(lambda match: _decoded_words(match[0]), " ".join(text.split())).split())


def _unescaped(value: str) -> str:
    """Return a text with the bytes that the parser escapes, as surrogates, decoded."""
    data = value.encode("utf-8", "surrogateescape")
    try:
        return decode_text(data, "").text
    except InputError:
        return data.decode("cp1252", "replace")


def _decoded_words(words: str) -> str:
    try:
        parts = decode_header(words)
    except HeaderParseError:
        return words
    return "".join(part if isinstance(part, str) else _word(part, charset or "") for part, charset in parts)


def _word(data: bytes, charset: str) -> str:
    encoding = known_encoding(charset.partition("*")[0])
    text = decode_as(data, encoding) if encoding else None
    return _unescaped(data.decode("utf-8", "surrogateescape")) if text is None else text


def known_encoding(charset: str) -> str:
    """Return Python's name for an encoding that a mail states; empty if the text itself must show it."""
    name = charset.strip().strip("\"'").lower()
    return "" if name in _NO_ENCODING else _READ_AS.get(name, name)


def part_text(data: bytes, name: str, charset: str) -> str:
    """Return the text of a body; a guess, and letters that are damaged, become losses of the document.

    Raises:
        InputError: it is binary.
    """
    encoding = known_encoding(charset)
    if encoding.startswith(_SINGLE_BYTE) and not data.isascii():
        try:
            return data.decode()  # the mail states the encoding of its sender's system
        except UnicodeDecodeError:
            pass
    return decode_anyway(data, name, encoding)


def without_armor(text: str) -> tuple[str, bool]:
    """Return a text without the signatures and keys of PGP that it contains, and whether a part of it is encrypted."""
    if "-----BEGIN PGP" not in text:
        return text, False
    text = _SIGNED.sub(lambda match: re.sub("^- ", "", match[1], flags=re.MULTILINE), _KEY.sub("", text))
    without = _ENCRYPTED.sub("", text)
    return without, without != text
