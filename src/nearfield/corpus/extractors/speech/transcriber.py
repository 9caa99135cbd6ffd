"""``Transcriber``: what is said in a block of sound, by faster-whisper."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from nearfield.arrays import Array
from nearfield.corpus.extractors.speech.speech_model import model_identity
from nearfield.errors import InputError, MissingExtra

#: Maximum number of threads. An index run embeds at the same time.
_MAX_THREADS = 4
#: Alternatives that are compared for each word.
_BEAM = 5
#: Randomness of the first attempt and of further ones, where the first repeats itself or is improbable.
_TEMPERATURES = (0.0, 0.3, 0.6)
#: Seconds of progress in a block after which the deadline begins again: those that Whisper reads at a time.
_WINDOW_SECONDS = 25.0


class SpeechSegment(msgspec.Struct, frozen=True):
    """A sentence or a part of one, said from ``start`` to ``end`` (seconds).

    ``log_probability`` is the mean of its tokens, ``no_speech`` the probability that there is no speech, and
    ``compression`` the length of the text relative to its compressed form: what repeats itself has a high one.
    """

    start: float
    end: float
    text: str
    log_probability: float = 0.0
    no_speech: float = 0.0
    compression: float = 1.0


class SpeechBlock(msgspec.Struct, frozen=True):
    """What is said in a block: its segments in order, and the code of its language."""

    segments: list[SpeechSegment] = []
    language: str = ""


class Transcriber(Protocol):
    """Recognises what is said. ``identity`` changes with everything that the results depend on, besides the samples."""

    identity: str

    def transcribe(self, samples: Array, language: str, on_window: Callable[[], None]) -> SpeechBlock:
        """Return what is said in samples, float32 [n] at 16,000 a second, with seconds from their start.

        Args:
            samples: the samples.
            language: the code of the language; empty to recognise it.
            on_window: called before parts that take long.

        Raises:
            InputError: the model does not know the language.
        """


class WhisperTranscriber:
    """A Whisper model in a folder."""

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            MissingExtra: faster-whisper is not installed.
            InputError: the folder has no model that CTranslate2 can load.
        """
        faster_whisper = _import_whisper()
        version = getattr(faster_whisper, "__version__", "")
        self.identity = f"faster-whisper {version} {model_identity(folder)} {_BEAM} {_TEMPERATURES}"
        self._name = folder.name
        try:
            self._model = faster_whisper.WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=_threads(), local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"The speech model in {folder} cannot be loaded: {error}", param="speech") from error

    def transcribe(self, samples: Array, language: str, on_window: Callable[[], None]) -> SpeechBlock:
        """Return what is said: see ``Transcriber``."""
        segments, info = self._model.transcribe(
            samples,
            language=self._language(language),
            beam_size=_BEAM,
            temperature=list(_TEMPERATURES),
            condition_on_previous_text=False,
            no_speech_threshold=None,
            vad_filter=True,
        )
        done, block = 0.0, list[SpeechSegment]()
        for segment in segments:
            if segment.end >= done + _WINDOW_SECONDS:
                done = segment.end
                on_window()
            block.append(
                SpeechSegment(
                    round(float(segment.start), 2),
                    round(float(segment.end), 2),
                    segment.text.strip(),
                    round(float(segment.avg_logprob), 3),
                    round(float(segment.no_speech_prob), 3),
                    round(float(segment.compression_ratio), 3),
                )
            )
        return SpeechBlock(block, info.language)

    def _language(self, language: str) -> str | None:
        """Return the code for Whisper, or None to recognise it."""
        known = self._model.supported_languages
        code = language.lower().partition("-")[0].partition("_")[0]
        if len(known) == 1:
            if code not in ("", *known):
                raise InputError(
                    f"The speech model {self._name} reads {known[0]} only, and the language of the collection is "
                    f"{language}: set 'speech' to a model of many languages, such as base.",
                    param="speech",
                )
            return str(known[0])
        return code if code in known else None


@lru_cache(maxsize=1)
def open_transcriber(folder: str) -> Transcriber:
    """Return the model in a folder; it stays loaded. Raises as ``WhisperTranscriber`` does."""
    return WhisperTranscriber(Path(folder))


def _threads() -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MAX_THREADS, count))


def _import_whisper() -> Any:
    try:
        import faster_whisper
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Transcripts need {error.name!r}: pip install 'nearfield[speech]'") from error
    return faster_whisper
