"""Sparse heads, against sentence-transformers' SparseEncoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support import tiny_models

REFERENCE = "sentence-transformers SparseEncoder"


def masked(kind: str, pooling: str = "max", activation: str = "relu") -> Callable[[Path], Path]:
    """Return a writer of a SPLADE folder over a family's masked language model."""

    def write(folder: Path) -> Path:
        import torch
        import transformers
        from sentence_transformers import SparseEncoder
        from sentence_transformers.sparse_encoder.modules import SpladePooling, Transformer

        base = tiny_models.TINY[kind](folder / "base")
        config = transformers.AutoConfig.from_pretrained(base)
        config.initializer_range = 0.15  # three times less wide: in bf16 a head's logits must still differ
        torch.manual_seed(1)
        model: Any = transformers.AutoModelForMaskedLM.from_config(config)
        tiny_models.perturb(model)
        model.save_pretrained(folder / "mlm")
        transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder / "mlm")
        transformer = Transformer(str(folder / "mlm"), transformer_task="fill-mask", max_seq_length=40)
        pool = SpladePooling(pooling_strategy=pooling, activation_function=activation)
        SparseEncoder(modules=[transformer, pool], device="cpu").save(str(folder / "out"), create_model_card=False)
        return folder / "out"

    return write


def expect(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Encode with the reference, all texts in one padded batch."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), device="cpu")
    rows: Any = model.encode(list(texts), convert_to_sparse_tensor=False, batch_size=len(texts))
    return [np.asarray(row) for row in rows]


def inference_free(folder: Path) -> Path:
    """Write a folder whose queries need no model: a Router over fixed weights and a SPLADE document encoder."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling, Transformer

    masked("bert")(folder)
    transformer = Transformer(str(folder / "mlm"), transformer_task="fill-mask")
    static: Any = SparseStaticEmbedding(tokenizer=transformer.tokenizer)
    torch.nn.init.uniform_(static.weight, -0.2, 1)
    documents = [transformer, SpladePooling("max", activation_function="log1p_relu")]
    router = Router.for_query_document(query_modules=[static], document_modules=documents)
    SparseEncoder(modules=[router], device="cpu").save(str(folder / "free"), create_model_card=False)
    return folder / "free"


def expect_role(role: str) -> Callable[..., list[Array]]:
    """Return what encodes in a role."""

    def run(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
        from sentence_transformers import SparseEncoder

        model = SparseEncoder(str(folder), device="cpu")
        encode: Any = model.encode_query if role == "query" else model.encode_document
        rows: Any = encode(list(texts), convert_to_sparse_tensor=False, batch_size=len(texts))
        # Its weights below zero stay in the reference's queries; no index takes those.
        return [np.maximum(np.asarray(row), 0) for row in rows]

    return run


CASES = [
    *(
        Case(
            f"inference-free, {role}",
            "bert",
            REFERENCE,
            inference_free,
            expect_role(role),
            "sparse",
            wanted={"role": role},
        )
        for role in ("query", "document")
    ),
    Case("SPLADE, max", "bert", REFERENCE, masked("bert"), expect, "sparse"),
    Case("SPLADE, sum", "bert", REFERENCE, masked("bert", "sum"), expect, "sparse"),
    Case("SPLADE, log1p twice", "distilbert", REFERENCE, masked("distilbert", "max", "log1p_relu"), expect, "sparse"),
    Case("SPLADE, max", "roberta", REFERENCE, masked("roberta"), expect, "sparse"),
    Case("SPLADE, max", "mpnet", REFERENCE, masked("mpnet"), expect, "sparse"),
    Case("SPLADE, max", "xlm-roberta", REFERENCE, masked("xlm-roberta"), expect, "sparse"),
    Case("SPLADE, max", "electra", REFERENCE, masked("electra"), expect, "sparse"),
]
