"""Content lines of calendars and address books (RFC 5545, RFC 6350), also those that programs fold wrongly."""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nearfield.corpus.extractors.text_encoding import decode, decode_anyway

_LINE = re.compile(r"(?:[\w-]+\.)?([\w-]+)((?:;(?:\"[^\"]*\"|[^:\"])*)?):(.*)", re.DOTALL)
_PARAMETER = re.compile(r";([\w-]+)(?:=(\"[^\"]*\"|[^;]*))?")
#: A fold within a letter of UTF-8, which programs write that count bytes.
_SPLIT_LETTER = re.compile(rb"(?<=[\x80-\xff])\r?\n[ \t](?=[\x80-\xbf])")
#: Versions of vCard and vCalendar in which a line is folded before white space of its text.
_OLD_VERSIONS = ("1.0", "2.1")
#: Bytes of a line from which its end is a fold.
_FOLD = 74
#: Properties whose values are texts of any length: a line that is no property belongs to them.
_TEXT_NAMES = """
    SUMMARY DESCRIPTION LOCATION COMMENT CONTACT RESOURCES FN NOTE TITLE ROLE ORG ADR LABEL EMAIL NICKNAME
    STYLED-DESCRIPTION X-ALT-DESC X-WR-CALDESC
"""
TEXTS = frozenset(_TEXT_NAMES.split())
#: Other properties that calendars and cards may have.
_OTHER_NAMES = """
    BEGIN END VERSION PRODID CALSCALE METHOD NAME IMAGE COLOR REFRESH-INTERVAL SOURCE CONFERENCE ATTACH CATEGORIES
    CLASS GEO PERCENT-COMPLETE PRIORITY STATUS COMPLETED DTEND DUE DTSTART DURATION FREEBUSY TRANSP TZID TZNAME
    TZOFFSETFROM TZOFFSETTO TZURL ATTENDEE ORGANIZER RECURRENCE-ID RELATED-TO URL UID EXDATE EXRULE RDATE RRULE
    ACTION REPEAT TRIGGER CREATED DTSTAMP LAST-MODIFIED SEQUENCE REQUEST-STATUS ACKNOWLEDGED DALARM AALARM MALARM N
    PHOTO BDAY ANNIVERSARY GENDER TEL IMPP LANG LANGUAGE TZ MEMBER RELATED REV SOUND CLIENTPIDMAP KEY FBURL
    CALADRURI CALURI LOGO AGENT MAILER SORT-STRING KIND XML SOCIALPROFILE PRONOUNS GRAMGENDER HOBBY INTEREST
    EXPERTISE ORG-DIRECTORY CONTACT-URI BIRTHPLACE DEATHPLACE DEATHDATE PROFILE LINK REFID CONCEPT STRUCTURED-DATA
    PARTICIPANT PROXIMITY TZUNTIL TZID-ALIAS-OF BUSYTYPE AVAILABLE
"""
_OTHERS = frozenset(_OTHER_NAMES.split())


@dataclass(frozen=True)
class ContentProperty:
    """One property of an entry, such as ``DTSTART``, with its parameters in upper case."""

    name: str
    parameters: dict[str, str]
    value: str


@dataclass
class ContentLines:
    """The properties of a file, and the lines that belong to none."""

    properties: list[ContentProperty] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def read_lines(data: bytes, name: str) -> ContentLines:
    """Return the properties of a file.

    Raises:
        InputError: it is no text.
    """
    lines = ContentLines()
    for line in _unfolded(decode(_SPLIT_LETTER.sub(b"", data), name)):
        match = _property(line)
        if match is not None:
            parameters = _parameters(match[2])
            lines.properties.append(ContentProperty(match[1].upper(), parameters, _decoded(match[3], parameters)))
        elif line.strip() and lines.properties and not _is_binary(lines.properties[-1]):
            lines.damaged.append(line)
    return lines


def _unfolded(text: str) -> Iterator[str]:
    """Yield the lines with the parts that belong to them.

    Parts begin with white space, or follow a soft break of quoted-printable. Programs also write line ends within
    texts, and drop the white space of folds.
    """
    line, is_old = _FoldedLine(""), False
    for part in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.take(part, is_old=is_old):
            continue
        yield line.text
        line = _FoldedLine(part)
        if line.name == "VERSION":
            is_old = part.rpartition(":")[2].strip() in _OLD_VERSIONS
    yield line.text


class _FoldedLine:
    """A line, and the parts that follow it."""

    def __init__(self, part: str) -> None:
        self._parts, self._last = [part], part
        match = _property(part)
        self.name = match[1].upper() if match is not None else ""
        self._is_quoted = match is not None and "QUOTED-PRINTABLE" in match[2].upper()

    @property
    def text(self) -> str:
        """The whole line."""
        return "".join(self._parts)

    def take(self, part: str, *, is_old: bool) -> bool:
        """Add a part that belongs to the line; return whether it does."""
        joined = self._joined(part, is_old=is_old)
        if joined is not None:
            self._parts.append(joined)
            self._last = part
        return joined is not None

    def _joined(self, part: str, *, is_old: bool) -> str | None:
        """Return what a part adds to the line; None if it begins another line."""
        is_text = self.name in TEXTS
        if self._is_quoted and self._last.endswith("="):
            return f"\n{part}"
        if self._parts[0] and part.startswith((" ", "\t")):
            return f" {part.lstrip()}" if is_old and is_text else part[1:]
        if not is_text or _property(part) is not None:
            return None
        if not part.strip():
            return "\\n"
        return part if len(self._last.encode("utf-8", "replace")) >= _FOLD else f"\\n{part}"


def _property(line: str) -> re.Match[str] | None:
    """Return the match of a line that is a property: known, or of a program."""
    match = _LINE.fullmatch(line)
    name = match[1].upper() if match is not None else ""
    return match if name in TEXTS or name in _OTHERS or name.startswith("X-") else None


def _is_binary(item: ContentProperty) -> bool:
    return item.parameters.get("ENCODING", "").upper() in ("B", "BASE64") or "BASE64" in item.parameters


def _parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in _PARAMETER.findall(text):
        known = parameters.get(name.upper())
        parameters[name.upper()] = value.strip('"') if not known else f"{known},{value.strip(chr(34))}"
    return parameters


def _decoded(value: str, parameters: dict[str, str]) -> str:
    """Return a value without quoted-printable, which version 2.1 of vCard uses, or base64."""
    encodings = (parameters.get("ENCODING", "").upper(), *parameters)
    if "QUOTED-PRINTABLE" in encodings:
        data = quopri.decodestring(value.encode("utf-8", "replace"))
        return decode_anyway(data, "", parameters.get("CHARSET", ""))
    return value


def decoded_text(item: ContentProperty) -> str:
    """Return the value of a text, which may be in base64."""
    if not _is_binary(item):
        return item.value
    try:
        data = binascii.a2b_base64("".join(item.value.split()))
    except binascii.Error:
        return item.value
    return decode_anyway(data, "", item.parameters.get("CHARSET", ""))


@dataclass
class SplitEntries:
    """The properties of each entry; the number of entries without an end, and whether the file has none."""

    entries: list[list[ContentProperty]]
    unended: int = 0
    is_cut: bool = False


def split_entries(properties: Sequence[ContentProperty], kinds: Sequence[str]) -> SplitEntries:
    """Return the properties of each entry, without those of components within it."""
    stack: list[str] = []
    entries: list[list[ContentProperty]] = []
    open_entries = 0
    for item in properties:
        component = item.value.strip().upper()
        if item.name == "BEGIN":
            if component in kinds:
                open_entries += bool(stack) and stack[-1] in kinds and bool(entries[-1])
                entries.append([])
            stack.append(component)
        elif item.name == "END":
            if component in stack:
                del stack[stack.index(component) :]
        elif stack and stack[-1] in kinds:
            entries[-1].append(item)
    open_entries += any(component in kinds for component in stack) and bool(entries[-1])
    return SplitEntries([entry for entry in entries if entry], open_entries, is_cut=bool(stack))
