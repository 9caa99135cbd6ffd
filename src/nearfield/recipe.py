"""Recipe: all that a model's folder and the catalogue say about one model, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: Tasks that stand for a role, where a model has no prompt of the role's own: prompt and adapter together.
ROLE_TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"query": ("retrieval.query",), "document": ("retrieval.passage",)}
)
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
    """A linear layer. ``weights`` is the module's folder or file, ``layer`` the layer's name in it.

    ``activation`` is a torch.nn class name; ``residual`` adds the input, through a projection where sizes differ.
    """

    in_features: int
    out_features: int
    bias: bool
    activation: str
    weights: Path
    layer: str = "linear"
    residual: bool = False


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
class Lexical:
    """bge-m3's and GTE's sparse output: a weight for each token, ``relu`` of one linear layer's only value.

    ``weights`` holds the layer (``layer`` is its name there, empty for a bare one); ``skipped`` are token ids that get
    no weight.
    """

    weights: Path
    skipped: tuple[int, ...]
    layer: str = ""


@dataclass(frozen=True)
class Splade:
    """A language model's logits, pooled over tokens (``max`` or ``sum``), after one or two ``log1p`` of ``relu``.

    ``query_weights`` [vocabulary] are what a query's tokens weigh where queries need no model (inference-free): a
    file of safetensors or JSON.
    """

    pooling: str = "max"
    log1p: int = 1
    query_weights: Path | None = None


@dataclass(frozen=True)
class RoleFormat:
    """How one role's texts are prepared for late interaction.

    ``prefix`` is the text of a token put after the first special token; ``length`` the most tokens, all included;
    ``expand`` fills up to it with the mask token, which is then attended to or not; ``skip`` are words whose tokens are
    dropped.
    """

    prefix: str = ""
    length: int | None = None
    expand: bool = False
    attend: bool = False
    filler: str | None = None
    skip: tuple[str, ...] = ()


@dataclass(frozen=True)
class Multivector:
    """A vector for each token: ``modules`` after the transformer, less the first ``drop`` tokens (bge-m3: the CLS).

    ``average`` says that scores are divided by the number of a query's vectors (bge-m3).
    """

    modules: tuple[Module, ...]
    dimensions: int
    query: RoleFormat = field(default_factory=RoleFormat)
    document: RoleFormat = field(default_factory=RoleFormat)
    drop: int = 0
    average: bool = False


@dataclass(frozen=True)
class ClassScores:
    """A classification head: one logit a label, then ``activation`` (identity, sigmoid or softmax)."""

    labels: tuple[str, ...]
    activation: str = "identity"


@dataclass(frozen=True)
class Template:
    """How a language model is asked about a pair: ``head``, then ``body``, then ``tail``; only the body is ever cut.

    The body names {instruction}, {query} and {document}.
    """

    head: str = ""
    body: str = "{query}{document}"
    tail: str = ""
    instruction: str = ""


@dataclass(frozen=True)
class RerankPrompt:
    """A language model's answer at the last token: the logit of ``true``, less that of ``false`` where there is one.

    Both are token ids, or tokens that the tokenizer has.
    """

    true: int | str
    false: int | str | None = None
    template: Template | None = None
    activation: str = "identity"


Head = Lexical | Splade | Multivector | ClassScores | RerankPrompt
#: What each kind of head puts out.
OUTPUTS: Mapping[type, str] = MappingProxyType(
    {Lexical: "sparse", Splade: "sparse", Multivector: "multivector", ClassScores: "scores", RerankPrompt: "scores"}
)


@dataclass(frozen=True)
class EncodeTask:
    """What a task's inputs get: a prompt, and an adapter of the model's own."""

    prompt: str = ""
    adapter: str | None = None


@dataclass(frozen=True)
class Recipe:
    """What a model is: files, architecture, post-modules, prompts, lengths, and where each fact came from."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    #: From tokens to the dense vector; empty for a model that gives none.
    modules: tuple[Module, ...]
    #: Size of the dense vector, or of what the model gives in its place.
    dimensions: int
    max_length: int
    heads: tuple[Head, ...] = ()
    #: A file of the folder that holds the encoder as a graph, chosen in place of its weights.
    body: Path | None = None
    revision: str | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=_empty)
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    #: Before a text that comes with an instruction: ``{instruction}`` stands for it. Empty: the instruction as it is.
    instruction: str = ""
    truncate_dim: int | None = None
    matryoshka: tuple[int, ...] = ()
    #: Whether a vector's mean is taken off before it is cut (nomic-embed-text-v1.5: a layer norm without weights).
    centre: bool = False
    #: Number formats that the model does not bear (EmbeddingGemma: float16).
    forbid: tuple[str, ...] = ()
    #: Tasks that are more than a prompt: by name, the prompt's name and the adapter (jina-embeddings-v3).
    tasks: Mapping[str, EncodeTask] = field(default_factory=_empty)
    licence: str | None = None
    #: One line per fact that did not come from the obvious place: ``{"prompts": "catalogue", "pooling": "assumed"}``.
    origins: Mapping[str, str] = field(default_factory=_empty)
    warnings: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the model gives, its main output first: dense, sparse, multivector, scores."""
        return ("dense",) * bool(self.modules) + tuple(OUTPUTS[type(head)] for head in self.heads)

    def head(self, output: str) -> Head | None:
        """Return the head that gives an output, or None."""
        return next((head for head in self.heads if OUTPUTS[type(head)] == output), None)

    @property
    def normalized(self) -> bool:
        """Whether the model's own last module makes unit vectors."""
        return bool(self.modules) and isinstance(self.modules[-1], Normalize)

    def role_prompt(self, role: str) -> str | None:
        """Return the prompt *name* that serves a role (``query`` or ``document``), or None when it has none."""
        return next((name for name in ROLE_PROMPTS[role] if name in self.prompts), None)
