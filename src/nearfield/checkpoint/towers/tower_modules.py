"""From a tower's tokens to its vector: pooling, and the projections that the weights hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.recipe import Dense, Module, Normalize, Pooling, ProbePooling, SelectorPooling

#: The activations of probe heads, by their names in config.json.
_PROBE_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
#: The activations between the layers of CLAP's projections, and torch.nn's names for them.
_PROJECTION_ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "tanh": "Tanh"}
Chain = tuple[tuple[Module, ...], int]


def read_tower_modules(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    """Return the modules from a tower's tokens to its vector, and the vector's size."""
    return _READERS[str(config["model_type"])](folder, config, weights)


def _clip_text(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    # The state of the end token, which is the last: texts are not padded (see ``TextRules.ends_at_eos``).
    return _projected(folder, Pooling(("lasttoken",)), config, weights, "text_projection")


def _clip_vision(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    return _projected(folder, Pooling(("cls",)), config, weights, "visual_projection")


def _chinese_clip_text(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    return _projected(folder, Pooling(("cls",)), config, weights, "text_projection")


def _altclip_text(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    chain, size = _projected(folder, Pooling(("cls",)), config, weights, "text_model.transformation", bias=True)
    dimensions = weights.shape("text_projection.weight")[0]
    return (*chain, Dense(size, dimensions, False, "Identity", folder, "text_projection")), dimensions


def _siglip_text(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    # The last position, a padding token nearly always: texts are padded to the table's length.
    layer = next((name for name in ("text_model.head", "head") if f"{name}.weight" in weights.names()), "")
    if not layer:
        raise ModelRefused(f"{folder} lacks text_model.head, through which a SigLIP text goes")
    return _projected(folder, Pooling(("lasttoken",)), config, weights, layer, bias=True)


def _siglip_vision(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    layer = next((name for name in ("vision_model.head", "head") if f"{name}.probe" in weights.names()), "")
    if not layer or not config["vision_use_head"]:
        raise ModelRefused(f"{folder} has no pooling head (vision_use_head): there is no vector of a picture")
    if config["hidden_act"] not in _PROBE_ACTIVATIONS:
        raise ModelRefused(f"{folder}: hidden_act {config['hidden_act']!r} of a probe head is not supported")
    size = int(config["hidden_size"])
    head = ProbePooling(
        size=size,
        heads=int(config["num_attention_heads"]),
        intermediate_size=int(config["intermediate_size"]),
        activation=_PROBE_ACTIVATIONS[config["hidden_act"]],
        eps=float(config["layer_norm_eps"]),
        weights=folder,
        layer=layer,
    )
    return (head,), size


def _clap_text(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    size = int(config["hidden_size"])
    pooler = Dense(size, size, True, "Tanh", folder, "text_model.pooler.dense")
    return _clap_projected(folder, (Pooling(("cls",)), pooler), config, weights, "text_projection")


def _clap_audio(folder: Path, config: JsonObject, weights: Weights) -> Chain:
    return _clap_projected(folder, (Pooling(("mean",)),), config, weights, "audio_projection")


def _clap_projected(folder: Path, start: tuple[Module, ...], config: JsonObject, weights: Weights, layer: str) -> Chain:
    """Return the modules with CLAP's projection, of two layers: its models scale vectors to unit length."""
    activation = config.get("projection_hidden_act", "relu")
    if activation not in _PROJECTION_ACTIVATIONS:
        raise ModelRefused(f"{folder}: projection_hidden_act {activation!r} is not supported")
    dimensions = weights.shape(f"{layer}.linear1.weight")[0]
    first = Dense(
        int(config["hidden_size"]), dimensions, True, _PROJECTION_ACTIVATIONS[activation], folder, f"{layer}.linear1"
    )
    second = Dense(dimensions, dimensions, True, "Identity", folder, f"{layer}.linear2")
    return (*start, first, second, Normalize()), dimensions


def _selector(folder: Path, config: JsonObject, _weights: Weights) -> Chain:
    size = int(config["hidden_size"])
    head = SelectorPooling(
        size=size,
        heads=int(config["num_attention_heads"]),
        intermediate_size=int(config["intermediate_size"]),
        activation="silu",
        eps=float(config["layer_norm_eps"]),
        weights=folder,
        layer="selector",
    )
    return (head,), size


def _class_token(_folder: Path, config: JsonObject, _weights: Weights) -> Chain:
    return (Pooling(("cls",)),), int(config["hidden_size"])


def _projected(
    folder: Path, pooling: Pooling, config: JsonObject, weights: Weights, layer: str, bias: bool = False
) -> Chain:
    """Return the pooling and the linear layer after it, where the weights hold one."""
    size = int(config["hidden_size"])
    if f"{layer}.weight" not in weights.names():
        return (pooling,), size
    dimensions = weights.shape(f"{layer}.weight")[0]
    return (pooling, Dense(size, dimensions, bias, "Identity", folder, layer)), dimensions


_READERS: Mapping[str, Callable[[Path, JsonObject, Weights], Chain]] = {
    "clip_text_model": _clip_text,
    "clip_vision_model": _clip_vision,
    "chinese_clip_text_model": _chinese_clip_text,
    "chinese_clip_vision_model": _clip_vision,
    "altclip_text_model": _altclip_text,
    "clap_text_model": _clap_text,
    "clap_audio_model": _clap_audio,
    "altclip_vision_model": _clip_vision,
    "siglip_text_model": _siglip_text,
    "siglip_vision_model": _siglip_vision,
    "siglip2_text_model": _siglip_text,
    "siglip2_vision_model": _siglip_vision,
    "nomic_vision": _selector,
    "dinov2": _class_token,
    "dinov2_with_registers": _class_token,
    "dinov3_vit": _class_token,
}
