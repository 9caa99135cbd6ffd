"""Videos of files, folders and patterns, as a source of bulk embedding: a row for each, or for each segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nearfield.bulk.media_files.suffixes import VIDEOS
from nearfield.bulk.media_files.timed_source import TimedSource
from nearfield.media.video.video import Video


@dataclass(frozen=True)
class VideoOptions:
    """Which parts and frames of videos are read: ``segments`` are seconds of each part; the rest is as for `Video`.

    Sounds have segments alone.
    """

    segments: float | None = None
    fps: float | None = None
    max_frames: int | None = None

    def first_set(self) -> str | None:
        """Return the name of the first option that was set, or None."""
        return next((name for name, value in vars(self).items() if value is not None), None)


class VideoRows(TimedSource):
    """Files of videos; see `TimedSource`."""

    form: ClassVar[str] = VIDEOS

    def __init__(
        self,
        inputs: Sequence[Path],
        output: Path,
        options: VideoOptions = VideoOptions(),
        *,
        skip_unreadable: bool = False,
        on_skipped: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._options = options
        super().__init__(inputs, output, options.segments, skip_unreadable=skip_unreadable, on_skipped=on_skipped)
        self.part(Path("video"), None, None)  # options that are wrong are refused before a file is read

    def identity(self) -> list[object]:
        return [*super().identity(), self._options.fps, self._options.max_frames]

    def part(self, path: Path, start: float | None, end: float | None) -> Video:
        options = self._options
        return Video(path=path, fps=options.fps, max_frames=options.max_frames, start=start, end=end)

    def read_seconds(self, path: Path) -> float:
        return Video(path=path).header().seconds

    def decode(self, path: Path) -> float:
        for _ in self.part(path, None, None).frames():
            pass
        return self.read_seconds(path)
