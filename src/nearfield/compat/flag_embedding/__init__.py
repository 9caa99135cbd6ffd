"""``FlagEmbedding``: its classes for using models, with the same signatures and outputs.

``FlagModel``, ``BGEM3FlagModel``, ``FlagLLMModel`` and ``FlagICLModel`` give vectors, ``FlagReranker`` and
``FlagLLMReranker`` scores; ``FlagAutoModel`` and ``FlagAutoReranker`` choose among them. Models are loaded as there:
the pooling is that of the class, and modules.json and prompts of the folder are not read.
"""

from __future__ import annotations

from nearfield.compat.arguments import BATCHES, REMOTE_CODE, USED, ArgumentTable, Effect
from nearfield.compat.flag_embedding.auto import (
    EmbedderModelClass,
    FlagAutoModel,
    FlagAutoReranker,
    FlagPseudoMoEModel,
    RerankerModelClass,
)
from nearfield.compat.flag_embedding.embedder import FlagLLMModel, FlagModel
from nearfield.compat.flag_embedding.icl import FlagICLModel
from nearfield.compat.flag_embedding.m3 import BGEM3FlagModel
from nearfield.compat.flag_embedding.reranker import (
    FlagLLMReranker,
    FlagReranker,
    LayerWiseFlagLLMReranker,
    LightWeightFlagLLMReranker,
)

_HALF = Effect("used", "With use_fp16 or use_bf16 bfloat16 is allowed where the CPU multiplies it; else it is float32.")
_DEVICES = Effect("ignored", "The CPU computes, on all of its cores.")
_CACHE = Effect("ignored", "Models are searched and stored where nearfield.load does so.")
_OTHERS = Effect("ignored", "They were for the tokenizer.")
_INSTRUCTION = Effect("used", "instruction and instruction_format; others are ignored.")
_LOADING = {
    "model_name_or_path": USED,
    "use_fp16": _HALF,
    "devices": _DEVICES,
    "trust_remote_code": REMOTE_CODE,
    "cache_dir": _CACHE,
    "batch_size": BATCHES,
    "query_max_length": USED,
}
_EMBEDDER = {
    **_LOADING,
    **dict.fromkeys(("normalize_embeddings", "query_instruction_for_retrieval", "query_instruction_format"), USED),
    "use_bf16": _HALF,
    "passage_max_length": USED,
    "truncate_dim": USED,
    "kwargs": Effect(
        "used",
        "passage_instruction_for_retrieval and passage_instruction_format. pooling_method of a decoder must be "
        "last_token. Others are ignored.",
    ),
}
_RERANKER = {
    **_LOADING,
    **dict.fromkeys(("query_instruction_for_rerank", "query_instruction_format"), USED),
    **dict.fromkeys(("passage_instruction_for_rerank", "passage_instruction_format", "max_length", "normalize"), USED),
    "kwargs": Effect("used", "use_bf16; others are ignored."),
}
_ENCODE = {"batch_size": BATCHES, "max_length": USED, "convert_to_numpy": USED, "kwargs": _OTHERS}
_ENCODE_M3 = {
    "batch_size": BATCHES,
    **dict.fromkeys(("max_length", "return_dense", "return_sparse", "return_colbert_vecs"), USED),
    "kwargs": _OTHERS,
}
_SCORE = {"batch_size": BATCHES, "query_max_length": USED, "max_length": USED, "normalize": USED, "device": _DEVICES}
_AUTO = {"model_name_or_path": USED, "model_class": USED, "use_fp16": _HALF, "trust_remote_code": REMOTE_CODE}
ARGUMENTS: ArgumentTable = {
    "FlagModel": {**_EMBEDDER, "pooling_method": USED, "convert_to_numpy": USED},
    "FlagLLMModel": {**_EMBEDDER, "convert_to_numpy": USED},
    "FlagICLModel": {
        **_EMBEDDER,
        **dict.fromkeys(("suffix", "examples_for_task", "examples_instruction_format", "convert_to_numpy"), USED),
    },
    "BGEM3FlagModel": {
        **_EMBEDDER,
        "pooling_method": USED,
        "colbert_dim": Effect("used", "It must be that of the folder's weights, or -1."),
        **dict.fromkeys(("return_dense", "return_sparse", "return_colbert_vecs"), USED),
    },
    "FlagReranker": _RERANKER,
    "FlagLLMReranker": {
        **_RERANKER,
        "peft_path": USED,
        "use_bf16": _HALF,
        "prompt": USED,
        "kwargs": Effect("ignored", "They were for the model's config."),
    },
    **{
        f"{name}.{method}": {text: USED, **_ENCODE}
        for name in ("FlagModel", "FlagLLMModel", "FlagICLModel")
        for method, text in (("encode_queries", "queries"), ("encode_corpus", "corpus"))
    },
    **{
        f"{name}.encode": {"sentences": USED, **_ENCODE, "kwargs": _INSTRUCTION}
        for name in ("FlagModel", "FlagLLMModel", "FlagICLModel")
    },
    "BGEM3FlagModel.encode": {"sentences": USED, **_ENCODE_M3, "kwargs": _INSTRUCTION},
    "BGEM3FlagModel.encode_queries": {"queries": USED, **_ENCODE_M3},
    "BGEM3FlagModel.encode_corpus": {"corpus": USED, **_ENCODE_M3},
    "BGEM3FlagModel.compute_score": {
        **dict.fromkeys(("sentence_pairs", "max_query_length", "max_passage_length"), USED),
        "weights_for_different_modes": USED,
        "batch_size": BATCHES,
        "kwargs": _OTHERS,
    },
    "FlagReranker.compute_score": {
        "sentence_pairs": USED,
        "kwargs": Effect("used", "max_length, query_max_length, normalize; others are ignored."),
    },
    "FlagLLMReranker.compute_score": {
        "sentence_pairs": USED,
        "kwargs": Effect("used", "max_length, query_max_length, normalize, prompt; others are ignored."),
    },
    "FlagReranker.compute_score_single_gpu": {"sentence_pairs": USED, **_SCORE, "kwargs": _OTHERS},
    "FlagLLMReranker.compute_score_single_gpu": {
        "sentence_pairs": USED,
        **_SCORE,
        "prompt": USED,
        **dict.fromkeys(("use_dataloader", "num_workers"), Effect("ignored", "The engine is parallel.")),
        "kwargs": _OTHERS,
    },
    "FlagAutoModel.from_finetuned": {
        **_AUTO,
        **dict.fromkeys(("normalize_embeddings", "query_instruction_for_retrieval", "pooling_method"), USED),
        **dict.fromkeys(("query_instruction_format", "truncate_dim"), USED),
        "use_bf16": _HALF,
        "devices": _DEVICES,
        "kwargs": Effect("used", "Passed on to the class."),
    },
    "FlagAutoReranker.from_finetuned": {**_AUTO, "kwargs": Effect("used", "Passed on to the class.")},
}

__all__ = [
    "ARGUMENTS",
    "BGEM3FlagModel",
    "EmbedderModelClass",
    "FlagAutoModel",
    "FlagAutoReranker",
    "FlagICLModel",
    "FlagLLMModel",
    "FlagLLMReranker",
    "FlagModel",
    "FlagPseudoMoEModel",
    "FlagReranker",
    "LayerWiseFlagLLMReranker",
    "LightWeightFlagLLMReranker",
    "RerankerModelClass",
]
