"""``SpeechReader``: the transcript of recordings for extractors, from the cache or recognised, and what it lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.recognition_cache import RecognitionCache
from nearfield.corpus.extractors.speech import require_speech, transcriber
from nearfield.corpus.extractors.speech.guards import SpeechGuard
from nearfield.corpus.extractors.speech.sound_blocks import Recording, SoundBlock, open_recording, track_losses
from nearfield.corpus.extractors.speech.transcriber import SpeechBlock, SpeechSegment
from nearfield.units import format_clock

#: Version of the blocks and of the options of recognition: a change makes cached blocks invalid.
_VERSION = 1
#: Share of the stated seconds that a complete file has, and seconds that it may lack in any case.
_COMPLETE, _SLACK = 0.98, 2.0


@dataclass(frozen=True)
class Transcript:
    """What is said in a recording of ``seconds``: segments with times from its start, and the languages of its blocks.

    ``losses`` are what was left out, or may be wrong. ``has_sound`` says whether there is a sound track.
    """

    segments: list[SpeechSegment]
    seconds: float
    languages: tuple[str, ...]
    losses: list[Loss]
    has_sound: bool = True


class SpeechReader:
    """Reads recordings. ``on_page`` is called before each block.

    Raises:
        MissingExtra: the packages of the extra ``speech`` are missing; ``name`` is the file that needs them.
    """

    def __init__(
        self, options: ExtractionOptions, on_page: Callable[[], None] = lambda: None, *, name: str = ""
    ) -> None:
        require_speech(name)
        self._options, self._on_page = options, on_page
        self._cache = RecognitionCache(Path(options.speech_cache) if options.speech_cache else None)

    def read(self, file: BinaryIO, name: str) -> Transcript:
        """Return the transcript of a file that is open at its start.

        Raises:
            InputError: it has no sound that can be decoded.
            TooLarge: it is too long.
        """
        recording = open_recording(file, name)
        guard, segments, languages, end = SpeechGuard(), list[SpeechSegment](), dict[str, None](), 0.0
        for block in self._blocks(recording):
            said = self._transcribed(block)
            end = block.end
            chosen = guard.choose(_shifted(said, block.start))
            segments += chosen
            languages |= dict.fromkeys([said.language] if chosen and said.language else [])
        losses = [*guard.losses(), *_file_losses(recording, end)]
        return Transcript(segments, end, tuple(languages), losses, bool(recording.track.names))

    def _blocks(self, recording: Recording) -> Iterator[SoundBlock]:
        self._on_page()
        for block in recording.blocks:
            yield block
            self._on_page()

    def _transcribed(self, block: SoundBlock) -> SpeechBlock:
        """Return what is said in a block, with seconds from its start."""
        model = transcriber.open_transcriber(self._options.speech)
        digest = hashlib.sha256(f"{_VERSION} {model.identity} {self._options.language}".encode())
        digest.update(block.samples.data)
        key = digest.hexdigest()
        cached = self._cache.get(key)
        if cached is not None:
            try:
                return msgspec.json.decode(cached, type=SpeechBlock)
            except msgspec.DecodeError:
                pass
        said = model.transcribe(block.samples, self._options.language, self._on_page)
        self._cache.put(key, msgspec.json.encode(said))
        return said


def _shifted(block: SpeechBlock, start: float) -> Iterator[SpeechSegment]:
    for segment in block.segments:
        yield msgspec.structs.replace(segment, start=segment.start + start, end=segment.end + start)


def _file_losses(recording: Recording, end: float) -> Iterator[Loss]:
    """Yield what a file has beside the sound that was read."""
    stated = max(recording.track.seconds, end / recording.share)
    if end < min(_COMPLETE * stated, stated - _SLACK):
        last, whole = format_clock(round(end)), format_clock(round(stated))
        yield Loss(
            f"what follows {last}: the file ends before the {whole} that its header states",
            advice="It may be damaged, or copied in part.",
        )
    yield from track_losses(recording.track)
