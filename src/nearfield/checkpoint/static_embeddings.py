"""Read folders of static embeddings, in sentence-transformers' layout and in model2vec's.

Both libraries take the tokenizer from tokenizer.json alone. sentence-transformers obeys the truncation in it, model2vec
the maximum length in its config.

A text is cut at tokens alone. model2vec cuts long ones by characters first (its limit times the median length of its
tokens), which saves it time and may leave fewer tokens than its limit: there, and only there, its vectors differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from nearfield.checkpoint import json_file, modules
from nearfield.checkpoint.json_file import JsonDict
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.recipe import Module, Normalize, Pooling

#: Tokens that model2vec reads when its config does not say.
LENGTH = 512
#: Tokens read where nothing sets a limit: a row that long is still small.
LONGEST = 32_768
#: The setting in tokenizer.json, which need not be parsed whole: vocabularies are large.
_TRUNCATION = re.compile(rb'"truncation"\s*:\s*(\{[^{}]*\})')


def is_static(folder: Path, stages: tuple[modules.ModuleStage, ...] | None) -> bool:
    """Whether a folder holds static embeddings."""
    if stages is not None:
        return stages[0].kind in modules.STATIC
    config = json_file.read_optional(folder / "config.json")
    if config.get("model_type") == "model2vec":
        return True
    # Newer versions of model2vec say nothing in config.json: the name of the table identifies them.
    return "model_type" not in config and (folder / "model.safetensors").is_file() and _is_model2vec(folder)


def _is_model2vec(folder: Path) -> bool:
    """Whether the table is named ``embeddings``, as model2vec does; sentence-transformers names it differently."""
    return "embeddings" in Weights.open(folder).names()


def read_static_embeddings(
    folder: Path, stages: tuple[modules.ModuleStage, ...] | None
) -> tuple[Path, JsonDict, tuple[Module, ...]]:
    """Return the folder of the table, a config for the family, and the modules after the lookup.

    Raises:
        ModelRefused: there is no table, or modules follow it that cannot be run.
    """
    config = json_file.read_optional(folder / "config.json")
    home = stages[0].folder if stages else folder
    own = _is_model2vec(home)
    weights = Weights.open(home)
    name = next((name for name in ("embedding.weight", "embeddings") if name in weights.names()), None)
    if name is None:
        raise ModelRefused(f"{home} holds no static embeddings (looked for embedding.weight and embeddings).")
    rows, width = weights.shape(name)
    if "mapping" in weights.names():
        rows = weights.shape("mapping")[0]
    length = config.get("max_length", LENGTH) if own else _truncation_length(home)
    facts = {
        "model_type": "static",
        "layout": "model2vec" if own else "sentence-transformers",
        "hidden_size": width,
        "vocab_size": rows + 1,
        "max_position_embeddings": LONGEST if length is None else int(length),
    }
    return home, facts, _modules(own, config, stages, width)


def _truncation_length(home: Path) -> int | None:
    """Return the maximum length that tokenizer.json states, if any."""
    path = home / "tokenizer.json"
    match = _TRUNCATION.search(path.read_bytes()) if path.is_file() else None
    try:
        length = json.loads(match[1]).get("max_length") if match else None
    except ValueError as error:
        raise ModelRefused(f"{path} cannot be read as JSON: {error}") from error
    if match and (type(length) is not int or length < 1):
        raise ModelRefused(f"{path}: truncation.max_length is {length!r}, not a positive whole number")
    return length


def _modules(
    own: bool, config: JsonDict, stages: tuple[modules.ModuleStage, ...] | None, width: int
) -> tuple[Module, ...]:
    if own:
        return (Pooling(("mean",)), *((Normalize(),) if config.get("normalize") else ()))
    chain, _ = modules.read_modules(stages or (), width)
    return (Pooling(("mean",)), *chain)
