"""Sounds and videos with tones at known times, in every format that is read, and a transcriber that names the tones."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.corpus.extractors import recording, speech
from nearfield.corpus.extractors.speech import transcriber
from nearfield.corpus.extractors.speech.transcriber import SpeechBlock, SpeechSegment
from nearfield.corpus.indexing import workers
from nearfield.media.sound.sound_decoding import encode_sound

RATE = 16_000
#: By suffix: the muxer and the encoder of the sound.
FORMATS = {
    ".wav": ("wav", "pcm_s16le"),
    ".flac": ("flac", "flac"),
    ".ogg": ("ogg", "vorbis"),
    ".opus": ("ogg", "libopus"),
    ".mp3": ("mp3", "libmp3lame"),
    ".aiff": ("aiff", "pcm_s16be"),
    ".m4a": ("ipod", "aac"),
    ".aac": ("adts", "aac"),
    ".mp4": ("mp4", "aac"),
    ".mov": ("mov", "aac"),
    ".mkv": ("matroska", "libopus"),
    ".webm": ("webm", "libopus"),
    ".avi": ("avi", "libmp3lame"),
}
_VIDEOS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx", ".avi": "mjpeg"}
#: Words by their pitch in hertz.
PITCHES = {"alpha": 400, "bravo": 700, "charlie": 1000, "delta": 1300, "echo": 1600, "foxtrot": 1900}
#: A word, its start and its end in seconds.
Tone = tuple[str, float, float]


def sound_of(tones: Sequence[Tone], seconds: float) -> Array:
    """Return samples, float32 [n] at ``RATE``, silent but for the tones."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    for word, start, end in tones:
        times = np.arange(round((end - start) * RATE)) / RATE
        samples[round(start * RATE) : round(start * RATE) + len(times)] = 0.4 * np.sin(
            2 * np.pi * PITCHES[word] * times
        )
    return samples


def _av() -> Any:
    return import_module("av")


def write_recording(samples: Array, suffix: str, tracks: int = 1) -> bytes:
    """Return the bytes of a file with the samples; a video has pictures too."""
    form, codec = FORMATS[suffix]
    if codec == "vorbis":  # PyAV has no encoder of it
        return encode_sound(samples, RATE, "OGG")
    file = io.BytesIO()
    rate = 48_000 if codec == "libopus" else 44_100
    with _av().open(file, "w", format=form) as container:
        video = add_video(container, _VIDEOS[suffix]) if suffix in _VIDEOS else None
        streams = [container.add_stream(codec, rate=rate, layout="mono") for _ in range(tracks)]
        if video is not None:
            write_pictures(container, video, len(samples) / RATE)
        for stream in streams:
            _write_sound(container, stream, samples)
    return file.getvalue()


def _write_sound(container: Any, stream: Any, samples: Array) -> None:
    av = _av()
    resampler = av.AudioResampler(stream.format, "mono", stream.rate, stream.codec_context.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    for part in (frame, None):
        for resampled in resampler.resample(part):
            container.mux(stream.encode(resampled))
    container.mux(stream.encode(None))


def add_video(container: Any, codec: str = "libx264") -> Any:
    """Add a stream of two small pictures a second to a file."""
    stream = container.add_stream(codec, rate=2)
    stream.width, stream.height = 64, 48
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return stream


def write_pictures(container: Any, stream: Any, seconds: float) -> None:
    """Write the pictures of so many seconds."""
    for number in range(max(1, round(2 * seconds))):
        frame = _av().VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_wav(samples: Array) -> bytes:
    """Return the bytes of a WAV file of 16 bits, written without a library."""
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(RATE)
        opened.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


@dataclass
class ToneTranscriber:
    """Stands for Whisper: a segment for each stretch of a tenth of a second and more with one tone, with its word."""

    identity: str = "tones"
    calls: list[tuple[float, str]] = field(default_factory=list)

    def transcribe(self, samples: Array, language: str, on_window: Callable[[], None]) -> SpeechBlock:
        """Return the words of the tones."""
        self.calls.append((len(samples) / RATE, language))
        on_window()
        size = RATE // 10
        windows = samples[: len(samples) // size * size].reshape(-1, size)
        words = [_word_of(window) for window in windows]
        segments, start = list[SpeechSegment](), 0
        for number in range(1, len(words) + 1):
            if number == len(words) or words[number] != words[start]:
                if words[start]:
                    segments.append(SpeechSegment(start / 10, number / 10, f"{words[start].capitalize()}."))
                start = number
        return SpeechBlock(segments, language or "en")


def _word_of(window: Array) -> str:
    if np.sqrt(np.mean(window**2)) < 0.1:
        return ""
    pitch = np.argmax(np.abs(np.fft.rfft(window))) * RATE / len(window)
    return min(PITCHES, key=lambda word: abs(PITCHES[word] - pitch))


def read_tones(monkeypatch: pytest.MonkeyPatch, folder: Path) -> ToneTranscriber:
    """Let collections read tones in place of speech, in this process; ``folder`` becomes that of the model."""
    stand_in = ToneTranscriber()
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"x")
    monkeypatch.setattr(transcriber, "open_transcriber", lambda _: stand_in)
    monkeypatch.setattr(speech, "find_spec", lambda _: True)
    monkeypatch.setattr(workers, "locate_speech_model", lambda *_, **__: folder)
    monkeypatch.setattr(recording.SoundExtractor, "isolated", False)
    return stand_in
