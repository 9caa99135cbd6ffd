"""Late interaction, against sentence-transformers' MultiVectorEncoder, in its own, PyLate's and Stanford's layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support import tiny_models

REFERENCE = "sentence-transformers MultiVectorEncoder"
MARKERS = ("[unused0]", "[unused1]")


def own(kind: str, expansion: dict[str, Any] | None = None, **lengths: int) -> Callable[[Path], Path]:
    """Return a writer of sentence-transformers' own layout."""

    def write(folder: Path) -> Path:
        import torch
        from sentence_transformers import MultiVectorEncoder
        from sentence_transformers.base.modules import Dense, Normalize, Transformer
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

        base = tiny_models.TINY[kind](folder / "base", initializer_range=0.2)
        torch.manual_seed(2)
        tokens = {"module_input_name": "token_embeddings"}
        modules: list[Any] = [
            Transformer(str(base), query_expansion=expansion, **lengths),
            Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), **tokens),
            MultiVectorMask(skiplist_words=[",", ".", "the"]),
            Normalize(**tokens),
        ]
        MultiVectorEncoder(modules=modules, device="cpu").save(str(folder / "out"), create_model_card=False)
        return folder / "out"

    return write


def pylate(folder: Path) -> Path:
    """Write PyLate's layout: two modules, and everything else in config_sentence_transformers.json."""
    out = own("bert")(folder)
    listed = tiny_models.read(out / "modules.json")[:2]
    listed[1]["type"] = "pylate.models.Dense.Dense"
    tiny_models.dump(out / "modules.json", listed)
    config = tiny_models.read(out / "1_Dense" / "config.json")
    tiny_models.dump(
        out / "1_Dense" / "config.json", {key: config[key] for key in config if not key.startswith("module")}
    )
    tiny_models.dump(
        out / "config_sentence_transformers.json",
        {
            "model_type": "ColBERT",
            "prompts": {},
            "similarity_fn_name": "MaxSim",
            "query_prefix": "[MASK]",
            "document_prefix": "[UNK]",
            "query_length": 12,
            "document_length": 24,
            "attend_to_expansion_tokens": False,
            "skiplist_words": [",", ".", "!"],
            "do_query_expansion": True,
        },
    )
    return out


def stanford(folder: Path) -> Path:
    """Write ColBERTv2's own layout: the projection beside the encoder's weights."""
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    base = tiny_models.tiny_bert(folder / "base")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base)
    out = folder / "out"
    model: Any = transformers.BertModel.from_pretrained(base)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    weights = {f"bert.{name}": value for name, value in load_file(out / "model.safetensors").items()}
    torch.manual_seed(3)
    save_file({**weights, "linear.weight": torch.randn(16, 32)}, out / "model.safetensors", metadata={"format": "pt"})
    tiny_models.edit(out / "config.json", architectures=["HF_ColBERT"])
    meta = {"query_maxlen": 14, "doc_maxlen": 30, "query_token_id": "[MASK]", "doc_token_id": "[UNK]"}
    (out / "artifact.metadata").write_text(json.dumps({**meta, "attend_to_mask_tokens": False}))
    return out


def expect(role: str) -> Callable[..., list[Array]]:
    """Return what encodes with the reference in a role, all texts in one padded batch."""

    def run(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
        from sentence_transformers import MultiVectorEncoder

        model = MultiVectorEncoder(str(folder), device="cpu")
        encode: Any = model.encode_query if role == "query" else model.encode_document
        return [np.asarray(row) for row in encode(list(texts), batch_size=len(texts))]

    return run


def _case(name: str, write: Callable[[Path], Path], role: str, family: str = "bert") -> Case:
    return Case(f"{name}, {role}", family, REFERENCE, write, expect(role), "multivector", wanted={"role": role})


FIXED = {"strategy": "fixed", "attend": False, "length": 16}
CASES = [
    _case(name, write, role, family)
    for name, write, family in (
        ("tokens", own("bert"), "bert"),
        ("tokens", own("mpnet", query_length=20, document_length=25), "mpnet"),
        ("tokens, expanded", own("bert", FIXED), "bert"),
        ("tokens, expansion attended to", own("roberta", {**FIXED, "attend": True}), "roberta"),
        ("tokens, PyLate", pylate, "bert"),
        ("tokens, ColBERTv2", stanford, "bert"),
    )
    for role in ("query", "document")
]
