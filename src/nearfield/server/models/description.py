"""Descriptions of loaded models: what the HTTP and gRPC APIs may know about a model, without the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

from nearfield.checkpoint.weights.lora import Adapters
from nearfield.encoder import Encoder
from nearfield.hub.gguf import GgufFacts
from nearfield.inference.loaded_model import LoadedModel
from nearfield.recipe import ROLE_PROMPTS, Multivector, Normalize, Pooling, Recipe, Splade
from nearfield.reranker import Reranker, Scorer

ModelKind = Literal["encoder", "reranker", "classifier"]


@dataclass(frozen=True)
class ModelDescription:
    """One loaded model as the APIs see it. It holds no weights, so that it can outlive the model."""

    #: Full id, or the name of the model's folder.
    name: str
    kind: ModelKind
    #: What the model computes, its main output first: dense, sparse, multivector, scores.
    outputs: tuple[str, ...]
    #: Tokens read of each input, special tokens and prompt included; patches of a model of pictures alone.
    max_length: int
    #: Maximum number of tokens of a batch, padding included.
    batch_tokens: int
    #: Number format of the matrix units: ``float32``, ``bf16``, ...
    precision: str
    #: The folder of the model's files.
    folder: Path
    #: What the model reads: text, image.
    modalities: tuple[str, ...] = ("text",)
    #: The devices on which it runs, such as ``cuda:0`` and ``cuda:1``: each has a replica.
    devices: tuple[str, ...] = ("cpu",)
    #: Whether one input may have several parts, such as a text and pictures.
    fuses: bool = False
    revision: str | None = None
    licence: str | None = None
    #: ``model_type`` of the model's configuration; empty if it has none.
    architecture: str = ""
    #: Size of the dense vector, or of the main output if there is no dense one; 0 for rerankers and classifiers.
    dimensions: int = 0
    #: Size of each output's vectors, for encoders.
    sizes: Mapping[str, int] = field(default_factory=dict)
    #: Measure by which dense vectors are compared.
    similarity: str = "cosine"
    #: Whether the model's own last module scales dense vectors to unit length.
    normalized: bool = False
    #: The same for the vectors of single tokens (late interaction).
    multivectors_normalized: bool = False
    #: Pooling modes of the main output as sentence-transformers names them, or ``splade``; empty without pooling.
    pooling: tuple[str, ...] = ()
    #: Prompts by their names.
    prompts: Mapping[str, str] = field(default_factory=dict)
    #: The prompt of requests that name none.
    default_prompt: str = ""
    #: Prompts of the roles ``query`` and ``document`` that have one.
    role_prompts: Mapping[str, str] = field(default_factory=dict)
    #: What ``encode`` accepts as a task: tasks of the model, and names of prompts.
    tasks: tuple[str, ...] = ()
    #: Names of a reranker's or classifier's scores, in order.
    labels: tuple[str, ...] = ()
    #: Applied to a reranker's or classifier's numbers unless a request says otherwise.
    activation: str = "identity"
    #: Vector space of an encoder's dense vectors; of a reranker or classifier, what identifies its scores.
    fingerprint: str | None = None
    #: What its GGUF file says of its weights; None where they are in other files.
    gguf: GgufFacts | None = None

    @property
    def is_encoder(self) -> bool:
        """Whether the model computes vectors."""
        return self.kind == "encoder"

    @property
    def is_reranker(self) -> bool:
        """Whether the model is a cross-encoder with a single score."""
        return self.kind == "reranker" and len(self.labels) == 1

    @cached_property
    def disk_bytes(self) -> int:
        """Bytes of the files in the model's folder."""
        return sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file())


#: Descriptions by model, with the set of adapters that was loaded when each was created.
_CACHE: WeakKeyDictionary[LoadedModel, tuple[Adapters, ModelDescription]] = WeakKeyDictionary()


def describe(model: LoadedModel) -> ModelDescription:
    """Return the description of a loaded model; it is created once, and again when adapters change."""
    cached, adapters = _CACHE.get(model), model._model.adapters  # replaced as a whole when one is loaded or removed
    if cached is not None and cached[0] is adapters:
        return cached[1]
    description = _describe(model)
    _CACHE[model] = (adapters, description)
    return description


def _describe(model: LoadedModel) -> ModelDescription:
    recipe = model.recipe
    encoder = model if isinstance(model, Encoder) else None
    scorer = model if isinstance(model, Scorer) else None
    multivector = recipe.head("multivector")
    return ModelDescription(
        name=model.name,
        kind="encoder" if scorer is None else "reranker" if isinstance(scorer, Reranker) else "classifier",
        outputs=recipe.outputs,
        max_length=model.max_length,
        batch_tokens=model.batch_tokens,
        precision=model.precision,
        devices=model.devices,
        folder=recipe.folder,
        modalities=model.modalities,
        fuses=recipe.fuses,
        revision=recipe.revision,
        licence=recipe.licence,
        architecture=str(recipe.config.get("model_type") or ""),
        dimensions=encoder.default_dimensions if encoder is not None else 0,
        sizes=_sizes(recipe) if encoder is not None else {},
        similarity=recipe.similarity,
        normalized=recipe.normalized,
        multivectors_normalized=isinstance(multivector, Multivector)
        and bool(multivector.modules)
        and isinstance(multivector.modules[-1], Normalize),
        pooling=_pooling(recipe),
        prompts=recipe.prompts,
        default_prompt=recipe.prompts.get(recipe.default_prompt_name or "", ""),
        role_prompts=_role_prompts(recipe),
        tasks=encoder.tasks if encoder is not None else (),
        labels=scorer.labels if scorer is not None else (),
        activation=scorer.activation if scorer is not None else "identity",
        fingerprint=_fingerprint(model),
        gguf=GgufFacts.from_folder(recipe.folder),
    )


def _fingerprint(model: LoadedModel) -> str | None:
    if isinstance(model, Scorer):
        return model.fingerprint
    return model.fingerprint if isinstance(model, Encoder) and "dense" in model.recipe.outputs else None


def _sizes(recipe: Recipe) -> dict[str, int]:
    multivector = recipe.head("multivector")
    sizes = {
        "dense": recipe.dimensions,
        "sparse": int(recipe.config.get("vocab_size") or 0),
        "multivector": multivector.dimensions if isinstance(multivector, Multivector) else 0,
    }
    return {output: sizes[output] for output in recipe.outputs if output in sizes}


def _pooling(recipe: Recipe) -> tuple[str, ...]:
    if isinstance(recipe.head(recipe.outputs[0]), Splade):
        return ("splade",)
    return next((module.modes for module in recipe.modules if isinstance(module, Pooling)), ())


def _role_prompts(recipe: Recipe) -> dict[str, str]:
    names = {role: recipe.role_prompt_name(role) for role in ROLE_PROMPTS}
    return {role: recipe.prompts[name] for role, name in names.items() if name is not None}
