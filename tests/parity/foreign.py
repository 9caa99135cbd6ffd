"""Architectures without a family here, run by transformers itself under our pooling and modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.parity import Case, dense
from tests.support import tiny_models


def foreign(config: str, **fields: Any) -> Callable[[Path], Path]:
    """Return a writer of a folder of such an architecture."""
    sizes = {"initializer_range": 0.2, "pad_token_id": 0}
    return lambda folder: tiny_models._wordpiece(folder / "model", config, "BertTokenizer", {**sizes, **fields})


CASES = [
    Case("mean", "roformer (by transformers)", dense.REFERENCE, foreign("RoFormerConfig"), dense.expect),
    Case(
        "cls",
        "megatron-bert (by transformers)",
        dense.REFERENCE,
        foreign("MegatronBertConfig", pooling="cls"),
        dense.expect,
    ),
]
