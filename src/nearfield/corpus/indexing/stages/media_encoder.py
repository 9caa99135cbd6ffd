"""``MediaEncoder``: the vectors of segments of media, in order, with a reason for each that cannot be decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearfield.corpus.document import MediaContent
from nearfield.corpus.extractors.media.inputs import open_segment
from nearfield.corpus.extractors.media.settings import SegmentSettings
from nearfield.corpus.features import EncodePass, Feature
from nearfield.corpus.indexing.stages.chunk_encoder import INPUT_ERRORS, ChunkEncoder, ChunkVectors
from nearfield.errors import InputError
from nearfield.media.video.time_ranges import FramePlace
from nearfield.media.video.video import Video

#: Inputs that are decoded together.
_WINDOW = 32


@dataclass(frozen=True)
class MediaInput:
    """A chunk that a model reads: its text, or the part of a media file that its payload names."""

    text: str
    payload: Mapping[str, Any]
    media: MediaContent | None
    settings: SegmentSettings

    def open(self) -> Any:
        """Return the input for the model.

        Raises:
            InputError: the file has changed, or is not there.
        """
        if "kind" not in self.payload:
            return self.text
        if self.media is None:
            raise InputError("the file is not listed by any source.")
        return open_segment(self.media, self.payload, self.settings)


@dataclass(frozen=True)
class EncodedSegment:
    """The vectors of a chunk, and of a part of a video the frames that they come from."""

    vectors: ChunkVectors
    frames: tuple[FramePlace, ...] = ()


#: The vectors of a chunk, or the reason why it has none.
SegmentResult = EncodedSegment | str


class MediaEncoder(ChunkEncoder):
    """Encodes segments of media, and texts where the same feature reads them too."""

    def __init__(self, encode_pass: EncodePass, features: Sequence[Feature]) -> None:
        super().__init__(encode_pass, features, late=False)

    def results(self, inputs: Sequence[MediaInput]) -> list[SegmentResult]:
        """Return the vectors of inputs in order, or the reason why one has none, whatever the model refuses."""
        try:
            return self._encode_all(inputs)
        except INPUT_ERRORS:
            return [self._encode_one(item) for item in inputs]

    def _encode_all(self, inputs: Iterable[MediaInput]) -> list[SegmentResult]:
        return [result for window in self.stream_media(inputs) for result in window]

    def _encode_one(self, item: MediaInput) -> SegmentResult:
        try:
            return self._encode_all([item])[0]
        except INPUT_ERRORS as error:
            return str(error)

    def stream_media(self, inputs: Iterable[MediaInput]) -> Iterator[list[SegmentResult]]:
        """Yield the vectors of inputs in order, or in their place the reason why there are none.

        Raises:
            InputError, ExecutionFailed: the model refuses an input for another reason than that it cannot be decoded.
        """
        results = _OrderedResults()
        options = dict(self._options)
        if getattr(self._encoder, "engine", None) is not None:  # a server names no inputs: each is tried alone then
            options["on_refused"] = results.refuse
        stream = self._encoder.stream(results.opened(inputs), window=_WINDOW, role="document", **options)
        for outputs in stream:
            yield results.take(self._rows(outputs))
        yield results.take(())


class _OrderedResults:
    """Joins rows of vectors with the errors of inputs that have none."""

    def __init__(self) -> None:
        #: For each input in order: why it cannot be opened, or None if the model has got it.
        self._order: deque[str | None] = deque()
        #: The inputs that the model has got, and whose results are awaited.
        self._values: deque[Any] = deque()
        #: Why inputs cannot be decoded, by their numbers among those that the model has got.
        self._refused: dict[int, str] = {}
        self._number = 0

    def opened(self, inputs: Iterable[MediaInput]) -> Iterator[Any]:
        for item in inputs:
            try:
                value = item.open()
            except InputError as error:
                self._order.append(str(error))
                continue
            self._order.append(None)
            self._values.append(value)
            yield value

    def refuse(self, number: int, error: InputError) -> None:
        self._refused[number] = str(error)

    def take(self, rows: Iterable[ChunkVectors]) -> list[SegmentResult]:
        """Return the results up to the last of these rows, and the errors that follow it."""
        waiting, results = deque(rows), list[SegmentResult]()
        while self._order:
            error, value = self._order[0], None
            if error is None:
                error = self._refused.pop(self._number, None)
                if error is None and not waiting:
                    break
                self._number += 1
                value = self._values.popleft()
            self._order.popleft()
            results.append(EncodedSegment(waiting.popleft(), _frames_of(value)) if error is None else error)
        return results


def _frames_of(value: object) -> tuple[FramePlace, ...]:
    return value.frames_read if isinstance(value, Video) else ()
