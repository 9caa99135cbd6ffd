"""A trained model as a folder that every reader of its base can read: the base's own files with new weights.

The files around the weights are copied, not written again: newer versions of sentence-transformers write class names
into ``modules.json`` that older ones, Text Embeddings Inference and vLLM do not know.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nearfield.checkpoint.model_folder import MATRYOSHKA_KEY
from nearfield.evaluation.json_types import JsonDict
from nearfield.training.fine_tuning.base_model import BaseModel
from nearfield.training.fine_tuning.torch_training.models import TorchModel, quiet
from nearfield.training.model_files import copy_files, module_places

_CONFIG = "config_sentence_transformers.json"


def write_model(
    model: TorchModel, base: BaseModel, folder: Path, *, adapter: bool, matryoshka: Sequence[int] = ()
) -> None:
    """Write a trained model, or its adapter alone as PEFT does, into a new folder.

    ``matryoshka`` are the sizes that its vectors were trained to be truncated to: the folder of a model states them.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    with quiet():
        if adapter:
            _write_adapter(model, base, folder)
            return
        copy_files(base.folder, folder)
        _write_prompts(base, folder / _CONFIG)
        _write_sizes(base, folder / _CONFIG, matryoshka)
        _write_modules(model, module_places(base.folder), folder)


def _write_sizes(base: BaseModel, path: Path, matryoshka: Sequence[int]) -> None:
    sizes = sorted({*matryoshka} - {base.recipe.dimensions}, reverse=True)
    if not sizes:
        return
    config = {**_read_config(path), MATRYOSHKA_KEY: sizes}
    config.setdefault("similarity_fn_name", base.recipe.similarity)
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def _read_config(path: Path) -> JsonDict:
    config: JsonDict = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return config


def _write_prompts(base: BaseModel, path: Path) -> None:
    """Write the prompts that the catalogue knows of the base: under its new name the catalogue does not know it."""
    config = _read_config(path)
    prompts = dict(base.recipe.prompts)
    if not any(prompts.values()) or config.get("prompts") == prompts:
        return
    config |= {"prompts": prompts, "default_prompt_name": base.recipe.default_prompt_name}
    config.setdefault("similarity_fn_name", base.recipe.similarity)
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def _write_modules(model: TorchModel, places: list[str], folder: Path) -> None:
    for module, place in zip(model.children(), places, strict=False):
        target = folder / place
        if _transformer(module) is not None:
            _write_weights(_transformer(module), target)
        elif any(True for _ in module.parameters()):
            _write_weights_of_module(module, target)


def _transformer(module: Any) -> Any:
    """Return the model of transformers in a module; None for other modules."""
    inner = getattr(module, "model", None) or getattr(module, "auto_model", None)
    return inner if hasattr(inner, "save_pretrained") else None


def _write_weights(inner: Any, target: Path) -> None:
    """Write safetensors alone: the configuration stays the base's."""
    part = target / ".weights"
    inner.save_pretrained(part)
    _move(part.glob("*.safetensors*"), target)
    shutil.rmtree(part)


def _write_weights_of_module(module: Any, target: Path) -> None:
    part = target / ".weights"
    part.mkdir(parents=True)
    module.save(str(part))
    _move(part.glob("*.safetensors"), target)
    shutil.rmtree(part)


def _move(paths: Iterable[Path], target: Path) -> None:
    """Move files; they get the mode of other new files: safetensors' own are for their owner alone."""
    mode = target.stat().st_mode & 0o666
    for path in list(paths):
        path.chmod(mode)
        path.replace(target / path.name)


def _write_adapter(model: TorchModel, base: BaseModel, folder: Path) -> None:
    inner = _transformer(next(iter(model.children())))
    part = folder / ".adapter"
    inner.save_pretrained(part)
    _move(part.glob("adapter_*"), folder)
    shutil.rmtree(part)
    path = folder / "adapter_config.json"
    config: JsonDict = json.loads(path.read_text(encoding="utf-8"))
    is_folder = Path(base.requested).expanduser().exists()
    config["base_model_name_or_path"] = str(base.folder) if is_folder else base.name
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True), encoding="utf-8")
