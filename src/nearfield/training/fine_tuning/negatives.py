"""The step of mining: which runs want it, and its result as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nearfield.encoder import Encoder
from nearfield.evaluation.datasets.dataset import Retrieval
from nearfield.evaluation.json_types import JsonDict
from nearfield.training.fine_tuning.preparation import PreparedRun
from nearfield.training.fine_tuning.torch_training.models import train_library
from nearfield.training.mining import mine_negatives
from nearfield.training.training_data import TrainingData

FILE = "mined.parquet"
#: Mines for models that have no dense vectors.
_MINER = "all-MiniLM-L6-v2"


def wants_mining(prepared: PreparedRun) -> bool:
    """Return whether negatives are mined: for rankings that have none, and no scores of a teacher."""
    rows = prepared.data.rows
    if not isinstance(rows, Retrieval) or not prepared.options.negatives or prepared.data.teacher_scores:
        return False
    return not any(grade <= 0 for grades in rows.relevant.values() for grade in grades.values())


def mine(prepared: PreparedRun, folder: Path) -> JsonDict:
    """Mine negatives with the base, or with a small dense model for other kinds; write them, and return the counts."""
    model = prepared.base.requested if prepared.base.kind == "dense" else _MINER
    with Encoder(model, accept_license=True) as encoder:
        mined = mine_negatives(prepared.data, encoder, per_query=prepared.options.negatives)
    rows = list(_new_rows(prepared.data, mined.data))
    _write(folder / FILE, rows)
    return {"rows": len(rows), "counts": mined.to_dict(), "miner": model}


def _new_rows(before: TrainingData, after: TrainingData) -> Iterable[tuple[str, str]]:
    assert isinstance(before.rows, Retrieval)
    assert isinstance(after.rows, Retrieval)
    for query, grades in after.rows.relevant.items():
        yield from (
            (query, key) for key, grade in grades.items() if grade <= 0 and key not in before.rows.relevant[query]
        )


def with_mined(data: TrainingData, folder: Path, mined: JsonDict) -> TrainingData:
    """Return the data with the mined negatives of a run."""
    if not mined["rows"] or not isinstance(data.rows, Retrieval):
        return data
    relevant = {query: dict(grades) for query, grades in data.rows.relevant.items()}
    for query, key in _read(folder / FILE):
        relevant[query][key] = 0
    return replace(data, rows=Retrieval(data.rows.documents, data.rows.queries, relevant))


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    arrow: Any = train_library("pyarrow")
    table = arrow.table({"query": [query for query, _ in rows], "document": [key for _, key in rows]})
    temporary = path.with_name(f".{path.name}.partial")
    train_library("pyarrow.parquet").write_table(table, temporary)
    temporary.replace(path)


def _read(path: Path) -> list[tuple[str, str]]:
    table: Any = train_library("pyarrow.parquet").read_table(path)
    return list(zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True))
