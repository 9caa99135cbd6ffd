"""What rows can teach, before training: whether they are too easy for the base, and how many are cut off."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from nearfield.errors import InputError
from nearfield.training.fine_tuning.columns import TrainColumns
from nearfield.training.fine_tuning.torch_training.live_model import LiveModel
from nearfield.training.fine_tuning.torch_training.models import quiet

#: A row in which the positive is nearer than all negatives by this cosine has a loss near 0.
EASY_MARGIN, MAX_EASY_SHARE = 0.2, 0.95
#: Batches that are looked at.
_BATCHES = 4


def easy_share(live: LiveModel, columns: TrainColumns, plan: Sequence[Sequence[int]], seed: int) -> float:
    """Return the share of rows in which the positive already wins clearly over all negatives of its batch.

    Raises:
        InputError: nearly all do: nothing can be learnt from them.
    """
    batches = random.Random(seed).sample(list(plan), min(_BATCHES, len(plan)))
    wins = np.concatenate([_wins(live, columns, batch) for batch in batches])
    share = float(wins.mean())
    if share > MAX_EASY_SHARE:
        raise InputError(
            f"In {100 * share:.0f}% of the rows the base already puts the positive clearly first (by a cosine of "
            f"{EASY_MARGIN:g} before all others of its batch): little can be learnt from such rows. Add rows that the "
            "base gets wrong, mine negatives (--negatives 3), or use a larger --batch.",
            param="data",
        )
    return share


def _wins(live: LiveModel, columns: TrainColumns, batch: Sequence[int]) -> np.ndarray:
    sides = []
    for name, column in columns.texts.items():
        vectors = live.encode([str(column[row]) for row in batch], role=columns.roles[name])
        sides.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    scores = sides[0] @ np.concatenate(sides[1:]).T
    own = scores[np.arange(len(batch)), np.arange(len(batch))].copy()
    scores[np.arange(len(batch)), np.arange(len(batch))] = -np.inf
    return np.asarray(own - scores.max(1) >= EASY_MARGIN)


def cut_share(live: LiveModel, columns: TrainColumns, seed: int, sample: int = 256) -> float:
    """Return the share of texts that have more tokens than training reads."""
    rows = random.Random(seed).sample(range(len(columns)), min(sample, len(columns)))
    texts = [str(column[row]) for row in rows for column in columns.texts.values()]
    with quiet():
        lengths = [len(ids) for ids in live.model.tokenizer(texts, truncation=False)["input_ids"]]
    return float(np.mean([length > live.model.max_seq_length for length in lengths]))
