"""`FlagAutoModel` and `FlagAutoReranker`: choose the class, pooling and template of a model by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from nearfield.compat.flag_embedding.embedder import AbsEmbedder, FlagLLMModel, FlagModel
from nearfield.compat.flag_embedding.icl import FlagICLModel
from nearfield.compat.flag_embedding.m3 import BGEM3FlagModel
from nearfield.compat.flag_embedding.reranker import (
    FlagLLMReranker,
    FlagReranker,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
    UnsupportedModel,
)
from nearfield.errors import InputError, nearest


class FlagPseudoMoEModel(UnsupportedModel):
    """Not supported: raises ModelRefused."""

    _advice = "Use FlagLLMModel with a single decoder, or run it with FlagEmbedding."


class EmbedderModelClass(Enum):
    """Names of embedder classes."""

    ENCODER_ONLY_BASE = "encoder-only-base"
    ENCODER_ONLY_M3 = "encoder-only-m3"
    DECODER_ONLY_BASE = "decoder-only-base"
    DECODER_ONLY_ICL = "decoder-only-icl"
    DECODER_ONLY_PSEUDO_MOE = "decoder-only-pseudo_moe"


class RerankerModelClass(Enum):
    """Names of reranker classes."""

    ENCODER_ONLY_BASE = "encoder-only-base"
    DECODER_ONLY_BASE = "decoder-only-base"
    DECODER_ONLY_LAYERWISE = "decoder-only-layerwise"
    DECODER_ONLY_LIGHTWEIGHT = "decoder-only-lightweight"


@dataclass(frozen=True)
class EmbedderSettings:
    """The class of a model, its pooling, and the template of its instructions."""

    model_class: type[Any]
    pooling: str
    template: str = "{}{}"


EMBEDDER_CLASSES: Mapping[EmbedderModelClass, type[Any]] = {
    EmbedderModelClass.ENCODER_ONLY_BASE: FlagModel,
    EmbedderModelClass.ENCODER_ONLY_M3: BGEM3FlagModel,
    EmbedderModelClass.DECODER_ONLY_BASE: FlagLLMModel,
    EmbedderModelClass.DECODER_ONLY_ICL: FlagICLModel,
    EmbedderModelClass.DECODER_ONLY_PSEUDO_MOE: FlagPseudoMoEModel,
}
RERANKER_CLASSES: Mapping[RerankerModelClass, type[Any]] = {
    RerankerModelClass.ENCODER_ONLY_BASE: FlagReranker,
    RerankerModelClass.DECODER_ONLY_BASE: FlagLLMReranker,
    RerankerModelClass.DECODER_ONLY_LAYERWISE: LayerWiseFlagLLMReranker,
    RerankerModelClass.DECODER_ONLY_LIGHTWEIGHT: LightWeightFlagLLMReranker,
}


def _decoder(template: str, model_class: type[Any] = FlagLLMModel) -> EmbedderSettings:
    return EmbedderSettings(model_class, "last_token", template)


def _all(names: str, settings: EmbedderSettings) -> dict[str, EmbedderSettings]:
    return dict.fromkeys(names.split(), settings)


_CLS, _MEAN = EmbedderSettings(FlagModel, "cls"), EmbedderSettings(FlagModel, "mean")
_TAGS, _WORDS = "<instruct>{}\n<query>{}", "Instruct: {}\nQuery: {}"
#: The models that FlagAutoModel knows by the last part of their names.
EMBEDDERS: Mapping[str, EmbedderSettings] = {
    **_all("bge-large-en-v1.5 bge-base-en-v1.5 bge-small-en-v1.5", _CLS),
    **_all("bge-large-zh-v1.5 bge-base-zh-v1.5 bge-small-zh-v1.5", _CLS),
    **_all("bge-large-en bge-base-en bge-small-en bge-large-zh bge-base-zh bge-small-zh", _CLS),
    **_all("gte-multilingual-base gte-large-en-v1.5 gte-base-en-v1.5 gte-large-zh gte-base-zh gte-small-zh", _CLS),
    **_all("bce-embedding-base_v1", _CLS),
    **_all("e5-large-v2 e5-base-v2 e5-small-v2 e5-large e5-base e5-small gte-large gte-base gte-small", _MEAN),
    **_all("multilingual-e5-large multilingual-e5-base multilingual-e5-small", _MEAN),
    "multilingual-e5-large-instruct": EmbedderSettings(FlagModel, "mean", _WORDS),
    "bge-m3": EmbedderSettings(BGEM3FlagModel, "cls"),
    "bge-en-icl": _decoder(_TAGS, FlagICLModel),
    **_all("bge-code-v1 bge-multilingual-gemma2", _decoder(_TAGS)),
    **_all("bge-reasoner-embed-qwen3-8b-0923 e5-mistral-7b-instruct", _decoder(_WORDS)),
    **_all("gte-Qwen2-7B-instruct gte-Qwen2-1.5B-instruct gte-Qwen1.5-7B-instruct", _decoder(_WORDS)),
    **_all("SFR-Embedding-2_R SFR-Embedding-Mistral Linq-Embed-Mistral", _decoder(_WORDS)),
    **_all("Qwen3-Embedding-0.6B Qwen3-Embedding-4B Qwen3-Embedding-8B", _decoder("Instruct: {}\nQuery:{}")),
}
#: The models that FlagAutoReranker knows.
RERANKERS: Mapping[str, type[Any]] = {
    **dict.fromkeys(("bge-reranker-base", "bge-reranker-large", "bge-reranker-v2-m3"), FlagReranker),
    **dict.fromkeys(("jina-reranker-v2-base-multilingual", "gte-multilingual-reranker-base"), FlagReranker),
    **dict.fromkeys(("bce-reranker-base_v1", "jina-reranker-v1-turbo-en"), FlagReranker),
    "bge-reranker-v2-gemma": FlagLLMReranker,
    "bge-reranker-v2-minicpm-layerwise": LayerWiseFlagLLMReranker,
    "bge-reranker-v2.5-gemma2-lightweight": LightWeightFlagLLMReranker,
}


class FlagAutoModel:
    """Chooses the class of an embedding model; use ``from_finetuned``."""

    def __init__(self) -> None:
        raise OSError("FlagAutoModel has no objects: use FlagAutoModel.from_finetuned(model_name_or_path).")

    @classmethod
    def from_finetuned(
        cls,
        model_name_or_path: str,
        model_class: str | EmbedderModelClass | None = None,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        devices: str | list[str] | None = None,
        pooling_method: str | None = None,
        trust_remote_code: bool | None = None,
        query_instruction_format: str | None = None,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> AbsEmbedder:
        """Load a model as the class that its name, or ``model_class``, says.

        Raises:
            InputError: neither says it.
        """
        if model_class is None:
            settings = EMBEDDERS[_known_name(model_name_or_path, EMBEDDERS, EmbedderModelClass)]
        else:
            chosen = EMBEDDER_CLASSES[_member(EmbedderModelClass, model_class)]
            settings = EmbedderSettings(chosen, getattr(chosen, "DEFAULT_POOLING_METHOD", "cls"))
        template = settings.template if query_instruction_format is None else query_instruction_format
        model: AbsEmbedder = settings.model_class(
            model_name_or_path,
            normalize_embeddings=normalize_embeddings,
            use_fp16=use_fp16,
            use_bf16=use_bf16,
            query_instruction_for_retrieval=query_instruction_for_retrieval,
            query_instruction_format=template,
            devices=devices,
            pooling_method=settings.pooling if pooling_method is None else pooling_method,
            trust_remote_code=bool(trust_remote_code),
            truncate_dim=truncate_dim,
            **kwargs,
        )
        return model


class FlagAutoReranker:
    """Chooses the class of a reranker; use ``from_finetuned``."""

    def __init__(self) -> None:
        raise OSError("FlagAutoReranker has no objects: use FlagAutoReranker.from_finetuned(model_name_or_path).")

    @classmethod
    def from_finetuned(
        cls,
        model_name_or_path: str,
        model_class: str | RerankerModelClass | None = None,
        use_fp16: bool = False,
        trust_remote_code: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model as the class that its name, or ``model_class``, says.

        Raises:
            InputError: neither says it.
        """
        if model_class is None:
            chosen = RERANKERS[_known_name(model_name_or_path, RERANKERS, RerankerModelClass)]
        else:
            chosen = RERANKER_CLASSES[_member(RerankerModelClass, model_class)]
        return chosen(model_name_or_path, use_fp16=use_fp16, trust_remote_code=bool(trust_remote_code), **kwargs)


def _known_name(model: str, known: Mapping[str, Any], classes: Iterable[Enum]) -> str:
    """Return the name of a model, or that of the folder of its training for a checkpoint."""
    parts = PurePosixPath(model).parts
    name = parts[-2] if len(parts) > 1 and parts[-1].startswith("checkpoint-") else parts[-1]
    if name not in known:
        names = ", ".join(str(member.value) for member in classes)
        raise InputError(
            f"The class of {name!r} is not known. {nearest(name, known)} Or pass model_class: {names}.",
            param="model_class",
        )
    return name


def _member(classes: type[Any], value: Any) -> Any:
    try:
        return classes(value)
    except ValueError:
        names = [member.value for member in classes]
        raise InputError(f"Unknown model_class {value!r}. {nearest(str(value), names)}", param="model_class") from None
