"""A model's folder in the format of sentence-transformers: read its settings, and copy it with other ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfield.checkpoint import json_file
from nearfield.errors import InputError
from nearfield.inference.loaded_model import LoadedModel

SETTINGS = "config_sentence_transformers.json"
_TOKENIZER_SETTINGS, _TRANSFORMER_SETTINGS = "tokenizer_config.json", "sentence_bert_config.json"


@dataclass(frozen=True)
class SavedSettings:
    """What a model's folder itself says about its use; the catalogue may know more prompts, which are not here."""

    prompts: Mapping[str, str | None] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    max_active_dims: int | None = None

    @classmethod
    def read(cls, folder: Path, model_type: str) -> SavedSettings:
        """Read the settings of a folder; those of a model of another type do not apply."""
        saved = json_file.read_optional(folder / SETTINGS)
        if saved.get("model_type", "SentenceTransformer") != model_type:
            return cls()
        return cls(
            saved.get("prompts") or {},
            saved.get("default_prompt_name"),
            saved.get("similarity_fn_name"),
            saved.get("truncate_dim"),
            saved.get("max_active_dims"),
        )


def save_folder(model: LoadedModel, target: Path, settings: Mapping[str, Any], max_length: int | None) -> None:
    """Copy the folder of a model, and write settings into the copy.

    Raises:
        InputError: the model is an adapter, whose folder does not contain all of it.
    """
    source = model.recipe.folder
    if model.default_adapter is not None or model.recipe.merged is not None:
        raise InputError(f"{model.name} is an adapter: copy its folder, and keep that of its base model.")
    if target.resolve() != source.resolve():
        # Files in the Hub's cache are links.
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=False)
    _update(target / SETTINGS, settings)
    if max_length is not None:
        _update(target / _TOKENIZER_SETTINGS, {"model_max_length": max_length})
        if (target / _TRANSFORMER_SETTINGS).is_file():
            _update(target / _TRANSFORMER_SETTINGS, {"max_seq_length": max_length})


def _update(file: Path, changes: Mapping[str, Any]) -> None:
    values = {**json_file.read_optional(file), **changes}
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
