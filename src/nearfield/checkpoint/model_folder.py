"""Read a Hugging Face model folder, and what the catalogue adds to it, into one frozen recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from nearfield.checkpoint import json_file, modules, output_kinds, static_embeddings
from nearfield.checkpoint.transformer_config import Transformer, read_transformer
from nearfield.checkpoint.weights import weights
from nearfield.errors import ModelRefused, nearest
from nearfield.recipe import (
    ROLE_PROMPTS,
    ClassScores,
    EncodeTask,
    Head,
    Module,
    Normalize,
    Pooling,
    Recipe,
    RerankPrompt,
)

SIMILARITIES = {name: name for name in ("cosine", "dot", "euclidean", "manhattan")} | {"dot_product": "dot"}
#: What configs call the size of a token's vector.
WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
#: Architectures that count positions from the padding id on, and so read that many tokens fewer than they have rows.
SHIFTED = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "data2vec-text", "longformer"})
#: Stands in tokenizer configs for "no limit".
UNBOUNDED = 10**9
ASSUMED_LENGTH = 512


class CatalogFacts(Protocol):
    """What the catalogue says about a model, as far as a folder may omit it."""

    @property
    def pooling(self) -> str | None: ...
    @property
    def normalize(self) -> bool | None: ...
    @property
    def prompts(self) -> Mapping[str, str]: ...
    @property
    def default_prompt_name(self) -> str | None: ...
    @property
    def similarity(self) -> str: ...
    @property
    def matryoshka(self) -> tuple[int, ...]: ...
    @property
    def max_length(self) -> int: ...
    @property
    def licence(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def instruction(self) -> str | None: ...
    @property
    def answer(self) -> RerankPrompt | None: ...
    @property
    def tasks(self) -> Mapping[str, EncodeTask]: ...
    @property
    def exclude_prompt(self) -> bool: ...
    @property
    def centre(self) -> bool: ...
    @property
    def is_causal(self) -> bool | None: ...
    @property
    def forbid(self) -> tuple[str, ...]: ...


@dataclass
class _Notes:
    """Where facts came from, when not from the obvious place, and what the user should know."""

    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_model_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    entry: CatalogFacts | None = None,
    kind: str | None = None,
    body: str | None = None,
    answer: RerankPrompt | None = None,
) -> Recipe:
    """Read a model folder. ``entry``, the catalogue's, supplies what the folder omits; ``origins`` says which.

    ``kind`` (dense, sparse, multivector or scores) overrules what the files say the model is; ``body`` names a file in
    the folder that holds the encoder as a graph, in place of its weights; ``answer`` says how a language model is asked
    to score pairs.

    Raises:
        ModelRefused: the files would not give this model's own vectors; the message says which file and why.
    """
    meta = json_file.read_optional(folder / "config_sentence_transformers.json")
    if (folder / "adapter_config.json").is_file():
        raise ModelRefused(f"{folder} holds a PEFT adapter: load its base model, with this folder as an adapter")
    stages = modules.read_stages(folder)
    queries = None
    if stages is not None and [stage.kind for stage in stages] == ["Router"]:
        stages, queries = output_kinds.routed(folder)
    if static_embeddings.is_static(folder, stages):
        return _static(folder, stages, meta, name, revision, entry)
    home = stages[0].folder if stages else folder
    transformer = read_transformer(home)
    if body is None:
        weights.files(home)
    notes = _Notes()
    if entry is not None and entry.is_causal is not None:
        # All that the model's own code is for.
        transformer.config["is_causal"] = entry.is_causal
        transformer.config.pop("auto_map", None)
    answer = answer or (entry.answer if entry else None)
    # The catalogue's word counts where it is more than the usual.
    known = entry.kind if entry and entry.kind != output_kinds.DENSE else None
    chosen = output_kinds.SCORES if answer else kind or known
    chosen = (
        output_kinds.SPARSE
        if queries
        else chosen or output_kinds.kind_of(meta, stages, _architecture(transformer.config))
    )
    chain, heads, dimensions = _parts(folder, chosen, meta, stages, transformer, entry, notes, queries, answer)
    prompts = _prompts(folder, meta, entry, notes)
    return Recipe(
        name=name or folder.resolve().name,
        folder=home,
        config=MappingProxyType(transformer.config),
        modules=chain,
        heads=heads,
        body=None if body is None else folder / body,
        dimensions=dimensions,
        max_length=_max_length(transformer, entry, notes),
        revision=revision,
        do_lower_case=transformer.do_lower_case,
        prompts=MappingProxyType(prompts),
        default_prompt_name=_default_prompt(folder, meta, prompts, entry, notes),
        instruction=_instruction(prompts, entry),
        similarity=_similarity(folder, meta, entry, notes),
        truncate_dim=_truncate_dim(folder, meta, dimensions),
        matryoshka=entry.matryoshka if entry else (),
        centre=bool(entry and entry.centre),
        tasks=entry.tasks if entry else MappingProxyType({}),
        forbid=entry.forbid if entry else (),
        licence=_licence(folder, entry, notes),
        origins=MappingProxyType(notes.origins),
        warnings=tuple(notes.warnings),
    )


def _static(
    folder: Path,
    stages: tuple[modules.ModuleStage, ...] | None,
    meta: Mapping[str, Any],
    name: str | None,
    revision: str | None,
    entry: CatalogFacts | None,
) -> Recipe:
    """Read a table of static embeddings, which has neither a transformer nor a config of one."""
    home, config, chain = static_embeddings.read(folder, stages)
    notes = _Notes()
    prompts = _prompts(folder, meta, entry, notes)
    return Recipe(
        name=name or folder.resolve().name,
        folder=home,
        config=MappingProxyType(config),
        modules=chain,
        dimensions=config["hidden_size"],
        max_length=config["max_position_embeddings"],
        revision=revision,
        prompts=MappingProxyType(prompts),
        default_prompt_name=_default_prompt(folder, meta, prompts, entry, notes),
        similarity=_similarity(folder, meta, entry, notes),
        truncate_dim=_truncate_dim(folder, meta, config["hidden_size"]),
        matryoshka=entry.matryoshka if entry else (),
        licence=_licence(folder, entry, notes),
        origins=MappingProxyType(notes.origins),
        warnings=tuple(notes.warnings),
    )


def overlay(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with what another folder says: an adapter's folder may bring modules and prompts of its own."""
    stages = modules.read_stages(folder)
    meta = json_file.read_optional(folder / "config_sentence_transformers.json")
    changes: dict[str, Any] = {}
    if stages is not None and recipe.modules:
        chain, dimensions = modules.read(stages, _width(folder, recipe.config))
        changes.update(modules=chain, dimensions=dimensions)
    if meta.get("prompts"):
        changes["prompts"] = MappingProxyType({**recipe.prompts, **_prompts(folder, meta, None, _Notes())})
    return replace(recipe, **changes)


# Modules and heads


def _parts(
    folder: Path,
    kind: str,
    meta: Mapping[str, Any],
    stages: tuple[modules.ModuleStage, ...] | None,
    transformer: Transformer,
    entry: CatalogFacts | None,
    notes: _Notes,
    queries: Path | None,
    answer: RerankPrompt | None,
) -> tuple[tuple[Module, ...], tuple[Head, ...], int]:
    """Return the chain to the dense vector, the other heads, and the size of the main output."""
    config = transformer.config
    if kind != output_kinds.MULTIVECTOR and (transformer.query_length or transformer.query_expansion):
        raise ModelRefused(f"{folder} sets query_length or query_expansion, which only late interaction has")
    if kind in (output_kinds.DENSE, output_kinds.MULTIVECTOR) and transformer.task != "feature-extraction":
        raise ModelRefused(f"{folder} holds a {kind} model, and its transformer_task is {transformer.task!r}")
    if kind == output_kinds.SCORES:
        scores = output_kinds.scores(folder, meta, stages, config, answer)
        return (), (scores,), len(scores.labels) if isinstance(scores, ClassScores) else 1
    if kind == output_kinds.SPARSE:
        return (), (output_kinds.splade(folder, stages, queries),), int(config.get("vocab_size") or 0)
    width = _width(folder, config)
    if kind == output_kinds.MULTIVECTOR:
        multivector = output_kinds.multivector(folder, meta, stages, transformer, width)
        return (), (multivector,), multivector.dimensions
    chain, dimensions = _modules(folder, stages, config, entry, notes)
    beside = (output_kinds.lexical(folder, config), output_kinds.m3_colbert(folder, width))
    return chain, tuple(head for head in beside if head is not None), dimensions


def _modules(
    folder: Path,
    stages: tuple[modules.ModuleStage, ...] | None,
    config: Mapping[str, Any],
    entry: CatalogFacts | None,
    notes: _Notes,
) -> tuple[tuple[Module, ...], int]:
    width = _width(folder, config)
    if stages is None:
        chain = _assumed(folder, config, entry, notes)
        return chain, width
    chain, dimensions = modules.read(stages, width)
    if _excludes_prompt(folder, config, entry):
        notes.origins["include_prompt"] = "catalogue"
        chain = tuple(replace(one, include_prompt=False) if isinstance(one, Pooling) else one for one in chain)
    own = next(module for module in chain if isinstance(module, Pooling))
    if entry and entry.pooling and own.modes != (entry.pooling,):
        notes.warnings.append(f"the folder pools by {'+'.join(own.modes)}, the catalogue knows {entry.pooling}")
    return chain, dimensions


def _excludes_prompt(folder: Path, config: Mapping[str, Any], entry: CatalogFacts | None) -> bool:
    """Whether pooling leaves the prompt out though the folder does not say so: Instructor's own code does it."""
    if entry and entry.exclude_prompt:
        return True
    named = f"{config.get('_name_or_path') or ''} {folder.name}"
    return config.get("model_type") == "t5" and re.search(r"\binstructor-(base|large|xl)\b", named) is not None


def _width(folder: Path, config: Mapping[str, Any]) -> int:
    width = next((config[key] for key in WIDTHS if key in config), None)
    if type(width) is not int or width < 1:
        raise ModelRefused(f"the config.json of {folder} gives no size of a token's vector ({', '.join(WIDTHS)})")
    return width


def _assumed(folder: Path, config: Mapping[str, Any], entry: CatalogFacts | None, notes: _Notes) -> tuple[Module, ...]:
    """Without modules.json: what the catalogue knows, else what sentence-transformers would do, with a warning."""
    if entry is not None and entry.pooling is not None:
        notes.origins.update(pooling="catalogue", normalize="catalogue")
        pooling = Pooling((modules.check_mode(entry.pooling, "the catalogue"),))
        return (pooling, Normalize()) if entry.normalize else (pooling,)
    architecture = _architecture(config)
    causal = architecture.endswith("ForCausalLM") and config.get("is_causal") is not False
    mode = "lasttoken" if causal else "mean"
    notes.origins.update(pooling="assumed", normalize="assumed")
    notes.warnings.append(
        f"{folder} has no modules.json: {mode} pooling without normalisation is assumed, as sentence-transformers "
        "does. If the model was trained otherwise, its vectors are wrong"
    )
    return (Pooling((mode,)),)


def _architecture(config: Mapping[str, Any]) -> str:
    listed = config.get("architectures") or [""]
    return str(listed[0]) if isinstance(listed, list) else ""


# Length


def _max_length(transformer: Transformer, entry: CatalogFacts | None, notes: _Notes) -> int:
    """The file's own word first, then the tokenizer's, the catalogue's, the positions'; never more than those."""
    positions = _positions(transformer.config)
    stated = {
        "": transformer.max_length,
        "tokenizer_config.json": _tokenizer_length(transformer.folder),
        "catalogue": entry.max_length if entry else None,
        "positions": positions,
    }
    origin, length = next(((key, value) for key, value in stated.items() if value), ("assumed", ASSUMED_LENGTH))
    if origin == "assumed":
        notes.warnings.append(f"nothing says how many tokens {transformer.folder} reads: {ASSUMED_LENGTH} is assumed")
    if positions is not None and length > positions:
        origin, length = "positions", positions
    if origin:
        notes.origins["max_length"] = origin
    if entry and entry.max_length < length:
        notes.warnings.append(f"up to {length} tokens are read, and the model was made for {entry.max_length}")
    return length


def _positions(config: Mapping[str, Any]) -> int | None:
    """How many tokens have a position of their own, or None where the architecture sets no limit."""
    rows = config.get("max_position_embeddings")
    if type(rows) is not int or rows < 1:
        return None
    if config.get("model_type") not in SHIFTED:
        return rows
    padding = config.get("pad_token_id")
    return rows - (padding if type(padding) is int and config["model_type"] != "mpnet" else 1) - 1


def _tokenizer_length(folder: Path) -> int | None:
    length = json_file.read_optional(folder / "tokenizer_config.json").get("model_max_length")
    return int(length) if isinstance(length, (int, float)) and 0 < length < UNBOUNDED else None


# Prompts


def _prompts(folder: Path, meta: Mapping[str, Any], entry: CatalogFacts | None, notes: _Notes) -> dict[str, str]:
    """The folder's prompts, the catalogue's where these are missing or empty, and empty ones for both roles.

    An empty ``document`` beside a real ``passage`` or ``corpus`` is sentence-transformers' placeholder, not a choice.
    """
    saved = meta.get("prompts") or {}
    if not isinstance(saved, dict) or not all(isinstance(text, str | None) for text in saved.values()):
        raise ModelRefused(f"the prompts of {folder / 'config_sentence_transformers.json'} must map names to texts")
    prompts = {"query": "", "document": ""} | {name: text or "" for name, text in saved.items()}
    for name, text in (entry.prompts if entry else {}).items():
        if text and not prompts.get(name):
            prompts[name] = text
            notes.origins["prompts"] = "catalogue"
    others = [name for name in ROLE_PROMPTS["document"][1:] if prompts.get(name)]
    if others and not prompts["document"]:
        del prompts["document"]
    return prompts


def _default_prompt(
    folder: Path, meta: Mapping[str, Any], prompts: Mapping[str, str], entry: CatalogFacts | None, notes: _Notes
) -> str | None:
    name = meta.get("default_prompt_name")
    if name is None and entry and entry.default_prompt_name:
        notes.origins["default_prompt_name"] = "catalogue"
        name = entry.default_prompt_name
    if name is not None and name not in prompts:
        raise ModelRefused(f"the default prompt {name!r} of {folder} does not exist. {nearest(str(name), prompts)}")
    return name


#: Prompts that hold an instruction: what stands before and after it.
_INSTRUCTED = re.compile(r"(?P<before>Instruct: ).+(?P<after>\nQuery: ?)", re.DOTALL)


def _instruction(prompts: Mapping[str, str], entry: CatalogFacts | None) -> str:
    """The catalogue's template, or that of a saved prompt which is one with an instruction in it (E5, Qwen3)."""
    if entry and entry.instruction:
        return entry.instruction
    matches = (_INSTRUCTED.fullmatch(text) for text in prompts.values())
    found = next((match for match in matches if match), None)
    return f"{found['before']}{{instruction}}{found['after']}" if found else ""


# The rest


def _similarity(folder: Path, meta: Mapping[str, Any], entry: CatalogFacts | None, notes: _Notes) -> str:
    given = meta.get("similarity_fn_name")
    if given is None and entry:
        notes.origins["similarity"] = "catalogue"
        given = entry.similarity
    if given is None:
        return "cosine"
    if str(given).lower() in ("maxsim", "meanmaxsim"):
        return "maxsim"
    if given not in SIMILARITIES:
        raise ModelRefused(f"{folder} names the unknown similarity {given!r}. {nearest(str(given), SIMILARITIES)}")
    return SIMILARITIES[given]


def _truncate_dim(folder: Path, meta: Mapping[str, Any], dimensions: int) -> int | None:
    cut = meta.get("truncate_dim")
    if cut is None:
        return None
    if type(cut) is not int or not 1 <= cut <= dimensions:
        raise ModelRefused(f"{folder} asks for truncate_dim {cut!r}, and its vectors have {dimensions} dimensions")
    return cut


def _licence(folder: Path, entry: CatalogFacts | None, notes: _Notes) -> str | None:
    if entry is not None:
        return entry.licence
    card = folder / "README.md"
    if not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    found = re.search(r"^license:\s*['\"]?([\w.\-]+)", head, re.MULTILINE) if head.startswith("---") else None
    if found:
        notes.origins["licence"] = "README.md"
    return found and found[1]
