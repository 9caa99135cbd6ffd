"""The model that is trained: its files, its kind, the prompts of each role, and why some models cannot be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nearfield.checkpoint.weights import digest, weights
from nearfield.errors import ModelRefused
from nearfield.evaluation.json_types import JsonDict
from nearfield.inference.encode_options import resolve_prompt
from nearfield.inference.uncompiled_model import read_model
from nearfield.recipe import ClassScores, Recipe, Splade

#: Kinds of models that are trained, by their main output.
TRAINABLE_KINDS = ("dense", "sparse", "multivector", "scores")


@dataclass(frozen=True)
class BaseModel:
    """A model that can be trained.

    Args:
        requested: the name or folder by which it was requested.
        name: its id, or the name of its folder.
        recipe: what its folder and the catalogue say.
        prompts: the text before each input, by role: ``query``, ``document`` and ``symmetric``.
    """

    requested: str
    name: str
    recipe: Recipe
    prompts: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The main output: dense, sparse, multivector or scores."""
        return self.recipe.outputs[0]

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.recipe.folder

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of its weights."""
        return digest.of_files(weights.files(self.folder))

    @cached_property
    def weight_bytes(self) -> int:
        """The size of the files with its weights."""
        return sum(path.stat().st_size for path in weights.files(self.folder))

    def to_dict(self) -> JsonDict:
        """Return name, kind, digest, licence and prompts in a form for JSON."""
        facts = {"name": self.name, "kind": self.kind, "digest": self.digest, "licence": self.recipe.licence}
        return {**facts, "revision": self.recipe.revision, "prompts": dict(self.prompts)}


def open_base(model: str, *, source: str | None = None, accept_license: bool = False) -> BaseModel:
    """Find a model and check that it can be trained.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder.
        source: the only place to search, as for ``nearfield.load``.
        accept_license: use a model whose licence does not allow commercial use.

    Raises:
        ModelNotFound, SourceUnavailable: there is no such model, or its files cannot be downloaded.
        ModelRefused: it cannot be read, or not be trained here; the message says why.
    """
    uncompiled = read_model(model, source=source, accept_license=accept_license)
    recipe = uncompiled.recipe
    reason = _refusal(recipe, has_adapter=uncompiled.default_adapter is not None)
    if reason:
        raise ModelRefused(f"{recipe.name} cannot be trained here: {reason}")
    roles = {"query": "query", "document": "document", "symmetric": None}
    return BaseModel(
        model, recipe.name, recipe, {key: resolve_prompt(recipe, None, None, role) for key, role in roles.items()}
    )


def _refusal(recipe: Recipe, *, has_adapter: bool) -> str | None:
    """Return why a model cannot be trained; None if it can."""
    if recipe.config.get("model_type") == "static":
        return (
            "it looks up static vectors and has no layers. Train the model that it was distilled from, and distil that."
        )
    if recipe.quantized:
        return f"its weights are in {recipe.quantized}. Train the model that they are from, and quantise that."
    if recipe.exported_graph is not None:
        return f"it is an exported graph ({recipe.exported_graph.name}). Train the weights that it was exported from."
    if recipe.merged is not None or has_adapter:
        return "its folder is an adapter. Train its base model, or merge the adapter into it first."
    if weights.files(recipe.folder)[0].suffix == ".gguf":
        return "its weights are in a GGUF file. Train the model that it was converted from."
    if recipe.towers or recipe.fused or recipe.modality != "text":
        return "it reads pictures or sounds too, and only models of texts are trained."
    if recipe.outputs[0] == "scores":
        return _reranker_refusal(recipe)
    head = recipe.head("sparse")
    if recipe.outputs[0] == "sparse" and (not isinstance(head, Splade) or head.query_weights):
        return "its sparse vectors are no SPLADE of one model; only such ones are trained."
    return None


def _reranker_refusal(recipe: Recipe) -> str | None:
    head = recipe.head("scores")
    if not isinstance(head, ClassScores):
        return "it is a language model that answers with a word; only cross-encoders with one score are trained."
    if len(head.labels) > 1:
        return f"it is a classifier of {len(head.labels)} labels; only cross-encoders with one score are trained."
    return None
