"""`Audio`: a sound as an input, decoded when it is read. A text is never taken for the path of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, TooLarge
from nearfield.media.data_uri import decode_data_uri
from nearfield.media.files import absolute_path, open_regular_file
from nearfield.media.limits import SoundLimits
from nearfield.media.sound.sound_decoding import (
    MAX_RATE,
    MIN_RATE,
    WHOLE,
    Sound,
    SoundFileFormat,
    SoundHeader,
    SoundPart,
    check_sound,
    convert_samples,
    decode_sound,
    encode_sound,
    read_sound_header,
)
from nearfield.media.video.time_ranges import times_within

#: What a sound can be read from.
SoundSource: TypeAlias = "Audio | os.PathLike[str] | bytes | bytearray | memoryview | Array"
_DEFAULT_LIMITS = SoundLimits()


class Audio:
    """A sound as an input of a model. It is opened and decoded when it is encoded, not before.

    ``Audio(source)`` takes a ``pathlib.Path`` or the bytes of a file (WAV, FLAC, OGG with Vorbis or Opus, MP3, AIFF,
    and others). ``Audio(samples, rate=44100)`` takes an array [n] or [n, channels] of floats from -1 to 1, or of int16,
    int32 or uint8 over their full scale. ``Audio(path="dog.wav")`` takes a path as a string, and
    ``Audio(uri="data:audio/wav;base64,...")`` a data URI. A string alone is a text everywhere, and is refused here.

    Channels are mixed by their mean, and the sound is resampled to the rate of the model. Arrays are not copied: do not
    change them until they are encoded.

    Args:
        source: the sound.
        rate: samples a second of an array. Files say their own.
        path: the path of its file, in place of ``source``.
        uri: a data URI, in place of ``source``.
        start: the second at which the part begins that is read.
        end: the second before which it ends; by default that of the sound.

    Raises:
        InputError: there is no sound or more than one, it has another type, a rate is missing or not needed, or a
            number is wrong.
    """

    __slots__ = ("_part", "_rate", "_source")

    def __init__(
        self,
        source: SoundSource | None = None,
        *,
        rate: int | None = None,
        path: str | os.PathLike[str] | None = None,
        uri: str | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        values = [value for value in (source, path, uri) if value is not None]
        if len(values) != 1:
            raise InputError("Audio takes one of: a source, path= or uri=.", param="audio")
        self._source: Any = absolute_path(path) if path is not None else _checked_source(source, uri)
        self._rate: int | None = source._rate if isinstance(source, Audio) and rate is None else rate
        _check_rate(self._source, self._rate)
        outer: SoundPart = source._part if isinstance(source, Audio) else WHOLE
        self._part: SoundPart = SoundPart(outer.start if start is None else start, outer.end if end is None else end)

    @property
    def name(self) -> str:
        """What messages call it: the path of its file, or ``The sound``."""
        return str(self._source) if isinstance(self._source, Path) else "The sound"

    @property
    def start(self) -> float:
        """The second at which the part begins that is read."""
        return float(self._part.start)

    @property
    def end(self) -> float | None:
        """The second before which it ends, or None for the end of the sound."""
        return None if self._part.end is None else float(self._part.end)

    def header(self, limits: SoundLimits = _DEFAULT_LIMITS) -> SoundHeader:
        """Return rate, channels and length of the whole sound. It is decoded only if its file does not say its length.

        Raises:
            InputError: it cannot be read, and further errors as ``read`` raises them.
        """
        source = self._source
        if isinstance(source, np.ndarray):
            channels, rate = source.shape[1] if source.ndim > 1 else 1, int(self._rate or 0)
            check_sound(len(source), channels, rate, limits, self.name)
            return SoundHeader(rate, channels, len(source))
        if isinstance(source, Path):
            with open_regular_file(source, limits.max_bytes) as file:
                return read_sound_header(file, limits, self.name)
        return read_sound_header(self._bytes(limits), limits, self.name)

    def segments(self, seconds: float = 10.0, limits: SoundLimits = _DEFAULT_LIMITS) -> list[Audio]:
        """Return the parts of so many seconds from ``start`` to ``end``, each an Audio with its ``start`` and ``end``.

        What is left at the end is a shorter part; less than a tenth of a part belongs to the one before.

        Raises:
            InputError: ``seconds`` is not positive, or the sound cannot be read (see ``header``).
        """
        times = times_within(self.header(limits).seconds, self.start, self.end, seconds, "sound")
        return [type(self)(self, start=start, end=end) for start, end in times]

    def read(self, rate: int, limits: SoundLimits = _DEFAULT_LIMITS) -> Sound:
        """Return the decoded sound, mono, at ``rate`` samples a second.

        Raises:
            InputError: it does not exist, is no sound of a format that is read, is damaged or empty, or holds values
                that are no numbers.
            TooLarge: it has more bytes, seconds or channels than the limits.
            MissingExtra: soundfile or soxr is not installed.
        """
        source = self._source
        if isinstance(source, np.ndarray):
            source_rate = int(self._rate or 0)
            samples = source if source.ndim == 0 else source[slice(*self._part.samples(source_rate))]
            return convert_samples(samples, source_rate, rate, limits, self.name)
        if isinstance(source, Path):
            with open_regular_file(source, limits.max_bytes) as file:
                return decode_sound(file, rate, limits, self.name, self._part)
        return decode_sound(self._bytes(limits), rate, limits, self.name, self._part)

    def to_file(self, limits: SoundLimits = _DEFAULT_LIMITS, form: SoundFileFormat | None = None) -> bytes:
        """Return the bytes of a file of this sound: those of its file, or a WAV of float32 samples at their own rate.

        A part of a file becomes a WAV of its samples, mono. ``form`` is the format of what is written: ``OGG`` (Vorbis)
        is a tenth of a WAV or less. Where it is stated, a whole file is written again too.

        Raises:
            InputError: it cannot be read; a whole file is not decoded. Or there is no such format.
            TooLarge: it has more bytes, seconds or channels than the limits.
            MissingExtra: it is an array or a part, or has a ``form``, and soundfile is not installed.
        """
        source = self._source
        if isinstance(source, np.ndarray) or not self._part.is_whole or form is not None:
            rate = self._own_rate(limits)
            return encode_sound(self.read(rate, limits).samples, rate, form or "WAV")
        if isinstance(source, Path):
            with open_regular_file(source, limits.max_bytes) as file:
                return file.read(limits.max_bytes + 1)
        return self._bytes(limits)

    def _own_rate(self, limits: SoundLimits) -> int:
        """Return the samples a second of its array, or of its file."""
        return int(self._rate or 0) if isinstance(self._source, np.ndarray) else self.header(limits).rate

    def _bytes(self, limits: SoundLimits) -> bytes:
        """Return the bytes of its file, where they are not in one on the disk."""
        source = self._source
        data: bytes = decode_data_uri(source, limits.max_bytes) if isinstance(source, str) else source
        if len(data) > limits.max_bytes:
            raise TooLarge(f"{self.name} has {len(data):,} bytes. At most {limits.max_bytes:,} bytes are read.")
        return data

    def __repr__(self) -> str:
        source = self._source
        part = "".join(f", {name}={value:g}" for name, value in vars(self._part).items() if value)
        if isinstance(source, Path):
            return f"Audio(path={str(source)!r}{part})"
        if isinstance(source, np.ndarray):
            return f"Audio(<ndarray {list(source.shape)}>, rate={self._rate}{part})"
        return f"Audio(<{type(source).__name__} {len(source):,}>{part})"


def read_sound(source: SoundSource, rate: int, limits: SoundLimits = _DEFAULT_LIMITS) -> Sound:
    """Return the sound in a source, mono, at ``rate`` samples a second: see `Audio`, whose errors it raises."""
    return (source if isinstance(source, Audio) else Audio(source)).read(rate, limits)


def _checked_source(source: object, uri: object) -> Any:
    if uri is not None:
        if not isinstance(uri, str):
            raise InputError(f"uri must be a string, not {type(uri).__name__}.", param="uri")
        return uri
    if isinstance(source, Audio):
        return source._source
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, os.PathLike):
        return absolute_path(source)
    if isinstance(source, (bytes, np.ndarray)):
        return source
    hint = ". A string is a text: write Audio(path=...) or Audio(uri=...)" if isinstance(source, str) else ""
    raise InputError(
        f"A sound is a path, bytes or an array of samples with rate=, not {type(source).__name__}{hint}.", param="audio"
    )


def _check_rate(source: object, rate: object) -> None:
    if not isinstance(source, np.ndarray):
        if rate is not None:
            raise InputError("rate= is for arrays of samples: a file says its own rate.", param="rate")
        return
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        raise InputError(
            f"An array of samples needs rate=, samples a second, a whole number and not {rate!r}.", param="rate"
        )
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(f"rate is {rate:,}. Sounds have {MIN_RATE:,} to {MAX_RATE:,} samples a second.", param="rate")
