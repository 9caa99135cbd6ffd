"""Model architectures: each is a `Family`, written once against ``Ops`` for all backends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Linear, Lora, Weights
from nearfield.errors import ModelRefused, nearest
from nearfield.features import Features, PatchLayout
from nearfield.fused_features import FusedFeatures
from nearfield.ops import AttentionMask, Ops, T
from nearfield.registry import Registry

#: ``model_type`` of config.json to the family that runs it.
REGISTRY = Registry(
    "family",
    {
        "bert": "nearfield.families.bert:Bert",
        "roberta": "nearfield.families.bert:Bert",
        "xlm-roberta": "nearfield.families.bert:Bert",
        "camembert": "nearfield.families.bert:Bert",
        "electra": "nearfield.families.bert:Bert",
        "distilbert": "nearfield.families.bert:Bert",
        "mpnet": "nearfield.families.bert:Bert",
        "nomic_bert": "nearfield.families.rotary_bert:Nomic",
        "gte": "nearfield.families.rotary_bert:Gte",
        "new": "nearfield.families.rotary_bert:Gte",
        "jina_embeddings_v3": "nearfield.families.rotary_bert:JinaV3",
        "jina-v3": "nearfield.families.rotary_bert:JinaV3",
        "t5": "nearfield.families.t5:T5",
        "mt5": "nearfield.families.t5:T5",
        "deberta-v2": "nearfield.families.deberta:Deberta",
        "albert": "nearfield.families.albert:Albert",
        "jina-bert": "nearfield.families.jina_bert:JinaBert",
        "static": "nearfield.families.static:Static",
        "modernbert": "nearfield.families.modernbert:ModernBert",
        "modernvbert_text": "nearfield.families.modernbert:ModernVBertText",
        "llama": "nearfield.families.decoder:Decoder",
        "mistral": "nearfield.families.decoder:Decoder",
        "qwen2": "nearfield.families.decoder:Decoder",
        "qwen3": "nearfield.families.decoder:Decoder",
        "paligemma_text": "nearfield.families.decoder:PaliGemmaText",
        "qwen2_vl_text": "nearfield.families.qwen3_vl:Qwen2VlText",
        "qwen2_5_vl_text": "nearfield.families.qwen3_vl:Qwen2VlText",
        "gemma3_text": "nearfield.families.decoder:Decoder",
        "qwen3_vl_text": "nearfield.families.qwen3_vl:Qwen3VlText",
        "embedding_gemma2_text": "nearfield.families.embedding_gemma2:EmbeddingGemma2",
        "clap_audio_model": "nearfield.families.clap:Clap",
        "clip_text_model": "nearfield.families.towers.text:TextTower",
        "siglip_text_model": "nearfield.families.towers.text:TextTower",
        "siglip2_text_model": "nearfield.families.towers.text:TextTower",
        "chinese_clip_text_model": "nearfield.families.towers.bert_text:ChineseClipText",
        "clap_text_model": "nearfield.families.towers.bert_text:ClapText",
        "altclip_text_model": "nearfield.families.towers.bert_text:AltClipText",
        "modernvbert_vision": "nearfield.families.towers.siglip_rows:ModernVBertVision",
        "paligemma_vision": "nearfield.families.towers.siglip_rows:PaliGemmaVision",
        "qwen2_vl_vision": "nearfield.families.towers.qwen_vision:QwenVision",
        "qwen2_5_vl_vision": "nearfield.families.towers.qwen_vision:QwenVision",
        "dinov3_vit": "nearfield.families.towers.dinov3:Dinov3",
        "nomic_vision": "nearfield.families.towers.nomic_vision:NomicVision",
        "clip_vision_model": "nearfield.families.towers.vision:VisionTransformer",
        "chinese_clip_vision_model": "nearfield.families.towers.vision:VisionTransformer",
        "altclip_vision_model": "nearfield.families.towers.vision:VisionTransformer",
        "gemma4_audio": "nearfield.families.towers.gemma4_audio:Gemma4Audio",
        "gemma4_vision": "nearfield.families.towers.gemma4_vision:Gemma4Vision",
        "qwen3_vl_vision": "nearfield.families.towers.qwen3_vl:Qwen3VlVision",
        "siglip_vision_model": "nearfield.families.towers.vision:VisionTransformer",
        "siglip2_vision_model": "nearfield.families.towers.vision:VisionTransformer",
        "dinov2": "nearfield.families.towers.vision:VisionTransformer",
        "dinov2_with_registers": "nearfield.families.towers.vision:VisionTransformer",
    },
    group="nearfield.families",
)


class SplitWeights(NamedTuple):
    """The weights of a checkpoint without its adapters, the adapters' names, and their factors by layer."""

    weights: Weights
    adapter_names: tuple[str, ...] = ()
    factors: Callable[[str], Lora | None] | None = None


class Family(ABC):
    """An architecture at one configuration.

    A new family implements ``__init__`` (read and check config.json), ``encode``, and where needed ``host_inputs`` and
    the layers of two heads that checkpoints of this architecture contain: ``vocabulary`` and ``classes``.
    """

    #: Graph inputs the family reads, by their names in ``ops.INPUTS``.
    inputs: tuple[str, ...] = ("ids", "segments", "positions")
    #: Prefixes under which the checkpoint may keep the encoder.
    weight_prefixes: ClassVar[tuple[str, ...]] = ("",)
    #: Patterns of weights that ``encode`` need not read: heads of other tasks, and buffers that are computed. Any other
    #: weight that nothing reads makes loading fail.
    unused_weights: ClassVar[tuple[str, ...]] = (r"(^|\.)position_ids$",)
    #: Whether this family replaces the remote code of its models (``auto_map``).
    replaces_remote_code: ClassVar[bool] = False
    #: Number of token types, which mark the texts of a pair; below 2 the family reads no ``types``.
    types: int = 0
    #: Which token's state its classification head reads.
    class_pooling: str = "cls"
    #: Whether a token sees those after it.
    causal: bool = False
    #: Whether several inputs may share a row; False where attention knows of padding alone.
    packable: bool = True
    #: Whether all inputs have ``positions`` rows. Then nothing is padded, and attention needs no mask.
    fixed_length: bool = False
    #: How many times as much memory as its last state a row takes in the widest layer: batches have as many fewer rows.
    states_per_row: int = 1
    #: A file or folder from which the backend itself loads the encoder.
    external_encoder: Path | None = None

    #: How a family of pictures cuts them into patches; None for a family of texts.
    patch_layout: PatchLayout | None = None
    #: Of a tower whose rows enter another model's sequence: how many neighbouring rows of its input become one row of
    #: its output, and how many vectors of ``hidden_size`` one row of its output has, end to end.
    patches_per_row: int = 1
    row_slots: int = 1

    hidden_size: int
    vocab_size: int
    #: Longest input that the architecture can take, special tokens included.
    positions: int

    @abstractmethod
    def __init__(self, config: JsonObject) -> None: ...

    @abstractmethod
    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        """Return the last hidden states [B, L, H]; ``inputs`` has ``types`` and ``keys`` where a head needs them."""

    def host_inputs(self, places: Array) -> dict[str, Array]:
        """Return the arrays that the graph reads beside ids and segments.

        ``places`` [B, L] count from 0 within each input.
        """
        return {"positions": places}

    def feature_arrays(self, features: Features) -> Mapping[str, Array]:
        """Return the arrays of one input, with a row for each token or patch: its features, and what depends on them.

        A family of pictures adds here what depends on a picture's grid.
        """
        return features.arrays()

    def order_rows(self, features: Features, rows: Array) -> Array:
        """Return the rows of an input in the order of its picture, where a tower gives them in another."""
        return rows

    def fuse(self, towers: Mapping[str, Family]) -> None:
        """Read the rows of towers, by modality, in place of words: see `nearfield.families.fused`.

        Raises:
            ModelRefused: this architecture does not, or the towers' rows have another size.
        """
        raise ModelRefused(f"{type(self).__name__} reads texts alone here.")

    def fused_arrays(self, features: FusedFeatures) -> Mapping[str, Array]:
        """Return arrays of an input with media, a row for each token, that replace those of ``host_inputs``."""
        return {}

    @property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of the last axes of inputs, where ``encode`` relies on them."""
        return {}

    def split_adapters(self, weights: Weights) -> SplitWeights:
        """Separate the adapters that a checkpoint contains from its weights."""
        return SplitWeights(weights)

    def vocabulary(self, ops: Ops[T], weights: Weights, x: T) -> tuple[T, Linear]:
        """Return what the language model's last layer reads [B, L, H], and that layer: outputs are the vocabulary.

        Raises:
            ModelRefused: this architecture has no such head here.
        """
        raise ModelRefused(f"{type(self).__name__} has no language-model head here: it cannot score a vocabulary.")

    def classes(self, ops: Ops[T], weights: Weights, x: T, count: int) -> T:
        """Return the classification head's ``count`` logits from the pooled states ``x`` [B, S, H].

        Raises:
            ModelRefused: this architecture has no such head here.
        """
        raise ModelRefused(f"{type(self).__name__} has no classification head here.")

    @staticmethod
    def attention_mask(
        inputs: Mapping[str, T], before: int | None = None, after: int | None = None
    ) -> AttentionMask[T]:
        """Return the mask of a token: its whole input, or what is within bounds (see ``ops.AttentionMask``)."""
        places = None if before is None and after is None else inputs["places"]
        return AttentionMask(inputs["segments"], places, before, after, inputs.get("keys"))


#: Models with the ``model_type`` of another architecture: the field and value that identify them, and their family.
MODEL_TYPE_OVERRIDES: tuple[tuple[str, str, Any, str], ...] = (
    ("bert", "position_embedding_type", "alibi", "jina-bert"),
    ("xlm-roberta", "position_embedding_type", "rotary", "jina-v3"),
)


class NoFamily(ModelRefused):
    """No family runs an architecture; transformers may."""


def resolve(config: JsonObject) -> Family:
    """Return the family for a config.json.

    Raises:
        NoFamily: no family runs this architecture.
        ModelRefused: the folder needs custom code (``auto_map``), whose
            weights a built-in family of the same name would load wrongly.
    """
    kind = str(config.get("model_type") or "")
    kind = next(
        (name for own, field, value, name in MODEL_TYPE_OVERRIDES if own == kind and config.get(field) == value), kind
    )
    if kind not in REGISTRY.names():
        if config.get("auto_map"):
            raise ModelRefused(f"No family runs model_type {kind!r}, and Nearfield runs no remote code (auto_map).")
        raise NoFamily(f"No family runs model_type {kind!r}. {nearest(kind, REGISTRY.names())}")
    chosen: type[Family] = REGISTRY.load(kind)
    if config.get("auto_map") and not chosen.replaces_remote_code:
        raise ModelRefused(
            f"config.json asks for the model's own code (auto_map: {dict(config['auto_map'])}). Nearfield runs "
            f"no remote code, and loading these weights as a plain {kind!r} would give wrong vectors."
        )
    return chosen(config)
