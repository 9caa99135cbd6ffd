"""What a run would do, before it does it: rows, loss, steps, and the minutes that it would take here."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.encoder import Encoder
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.datasets.sampling import texts_of
from nearfield.evaluation.json_types import JsonDict
from nearfield.reranker import Reranker
from nearfield.training.fine_tuning.batches import plan_batches
from nearfield.training.fine_tuning.columns import TrainColumns, build_columns
from nearfield.training.fine_tuning.negatives import teacher_is_needed, wants_mining
from nearfield.training.fine_tuning.options import resolve_rate
from nearfield.training.fine_tuning.preparation import PreparedRun
from nearfield.training.fine_tuning.torch_training.share_choice import SHARES

#: Texts that are encoded to measure the speed of this machine.
_SAMPLE = 64
#: Times of torch against the engine in float32: a step has forward and backward, a measurement forward alone.
_TRAINING_FACTOR, _MEASURING_FACTOR = 4.0, 1.4
#: Measurements of the dev set beside those of the steps: of the base, and of each share of the trained weights.
_OTHER_MEASUREMENTS = 1 + len(SHARES)


def estimate_run(prepared: PreparedRun) -> JsonDict:
    """Return what a run would do; the engine encodes a few texts to measure the speed of this machine.

    ``minutes`` is an estimate of training and measuring; on a busy machine it takes longer.
    """
    options = prepared.options
    # A teacher's scores are not there yet: the rows of a ranking loss are as many.
    loss = "mnrl" if teacher_is_needed(prepared) else prepared.loss.name
    columns = build_columns(
        prepared.data,
        loss,
        negatives=options.negatives,
        pairs_per_class=options.pairs_per_class,
        seed=options.seed,
    )
    plan = plan_batches(columns, options.batch, options.epochs, options.seed)
    speed = _measure(prepared, columns)
    tokens_per_row = speed.tokens_per_row
    if wants_mining(prepared):  # the negatives are not there yet
        tokens_per_row *= 1 + options.negatives / 2
    tokens = tokens_per_row * sum(map(len, plan))
    measured = speed.tokens_per_text * _measured_texts(prepared, len(plan))
    seconds = (tokens * _TRAINING_FACTOR + measured * _MEASURING_FACTOR) / speed.tokens_per_second
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
        "minutes": seconds / 60,
        "notes": list(prepared.notes),
    }


@dataclass(frozen=True)
class MeasuredSpeed:
    """Tokens of a row and of one of its texts, and how many the engine computes in a second, in float32."""

    tokens_per_row: float
    tokens_per_text: float
    tokens_per_second: float


def _measure(prepared: PreparedRun, columns: TrainColumns) -> MeasuredSpeed:
    places = random.Random(prepared.options.seed).sample(range(len(columns)), min(_SAMPLE, len(columns)))
    rows = [[text for column in columns.texts.values() for text in _texts(column[place])] for place in places]
    texts = [text for row in rows for text in row]
    kind = Reranker if prepared.base.kind == "scores" else Encoder
    with kind(prepared.base.requested, precision="float32", accept_license=True) as model:
        _encode(model, texts[:8])
        started = time.perf_counter()
        count = _encode(model, texts)
        seconds = time.perf_counter() - started
    return MeasuredSpeed(count / len(rows), count / len(texts), count / seconds)


def _measured_texts(prepared: PreparedRun, steps: int) -> int:
    """Return how many texts all measurements of a run encode: of the dev set, and of test and guards twice."""
    measurements = min(prepared.options.measurements, steps) + _OTHER_MEASUREMENTS
    others = [prepared.test, *prepared.guards.values()]
    return measurements * _count(prepared.dev) + 2 * sum(map(_count, others))


def _count(dataset: Dataset) -> int:
    return sum(map(len, texts_of(dataset.rows)))


def _texts(value: object) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def _encode(model: Encoder | Reranker, texts: Sequence[str]) -> int:
    """Encode texts; return the number of tokens."""
    if isinstance(model, Reranker):
        scores = model.score(texts[0], texts)
        return int(scores.tokens.sum()) if scores.tokens is not None else sum(map(len, texts)) // 4
    tokens = model.encode(list(texts), show_progress_bar=False).tokens
    return int(tokens.sum())
