"""Forms of training files: the names that their columns may have, and how the form of a file is recognised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nearfield.errors import InputError, nearest

#: Names of columns by role, in lower case. Sources: sentence-transformers' data sets, FlagEmbedding, MTEB, click logs.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "question", "anchor", "queries"),
    "positive": (
        "positive",
        "positives",
        "pos",
        "document",
        "documents",
        "passage",
        "answer",
        "context",
        "corpus",
        "text",
    ),
    "negative": ("negative", "negatives", "neg"),
    "shown": ("shown", "impressions", "results"),
    "clicked": ("clicked", "clicks", "click"),
    "first": ("sentence1", "text1", "first", "sent1", "text_a", "premise"),
    "second": ("sentence2", "text2", "second", "sent2", "text_b", "hypothesis"),
    "score": ("score", "similarity", "gold", "relevance"),
    "text": ("text", "sentence"),
    "label": ("label", "labels", "class", "intent", "category", "duplicate", "is_duplicate"),
    "positive_scores": ("pos_scores", "positive_scores"),
    "negative_scores": ("neg_scores", "negative_scores"),
    "source": ("source", "document_id", "doc_id", "group", "url", "path"),
}
#: Numbered columns of negatives, such as ``negative_1`` and ``neg2``.
_NUMBERED_NEGATIVE = re.compile(r"neg(ative)?_?\d+")


@dataclass(frozen=True)
class TrainingForm:
    """A form of files: the roles that its rows need, those that they may have, and the shape of its rows.

    ``order`` names the columns of a file whose first line does not name them.
    """

    name: str
    shape: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    order: tuple[str, ...] = ()


#: All forms; the first whose required columns a file has is its form.
FORMS: Sequence[TrainingForm] = (
    TrainingForm("clicks", "ranking", ("query", "shown", "clicked"), ("source",)),
    TrainingForm(
        "ranking",
        "ranking",
        ("query", "positive"),
        ("negative", "positive_scores", "negative_scores", "score", "source"),
        ("query", "positive", "negative"),
    ),
    TrainingForm("scores", "scores", ("first", "second", "score"), ("source",), ("score", "first", "second")),
    TrainingForm("similar", "scores", ("first", "second", "label"), ("source",)),
    TrainingForm("labels", "labels", ("text", "label"), ("source",), ("label", "text")),
    TrainingForm("same meaning", "ranking", ("first", "second"), ("source",)),
)
SHAPES = ("ranking", "labels", "scores")


def find_form(path: Path, header: Iterable[str], shape: str | None) -> TrainingForm | None:
    """Return the form of a file with these columns, or None if its first line does not name them.

    Raises:
        InputError: some names are known, and no form (of the shape, where one is wished for) has these columns.
    """
    columns = [name.strip().lower() for name in header]
    forms = [form for form in FORMS if shape in (None, form.shape)]
    for form in forms:
        if all(match_column(role, columns) for role in form.required):
            return form
    known = [name for name in columns if any(name in names for names in COLUMN_NAMES.values())]
    if not known:
        return None
    needs = "; ".join(f"{form.name}: {', '.join(form.required)}" for form in forms)
    example = next(form for form in forms if form.order)
    raise InputError(
        f"{path}: its columns ({', '.join(columns)[:200]}) are no rows to learn from. The forms need: {needs}. "
        f"Rename the columns, for example {' and '.join(COLUMN_NAMES[role][0] for role in example.required)}.",
        param="data",
    )


def unnamed_form(path: Path, header: Sequence[str], shape: str | None) -> TrainingForm:
    """Return the form of a file whose first line is a row already; the order of columns is that of the form.

    Raises:
        InputError: the shape is not named, or the file has one column, too few or too many columns for it.
    """
    if len(header) == 1:
        raise InputError(
            f"{path} has one column ({_shown(header)}), and rows have two or more. Columns of .csv files are separated "
            "by commas, those of .tsv files by tabs.",
            param="data",
        )
    if shape is None:
        raise InputError(
            f"{path}: the first line does not name the columns ({_shown(header)}). Name them there, or set "
            "--shape: labels (label, text), ranking (query, positive[, negative]), scores (score, first, second).",
            param="shape",
        )
    form = next(form for form in FORMS if form.shape == shape and form.order)
    if not len(form.required) <= len(header) <= len(form.order):
        raise InputError(
            f"{path}: its first line has {len(header)} cells; without names, {shape} has {', '.join(form.order)}.",
            param="data",
        )
    return form


def _shown(header: Sequence[str]) -> str:
    """Return the beginning of each of the first cells of a line, for a message."""
    return " | ".join(cell if len(cell) <= 40 else f"{cell[:37]}..." for cell in header[:4])


def match_column(role: str, columns: Sequence[str]) -> str | None:
    """Return the first name of a role that is among some lower-case column names."""
    return next((name for name in COLUMN_NAMES[role] if name in columns), None)


def numbered_negatives(columns: Iterable[str]) -> list[str]:
    """Return the columns that are called ``negative_1``, ``neg2`` and the like, in order."""
    return [name for name in columns if _NUMBERED_NEGATIVE.fullmatch(name.strip().lower())]


def check_shape(shape: str | None) -> None:
    """Raise InputError unless the shape is None or a known one."""
    if shape is not None and shape not in SHAPES:
        raise InputError(f"There is no shape {shape!r}. {nearest(shape, SHAPES)}", param="shape")
