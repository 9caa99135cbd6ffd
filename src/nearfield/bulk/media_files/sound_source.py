"""Sounds of files, folders and patterns, as a source of bulk embedding: a row for each, or for each segment."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from nearfield.bulk.media_files.suffixes import SOUNDS
from nearfield.bulk.media_files.timed_source import TimedSource
from nearfield.media.audio import Audio


class SoundRows(TimedSource):
    """Files of sounds; see `TimedSource`."""

    form: ClassVar[str] = SOUNDS

    def part(self, path: Path, start: float | None, end: float | None) -> Audio:
        return Audio(path=path, start=start, end=end)

    def read_seconds(self, path: Path) -> float:
        return Audio(path=path).header().seconds

    def decode(self, path: Path) -> float:
        sound = Audio(path=path)
        return sound.read(sound.header().rate).seconds
