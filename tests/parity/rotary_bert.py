"""NomicBERT, GTE and Jina's v3 in all their layouts, against transformers; experts and tasks against plain torch.

What transformers has no code for (NomicBERT's experts, the original jina-embeddings-v3's tasks) is written out here
from the papers, independent of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case, dense, scores, sparse
from tests.support import tiny_models

PLAIN = "the paper's equations in plain torch"


def weights(folder: Path) -> dict[str, Any]:
    """Read a folder's tensors."""
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def rewrite(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Replace a folder's tensors."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def twin(kind: str, change: Callable[[Path], None], **options: Any) -> Callable[[Path], Path]:
    """Return a writer of a folder that is changed; one that the reference reads lies beside it, unchanged."""

    def write(folder: Path) -> Path:
        tiny_models.TINY[kind](folder / "reference", **options)
        made = tiny_models.TINY[kind](folder / "changed", **options)
        change(made)
        return made

    return write


def unchanged(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Encode with the reference the folder that lies beside."""
    return dense.expect(folder.parent / "reference", texts, padding)


def apart(folder: Path) -> None:
    """Store the weights under transformers' own names, not fused."""
    from transformers import AutoModel

    rewrite(folder, AutoModel.from_pretrained(folder).state_dict())


NOMIC = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "layer_norm_eps",
    "n_positions": "max_position_embeddings",
}


def nomics_own(folder: Path) -> None:
    """Store the config as nomic-ai's repositories do."""
    config = tiny_models.read(folder / "config.json")
    own = {old: config[new] for old, new in NOMIC.items()}
    same = {name: config[name] for name in ("vocab_size", "type_vocab_size", "pad_token_id", "architectures")}
    rope = {"rotary_emb_base": config["rope_parameters"]["rope_theta"], "rotary_emb_fraction": 1.0}
    fixed = {"activation_function": "swiglu", "prenorm": False, "qkv_proj_bias": False, "mlp_fc1_bias": False}
    own.update(same, **rope, **fixed, model_type="nomic_bert", mlp_fc2_bias=False, auto_map={"AutoModel": "x--y.Z"})
    tiny_models.dump(folder / "config.json", own)


def alibabas_own(folder: Path) -> None:
    """Store config and weights as Alibaba's repositories do: the prefix, and positions spread by its own rule."""
    config = tiny_models.read(folder / "config.json")
    del config["rope_parameters"]
    config.update(model_type="new", rope_theta=5000.0, rope_scaling={"type": "ntk", "factor": 4.0}, pack_qkv=True)
    tiny_models.dump(folder / "config.json", {**config, "auto_map": {"AutoModel": "x--y.NewModel"}})
    rewrite(folder, {f"new.{name}": tensor for name, tensor in weights(folder).items()})


SPREAD = {"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0 ** (2 / 8)}


# GTE's lexical weights


def lexical(folder: Path) -> Path:
    """Write gte-multilingual-base's layout: a classifier of one label a token lies among the weights."""
    import torch

    out = tiny_models.tiny_gte(folder / "lexical", pooling="cls")
    torch.manual_seed(11)
    head = {"classifier.weight": torch.randn(1, 32), "classifier.bias": torch.randn(1)}
    rewrite(out, {**{f"new.{name}": tensor for name, tensor in weights(out).items()}, **head})
    tiny_models.edit(out / "config.json", architectures=["NewModel", "NewForTokenClassification"])
    return out


def expect_lexical(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Give each token the relu of its logit, and each token id the largest of its tokens'."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    head, rows = weights(folder), []
    for text in texts:
        states: Any = model.encode(text, output_value="token_embeddings")
        logits = torch.nn.functional.linear(states, head["classifier.weight"], head["classifier.bias"])[:, 0]
        row = np.zeros(model[0].auto_model.config.vocab_size, np.float32)
        features: Any = model.preprocess([text])
        for number, weight in zip(features["input_ids"][0].tolist(), torch.relu(logits).tolist(), strict=True):
            row[number] = max(row[number], weight)
        row[:4] = 0  # the four special tokens
        rows.append(row)
    return rows


# NomicBERT's experts


def experts(folder: Path, size: int = 32, inner: int = 64) -> Path:
    """Write nomic-embed-text-v2-moe's layout: plain feed-forwards, and experts in every other layer."""
    import torch

    sizes = {"hidden_size": size, "intermediate_size": inner, "initializer_range": _spread(size)}
    out = tiny_models.tiny_nomic(folder / "moe", num_hidden_layers=4, **sizes)
    nomics_own(out)
    tiny_models.edit(
        out / "config.json",
        activation_function="gelu",
        qkv_proj_bias=True,
        mlp_fc1_bias=True,
        mlp_fc2_bias=True,
        num_experts=4,
        moe_top_k=2,
        moe_every_n_layers=2,
        rotary_emb_base=10000,
    )
    torch.manual_seed(5)
    tensors = {name: tensor for name, tensor in weights(out).items() if ".mlp." not in name}
    for layer in range(4):
        stem = f"encoder.layers.{layer}."
        tensors[f"{stem}attn.Wqkv.bias"] = torch.randn(3 * size) * 0.2
        tensors[f"{stem}attn.out_proj.bias"] = torch.randn(size) * 0.2
        tensors.update((_mixture if layer % 2 else _plain)(f"{stem}mlp.", size, inner))
    rewrite(out, tensors)
    return out


def _plain(stem: str, size: int, inner: int) -> dict[str, Any]:
    import torch

    shapes = {"fc1.weight": (inner, size), "fc1.bias": (inner,), "fc2.weight": (size, inner), "fc2.bias": (size,)}
    return {stem + name: torch.randn(shape) * _spread(size) for name, shape in shapes.items()}


def _mixture(stem: str, size: int, inner: int) -> dict[str, Any]:
    import torch

    joined = (4 * inner, size)
    shapes = {"experts.mlp.w1": joined, "experts.mlp.w2": joined, "experts.bias": (size,)}
    made = {stem + name: torch.randn(shape) * _spread(size) for name, shape in shapes.items()}
    return {**made, stem + "router.layer.weight": torch.randn(4, size) * 1.5 * _spread(size)}


def _spread(size: int) -> float:
    """Return the standard deviation of random weights with which states stay of the same size."""
    return 0.2 * float((32 / size) ** 0.5)


def expect_experts(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Compute each text by itself from the paper's equations."""
    import torch
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    w, rows = weights(folder), []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=tiny_models.POSITIONS, return_tensors="pt")["input_ids"][0]
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = _layer_norm(x, w, "emb_ln.")
        for layer in range(4):
            stem = f"encoder.layers.{layer}."
            x = _layer_norm(x + _attend(x, w, stem), w, f"{stem}norm1.")
            x = _layer_norm(x + (_route(x, w, stem) if layer % 2 else _feed(x, w, stem)), w, f"{stem}norm2.")
        rows.append(np.asarray(torch.nn.functional.normalize(x.mean(0), dim=-1)))
    return rows


def _layer_norm(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{stem}weight"], w[f"{stem}bias"], 1e-12)


def _attend(x: Any, w: Mapping[str, Any], stem: str, base: float = 10000.0) -> Any:
    import torch

    qkv = x @ w[f"{stem}attn.Wqkv.weight"].T + w[f"{stem}attn.Wqkv.bias"]
    q, k, v = (part.unflatten(-1, (4, -1)).transpose(0, 1) for part in qkv.chunk(3, -1))
    width = q.shape[-1]
    angles = torch.arange(len(x))[:, None] * base ** (-torch.arange(0, width, 2) / width)
    # A pair of features is a complex number, and a position turns it.
    turn = torch.polar(torch.ones_like(angles), angles)
    q, k = (_turned(part, turn) for part in (q, k))
    out = torch.softmax(q @ k.transpose(1, 2) / width**0.5, -1) @ v
    return out.transpose(0, 1).flatten(1) @ w[f"{stem}attn.out_proj.weight"].T + w[f"{stem}attn.out_proj.bias"]


def _turned(x: Any, turn: Any) -> Any:
    import torch

    first, second = (part.contiguous() for part in x.chunk(2, -1))
    turned = torch.complex(first, second) * turn
    return torch.cat([turned.real, turned.imag], -1)


def _feed(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    import torch

    h = torch.nn.functional.gelu(x @ w[f"{stem}mlp.fc1.weight"].T + w[f"{stem}mlp.fc1.bias"])
    return h @ w[f"{stem}mlp.fc2.weight"].T + w[f"{stem}mlp.fc2.bias"]


def _route(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    """Send each token to its two likeliest experts, and weigh what they say by those chances."""
    import torch

    chances = torch.softmax(x @ w[f"{stem}mlp.router.layer.weight"].T, -1)
    up, down = (w[f"{stem}mlp.experts.mlp.{name}"].unflatten(0, (4, -1)) for name in ("w1", "w2"))
    rows = []
    for token, chance in zip(x, chances, strict=True):
        likeliest = torch.topk(chance, 2)
        said = [
            value * (torch.nn.functional.gelu(up[expert] @ token) @ down[expert])
            for value, expert in zip(likeliest.values, likeliest.indices, strict=True)
        ]
        rows.append(sum(said))
    return torch.stack(rows) + w[f"{stem}mlp.experts.bias"]


# Jina's tasks

TASKS = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")


def tasks(folder: Path) -> Path:
    """Write the original jina-embeddings-v3: XLM-R by name, and every weight with five tasks' factors beside it."""
    import torch

    tiny_models.tiny_jina_v3(folder / "reference", max_seq_length=60)
    out = tiny_models.tiny_jina_v3(folder / "tasks", max_seq_length=60)
    own = {"model_type": "xlm-roberta", "position_embedding_type": "rotary", "rotary_emb_base": 20000.0}
    lora = {"lora_adaptations": list(TASKS), "lora_rank": 4, "lora_alpha": 1, "auto_map": {"AutoModel": "x--y.Z"}}
    tiny_models.edit(out / "config.json", **own, **lora, rope_parameters=None)
    torch.manual_seed(6)
    tensors = {}
    for name, tensor in weights(out).items():
        if tensor.ndim == 1:
            tensors[f"roberta.{name}"] = tensor
            continue
        stem = f"roberta.{name.removesuffix('.weight')}.parametrizations.weight."
        outputs, inputs = tensor.shape
        first, second = ((outputs, 4), (4, inputs)) if "embeddings" in name else ((4, inputs), (outputs, 4))
        tensors[f"{stem}original"] = tensor
        tensors[f"{stem}0.lora_A"] = torch.randn(5, *first) * 0.5
        tensors[f"{stem}0.lora_B"] = torch.randn(5, *second) * 0.5
    rewrite(out, tensors)
    return out


def expect_task(task: str) -> Callable[..., list[Array]]:
    """Return what merges a task's factors into the plain weights, and encodes those with the reference."""

    def run(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
        reference, merged = folder.parent / "reference", {}
        whole = weights(folder)
        for name, tensor in whole.items():
            if name.endswith("original"):
                first, second = (whole[name.replace("original", f"0.lora_{side}")][TASKS.index(task)] for side in "AB")
                delta = first @ second if "embeddings" in name else second @ first
                plain = name.removeprefix("roberta.").replace(".parametrizations.weight.original", ".weight")
                merged[plain] = tensor + delta * 0.25
        rewrite(reference, {**weights(reference), **merged})
        return dense.expect(reference, texts, padding)

    return run


def _dense(
    name: str, family: str, write: Callable[[Path], Path], reference: str = dense.REFERENCE, expect: Any = None
) -> Case:
    return Case(name, family, reference, write, expect or dense.expect)


CASES = [
    _dense("mean, fused weights", "nomic_bert", dense.pooled("nomic_bert")),
    _dense("mean, weights apart", "nomic_bert", twin("nomic_bert", apart), expect=unchanged),
    _dense("mean, Nomic's own config", "nomic_bert", twin("nomic_bert", nomics_own), expect=unchanged),
    _dense("mean, experts", "nomic_bert", experts, PLAIN, expect_experts),
    _dense("cls, fused weights", "nomic_bert", dense.pooled("nomic_bert", pooling="cls")),
    Case("SPLADE, max", "nomic_bert", sparse.REFERENCE, sparse.masked("nomic_bert"), sparse.expect, "sparse"),
    Case("classes", "nomic_bert", scores.REFERENCE, scores.classifier("nomic_bert"), scores.expect, "scores"),
    _dense("cls, fused weights", "gte", dense.pooled("gte", pooling="cls")),
    _dense("mean, no token types", "gte", dense.pooled("gte", type_vocab_size=0)),
    _dense("mean, weights apart", "gte", twin("gte", apart), expect=unchanged),
    _dense(
        "mean, Alibaba's own layout, spread positions",
        "gte",
        twin("gte", alibabas_own, rope_parameters=SPREAD),
        expect=unchanged,
    ),
    Case(
        "lexical weights",
        "gte",
        "sentence-transformers' token states, and the recipe",
        lexical,
        expect_lexical,
        "sparse",
        wanted={"outputs": "sparse"},
    ),
    Case("SPLADE, max", "gte", sparse.REFERENCE, sparse.masked("gte"), sparse.expect, "sparse"),
    Case("classes", "gte", scores.REFERENCE, scores.classifier("gte"), scores.expect, "scores"),
    _dense("mean, fused weights", "jina_embeddings_v3", dense.pooled("jina_embeddings_v3")),
    _dense("mean, weights apart", "jina_embeddings_v3", twin("jina_embeddings_v3", apart), expect=unchanged),
    *(
        Case(
            f"mean, task {task}",
            "jina_embeddings_v3",
            "sentence-transformers over weights merged in plain torch",
            tasks,
            expect_task(task),
            wanted={"adapter": task},
        )
        for task in TASKS[:2]
    ),
]
