"""Models that read texts and pictures in one sequence: their towers, and the template of a chat around each input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from nearfield.checkpoint.json_file import JsonObject, read_optional
from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.processors.image import read_image_processor
from nearfield.checkpoint.processors.video import read_video_processor
from nearfield.checkpoint.towers.tower_config import DEFAULTS
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused, WeightsError
from nearfield.recipe import Recipe, Rows, TextRules


@dataclass(frozen=True)
class FusedTower:
    """Where a model keeps a tower: the field of config.json, the tower's ``model_type``, and its weights' names.

    ``version`` is that of what surrounds its rows in the sequence. It is part of the name of the model's space.
    ``videos`` says whether the frames of videos enter the sequence too: "always", or where the folder has a "file" that
    says how they are prepared.
    """

    field: str
    model_type: str
    weights: str
    version: int = 1
    videos: Literal["", "file", "always"] = ""


#: By ``model_type`` of config.json and by modality.
FUSED_TOWERS: Mapping[str, Mapping[str, FusedTower]] = {
    "embedding_gemma2": {
        "image": FusedTower("vision_config", "gemma4_vision", r"^(model\.)?vision_tower\.", videos="file"),
        "audio": FusedTower("audio_config", "gemma4_audio", r"^(model\.)?audio_tower\."),
    },
    "qwen3_vl": {"image": FusedTower("vision_config", "qwen3_vl_vision", r"^(model\.)?visual\.", videos="always")},
}
_READERS = {"image": read_image_processor, "audio": read_audio_processor}
#: Fields of the whole model that name placeholders, for those who build the sequence.
_TOKENS = re.compile(r"_token_(id|index)$")


@dataclass(frozen=True)
class ChatTemplate:
    """What surrounds each input of a model, as it was trained: ``head``, in which the instruction is, and ``tail``.

    ``default`` is the instruction of an input without one, and ``empty`` is read in place of nothing. It is that of the
    folder's model only if its tokenizer has all ``tokens``.
    """

    head: str
    tail: str
    default: str
    empty: str
    tokens: tuple[str, ...]

    def prompt(self, text: str) -> str:
        """Return a folder's prompt, which is an instruction, as the text before an input."""
        return text if self.tokens[0] in text else self.head.replace("{instruction}", text or self.default)

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the template around each input."""
        prompts = {name: self.prompt(text) for name, text in recipe.prompts.items()}
        return replace(
            recipe,
            prompts=MappingProxyType(prompts),
            default_prompt_name=recipe.default_prompt_name or "document",
            instruction=self.head,
            ends_instruction=True,
            text_rules=TextRules(tail=self.tail, empty=self.empty),
        )


#: By ``model_type``, of models that give vectors.
TEMPLATES: Mapping[str, ChatTemplate] = {
    "qwen3_vl": ChatTemplate(
        head="<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n",
        tail="<|im_end|>\n<|im_start|>assistant\n",
        default="Represent the user's input.",
        empty="NULL",
        tokens=("<|im_start|>", "<|im_end|>"),
    )
}


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """Return the template of a folder's model, or None where it has none."""
    template = TEMPLATES.get(str(read_optional(folder / "config.json").get("model_type")))
    file = folder / "tokenizer.json"
    if template is None or not file.is_file():
        return None
    content = file.read_bytes()
    return template if all(f'"{token}"'.encode() in content for token in template.tokens) else None


def read_fused_towers(folder: Path, recipe: Recipe, warnings: list[str]) -> Mapping[str, Recipe]:
    """Return the towers, by modality, whose rows enter the sequence of the folder's model.

    A tower of which there are no weights, or of whose inputs no file says how they are prepared, is left out; the
    second is a warning.

    Args:
        folder: where weights and config.json lie.
        recipe: the recipe of the part that reads texts.
        warnings: to which one is added.

    Raises:
        ModelRefused: config.json describes no such tower, or inputs are prepared in an unknown way.
    """
    config = read_optional(folder / "config.json")
    known = FUSED_TOWERS.get(str(config.get("model_type")), {})
    names = _weight_names(folder) if known else frozenset()
    towers: dict[str, Recipe] = {}
    for modality, tower in known.items():
        # A config without a tower has no use for its weights, as in transformers.
        if config.get(tower.field, {}) is None or not any(re.search(tower.weights, name) for name in names):
            continue
        if _READERS[modality](folder) is None:
            warnings.append(
                f"{folder} has weights that read modality {modality!r}, and no preprocessor_config.json that says how "
                "inputs are prepared: only texts are read"
            )
            continue
        own = {**_config(recipe, config, tower), "reads_videos": _reads_videos(folder, tower)}
        towers[modality] = _tower(folder, recipe, modality, own)
    return MappingProxyType(towers)


def _weight_names(folder: Path) -> frozenset[str]:
    try:
        return Weights.open(folder).names()
    except WeightsError:
        return frozenset()  # of a format that another backend reads


def _config(recipe: Recipe, config: JsonObject, tower: FusedTower) -> dict[str, Any]:
    part = config.get(tower.field)
    if not isinstance(part, dict):
        raise ModelRefused(f"{recipe.folder / 'config.json'}: {tower.field} must be an object, not {part!r}")
    tokens = {name: value for name, value in config.items() if _TOKENS.search(name)}
    own = {"model_type": tower.model_type, "version": tower.version, "text_hidden_size": recipe.config["hidden_size"]}
    return {**tokens, **DEFAULTS.get(tower.model_type, {}), **part, **own}


def _reads_videos(folder: Path, tower: FusedTower) -> bool:
    """Return whether videos enter the sequence. Raises ModelRefused where a file says something unknown of them."""
    return bool(tower.videos) and (read_video_processor(folder) is not None or tower.videos == "always")


def _tower(folder: Path, recipe: Recipe, modality: str, config: dict[str, Any]) -> Recipe:
    return Recipe(
        name=recipe.name,
        folder=folder,
        config=MappingProxyType(config),
        modules=(),
        heads=(Rows(),),
        dimensions=0,
        max_length=0,
        revision=recipe.revision,
        modality=modality,
        unsupported_precisions=recipe.unsupported_precisions,
    )
