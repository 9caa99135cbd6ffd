"""What becomes of the arguments of ``SentenceTransformer``."""

from __future__ import annotations

from nearfield.compat.arguments import BAR, BATCHES, DEVICE_OF_CALL, USED, ArgumentTable, Effect
from nearfield.compat.sentence_transformers.load_options import CONSTRUCTOR

_POOL = Effect("ignored", "The engine uses all cores of this process; no process is started.")
_CARD = Effect("ignored", "No model card is written.")
_ENCODE = {
    "inputs": Effect("used", "Texts. Pictures, sounds, messages and pairs of texts are refused."),
    "prompt_name": USED,
    "prompt": USED,
    "batch_size": BATCHES,
    "show_progress_bar": BAR,
    "output_value": USED,
    "precision": USED,
    "convert_to_numpy": USED,
    "convert_to_tensor": USED,
    "device": DEVICE_OF_CALL,
    "normalize_embeddings": USED,
    "truncate_dim": USED,
    "pool": _POOL,
    "chunk_size": _POOL,
    "kwargs": Effect("used", "processing_kwargs: max_length of texts; others are refused."),
}
_PAIR_OF_SETS = {"embeddings1": USED, "embeddings2": USED}
ARGUMENTS: ArgumentTable = {
    "SentenceTransformer": {
        **CONSTRUCTOR,
        "use_auth_token": Effect("used", "The old name of token."),
        "similarity_fn_name": USED,
        "truncate_dim": USED,
    },
    "SentenceTransformer.encode": {
        **_ENCODE,
        "kwargs": Effect("used", "task (its adapter), and processing_kwargs: max_length of texts; others are refused."),
    },
    **{f"SentenceTransformer.{name}": _ENCODE for name in ("encode_query", "encode_document")},
    "SentenceTransformer.encode_multi_process": {
        "sentences": USED,
        **{
            name: _ENCODE[name]
            for name in ("pool", "prompt_name", "prompt", "batch_size", "chunk_size", "show_progress_bar", "precision")
        },
        "normalize_embeddings": USED,
        "truncate_dim": USED,
    },
    "SentenceTransformer.start_multi_process_pool": {"target_devices": _POOL},
    "SentenceTransformer.stop_multi_process_pool": {"pool": _POOL},
    "SentenceTransformer.similarity": _PAIR_OF_SETS,
    "SentenceTransformer.similarity_pairwise": _PAIR_OF_SETS,
    "SentenceTransformer.truncate_embeddings": {"truncate_dim": USED},
    "SentenceTransformer.truncate_sentence_embeddings": {"truncate_dim": USED},
    "SentenceTransformer.preprocess": {
        "inputs": _ENCODE["inputs"],
        "prompt": USED,
        "kwargs": Effect("used", "As for encode."),
    },
    "SentenceTransformer.tokenize": {"texts": _ENCODE["inputs"], "kwargs": Effect("used", "As for encode.")},
    "SentenceTransformer.is_singular_input": {"inputs": USED},
    "SentenceTransformer.save": {
        "path": USED,
        "model_name": _CARD,
        "create_model_card": _CARD,
        "train_datasets": _CARD,
        "safe_serialization": Effect("ignored", "The files of weights are copied unchanged."),
    },
    "SentenceTransformer.evaluate": {"evaluator": USED, "output_path": USED},
}
