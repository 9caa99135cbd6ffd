"""Videos of files, folders and patterns, as a source of bulk embedding: a row for each, or for each segment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

from nearfield.bulk.input_table import PICTURES, VIDEOS, list_files
from nearfield.bulk.picture_source import PictureSource, holds_form
from nearfield.media.video.video import Video, segment_times
from nearfield.message_text import count_of


@dataclass(frozen=True)
class VideoOptions:
    """Which parts and frames of videos are read: ``segments`` are seconds of each part; the rest is as for `Video`."""

    segments: float | None = None
    fps: float | None = None
    max_frames: int | None = None

    def first_set(self) -> str | None:
        """Return the name of the first option that was set, or None."""
        return next((name for name, value in vars(self).items() if value is not None), None)


def reads_videos(inputs: Sequence[Path], form: str | None) -> bool:
    """Return whether inputs are videos: the format says so, or it is None and every input has videos alone.

    A file has them by its suffix. A folder has them if it holds files with such suffixes, and neither tables nor
    pictures.
    """
    if form is not None:
        return form == VIDEOS
    return bool(inputs) and all(holds_form(path, VIDEOS) and not holds_form(path, PICTURES) for path in inputs)


def unread_videos(inputs: Sequence[Path]) -> Iterator[str]:
    """Yield a warning for each folder of pictures that has videos too."""
    for path in inputs:
        if path.is_dir() and (videos := list_files(path, VIDEOS)):
            yield f"{path} holds {count_of(len(videos), 'video')} too, left out here: --format video reads them."


class VideoRows(PictureSource):
    """Files of videos, in the order of their paths, as `PictureSource` has those of pictures.

    With ``options.segments``, each part of so many seconds is a row. Its id is a media fragment (``clip.mp4#t=10,20``),
    and ``start`` and ``end`` are columns.
    """

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
        super().__init__(inputs, output, skip_unreadable=skip_unreadable, on_skipped=on_skipped)
        self._options = options
        self._part(Path("video"), None, None)  # options that are wrong are refused before a file is read
        self.unit = "video" if options.segments is None else "segment"
        #: Start and end of each row in seconds; rows before each file, and after the last one.
        self._times: list[tuple[float, float]] = []
        self._firsts = [0]

    def identity(self) -> list[object]:
        return [*super().identity(), *vars(self._options).values()]

    def digest(self, rows: int) -> str:
        # A file is encoded in part if some of its rows are.
        return super().digest(bisect_left(self._firsts, rows))

    def count(self, on_id: Callable[[object], None] = lambda _: None) -> int:
        seconds = self._check_files(self._decode if self._skip_unreadable else _read_seconds)
        size = self._options.segments
        parts = [[(0.0, end)] if size is None else segment_times(0.0, end, size) for end in seconds]
        self._times = [times for part in parts for times in part]
        self._firsts = [0, *accumulate(map(len, parts))]
        for key, _ in self.rows():
            on_id(key)
        return len(self._times)

    def rows(self) -> Iterator[tuple[str, Video]]:
        """Yield id and video; a video is opened when it is encoded."""
        for number, path in enumerate(self.paths):
            name = self._name_of(path)
            if self._options.segments is None:
                yield name, self._part(path, None, None)
                continue
            for start, end in self._times[self._firsts[number] : self._firsts[number + 1]]:
                yield f"{name}#t={round(start, 3):g},{round(end, 3):g}", self._part(path, start, end)

    def megapixels(self, start: int, stop: int) -> float:  # noqa: ARG002 - the number of frames is not known before
        """Return the millions of pixels of some rows: 0."""
        return 0.0

    def video_seconds(self, rows: int) -> float:
        """Return the seconds of the first rows, after ``count``."""
        return sum(end - start for start, end in self._times[:rows])

    def times(self, start: int, stop: int) -> Mapping[str, list[float]]:
        """Return the columns of seconds of some rows, after ``count``: ``start`` and ``end`` of segments."""
        if self._options.segments is None:
            return {}
        starts, ends = zip(*self._times[start:stop], strict=True) if stop > start else ((), ())
        return {"start": list(starts), "end": list(ends)}

    def _part(self, path: Path, start: float | None, end: float | None) -> Video:
        options = self._options
        return Video(path=path, fps=options.fps, max_frames=options.max_frames, start=start, end=end)

    def _decode(self, path: Path) -> float:
        for _ in self._part(path, None, None).frames():
            pass
        return _read_seconds(path)


def _read_seconds(path: Path) -> float:
    return Video(path=path).header().seconds
