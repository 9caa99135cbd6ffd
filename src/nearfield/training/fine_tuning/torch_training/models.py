"""sentence-transformers' classes for each kind of model: the model, its trainer, its arguments; opened quietly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from nearfield.errors import MissingExtra, ModelRefused
from nearfield.training.fine_tuning.base_model import BaseModel

#: A model of sentence-transformers, which has no types here.
TorchModel: TypeAlias = Any


@dataclass(frozen=True)
class ModelClasses:
    """Names of the classes of a kind of model in ``sentence_transformers``."""

    model: str
    trainer: str
    arguments: str


_CLASSES: Mapping[str, ModelClasses] = {
    "dense": ModelClasses("SentenceTransformer", "SentenceTransformerTrainer", "SentenceTransformerTrainingArguments"),
    "sparse": ModelClasses("SparseEncoder", "SparseEncoderTrainer", "SparseEncoderTrainingArguments"),
    "scores": ModelClasses("CrossEncoder", "CrossEncoderTrainer", "CrossEncoderTrainingArguments"),
    "multivector": ModelClasses(
        "MultiVectorEncoder", "MultiVectorEncoderTrainer", "MultiVectorEncoderTrainingArguments"
    ),
}


def train_library(name: str) -> Any:
    """Import a module of the extra ``train``.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Training needs {error.name!r}: pip install 'nearfield[train]'") from error


def require_train_extra() -> None:
    """Raise MissingExtra unless all libraries of the extra ``train`` are installed."""
    for name in ("torch", "sentence_transformers", "datasets", "accelerate", "peft"):
        train_library(name)


def model_class(kind: str) -> Any:
    """Return sentence-transformers' class of a kind of model."""
    return getattr(train_library("sentence_transformers"), _CLASSES[kind].model)


def trainer_classes(kind: str) -> tuple[Any, Any]:
    """Return the classes of the trainer and of its arguments."""
    library, names = train_library("sentence_transformers"), _CLASSES[kind]
    return getattr(library, names.trainer), getattr(library, names.arguments)


def open_torch_model(base: BaseModel, folder: Path | None = None, *, max_length: int | None = None) -> TorchModel:
    """Open the base, a folder of the same kind, or an adapter of the base, in float32.

    Raises:
        ModelRefused: sentence-transformers cannot load it, for example because it needs code from its folder.
    """
    is_adapter = folder is not None and (folder / "adapter_config.json").is_file()
    place = str(base.folder if folder is None or is_adapter else folder)
    options = {"local_files_only": True, "trust_remote_code": False, "model_kwargs": {"dtype": "float32"}}
    with quiet():
        try:
            model = model_class(base.kind)(place, **options)
            if is_adapter:
                model.load_adapter(str(folder))
        except (OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelRefused(f"sentence-transformers cannot load {base.name} for training: {reason}") from error
    length = min(max_length or base.recipe.max_length, base.recipe.max_length)
    model.max_seq_length = length
    return model


@contextmanager
def reading_whole_texts(model: TorchModel, base: BaseModel) -> Iterator[None]:
    """Let a model read as many tokens as its base, as the engine does, during the block: training may read fewer."""
    length = model.max_seq_length
    model.max_seq_length = base.recipe.max_length
    try:
        yield
    finally:
        model.max_seq_length = length


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the reports and bars of transformers during the block; errors are raised as ever."""
    library = train_library("transformers").utils.logging
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    noisy = logging.getLogger("sentence_transformers")
    before = noisy.level
    library.set_verbosity_error()
    library.disable_progress_bar()
    noisy.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.set_verbosity(level)
        noisy.setLevel(before)
        if bars:
            library.enable_progress_bar()
