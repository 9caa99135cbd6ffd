"""Load training data from a file or folder, whatever form people have it in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nearfield.argument_checks import require_optional_texts
from nearfield.errors import InputError
from nearfield.evaluation.datasets.beir import write_corpus, write_judgments, write_queries
from nearfield.evaluation.datasets.dataset import Labelled, Retrieval
from nearfield.evaluation.datasets.loaders import SYNTHETIC_NOTE, load_judgments, texts_by_id
from nearfield.evaluation.datasets.rows import DatasetRow, read_rows, unused_columns
from nearfield.fileio.atomic import atomic_text_file
from nearfield.fileio.tabular import read_header, read_table, table_format
from nearfield.fileio.whole_folder import require_new_folder, whole_folder
from nearfield.hub import existing_path
from nearfield.text_inputs import describe
from nearfield.training.data.columns import (
    COLUMN_NAMES,
    TrainingForm,
    check_shape,
    find_form,
    match_column,
    numbered_negatives,
    unnamed_form,
)
from nearfield.training.data.parsers import parse_rows
from nearfield.training.training_data import TrainingData

_SUFFIXES = (".jsonl", ".ndjson", ".parquet", ".tsv", ".csv", ".txt")
#: Files beside BEIR's in the folders that ``write_training_data`` writes.
_SOURCES, _TEACHER_SCORES = "sources.json", "teacher_scores.json"


def load_training_data(path: str | Path, *, shape: str | None = None) -> TrainingData:
    """Load rows to learn from.

    A file (JSON lines, Parquet, CSV, TSV) is recognised by its columns: query and positive (and negatives, numbered
    ones too, and a teacher's scores), a click log (query, shown, clicked), pairs with a score or with a label of
    similarity, texts with labels, or pairs of the same meaning. A folder has BEIR's layout (documents with the same
    title come from one source), a ``train`` file, or one folder of text files for each label.

    Args:
        path: of the file or folder.
        shape: ``ranking``, ``labels`` or ``scores``, where a file's first line does not name its columns, or where
            its columns fit several forms.

    Raises:
        InputError: the path holds no training data, or a row is malformed (with file and line).
    """
    require_optional_texts(shape=shape)
    check_shape(shape)
    if not isinstance(path, (str, Path)) or not str(path):
        raise InputError(f"Training data is the path of a file or folder, and this is {describe(path)}.", param="data")
    source = existing_path(str(path))
    if source is None:
        raise InputError(f"There is no training data {str(path)!r}: give a file or a folder.", param="data")
    data = _load_folder(source, shape) if source.is_dir() else _load_file(source, shape)
    if shape not in (None, data.shape):
        raise InputError(f"{source} has rows of the shape {data.shape}, and {shape} was wished for.", param="shape")
    return data


def write_training_data(data: TrainingData, folder: Path) -> None:
    """Write ranking data in BEIR's layout, with sources and teacher scores beside it, for ``load_training_data``.

    Raises:
        InputError: the data has another shape, or the folder is not empty.
    """
    if not isinstance(data.rows, Retrieval):
        raise InputError(f"Rows of the shape {data.shape} are not written in BEIR's layout.", param="data")
    require_new_folder(folder)
    with whole_folder(folder) as partial:
        if data.synthetic:
            (partial / SYNTHETIC_NOTE).write_text(data.synthetic + "\n", encoding="utf-8")
        _write_json(partial / _SOURCES, data.sources)
        _write_json(partial / _TEACHER_SCORES, data.teacher_scores)
        write_corpus(partial, data.rows.documents)
        write_queries(partial, data.rows.queries)
        write_judgments(partial, data.rows.relevant)


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    if value:
        with atomic_text_file(path) as file:
            json.dump(value, file, ensure_ascii=False, sort_keys=True)


# -- folders -------------------------------------------------------------------------------------------------------


def _load_folder(folder: Path, shape: str | None) -> TrainingData:
    if (folder / "corpus.jsonl").is_file():
        return _load_beir(folder)
    if (path := _train_file(folder)) is not None:
        # Beside a test file, rows without names are labels, as for the evaluation.
        unnamed = "labels" if shape is None and _named_file(folder, "test") else shape
        return _load_file(path, shape, unnamed, folder.name)
    labelled = dict(_labelled_files(folder))
    if len(set(labelled.values())) > 1:
        return _load_labelled_files(folder, labelled)
    raise InputError(
        f"{folder} holds no training data: a folder has corpus.jsonl, queries.jsonl and qrels.tsv, or a file train "
        f"({', '.join(_SUFFIXES)}), or one folder of .txt files for each label.",
        param="data",
    )


def _train_file(folder: Path) -> Path | None:
    """Return the file ``train``, or the only table of a folder."""
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES[:5] and path.is_file()]
    return _named_file(folder, "train") or (tables[0] if len(tables) == 1 else None)


def _named_file(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in _SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _labelled_files(folder: Path) -> Iterator[tuple[Path, str]]:
    for label in sorted(path for path in folder.iterdir() if path.is_dir()):
        for file in sorted(label.glob("*.txt")):
            yield file, label.name


def _load_labelled_files(folder: Path, labelled: Mapping[Path, str]) -> TrainingData:
    texts = [_read_text(path) for path in labelled]
    return TrainingData(folder.name, Labelled(texts, list(labelled.values())))


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}). Convert it.", param="data") from None
    if not text:
        raise InputError(f"{path} is empty. Remove it, or fill it.", param="data")
    return text


def _load_beir(folder: Path) -> TrainingData:
    corpus, queries = read_rows(folder / "corpus.jsonl"), texts_by_id(read_rows(folder / "queries.jsonl"), titled=False)
    documents = texts_by_id(corpus, titled=True)
    relevant = load_judgments(_judgments_file(folder), documents, queries)
    judged = {key: text for key, text in queries.items() if key in relevant}
    note = folder / SYNTHETIC_NOTE
    return TrainingData(
        folder.name,
        Retrieval(documents, judged, relevant),
        _read_json(folder / _SOURCES) or _title_sources(corpus),
        _read_json(folder / _TEACHER_SCORES),
        note.read_text(encoding="utf-8").strip() if note.is_file() else None,
    )


def _judgments_file(folder: Path) -> Path:
    splits = sorted((folder / "qrels").glob("*.tsv"))
    train = folder / "qrels" / "train.tsv"
    path = train if train.is_file() else folder / "qrels.tsv"
    if path.is_file():
        return path
    there = ", ".join(file.name for file in splits) or "no judgments"
    raise InputError(f"{folder}: qrels/train.tsv or qrels.tsv is needed, and there is {there}.", param="data")


def _title_sources(corpus: Sequence[DatasetRow]) -> dict[str, str]:
    """Return the titles that several documents share: these are parts of one document."""
    titles = {row.text("_id"): str(row.values.get("title") or "").strip() for row in corpus}
    counts = Counter(titles.values())
    return {key: title for key, title in titles.items() if title and counts[title] > 1}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}). Mine again into a new folder.", param="data") from None


# -- files ---------------------------------------------------------------------------------------------------------


def _load_file(path: Path, shape: str | None, unnamed: str | None = None, name: str | None = None) -> TrainingData:
    file_format = table_format(path)
    header = read_header(path, file_format)
    if not header:
        raise InputError(f"{path} has no rows with columns: give JSON lines, Parquet, CSV or TSV.", param="data")
    form = find_form(path, header, shape)
    unused: list[str] = []
    if form is not None:
        read = list(_read(path, file_format))
        used = {column for row in read for column in _columns_by_role(row, form).values()}
        rows, unused = [_with_roles(row, form) for row in read], unused_columns(read, used)
    else:
        form = unnamed_form(path, header, unnamed or shape)
        rows = list(_read(path, file_format, form.order[: len(header)]))
    if not rows:
        raise InputError(f"{path} has no rows below its first line.", param="data")
    return replace(parse_rows(form, name or path.stem, rows), unused_columns=tuple(unused))


def _read(path: Path, file_format: str, header: Sequence[str] | None = None) -> Iterator[DatasetRow]:
    for row in read_table(path, file_format, header=header, strict=file_format != "parquet"):
        values = row.get()
        if isinstance(values, str):
            raise InputError(f"{row.where}: a text, not an object.", param="data")
        yield DatasetRow(path, row.number, values)


def _with_roles(row: DatasetRow, form: TrainingForm) -> DatasetRow:
    """Return a row whose columns have the names of their roles; numbered negatives keep theirs.

    Raises:
        InputError: a required column is missing, or a column is nearly called like an optional one.
    """
    columns = _columns_by_role(row, form)
    missing = next((role for role in form.required if role not in columns), None)
    if missing is not None:
        raise row.error(f"there is no {missing} (its name may be {', '.join(COLUMN_NAMES[missing])}).")
    absent = [name for role in form.optional if role not in columns for name in COLUMN_NAMES[role]]
    row.refuse_misspelt(columns.values(), absent)
    return DatasetRow(row.path, row.number, {role: row.values[name] for role, name in columns.items()})


def _columns_by_role(row: DatasetRow, form: TrainingForm) -> dict[str, str]:
    """Return the row's column for each role of the form that it has, and its numbered negatives under their names."""
    columns = {str(name).strip().lower(): str(name) for name in reversed(list(row.values))}
    matches = {role: match_column(role, list(columns)) for role in (*form.required, *form.optional)}
    numbered = numbered_negatives(map(str, row.values)) if "negative" in form.optional else []
    return {role: columns[name] for role, name in matches.items() if name} | {name: name for name in numbered}
