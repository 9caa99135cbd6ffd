"""What the ``audio_config`` of a CLAP model says: the layout of its mel pictures, and the layers after its tower."""

from __future__ import annotations

from pathlib import Path

from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused
from nearfield.features import MelLayout
from nearfield.recipe import Dense, Module, Normalize, Pooling

#: Activations of the projection, and torch.nn's names for them.
_ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "tanh": "Tanh"}


def mel_layout(config: JsonObject) -> MelLayout:
    """Return the layout of mel pictures that an ``audio_config`` asks for.

    Raises:
        ModelRefused: its sizes are not known here.
    """
    patch, stride = (_edge(config, name) for name in ("patch_size", "patch_stride"))
    side, bins = _size(config, "spec_size", 256), _size(config, "num_mel_bins", 64)
    depths = config.get("depths", (2, 2, 6, 2))
    if not isinstance(depths, list | tuple) or not 0 < len(depths) < 8:
        raise ModelRefused(f"config.json: depths must list the blocks of 1 to 7 stages, not {depths!r}.")
    if stride != patch:
        raise ModelRefused(f"config.json: patches of {patch} every {stride} (patch_stride) overlap: not known here.")
    if side % (bins * patch) or bins % patch or not _is_power_of_two(side // patch):
        raise ModelRefused(
            f"config.json: {bins} mel bins in a picture of {side} (spec_size), in patches of {patch}, are not known "
            "here: bins are a multiple of the patch, and the picture is one of both, with a power of two of patches."
        )
    return MelLayout(side, bins, patch, len(depths), bool(config.get("enable_fusion")))


def audio_modules(folder: Path, config: JsonObject) -> tuple[Module, ...]:
    """Return the modules after the tower of sounds: mean, two layers, unit length; ``config`` is an ``audio_config``.

    Raises:
        ModelRefused: the activation between the layers is not known here.
    """
    hidden, size = _size(config, "hidden_size", 768), _size(config, "projection_dim", 512)
    activation = config.get("projection_hidden_act", "relu")
    if activation not in _ACTIVATIONS:
        raise ModelRefused(
            f"config.json: projection_hidden_act {activation!r} is not known here. Known: {', '.join(_ACTIVATIONS)}."
        )
    first = Dense(hidden, size, True, _ACTIVATIONS[activation], folder, "audio_projection.linear1")
    second = Dense(size, size, True, "Identity", folder, "audio_projection.linear2")
    return Pooling(("mean",)), first, second, Normalize()


def _edge(config: JsonObject, name: str) -> int:
    value = config.get(name, 4)
    edges = value if isinstance(value, list | tuple) else [value]
    if len(set(map(repr, edges))) != 1:
        raise ModelRefused(f"config.json: {name} {value!r} is not square, which is not known here.")
    return _size({name: edges[0]}, name, 4)


def _size(config: JsonObject, name: str, default: int) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 14:
        raise ModelRefused(f"config.json: {name} must be a whole number from 1 to 16384, not {value!r}.")
    return value


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
