"""`Recipe`: everything that a model's folder and the catalogue say about one model, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: Tasks that serve a role if a model has no prompt for it: prompt and adapter together.
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
class MergedWeights:
    """Weights of a base model with those of an adapter merged into them: two folders that are read as one model."""

    base: Path
    adapter: Path

    @property
    def name(self) -> str:
        """The name of the adapter's folder."""
        return self.adapter.name


@dataclass(frozen=True)
class Pooling:
    """Pool tokens to one vector: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken; several are joined."""

    modes: tuple[str, ...]
    include_prompt: bool = True


@dataclass(frozen=True)
class Dense:
    """A linear layer. ``weights`` is the module's folder or file, or the model's own; ``layer`` its name in them.

    ``activation`` is a torch.nn class name; ``residual`` adds the input, through a projection where sizes differ.
    """

    in_features: int
    out_features: int
    bias: bool
    activation: str
    weights: Path | MergedWeights
    layer: str = "linear"
    residual: bool = False


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm on the pooled vector; ``weights`` is the module's folder."""

    dimension: int
    weights: Path


@dataclass(frozen=True)
class Centre:
    """Subtract the mean of a vector's values: a layer norm without weights, but for the length."""


@dataclass(frozen=True)
class Normalize:
    """Scale to unit length."""


@dataclass(frozen=True)
class ProbePooling:
    """Pool tokens to one vector by attention with a learned query, the probe, and a feed-forward after it (SigLIP).

    ``weights`` is the folder or file that holds them, ``layer`` their prefix in it. ``activation`` is a name of
    `nearfield.ops`.
    """

    size: int
    heads: int
    intermediate_size: int
    activation: str
    eps: float
    weights: Path
    layer: str = "vision_model.head"


@dataclass(frozen=True)
class SelectorPooling(ProbePooling):
    """Pool tokens by a probe, and add what a gated feed-forward makes of them to the first token's state (Nomic)."""


Module = Pooling | ProbePooling | Dense | LayerNorm | Centre | Normalize


@dataclass(frozen=True)
class Lexical:
    """The sparse output of bge-m3 and GTE: a weight for each token, ``relu`` of a linear layer with one value.

    ``weights`` holds the layer (``layer`` is its name there, empty for a bare one); ``skipped`` are token ids that get
    no weight.
    """

    weights: Path
    skipped: tuple[int, ...]
    layer: str = ""


@dataclass(frozen=True)
class Splade:
    """A language model's logits, pooled over tokens (``max`` or ``sum``), after one or two ``log1p`` of ``relu``.

    ``query_weights`` is a file (safetensors or JSON) with the weights [vocabulary] of a query's tokens, for
    models whose queries need no pass through the model (inference-free).
    """

    pooling: str = "max"
    log1p: int = 1
    query_weights: Path | None = None


@dataclass(frozen=True)
class RoleFormat:
    """The input format of one role for late interaction.

    ``prefix`` is the text of a token that follows the first special token. ``length`` is the maximum number of tokens,
    all included. ``expand`` fills an input up to that with ``filler`` (the mask token), or up to ``expand_to`` tokens;
    ``attend`` says whether these tokens are attended to. ``skip`` are words whose tokens get no vector.
    """

    prefix: str = ""
    length: int | None = None
    expand: bool = False
    attend: bool = False
    filler: str | None = None
    skip: tuple[str, ...] = ()
    #: Not shown, like what follows: names of vector spaces, which are stored, contain what is shown.
    expand_to: int | None = field(default=None, repr=False)
    #: Whether ``prefix`` is inserted as a token, where the tokenizer has such a one; False: it is always text.
    inserted: bool = field(default=True, repr=False)
    #: Ids of the tokens of a page that get a vector; empty: all (``keep_only_token_ids``). Texts keep theirs.
    keep: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Multivector:
    """A vector for each token, from ``modules`` after the transformer.

    The first ``skip_first_tokens`` tokens get none (bge-m3: the CLS token). With ``divide_by_query_length``, scores are
    divided by the number of a query's vectors (bge-m3).
    """

    modules: tuple[Module, ...]
    dimensions: int
    query: RoleFormat = field(default_factory=RoleFormat)
    document: RoleFormat = field(default_factory=RoleFormat)
    skip_first_tokens: int = 0
    divide_by_query_length: bool = False


@dataclass(frozen=True)
class ClassScores:
    """A classification head: one logit for each label, then ``activation`` (identity, sigmoid or softmax).

    ``modules`` compute the logits from tokens, the last one as a linear layer; without any, the family's head does.
    """

    labels: tuple[str, ...]
    activation: str = "identity"
    modules: tuple[Module, ...] = ()


@dataclass(frozen=True)
class Template:
    """The prompt of a language model for a pair: ``head``, ``body``, ``tail``. Only the body is ever truncated.

    The body contains {instruction}, {query} and {document}.
    """

    head: str = ""
    body: str = "{query}{document}"
    tail: str = ""
    instruction: str = ""


@dataclass(frozen=True)
class RerankPrompt:
    """A language model's score at the last token: the logit of ``true``, minus that of ``false`` if there is one.

    Both are token ids, or tokens of the tokenizer.
    """

    true: int | str
    false: int | str | None = None
    template: Template | None = None
    activation: str = "identity"


@dataclass(frozen=True)
class Rows:
    """What a tower gives for the sequence of a language model: no output that a caller could choose."""


HeadSpec = Lexical | Splade | Multivector | ClassScores | RerankPrompt | Rows
#: The output of each kind of head.
OUTPUTS: Mapping[type, str] = MappingProxyType(
    {
        Lexical: "sparse",
        Splade: "sparse",
        Multivector: "multivector",
        ClassScores: "scores",
        RerankPrompt: "scores",
        Rows: "rows",
    }
)


@dataclass(frozen=True)
class EncodeTask:
    """The prompt and the adapter of a task."""

    prompt: str = ""
    adapter: str | None = None


@dataclass(frozen=True)
class TextRules:
    """How texts are fed to a model, where that differs from other text models: mostly towers of two-tower models.

    ``pad_to`` is the number of tokens that each text is padded to; the padding is attended to (SigLIP). With
    ``canonicalize``, ASCII punctuation is removed and runs of white space become one space (SigLIP's first version).
    With ``ends_at_eos``, tokens after the first end token are dropped: they are after the one that is pooled (CLIP).
    ``tail`` follows each text, however much of that is dropped: the end of a chat's template (Qwen3-VL-Embedding).
    ``empty`` is read in place of a text of no characters.
    So does ``end``, before the tokenizer's own last tokens: tokens that a query is augmented with (ColPali). ``begin``
    comes before each text in place of all that the tokenizer puts around it.
    """

    pad_to: int | None = None
    canonicalize: bool = False
    ends_at_eos: bool = False
    #: Not shown: digests of tokenizers, which are stored, contain what is shown.
    tail: str = field(default="", repr=False)
    empty: str = field(default="", repr=False)
    begin: str = field(default="", repr=False)
    end: str = field(default="", repr=False)


@dataclass(frozen=True)
class ZeroShot:
    """How labels are scored by a two-tower model: ``activation`` of ``scale`` times their cosines, plus ``bias``.

    ``softmax`` is taken over all labels (CLIP), ``sigmoid`` of each alone (SigLIP).
    """

    scale: float
    bias: float = 0.0
    activation: str = "softmax"


@dataclass(frozen=True)
class Recipe:
    """A model: files, architecture, modules after it, prompts, lengths, and the origin of each fact."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    #: From tokens to the dense vector; empty for a model without one.
    modules: tuple[Module, ...]
    #: Size of the dense vector, or of the model's main output.
    dimensions: int
    max_length: int
    heads: tuple[HeadSpec, ...] = ()
    #: A file of the folder that contains the encoder as a graph (ONNX, OpenVINO); it replaces the weights.
    exported_graph: Path | None = None
    #: The weights, where they are not those of the folder: an adapter is merged into those of its base model.
    merged: MergedWeights | None = None
    revision: str | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=_empty)
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    #: The prompt of a text with an instruction, which contains ``{instruction}``. Empty: the instruction alone.
    instruction: str = ""
    #: Whether a full stop follows an instruction that does not end in punctuation, as in training (Qwen3-VL-Embedding).
    ends_instruction: bool = False
    truncate_dim: int | None = None
    #: Maximum number of weights of a sparse vector, the largest ones; None: all.
    max_active_dims: int | None = None
    #: Settings of the tokenizer that the transformer module passes to it; they overrule tokenizer_config.json.
    tokenizer_settings: Mapping[str, Any] = field(default_factory=_empty)
    matryoshka: tuple[int, ...] = ()
    #: Whether a vector's mean is subtracted before truncation (nomic-embed-text-v1.5: a layer norm without weights).
    centre: bool = False
    #: Number formats in which the model overflows (EmbeddingGemma: float16); ``forbid`` in the catalogue.
    unsupported_precisions: tuple[str, ...] = ()
    #: The precision of the folder's weights, where they are quantised: int8 or int4.
    quantized: str = ""
    #: Tasks with a prompt and an adapter, by name (jina-embeddings-v3).
    tasks: Mapping[str, EncodeTask] = field(default_factory=_empty)
    #: What the model reads: text or image.
    modality: str = "text"
    #: The other towers of a two-tower model, by modality: all give vectors of one space.
    towers: Mapping[str, Recipe] = field(default_factory=_empty)
    #: The towers, by modality, whose rows enter this model's sequence in place of words: one input may then have texts
    #: and pictures.
    fused: Mapping[str, Recipe] = field(default_factory=_empty)
    text_rules: TextRules = field(default_factory=TextRules)
    zero_shot: ZeroShot | None = None
    #: Whether vectors are scaled to unit length unless a call says otherwise, though no module does so.
    normalize_by_default: bool = False
    licence: str | None = None
    #: Origins of facts that are not from the model's folder: ``{"prompts": "catalogue", "pooling": "assumed"}``.
    origins: Mapping[str, str] = field(default_factory=_empty)
    warnings: tuple[str, ...] = ()

    @property
    def has_matrices(self) -> bool:
        """Whether it has matrices that can be quantised: it is no table of word vectors, and no exported graph."""
        return self.exported_graph is None and self.config.get("model_type") != "static"

    def __getstate__(self) -> dict[str, Any]:
        # Frozen mappings cannot be pickled: they are sent as plain ones.
        values = vars(self).items()
        return {name: dict(value) if isinstance(value, MappingProxyType) else value for name, value in values}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = {name: MappingProxyType(value) if isinstance(value, dict) else value for name, value in state.items()}
        vars(self).update(values)

    @property
    def weights(self) -> Path | MergedWeights:
        """Where the weights lie."""
        return self.merged or self.folder

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs of the model, its main one first: dense, sparse, multivector, scores."""
        return ("dense",) * bool(self.modules) + tuple(OUTPUTS[type(head)] for head in self.heads)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model and its other towers read: text, image."""
        return (self.modality, *self.towers, *self.fused)

    @property
    def fuses(self) -> bool:
        """Whether one input may have several parts, such as a text and pictures."""
        return bool(self.fused)

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """What an input may be: what the towers read, and video where one of them reads pictures, which frames are."""
        in_sequence = any(tower.config.get("reads_videos") for tower in self.fused.values())
        videos = ("video",) if in_sequence or "image" in (self.modality, *self.towers) else ()
        return (*self.modalities, *videos)

    def head(self, output: str) -> HeadSpec | None:
        """Return the head that gives an output, or None."""
        return next((head for head in self.heads if OUTPUTS[type(head)] == output), None)

    @property
    def normalized(self) -> bool:
        """Whether the model's last module scales vectors to unit length."""
        return bool(self.modules) and isinstance(self.modules[-1], Normalize)

    def role_prompt_name(self, role: str) -> str | None:
        """Return the name of the prompt for a role (``query`` or ``document``), or None."""
        return next((name for name in ROLE_PROMPTS[role] if name in self.prompts), None)
