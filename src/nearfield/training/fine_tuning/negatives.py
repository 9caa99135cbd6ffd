"""The step of mining: which runs want it, and its result as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.training.fine_tuning.preparation import PreparedRun
from nearfield.training.fine_tuning.torch_training.models import train_library
from nearfield.training.miner import open_miner
from nearfield.training.mining import mine_negatives
from nearfield.training.teachers import ModelTeacher, open_teacher, score_judged
from nearfield.training.training_data import TrainingData

FILE = "mined.parquet"
#: Mines for models that have no dense vectors.
_MINER = "all-MiniLM-L6-v2"
#: Losses that learn the scores of a teacher.
_TAUGHT = ("kl", "margin-mse")


@dataclass(frozen=True)
class MinedRow:
    """A document of a query: whether it is a mined negative, and the teacher's score of it if there is one."""

    query: str
    document: str
    is_new: bool
    score: float | None


def teacher_is_needed(prepared: PreparedRun) -> bool:
    """Return whether the loss learns scores that a teacher has to give first."""
    return prepared.options.teacher is not None and prepared.loss.name in _TAUGHT


def wants_mining(prepared: PreparedRun) -> bool:
    """Return whether negatives are mined: for rankings that have none, and no scores of a teacher."""
    rows = prepared.data.rows
    if not isinstance(rows, Retrieval) or not prepared.options.negatives or prepared.data.teacher_scores:
        return False
    return not _has_negatives(rows)


def _has_negatives(rows: Retrieval) -> bool:
    return any(grade <= 0 for grades in rows.relevant.values() for grade in grades.values())


def mine(prepared: PreparedRun, folder: Path) -> JsonDict:
    """Mine negatives and score them by the teacher, if the run wants either; write them, and return the counts.

    The base mines, or a small dense model for other kinds. With judged negatives, the teacher scores those.
    """
    name = prepared.options.teacher
    if name is None and not wants_mining(prepared):
        return {"rows": 0, "counts": {}}
    with _teacher(name) as teacher:
        data, facts = _mine(prepared, teacher)
    rows = list(_new_rows(prepared.data, data))
    _write(folder / FILE, rows)
    if name is not None:
        facts |= {"teacher": name, "scored": sum(row.score is not None for row in rows)}
    return {"rows": sum(row.is_new for row in rows), **facts}


def _mine(prepared: PreparedRun, teacher: ModelTeacher | None) -> tuple[TrainingData, JsonDict]:
    """Return the data with mined negatives and scores, and the facts for the report."""
    if not wants_mining(prepared):
        assert teacher is not None  # see mine
        return replace(prepared.data, teacher_scores=score_judged(prepared.data, teacher)), {"counts": {}}
    model = prepared.base.requested if prepared.base.kind == "dense" else _MINER
    with open_miner(model, accept_license=True) as encoder:
        mined = mine_negatives(prepared.data, encoder, per_query=prepared.options.negatives, teacher=teacher)
    return mined.data, {"counts": mined.to_dict(), "miner": model, "precision": encoder.precision}


@contextmanager
def _teacher(name: str | None) -> Iterator[ModelTeacher | None]:
    """Yield the teacher of a name, whose licence was checked before; None without a name."""
    if name is None:
        yield None
        return
    with open_teacher(name, accept_license=True) as teacher:
        yield teacher


def _new_rows(before: TrainingData, after: TrainingData) -> Iterable[MinedRow]:
    """Yield the mined negatives, and all documents that the teacher scored."""
    assert isinstance(before.rows, Retrieval)
    assert isinstance(after.rows, Retrieval)
    for query, grades in after.rows.relevant.items():
        known, scores = before.rows.relevant[query], after.teacher_scores.get(query, {})
        for key in dict.fromkeys((*grades, *scores)):
            is_new = key in grades and key not in known
            if is_new or key in scores:
                yield MinedRow(query, key, is_new, scores.get(key))


def with_mined(data: TrainingData, folder: Path, mined: JsonDict) -> TrainingData:
    """Return the data with the mined negatives of a run, and the teacher's scores."""
    if not (mined["rows"] or mined.get("scored")) or not isinstance(data.rows, Retrieval):
        return data
    relevant = {query: dict(grades) for query, grades in data.rows.relevant.items()}
    scores: dict[str, dict[str, float]] = {}
    for row in _read(folder / FILE):
        if row.is_new:
            relevant[row.query][row.document] = 0
        if row.score is not None:
            scores.setdefault(row.query, {})[row.document] = row.score
    rows = Retrieval(data.rows.documents, data.rows.queries, relevant)
    return replace(data, rows=rows, teacher_scores=scores or data.teacher_scores)


def _write(path: Path, rows: list[MinedRow]) -> None:
    arrow: Any = train_library("pyarrow")
    columns: Mapping[str, Any] = {name: [getattr(row, name) for row in rows] for name in MinedRow.__annotations__}
    types = {"query": arrow.string(), "document": arrow.string(), "is_new": arrow.bool_(), "score": arrow.float64()}
    table = arrow.table({name: arrow.array(values, types[name]) for name, values in columns.items()})
    temporary = path.with_name(f".{path.name}.partial")
    train_library("pyarrow.parquet").write_table(table, temporary)
    temporary.replace(path)


def _read(path: Path) -> list[MinedRow]:
    table: Any = train_library("pyarrow.parquet").read_table(path)
    return [MinedRow(**row) for row in table.to_pylist()]
