"""Read the folder of a two-tower model, or of one tower: a part for each modality, all into one space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nearfield.checkpoint import modules
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.modules import ModuleStage
from nearfield.checkpoint.towers.fused import read_chat_template, read_fused_towers
from nearfield.checkpoint.towers.open_clip import read_tower_config
from nearfield.checkpoint.towers.text_rules import read_text_rules
from nearfield.checkpoint.towers.tower_config import MODALITIES, count_patches, is_tower, tower_configs
from nearfield.checkpoint.towers.tower_modules import read_tower_modules
from nearfield.checkpoint.transformer_config import Transformer, read_transformer
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.recipe import Module, Normalize, Pooling, ZeroShot

__all__ = [
    "Tower",
    "check_modalities",
    "count_patches",
    "holds_towers",
    "is_tower",
    "read_chat_template",
    "read_fused_towers",
    "read_text_rules",
    "read_tower_transformer",
    "read_towers",
    "read_zero_shot",
]

#: What sentence-transformers calls on a two-tower model, by modality.
_METHODS = {"text": "get_text_features", "image": "get_image_features", "audio": "get_audio_features"}


@dataclass(frozen=True)
class Tower:
    """One tower: what it reads, its config under its own ``model_type``, and the modules to its vector."""

    modality: str
    config: JsonObject
    modules: tuple[Module, ...]
    dimensions: int

    @property
    def normalized(self) -> bool:
        """Whether the last module scales vectors to unit length."""
        return isinstance(self.modules[-1], Normalize)


def holds_towers(folder: Path) -> bool:
    """Whether a folder holds towers, in the layout of transformers or of open_clip."""
    return is_tower(read_tower_config(folder))


def read_tower_transformer(folder: Path) -> Transformer:
    """Return config and settings of a folder with towers."""
    return read_transformer(folder, tower=read_tower_config(folder))


def read_towers(folder: Path, config: JsonObject, stages: tuple[ModuleStage, ...] | None) -> tuple[Tower, ...]:
    """Return the towers whose weights a folder holds, text first.

    Args:
        folder: where weights and config.json lie.
        config: the content of config.json.
        stages: the modules of modules.json; those after the first are applied to the vectors of all towers.

    Raises:
        ModelRefused: there is none, or the towers' vectors have different sizes.
    """
    weights = Weights.open(folder)
    towers = tuple(_tower(folder, own, weights, stages) for own in tower_configs(folder, config, weights.names()))
    if not towers:
        raise ModelRefused(f"{folder} has the weights of no tower that its config.json ({config['model_type']}) names")
    if len({tower.dimensions for tower in towers}) > 1:
        sizes = ", ".join(f"{tower.modality} {tower.dimensions}" for tower in towers)
        raise ModelRefused(f"the towers of {folder} give vectors of different sizes: {sizes}")
    return towers


def read_zero_shot(folder: Path) -> ZeroShot | None:
    """Return how cosines of the two towers become scores: softmax as CLIP is trained, sigmoid where there is a bias."""
    weights = Weights.open(folder)
    names = ("logit_scale", "logit_scale_a")  # CLAP has one for each side, and scores sounds by this
    name = next((name for name in names if name in weights.names()), None)
    if name is None:
        return None
    scale = math.exp(_scalar(weights, name))
    if "logit_bias" not in weights.names():
        return ZeroShot(scale)
    return ZeroShot(scale, _scalar(weights, "logit_bias"), "sigmoid")


def check_modalities(path: Path, stated: object) -> None:
    """Refuse a ``modality_config`` that calls anything but the towers, as sentence-transformers writes it for them."""
    if stated is None:
        return
    if not isinstance(stated, Mapping):
        raise ModelRefused(f"{path}: modality_config must be an object, not {stated!r}")
    for modality, entry in stated.items():
        method = entry.get("method") if isinstance(entry, Mapping) else None
        if modality not in _METHODS or method not in (_METHODS[modality], "forward"):
            raise ModelRefused(f"{path}: modality_config reads {modality!r} by {method!r}, which is not supported")


def _tower(folder: Path, config: JsonObject, weights: Weights, stages: tuple[ModuleStage, ...] | None) -> Tower:
    chain, dimensions = read_tower_modules(folder, config, weights)
    rest = stages[1:] if stages else ()
    if stages and [stage.kind for stage in rest[:1]] == ["Pooling"]:
        # The folder pools the tokens itself: those of a vision transformer without a projection.
        if not isinstance(chain[-1], Pooling):
            raise ModelRefused(f"{folder} pools the tokens of a {config['model_type']}, which pools them itself")
        chain, dimensions = modules.read_modules(stages, int(config["hidden_size"]))
    elif rest:
        own, dimensions = modules.read_chain(rest, dimensions)
        chain = (*chain, *own)
    return Tower(MODALITIES[str(config["model_type"])], config, chain, dimensions)


def _scalar(weights: Weights, name: str) -> float:
    return float(weights.tensor(name, weights.shape(name)).reshape(()))
