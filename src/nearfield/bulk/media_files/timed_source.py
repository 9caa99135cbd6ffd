"""Files that last: videos and sounds as sources of bulk embedding, with a row for each, or for each segment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from nearfield.bulk.media_files.picture_source import PictureSource
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS
from nearfield.media.video.time_ranges import segment_times


class TimedSource(PictureSource):
    """Files that last some seconds, in the order of their paths, as `PictureSource` has those of pictures.

    With ``segments``, each part of so many seconds is a row. Its id is a media fragment (``clip.mp4#t=10,20``), and
    ``start`` and ``end`` are columns.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        output: Path,
        segments: float | None,
        *,
        skip_unreadable: bool = False,
        on_skipped: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(inputs, output, skip_unreadable=skip_unreadable, on_skipped=on_skipped)
        if segments is not None:
            segment_times(0.0, 1.0, segments)  # a number that is wrong is refused before a file is read
        self._segments = segments
        self.unit = MEDIA_NOUNS[self.form] if segments is None else "segment"
        #: Start and end of each row in seconds; rows before each file, and after the last one.
        self._times: list[tuple[float, float]] = []
        self._firsts = [0]

    def part(self, path: Path, start: float | None, end: float | None) -> Any:
        """Return the part of a file that is one input; without times, all of it."""
        raise NotImplementedError

    def read_seconds(self, path: Path) -> float:
        """Return the seconds that the header of a file states. Raises InputError if it cannot be read."""
        raise NotImplementedError

    def decode(self, path: Path) -> float:
        """Return the seconds of a file, after all of it was decoded. Raises InputError if it cannot be read."""
        raise NotImplementedError

    def identity(self) -> list[object]:
        return [*super().identity(), self._segments]

    def digest(self, rows: int) -> str:
        # A file is encoded in part if some of its rows are.
        return super().digest(bisect_left(self._firsts, rows))

    def count(self, on_id: Callable[[object], None] = lambda _: None) -> int:
        seconds = self._check_files(self.decode if self._skip_unreadable else self.read_seconds)
        size = self._segments
        parts = [[(0.0, end)] if size is None else segment_times(0.0, end, size) for end in seconds]
        self._times = [times for part in parts for times in part]
        self._firsts = [0, *accumulate(map(len, parts))]
        for key, _ in self.rows():
            on_id(key)
        return len(self._times)

    def rows(self) -> Iterator[tuple[str, Any]]:
        """Yield id and input; a file is opened when it is encoded."""
        for number, path in enumerate(self.paths):
            name = self._name_of(path)
            if self._segments is None:
                yield name, self.part(path, None, None)
                continue
            for start, end in self._times[self._firsts[number] : self._firsts[number + 1]]:
                yield f"{name}#t={round(start, 3):g},{round(end, 3):g}", self.part(path, start, end)

    def megapixels(self, start: int, stop: int) -> float:  # noqa: ARG002 - the number of frames is not known before
        """Return the millions of pixels of some rows: 0."""
        return 0.0

    def seconds(self, rows: int) -> float:
        """Return the seconds of the first rows, after ``count``."""
        return sum(end - start for start, end in self._times[:rows])

    def times(self, start: int, stop: int) -> Mapping[str, list[float]]:
        """Return the columns of seconds of some rows, after ``count``: ``start`` and ``end`` of segments."""
        if self._segments is None:
            return {}
        starts, ends = zip(*self._times[start:stop], strict=True) if stop > start else ((), ())
        return {"start": list(starts), "end": list(ends)}
