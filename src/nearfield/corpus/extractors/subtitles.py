"""Extractor for subtitles (SubRip, WebVTT): what is said, in paragraphs with the time at which they begin."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.extractors.text_encoding import decode
from nearfield.units import format_clock

_TIMES = re.compile(
    r"^[ \t]*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})[ \t]*-->[ \t]*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})[^\n]*$", re.MULTILINE
)
_VOICE = re.compile(r"<v(?:\.[\w.]+)?[ \t]+([^>]+)>")
#: Tags of both formats, times within a cue, and positions of SubStation Alpha.
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_BLANK = re.compile(r"\n[ \t]*\n")
#: Blocks of WebVTT that are no speech.
_NO_SPEECH = re.compile(r"(?:NOTE|STYLE|REGION)\b")
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u00bb)\]]*$")
#: Seconds without speech after which a paragraph begins; length of a paragraph at whose next sentence another one
#: begins; maximum length.
_PAUSE, _LONG, _LONGEST = 3.0, 30.0, 60.0


@dataclass
class _Cue:
    start: float
    end: float
    lines: list[str]
    voice: str = ""


@dataclass
class _Passage:
    start: float
    voice: str
    parts: list[str] = field(default_factory=list)
    end: float = 0.0


class SubtitlesExtractor(Extractor):
    """Subtitles."""

    suffixes: Mapping[str, str] = {".srt": "application/x-subrip", ".vtt": "text/vtt"}
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the spoken text."""
        text = decode(data, name).replace("\r\n", "\n").replace("\r", "\n")
        cues = list(_cues(text))
        if not cues:
            return Document(text, tuple(paragraphs(text)))
        builder = DocumentBuilder()
        for part in _introduction(text):
            builder.add(part)
        for passage in _passages(cues):
            voice = f"{passage.voice}: " if passage.voice else ""
            builder.add(
                voice + " ".join(passage.parts),
                markup=f"[{format_clock(passage.start)}] ",
                times=(passage.start, max(passage.start, passage.end)),
            )
        return builder.document("prose", _title(text))


def _title(text: str) -> str:
    """Return the title in the first line of WebVTT."""
    match = re.match(r"\ufeff?WEBVTT[ \t]+-?[ \t]*([^\n]+)", text)
    return match[1] if match else ""


def _introduction(text: str) -> Iterator[str]:
    """Yield the text before the first cue, without the header of WebVTT, comments, and the cue's number or name."""
    first = _TIMES.search(text)
    head = text[: first.start()].lstrip("\ufeff") if first is not None else ""
    is_web = head.startswith("WEBVTT")
    parts = [part for part in _BLANK.split(head) if part.strip()]
    if is_web:
        del parts[0]
        parts = [part for part in parts if not _NO_SPEECH.match(part)]
    last = head.rstrip().rpartition("\n")[2]
    is_name = is_web and bool(parts) and not head.endswith("\n\n")
    if parts and (last.strip().isdigit() or is_name):
        parts[-1] = parts[-1].rstrip().rpartition("\n")[0]
    yield from ("\n".join(_cleaned(part.split("\n"))) for part in parts)


def _cleaned(lines: list[str]) -> list[str]:
    """Return the lines that have text, without tags."""
    cleaned = (html.unescape(" ".join(_TAGS.sub("", line).split())) for line in lines)
    return [line for line in cleaned if line]


def _cues(text: str) -> Iterator[_Cue]:
    """Yield the cues that have text. Lines that the cue before shows already, as in live captions, are left out."""
    matches = list(_TIMES.finditer(text))
    numbered = not text.lstrip("\ufeff").startswith("WEBVTT")
    shown: list[str] = []
    for number, match in enumerate(matches):
        end = matches[number + 1].start() if number + 1 < len(matches) else len(text)
        body = text[match.end() : end].lstrip("\n")
        parts = _BLANK.split(body.rstrip("\n"))
        is_named = not numbered and len(parts) > 1 and "\n" not in parts[-1] and not body.endswith("\n\n")
        parts = parts if numbered else [part for part in parts if not _NO_SPEECH.match(part)]
        lines = "\n".join(parts).split("\n")
        is_number = numbered and len(lines) > 1 and lines[-1].strip().isdigit()
        if number + 1 < len(matches) and (is_number or is_named):
            lines.pop()  # the number or name of the next cue
        voice = _VOICE.search(body)
        cleaned = _cleaned(lines)
        fresh = [line for line in cleaned if line not in shown]
        shown = cleaned
        if fresh:
            yield _Cue(_seconds(match[1]), _seconds(match[2]), fresh, voice[1].strip() if voice else "")


def _passages(cues: list[_Cue]) -> Iterator[_Passage]:
    passage = _Passage(cues[0].start, cues[0].voice)
    for cue in cues:
        length = cue.start - passage.start
        ended = bool(passage.parts) and _SENTENCE_END.search(passage.parts[-1]) is not None
        is_new = (
            cue.voice != passage.voice
            or cue.start - passage.end >= _PAUSE
            or (length >= _LONG and ended)
            or length >= _LONGEST
        )
        if passage.parts and is_new:
            yield passage
            passage = _Passage(cue.start, cue.voice)
        passage.parts += cue.lines
        passage.end = cue.end
    yield passage


def _seconds(text: str) -> float:
    *hours, minutes, seconds = text.replace(",", ".").split(":")
    return (int(hours[0]) if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)
