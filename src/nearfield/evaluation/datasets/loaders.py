"""Loaders of data sets: a folder in BEIR's layout, a folder with train and test files, or one file of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nearfield.argument_checks import require_optional_texts
from nearfield.errors import InputError, nearest
from nearfield.evaluation.datasets.column_names import TASK_COLUMNS, detect_task, read_task_rows
from nearfield.evaluation.datasets.dataset import (
    Bitext,
    Candidates,
    Classification,
    Clustering,
    Dataset,
    Labelled,
    PairRows,
    Reranking,
    Retrieval,
    Rows,
)
from nearfield.evaluation.datasets.rows import SUFFIXES, DatasetRow, read_columns, read_rows, unused_columns
from nearfield.hub import existing_path
from nearfield.text_inputs import describe

#: A file in the folder of a synthetic data set, with a note on how the data set was created.
SYNTHETIC_NOTE = "SYNTHETIC.txt"
_READABLE = "jsonl, ndjson, tsv, csv or txt"
_QRELS_COLUMNS = ("query-id", "corpus-id", "score")
#: The names in BEIR's files of texts; ``metadata`` is part of the layout and not used.
_BEIR_COLUMNS = ("_id", "title", "text", "metadata")


def load_dataset(path: str | Path, task: str | None = None, *, name: str | None = None, split: str = "test") -> Dataset:
    """Load a data set.

    A folder is for retrieval in BEIR's layout (``corpus.jsonl``, ``queries.jsonl``, and ``qrels.tsv`` or
    ``qrels/SPLIT.tsv``), or for classification with ``train`` and ``test`` files.

    A file has JSON lines, TSV or CSV. Its columns say which task it is for: query and document (and score), sentence1
    and sentence2 with score (STS) or label (similar: 1, dissimilar: 0), text and label (clustering), query, positive
    and negative (reranking). If they do not, name the ``task``: a file of two columns without a header is bitext or
    clustering.

    Args:
        path: of the file or folder.
        task: its task, where the layout does not say.
        name: as shown; the path's own name if left out.
        split: the judgments or files of a folder to measure on.

    Raises:
        InputError: the path is no data set, a row is malformed (with file and line), or the task is unknown.
    """
    require_optional_texts(task=task)
    if not isinstance(path, (str, Path)) or not str(path):
        raise InputError(f"dataset must be a Dataset or the path of one, and is {describe(path)}.", param="dataset")
    source = existing_path(str(path))
    if source is None:
        raise InputError(f"There is no data set {str(path)!r}: give a file ({_READABLE}) or a folder.", param="data")
    if task is not None and task not in TASK_COLUMNS:
        raise InputError(f"No files of task {task!r} are read. {nearest(task, TASK_COLUMNS)}", param="task")
    task, rows, unused = _load_folder(source, task, split) if source.is_dir() else _load_file(source, task)
    note = f"judgements: {split}" if source.is_dir() and (source / "qrels").is_dir() else ""
    try:
        made_up = _synthetic_note(source)
        return Dataset(name or _default_name(source), task, rows, made_up, note, tuple(unused))
    except InputError as error:
        raise InputError(f"{source}: {error}", param="data") from None


def _synthetic_note(source: Path) -> str | None:
    path = source / SYNTHETIC_NOTE
    return path.read_text(encoding="utf-8").strip() if source.is_dir() and path.is_file() else None


def _default_name(source: Path) -> str:
    """Return a folder's name, or a file's; with that of its folder if it is short, or says only ``test``."""
    absolute = source.resolve()
    if source.is_dir():
        # Languages and splits of a data set are often folders with short names.
        return absolute.name if len(absolute.name) > 3 else f"{absolute.parent.name}/{absolute.name}"
    return absolute.parent.name if absolute.stem in ("test", "dev", "validation") else absolute.stem


# -- folders -------------------------------------------------------------------------------------------------------


def _load_folder(folder: Path, task: str | None, split: str) -> tuple[str, Rows, list[str]]:
    if (folder / "corpus.jsonl").is_file() and task in (None, "retrieval"):
        return ("retrieval", *_load_beir(folder, split))
    train, test = _split_file(folder, "train"), _split_file(folder, split)
    if train and test and task in (None, "classification"):
        (learnt, more), (tested, others) = _load_labelled(train), _load_labelled(test)
        return "classification", Classification(learnt, tested), list(dict.fromkeys([*more, *others]))
    if test and task != "classification":
        return _load_file(test, task)
    raise InputError(
        f"{folder} is no data set: a folder has corpus.jsonl, queries.jsonl and qrels.tsv (retrieval), or train and "
        f"{split} files of {_READABLE} (classification).",
        param="data",
    )


def _split_file(folder: Path, split: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()), None)


def _load_beir(folder: Path, split: str) -> tuple[Retrieval, list[str]]:
    """Load BEIR's layout (Thakur et al. 2021), where a document's text is title, one space, text."""
    corpus, questions = read_rows(folder / "corpus.jsonl"), read_rows(folder / "queries.jsonl")
    documents, queries = texts_by_id(corpus, titled=True), texts_by_id(questions, titled=False)
    relevant = load_judgments(_qrels_path(folder, split), documents, queries)
    unused = unused_columns([*corpus, *questions], _BEIR_COLUMNS)
    return Retrieval(documents, {key: text for key, text in queries.items() if key in relevant}, relevant), unused


def _qrels_path(folder: Path, split: str) -> Path:
    single, splits = folder / "qrels.tsv", folder / "qrels"
    path = splits / f"{split}.tsv" if splits.is_dir() else single
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in splits.glob("*.tsv"))) if splits.is_dir() else "qrels.tsv"
        raise InputError(f"{path} is not there: there is {names or 'no file of judgments'}.", param="data")
    return path


def texts_by_id(rows: Sequence[DatasetRow], *, titled: bool) -> dict[str, str]:
    """Return the texts of ``corpus.jsonl`` (titled) or ``queries.jsonl`` by id.

    Raises:
        InputError: an id is there twice, a text is missing, or ``title`` is misspelt.
    """
    texts: dict[str, str] = {}
    for row in rows:
        key = row.text("_id")
        if key in texts:
            raise row.error(f"the id {key!r} is there twice.")
        if titled and "title" not in row.values:
            row.refuse_misspelt(_BEIR_COLUMNS, ["title"])
        text = row.text("text", empty=titled)
        title = row.text("title", empty=True) if titled and row.values.get("title") is not None else ""
        texts[key] = f"{title} {text}".strip()
        if not texts[key] and not titled:
            raise row.error("the text is empty.")
    return texts


def load_judgments(path: Path, documents: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return the grades of a file of judgments by query and document.

    Raises:
        InputError: a row is malformed, names an unknown query or document, or judges a pair twice.
    """
    has_header = set(_QRELS_COLUMNS) <= set(read_columns(path))
    relevant: dict[str, dict[str, int]] = {}
    for row in read_rows(path, None if has_header else _QRELS_COLUMNS):
        query, document = row.text("query-id"), row.text("corpus-id")
        if query not in queries:
            raise row.error(f"there is no query {query!r} in queries.jsonl.")
        if document not in documents:
            raise row.error(f"there is no document {document!r} in corpus.jsonl.")
        if document in relevant.setdefault(query, {}):
            raise row.error(f"query {query!r} and document {document!r} are judged twice.")
        relevant[query][document] = row.int_value("score")
    return relevant


# -- files ---------------------------------------------------------------------------------------------------------


def _load_file(path: Path, task: str | None) -> tuple[str, Rows, list[str]]:
    task = task or detect_task(path)
    if task == "classification":
        raise InputError(
            f"{path}: classification needs texts to learn from too: put train and test files into a folder, and give "
            "that.",
            param="data",
        )
    rows, unused = read_task_rows(path, task)
    return task, _PARSERS[task](rows), unused


def _load_labelled(path: Path) -> tuple[Labelled, list[str]]:
    rows, unused = read_task_rows(path, "classification")
    return _parse_labelled(rows), unused


def _parse_labelled(rows: Sequence[DatasetRow]) -> Labelled:
    return Labelled([row.text("text") for row in rows], [row.text("label") for row in rows])


def _parse_retrieval(rows: Sequence[DatasetRow]) -> Retrieval:
    """Return all documents of some pairs as one corpus; a pair without a score is relevant."""
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    for row in rows:
        query, grade = row.text("query"), row.int_value("score") if "score" in row.values else 1
        query_id = text_id("q", query)
        queries[query_id] = query
        for document in row.texts("document"):
            key = text_id("d", document)
            documents[key] = document
            if relevant.setdefault(query_id, {}).setdefault(key, grade) != grade:
                raise row.error("this query and document were judged before, with another score.")
    return Retrieval(documents, queries, relevant)


def text_id(kind: str, text: str) -> str:
    """Return an id of a text: ``q`` or ``d`` and twelve digits of its SHA-256."""
    return kind + hashlib.sha256(text.encode()).hexdigest()[:12]


def _parse_sts(rows: Sequence[DatasetRow]) -> PairRows:
    return PairRows(*_parse_pairs(rows), [row.float_value("score") for row in rows])


def _parse_similar_pairs(rows: Sequence[DatasetRow]) -> PairRows:
    return PairRows(*_parse_pairs(rows), [parse_similarity(row) for row in rows])


#: Labels of similar (1) and dissimilar (0) pairs.
_LABELS: Mapping[str, float] = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "similar", "duplicate"), 1.0),
    **dict.fromkeys(("0", "0.0", "false", "no", "dissimilar", "different"), 0.0),
}


def parse_similarity(row: DatasetRow) -> float:
    """Return 1 for a row labelled similar and 0 for one labelled dissimilar.

    Raises:
        InputError: the label is neither.
    """
    label = str(row.values.get("label")).strip().lower()
    if label not in _LABELS:
        raise row.error(f"label should be 1 (similar) or 0 (dissimilar), and is {row.values.get('label')!r}.")
    return _LABELS[label]


def _parse_pairs(rows: Sequence[DatasetRow]) -> tuple[list[str], list[str]]:
    return [row.text("first") for row in rows], [row.text("second") for row in rows]


def _parse_clustering(rows: Sequence[DatasetRow]) -> Clustering:
    """Return one set for each row if rows hold lists (MTEB's older layout), else one set of all rows."""
    if not isinstance(rows[0].values.get("text"), list):
        return Clustering([_parse_labelled(rows)])
    return Clustering([_parse_labelled_list(row) for row in rows])


def _parse_labelled_list(row: DatasetRow) -> Labelled:
    texts, labels = row.texts("text"), row.values.get("label")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise row.error(f"{len(texts)} texts need as many labels, in a list.")
    return Labelled(texts, [str(label) for label in labels])


def _parse_reranking(rows: Sequence[DatasetRow]) -> Reranking:
    return Reranking([Candidates(row.text("query"), row.texts("positive"), row.texts("negative")) for row in rows])


_PARSERS: Mapping[str, Callable[[Sequence[DatasetRow]], Rows]] = {
    "retrieval": _parse_retrieval,
    "sts": _parse_sts,
    "pairs": _parse_similar_pairs,
    "clustering": _parse_clustering,
    "reranking": _parse_reranking,
    "bitext": lambda rows: Bitext(*_parse_pairs(rows)),
}
