"""Pooling of a dense model: from modules.json, the catalogue, or sentence-transformers' default with a warning."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from nearfield.checkpoint import modules
from nearfield.checkpoint.folder_facts import FolderFacts
from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused
from nearfield.hub.gguf import ORIGIN_KEY, missing_pooling
from nearfield.recipe import Module, Normalize, Pooling

#: Names that configs give to the size of a token's vector.
WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
#: Those of architectures whose own last layer changes that size.
PROJECTED = {"embedding_gemma2_text": ("embedding_dim",)}


def dense_modules(
    stages: tuple[modules.ModuleStage, ...] | None, config: JsonObject, facts: FolderFacts
) -> tuple[tuple[Module, ...], int]:
    """Return the modules from tokens to the dense vector, and the size of that vector."""
    width = token_width(facts.folder, config)
    if stages is None:
        return _default_modules(config, facts), width
    chain, dimensions = modules.read_modules(stages, width)
    if ORIGIN_KEY in facts.meta and facts.entry and not facts.entry.normalize:
        facts.origins["normalize"] = "catalogue"
        chain = tuple(module for module in chain if not isinstance(module, Normalize))
    if _excludes_prompt(config, facts):
        facts.origins["include_prompt"] = "catalogue"
        chain = tuple(replace(part, include_prompt=False) if isinstance(part, Pooling) else part for part in chain)
    pooling = next(module for module in chain if isinstance(module, Pooling))
    expected = facts.entry.pooling if facts.entry else None
    if expected and pooling.modes != (expected,):
        facts.warnings.append(f"the folder pools by {'+'.join(pooling.modes)}, the catalogue says {expected}")
    return chain, dimensions


def token_width(folder: Path, config: JsonObject) -> int:
    """Return the size of a token's vector.

    Raises:
        ModelRefused: the config does not say it.
    """
    names = (*PROJECTED.get(str(config.get("model_type")), ()), *WIDTHS)
    width = next((config[key] for key in names if key in config), None)
    if type(width) is not int or width < 1:
        raise ModelRefused(f"the config.json of {folder} gives no size of a token's vector ({', '.join(WIDTHS)})")
    return width


def architecture_of(config: JsonObject) -> str:
    """Return the first name under ``architectures``, or an empty string."""
    listed = config.get("architectures") or [""]
    return str(listed[0]) if isinstance(listed, list) else ""


def _excludes_prompt(config: JsonObject, facts: FolderFacts) -> bool:
    """Whether pooling leaves out the prompt though the folder does not say so, as Instructor's own code does."""
    if facts.entry and facts.entry.exclude_prompt:
        return True
    name = f"{config.get('_name_or_path') or ''} {facts.folder.name}"
    return config.get("model_type") == "t5" and re.search(r"\binstructor-(base|large|xl)\b", name) is not None


def _default_modules(config: JsonObject, facts: FolderFacts) -> tuple[Module, ...]:
    """Without modules.json: what the catalogue says, else what sentence-transformers would do, with a warning."""
    entry = facts.entry
    if entry is not None and entry.pooling is not None:
        facts.origins.update(pooling="catalogue", normalize="catalogue")
        pooling = Pooling((modules.check_mode(entry.pooling, "the catalogue"),))
        return (pooling, Normalize()) if entry.normalize else (pooling,)
    if ORIGIN_KEY in facts.meta:
        raise missing_pooling(Path(facts.meta[ORIGIN_KEY]))
    causal = architecture_of(config).endswith("ForCausalLM") and config.get("is_causal") is not False
    mode = "lasttoken" if causal else "mean"
    facts.origins.update(pooling="assumed", normalize="assumed")
    facts.warnings.append(
        f"{facts.folder} has no modules.json: {mode} pooling without normalisation is assumed, as "
        "sentence-transformers does. If the model was trained otherwise, its vectors are wrong"
    )
    return (Pooling((mode,)),)
