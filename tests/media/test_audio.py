"""Sounds from files, bytes, data URIs and arrays: samples against soundfile and soxr, digests, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError, TooLarge
from nearfield.media.audio import Audio, read_sound
from nearfield.media.limits import SoundLimits
from nearfield.media.sound.sound_decoding import decode_sound_here
from nearfield.media.sound.sound_formats import SOUND_FORMATS

soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")


def tone(seconds: float, rate: int, channels: int = 1) -> Any:
    """Return a chord with noise, another in each channel, float64 [n, channels]."""
    time = np.arange(int(seconds * rate))[:, None] / rate
    noise = 0.05 * np.random.default_rng(1).standard_normal((len(time), channels))
    return 0.3 * np.sin(2 * np.pi * 220 * (1 + np.arange(channels)) * time) + noise


def written(samples: Any, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """Return the bytes of a file that soundfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def reference(data: bytes, rate: int) -> Any:
    """Return what librosa.load does: read whole, mean of channels, soxr HQ, length rounded up."""
    samples, source_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono = samples.mean(1)
    length = int(np.ceil(len(mono) * rate / source_rate))
    whole = soxr.resample(mono, source_rate, rate, quality="HQ") if source_rate != rate else mono
    return np.pad(whole[:length], (0, max(0, length - len(whole))))


SUBTYPES = [
    (kind, subtype)
    for kind in SOUND_FORMATS
    for subtype in soundfile.available_subtypes(kind)
    # What libsndfile reads, and cannot write to memory.
    if not subtype.startswith(("DWVW", "MPEG_LAYER_I")) or (kind, subtype) == ("MP3", "MPEG_LAYER_III")
]


@pytest.mark.parametrize(("kind", "subtype"), SUBTYPES)
def test_each_format(kind: str, subtype: str) -> None:
    rate = 8000 if subtype in ("GSM610", "G721_32", "G723_24", "G723_40", "NMS_ADPCM_16", "NMS_ADPCM_24") else 48_000
    rate = 8000 if subtype.startswith("NMS") else rate
    mono = rate == 8000
    data = written(tone(1.3, rate, 1 if mono else 2), rate, kind, subtype)
    sound = read_sound(data, 48_000)
    assert sound.rate == 48_000
    assert sound.samples.dtype == np.float32
    assert sound.warnings == ()
    np.testing.assert_array_equal(sound.samples, reference(data, 48_000))


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rates_and_channels(rate: int, channels: int) -> None:
    data = written(tone(7.013, rate, channels), rate, "FLAC")
    sound = read_sound(data, 48_000)
    np.testing.assert_array_equal(sound.samples, reference(data, 48_000))
    assert sound.content == hashlib.sha256(data).digest()
    assert sound.seconds == pytest.approx(7.013, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 480, 48_001])
@pytest.mark.parametrize("rate", [100, 8000, 48_000, 768_000])
def test_short_sounds(count: int, rate: int) -> None:
    samples = np.linspace(-0.5, 0.5, count).astype(np.float32)
    sound = read_sound(Audio(samples, rate=rate), 48_000)
    assert len(sound.samples) == -(-count * 48_000 // rate)
    assert np.isfinite(sound.samples).all()


def test_silence() -> None:
    sound = read_sound(written(np.zeros((44_100, 2)), 44_100), 48_000)
    np.testing.assert_array_equal(sound.samples, np.zeros(48_000))


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"), [("int16", 2**15, 0), ("int32", 2**31, 0), ("uint8", 128, 128), ("int8", 128, 0)]
)
def test_whole_numbers_are_divided_by_their_full_scale(dtype: str, scale: int, zero: int) -> None:
    values = np.array([[zero, zero - scale // 2], [zero + scale // 4, zero]], dtype)
    sound = read_sound(Audio(values, rate=48_000), 48_000)
    np.testing.assert_array_equal(sound.samples, np.array([-0.25, 0.125], np.float32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_as_they_are(dtype: str) -> None:
    samples = tone(0.2, 48_000, 3).astype(dtype)
    sound = read_sound(Audio(samples, rate=48_000), 48_000)
    np.testing.assert_array_equal(sound.samples, samples.astype(np.float32).mean(1))


def test_sources(tmp_path: Path) -> None:
    data = written(tone(0.5, 16_000), 16_000)
    path = tmp_path / "dog.wav"
    path.write_bytes(data)
    uri = "data:audio/wav;base64," + base64.b64encode(data).decode()
    sources = [
        Audio(path),
        Audio(path=str(path)),
        Audio(data),
        Audio(bytearray(data)),
        Audio(uri=uri),
        Audio(Audio(path)),
    ]
    sources += [pickle.loads(pickle.dumps(source)) for source in sources]
    sounds = [source.read(48_000) for source in sources]
    assert len({sound.content for sound in sounds}) == 1
    assert len({sound.samples.tobytes() for sound in sounds}) == 1
    assert repr(Audio(path)) == f"Audio(path={str(path)!r})"
    assert repr(Audio(np.zeros(4), rate=100)) == "Audio(<ndarray [4]>, rate=100)"


def test_digests_tell_arrays_apart() -> None:
    samples = np.zeros(100, np.float32)
    kinds = [(samples, 8000), (samples, 16_000), (samples[:50], 8000), (samples.reshape(50, 2), 8000)]
    kinds += [(samples.astype(np.int32), 8000), (samples + 1, 8000)]
    assert len({read_sound(Audio(array, rate=rate), 48_000).content for array, rate in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "MP3"])
def test_a_file_that_ends_early_is_read_with_a_warning(kind: str) -> None:
    data = written(tone(4, 48_000), 48_000, kind)
    sound = read_sound(data[: len(data) - len(data) // 20], 48_000)
    assert 0.9 * 192_000 < len(sound.samples) < 0.96 * 192_000
    assert sound.warnings == (f"it ends before its header says: after {len(sound.samples):,} samples",)


def test_a_damaged_flac_is_refused() -> None:
    with pytest.raises(InputError, match="lost sync"):
        read_sound(written(tone(4, 48_000), 48_000, "FLAC")[:-1000], 48_000)


def _wav(rate: int, channels: int, claimed: int, data: bytes) -> bytes:
    """Return a WAV of float32 with any header: ``claimed`` bytes of samples."""
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, channels, rate, rate * channels * 4 & 0xFFFFFFFF, channels * 4, 32)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", claimed & 0xFFFFFFFF) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _flac(claimed: int, rate: int = 48_000) -> bytes:
    """Return a FLAC file whose header claims a number of samples (36 bits: RFC 9639, section 8.2)."""
    data = bytearray(written(tone(0.5, rate), rate, "FLAC"))
    packed = int.from_bytes(data[18:26], "big")
    data[18:26] = (packed >> 36 << 36 | claimed).to_bytes(8, "big")
    return bytes(data)


FLOATS = np.zeros(4000, np.float32)
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "empty": (b"", InputError, r"empty \(0 bytes\)"),
    "text": (b"hello, this is no sound at all, really", InputError, "no known sound"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(60), InputError, r"a picture \(JPEG\)"),
    "M4A": (b"\0\0\0\x20ftypM4A " + bytes(60), InputError, "an MP4 or M4A file"),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(60), InputError, "WebM"),
    "header alone": (written(tone(0.1, 8000), 8000)[:20], InputError, "cannot be decoded as WAV"),
    "no samples": (written(np.zeros((0, 1)), 8000), InputError, "no samples"),
    "damaged FLAC": (b"fLaC" + bytes(range(256)), InputError, "cannot be decoded as FLAC"),
    "damaged OGG": (b"OggS" + bytes(range(256)), InputError, "cannot be decoded as OGG"),
    "damaged MP3": (b"ID3" + bytes(range(256)), InputError, "cannot be decoded as MP3"),
    "1 Hz": (_wav(1, 1, 16_000, FLOATS.tobytes()), InputError, "1 samples a second"),
    "1 MHz": (_wav(1_000_000, 1, 16_000, FLOATS.tobytes()), InputError, "1,000,000 samples a second"),
    "24 channels": (written(np.zeros((100, 24)), 8000), TooLarge, "24 channels"),
    "2^36 samples": (_flac(2**36 - 1), TooLarge, "68,719,476,735 samples"),
    "over an hour": (_flac(48_000 * 3600 + 1), TooLarge, "At most 3,600 seconds"),
    "NaN": (
        _wav(8000, 1, 16_000, np.where(np.arange(4000) == 77, np.nan, 0).astype("<f4").tobytes()),
        InputError,
        "at sample 77",
    ),
    "infinite": (
        _wav(8000, 2, 16_000, np.where(np.arange(4000) == 77, -np.inf, 0).astype("<f4").tobytes()),
        InputError,
        "at sample 38",
    ),
    "NaN in an array": (Audio(np.array([0, np.nan]), rate=8000), InputError, "at sample 1"),
    "overflow": (Audio(np.array([0, 1e300]), rate=8000), InputError, "at sample 1"),
    "empty array": (Audio(np.zeros(0), rate=8000), InputError, "no samples"),
    "no channels": (Audio(np.zeros((9, 0)), rate=8000), InputError, "no channels"),
    "channels first": (Audio(np.zeros((2, 9000)), rate=8000), InputError, "transpose"),
    "three axes": (Audio(np.zeros((2, 2, 2)), rate=8000), InputError, "shape"),
    "complex": (Audio(np.zeros(9, np.complex64), rate=8000), InputError, "type complex64"),
    "uint16": (Audio(np.zeros(9, np.uint16), rate=8000), InputError, "type uint16"),
    "long array": (Audio(np.zeros(360_100, np.int8), rate=100), TooLarge, "At most 3,600 seconds"),
    "no file": (Path("/nonexistent/dog.wav"), InputError, "dog.wav cannot be read"),
    "bad base64": (Audio(uri="data:audio/wav;base64,%%%"), InputError, "not base64"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    source, error, message = BAD[name]
    with pytest.raises(error, match=message):
        read_sound(source, 48_000)
    assert capfd.readouterr().err == ""


def test_a_header_that_claims_an_hour_costs_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(InputError, match="cannot be decoded as FLAC"):
        decode_sound_here(io.BytesIO(_flac(48_000 * 3600)), 48_000, SoundLimits(), "It")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_wav_that_claims_more_than_it_has_is_read_to_its_end() -> None:
    sound = read_sound(_wav(8000, 1, 2**32 - 1, FLOATS.tobytes()), 48_000)
    assert len(sound.samples) == 24_000


def test_limits() -> None:
    data = written(tone(2, 8000, 3), 8000)
    for limits in (SoundLimits(max_bytes=999), SoundLimits(max_seconds=1), SoundLimits(max_channels=2)):
        with pytest.raises(TooLarge):
            read_sound(data, 48_000, limits)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InputError, match="max_seconds"):
            SoundLimits(max_seconds=wrong)  # type: ignore[arg-type]


def test_loud_samples_are_read_with_a_warning() -> None:
    sound = read_sound(Audio(np.array([0.0, 20_000.0]), rate=48_000), 48_000)
    assert sound.warnings == ("its samples reach 20,000, where 1 is full scale",)


def test_devices_and_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match=r"regular|directory"):
            read_sound(path, 48_000)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "takes one of"),
        ({"source": b"x", "path": "y"}, "takes one of"),
        ({"source": "dog.wav"}, r"write Audio\(path="),
        ({"source": 7}, "not int"),
        ({"source": np.zeros(4)}, "needs rate="),
        ({"source": np.zeros(4), "rate": 1.5}, "needs rate="),
        ({"source": np.zeros(4), "rate": 1}, "rate is 1"),
        ({"source": b"x", "rate": 8000}, "a file says its own rate"),
        ({"uri": 7}, "uri must be a string"),
        ({"path": "a\0b"}, "cannot be read"),
    ],
)
def test_arguments(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Audio(**keywords).read(48_000)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """The process that decodes has the import path of its parent."""
    (tmp_path / "soundfile.py").write_text("raise ModuleNotFoundError")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from nearfield.media.audio import Audio\n"
        "try: Audio(b'fLaC' + bytes(99)).read(48000)\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "Sounds need soundfile: pip install 'nearfield[media]'\n"


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "GSM610"])
def test_a_part_is_that_of_the_whole_sound(kind: str) -> None:
    rate = 8000 if kind == "GSM610" else 44_100  # libsndfile finds no place in GSM
    form, subtype = ("WAV", kind) if kind == "GSM610" else (kind, None)
    data = written(tone(3.3, rate, 1 if subtype else 2), rate, form, subtype)
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    for start, end in ((0, 1), (1.25, 2.5), (3, None), (2, 9)):
        first, last = round(start * rate), None if end is None else round(end * rate)
        expected = read_sound(Audio(samples[first:last], rate=rate), 48_000)
        for source in (Audio(data, start=start, end=end), Audio(samples, rate=rate, start=start, end=end)):
            np.testing.assert_array_equal(read_sound(source, 48_000).samples, expected.samples)


def test_segments_of_a_sound() -> None:
    data = written(tone(2.55, 8000), 8000)
    whole = Audio(data)
    header = whole.header()
    assert (header.rate, header.channels, header.seconds) == (8000, 1, 2.55)
    parts = whole.segments(1)
    assert [(part.start, part.end) for part in parts] == [(0, 1), (1, 2), (2, 2.55)]
    assert [(part.start, part.end) for part in Audio(data, start=1, end=2.05).segments(0.5)] == [(1, 1.5), (1.5, 2.05)]
    contents = {read_sound(part, 8000).content for part in (whole, *parts, pickle.loads(pickle.dumps(parts[0])))}
    assert len(contents) == 4
    assert repr(Audio(path="a.wav", start=1.5, end=2)).endswith("a.wav', start=1.5, end=2)")
    for wrong in ({"start": -1}, {"start": "x"}, {"start": 2, "end": 1}, {"end": "2"}, {"end": 0}):
        with pytest.raises(InputError, match=next(reversed(wrong))):
            Audio(data, **wrong)
    with pytest.raises(InputError, match="from 3 s on has no samples"):
        read_sound(Audio(data, start=3), 8000)
    with pytest.raises(InputError, match=r"the sound ends at 2\.55 s"):
        Audio(data, start=3).segments()
