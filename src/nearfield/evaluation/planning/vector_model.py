"""What is stored of a model's texts: kind and dimensions of its vectors, from its files or from the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from nearfield import catalog, hub
from nearfield.catalog import CatalogEntry
from nearfield.checkpoint import model_folder
from nearfield.errors import InputError, ModelNotFound, ModelRefused, SourceUnavailable
from nearfield.evaluation.planning.vector_count import TokenSelection, VectorCount, measured_count, term_count
from nearfield.recipe import Multivector, Recipe


@dataclass(frozen=True)
class VectorModel:
    """A model's vectors. ``kind`` is dense, sparse or multivector; ``matryoshka`` are dimensions it can be cut to.

    ``head`` is the description of a model of late interaction; None if its files are not on this machine.
    """

    name: str
    kind: str
    dimensions: int
    max_tokens: int
    matryoshka: tuple[int, ...] = ()
    head: Multivector | None = None

    @property
    def all_dimensions(self) -> tuple[int, ...]:
        """The dimensions that its vectors can have, the most first."""
        smaller = (size for size in self.matryoshka if size < self.dimensions)
        return (self.dimensions, *sorted(smaller, reverse=True))


@dataclass(frozen=True)
class CountOptions:
    """What a user states of the texts: tokens and terms of one, share of punctuation, pooling; and what was measured.

    ``measured`` is the number of vectors or terms of a text in sample texts; None: not measured.
    """

    tokens: float | None = None
    terms: float | None = None
    punctuation: float | None = None
    pool_factor: float = 1.0
    measured: float | None = None


def read_vector_model(name: str) -> VectorModel:
    """Return what is stored of a model's texts; nothing is downloaded for it.

    Raises:
        InputError: the name is neither in the catalogue nor a folder, or the model gives scores, not vectors.
    """
    entry = catalog.find_unless_folder(name)
    if entry is None and not hub.has_model(name):
        raise InputError(f"The catalogue has no model {name!r} (nearfield models list): use --dims.", param="model")
    model = _from_folder(name) if entry is None else _from_entry(entry)
    if model.kind not in ("dense", "sparse", "multivector"):
        raise InputError(f"{model.name} gives {model.kind}, not vectors: nothing of it is stored.", param="model")
    return model


def count_vectors(model: VectorModel, options: CountOptions) -> VectorCount:
    """Return the vectors that a model stores for a text; of a sparse model, its weights.

    Raises:
        InputError: the tokens (or terms) of a text are needed, and not stated.
    """
    _check_options(model, options)
    if model.kind == "dense":
        return VectorCount(1.0, "1 vector a text")
    selection = TokenSelection(model.max_tokens, model.head, options.punctuation, options.pool_factor)
    if options.measured is not None:
        counted = measured_count(options.measured, "terms" if model.kind == "sparse" else "vectors")
        return VectorCount(counted.per_text / selection.pool_factor, counted.formula)
    if model.kind == "sparse":
        return term_count(options.terms, model.name)
    if options.tokens is None:
        raise InputError(
            f"{model.name} stores a vector for each token of a text, so that the size needs the tokens of a text: "
            "--tokens, or --measure to count them in sample texts.",
            param="tokens",
        )
    return selection.count(options.tokens)


def token_selection(entry: CatalogEntry) -> TokenSelection:
    """Return which tokens of a text get a vector in a model of late interaction of the catalogue.

    Its description is read if its files are on this machine; otherwise all tokens that it reads are counted.
    """
    model = _from_entry(entry)
    return TokenSelection(model.max_tokens, model.head)


def _check_options(model: VectorModel, options: CountOptions) -> None:
    used = {"dense": (), "sparse": ("terms",), "multivector": ("punctuation", "pool_factor")}[model.kind]
    stated = {"terms": options.terms, "punctuation": options.punctuation}
    stated["pool_factor"] = None if options.pool_factor == 1 else options.pool_factor
    unused = next((name for name, value in stated.items() if value is not None and name not in used), None)
    if unused is not None:
        raise InputError(
            f"--{unused.replace('_', '-')} has no meaning for {model.name}, a {model.kind} model.", param=unused
        )


def _from_entry(entry: CatalogEntry) -> VectorModel:
    recipe = _local_recipe(entry) if entry.kind == "multivector" else None
    head = recipe.head("multivector") if recipe is not None else None
    head = head if isinstance(head, Multivector) else None
    return VectorModel(entry.id, entry.kind, entry.dimensions, entry.max_length, entry.matryoshka, head)


def _from_folder(name: str) -> VectorModel:
    from nearfield.inference.uncompiled_model import read_model

    recipe = read_model(name).recipe
    kind, head = recipe.outputs[0], recipe.head("multivector")
    own_head = head if kind == "multivector" and isinstance(head, Multivector) else None
    return VectorModel(recipe.name, kind, recipe.dimensions, recipe.max_length, recipe.matryoshka, own_head)


def _local_recipe(entry: CatalogEntry) -> Recipe | None:
    """Return the recipe of a model of the catalogue, or None if its files are not on this machine."""
    try:
        located = hub.locate(entry.id, pin=entry.pin, fetch=False)
        return model_folder.read_model_folder(located.folder, name=entry.id, revision=located.revision, entry=entry)
    except (ModelNotFound, ModelRefused, SourceUnavailable):
        return None
