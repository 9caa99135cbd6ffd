"""Folders of small pictures, sounds, videos and pages for tests of collections, and a definition that reads them."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tests.support import tiny_pictures, tiny_sounds, tiny_towers

#: Seconds of the sound and of the video of ``write_media``.
SOUND_SECONDS, VIDEO_SECONDS = 5.0, 6.0
#: By suffix: Pillow's formats of pictures, formats and codings of sounds of libsndfile, and kinds of films.
_PICTURES = {
    **{f".{name.lower()}": name for name in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF")},
    ".jpg": "JPEG",
    ".tif": "TIFF",
}
_SOUNDS = {
    **dict.fromkeys((".ogg", ".oga"), ("OGG", "VORBIS")),
    **dict.fromkeys((".aif", ".aiff"), ("AIFF", "PCM_16")),
    ".aifc": ("AIFF", "FLOAT"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    **{f".{name.lower()}": (name, "PCM_16") for name in ("WAV", "FLAC", "CAF", "W64")},
}
_FILMS = {
    **dict.fromkeys((".mp4", ".m4v"), "mp4 h264"),
    ".m2ts": "ts h264",
    ".mov": "mov h264",
    ".webm": "webm vp9",
    ".mkv": "mkv hevc",
    ".avi": "avi mjpeg",
}


def picture(seed: int, form: str = "PNG", size: tuple[int, int] = (48, 40)) -> bytes:
    """Return the bytes of a picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def tiff(seeds: Sequence[int]) -> bytes:
    """Return a TIFF with a page for each seed."""
    pages = [PIL.Image.open(io.BytesIO(picture(seed))) for seed in seeds]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def scan(seeds: Sequence[int]) -> bytes:
    """Return a PDF whose pages are pictures without any text."""
    pages = [PIL.Image.open(io.BytesIO(picture(seed, size=(240, 320)))).convert("RGB") for seed in seeds]
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return file.getvalue()


def sound(seconds: float = SOUND_SECONDS, pitch: float = 440.0) -> bytes:
    """Return a WAV file of a tone."""
    samples = (tiny_sounds.tone(seconds, pitch) * 32767).astype(np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(tiny_sounds.RATE)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def video(seed: int = 0) -> bytes:
    """Return a video of six seconds, four frames a second."""
    from fractions import Fraction

    from tests.support.films import Film, write_film

    return write_film(Film(count=24, rate=Fraction(4), seed=seed))


def sample(suffix: str) -> bytes:
    """Return a small file of a suffix of pictures, PDF files, sounds or videos."""
    import soundfile  # type: ignore[import-untyped]

    from tests.support import films, recordings

    if suffix in _PICTURES:
        return picture(1, _PICTURES[suffix])
    if suffix == ".pdf":
        return scan([1])
    if suffix in _FILMS:
        return films.write_film(films.Film(_FILMS[suffix]))
    samples = tiny_sounds.tone(1.0, 440.0, recordings.RATE)
    if suffix not in _SOUNDS:
        return recordings.write_recording(samples, suffix)
    (form, coding), file = _SOUNDS[suffix], io.BytesIO()
    soundfile.write(file, samples, recordings.RATE, format=form, subtype=coding)
    return file.getvalue()


def write_media(folder: Path, seed: int = 0) -> Path:
    """Write two texts, two pictures, a TIFF of two pages, a scanned PDF of three, a sound and a video.

    Another seed, ten or more away, gives other media.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cat.txt").write_text("The cat sat on the mat. A blue dog said hello to the world.", encoding="utf-8")
    (folder / "dog.txt").write_text("A red dog sat on a blue mat and said hello to the other dog.", encoding="utf-8")
    files = {
        "photo.png": picture(seed + 1),
        "beach.jpg": picture(seed + 2, "JPEG"),
        "fax.tiff": tiff([seed + 3, seed + 4]),
        "scan.pdf": scan([seed + 5, seed + 6, seed + 7]),
        "tone.wav": sound(pitch=440.0 + seed),
        "clip.mp4": video(seed),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_models(folder: Path) -> dict[str, str]:
    """Write a model of texts, CLIP and CLAP, all tiny; return their folders by name."""
    from nearfield.testing import write_tiny_model

    return {
        "text": str(write_tiny_model(folder / "text")),
        "clip": str(tiny_pictures.write_clip(folder / "clip")),
        "clap": str(tiny_sounds.write_clap(folder / "clap")),
    }


def write_dino(folder: Path) -> str:
    """Write a tiny model that reads pictures alone; return its folder."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tiny_towers.MODELS["dinov2"](folder)
    CLIPImageProcessorPil(size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}).save_pretrained(folder)
    return str(folder)


def media_config(models: dict[str, str], store: str) -> dict[str, Any]:
    """Return a definition with a feature of texts, one of pictures, pages and videos, and one of sounds."""
    return {
        "features": {
            "text": {"model": models["text"]},
            "visual": {"model": models["clip"], "reads": ["image", "page", "video"]},
            "sound": {"model": models["clap"], "kind": "audio"},
        },
        "segments": {"audio": {"time_split_interval": 2.0}, "video": {"time_split_interval": 2.0}},
        "store": store,
    }
