"""What a run would do, before it does it: rows, loss, steps, and the minutes that it would take here."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from nearfield.encoder import Encoder
from nearfield.evaluation.json_types import JsonDict
from nearfield.reranker import Reranker
from nearfield.training.fine_tuning.batches import plan_batches
from nearfield.training.fine_tuning.columns import TrainColumns, build_columns
from nearfield.training.fine_tuning.negatives import wants_mining
from nearfield.training.fine_tuning.options import resolve_rate
from nearfield.training.fine_tuning.preparation import PreparedRun

#: Texts that are encoded to measure the speed of this machine.
_SAMPLE = 64
#: Forward and backward take three times as long as forward alone, and torch is slower than the engine.
_TRAINING_FACTOR = 4.0
#: All measurements of the dev set and the writing of checkpoints, as a share of the steps.
_OVERHEAD = 1.3


def estimate_run(prepared: PreparedRun) -> JsonDict:
    """Return what a run would do; the engine encodes a few texts to measure the speed of this machine.

    ``minutes`` is an estimate of training alone; it is off by a factor of two on a busy machine.
    """
    options = prepared.options
    columns = build_columns(
        prepared.data,
        prepared.loss.name,
        negatives=options.negatives,
        pairs_per_class=options.pairs_per_class,
        seed=options.seed,
    )
    plan = plan_batches(columns, options.batch, options.epochs, options.seed)
    tokens_per_row, tokens_per_second = _measure(prepared, columns)
    if wants_mining(prepared):  # the negatives are not there yet
        tokens_per_row *= 1 + options.negatives / 2
    tokens = tokens_per_row * sum(map(len, plan))
    return {
        "base": prepared.base.to_dict(),
        "data": prepared.data.counts(),
        "dev": prepared.dev.to_dict(),
        "test": prepared.test.to_dict(),
        "guards": list(prepared.guards),
        "loss": {"name": prepared.loss.name, "reason": prepared.loss.reason},
        "rate": resolve_rate(prepared.base.weight_bytes, options),
        "rows": len(columns),
        "left_out": dict(columns.left_out),
        "steps": len(plan),
        "tokens": round(tokens),
        "minutes": tokens * _TRAINING_FACTOR * _OVERHEAD / tokens_per_second / 60,
        "notes": list(prepared.notes),
    }


def _measure(prepared: PreparedRun, columns: TrainColumns) -> tuple[float, float]:
    """Return the tokens of a row, and the tokens that the engine computes in a second."""
    places = random.Random(prepared.options.seed).sample(range(len(columns)), min(_SAMPLE, len(columns)))
    rows = [[text for column in columns.texts.values() for text in _texts(column[place])] for place in places]
    texts = [text for row in rows for text in row]
    kind = Reranker if prepared.base.kind == "scores" else Encoder
    with kind(prepared.base.requested, accept_license=True) as model:
        _encode(model, texts[:8])
        started = time.perf_counter()
        count = _encode(model, texts)
        return count / len(rows), count / (time.perf_counter() - started)


def _texts(value: object) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def _encode(model: Encoder | Reranker, texts: Sequence[str]) -> int:
    """Encode texts; return the number of tokens."""
    if isinstance(model, Reranker):
        scores = model.score(texts[0], texts)
        return int(scores.tokens.sum()) if scores.tokens is not None else sum(map(len, texts)) // 4
    tokens = model.encode(list(texts), show_progress_bar=False).tokens
    return int(tokens.sum())
