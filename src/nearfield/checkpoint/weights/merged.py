"""Weights of a retriever of pages whose folder is a LoRA adapter: merged into those of the base model.

Base and adapter were often written by other versions of colpali-engine and transformers, which call the same layer by
other names (``model.layers.0``, ``language_model.layers.0``). Both are read under one name.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from nearfield.arrays import Array
from nearfield.checkpoint.weights.lazy_tensor import LazyTensor
from nearfield.checkpoint.weights.lora import Adapter, read_adapter, tensor_names
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import WeightsError
from nearfield.recipe import MergedWeights

#: The last layer, as transformers and colpali-engine call it.
PROJECTIONS = ("embedding_proj_layer", "custom_text_proj")
_PROJECTION = PROJECTIONS[1]
_OUTER = re.compile(r"^(base_model\.model\.)?((vlm|model|language_model)\.)*")
_TEXT = re.compile(r"^(layers|embed_tokens|norm)\.")
#: What only some versions write, and what the others write for it.
_VARIANTS = (
    (re.compile(r"^(vision_tower|vision_model)\.vision_model\."), r"\1."),
    (re.compile(r"\.modality_projection\.proj\."), ".modality_projection."),
    (re.compile(r"\.(modules_to_save(\.default)?|base_layer)\."), "."),
    (re.compile(rf"^{PROJECTIONS[0]}\."), f"{_PROJECTION}."),
)


def plain_name(name: str) -> str:
    """Return the name of a weight of a retriever, or of its adapter, as one version writes it."""
    inner = _OUTER.sub("", name)
    for pattern, usual in _VARIANTS:
        inner = pattern.sub(usual, inner)
    return f"language_model.{inner}" if _TEXT.match(inner) else inner


def open_weights(source: Path | MergedWeights) -> Weights:
    """Open the weights of a folder or file, or those of a base model with an adapter merged into them.

    Raises:
        ModelRefused: the adapter cannot be merged exactly.
        WeightsError: files are missing, or the adapter changes layers that the base does not have.
    """
    if isinstance(source, Path):
        return Weights.open(source)
    adapter = read_adapter(source.adapter, source.name, merging=True)
    stored = Weights.open(source.base)
    base = stored.renamed(plain_name)
    if len(base.names()) != len(stored.names()):
        raise WeightsError(f"{source.base} has weights of two layouts, and nothing says which of them count.")
    digest = hashlib.sha256(f"{base.digest} {adapter.digest}".encode()).hexdigest()
    full = {plain_name(name): adapter.stored(name) for name in adapter.full}
    whole = base.replaced(full, digest)
    changed = {plain_name(f"{layer}.weight"): layer for layer in adapter.layers}
    added = {name for name in full if not name.startswith(f"{_PROJECTION}.")}
    if unknown := sorted((added - base.names()) | (changed.keys() - whole.names())):
        raise WeightsError(
            f"The adapter {source.adapter} changes weights that {source.base} does not have "
            f"({', '.join(unknown[:3])}{', …' if len(unknown) > 3 else ''}): it was trained for another base model"
            f"{f', {adapter.base}' if adapter.base else ''}."
        )
    merged = {name: _merge(whole.stored(name), name, adapter, layer) for name, layer in changed.items()}
    return whole.replaced(merged, digest)


def _merge(stored: LazyTensor, name: str, adapter: Adapter, layer: str) -> LazyTensor:
    """Return a weight to which the product of an adapter's factors is added when it is read."""

    def load() -> Array:
        weight, added = stored.read(name), adapter.delta(layer)
        if weight.shape != added.shape:
            raise WeightsError(
                f"{name} in {stored.file} has shape {list(weight.shape)}, and the adapter {adapter.folder} is for "
                f"{list(added.shape)}: it was trained for another base model."
            )
        return weight + added

    return LazyTensor(stored.file, "F32", stored.shape, load)


def adds_projection(adapter: Path) -> bool:
    """Return whether an adapter changes the last layer of a retriever, or has it in full."""
    return any(plain_name(name).startswith(f"{_PROJECTION}.") for name in tensor_names(adapter))
