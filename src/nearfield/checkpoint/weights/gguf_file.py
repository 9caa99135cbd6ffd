"""The tensors of a GGUF file, named and laid out as in the model's safetensors files, and widened to float32.

llama.cpp stores some of them otherwise: it turns Llama's queries and keys, adds 1 to Gemma's norms, transposes experts,
and drops the axis of a table's only row. That is undone here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.lazy_tensor import LAYOUT, LazyTensor, widen
from nearfield.errors import ModelRefused, WeightsError
from nearfield.hub.gguf.architectures import (
    CLASS_HEAD,
    DENSE_LAYERS,
    OUTPUT_LABELS,
    find_architecture,
    rename_tensor,
)
from nearfield.hub.gguf.header import GgufHeader, TensorEntry, read_header
from nearfield.hub.gguf.vocabulary import stored_list

#: Matrices that may have one row, whose axis older converters drop.
_ONE_ROW = ("token_types.weight", "position_embd.weight", f"{CLASS_HEAD}.weight")
_ROUTER, _GATE, _ANSWERS = ".router.layer.weight", ".gate.weight", "score.weight"


def read_gguf(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of a GGUF file by their Hugging Face names; none is read yet.

    In the folder of a module, which has the layer's name, it is that layer alone.

    Raises:
        ModelRefused: the file is damaged, or its architecture is not read.
        WeightsError: it has tensors that its architecture does not have.
    """
    header = read_header(path)
    tensors = _named_tensors(header)
    module = path.parent.name
    if module in DENSE_LAYERS:
        return {name.removeprefix(f"{module}."): tensor for name, tensor in tensors.items() if name.startswith(module)}
    joined = {**tensors, **dict(_join_gates(tensors)), **dict(_add_biases(tensors)), **dict(_answers(header, tensors))}
    halves = (_GATE, ".mlp.up.weight", _ANSWERS, *(f"{layer}.linear.weight" for layer in DENSE_LAYERS))
    return {name: tensor for name, tensor in joined.items() if not name.endswith(halves)}


def _named_tensors(header: GgufHeader) -> dict[str, LazyTensor]:
    names = find_architecture(header).names
    renamed = {entry.name: rename_tensor(entry.name, names) for entry in header.tensors.values()}
    unknown = sorted(name for name, usual in renamed.items() if usual is None)
    if unknown:
        raise WeightsError(
            f"{header.path} has tensors that {header.architecture} does not have ({', '.join(unknown[:3])}): it is "
            "another model than it says. Load the model from its safetensors files."
        )
    return {str(renamed[entry.name]): _lazy_tensor(header, entry) for entry in header.tensors.values()}


def _lazy_tensor(header: GgufHeader, entry: TensorEntry) -> LazyTensor:
    restore, shape = _restoration(header, entry)

    def load() -> Array:
        return np.ascontiguousarray(restore(_read_values(header.path, entry)).reshape(shape))

    return LazyTensor(header.path, "F32", shape, load)


def _read_values(path: Path, entry: TensorEntry) -> Array:
    """Read a tensor as float32. int8 weights that a backend can take unchanged would be handed over from here."""
    raw = np.asarray(np.memmap(path, np.uint8, "r", entry.start, (entry.bytes,)))
    layout = LAYOUT.get(entry.type.name)
    values = _dequantize(raw, entry) if layout is None else widen(raw.view(layout), entry.type.name)
    if not np.isfinite(values).all():
        raise WeightsError(f"{path} is damaged: {entry.name} has values that are no numbers. Download it again.")
    return values.reshape(entry.shape)


def _dequantize(raw: Array, entry: TensorEntry) -> Array:
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        raise WeightsError(
            f"Weights of type {entry.type.name} are read with the gguf package: pip install 'nearfield[gguf]'."
        ) from error
    rows = raw.reshape(-1, entry.shape[-1] // entry.type.block * entry.type.size)
    return np.asarray(dequantize(rows, GGMLQuantizationType[entry.type.name]))


def _restoration(header: GgufHeader, entry: TensorEntry) -> tuple[Callable[[Array], Array], tuple[int, ...]]:
    """Return what undoes the converter's change of a tensor, and the shape that the tensor then has."""
    name, shape = entry.name, entry.shape
    if name in _ONE_ROW and len(shape) == 1:
        return _same, (1, *shape)
    if name.endswith("_exps.weight") and len(shape) == 3:
        experts, rows, columns = shape
        down = "_down_" in name
        return (_transpose, (experts * columns, rows)) if down else (_same, (experts * rows, columns))
    if header.architecture == "llama" and (".attn_q." in name or ".attn_k." in name):
        heads = header.setting("attention.head_count")
        shared = header.setting("attention.head_count_kv", heads)
        return partial(_halve_heads, shared if ".attn_k." in name else heads), shape
    if header.architecture == "gemma-embedding" and name.endswith("norm.weight"):
        return _less_one, shape
    return _same, shape


def _same(values: Array) -> Array:
    return values


def _less_one(values: Array) -> Array:
    return values - np.float32(1)


def _transpose(experts: Array) -> Array:
    return experts.transpose(0, 2, 1)


def _halve_heads(heads: int, values: Array) -> Array:
    """Put the features of each head back into two halves; llama.cpp has the pairs that are turned side by side."""
    return values.reshape(heads, len(values) // heads // 2, 2, *values.shape[1:]).swapaxes(1, 2)


def _join_gates(tensors: Mapping[str, LazyTensor]) -> Iterator[tuple[str, LazyTensor]]:
    """Yield Jina's gates joined with what they gate: older converters stored the two apart."""
    for stem in (name.removesuffix(_GATE) for name in tensors if name.endswith(_GATE)):
        gate, up = tensors[f"{stem}{_GATE}"], tensors[f"{stem}.up.weight"]
        if f"{stem}.down_layer.weight" in tensors:
            yield f"{stem}.up_gated_layer.weight", _stack(up, gate)
        else:
            yield f"{stem}.gated_layers.weight", _stack(gate, up)


def _stack(first: LazyTensor, second: LazyTensor) -> LazyTensor:
    shape = (first.shape[0] + second.shape[0], *first.shape[1:])
    return LazyTensor(first.file, "F32", shape, lambda: np.concatenate([first.load(), second.load()]))


def _add_biases(tensors: Mapping[str, LazyTensor]) -> Iterator[tuple[str, LazyTensor]]:
    """Yield the biases of Nomic's experts, which llama.cpp leaves out and computes without."""
    for name, router in tensors.items():
        if name.endswith(_ROUTER):
            shape = router.shape[1:]
            yield (
                f"{name.removesuffix(_ROUTER)}.experts.bias",
                LazyTensor(router.file, "F32", shape, partial(np.zeros, shape, np.float32)),
            )


def _answers(header: GgufHeader, tensors: Mapping[str, LazyTensor]) -> Iterator[tuple[str, LazyTensor]]:
    """Yield the last layer of a language model that scores pairs: the file has its rows of the words asked for alone.

    The other rows are zero; nothing reads them, and so they take no memory.
    """
    rows = tensors.get(_ANSWERS)
    if rows is None:
        return
    tokens, words = stored_list(header, "tokens", str), header.setting(OUTPUT_LABELS, [])
    if len(words) != rows.shape[0] or not set(words) <= set(tokens):
        raise ModelRefused(
            f"{header.path} scores by {rows.shape[0]} words, and names {words!r} ({OUTPUT_LABELS}), which must be so "
            "many tokens. Convert the model again with a current llama.cpp."
        )
    numbers, shape = [tokens.index(word) for word in words], (len(tokens), rows.shape[1])

    def load() -> Array:
        layer = np.zeros(shape, np.float32)
        layer[numbers] = rows.load()
        return layer

    yield "lm_head.weight", LazyTensor(rows.file, "F32", shape, load)
