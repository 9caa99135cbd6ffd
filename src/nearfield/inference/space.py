"""The name of a model's vector space: a digest of all that shapes a vector before truncation and quantisation."""

from __future__ import annotations

import hashlib
import json

from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.processors.image import read_image_processor
from nearfield.checkpoint.weights.digest import of_files
from nearfield.checkpoint.weights.merged import open_weights
from nearfield.recipe import (
    ClassScores,
    Dense,
    HeadSpec,
    LayerNorm,
    Module,
    Multivector,
    ProbePooling,
    Recipe,
    RerankPrompt,
    RoleFormat,
)

#: Class names in spaces that version 0.1 wrote. A class can be renamed; its name here stays.
_RECORDED_NAMES = {ClassScores: "Classes", RerankPrompt: "Answer", RoleFormat: "Marking"}
#: Fields of config.json with the activation of the feed-forward layers.
_ACTIVATION_FIELDS = ("hidden_act", "hidden_activation", "activation")
#: By ``model_type`` the activation that a space's name leaves out: that of the published models. Version 0.1 named
#: their spaces without it, so that only models with another one can have it in their names.
_USUAL_ACTIVATIONS = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet"), "gelu"),
    **dict.fromkeys(("gte", "new", "jina_embeddings_v3", "jina-v3", "jina-bert", "deberta-v2", "modernbert"), "gelu"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "qwen3_vl_text", "nomic_vision"), "silu"),
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_vl_vision"), "silu"),
    **dict.fromkeys(("paligemma_text", "paligemma_vision", "modernvbert_vision"), "gelu_pytorch_tanh"),
    "modernvbert_text": "gelu",
    "qwen2_vl_vision": "quick_gelu",
    **dict.fromkeys(("gemma3_text", "embedding_gemma2_text"), "gelu_pytorch_tanh"),
    **dict.fromkeys(("siglip_text_model", "siglip2_text_model"), "gelu_pytorch_tanh"),
    **dict.fromkeys(("siglip_vision_model", "siglip2_vision_model"), "gelu_pytorch_tanh"),
    **dict.fromkeys(("clip_text_model", "clip_vision_model", "altclip_vision_model"), "quick_gelu"),
    "chinese_clip_vision_model": "quick_gelu",
    **dict.fromkeys(("chinese_clip_text_model", "altclip_text_model", "clap_text_model", "clap_audio_model"), "gelu"),
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit"), "gelu"),
    "albert": "gelu_new",
}
#: Precisions whose vectors are not those of the model to the rounding of a matrix product.
QUANTIZED = ("int8", "int8-dynamic", "int4")
#: Names of one function.
_SAME_ACTIVATIONS = {"gelu_new": "gelu_pytorch_tanh", "swish": "silu"}


def space_name(recipe: Recipe, weights: str, tokenizer: str) -> str:
    """Return the name of a model's space, from its recipe and the digests of its weights and tokenizer."""
    modules = [(type(module).__name__, *_fields(module)) for module in recipe.modules]
    parts: list[object] = [weights, tokenizer, modules, sorted(recipe.prompts.items()), recipe.do_lower_case]
    if (graph := recipe.exported_graph) is not None:
        parts.append(of_files([graph, *graph.parent.glob(f"{graph.stem}.bin")]))
    parts += [(_recorded_name(head), *_head_fields(head, recipe)) for head in recipe.heads]
    parts += [] if recipe.max_active_dims is None else [recipe.max_active_dims]
    parts += _unusual_activations(recipe)
    parts += [(modality, *_tower(tower, recipe)) for modality, tower in sorted(recipe.towers.items())]
    fused = sorted(recipe.fused.items())
    parts += [("fused", modality, tower.config["version"], *_tower(tower, recipe)) for modality, tower in fused]
    return hashlib.sha256(json.dumps(parts, default=_recorded_text).encode()).hexdigest()[:16]


def precision_space(space: str, precision: str) -> str:
    """Return the name of the space in a precision: quantised weights give other vectors than those of the model."""
    if precision not in QUANTIZED:
        return space
    return hashlib.sha256(f"{space} {precision}".encode()).hexdigest()[:16]


def _tower(tower: Recipe, main: Recipe) -> tuple[object, ...]:
    """Return what identifies another tower of a model: its modules, how its inputs are prepared, and its weights."""
    modules = [(type(module).__name__, *_fields(module)) for module in tower.modules]
    own = open_weights(tower.weights).digest if tower.weights != main.weights else ""
    reader = read_image_processor if tower.modality == "image" else read_audio_processor
    processor = reader(tower.folder)
    return modules, processor.digest if processor is not None else "", own, *_unusual_activations(tower)


def _unusual_activations(recipe: Recipe) -> list[tuple[str, str]]:
    """Return fields and names of the activations that are not those of the published models of the architecture."""
    usual = _USUAL_ACTIVATIONS.get(str(recipe.config.get("model_type")))
    if usual is None or recipe.exported_graph is not None:
        return []
    stored = {name: str(recipe.config[name]) for name in _ACTIVATION_FIELDS if recipe.config.get(name) is not None}
    return [(name, _same(value)) for name, value in stored.items() if _same(value) != _same(usual)]


def _same(activation: str) -> str:
    return _SAME_ACTIVATIONS.get(activation, activation)


def _head_fields(head: HeadSpec, recipe: Recipe) -> tuple[object, ...]:
    """Return the fields that identify a head. Names of older kinds of model are stored, and contain a path."""
    if isinstance(head, ClassScores) and not head.modules:
        return head.labels, head.activation
    if not isinstance(head, ClassScores) and not (isinstance(head, Multivector) and recipe.fused):
        return _fields(head)
    modules = [(type(module).__name__, *_fields(module)) for module in head.modules]
    return modules, *(value for name, value in vars(head).items() if name != "modules")


def _recorded_name(part: object) -> str:
    return _RECORDED_NAMES.get(type(part), type(part).__name__)


def _recorded_text(value: object) -> str:
    """Return ``str(value)`` as version 0.1 wrote it; that of a dataclass begins with the name of its class."""
    return str(value).replace(type(value).__name__, _recorded_name(value), 1)


def _fields(part: Module | HeadSpec) -> tuple[object, ...]:
    """Return the fields that identify a module or head; weights by their content, wherever they are stored."""
    if isinstance(part, (Dense, LayerNorm, ProbePooling)):
        fields = [value for name, value in vars(part).items() if name != "weights"]
        return (*fields, open_weights(part.weights).digest)
    return tuple(vars(part).values())
