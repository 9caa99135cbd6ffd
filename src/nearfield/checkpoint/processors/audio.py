"""Read how a model folder prepares sounds, from the files of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.checkpoint.json_file import JsonObject, read_optional
from nearfield.checkpoint.processors.audio_processor import AudioProcessor
from nearfield.checkpoint.processors.clap import mel_layout
from nearfield.checkpoint.processors.frame_processor import FrameProcessor, read_frame_processor
from nearfield.checkpoint.processors.mel_spectrogram import MelSpectrogram
from nearfield.errors import ModelRefused, nearest
from nearfield.features import MelLayout

#: Keys of a ClapFeatureExtractor and their defaults.
_DEFAULTS: Mapping[str, Any] = {
    "feature_size": 64,
    "sampling_rate": 48_000,
    "hop_length": 480,
    "max_length_s": 10,
    "fft_window_size": 1024,
    "frequency_min": 0,
    "frequency_max": 14_000,
    "truncation": "fusion",
    "padding": "repeatpad",
}
#: Keys that move no value, or whose only values here are those.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "feature_extractor_type": ("ClapFeatureExtractor",),
    "padding_value": (0,),
    "padding_side": ("right", "left"),
    "top_db": (None,),
    "return_attention_mask": (False, True),
}
_NEUTRAL = frozenset(("processor_class", "_valid_processor_keys", "return_tensors"))
_PADDINGS = ("repeatpad", "repeat", "pad")
_TRUNCATIONS = ("rand_trunc", "fusion")


def read_audio_processor(folder: Path) -> AudioProcessor | FrameProcessor | None:
    """Return the processor of a model folder; None if it prepares no sounds.

    ``processor_config.json`` (its ``feature_extractor``) comes before ``preprocessor_config.json``, as in transformers.

    Raises:
        ModelRefused: a file is damaged, a key or value is not known here, or they do not agree with config.json.
    """
    nested = read_optional(folder / "processor_config.json").get("feature_extractor")
    source = "processor_config.json" if isinstance(nested, dict) else "preprocessor_config.json"
    values: JsonObject = nested if isinstance(nested, dict) else read_optional(folder / source)
    kind = values.get("feature_extractor_type")
    if kind != "ClapFeatureExtractor" and "sampling_rate" not in values:
        return None
    if kind == "Gemma4AudioFeatureExtractor":
        return read_frame_processor(values, source)
    settings = _settings(values, source)
    config = read_optional(folder / "config.json")
    layout = mel_layout(config["audio_config"] if isinstance(config.get("audio_config"), dict) else config)
    return _processor(settings, layout, source)


def _settings(values: JsonObject, source: str) -> dict[str, Any]:
    """Return the settings, checked by name and type."""
    settings = {**_DEFAULTS, **{name: value for name, value in values.items() if name in _DEFAULTS}}
    derived = _derived(settings) if all(map(_is_count, _sizes(settings))) else {}
    for name, value in values.items():
        known: tuple[Any, ...] = _FIXED.get(name) or ((derived[name],) if name in derived else ())
        if known and value not in known:
            raise ModelRefused(f"{source}: {name} {value!r} is not known here: it must be {known[0]!r}.")
        if not known and name not in _DEFAULTS and name not in _NEUTRAL:
            raise ModelRefused(f"{source}: {name!r} is not known here. {nearest(name, (*_DEFAULTS, *_FIXED))}")
    _check_values(settings, source)
    return settings


def _sizes(settings: Mapping[str, Any]) -> list[Any]:
    return [
        settings[name] for name in ("feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size")
    ]


def _derived(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys that repeat others."""
    window, seconds = settings["fft_window_size"], settings["max_length_s"]
    return {
        "n_fft": window,
        "nb_frequency_bins": window // 2 + 1,
        "chunk_length_s": seconds,
        "nb_max_samples": seconds * settings["sampling_rate"],
    }


def _check_values(settings: Mapping[str, Any], source: str) -> None:
    for name in ("feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size"):
        if not _is_count(settings[name]):
            raise ModelRefused(f"{source}: {name} must be a positive whole number, not {settings[name]!r}.")
    for name, known in (("padding", _PADDINGS), ("truncation", _TRUNCATIONS)):
        if settings[name] not in known:
            raise ModelRefused(f"{source}: {name} {settings[name]!r} is not known here. Known: {', '.join(known)}.")
    low, high = settings["frequency_min"], settings["frequency_max"]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (low, high))
    if not numbers or not 0 <= low < high <= settings["sampling_rate"] / 2:
        raise ModelRefused(
            f"{source}: frequency_min {low!r} and frequency_max {high!r} must rise from 0 up to half of sampling_rate."
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20


def _processor(settings: Mapping[str, Any], layout: MelLayout, source: str) -> AudioProcessor:
    fused, window = settings["truncation"] == "fusion", settings["max_length_s"] * settings["sampling_rate"]
    mel = MelSpectrogram(
        rate=settings["sampling_rate"],
        window=settings["fft_window_size"],
        hop=settings["hop_length"],
        bins=settings["feature_size"],
        low=float(settings["frequency_min"]),
        high=float(settings["frequency_max"]),
        slaney=not fused,
    )
    if fused != layout.fused:
        raise ModelRefused(
            f"{source}: truncation {settings['truncation']!r} does not fit enable_fusion {layout.fused} in config.json."
        )
    if mel.bins != layout.bins or mel.frames(window) > layout.frames or window <= mel.window:
        raise ModelRefused(
            f"{source}: {mel.frames(window):,} frames of {mel.bins} mel bins do not fit the model, which has room for "
            f"{layout.frames:,} frames of {layout.bins} (spec_size and num_mel_bins in config.json)."
        )
    return AudioProcessor(mel, layout, window, settings["padding"], window)
