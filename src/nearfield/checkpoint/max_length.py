"""The number of tokens that a model reads: from its files, the catalogue, or its number of positions."""

from __future__ import annotations

from pathlib import Path

from nearfield.checkpoint import json_file
from nearfield.checkpoint.folder_facts import FolderFacts
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.transformer_config import Transformer

#: Architectures that count positions from the padding id on, and so read that many tokens fewer than they have rows.
SHIFTED = frozenset(
    {
        *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text", "longformer"),
        "altclip_text_model",
        "clap_text_model",
    }
)
#: Tokenizer configs write this or more for "no limit".
UNBOUNDED = 10**9
ASSUMED_LENGTH = 512


def read_max_length(transformer: Transformer, facts: FolderFacts) -> int:
    """Return the maximum number of tokens, never more than the model has positions.

    The order: the model's own config, the tokenizer's, the catalogue's, the number of positions.
    """
    positions = count_positions(transformer.config)
    stated = {
        "": transformer.max_length,
        "tokenizer_config.json": _tokenizer_length(transformer.folder),
        "catalogue": facts.entry.max_length if facts.entry else None,
        "positions": positions,
    }
    origin, length = next(((key, value) for key, value in stated.items() if value), ("assumed", ASSUMED_LENGTH))
    if origin == "assumed":
        facts.warnings.append(f"nothing says how many tokens {transformer.folder} reads: {ASSUMED_LENGTH} is assumed")
    if positions is not None and length > positions:
        origin, length = "positions", positions
    if origin:
        facts.origins["max_length"] = origin
    if facts.entry and facts.entry.max_length < length:
        facts.warnings.append(f"up to {length} tokens are read, and the model was trained on {facts.entry.max_length}")
    return length


def count_positions(config: JsonObject) -> int | None:
    """Return how many tokens have a position, or None where the architecture sets no limit."""
    rows = config.get("max_position_embeddings")
    if type(rows) is not int or rows < 1:
        return None
    if config.get("model_type") not in SHIFTED:
        return rows
    padding = config.get("pad_token_id")
    return rows - (padding if type(padding) is int and config["model_type"] != "mpnet" else 1) - 1


def _tokenizer_length(folder: Path) -> int | None:
    config = json_file.read_optional(folder / "tokenizer_config.json")
    length = config.get("model_max_length", config.get("max_len"))
    return int(length) if isinstance(length, (int, float)) and 0 < length < UNBOUNDED else None
