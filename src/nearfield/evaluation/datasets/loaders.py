"""Reading: data sets from files and folders, by their layout and the names of their columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, nearest
from nearfield.evaluation.datasets import rows as lines
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
from nearfield.evaluation.datasets.rows import DatasetRow

#: What columns may be called in files, by what they are.
NAMES: Mapping[str, tuple[str, ...]] = {
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
#: The columns of each task's files, in the order of a file without a line that names them; what is optional is last.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "retrieval": ("query", "document", "score"),
    "sts": ("score", "first", "second"),
    "pairs": ("label", "first", "second"),
    "classification": ("label", "text"),
    "clustering": ("label", "text"),
    "reranking": ("query", "positive", "negative"),
    "bitext": ("first", "second"),
}
#: A file in a folder of rows that nobody judged; it says how they were made.
MARK = "SYNTHETIC.txt"
_OPTIONAL = ("score",)
_SUFFIX = "jsonl, ndjson, tsv, csv or txt"


def load_dataset(path: str | Path, task: str | None = None, *, name: str | None = None, split: str = "test") -> Dataset:
    """Read a data set.

    Folders: BEIR's layout (``corpus.jsonl``, ``queries.jsonl``, and ``qrels.tsv`` or ``qrels/SPLIT.tsv``) for
    retrieval; ``train`` and ``test`` files for classification. Files are JSON lines, TSV or CSV, and their columns say
    which task they are for: query and document (and score), sentence1 and sentence2 with score (STS) or label (similar:
    1, dissimilar: 0), text and label (clustering), query, positive and negative (reranking). Where they do not,
    ``task`` says it: a file of two columns without names is bitext, or clustering, as told.

    Args:
        path: of the file or folder.
        task: its task, where its layout leaves that open.
        name: as shown; the path's own name when left out.
        split: which of a folder's judgements or files to measure on.

    Raises:
        InputError: nothing can be read there, a row is malformed (with file and line), or the task is open.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"There is no data set {str(path)!r}: give a file ({_SUFFIX}) or a folder.", param="data")
    if task is not None and task not in COLUMNS:
        raise InputError(f"No files of task {task!r} are read. {nearest(task, COLUMNS)}", param="task")
    found, rows = _folder(place, task, split) if place.is_dir() else _file(place, task)
    note = f"judgements: {split}" if place.is_dir() and (place / "qrels").is_dir() else ""
    return _made(place, name or _name(place), found, rows, note)


def _made(place: Path, name: str, task: str, rows: Rows, note: str) -> Dataset:
    try:
        return Dataset(name, task, rows, synthetic=_synthetic(place), note=note)
    except InputError as error:
        raise InputError(f"{place}: {error}", param="data") from None


def _synthetic(place: Path) -> str | None:
    """Return how a set was made, where a file beside its rows says that nobody judged it."""
    told = place / MARK
    return told.read_text(encoding="utf-8").strip() if place.is_dir() and told.is_file() else None


def _name(place: Path) -> str:
    """Return the name of a folder; that of a file, with its folder's where it says no more than ``test``."""
    whole = place.resolve()
    if place.is_dir():
        # Languages and splits of one set lie in folders of short names.
        return whole.name if len(whole.name) > 3 else f"{whole.parent.name}/{whole.name}"
    return whole.parent.name if whole.stem in ("test", "dev", "validation") else whole.stem


# -- folders -------------------------------------------------------------------------------------------------------


def _folder(place: Path, task: str | None, split: str) -> tuple[str, Rows]:
    if (place / "corpus.jsonl").is_file() and task in (None, "retrieval"):
        return "retrieval", _beir(place, split)
    train, test = _split(place, "train"), _split(place, split)
    if train and test and task in (None, "classification"):
        return "classification", Classification(_labelled(train), _labelled(test))
    if test and task != "classification":
        return _file(test, task)
    raise InputError(
        f"{place} is no data set: a folder has corpus.jsonl, queries.jsonl and qrels.tsv (retrieval), or train and "
        f"{split} files of {_SUFFIX} (classification).",
        param="data",
    )


def _split(place: Path, name: str) -> Path | None:
    return next((path for suffix in lines.SUFFIXES if (path := place / f"{name}{suffix}").is_file()), None)


def _beir(place: Path, split: str) -> Retrieval:
    """Read BEIR's layout (Thakur et al. 2021): a document's text is title, one space, text."""
    documents = _by_id(lines.read(place / "corpus.jsonl"), titled=True)
    queries = _by_id(lines.read(place / "queries.jsonl"), titled=False)
    relevant = _judgements(_qrels(place, split), documents, queries)
    return Retrieval(documents, {key: text for key, text in queries.items() if key in relevant}, relevant)


def _qrels(place: Path, split: str) -> Path:
    single, folder = place / "qrels.tsv", place / "qrels"
    path = folder / f"{split}.tsv" if folder.is_dir() else single
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.tsv"))) if folder.is_dir() else "qrels.tsv"
        raise InputError(f"{path} is not there: there is {known or 'no file of judgements'}.", param="data")
    return path


def _by_id(rows: Sequence[DatasetRow], *, titled: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        key = row.text("_id")
        if key in found:
            raise row.wrong(f"the id {key!r} is there twice.")
        text = row.text("text", empty=titled)
        title = row.text("title", empty=True) if titled and row.values.get("title") is not None else ""
        found[key] = f"{title} {text}".strip()
        if not found[key] and not titled:
            raise row.wrong("the text is empty.")
    return found


def _judgements(path: Path, documents: Mapping[str, str], queries: Mapping[str, str]) -> dict[str, dict[str, int]]:
    columns = ("query-id", "corpus-id", "score")
    named = set(columns) <= set(lines.head(path))
    relevant: dict[str, dict[str, int]] = {}
    for row in lines.read(path, None if named else columns):
        query, document = row.text("query-id"), row.text("corpus-id")
        if query not in queries:
            raise row.wrong(f"there is no query {query!r} in queries.jsonl.")
        if document not in documents:
            raise row.wrong(f"there is no document {document!r} in corpus.jsonl.")
        if document in relevant.setdefault(query, {}):
            raise row.wrong(f"query {query!r} and document {document!r} are judged twice.")
        relevant[query][document] = row.whole("score")
    return relevant


# -- files ---------------------------------------------------------------------------------------------------------


def _file(path: Path, task: str | None) -> tuple[str, Rows]:
    found = task or _told(path)
    if found == "classification":
        raise InputError(
            f"{path}: classification needs texts to learn from too: put train and test files into a folder, and give "
            "that.",
            param="data",
        )
    return found, _READERS[found](_named(path, found))


def _told(path: Path) -> str:
    """Return the task that a file's columns are for.

    Raises:
        InputError: they do not say.
    """
    columns = {each.lower() for each in lines.head(path)}

    def has(*roles: str) -> bool:
        return all(columns & set(NAMES[role]) for role in roles)

    for task in ("reranking", "sts", "pairs", "retrieval", "clustering", "bitext"):
        needs = [role for role in COLUMNS[task] if task != "retrieval" or role not in _OPTIONAL]
        if has(*needs):
            return task
    raise InputError(
        f"{path}: its columns ({', '.join(sorted(columns))[:200]}) do not say what it is for. Name them in the first "
        f"line, or say the task. {nearest('', COLUMNS)}",
        param="task",
    )


def _named(path: Path, task: str) -> list[DatasetRow]:
    """Return a file's rows with the columns of a task, whatever the file calls them."""
    wanted = COLUMNS[task]
    given = lines.head(path)
    lowered = {each.lower().strip(): each for each in given}
    found = {role: next((lowered[each] for each in NAMES[role] if each in lowered), None) for role in wanted}
    if task == "retrieval" and found["query"]:
        found["document"] = _document(lowered)
    needed = [role for role in wanted if task != "retrieval" or role not in _OPTIONAL]
    if all(found[role] for role in needed):
        kept = {role: name for role, name in found.items() if name}
        return [_renamed(row, kept) for row in lines.read(path)]
    if lines.is_json(path) or any(found.values()):
        lacking = next(role for role in needed if not found[role])
        raise InputError(
            f"{path}, line 1: {task} needs {', '.join(needed)}; there is no column for {lacking} (it may be called "
            f"{', '.join(NAMES[lacking])}) among {', '.join(given)[:200]}.",
            param="data",
        )
    # No name is known: the first line is a row, in the order of the task's columns.
    names = wanted if len(given) >= len(wanted) else needed
    return lines.read(path, names)


def _document(lowered: Mapping[str, str]) -> str | None:
    return next((lowered[each] for each in NAMES["document"] if each in lowered), None)


def _renamed(row: DatasetRow, names: Mapping[str, str]) -> DatasetRow:
    return DatasetRow(
        row.path, row.number, {role: row.values[name] for role, name in names.items() if name in row.values}
    )


def _labelled(path: Path) -> Labelled:
    return _labels(_named(path, "classification"))


def _labels(rows: Sequence[DatasetRow]) -> Labelled:
    return Labelled([row.text("text") for row in rows], [row.text("label") for row in rows])


def _judged(rows: Sequence[DatasetRow]) -> Retrieval:
    """Make a collection of all documents of some pairs; a pair without a score is a relevant one."""
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    for row in rows:
        query, grade = row.text("query"), row.whole("score") if "score" in row.values else 1
        asked = _id("q", query)
        queries[asked] = query
        for document in row.texts("document"):
            key = _id("d", document)
            documents[key] = document
            if relevant.setdefault(asked, {}).setdefault(key, grade) != grade:
                raise row.wrong("this query and document were judged before, with another score.")
    return Retrieval(documents, queries, relevant)


def _id(kind: str, text: str) -> str:
    return kind + hashlib.sha256(text.encode()).hexdigest()[:12]


def _scored(rows: Sequence[DatasetRow]) -> PairRows:
    return PairRows(*_two(rows), [row.number_of("score") for row in rows])


def _similar(rows: Sequence[DatasetRow]) -> PairRows:
    return PairRows(*_two(rows), [_yes(row) for row in rows])


#: What says that two texts are alike, and what that they are not.
_LABELS: Mapping[str, float] = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "similar", "duplicate"), 1.0),
    **dict.fromkeys(("0", "0.0", "false", "no", "dissimilar", "different"), 0.0),
}


def _yes(row: DatasetRow) -> float:
    told = str(row.values.get("label")).strip().lower()
    if told not in _LABELS:
        raise row.wrong(f"label should be 1 (similar) or 0 (dissimilar), and is {row.values.get('label')!r}.")
    return _LABELS[told]


def _two(rows: Sequence[DatasetRow]) -> tuple[list[str], list[str]]:
    return [row.text("first") for row in rows], [row.text("second") for row in rows]


def _clusters(rows: Sequence[DatasetRow]) -> Clustering:
    """Make a set of each row where rows hold lists (MTEB's older layout), else one set of all rows."""
    if not isinstance(rows[0].values.get("text"), list):
        return Clustering([_labels(rows)])
    return Clustering([_listed(row) for row in rows])


def _listed(row: DatasetRow) -> Labelled:
    texts, labels = row.texts("text"), row.values.get("label")
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise row.wrong(f"{len(texts)} texts need as many labels, in a list.")
    return Labelled(texts, [str(label) for label in labels])


def _candidates(rows: Sequence[DatasetRow]) -> Reranking:
    return Reranking([Candidates(row.text("query"), row.texts("positive"), row.texts("negative")) for row in rows])


_READERS: Mapping[str, Callable[[Sequence[DatasetRow]], Any]] = {
    "retrieval": _judged,
    "sts": _scored,
    "pairs": _similar,
    "clustering": _clusters,
    "reranking": _candidates,
    "bitext": lambda rows: Bitext(*_two(rows)),
}
