"""The folder of a classifier: the files of its base model, and a linear layer that gives scores as the last module.

It has the layout of sentence-transformers' ``CrossEncoder``, so that it needs no code of ours to be used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.numpy import save_file

from nearfield.checkpoint import json_file
from nearfield.checkpoint.default_pooling import token_width
from nearfield.checkpoint.modules import SCORES_OUTPUT
from nearfield.checkpoint.weights import weights
from nearfield.encoder import Encoder
from nearfield.errors import ModelRefused
from nearfield.evaluation.json_types import JsonMapping
from nearfield.fileio.whole_folder import whole_folder
from nearfield.jobs.classification.linear_head import LinearHead
from nearfield.jobs.job_vectors import encode_texts, purpose_options
from nearfield.recipe import Dense, LayerNorm, Module, Normalize, Pooling, Recipe
from nearfield.reranker import Classifier
from nearfield.training.model_files import copy_files

#: The file with the base, its fingerprint, and the figures of the head.
FACTS_FILE = "classifier.json"
#: Classes of sentence-transformers, in its own package.
_TYPES: Mapping[str, str] = {
    "Transformer": "base.modules.transformer.Transformer",
    "Pooling": "sentence_transformer.modules.pooling.Pooling",
    "Dense": "base.modules.dense.Dense",
    "LayerNorm": "sentence_transformer.modules.layer_norm.LayerNorm",
    "Normalize": "base.modules.normalize.Normalize",
}
#: Texts whose scores must be those of the head, and by how much logits may differ.
_CHECKED, _TOLERANCE = 8, 0.05


def require_portable(recipe: Recipe) -> None:
    """Raise ModelRefused unless the files of a model can hold a head: texts, one transformer, known modules."""
    reason = None
    if recipe.reads != ("text",) or recipe.outputs[0] != "dense" or not recipe.modules:
        reason = "it is no model of texts with dense vectors alone"
    elif recipe.config.get("model_type") == "static" or recipe.exported_graph is not None or recipe.quantized:
        reason = "it has no plain weights of a transformer"
    elif not all(_is_portable(module) for module in recipe.modules):
        reason = "it has modules that such a folder cannot name"
    if reason:
        raise ModelRefused(f"{recipe.name} cannot be written as a classifier: {reason}. Use another model.")


def write_classifier(
    encoder: Encoder, head: LinearHead, folder: Path, facts: JsonMapping, texts: Sequence[str]
) -> None:
    """Write a classifier; then load it, and compare its scores of the first texts with those of the head.

    Raises:
        ModelRefused: its scores are others, so that something of the model is not in its files. Nothing stays.
    """
    recipe = encoder.recipe
    with whole_folder(folder) as partial:
        copy_files(recipe.folder, partial)
        for path in (*weights.files(recipe.folder), *recipe.folder.glob("*.index.json")):
            shutil.copyfile(path, partial / path.name)
        _write_modules(partial, recipe, head)
        _write_config(partial, recipe, head)
        _write_prompts(partial, encoder)
        base = {"fingerprint": encoder.encode([]).fingerprint, "revision": recipe.revision, **facts}
        _write_json(partial / FACTS_FILE, {"format": 1, **base, "folder": None})
        _check_scores(encoder, head, partial, texts[:_CHECKED])


def _is_portable(module: Module) -> bool:
    if isinstance(module, Dense):
        return isinstance(module.weights, Path) and module.layer == "linear" and module.weights.is_dir()
    return isinstance(module, (Pooling, LayerNorm, Normalize))


def _write_modules(folder: Path, recipe: Recipe, head: LinearHead) -> None:
    entries = [_entry(0, "Transformer", "")]
    for number, module in enumerate(recipe.modules, 1):
        kind = type(module).__name__
        place = f"{number}_{kind}"
        _write_module(folder / place, module, token_width(recipe.folder, recipe.config))
        entries.append(_entry(number, kind, place))
    place = f"{len(entries)}_Scores"
    _write_scores(folder / place, head)
    _write_json(folder / "modules.json", [*entries, _entry(len(entries), "Dense", place)])


def _entry(number: int, kind: str, place: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": place, "type": f"sentence_transformers.{_TYPES[kind]}"}


def _write_module(folder: Path, module: Module, width: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of the base, where it has the same name
    folder.mkdir()
    if isinstance(module, (Dense, LayerNorm)):
        shutil.copytree(cast(Path, module.weights), folder, dirs_exist_ok=True)
    if isinstance(module, Pooling):
        config = {"embedding_dimension": width, "pooling_mode": list(module.modes)}
        _write_json(folder / "config.json", {**config, "include_prompt": module.include_prompt})


def _write_scores(folder: Path, head: LinearHead) -> None:
    folder.mkdir()
    config = {
        "in_features": head.weight.shape[1],
        "out_features": len(head.labels),
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
        "module_input_name": "sentence_embedding",
        "module_output_name": SCORES_OUTPUT,
    }
    _write_json(folder / "config.json", config)
    tensors = {"linear.weight": np.ascontiguousarray(head.weight), "linear.bias": np.ascontiguousarray(head.bias)}
    save_file(tensors, folder / "model.safetensors")


def _write_config(folder: Path, recipe: Recipe, head: LinearHead) -> None:
    config = json_file.read_object(recipe.folder / "config.json")
    names = dict(enumerate(head.labels))
    problem = "multi_label_classification" if head.several else "single_label_classification"
    config |= {"id2label": names, "label2id": {name: number for number, name in names.items()}, "problem_type": problem}
    _write_json(folder / "config.json", config)


def _write_prompts(folder: Path, encoder: Encoder) -> None:
    prompt = encoder.prompt_of(**purpose_options(encoder.recipe, "classification"))
    config: dict[str, Any] = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    if prompt:
        config |= {"prompts": {"classification": prompt}, "default_prompt_name": "classification"}
    _write_json(folder / "config_sentence_transformers.json", config)


def _write_json(path: Path, value: Mapping[str, object] | Sequence[object]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _check_scores(encoder: Encoder, head: LinearHead, folder: Path, texts: Sequence[str]) -> None:
    expected = head.logits(encode_texts(encoder, texts, "classification"))
    with Classifier(str(folder), precision="float32", compile_cache=False) as written:
        rows = [prediction.scores for prediction in written.predict(list(texts), activation="identity")]
    scores = np.array([[row[label] for label in head.labels] for row in rows])
    difference = float(np.abs(scores - expected).max())
    if difference > _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelRefused(
            f"{encoder.name} cannot be written as a classifier: logits of the folder differ by {difference:.3f} from "
            "those of the model, part of which is not in its files (an adapter, or facts of the catalogue)."
        )


def read_threshold(folder: Path) -> float:
    """Return the probability from which on predictions of a classifier are sure; 0 if its folder does not say.

    Raises:
        ModelRefused: the file was edited, and has no number there.
    """
    path = folder / FACTS_FILE
    measured = json_file.read_optional(path).get("cross_validation")
    if measured is None:
        return 0.0
    try:
        return float(measured["sure"]["threshold"])
    except (KeyError, TypeError, ValueError):
        raise ModelRefused(
            f"{path}: cross_validation.sure.threshold is no number. Train the classifier again."
        ) from None
