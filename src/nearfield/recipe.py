"""Recipe: all that a model's folder and the catalogue say about one model, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: Prompt names tried, in order, for each role (sentence-transformers' ``encode_document`` looks for
#: ``document`` alone once it has pre-seeded it; folders that save only ``passage`` lose their prompt there).
ROLE_PROMPTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"query": ("query",), "document": ("document", "passage", "corpus")}
)


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Pooling:
    """Tokens to one vector: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken; several are joined."""

    modes: tuple[str, ...]
    include_prompt: bool = True


@dataclass(frozen=True)
class Dense:
    """A linear layer on the pooled vector. ``weights`` is the module's folder; ``activation`` a torch.nn class name."""

    in_features: int
    out_features: int
    bias: bool
    activation: str
    weights: Path


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm on the pooled vector; ``weights`` is the module's folder."""

    dimension: int
    weights: Path


@dataclass(frozen=True)
class Normalize:
    """Scale to unit length."""


Module = Pooling | Dense | LayerNorm | Normalize


@dataclass(frozen=True)
class Recipe:
    """What a model is: files, architecture, post-modules, prompts, lengths, and where each fact came from."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    modules: tuple[Module, ...]
    dimensions: int
    max_length: int
    revision: str | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=_empty)
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    truncate_dim: int | None = None
    matryoshka: tuple[int, ...] = ()
    licence: str | None = None
    #: One line per fact that did not come from the obvious place: ``{"prompts": "catalogue", "pooling": "assumed"}``.
    origins: Mapping[str, str] = field(default_factory=_empty)
    warnings: tuple[str, ...] = ()

    @property
    def normalized(self) -> bool:
        """Whether the model's own last module makes unit vectors."""
        return bool(self.modules) and isinstance(self.modules[-1], Normalize)

    def role_prompt(self, role: str) -> str | None:
        """Return the prompt *name* that serves a role (``query`` or ``document``), or None when it has none."""
        return next((name for name in ROLE_PROMPTS[role] if name in self.prompts), None)
