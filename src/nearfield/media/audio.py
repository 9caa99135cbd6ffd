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
from nearfield.media.sound_decoding import MAX_RATE, MIN_RATE, Sound, convert_samples, decode_sound

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

    Raises:
        InputError: there is no sound or more than one, it has another type, or a rate is missing or not needed.
    """

    __slots__ = ("_rate", "_source")

    def __init__(
        self,
        source: SoundSource | None = None,
        *,
        rate: int | None = None,
        path: str | os.PathLike[str] | None = None,
        uri: str | None = None,
    ) -> None:
        values = [value for value in (source, path, uri) if value is not None]
        if len(values) != 1:
            raise InputError("Audio takes one of: a source, path= or uri=.", param="audio")
        self._source: Any = absolute_path(path) if path is not None else _checked_source(source, uri)
        self._rate: int | None = source._rate if isinstance(source, Audio) and rate is None else rate
        _check_rate(self._source, self._rate)

    @property
    def name(self) -> str:
        """What messages call it: the path of its file, or ``The sound``."""
        return str(self._source) if isinstance(self._source, Path) else "The sound"

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
            return convert_samples(source, int(self._rate or 0), rate, limits, self.name)
        if isinstance(source, Path):
            with open_regular_file(source, limits.max_bytes) as file:
                return decode_sound(file, rate, limits, self.name)
        if isinstance(source, str):
            source = decode_data_uri(source, limits.max_bytes)
        if len(source) > limits.max_bytes:
            raise TooLarge(f"{self.name} has {len(source):,} bytes. At most {limits.max_bytes:,} bytes are read.")
        return decode_sound(source, rate, limits, self.name)

    def __repr__(self) -> str:
        source = self._source
        if isinstance(source, Path):
            return f"Audio(path={str(source)!r})"
        if isinstance(source, np.ndarray):
            return f"Audio(<ndarray {list(source.shape)}>, rate={self._rate})"
        return f"Audio(<{type(source).__name__} {len(source):,}>)"


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
