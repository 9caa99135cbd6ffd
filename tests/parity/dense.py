"""Dense heads over the BERT tribe, against sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support import tiny_models

REFERENCE = "sentence-transformers"


def pooled(kind: str, **options: Any) -> Callable[[Path], Path]:
    """Return a writer of a sentence-transformers folder."""
    return lambda folder: tiny_models.TINY[kind](folder / "model", **options)


def expect(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Encode with the reference, all texts in one padded batch."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    model.tokenizer.padding_side = padding
    return list(np.asarray(model.encode(list(texts), batch_size=len(texts))))


_DENSE = [{"out": 24, "activation": "Identity", "bias": False}, {"out": 16}]
CASES = [
    *(
        Case("mean, normalised", kind, REFERENCE, pooled(kind), expect)
        for kind in ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet")
    ),
    *(
        Case(mode, "bert", REFERENCE, pooled("bert", pooling=mode, normalize=False), expect)
        for mode in ("cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    ),
    Case("two Dense modules", "bert", REFERENCE, pooled("bert", dense=_DENSE), expect),
]
