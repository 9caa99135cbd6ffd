"""The layout of mel pictures, from the ``audio_config`` of a CLAP model."""

from __future__ import annotations

from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused
from nearfield.features import MelLayout


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
