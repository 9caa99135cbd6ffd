"""Read folders of visual document retrievers: late interaction between a query and the pictures of pages.

ColPali and ColQwen2: Faysse et al. 2024, arXiv:2407.01449. ColModernVBERT: Teiletche et al. 2025, arXiv:2510.01149. A
page is a picture within a short text, and every token of it has a vector. Folders are those of transformers
(``…ForRetrieval``), or of colpali-engine: whole, or a LoRA adapter that is merged into the weights of a base model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nearfield.checkpoint import json_file, modules
from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.checkpoint.modules import ModuleStage
from nearfield.checkpoint.processors.image import read_image_processor
from nearfield.checkpoint.towers.tower_config import DEFAULTS
from nearfield.checkpoint.weights.merged import PROJECTIONS, adds_projection, open_weights
from nearfield.errors import ModelRefused
from nearfield.recipe import Dense, MergedWeights, Multivector, Normalize, RoleFormat, TextRules

#: Tokens after a query that stand for no text: the model collects there what else it looks for.
AUGMENTATION_TOKENS = 10
#: One of them is in every folder with a tokenizer.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
#: Raised when the same folder's pages become other sequences.
_VERSION = 1
_SIGLIP = DEFAULTS["siglip_vision_model"]
_QWEN_VISION = {"depth": 32, "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}


@dataclass(frozen=True)
class RetrieverKind:
    """A language model with a vision tower, as a retriever of pages. Texts are those of transformers' processor.

    Args:
        text: ``model_type`` of the part that reads tokens.
        vision: that of the tower.
        prompt: ``visual_prompt_prefix``, where the folder's processor_config.json has none.
        engine_prompt: that of colpali-engine, where it has another one.
        page: the text of a page, with ``{prompt}`` and the tokenizer's ``{bos}``.
        query_prefix: ``query_prefix``, where the folder has none.
        query_end: what follows the augmentation tokens.
        augmentation: the augmentation token; empty for the tokenizer's padding token.
        image_token: the placeholder of a row of the tower.
        image_ids: fields of the config that may hold the placeholder's id.
        framed: whether the tokenizer's own special tokens surround texts; if not, ``{bos}`` begins a query.
        text_defaults: what the reference's config means where a file leaves a field out.
        vision_defaults: the same of the tower.
    """

    text: str
    vision: str
    prompt: str
    augmentation: str
    image_token: str
    engine_prompt: str = ""
    page: str = "{prompt}"
    query_prefix: str = ""
    query_end: str = ""
    image_ids: tuple[str, ...] = ("image_token_id",)
    framed: bool = True
    text_defaults: Mapping[str, Any] = field(default_factory=dict)
    vision_defaults: Mapping[str, Any] = field(default_factory=dict)


_QWEN2 = RetrieverKind(
    text="qwen2_vl_text",
    vision="qwen2_vl_vision",
    prompt=("<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|><|endoftext|>"),
    augmentation="",
    image_token="<|image_pad|>",
    query_prefix="Query: ",
    query_end="\n",
    text_defaults={"max_position_embeddings": 32768},
    vision_defaults={
        **_QWEN_VISION,
        "embed_dim": 1280,
        "mlp_ratio": 4,
        "hidden_act": "quick_gelu",
    },
)
#: By the ``model_type`` of the language model with its tower.
KINDS: Mapping[str, RetrieverKind] = {
    "modernvbert": RetrieverKind(
        text="modernvbert_text",
        vision="modernvbert_vision",
        prompt="<|begin_of_text|>User:<image>Describe the image.<end_of_utterance>\nAssistant:",
        augmentation="<end_of_utterance>",
        image_token="<image>",
        vision_defaults={**_SIGLIP, "pixel_shuffle_factor": 4},
    ),
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": replace(
        _QWEN2,
        text="qwen2_5_vl_text",
        vision="qwen2_5_vl_vision",
        vision_defaults={
            **_QWEN_VISION,
            "hidden_size": 3584,
            "intermediate_size": 3420,
            "out_hidden_size": 3584,
            "hidden_act": "silu",
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    ),
    "paligemma": RetrieverKind(
        text="paligemma_text",
        vision="paligemma_vision",
        prompt="Describe the image.",
        engine_prompt="<bos>Describe the image.",  # a page has two: PaliGemma's processor adds the first
        augmentation="",
        image_token="<image>",
        page="<image>{bos}{prompt}\n",
        query_prefix="Question: ",
        query_end="\n",
        image_ids=("image_token_id", "image_token_index"),
        framed=False,
        text_defaults={"max_position_embeddings": 8192, "head_dim": 256, "use_bidirectional_attention": True},
        vision_defaults={
            **_SIGLIP,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "patch_size": 14,
            "vision_use_head": False,
        },
    ),
}
#: ``model_type`` of transformers' retrievers.
_RETRIEVERS = frozenset({"colmodernvbert", "colqwen2", "colpali"})
#: Classes of colpali-engine, whose queries have no prefix and no end.
_ENGINE = frozenset({"ColModernVBert", "ColQwen2", "ColQwen2_5", "ColPali"})
#: Those that are unknown here.
_OTHER_ENGINE = frozenset({"ColIdefics3", "ColGemma3", "ColQwen3", "ColQwen3_5", "ColQwenOmni"})


@dataclass(frozen=True)
class PageFormat:
    """The texts around pages and queries.

    ``page`` has ``image_token`` where the picture's rows go. ``framed`` says whether the tokenizer's own special tokens
    surround both.
    """

    page: str
    image_token: str
    query_prefix: str
    rules: TextRules
    framed: bool


@dataclass(frozen=True)
class PageRetriever:
    """What a folder says of a retriever: configs of both parts, each with its own ``model_type``, and the head.

    ``pictures`` is the folder that says how pages are prepared.
    """

    pictures: Path
    text: JsonDict
    vision: JsonDict
    head: Multivector
    format: PageFormat


def is_page_retriever(folder: Path) -> bool:
    """Return whether config.json is that of a visual document retriever."""
    config = json_file.read_optional(folder / "config.json")
    return config.get("model_type") in _RETRIEVERS or bool(_architectures(config) & (_ENGINE | _OTHER_ENGINE))


def is_retriever_adapter(adapter: Path, base: Path) -> bool:
    """Return whether an adapter's folder and that of its base model are a retriever of pages together.

    The base may be the language model with its tower alone, if the adapter has the last layer.
    """
    kind = str(json_file.read_optional(base / "config.json").get("model_type"))
    return is_page_retriever(base) or (kind in KINDS and adds_projection(adapter))


def processor_folder(folder: Path, merged: MergedWeights | None) -> Path:
    """Return the folder of the tokenizer: the base model's, where an adapter's folder has none."""
    has_tokenizer = any((folder / name).is_file() for name in _TOKENIZER_FILES)
    return folder if merged is None or has_tokenizer else merged.base


def read_page_retriever(
    folder: Path, stages: tuple[ModuleStage, ...] | None, merged: MergedWeights | None = None
) -> PageRetriever:
    """Return what a folder says of a retriever.

    Args:
        folder: where the tokenizer is, and unless ``merged`` says otherwise, config.json and the weights.
        stages: the modules of modules.json, where sentence-transformers wrote the folder.
        merged: the base model, which has config.json, and the adapter.

    Raises:
        ModelRefused: a file says something that is unknown here.
    """
    path = (folder if merged is None else merged.base) / "config.json"
    whole = json_file.read_object(path)
    if other := _architectures(whole) & _OTHER_ENGINE:
        raise ModelRefused(f"{path}: the class {min(other)} of colpali-engine is not known here")
    engine = whole.get("model_type") not in _RETRIEVERS
    config = whole if engine else _object(path, whole, "vlm_config")
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise ModelRefused(f"{path}: the language model {config.get('model_type')!r} of a retriever is not known here")
    text = _text_config(path, config, kind)
    vision = {**kind.vision_defaults, **_object(path, config, "vision_config"), "model_type": kind.vision}
    vision["text_size"] = text["hidden_size"]
    if "pixel_shuffle_factor" in config:
        vision["pixel_shuffle_factor"] = config["pixel_shuffle_factor"]
    pictures = folder if merged is None or read_image_processor(folder) is not None else merged.base
    images = read_image_processor(pictures)
    if images is not None and images.size is not None:
        vision["input_size"] = list(images.size)
    text["image_token_id"] = next((config[name] for name in kind.image_ids if name in config), None)
    format_ = read_page_format(folder, kind, engine=engine)
    # What surrounds a page is part of the name of the model's space.
    vision["version"] = f"{_VERSION} {format_!r}"
    head = _head(merged or folder, stages, int(text["hidden_size"]), format_)
    return PageRetriever(pictures, text, vision, head, format_)


def read_page_format(folder: Path, kind: RetrieverKind, *, engine: bool) -> PageFormat:
    """Return the texts around pages and queries: of the processor's file, where that states them."""
    stated = json_file.read_optional(folder / "processor_config.json")
    tokens = json_file.read_optional(folder / "tokenizer_config.json")
    bos = _token(tokens.get("bos_token")) or "<bos>"
    prompt = stated.get("visual_prompt_prefix") or (engine and kind.engine_prompt) or kind.prompt
    prefix = stated.get("query_prefix") or ("" if engine else kind.query_prefix)
    augmentation = kind.augmentation or _token(tokens.get("pad_token"))
    for name, value in (("visual_prompt_prefix", prompt), ("query_prefix", prefix), ("pad_token", augmentation)):
        if not isinstance(value, str) or (name == "pad_token" and not value):
            raise ModelRefused(f"{folder}: {name} must be a text, not {value!r}")
    end = augmentation * AUGMENTATION_TOKENS + ("" if engine else kind.query_end)
    rules = TextRules(begin="" if kind.framed else bos, end=end)
    page = kind.page.format(bos=bos, prompt=prompt)
    if page.count(kind.image_token) != 1:
        raise ModelRefused(f"{folder}: visual_prompt_prefix {prompt!r} must contain {kind.image_token} once")
    return PageFormat(page, kind.image_token, prefix, rules, kind.framed)


def _text_config(path: Path, config: JsonObject, kind: RetrieverKind) -> JsonDict:
    """Return the config of the part that reads tokens; older files have its fields beside the tower's."""
    own = config.get("text_config")
    if own is None:
        own = {name: value for name, value in config.items() if name not in ("vision_config", "architectures")}
    if not isinstance(own, dict):
        raise ModelRefused(f"{path}: text_config must be an object, not {own!r}")
    return {**kind.text_defaults, **own, "model_type": kind.text}


def _head(
    source: Path | MergedWeights, stages: tuple[ModuleStage, ...] | None, width: int, format_: PageFormat
) -> Multivector:
    """Return the last layer, and which tokens of a page have vectors: ``keep_only_token_ids`` of a MultiVectorMask."""
    weights = open_weights(source)
    layer = next((name for name in PROJECTIONS if f"{name}.weight" in weights.names()), None)
    if layer is None:
        at = source if isinstance(source, Path) else source.base
        raise ModelRefused(f"{at} has no last layer ({' or '.join(PROJECTIONS)}): it is no retriever of pages")
    size = weights.shape(f"{layer}.weight")[0]
    token_ids: tuple[int, ...] = ()
    if stages is not None:
        if [stage.kind for stage in stages[1:]] not in ([], ["MultiVectorMask"]):
            kinds = ", ".join(stage.kind for stage in stages)
            raise ModelRefused(f"{stages[0].folder}: modules.json of a retriever of pages lists {kinds}")
        token_ids = _read_kept_ids(stages[-1]) if len(stages) > 1 else ()
    query = RoleFormat(format_.query_prefix, inserted=False)
    chain = (Dense(width, size, True, "Identity", source, layer), Normalize())
    return Multivector(chain, size, query, RoleFormat(format_.query_prefix, inserted=False, keep=token_ids))


def _read_kept_ids(mask: ModuleStage) -> tuple[int, ...]:
    config = modules.read_config(mask, ("skiplist_words", "skiplist_tasks", "keep_only_token_ids"))
    if config.get("skiplist_words"):
        raise ModelRefused(f"{mask.folder / 'config.json'}: skiplist_words of a retriever of pages are not known here")
    ids = config.get("keep_only_token_ids") or ()
    if not isinstance(ids, list | tuple) or any(type(number) is not int for number in ids):
        raise ModelRefused(f"{mask.folder / 'config.json'}: keep_only_token_ids must list token ids, not {ids!r}")
    return tuple(ids)


def _architectures(config: JsonObject) -> frozenset[str]:
    listed = config.get("architectures")
    return frozenset(map(str, listed)) if isinstance(listed, list) else frozenset()


def _object(path: Path, config: JsonObject, name: str) -> JsonDict:
    value = config.get(name)
    if not isinstance(value, dict):
        raise ModelRefused(f"{path}: {name} must be an object, not {value!r}")
    return dict(value)


def _token(value: object) -> str:
    """Return a token as tokenizer_config.json writes it: the text, or an object with it."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""
