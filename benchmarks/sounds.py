"""Seconds of sound per second from files to vectors, beside transformers, with a model of CLAP's shape.

Run as ``python -m benchmarks.sounds NAME FOLDER`` it is one engine, which answers requests in JSON lines.
The model has the shape of laion/clap-htsat-unfused, and random weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.media_engines import OURS, REFERENCE, MediaContender, Work, compare, cpu_seconds, require_same, serve

RATE = 48_000
#: Seconds of each file. No sound is longer than a window: of those, transformers reads a part at random.
SECONDS = 10
#: Format, samples a second, channels and number of the files.
FILES = {"wav": ("WAV", RATE, 1, 16), "flac": ("FLAC", 44_100, 2, 16)}
#: Sounds of one batch of transformers: 1, 2, 4 and 8 were tried, and this is the fastest.
BATCH = 4


def measure(rounds: int, *, quick: bool) -> dict[str, Any]:
    """Return seconds of sound per second of each engine, ratios within a round, and shares of CPU time."""
    with tempfile.TemporaryDirectory() as place:
        files = {name: write_sounds(Path(place), name, quick=quick) for name in FILES}
        folder = write_clap(Path(place) / "clap")
        contenders = {name: MediaContender("benchmarks.sounds", name, folder, files["wav"]) for name in ENGINES}
        require_same({name: contender.sample for name, contender in contenders.items()})
        works = {name: Work("sounds", items, SECONDS * len(items)) for name, items in files.items()}
        found: dict[str, Any] = compare("CLAP", contenders, works, rounds)
        found["shares"] = {name: contenders[OURS].ask("shares", items) for name, items in files.items()}
        for contender in contenders.values():
            contender.close()
        return found


def write_clap(folder: Path) -> Path:
    """Write a model of the shape of laion/clap-htsat-unfused, with a small vocabulary."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    from tests.support import tiny_sounds

    tiny_sounds.write_clap(folder)
    # The tower of texts is not measured.
    texts = {"vocab_size": 90, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = ClapModel(ClapConfig(text_config={**texts, "intermediate_size": 64}))
    model.save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad", frequency_min=50).save_pretrained(folder)
    return folder


def write_sounds(place: Path, name: str, *, quick: bool) -> list[Path]:
    """Write files with gliding tones, pauses and noise."""
    import soundfile  # type: ignore[import-untyped]

    kind, rate, channels, count = FILES[name]
    files = []
    for number in range(2 if quick else count):
        random, time = np.random.default_rng(number), np.arange(SECONDS * rate)[:, None] / rate
        pitch = 200 + 150 * np.sin((1 + number % 5) * time + np.arange(channels))
        wave = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch, 0) / rate) * (np.sin(5 * time) > -0.4)
        files.append(place / f"{name}{number}.{kind.lower()}")
        soundfile.write(files[-1], wave + 0.02 * random.standard_normal(wave.shape), rate, format=kind)
    return files


class Nearfield:
    """Nearfield in float32."""

    media = "sounds"
    precision = "float32"

    def __init__(self, folder: Path) -> None:
        from nearfield import Encoder

        self.folder = folder
        self.encoder = Encoder(str(folder), precision=self.precision, compile_cache=False)

    def sounds(self, files: list[Path]) -> Any:
        """Return the vectors of sound files."""
        return np.asarray(self.encoder.encode(files))

    def shares(self, files: list[Path]) -> dict[str, float]:
        """Return the shares of CPU time that decoding, the mel spectrogram and the model take."""
        from nearfield.checkpoint.processors.audio import read_audio_processor
        from nearfield.media.audio import Audio

        processor = read_audio_processor(self.folder)
        assert processor is not None
        decoded, decode = cpu_seconds(lambda: [Audio(file).read(processor.rate) for file in files])
        _, mel = cpu_seconds(lambda: [processor.prepare(sound) for sound in decoded])
        _, whole = cpu_seconds(lambda: self.sounds(files))
        return {
            "decode": round(decode / whole, 3),
            "mel": round(mel / whole, 3),
            "model": round(1 - (decode + mel) / whole, 3),
            "milliseconds a sound": round(1000 * whole / len(files), 1),
        }


class NearfieldAuto(Nearfield):
    """Nearfield in its default precision: bf16 where the CPU has it."""

    precision = "auto"


class Transformers:
    """transformers in float32, with files read and resampled as Nearfield does it."""

    media = "sounds"

    def __init__(self, folder: Path) -> None:
        from transformers import ClapFeatureExtractor, ClapModel

        self.model = ClapModel.from_pretrained(folder).eval()
        self.extractor = ClapFeatureExtractor.from_pretrained(folder)

    def sounds(self, files: list[Path]) -> Any:
        """Return the vectors of sound files."""
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(files), BATCH):
                waves = [_wave(file) for file in files[start : start + BATCH]]
                features = self.extractor(waves, sampling_rate=RATE, return_tensors="pt")
                parts.append(self.model.get_audio_features(**features).pooler_output)
        return torch.cat(parts).numpy()


ENGINES: dict[str, Callable[[Path], Any]] = {
    OURS: Nearfield,
    "nearfield auto": NearfieldAuto,
    REFERENCE: Transformers,
}


def _wave(file: Path) -> Any:
    import soundfile
    import soxr  # type: ignore[import-untyped]

    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    mono = samples.mean(1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")


if __name__ == "__main__":
    serve(ENGINES)
