"""What becomes of each argument of fastembed's classes."""

from __future__ import annotations

from collections.abc import Mapping

from nearfield.compat.arguments import BATCHES, USED, ArgumentTable, Effect

_PROCESSES = Effect("ignored", "The engine is parallel already, and the order of results is that of the inputs.")
CREATE: Mapping[str, Effect] = {
    "model_name": USED,
    "cache_dir": Effect(
        "used",
        "Of dense models, fastembed's ONNX file is loaded if it is there; so too for FASTEMBED_CACHE_PATH. Downloads "
        "go to the cache of the Hub.",
    ),
    "threads": USED,
    "providers": Effect("used", "CPUExecutionProvider or CUDAExecutionProvider."),
    "cuda": Effect("used", "True runs the model with PyTorch; Device.AUTO means the CPU."),
    "device_ids": Effect("used", "The first one."),
    "lazy_load": USED,
    "kwargs": Effect(
        "used",
        "specific_model_path (a folder with an ONNX file, for dense models, or with weights), local_files_only, "
        "device_id, and task_id of jina-embeddings-v3. enable_cpu_mem_arena and mmap have no effect; a warning says "
        "that others have none, as in fastembed.",
    ),
}
_NOTHING = Effect("ignored", "fastembed has no further arguments.")
_HINTS = Effect("ignored", "batch_size and parallel.")
_TASK = Effect("used", "task_id of jina-embeddings-v3.")
_EMBED: Mapping[str, Effect] = {
    "documents": USED,
    "batch_size": BATCHES,
    "parallel": _PROCESSES,
    "kwargs": _NOTHING,
}
_QUERY: Mapping[str, Effect] = {"query": USED, "kwargs": _HINTS}
_PASSAGE: Mapping[str, Effect] = {"texts": USED, "kwargs": _HINTS}
_COUNT: Mapping[str, Effect] = {"texts": USED, "batch_size": BATCHES, "kwargs": _NOTHING}
_DESCRIBED = Effect("used", "Shown in list_supported_models.")
_ADD: Mapping[str, Effect] = {
    "model": USED,
    "sources": Effect("used", "hf; files from a url are loaded with specific_model_path."),
    "model_file": USED,
    **dict.fromkeys(("description", "license", "size_in_gb", "additional_files"), _DESCRIBED),
}
ARGUMENTS: ArgumentTable = {
    "TextEmbedding": CREATE,
    "TextEmbedding.embed": {**_EMBED, "kwargs": _TASK},
    "TextEmbedding.query_embed": _QUERY,
    "TextEmbedding.passage_embed": _PASSAGE,
    "TextEmbedding.token_count": _COUNT,
    "TextEmbedding.add_custom_model": {
        **_ADD,
        "pooling": Effect("used", "DISABLED: the model's own modules are used, and model_file is not."),
        "normalization": USED,
        "dim": USED,
        "output_name": Effect("used", "last_hidden_state; with DISABLED pooling it has no effect."),
    },
    "SparseTextEmbedding": CREATE,
    "SparseTextEmbedding.embed": _EMBED,
    "SparseTextEmbedding.query_embed": _QUERY,
    "SparseTextEmbedding.passage_embed": _PASSAGE,
    "SparseTextEmbedding.token_count": _COUNT,
    "LateInteractionTextEmbedding": CREATE,
    "LateInteractionTextEmbedding.embed": _EMBED,
    "LateInteractionTextEmbedding.query_embed": _QUERY,
    "LateInteractionTextEmbedding.passage_embed": _PASSAGE,
    "LateInteractionTextEmbedding.token_count": {**_COUNT, "is_doc": USED, "include_extension": USED},
    "TextCrossEncoder": CREATE,
    "TextCrossEncoder.rerank": {"query": USED, "documents": USED, "batch_size": BATCHES, "kwargs": _NOTHING},
    "TextCrossEncoder.rerank_pairs": {
        "pairs": USED,
        "batch_size": BATCHES,
        "parallel": _PROCESSES,
        "kwargs": _NOTHING,
    },
    "TextCrossEncoder.token_count": {"pairs": USED, "batch_size": BATCHES, "kwargs": _NOTHING},
    "TextCrossEncoder.add_custom_model": {
        **_ADD,
        "model_file": Effect("ignored", "Scores are computed from the weights in the repository."),
    },
}
