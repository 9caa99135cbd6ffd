"""Column names of data set files: which task a file is for, and which column has which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nearfield.errors import InputError, nearest
from nearfield.evaluation.datasets.rows import DatasetRow, is_json, read_columns, read_rows, unused_columns

#: The names that a column may have in a file, by its role.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "first": ("sentence1", "text1", "first", "sent1", "text_a", "premise", "anchor"),
    "second": ("sentence2", "text2", "second", "sent2", "text_b", "hypothesis", "positive"),
    "score": ("score", "similarity", "gold", "relevance"),
    "label": ("label", "labels", "class", "intent", "category", "duplicate", "is_duplicate"),
    "text": ("text", "sentence", "texts", "sentences"),
    "query": ("query", "question"),
    "document": ("document", "passage", "answer", "text", "corpus", "positive"),
    "positive": ("positive", "positives", "pos"),
    "negative": ("negative", "negatives", "neg"),
}
#: The roles of each task's columns, in the order of a file without a header.
TASK_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "retrieval": ("query", "document", "score"),
    "sts": ("score", "first", "second"),
    "pairs": ("label", "first", "second"),
    "classification": ("label", "text"),
    "clustering": ("label", "text"),
    "reranking": ("query", "positive", "negative"),
    "bitext": ("first", "second"),
}
#: Tasks in the order in which a file's columns are compared with theirs.
_DETECTION_ORDER = ("reranking", "sts", "pairs", "retrieval", "clustering", "bitext")


def detect_task(path: Path) -> str:
    """Return the task that a file's columns belong to.

    Raises:
        InputError: the columns belong to no task.
    """
    columns = {column.lower() for column in read_columns(path)}
    for task in _DETECTION_ORDER:
        if all(columns & set(COLUMN_NAMES[role]) for role in _required_roles(task)):
            return task
    raise InputError(
        f"{path}: its columns ({', '.join(sorted(columns))[:200]}) do not say which task it is for. Name them in the "
        f"first line, or name the task. {nearest('', TASK_COLUMNS)}",
        param="task",
    )


def read_task_rows(path: Path, task: str) -> tuple[list[DatasetRow], list[str]]:
    """Return a file's rows with the columns of a task by role, and the names of the columns that have no role.

    Raises:
        InputError: a required column is missing, a row is malformed, or a column is nearly called like an optional
            one, such as ``scores``.
    """
    roles, required = TASK_COLUMNS[task], _required_roles(task)
    # An optional name may be missing in the first of the objects of JSON lines.
    header = unused_columns(read_rows(path), ()) if is_json(path) else read_columns(path)
    names = _match_columns(task, header)
    if all(role in names for role in required):
        rows = read_rows(path)
        return [_with_roles(row, names, task) for row in rows], unused_columns(rows, names.values())
    if is_json(path) or names:
        missing = next(role for role in required if role not in names)
        raise InputError(
            f"{path}, line 1: {task} needs {', '.join(required)}; there is no column for {missing} (its name may be "
            f"{', '.join(COLUMN_NAMES[missing])}) among {', '.join(header)[:200]}.",
            param="data",
        )
    # No name is known: the first line is a row, in the order of the task's columns.
    return read_rows(path, roles if len(header) >= len(roles) else required), []


def _required_roles(task: str) -> tuple[str, ...]:
    return tuple(role for role in TASK_COLUMNS[task] if (task, role) != ("retrieval", "score"))


def _match_columns(task: str, header: Sequence[str]) -> dict[str, str]:
    """Return the file's column name of each role that has one."""
    # Of names that differ only in their letters' case, the first counts.
    columns = {column.lower().strip(): column for column in reversed(header)}
    matches = {}
    for role in TASK_COLUMNS[task]:
        match = next((columns[name] for name in COLUMN_NAMES[role] if name in columns), None)
        if match is not None:
            matches[role] = match
    return matches


def _with_roles(row: DatasetRow, names: Mapping[str, str], task: str) -> DatasetRow:
    required = _required_roles(task)
    row.require(names[role] for role in required)
    optional = [role for role in names if role not in required and names[role] not in row.values]
    optional += [role for role in TASK_COLUMNS[task] if role not in names]
    row.refuse_misspelt(names.values(), [name for role in optional for name in COLUMN_NAMES[role]])
    values = {role: row.values[name] for role, name in names.items() if name in row.values}
    return DatasetRow(row.path, row.number, values)
