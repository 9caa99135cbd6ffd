"""What a run works with: rows by part (train, dev, test), guard sets, the loss, and notes about them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nearfield.errors import InputError
from nearfield.evaluation.datasets.dataset import Dataset, Labelled, Retrieval
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.json_types import JsonDict
from nearfield.message_text import count_of
from nearfield.training.fine_tuning import evaluation_sets
from nearfield.training.fine_tuning.base_model import BaseModel, open_base
from nearfield.training.fine_tuning.losses import LossChoice, check_flops, check_matryoshka, choose_loss
from nearfield.training.fine_tuning.options import TrainOptions
from nearfield.training.leaks import Leak, describe_leaks, drop_leaked, find_leaks
from nearfield.training.overlap.leak_vectors import LeakVectorSource
from nearfield.training.splitting import split_by_source
from nearfield.training.teachers import check_teacher, require_teachable
from nearfield.training.training_data import TrainingData

#: Fewest rows (pairs, texts or queries) that are worth a run: with fewer, dev and test parts say nothing.
MIN_ROWS = 40
#: What happens to rows that the test or a guard set has too.
LEAK_POLICIES = ("refuse", "drop", "allow")


@dataclass(frozen=True)
class PreparedRun:
    """Data by part, and the choices that follow from it.

    Args:
        base: the model before training.
        options: the settings.
        data: rows to train on.
        dev: the set that chooses the best step.
        test: the set that is measured once before and once after.
        guards: sets on which the model must not lose, by name.
        loss: the loss and the reason for it.
        digests: SHA-256 of data, test and guard sets.
        leaked: whether rows of the test or of a guard set are trained on all the same.
        notes: sentences for the user.
    """

    base: BaseModel
    options: TrainOptions
    data: TrainingData
    dev: Dataset
    test: Dataset
    guards: dict[str, Dataset]
    loss: LossChoice
    digests: JsonDict
    leaked: bool = False
    notes: Sequence[str] = field(default_factory=tuple)


def prepare(
    base: BaseModel,
    data: TrainingData,
    options: TrainOptions,
    *,
    test: Dataset | None = None,
    leaks: str = "refuse",
    accept_license: bool = False,
) -> PreparedRun:
    """Split the data by source, check for leaks, and choose the loss.

    Args:
        base: the model before training.
        data: all rows.
        options: the settings.
        test: the test set; by default a part of the data is held out.
        leaks: for rows of training that the test or a guard set has too: ``refuse``, ``drop`` or ``allow``.
        accept_license: use a teacher or a guide whose licence does not allow commercial use.

    Raises:
        InputError: too few rows, a leak, or a loss, a teacher, a guide or sizes that do not fit.
        ModelNotFound, SourceUnavailable: there is no such teacher or guide.
    """
    _require_rows(data)
    loss = _choose_loss(base, data, options)
    helpers = _helper_digests(options, accept_license=accept_license)
    guards = dict(_load_guards(base, options))
    notes: list[str] = [] if guards else ["No guard set (--guard): what the model forgets is not measured."]
    outside = [*([test] if test is not None else []), *guards.values()]
    is_dense = base.kind == "dense"
    with LeakVectorSource(base.requested, is_dense=is_dense, mode=options.leak_vectors) as source:
        rows, leaked, more = _check_leaks(data, outside, leaks, source)
        train, dev_rows, test_rows = _split(rows, options, held_out=test is None)
        parts = [part for part in (dev_rows, test_rows) if part is not None]
        train, dropped = _drop_own_leaks(train, parts, source if options.leak_vectors is True else None)
    notes += [*data.notes, *more, *dropped, *source.notes]
    chosen = test or evaluation_sets.test_set(_required(test_rows), train, base.kind, options.seed)
    if base.kind == "scores":
        chosen = evaluation_sets.as_reranking(chosen, options.seed)
    train = _own_corpus(train, [part for part in (dev_rows, test_rows) if part is not None])
    dev = evaluation_sets.dev_set(dev_rows, train, base.kind, options.seed)
    digests = {"data": data.digest, "test": chosen.digest, "guards": {key: set_.digest for key, set_ in guards.items()}}
    digests |= helpers
    return PreparedRun(base, options, train, dev, chosen, guards, loss, digests, leaked, tuple(notes))


def _choose_loss(base: BaseModel, data: TrainingData, options: TrainOptions) -> LossChoice:
    """Return the loss, after a check of teacher, guide and sizes that hours of work would end with otherwise."""
    if options.teacher is not None:
        require_teachable(data, options.negatives)
    loss = choose_loss(
        data,
        base.kind,
        options.loss,
        batch=options.batch,
        taught=options.teacher is not None,
        guided=options.guide is not None,
    )
    check_flops(options.flops_query, options.flops_document, base.kind)
    check_matryoshka(options.matryoshka, base.kind, base.recipe.dimensions, loss.name)
    return loss


def _helper_digests(options: TrainOptions, *, accept_license: bool) -> JsonDict:
    """Return the digests of teacher and guide, after a check that they can be used."""
    digests: JsonDict = {}
    if options.teacher is not None:
        digests["teacher"] = check_teacher(options.teacher, accept_license=accept_license)
    if options.guide is not None:
        guide = open_base(options.guide, accept_license=accept_license)
        if guide.kind != "dense":
            raise InputError(f"A guide gives dense vectors, and {guide.name} gives {guide.kind}.", param="guide")
        digests["guide"] = guide.digest
    return digests


def _required(rows: TrainingData | None) -> TrainingData:
    assert rows is not None  # without a test set, a part of the data is held out
    return rows


def row_count(data: TrainingData) -> int:
    """Return the number of queries, texts or pairs."""
    rows = data.rows
    if isinstance(rows, Retrieval):
        return len(rows.relevant)
    return len(rows.texts if isinstance(rows, Labelled) else rows.gold)


def _require_rows(data: TrainingData) -> None:
    count = row_count(data)
    if count < MIN_ROWS:
        raise InputError(
            f"{data.name} has {count_of(count, 'row')}: too few to train and to measure. From {MIN_ROWS} on training "
            "is possible, and from a few hundred on a gain can be shown. `nearfield synthetic` writes rows from a "
            "collection.",
            param="data",
        )


def _load_guards(base: BaseModel, options: TrainOptions) -> Iterable[tuple[str, Dataset]]:
    used = {"test"}  # the name of the set that decides
    for path in dict.fromkeys(options.guard):
        dataset = load_dataset(Path(path))
        name = next(name for name in _guard_names(dataset.name, path) if name not in used)
        used.add(name)
        yield name, evaluation_sets.as_reranking(dataset, options.seed) if base.kind == "scores" else dataset


def _guard_names(name: str, path: str) -> Iterator[str]:
    """Yield names for a guard set: two sets of one name would hide each other's figures."""
    yield from (name, path)
    yield from (f"{path} ({number})" for number in itertools.count(2))


def _split(
    data: TrainingData, options: TrainOptions, *, held_out: bool
) -> tuple[TrainingData, TrainingData, TrainingData | None]:
    rest, test = split_by_source(data, options.test_share, options.seed) if held_out else (data, None)
    train, dev = split_by_source(rest, options.dev_share, options.seed)
    return train, dev, test


# -- leaks --------------------------------------------------------------------------------------------------------


def _drop_own_leaks(
    train: TrainingData, parts: Sequence[TrainingData], source: LeakVectorSource | None
) -> tuple[TrainingData, list[str]]:
    """Leave out rows of training that are nearly those of a part that was held out."""
    leaks = [leak for part in parts for leak in _find_leaks(train, part, source)]
    if not leaks:
        return train, []
    rows = count_of(len({leak.left_key for leak in leaks}), "row")
    return drop_leaked(train, leaks), [f"{rows} like those of the dev or test part left out of training."]


def _find_leaks(train: TrainingData, other: TrainingData | Dataset, source: LeakVectorSource | None) -> list[Leak]:
    return find_leaks(train, other, vectors=None if source is None else source.vectors(train, other))


def _check_leaks(
    train: TrainingData, outside: Sequence[Dataset], policy: str, source: LeakVectorSource
) -> tuple[TrainingData, bool, list[str]]:
    """Refuse, drop or allow rows of training that are in a set outside of it."""
    leaks_of = [(dataset.name, _find_leaks(train, dataset, source)) for dataset in outside]
    leaks = [leak for _, several in leaks_of for leak in several]
    if not leaks:
        return train, False, []
    rows = count_of(len({leak.left_key for leak in leaks}), "row")
    if policy == "refuse":
        raise InputError(_leak_message(leaks_of, rows), param="data")
    if policy == "allow":
        return train, True, [f"LEAKED: {rows} of the test or guard sets are trained on."]
    return drop_leaked(train, leaks), False, [f"{rows} of the test or guard sets left out of training."]


def _leak_message(leaks_of: Iterable[tuple[str, Sequence[Leak]]], rows: str) -> str:
    lines = "\n".join(f"{name}:\n{describe_leaks(leaks)}" for name, leaks in leaks_of if leaks)
    return (
        f"{rows} of the training data are in a set that measures the result, so that its figures would say "
        f"nothing. {lines}\nLeave these rows out with --drop-leaks, or train on them with --allow-leaks, which "
        "writes 'leaked' beside every figure."
    )


def _own_corpus(train: TrainingData, held_out: Iterable[TrainingData]) -> TrainingData:
    """Leave out documents of sources that answer held-out queries: as negatives, they would be learnt to be wrong."""
    if not isinstance(train.rows, Retrieval):
        return train
    needed = {key for grades in train.rows.relevant.values() for key in grades}
    excluded = {train.source_of(key) for part in held_out for key in _positives(part)}
    documents = {
        key: text for key, text in train.rows.documents.items() if key in needed or train.source_of(key) not in excluded
    }
    return replace(train, rows=Retrieval(documents, train.rows.queries, train.rows.relevant))


def _positives(data: TrainingData) -> Iterable[str]:
    assert isinstance(data.rows, Retrieval)  # all parts are of one data set
    return (key for grades in data.rows.relevant.values() for key, grade in grades.items() if grade > 0)
