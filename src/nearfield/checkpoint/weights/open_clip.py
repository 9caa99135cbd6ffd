"""Weights in open_clip's layout, under the names that transformers has for the same architectures.

CLIP's own towers keep the names of OpenAI's first release; SigLIP's image tower is timm's vision transformer. Queries,
keys and values are one tensor there, and projections are stored the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint import json_file
from nearfield.checkpoint.weights.lazy_tensor import LazyTensor

CONFIG = "open_clip_config.json"
#: Tried in this order, which is open_clip's.
FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_model.bin",
    "open_clip_pytorch_model.bin",
)
#: From the match of a name and its tensor to the tensors under their new names.
Rule: TypeAlias = Callable[["re.Match[str]", LazyTensor], Iterator[tuple[str, LazyTensor]]]


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is open_clip's alone: timm writes a config.json beside it that names no ``model_type``."""
    return (folder / CONFIG).is_file() and "model_type" not in json_file.read_optional(folder / "config.json")


def rename_tensors(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return the tensors of a file under transformers' names. Other names stay."""
    renamed: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        renamed.update(_renamed(name, tensor))
    return _with_probe_attention(renamed)


def _renamed(name: str, tensor: LazyTensor) -> Iterator[tuple[str, LazyTensor]]:
    for pattern, rule in _RULES:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return rule(match, tensor)
    return iter([(name, tensor)])


def _to(target: str, change: Callable[[LazyTensor], LazyTensor] = lambda tensor: tensor) -> Rule:
    """Return a rule that gives one tensor another name; groups of the pattern are put into it."""
    return lambda match, tensor: iter([(match.expand(target), change(tensor))])


def _layer(tower: str) -> Rule:
    """Return the rule for the parts of a block."""

    def rule(match: re.Match[str], tensor: LazyTensor) -> Iterator[tuple[str, LazyTensor]]:
        number, part, end = match.groups()
        place = f"{tower}.encoder.layers.{number}."
        if part not in ("attn.in_proj_", "attn.qkv."):
            yield f"{place}{_PARTS[part]}{end}", tensor
            return
        size = tensor.shape[0] // 3
        for index, letter in enumerate("qkv"):
            yield f"{place}self_attn.{letter}_proj.{end}", _rows(tensor, index * size, (index + 1) * size)

    return rule


def _rows(tensor: LazyTensor, start: int, stop: int) -> LazyTensor:
    return replace(tensor, shape=(stop - start, *tensor.shape[1:]), load=lambda: tensor.load()[start:stop])


def _transposed(tensor: LazyTensor) -> LazyTensor:
    return replace(tensor, shape=tensor.shape[::-1], load=lambda: tensor.load().T)


def _without_first_axis(tensor: LazyTensor) -> LazyTensor:
    return replace(tensor, shape=tensor.shape[1:], load=lambda: tensor.load()[0])


def _with_probe_attention(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Join queries with keys and values of a probe head: timm stores them apart from each other."""
    place = "vision_model.head.attention."
    for end in ("weight", "bias"):
        parts = [tensors.pop(f"{place}{part}.{end}", None) for part in ("q", "kv")]
        stored = [part for part in parts if part is not None]
        if len(stored) == 2 and stored[0].dtype == stored[1].dtype:
            tensors[f"{place}in_proj_{end}"] = _joined(stored)
    return tensors


def _joined(parts: Sequence[LazyTensor]) -> LazyTensor:
    def load() -> Array:
        return np.concatenate([part.load() for part in parts])

    rows = sum(part.shape[0] for part in parts)
    return replace(parts[0], shape=(rows, *parts[0].shape[1:]), load=load)


#: Parts of a block, in the names of OpenAI and of timm.
_PARTS = {
    "attn.out_proj.": "self_attn.out_proj.",
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.proj.": "self_attn.out_proj.",
    "norm1.": "layer_norm1.",
    "norm2.": "layer_norm2.",
    "mlp.fc1.": "mlp.fc1.",
    "mlp.fc2.": "mlp.fc2.",
}
_BLOCK = rf"(\d+)\.({'|'.join(map(re.escape, (*_PARTS, 'attn.in_proj_', 'attn.qkv.')))})(weight|bias)"
_EMBEDDINGS = "vision_model.embeddings."
_TIMM = r"visual\.trunk\."
#: Patterns of whole names, each with its rule.
_RULES: Sequence[tuple[str, Rule]] = (
    (r"visual\.conv1\.weight", _to(f"{_EMBEDDINGS}patch_embedding.weight")),
    (r"visual\.class_embedding", _to(f"{_EMBEDDINGS}class_embedding")),
    (r"visual\.positional_embedding", _to(f"{_EMBEDDINGS}position_embedding.weight")),
    (r"visual\.ln_pre\.(.*)", _to(r"vision_model.pre_layrnorm.\1")),
    (r"visual\.ln_post\.(.*)", _to(r"vision_model.post_layernorm.\1")),
    (r"visual\.proj", _to("visual_projection.weight", _transposed)),
    (rf"visual\.transformer\.resblocks\.{_BLOCK}", _layer("vision_model")),
    (rf"(?:text\.)?transformer\.resblocks\.{_BLOCK}", _layer("text_model")),
    (r"(?:text\.)?token_embedding\.weight", _to("text_model.embeddings.token_embedding.weight")),
    (r"(?:text\.)?positional_embedding", _to("text_model.embeddings.position_embedding.weight")),
    (r"(?:text\.)?ln_final\.(.*)", _to(r"text_model.final_layer_norm.\1")),
    (r"(?:text\.)?text_projection", _to("text_projection.weight", _transposed)),
    (r"text\.text_projection\.(.*)", _to(r"text_model.head.\1")),
    (rf"{_TIMM}patch_embed\.proj\.(.*)", _to(rf"{_EMBEDDINGS}patch_embedding.\1")),
    (rf"{_TIMM}pos_embed", _to(f"{_EMBEDDINGS}position_embedding.weight", _without_first_axis)),
    (rf"{_TIMM}blocks\.{_BLOCK}", _layer("vision_model")),
    (rf"{_TIMM}norm\.(.*)", _to(r"vision_model.post_layernorm.\1")),
    (rf"{_TIMM}attn_pool\.latent", _to("vision_model.head.probe")),
    (rf"{_TIMM}attn_pool\.(q|kv)\.(.*)", _to(r"vision_model.head.attention.\1.\2")),
    (rf"{_TIMM}attn_pool\.proj\.(.*)", _to(r"vision_model.head.attention.out_proj.\1")),
    (rf"{_TIMM}attn_pool\.norm\.(.*)", _to(r"vision_model.head.layernorm.\1")),
    (rf"{_TIMM}attn_pool\.mlp\.(.*)", _to(r"vision_model.head.mlp.\1")),
)
