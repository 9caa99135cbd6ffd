"""Subject: what is measured: one protocol for a model here or at an endpoint, BM25, a hybrid, a reranked search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, Protocol, runtime_checkable

from nearfield.encoder import Encoder
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.local_model import LocalModel
from nearfield.evaluation.systems.variant import Variant

__all__ = ["EmbeddingCache", "EmbeddingSystem", "Role", "SearchSystem", "Variant", "of_encoder", "open_system"]

from nearfield.arrays import Array

#: What opens each kind of variant; imported when one is asked for.
_KINDS = {
    "model": "nearfield.evaluation.systems.local_model:LocalModel",
    "search": "nearfield.evaluation.systems.search:SearchPipeline",
    "endpoint": "nearfield.evaluation.systems.endpoint:EndpointModel",
}
#: What a text is: ``symmetric`` where two sides are alike (STS, clustering).
Role = Literal["query", "document", "symmetric"]


@runtime_checkable
class EmbeddingSystem(Protocol):
    """Turns texts into something that can be compared.

    It may also have ``truncated`` (texts cut so far; None or no such attribute: unknown) and ``told()`` (what results
    say of it beside name and identity).
    """

    @property
    def name(self) -> str:
        """As shown."""

    @property
    def identity(self) -> str:
        """What results are cached by: it changes whenever its vectors or its order of documents may."""

    def encode(self, texts: Sequence[str], *, role: Role) -> Any:
        """Return what ``similarity`` takes: float32 [n, dimensions] where vectors are dense."""

    def similarity(self, a: Any, b: Any) -> Array:
        """Return scores [len(a), len(b)]; higher is nearer."""

    def close(self) -> None:
        """Let go of what it holds."""


@runtime_checkable
class SearchSystem(Protocol):
    """A subject that finds documents itself, such as BM25; the task retrieval then asks it.

    ``most`` is how many results at most are worth asking for (what was reranked); None: as many as are wanted.
    """

    @property
    def name(self) -> str:
        """As shown."""

    @property
    def identity(self) -> str:
        """What results are cached by."""

    @property
    def most(self) -> int | None:
        """Results at most that are worth asking for."""

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Return for each query's id the ids and scores of the ``k`` best documents."""

    def close(self) -> None:
        """Let go of what it holds."""


def open_system(variant: Variant | str, memo: EmbeddingCache | None = None) -> Any:
    """Open what a variant names; ``close`` it in the end.

    ``memo`` is shared by variants of one model, so that none encodes a text that another one did.

    Raises:
        InputError: the variant asks for what the model cannot do.
        ModelNotFound, SourceUnavailable, ModelRefused: the model cannot be had, or not loaded exactly.
    """
    told = Variant.parse(variant) if isinstance(variant, str) else variant
    module, name = _KINDS["endpoint" if told.url else "search" if told.searches else "model"].split(":")
    return getattr(import_module(module), name)(told, memo=memo)


def of_encoder(encoder: Encoder) -> LocalModel:
    """Return a loaded model as a subject, by its main output; it is left open."""
    return LocalModel(Variant(encoder.name, output=encoder.recipe.outputs[0]), encoder)
