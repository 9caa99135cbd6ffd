"""The kinds of output of a model besides, or instead of, dense vectors: sparse, multi-vectors, scores."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path

from nearfield.checkpoint import json_file, modules
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.modules import ModuleStage
from nearfield.checkpoint.transformer_config import Transformer
from nearfield.errors import ModelRefused, nearest
from nearfield.recipe import ClassScores, Dense, Lexical, Multivector, Normalize, RerankPrompt, RoleFormat, Splade

Meta = JsonObject

DENSE, SPARSE, MULTIVECTOR, SCORES = KINDS = ("dense", "sparse", "multivector", "scores")
#: ``model_type`` of config_sentence_transformers.json.
STATED = {
    "SentenceTransformer": DENSE,
    "SparseEncoder": SPARSE,
    "MultiVectorEncoder": MULTIVECTOR,
    "ColBERT": MULTIVECTOR,
    "CrossEncoder": SCORES,
}
_BY_MODULE = {SPARSE: modules.SPARSE, MULTIVECTOR: modules.MULTIVECTOR, SCORES: modules.SCORES}
#: bge-m3 keeps its further heads beside the model: the files, and the ids of its four special tokens.
M3_SPARSE, M3_COLBERT = "sparse_linear.pt", "colbert_linear.pt"
M3_SPECIAL = (0, 1, 2, 3)
#: Classes of torch.nn that score a pair, and their names here.
ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax", "Tanh": "tanh"}
CONFIG = "config_sentence_transformers.json"
#: The fields of the modules' configs. ``chunk_size`` saves memory.
SPLADE_KEYS = (
    "pooling_strategy",
    "activation_function",
    "embedding_dimension",
    "word_embedding_dimension",
    "chunk_size",
)
LOGIT_KEYS = ("true_token_id", "false_token_id", "module_input_name")
MASK_KEYS = ("skiplist_words", "skiplist_tasks", "keep_only_token_ids")
#: ColBERT's own defaults, where a folder of its kind says nothing.
QUERY_LENGTH = 32


def kind_of(meta: Meta, stages: tuple[ModuleStage, ...] | None, architecture: str) -> str:
    """Return which kind of model a folder holds, by its own word, its modules, or its architecture."""
    if [stage.kind for stage in stages or ()] == ["Router"]:
        return SPARSE
    for kind, names in _BY_MODULE.items():
        if any(stage.kind in names for stage in stages or ()):
            return kind
    if str(meta.get("similarity_fn_name")).lower() in ("maxsim", "meanmaxsim"):
        return MULTIVECTOR
    if (stated := STATED.get(str(meta.get("model_type")))) is not None:
        return stated
    if stages is None and architecture.endswith("ForSequenceClassification"):
        return SCORES
    return MULTIVECTOR if architecture == "HF_ColBERT" else DENSE


# Sparse


def splade(folder: Path, stages: tuple[ModuleStage, ...] | None, weights: Path | None = None) -> Splade:
    """Read a SPLADE model: the pooling that its module states, or the maximum without one."""
    listed = [stage.kind for stage in stages or ()]
    if listed[1:] not in ([], ["SpladePooling"]):
        raise ModelRefused(f"{folder / 'modules.json'}: a sparse model of {', '.join(listed)} is not known here")
    pooling = next((stage for stage in stages or () if stage.kind == "SpladePooling"), None)
    config = modules.read_config(pooling, SPLADE_KEYS) if pooling else {}
    strategy, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
        raise ModelRefused(
            f"{folder}: SpladePooling with {strategy!r} and {activation!r} is not known here: max or sum, relu or "
            "log1p_relu."
        )
    return Splade(strategy, 2 if activation == "log1p_relu" else 1, weights)


def routed(folder: Path) -> tuple[tuple[ModuleStage, ...], Path]:
    """Return the document's modules of an inference-free sparse model, and the file of its queries' weights.

    Raises:
        ModelRefused: the Router routes anything else.
    """
    routes = modules.routes(folder)
    query = routes.get("query", ())
    if set(routes) != {"query", "document"} or [stage.kind for stage in query] != ["SparseStaticEmbedding"]:
        shown = "; ".join(f"{route}: {', '.join(stage.kind for stage in stages)}" for route, stages in routes.items())
        raise ModelRefused(
            f"{folder / 'router_config.json'} routes {shown}: only inference-free queries are known here"
        )
    return routes["document"], query_weights(query[0])


def query_weights(stage: ModuleStage) -> Path:
    """Return the file in which an inference-free model keeps what query tokens weigh."""
    for name in ("model.safetensors", "pytorch_model.bin", "idf.json"):
        if (stage.folder / name).is_file():
            return stage.folder / name
    raise ModelRefused(f"{stage.folder} has no weights for queries (looked for model.safetensors, idf.json)")


def lexical(folder: Path, config: JsonObject) -> Lexical | None:
    """Return the sparse head that lies beside a dense model (bge-m3), or in it (GTE), or None."""
    if (folder / M3_SPARSE).is_file():
        return Lexical(folder / M3_SPARSE, M3_SPECIAL)
    if "NewForTokenClassification" in (config.get("architectures") or ()):
        return Lexical(folder, M3_SPECIAL, "classifier")
    return None


# Multivector


def m3_colbert(folder: Path, width: int) -> Multivector | None:
    """Return bge-m3's ColBERT head, whose scores are means and whose CLS is left out, or None."""
    if not (folder / M3_COLBERT).is_file():
        return None
    layer = Dense(width, width, True, "Identity", folder / M3_COLBERT, layer="")
    return Multivector((layer, Normalize()), width, skip_first_tokens=1, divide_by_query_length=True)


def multivector(
    folder: Path, meta: Meta, stages: tuple[ModuleStage, ...] | None, transformer: Transformer, width: int
) -> Multivector:
    """Read a late-interaction model in any of its layouts: sentence-transformers', PyLate's, or Stanford's."""
    if stages is None:
        return _stanford(folder, transformer, width)
    rest = tuple(stage for stage in stages if stage.kind != "MultiVectorMask")
    if any(stage.kind not in ("Dense", "Normalize", "LayerNorm") for stage in rest[1:]):
        raise ModelRefused(
            f"{folder / 'modules.json'} of a late-interaction model may list Transformer, Dense, LayerNorm, Normalize "
            f"and MultiVectorMask; it lists {', '.join(stage.kind for stage in stages)}"
        )
    chain, size = modules.read_modules(rest, width, "token_embeddings")
    pylate = meta.get("model_type") == "ColBERT"
    if pylate and not any(isinstance(module, Normalize) for module in chain):
        chain = (*chain, Normalize())
    query, document = _pylate(meta, transformer) if _is_pylate(meta) else _marked(stages, transformer)
    average = str(meta.get("similarity_fn_name")).lower() == "meanmaxsim"
    return Multivector(chain, size, query, document, divide_by_query_length=average)


def _is_pylate(meta: Meta) -> bool:
    return meta.get("model_type") == "ColBERT" or "query_prefix" in meta or "do_query_expansion" in meta


def _pylate(meta: Meta, transformer: Transformer) -> tuple[RoleFormat, RoleFormat]:
    """PyLate keeps everything in config_sentence_transformers.json; what it leaves out has ColBERT's defaults."""
    expand = meta.get("do_query_expansion") is not False
    attend = bool(meta.get("attend_to_expansion_tokens", meta.get("attend_to_mask_tokens")))
    length = meta.get("query_length") or transformer.query_length or QUERY_LENGTH
    words = meta.get("skiplist_words")
    skip = tuple(string.punctuation if words is None else words)
    query = RoleFormat(meta.get("query_prefix") or "", length, expand, attend)
    if "query_expansion" in meta:  # a newer form of the same settings
        query = _expanded(query, meta["query_expansion"] or {}, transformer.folder / CONFIG)
    return query, RoleFormat(meta.get("document_prefix") or "", meta.get("document_length"), skip=skip)


def _marked(stages: tuple[ModuleStage, ...], transformer: Transformer) -> tuple[RoleFormat, RoleFormat]:
    """Read the settings of late interaction: lengths from the transformer's config, skipped tokens from a module."""
    mask = next((stage for stage in stages if stage.kind == "MultiVectorMask"), None)
    path = mask.folder / "config.json" if mask else transformer.folder / "config.json"
    config = modules.read_config(mask, MASK_KEYS) if mask else {}
    if config.get("keep_only_token_ids"):
        raise ModelRefused(f"{path}: keep_only_token_ids belongs to image models, which are not read here")
    words, roles = tuple(config.get("skiplist_words") or ()), config.get("skiplist_tasks")
    roles = ["document"] if roles is None else [roles] if isinstance(roles, str) else roles
    skips = {role: words if role in roles else () for role in ("query", "document")}
    query = RoleFormat("", transformer.query_length, skip=skips["query"])
    query = _expanded(query, transformer.query_expansion or {}, path)
    return query, RoleFormat("", transformer.document_length, skip=skips["document"])


def _expanded(query: RoleFormat, expansion: JsonObject, path: Path) -> RoleFormat:
    """Return the format of queries with sentence-transformers' settings for their expansion; an empty one is none."""
    if expansion and expansion.get("strategy") != "fixed":
        raise ModelRefused(f"{path}: query_expansion by {expansion.get('strategy')!r} is not known here, only 'fixed'")
    length = expansion.get("length") or query.length
    attend, filler = bool(expansion.get("attend")), expansion.get("token")
    return replace(query, length=length, expand=bool(expansion), attend=attend, filler=filler)


def _stanford(folder: Path, transformer: Transformer, width: int) -> Multivector:
    """ColBERTv2's own layout: the projection lies with the encoder's weights, the rest in artifact.metadata."""
    from nearfield.checkpoint.weights.weights import Weights

    meta = json_file.read_optional(folder / "artifact.metadata")
    size = Weights.open(folder).shape("linear.weight")[0]
    markers = (f"{meta.get('query_token_id') or '[unused0]'} ", f"{meta.get('doc_token_id') or '[unused1]'} ")
    attend, length = bool(meta.get("attend_to_mask_tokens")), meta.get("query_maxlen") or QUERY_LENGTH
    skip = tuple(string.punctuation) if meta.get("mask_punctuation", True) else ()
    layer = Dense(width, size, False, "Identity", transformer.folder)
    query = RoleFormat(markers[0], length, True, attend)
    return Multivector((layer, Normalize()), size, query, RoleFormat(markers[1], meta.get("doc_maxlen"), skip=skip))


# Scores


def scores(
    folder: Path,
    meta: Meta,
    stages: tuple[ModuleStage, ...] | None,
    config: JsonObject,
    answer: RerankPrompt | None = None,
) -> ClassScores | RerankPrompt:
    """Read a cross-encoder or classifier: its labels and what is done to their logits.

    ``answer`` says how a language model is to be asked, where that is known from elsewhere.
    """
    if answer is not None:
        return answer
    logit = next((stage for stage in stages or () if stage.kind == "LogitScore"), None)
    if logit is not None:
        if [stage.kind for stage in stages or ()][1:] != ["LogitScore"]:
            raise _unknown_reranker(folder, stages)
        own = modules.read_config(logit, LOGIT_KEYS)
        if (
            own.get("module_input_name", "causal_logits") != "causal_logits"
            or type(own.get("true_token_id")) is not int
        ):
            raise ModelRefused(
                f"{logit.folder / 'config.json'} must read causal_logits by a true_token_id, and holds {dict(own)!r}"
            )
        return RerankPrompt(
            own["true_token_id"], own.get("false_token_id"), activation=_activation(folder, meta, config, 1)
        )
    if stages is not None and len(stages) > 1:
        raise _unknown_reranker(folder, stages)
    labels = _labels(config)
    if stages is None and _architecture(config).endswith("ForCausalLM"):
        # As sentence-transformers does; a model's own template comes from the catalogue.
        return RerankPrompt("yes", "no", activation=_activation(folder, meta, config, 1))
    if not _architecture(config).endswith("ForSequenceClassification"):
        raise ModelRefused(
            f"{folder} is called a reranker, but its architecture {_architecture(config)!r} has no classification "
            "head: scores would come from random weights"
        )
    return ClassScores(labels, _activation(folder, meta, config, len(labels)))


def is_pooled_classifier(stages: tuple[ModuleStage, ...] | None) -> bool:
    """Whether modules end in a linear layer that gives scores, as in sentence-transformers' CrossEncoder."""
    last = stages[-1] if stages else None
    if last is None or last.kind != "Dense":
        return False
    return json_file.read_optional(last.folder / "config.json").get("module_output_name") == modules.SCORES_OUTPUT


def pooled_scores(
    folder: Path, meta: Meta, stages: tuple[ModuleStage, ...], config: JsonObject, width: int
) -> ClassScores:
    """Read a classifier of pooled vectors, whose tokens have ``width`` dimensions."""
    chain, count = modules.read_modules(stages, width, result=modules.SCORES_OUTPUT)
    labels = _labels(config)
    if len(labels) != count:
        raise ModelRefused(f"{folder} names {len(labels)} labels in its config.json and gives {count} scores")
    return ClassScores(labels, _activation(folder, meta, config, count), chain)


def _unknown_reranker(folder: Path, stages: tuple[ModuleStage, ...] | None) -> ModelRefused:
    kinds = ", ".join(stage.kind for stage in stages or ())
    return ModelRefused(f"{folder / 'modules.json'}: a reranker of {kinds} is not known here")


def _architecture(config: JsonObject) -> str:
    listed = config.get("architectures")
    return str(listed[0]) if isinstance(listed, list) and listed else ""


def _labels(config: JsonObject) -> tuple[str, ...]:
    """``id2label`` in the order of the ids; where there is none, transformers means two labels, or ``num_labels``."""
    named = config.get("id2label")
    if isinstance(named, dict) and named:
        labels = [str(named[key]) for key in sorted(named, key=int)]
        # A score is known by its label, and of two with one name the first would be lost.
        return tuple(
            label if labels.count(label) == 1 else f"{label} ({number})" for number, label in enumerate(labels)
        )
    return tuple(f"LABEL_{index}" for index in range(int(config.get("num_labels") or 2)))


def _activation(folder: Path, meta: Meta, config: JsonObject, labels: int) -> str:
    """The file's own word, in any of its three places; else a sigmoid for a single logit and nothing for several."""
    inner = config.get("sentence_transformers")
    stated = (
        meta.get("activation_fn")
        or (inner.get("activation_fn") if isinstance(inner, dict) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    if stated is None:
        return "sigmoid" if labels == 1 else "identity"
    name = str(stated).rpartition(".")[2]
    if not str(stated).startswith("torch.nn.") or name not in ACTIVATIONS:
        raise ModelRefused(f"{folder}: unknown activation {stated!r}. {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]
