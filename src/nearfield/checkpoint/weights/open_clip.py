"""The weights of open_clip under the names of transformers: renamed, split and transposed when they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from nearfield.checkpoint.weights.lazy_tensor import LazyTensor

#: Files in which open_clip stores a model, in the order in which it looks for them.
OPEN_CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_model.bin",
    "open_clip_pytorch_model.bin",
)
#: Whole names, and how they begin.
_RENAMED: tuple[tuple[str, str], ...] = (
    (r"visual\.conv1\.weight", "vision_model.embeddings.patch_embedding.weight"),
    (r"visual\.class_embedding", "vision_model.embeddings.class_embedding"),
    (r"visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.ln_pre\.(.+)", r"vision_model.pre_layrnorm.\1"),
    (r"visual\.ln_post\.(.+)", r"vision_model.post_layernorm.\1"),
    (r"visual\.transformer\.resblocks\.(.+)", r"vision_model.encoder.layers.\1"),
    (r"(?:text\.)?transformer\.resblocks\.(.+)", r"text_model.encoder.layers.\1"),
    (r"(?:text\.)?token_embedding\.weight", "text_model.embeddings.token_embedding.weight"),
    (r"(?:text\.)?positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (r"(?:text\.)?ln_final\.(.+)", r"text_model.final_layer_norm.\1"),
)
#: Projections stored as [inputs, outputs].
_TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
    "text.text_projection": "text_projection.weight",
}
#: Parts of a block.
_BLOCK = {
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
_FUSED = re.compile(r"(.+)\.attn\.in_proj_(weight|bias)")


def rename_open_clip(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return tensors of open_clip's own CLIP under transformers' names; a name that is not known stays."""
    return {name: tensor for stored, value in tensors.items() for name, tensor in _renamed(stored, value)}


def _renamed(name: str, tensor: LazyTensor) -> Iterator[tuple[str, LazyTensor]]:
    if name in _TRANSPOSED and len(tensor.shape) == 2:
        yield _TRANSPOSED[name], _changed(tensor, tensor.shape[::-1], lambda array: array.T)
        return
    for pattern, new in _RENAMED:
        match = re.fullmatch(pattern, name)
        if match:
            name = match.expand(new)
            break
    for old, new in _BLOCK.items():
        name = name.replace(old, new)
    fused = _FUSED.fullmatch(name)
    if not fused:
        yield name, tensor
        return
    size = tensor.shape[0] // 3
    for number, part in enumerate("qkv"):
        yield f"{fused[1]}.self_attn.{part}_proj.{fused[2]}", _rows(tensor, number * size, size)


def _rows(tensor: LazyTensor, start: int, count: int) -> LazyTensor:
    return _changed(tensor, (count, *tensor.shape[1:]), lambda array: array[start : start + count])


def _changed(tensor: LazyTensor, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> LazyTensor:
    return replace(tensor, shape=shape, load=lambda: np.ascontiguousarray(change(tensor.load())))
