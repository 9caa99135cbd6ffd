"""Extractor for subtitles (SubRip, WebVTT): what is said, in paragraphs with the time at which they begin."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.spoken_passages import SpokenCue, add_passages, spoken_passages
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.extractors.text_encoding import decode

_TIMES = re.compile(
    r"^[ \t]*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})[ \t]*-->[ \t]*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})[^\n]*$", re.MULTILINE
)
_VOICE = re.compile(r"<v(?:\.[\w.]+)?[ \t]+([^>]+)>")
#: Tags of both formats, times within a cue, and positions of SubStation Alpha.
_TAGS = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_BLANK = re.compile(r"\n[ \t]*\n")
#: Blocks of WebVTT that are no speech.
_NO_SPEECH = re.compile(r"(?:NOTE|STYLE|REGION)\b")


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
        add_passages(builder, spoken_passages(cues))
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


def _cues(text: str) -> Iterator[SpokenCue]:
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
            yield SpokenCue(_seconds(match[1]), _seconds(match[2]), fresh, voice[1].strip() if voice else "")


def _seconds(text: str) -> float:
    *hours, minutes, seconds = text.replace(",", ".").split(":")
    return (int(hours[0]) if hours else 0) * 3600 + int(minutes) * 60 + float(seconds)
