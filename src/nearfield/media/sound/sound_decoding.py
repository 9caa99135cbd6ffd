"""Decoding of sounds with libsndfile: mono samples at one rate, block by block."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from msgspec import convert

from nearfield.arrays import Array
from nearfield.errors import InputError, MissingExtra, NearfieldError, TooLarge
from nearfield.media.decoder_process.pool import DecoderJob, run_decoder
from nearfield.media.limits import SoundLimits, decode_memory, limit_values
from nearfield.media.sound.sound_formats import HEAD, SOUND_FORMATS, require_sound_format
from nearfield.media.video.time_ranges import check_range
from nearfield.message_text import escape_controls

#: Samples a second that a sound may have.
MIN_RATE, MAX_RATE = 100, 768_000
#: Values of a block: samples of all channels.
_BLOCK = 1 << 18
#: Samples that are written at a time.
_WRITTEN = 1 << 15
#: Formats of sounds that are written.
SoundFileFormat: TypeAlias = Literal["WAV", "OGG"]
#: Bytes that the child process takes beside a file and its samples, and seconds that a file may take there.
_OVERHEAD, _SECONDS = 2**28, 120.0
#: From here on, libsndfile does not know how many samples a file has.
_UNKNOWN = 1 << 60
#: Largest value that is taken for a sample without a warning, where 1 is full scale.
_LOUD = 64
_MAX_REASON = 200
#: Share of the samples that its header claims which a complete file has: the header of an MP3 may estimate.
_COMPLETE = 0.99
#: What libsndfile notes of a file that is shorter than its header says, and what writers of streams leave there.
_SIZE = re.compile(r"(?:size|riff|form|data) *: (\d+) \(should be (\d+)\)", re.IGNORECASE)
_STREAMED = (0, 2**32 - 1)


@dataclass(frozen=True, eq=False)
class Sound:
    """A decoded sound.

    Args:
        samples: float32 [n], the mean of all channels, where 1 is full scale.
        rate: samples a second.
        content: SHA-256 of the file's bytes, or of type, shape, rate and samples.
        format: ``"WAV"`` or another name of ``SOUND_FORMATS``; ``"samples"`` for arrays.
        warnings: what was not as it should be, such as the end of a file before its time.
    """

    samples: Array
    rate: int
    content: bytes
    format: str
    warnings: tuple[str, ...] = ()

    @cached_property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class SoundHeader:
    """What the file of a sound says of itself: samples a second, channels, and samples of each channel."""

    rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / self.rate


@dataclass(frozen=True)
class SoundPart:
    """The part of a sound from one second to another; None is its end.

    Raises:
        InputError: these are no such numbers.
    """

    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        check_range(self.start, self.end)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return not self.start and self.end is None

    def samples(self, rate: int) -> tuple[int, int | None]:
        """Return the first sample, and the one after the last."""
        return round(self.start * rate), None if self.end is None else round(self.end * rate)


#: All of a sound.
WHOLE = SoundPart()


def read_sound_header(source: bytes | BinaryIO, limits: SoundLimits, name: str) -> SoundHeader:
    """Return the header of a sound, which a child process reads. Where it does not say how long it is, that is counted.

    Raises as ``decode_sound`` does.
    """
    require_sound_format(source[:HEAD] if isinstance(source, bytes) else source.read(HEAD), name)
    job = DecoderJob("sound header", name, {"limits": limit_values(limits), "name": name}, _OVERHEAD, _SECONDS)
    return SoundHeader(**run_decoder(job, source).values)


def read_header_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return the fields of a header: what the child process does."""
    limits, name = convert(options["limits"], SoundLimits), options["name"]
    with _opened(file, limits, name) as (opened, claimed):
        count = claimed or sum(map(len, _Counted(_file_blocks(opened), opened.samplerate, limits, name)))
        return {"rate": opened.samplerate, "channels": opened.channels, "samples": count}, []


def decode_sound(source: bytes | BinaryIO, rate: int, limits: SoundLimits, name: str, part: SoundPart = WHOLE) -> Sound:
    """Return the sound in the bytes of a file, or in a regular file that is open, at ``rate`` samples a second.

    It is decoded in a child process: one that a damaged file crashes is no loss.

    Raises:
        InputError: it is no sound of a format that is read, is damaged or empty, or holds values that are no numbers.
            ``name`` begins the message.
        TooLarge: it is longer, or has more channels, than the limits.
        MissingExtra: soundfile or soxr is not installed.
    """
    require_sound_format(source[:HEAD] if isinstance(source, bytes) else source.read(HEAD), name)
    seconds = limits.max_seconds if part.end is None else min(limits.max_seconds, part.end - part.start)
    memory = 12 * int(seconds * rate) + (3 * len(source) if isinstance(source, bytes) else 0) + _OVERHEAD
    options = {"limits": limit_values(limits), "name": name, "rate": rate, "part": [part.start, part.end]}
    result = run_decoder(DecoderJob("sound", name, options, memory, _SECONDS), source)
    return Sound(result.arrays[0], **{**result.values, "warnings": tuple(result.values["warnings"])})


def decode_sound_task(file: BinaryIO, options: dict[str, Any]) -> tuple[dict[str, Any], list[Array]]:
    """Return fields and samples of the sound in a file: what the child process does."""
    limits, part = convert(options["limits"], SoundLimits), SoundPart(*options["part"])
    sound = decode_sound_here(file, options["rate"], limits, options["name"], part)
    values = {"rate": sound.rate, "content": sound.content, "format": sound.format, "warnings": list(sound.warnings)}
    return values, [sound.samples]


def decode_sound_here(file: BinaryIO, rate: int, limits: SoundLimits, name: str, part: SoundPart = WHOLE) -> Sound:
    """Decode a file that can seek in this process; otherwise as ``decode_sound``."""
    kind = require_sound_format(file.read(HEAD), name)
    name = name if part.is_whole else f"{name} from {part.start:g} s on"
    with _opened(file, limits, name) as (opened, claimed):
        first, last = part.samples(opened.samplerate)
        expected = max(0, (claimed if last is None else min(claimed, last)) - first)
        start = opened.seek(first) if first and opened.seekable() and first <= claimed else 0
        blocks = _range_of(_file_blocks(opened), first - start, None if last is None else last - start)
        counted = _Counted(blocks, opened.samplerate, limits, name)
        samples = _mixed(counted, expected, opened.samplerate, rate)
        is_cut = last is None and _lacks_bytes(opened.extra_info)
    is_cut = is_cut or counted.count < _COMPLETE * expected
    ends = [f"it ends before its header says: after {counted.count:,} samples"] if is_cut else []
    # Of a part, the samples identify it: to read all of a long file for each of its parts would take longer than them.
    content = _digest(file) if part.is_whole else hashlib.sha256(b"part %d " % rate + samples.tobytes()).digest()
    return Sound(samples, rate, content, kind, (*counted.warnings, *ends))


@contextmanager
def _opened(file: BinaryIO, limits: SoundLimits, name: str) -> Iterator[tuple[Any, int]]:
    """Open a file with libsndfile; also yield the samples of each channel that it claims, 0 if it does not say."""
    file.seek(0)
    kind = require_sound_format(file.read(HEAD), name)
    file.seek(0)
    with _own_errors(name, kind), require_media_module("soundfile").SoundFile(_Bounded(file)) as opened:
        if opened.format.replace("WAVEX", "WAV") not in SOUND_FORMATS:
            raise InputError(f"{name} is {opened.format}. Sounds are read from {', '.join(SOUND_FORMATS)}: convert it.")
        claimed = opened.frames if opened.frames < _UNKNOWN else 0
        check_sound(claimed, opened.channels, opened.samplerate, limits, name)
        yield opened, claimed


def convert_samples(array: Array, source_rate: int, rate: int, limits: SoundLimits, name: str) -> Sound:
    """Return the sound of samples [n] or [n, channels] at ``rate`` samples a second.

    Whole numbers are divided by their type's full scale; those of type uint8 have their zero at 128.

    Raises:
        InputError: they have another type or shape, or are empty or not finite.
        TooLarge: they are longer, or have more channels, than the limits.
        MissingExtra: soxr is not installed.
    """
    if array.dtype.kind not in "fiu" or (array.dtype.kind == "u" and array.dtype.itemsize > 1):
        raise InputError(f"{name} has samples of type {array.dtype}: pass float32, int16, int32 or uint8.")
    if array.ndim not in (1, 2):
        raise InputError(f"{name} has the shape {list(array.shape)}: samples are [n] or [n, channels].")
    channels = array.shape[1] if array.ndim == 2 else 1
    if channels > limits.max_channels and len(array) <= limits.max_channels:
        raise InputError(f"{name} has the shape {list(array.shape)}: samples are [n, channels], so transpose them.")
    check_sound(len(array), channels, source_rate, limits, name)
    digest = hashlib.sha256(f"samples {array.dtype.str} {array.shape} {source_rate} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    counted = _Counted(_array_blocks(array.reshape(len(array), channels)), source_rate, limits, name)
    samples = _mixed(counted, len(array), source_rate, rate)
    return Sound(samples, rate, digest.digest(), "samples", tuple(counted.warnings))


def encode_wav(samples: Array, rate: int) -> bytes:
    """Return the bytes of a WAV file of float32 samples [n], ``rate`` a second: decoded, they have the same bits.

    Raises:
        MissingExtra: soundfile is not installed.
    """
    file = io.BytesIO()
    require_media_module("soundfile").write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def encode_sound(samples: Array, rate: int, form: SoundFileFormat) -> bytes:
    """Return the bytes of a file of float32 samples [n], ``rate`` a second: a WAV of floats, or an OGG (Vorbis).

    Raises:
        InputError: there is no such format, or it has no such rate.
        MissingExtra: soundfile is not installed.
    """
    if form == "WAV":
        return encode_wav(samples, rate)
    if form != "OGG":
        raise InputError(f"A sound is written as WAV or OGG, not {form!r}.", param="form")
    soundfile, file = require_media_module("soundfile"), io.BytesIO()
    try:
        with soundfile.SoundFile(file, "w", rate, 1, format="OGG", subtype="VORBIS") as opened:
            for start in range(0, len(samples), _WRITTEN):  # its encoder takes its stack for all of them
                opened.write(samples[start : start + _WRITTEN])
    except soundfile.LibsndfileError as error:
        raise InputError(f"An OGG file cannot have {rate:,} samples a second: write a WAV.", param="form") from error
    return file.getvalue()


def check_sound(count: int, channels: int, rate: int, limits: SoundLimits, name: str) -> None:
    """Raise InputError or TooLarge if a header claims what is not read; ``count`` is 0 if it does not say."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(f"{name} has {rate:,} samples a second. Sounds have {MIN_RATE:,} to {MAX_RATE:,}.")
    if channels < 1:
        raise InputError(f"{name} has no channels.")
    if channels > limits.max_channels:
        raise TooLarge(f"{name} has {channels:,} channels. At most {limits.max_channels:,} are read: mix it down.")
    if count > limits.max_seconds * rate:
        raise TooLarge(
            f"{name} has {count:,} samples, or {count / rate:,.0f} seconds. At most {limits.max_seconds:,} seconds are "
            "read: cut it."
        )


def require_media_module(library: str) -> Any:
    """Return a module of the extra ``media``.

    Raises:
        MissingExtra: it is not installed, or its shared library is missing.
    """
    try:
        return import_module(library)
    except (ImportError, OSError) as error:
        raise MissingExtra(f"Sounds need {library}: pip install 'nearfield[media]'") from error


class _Counted:
    """Blocks of samples [n, channels], checked: values are finite, and the sound is no longer than the limits."""

    def __init__(self, blocks: Iterable[Array], rate: int, limits: SoundLimits, name: str) -> None:
        self.count = 0
        self.warnings: list[str] = []
        self._blocks, self._rate, self._limits, self._name = blocks, rate, limits, name

    def __iter__(self) -> Iterator[Array]:
        loudest = 0.0
        for block in self._blocks:
            loudest = max(loudest, self._require_finite(block))
            self.count += len(block)
            check_sound(self.count, block.shape[1], self._rate, self._limits, self._name)
            yield block
        if not self.count:
            raise InputError(f"{self._name} has no samples.")
        if loudest > _LOUD:
            self.warnings.append(f"its samples reach {loudest:,.0f}, where 1 is full scale")

    def _require_finite(self, block: Array) -> float:
        loudest = float(np.abs(block).max(initial=0))
        if not math.isfinite(loudest * block.shape[1]) or loudest > np.finfo(np.float32).max / 256:
            at = self.count + int(np.argmax(~(np.abs(block).max(1) < np.finfo(np.float32).max / 256)))
            raise InputError(f"{self._name} has a value that is no number, or not finite, at sample {at:,}.")
        return loudest


def _lacks_bytes(log: str) -> bool:
    """Return whether a header states more bytes than the file has, by libsndfile's notes."""
    sizes = [(int(stated), int(real)) for stated, real in _SIZE.findall(log)]
    return any(stated > real and stated not in _STREAMED for stated, real in sizes)


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while part := file.read(_BLOCK):
        digest.update(part)
    file.seek(0)
    return digest.digest()


def _file_blocks(opened: Any) -> Iterator[Array]:
    size = max(1, _BLOCK // opened.channels)
    while len(block := opened.read(size, dtype="float32", always_2d=True)):
        yield block


def _range_of(blocks: Iterable[Array], first: int, last: int | None) -> Iterator[Array]:
    """Yield the samples from the first to before the last one."""
    start = 0
    for block in blocks:
        if last is not None and start >= last:
            return
        within = block[max(0, first - start) : None if last is None else last - start]
        start += len(block)
        if len(within):
            yield within


def _array_blocks(array: Array) -> Iterator[Array]:
    size = max(1, _BLOCK // array.shape[1])
    scale = 1.0 if array.dtype.kind == "f" else 2.0 ** (1 - 8 * array.dtype.itemsize)
    zero = 128.0 if array.dtype.kind == "u" else 0.0
    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        for start in range(0, len(array), size):
            block = array[start : start + size]
            yield (block if scale == 1 else (block - zero) * scale).astype(np.float32)


def _mixed(blocks: Iterable[Array], claimed: int, source_rate: int, rate: int) -> Array:
    """Return the mean of all channels at ``rate``, float32 [ceil(n x rate / source_rate)], as librosa does it."""
    with decode_memory().reserve(4 * math.ceil(claimed * rate / source_rate) + 16 * _BLOCK):
        if rate == source_rate:
            return np.concatenate([_mono(block) for block in blocks])
        parts, count = [], 0
        stream = require_media_module("soxr").ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
        for block in blocks:
            parts.append(stream.resample_chunk(_mono(block)))
            count += len(block)
        samples = np.concatenate([*parts, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
        length = -(-count * rate // source_rate)
        return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _mono(block: Array) -> Array:
    return np.ascontiguousarray(block[:, 0] if block.shape[1] == 1 else block.mean(1), np.float32)


class _Bounded(io.RawIOBase):
    """A file in which a damaged header cannot make the decoder seek to a place that does not exist."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._size}[whence]
        return self._file.seek(min(max(0, start + offset), self._size))

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def _own_errors(name: str, kind: str) -> Iterator[None]:
    """Raise errors of ours in place of those of libsndfile and soxr, which damaged files cause."""
    try:
        yield
    except NearfieldError:
        raise
    except MemoryError as error:
        raise TooLarge(f"{name} needs more memory to decode than there is.") from error
    except Exception as error:  # libsndfile's wrapper raises RuntimeError, OSError, TypeError and others
        reason = escape_controls(str(getattr(error, "error_string", error))).rstrip(".")[:_MAX_REASON]
        raise InputError(f"{name} cannot be decoded as {kind}: {reason or type(error).__name__}.") from error
