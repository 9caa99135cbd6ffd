"""Write a model's folder with its weights in int8 or int4, one matrix at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from safetensors.numpy import save_file

from nearfield.arrays import Array
from nearfield.checkpoint.weights.lazy_tensor import FLOATS
from nearfield.checkpoint.weights.quantized.quantization_record import FILE, VERSION
from nearfield.checkpoint.weights.quantized.stored_matrices import stored_arrays, stored_form
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.evaluation.json_types import JsonMapping
from nearfield.hardware import release_pages
from nearfield.progress import Progress
from nearfield.recipe import Recipe
from nearfield.training.model_files import copy_files, module_places

#: Bytes of a file of weights: so many are in memory while the folder is written.
_SHARD = 2**29
#: Bytes of a value in each form, of int4 with the scales and zeros of the smallest groups.
_BYTES = {"float": 4.0, "int8": 1.0, "int4": 0.5 + 5 / 64}


def root_of(recipe: Recipe) -> Path:
    """Return the folder of a model, of which that of its transformer may be a part."""
    folder = recipe.folder
    is_part = not (folder / "modules.json").is_file() and (folder.parent / "modules.json").is_file()
    return folder.parent if is_part else folder


def quantized_bytes(weights: Weights, precision: str) -> int:
    """Return about how many bytes a model's weights have in a precision."""
    shapes = {name: weights.shape(name) for name in weights.names()}
    forms = {name: stored_form(name, shape, precision) for name, shape in shapes.items()}
    return round(sum(prod(shape) * _BYTES[forms[name]] for name, shape in shapes.items()))


def write_quantized(recipe: Recipe, folder: Path, precision: str, *, shown: bool = False) -> None:
    """Write a model in a precision to an empty folder: its files, with other weights.

    Raises:
        ModelRefused: it has no matrix that is large enough to be quantised.
        WeightsError: its weights are damaged, or not finite.
    """
    root, weights = root_of(recipe), Weights.open(recipe.folder)
    names = sorted(weights.names())
    if all(stored_form(name, weights.shape(name), precision) == "float" for name in names):
        raise ModelRefused(f"{recipe.name} has no matrix that is large enough to be quantised: use it in float.")
    copy_files(root, folder)
    for place in module_places(root):
        if root / place not in (root, recipe.folder) and (root / place).is_dir():
            shutil.copytree(root / place, folder / place, dirs_exist_ok=True)
    with Progress(len(names), label="Quantising", unit="tensors", shown=shown) as progress:
        write_shards(_quantized(weights, names, precision, progress), folder / recipe.folder.relative_to(root))


def write_record(folder: Path, facts: JsonMapping) -> None:
    """Write the file that says that a folder's weights are quantised: the facts of its report."""
    text = json.dumps({"version": VERSION, **facts}, ensure_ascii=False, indent=2)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def _quantized(weights: Weights, names: list[str], precision: str, progress: Progress) -> Iterator[dict[str, Array]]:
    for name in names:
        tensor = weights.stored(name)
        if tensor.dtype in FLOATS:
            matrix = tensor.read(name)
            yield stored_arrays(name, matrix, precision)
            release_pages(matrix)
        else:  # whole numbers, such as those of positions
            yield {name: tensor.load()}
        progress.advance(1, 0)


def write_shards(tensors: Iterator[Mapping[str, Array]], folder: Path) -> None:
    """Write groups of tensors to files of weights of at most ``_SHARD`` bytes, with an index if there are several."""
    files: list[tuple[Path, list[str]]] = []
    shard: dict[str, Array] = {}
    for group in tensors:
        size = sum(array.nbytes for array in (*shard.values(), *group.values()))
        if shard and size > _SHARD:
            files.append(_write_shard(folder, len(files), shard))
            shard = {}
        shard |= group
    files.append(_write_shard(folder, len(files), shard))
    _name_shards(folder, files)


def _write_shard(folder: Path, number: int, tensors: Mapping[str, Array]) -> tuple[Path, list[str]]:
    path = folder / f"part-{number}"
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(folder.stat().st_mode & 0o666)  # safetensors writes for the owner alone
    return path, list(tensors)


def _name_shards(folder: Path, files: list[tuple[Path, list[str]]]) -> None:
    if len(files) == 1:
        files[0][0].rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, (path, names) in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        path.rename(folder / name)
        weight_map |= dict.fromkeys(names, name)
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
