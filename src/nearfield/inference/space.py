"""The name of a model's vector space: a digest of all that shapes a vector before truncation and quantisation."""

from __future__ import annotations

import hashlib
import json

from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.processors.image import read_image_processor
from nearfield.checkpoint.weights.digest import of_files
from nearfield.checkpoint.weights.weights import Weights
from nearfield.recipe import (
    ClassScores,
    Dense,
    HeadSpec,
    LayerNorm,
    Module,
    ProbePooling,
    Recipe,
    RerankPrompt,
    RoleFormat,
)

#: Class names in spaces that version 0.1 wrote. A class can be renamed; its name here stays.
_RECORDED_NAMES = {ClassScores: "Classes", RerankPrompt: "Answer", RoleFormat: "Marking"}


def space_name(recipe: Recipe, weights: str, tokenizer: str) -> str:
    """Return the name of a model's space, from its recipe and the digests of its weights and tokenizer."""
    modules = [(type(module).__name__, *_fields(module)) for module in recipe.modules]
    parts: list[object] = [weights, tokenizer, modules, sorted(recipe.prompts.items()), recipe.do_lower_case]
    if (graph := recipe.exported_graph) is not None:
        parts.append(of_files([graph, *graph.parent.glob(f"{graph.stem}.bin")]))
    parts += [(_recorded_name(head), *_fields(head)) for head in recipe.heads]
    parts += [] if recipe.max_active_dims is None else [recipe.max_active_dims]
    parts += [(modality, *_tower(tower, recipe)) for modality, tower in sorted(recipe.towers.items())]
    fused = sorted(recipe.fused.items())
    parts += [("fused", modality, tower.config["version"], *_tower(tower, recipe)) for modality, tower in fused]
    return hashlib.sha256(json.dumps(parts, default=_recorded_text).encode()).hexdigest()[:16]


def _tower(tower: Recipe, main: Recipe) -> tuple[object, ...]:
    """Return what identifies another tower of a model: its modules, how its inputs are prepared, and its weights."""
    modules = [(type(module).__name__, *_fields(module)) for module in tower.modules]
    own = Weights.open(tower.folder).digest if tower.folder != main.folder else ""
    reader = read_image_processor if tower.modality == "image" else read_audio_processor
    processor = reader(tower.folder)
    return modules, processor.digest if processor is not None else "", own


def _recorded_name(part: object) -> str:
    return _RECORDED_NAMES.get(type(part), type(part).__name__)


def _recorded_text(value: object) -> str:
    """Return ``str(value)`` as version 0.1 wrote it; that of a dataclass begins with the name of its class."""
    return str(value).replace(type(value).__name__, _recorded_name(value), 1)


def _fields(part: Module | HeadSpec) -> tuple[object, ...]:
    """Return the fields that identify a module or head; weights by their content, wherever they are stored."""
    if isinstance(part, (Dense, LayerNorm, ProbePooling)):
        fields = [value for name, value in vars(part).items() if name != "weights"]
        return (*fields, Weights.open(part.weights).digest)
    return tuple(vars(part).values())
