"""Systems that can be evaluated: a local model, a model behind a URL, or a search (BM25, hybrid, reranked)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.evaluation.systems.embedding_cache import EmbeddingCache
from nearfield.evaluation.systems.local_model import Embeddings, LocalModel
from nearfield.evaluation.systems.variant import Variant

__all__ = [
    "EmbeddingCache",
    "EmbeddingSystem",
    "Embeddings",
    "Role",
    "SearchSystem",
    "System",
    "Variant",
    "from_encoder",
    "open_system",
]

#: The class of each kind of variant, imported when it is opened.
_KINDS = {
    "model": "nearfield.evaluation.systems.local_model:LocalModel",
    "search": "nearfield.evaluation.systems.search:SearchPipeline",
    "endpoint": "nearfield.evaluation.systems.endpoint:EndpointModel",
}
#: The role of a text: ``symmetric`` if both sides of a task are alike (STS, clustering).
Role = Literal["query", "document", "symmetric"]


@runtime_checkable
class EmbeddingSystem(Protocol):
    """A system that encodes texts and compares them.

    Optional members: ``truncated`` and ``unread``, the numbers of texts truncated, and not known to the model, so far
    (None: unknown), and ``to_dict()``, facts that results contain besides name and identity.
    """

    @property
    def name(self) -> str:
        """The name in results."""

    @property
    def identity(self) -> str:
        """The key of cached results: it changes whenever the vectors or the order of documents may change."""

    def encode(self, texts: Sequence[str], *, role: Role) -> Embeddings:
        """Return embeddings for ``similarity``; dense vectors are float32 [n, dimensions]."""

    def similarity(self, a: Any, b: Any) -> Array:
        """Return scores [len(a), len(b)]; higher is nearer."""

    def close(self) -> None:
        """Release the models."""


@runtime_checkable
class SearchSystem(Protocol):
    """A system that searches documents itself, such as BM25. The retrieval and reranking tasks use it."""

    @property
    def name(self) -> str:
        """The name in results."""

    @property
    def identity(self) -> str:
        """The key of cached results."""

    @property
    def max_results(self) -> int | None:
        """The number of results from which on more are useless, as only so many are reranked; None: no limit."""

    def search(self, documents: Mapping[str, str], queries: Mapping[str, str], k: int) -> dict[str, dict[str, float]]:
        """Return the ids and scores of the ``k`` best documents for each query id."""

    def close(self) -> None:
        """Release the models."""


System: TypeAlias = EmbeddingSystem | SearchSystem


def open_system(variant: Variant | str, memo: EmbeddingCache | None = None, *, attach: bool = False) -> Any:
    """Open the system of a variant; the caller closes it.

    Variants of one model can share a ``memo``, so that each text is encoded once. With ``attach``, models are computed
    by the server of ``NEARFIELD_SERVER`` if that is set; what measures speed loads them.

    Raises:
        InputError: the model does not support an option of the variant.
        ModelNotFound, SourceUnavailable, ModelRefused: the model cannot be loaded.
    """
    parsed = Variant.parse(variant) if isinstance(variant, str) else variant
    module, name = _KINDS["endpoint" if parsed.url else "search" if parsed.searches else "model"].split(":")
    options = {} if parsed.url else {"attach": attach}
    return getattr(import_module(module), name)(parsed, memo=memo, **options)


def from_encoder(encoder: Encoder) -> LocalModel:
    """Return a system for a loaded model and its main output; closing it leaves the encoder open."""
    return LocalModel(Variant(encoder.name, output=encoder.recipe.outputs[0]), encoder)
