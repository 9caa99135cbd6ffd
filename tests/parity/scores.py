"""Classification heads, against sentence-transformers' CrossEncoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support import tiny_models

REFERENCE = "sentence-transformers CrossEncoder"


def classifier(
    kind: str, labels: int = 1, activation: str | None = None, new: bool = True, **fields: Any
) -> Callable[[Path], Path]:
    """Return a writer of a cross-encoder's folder; ``new=False`` leaves the plain transformers folder of before 6."""

    def write(folder: Path) -> Path:
        import torch
        import transformers
        from sentence_transformers import CrossEncoder

        base = tiny_models.TINY[kind](folder / "base")
        config = transformers.AutoConfig.from_pretrained(base, num_labels=labels, **fields)
        config.initializer_range = 0.15  # three times less wide: in bf16 a head's logits must still differ
        torch.manual_seed(1)
        model: Any = transformers.AutoModelForSequenceClassification.from_config(config)
        tiny_models.perturb(model)
        model.save_pretrained(folder / "plain")
        transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder / "plain")
        if not new:
            return folder / "plain"
        function = getattr(torch.nn, activation)() if activation else None
        CrossEncoder(str(folder / "plain"), activation_fn=function, device="cpu").save(str(folder / "out"))
        return folder / "out"

    return write


def expect(folder: Path, pairs: Sequence[tuple[str, str]], padding: str = "right") -> list[Array]:
    """Score with the reference, all pairs in one padded batch."""
    from sentence_transformers import CrossEncoder

    rows: Any = CrossEncoder(str(folder), device="cpu").predict(list(pairs), batch_size=len(pairs))
    return [np.atleast_1d(np.asarray(row)) for row in rows]


CASES = [
    Case("classes, sigmoid of one", "bert", REFERENCE, classifier("bert"), expect, "scores"),
    Case("classes, Identity", "bert", REFERENCE, classifier("bert", activation="Identity"), expect, "scores"),
    Case("classes, three labels", "roberta", REFERENCE, classifier("roberta", 3), expect, "scores"),
    Case("classes, old folder", "xlm-roberta", REFERENCE, classifier("xlm-roberta", new=False), expect, "scores"),
    Case("classes, one label", "camembert", REFERENCE, classifier("camembert"), expect, "scores"),
    Case("classes, two labels", "distilbert", REFERENCE, classifier("distilbert", 2), expect, "scores"),
    Case("classes, one label", "electra", REFERENCE, classifier("electra"), expect, "scores"),
    Case("classes, one label", "mpnet", REFERENCE, classifier("mpnet"), expect, "scores"),
]
