"""CLAP and EmbeddingGemma 2, from files of sounds, against transformers with its feature extractors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.features import MelFeatures
from tests.parity import Array
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_multimodal, tiny_sounds
from tests.support.tiny_sounds import RATE, tone

REFERENCE = "transformers"


def write_files(folder: Path) -> list[Path]:
    """Write sounds of at most ten seconds, of which the reference takes no random part, and return their paths."""
    import soundfile  # type: ignore[import-untyped]

    folder.mkdir(exist_ok=True)
    noise = 0.2 * np.random.default_rng(0).standard_normal(3 * RATE)
    chord = np.stack([tone(5, 330), 0.5 * tone(5, 2000)], axis=1)
    waves = {"10.wav": tone(10, 440), "short.wav": tone(0.1, 6000), "noise.flac": noise, "stereo.wav": chord}
    waves |= {"low.wav": tone(2, 120), "high.wav": tone(4, 9000)}
    for name, wave in waves.items():
        soundfile.write(folder / name, wave, RATE, subtype="FLOAT" if name.endswith("wav") else "PCM_24")
    return [folder / name for name in waves]


def of_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return transformers' vectors of files of sounds, prepared and computed as one batch."""
    import soundfile

    waves = [soundfile.read(file, dtype="float32", always_2d=True)[0].mean(1) for file in files]
    return np.asarray(tiny_sounds.clap_sound_vectors(folder, waves))


def of_mels(folder: Path, sounds: Sequence[MelFeatures]) -> Array:
    """Return transformers' vectors of prepared sounds, each computed alone."""
    import torch
    from transformers import ClapModel

    model: Any = ClapModel.from_pretrained(folder).eval()
    short = torch.zeros(1, 1, dtype=torch.bool)
    with torch.no_grad():
        rows = [
            model.get_audio_features(input_features=torch.from_numpy(sound.mels[None].copy()), is_longer=short)
            for sound in sounds
        ]
    return np.concatenate([np.asarray(row.pooler_output) for row in rows])


def of_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return transformers' vectors of texts."""
    return np.asarray(tiny_sounds.clap_text_vectors(folder, list(texts)))


def of_gemma_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return transformers' vectors of files of sounds, resampled by soxr, one after the other."""
    import soundfile
    import soxr  # type: ignore[import-untyped]

    waves = [soundfile.read(file, dtype="float32", always_2d=True)[0].mean(1) for file in files]
    resampled = [[np.asarray(soxr.resample(wave, RATE, 16_000), np.float32)] for wave in waves]
    return np.asarray(tiny_multimodal.embedding_gemma2_vectors(folder, resampled))


CASES = [
    PictureCase(
        "EmbeddingGemma 2, sounds",
        "embedding_gemma2",
        REFERENCE,
        lambda folder: tiny_multimodal.embedding_gemma2_with_media(folder / "model", sounds=True),
        of_gemma_files,
        None,
        lambda folder, texts: np.asarray(tiny_multimodal.embedding_gemma2_vectors(folder, [[text] for text in texts])),
        modality="audio",
    ),
    *(
        PictureCase(
            name,
            "clap",
            REFERENCE,
            partial(tiny_sounds.write_clap, fused=fused),
            of_files,
            of_mels,
            of_texts,
            modality="audio",
        )
        for name, fused in (("transformers", False), ("transformers, fused", True))
    ),
]
