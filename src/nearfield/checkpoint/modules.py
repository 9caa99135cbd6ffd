"""Read ``modules.json`` and the modules' own configs, of sentence-transformers old and new, into a recipe's modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonObject
from nearfield.errors import ModelRefused, nearest
from nearfield.recipe import Dense, LayerNorm, Module, Normalize, Pooling

#: The library's own modules, under every path that its versions have used; the class is the last part.
OWN = re.compile(
    r"(sentence_transformers\.(models|\w+\.(modules|models))(\.\w+)*|pylate\.models\.Dense)\.(?P<kind>\w+)"
)
TRANSFORMERS = frozenset(
    {"Transformer", "BERT", "RoBERTa", "DistilBERT", "ALBERT", "XLMRoBERTa", "CamemBERT", "XLNet", "CLIPModel"}
)
#: Known modules that are not supported.
OTHER_KINDS = {
    "TokenPooling": "token-pooled",
    "Asym": "routed (one encoder per role)",
}
#: Modules that decide the kind of a model, whatever its other files say.
SPARSE = frozenset({"SpladePooling", "MLMTransformer", "SparseStaticEmbedding", "SparseAutoEncoder"})
MULTIVECTOR = frozenset({"MultiVectorMask"})
SCORES = frozenset({"LogitScore"})
#: What the last module of a classifier of pooled vectors calls its output.
SCORES_OUTPUT = "scores"
STATIC = frozenset({"StaticEmbedding"})
#: Stand where a transformer stands.
FIRST = TRANSFORMERS | {"MLMTransformer"} | STATIC
#: The older booleans, in the order in which their vectors are joined.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING_MODES = tuple(POOLING_FLAGS.values())
ACTIVATIONS = frozenset(
    {"Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "LeakyReLU", "ELU", "Softplus", "ReLU6", "Mish", "Hardtanh"}
)
#: What runs through a chain of modules, by sentence-transformers' name for it.
LEVELS = {"sentence_embedding": "the pooled vector", "token_embeddings": "the tokens' vectors"}


@dataclass(frozen=True)
class ModuleStage:
    """One line of modules.json: the module's class name and its folder (which Normalize often lacks)."""

    kind: str
    folder: Path


def refuse_kind(folder: Path, kind: str) -> ModelRefused:
    """Return the refusal of a model of a kind that cannot be loaded."""
    return ModelRefused(f"{folder} holds a {kind} model, which cannot be loaded here")


def read_stages(folder: Path) -> tuple[ModuleStage, ...] | None:
    """Return the stages that modules.json lists, or None where there is no such file. Remote code is refused."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    entries = json_file.read_any(path)
    if not isinstance(entries, list) or not entries:
        raise ModelRefused(f"{path} must hold a list of modules")
    stages = tuple(_stage(path, entry) for entry in entries)
    for stage in stages:
        if stage.kind in OTHER_KINDS:
            raise refuse_kind(path.parent, OTHER_KINDS[stage.kind])
        if stage.kind not in KNOWN:
            raise ModelRefused(
                f"{path} names the module {stage.kind}, which is not supported. {nearest(stage.kind, KNOWN)}"
            )
    return stages


def _stage(path: Path, entry: Any) -> ModuleStage:
    try:
        name, place = entry["type"], Path(entry["path"])
    except (TypeError, KeyError) as error:
        raise ModelRefused(f"{path} has an entry without type or path: {entry!r}") from error
    if place.is_absolute() or ".." in place.parts:
        raise ModelRefused(f"{path} points outside its folder: {entry['path']!r}")
    own = OWN.fullmatch(str(name))
    if own is None:
        raise ModelRefused(
            f"{path} names the module {name!r}, which is code that comes with the model. Nearfield runs no remote "
            "code, and knows no replacement for it"
        )
    return ModuleStage(own["kind"], path.parent / place)


def check_order(stages: tuple[ModuleStage, ...]) -> None:
    """Refuse modules of a dense model in any other order than transformer, one pooling, then others."""
    path, kinds = stages[0].folder / "modules.json", [stage.kind for stage in stages]
    if kinds[0] not in FIRST or any(kind in FIRST for kind in kinds[1:]):
        raise ModelRefused(f"{path} must list one Transformer, and first; it lists {', '.join(kinds)}")
    pooled = kinds[1:2] == ["Pooling"] and kinds.count("Pooling") == 1
    if not pooled and kinds[0] not in STATIC:
        raise ModelRefused(f"{path} must list a Transformer, one Pooling, then others; it lists {', '.join(kinds)}")


def routes(folder: Path) -> dict[str, tuple[ModuleStage, ...]]:
    """Return the modules of each route of a Router: ``query`` and ``document``, and others where there are any."""
    path = folder / "router_config.json"
    config = json_file.read_object(path)
    types, structure = config.get("types"), config.get("structure")
    if not isinstance(types, dict) or not isinstance(structure, dict):
        raise ModelRefused(f"{path} has no types and structure, which define its routes")
    return {
        route: tuple(_stage(path, {"type": types.get(name), "path": name}) for name in names)
        for route, names in structure.items()
    }


def read_modules(
    stages: tuple[ModuleStage, ...], width: int, level: str = "sentence_embedding", result: str | None = None
) -> tuple[tuple[Module, ...], int]:
    """Read the modules after the transformer, whose tokens have ``width`` dimensions. Returns them and the last width.

    Each module must take what the one before gives; a config that lies about that is refused.
    """
    if level == "sentence_embedding":
        check_order(stages)
    return read_chain(stages[1:], width, level, result)


def read_chain(
    stages: tuple[ModuleStage, ...], width: int, level: str = "sentence_embedding", result: str | None = None
) -> tuple[tuple[Module, ...], int]:
    """Read modules in their order, of which the first takes ``width`` dimensions; ``level`` is what they read.

    ``result`` is what the last module may call its output, where that is not the level.
    """
    modules: list[Module] = []
    for stage in stages:
        path = stage.folder / "config.json"
        if stage.kind not in READERS:
            raise ModelRefused(f"{path.parent.parent / 'modules.json'} lists {stage.kind} where a dense model has none")
        config = json_file.read_optional(path)
        _in_line(path, config, level, result if stage is stages[-1] else None)
        module, width = READERS[stage.kind](path, config, width)
        modules.extend([] if module is None else [module])
    return tuple(modules), width


def read_config(stage: ModuleStage, fields: tuple[str, ...]) -> JsonObject:
    """Return the config of a module, if it has one; a field that is not understood is refused."""
    path = stage.folder / "config.json"
    config = json_file.read_optional(path)
    _known(path, config, fields)
    return config


def _agree(path: Path, field: str, stated: object, width: int) -> None:
    if stated != width:
        raise ModelRefused(f"{path} says {field} is {stated!r}, and what reaches it has {width} dimensions")


def _known(path: Path, config: JsonObject, fields: tuple[str, ...]) -> None:
    for field in config:
        if field not in fields:
            raise ModelRefused(f"{path} has the field {field!r}, which is not understood. {nearest(field, fields)}")


def _in_line(path: Path, config: JsonObject, level: str, result: str | None = None) -> None:
    """Refuse a module that reads or writes anything but what runs through this chain, or ``result`` at its end."""
    for field, known in (("module_input_name", (level, None)), ("module_output_name", (level, result, None))):
        if config.get(field) not in known:
            raise ModelRefused(f"{path}: {field} is {config[field]!r}; only {LEVELS[level]} is supported here")


def _pooling(path: Path, config: JsonObject, width: int) -> tuple[Module, int]:
    sizes = ("embedding_dimension", "word_embedding_dimension")
    _known(path, config, (*sizes, "pooling_mode", "include_prompt", *POOLING_FLAGS))
    stated = [config[size] for size in sizes if size in config]
    if not stated:
        raise ModelRefused(f"{path} is missing, or names no embedding_dimension")
    _agree(path, "embedding_dimension", stated[0], width)
    modes = _modes(path, config)
    return Pooling(modes, bool(config.get("include_prompt", True))), width * len(modes)


def _modes(path: Path, config: JsonObject) -> tuple[str, ...]:
    mode = config.get("pooling_mode")
    if mode is None:
        flagged = tuple(name for flag, name in POOLING_FLAGS.items() if config.get(flag))
        return flagged or ("mean",)
    modes = (mode,) if isinstance(mode, str) else tuple(mode) if isinstance(mode, list) else ()
    if not modes:
        raise ModelRefused(f"{path}: pooling_mode is {mode!r}, not a name or a list of names")
    return tuple(check_mode(str(one), str(path)) for one in modes)


def check_mode(mode: str, where: str) -> str:
    """Return a pooling mode if it is one that exists."""
    if mode not in POOLING_MODES:
        raise ModelRefused(f"{where}: unknown pooling mode {mode!r}. {nearest(mode, POOLING_MODES)}")
    return mode


def _dense(path: Path, config: JsonObject, width: int) -> tuple[Module, int]:
    own = ("in_features", "out_features", "bias", "activation_function", "use_residual")
    _known(path, config, (*own, "module_input_name", "module_output_name"))
    size = config.get("out_features")
    if type(size) is not int or size < 1:
        raise ModelRefused(f"{path} is missing, or its out_features is {size!r}")
    _agree(path, "in_features", config.get("in_features"), width)
    activation = _activation(path, config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    residual = bool(config.get("use_residual", False))
    return Dense(width, size, bool(config.get("bias", True)), activation, path.parent, residual=residual), size


def _activation(path: Path, dotted: object) -> str:
    """The class name of a torch.nn activation; None is sentence-transformers' way to say Identity."""
    if dotted is None:
        return "Identity"
    name = str(dotted).rpartition(".")[2]
    if not str(dotted).startswith("torch.nn.") or name not in ACTIVATIONS:
        raise ModelRefused(f"{path}: unknown activation_function {dotted!r}. {nearest(name, ACTIVATIONS)}")
    return name


def _layer_norm(path: Path, config: JsonObject, width: int) -> tuple[Module, int]:
    _known(path, config, ("dimension",))
    _agree(path, "dimension", config.get("dimension"), width)
    return LayerNorm(width, path.parent), width


def _normalize(_path: Path, _config: JsonObject, width: int) -> tuple[Module, int]:
    return Normalize(), width


def _dropout(_path: Path, _config: JsonObject, width: int) -> tuple[None, int]:
    return None, width  # does something in training only


READERS: Mapping[str, Callable[[Path, JsonObject, int], tuple[Module | None, int]]] = {
    "Pooling": _pooling,
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
    "Dropout": _dropout,
}
#: Every supported module.
KNOWN = FIRST | SPARSE | MULTIVECTOR | SCORES | READERS.keys() | {"Router"}
