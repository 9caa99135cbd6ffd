"""T5's encoder, against sentence-transformers: sentence-T5's modules, and Instructor without its instruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case, dense
from tests.support import tiny_models

PROMPT = "read the small passage: "


def encoder(save: dict[str, Any] | None = None, **fields: Any) -> Callable[[Path], Path]:
    """Return a writer of a T5 encoder's folder."""

    def write(folder: Path) -> Path:
        import transformers

        from tests.parity.decoder import tokenizer

        words = tokenizer()
        sizes = {"d_model": 32, "d_kv": 6, "num_heads": 4, "d_ff": 48, "num_layers": 3, "vocab_size": len(words)}
        config = transformers.T5Config(**{**sizes, **fields})
        return tiny_models.save(folder / "t5", config, words, **{"max_seq_length": 60, **(save or {})})

    return write


def instructor(folder: Path) -> Path:
    """Write Instructor's layout: its pooling does not say that the instruction is left out."""
    out = encoder({"dense": [{"out": 24, "bias": False, "activation": "Identity"}]})(folder / "instructor-base")
    tiny_models.edit(out / "config.json", _name_or_path="hkunlp/instructor-base")
    return out


def expect_instructed(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Encode with the reference, which leaves the instruction out of the mean."""
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(folder), device="cpu")
    model.set_pooling_include_prompt(False)
    return list(np.asarray(model.encode(list(texts), prompt=PROMPT, batch_size=len(texts))))


_DENSE = [{"out": 24, "bias": False, "activation": "Identity"}]
CASES = [
    Case("mean, Dense", "t5", dense.REFERENCE, encoder({"dense": _DENSE}), dense.expect, paddings=("right", "left")),
    Case("mean, gated", "t5", dense.REFERENCE, encoder(feed_forward_proj="gated-gelu"), dense.expect),
    Case(
        "mean, few buckets",
        "t5",
        dense.REFERENCE,
        encoder(relative_attention_num_buckets=8, relative_attention_max_distance=20),
        dense.expect,
    ),
    Case("Instructor", "t5", dense.REFERENCE, instructor, expect_instructed, wanted={"instruction": PROMPT}),
]
