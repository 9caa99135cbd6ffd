"""`train`: fit a model to your data; it is written only if a test shows that it is better."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nearfield.argument_checks import require_kind
from nearfield.errors import InputError, MachineBusy, nearest
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.json_types import JsonDict
from nearfield.fileio.locks import exclusive_lock
from nearfield.fileio.output_path import probe_writing
from nearfield.text_inputs import describe
from nearfield.training.data.loaders import load_training_data
from nearfield.training.fine_tuning.base_model import open_base
from nearfield.training.fine_tuning.options import read_options
from nearfield.training.fine_tuning.preparation import LEAK_POLICIES, PreparedRun, prepare
from nearfield.training.fine_tuning.run_folder import RunFolder
from nearfield.training.fine_tuning.torch_training.models import require_train_extra
from nearfield.training.training_data import TrainingData


def train(
    model: str,
    data: TrainingData | str | Path,
    output: str | Path,
    *,
    shape: str | None = None,
    test: Dataset | str | Path | None = None,
    config: str | Path | None = None,
    leaks: str = "refuse",
    accept_unproved: bool = False,
    accept_license: bool = False,
    report: Callable[[str], None] | None = None,
    **settings: Any,
) -> JsonDict:
    """Fit a model to data: measured before and after, and written only if it is better.

    The work has steps, each of which is stored in a folder beside the output (its name with ``.run``). The same call
    continues after an interruption at any moment. The folder keeps the report: ``report.md``, ``report.html``,
    ``report.json`` and ``curve.png``.

    Args:
        model: full id, short name or alias of the catalogue, id on the Hub, or path of a folder: a dense encoder, a
            SPLADE model, a late-interaction model or a cross-encoder.
        data: rows to learn from, or the path of a file or folder with them.
        output: the folder to write; it must not exist.
        shape: of rows in a file without named columns: ``labels``, ``ranking`` or ``scores``.
        test: the set that decides; by default a part of the data is held out, by its sources.
        config: a ``train.toml``.
        leaks: what to do with rows that the test or a guard set has too: ``refuse``, ``drop`` or ``allow``.
        accept_unproved: write a model whose gain on the test set is not significant.
        accept_license: use a model whose licence does not allow commercial use.
        report: called with a line for people at each step.
        settings: those of ``train.toml``, in place of the file's (see ``options.TrainOptions``).

    Returns:
        A dict that JSON can hold: ``written`` (the path, or None), ``verdict`` (``better``, ``unproved``,
        ``reasons``), ``comparisons`` (``before``, ``after``, ``difference``, ``interval`` and ``p`` of the test set and
        of each guard), ``average``, ``curve``, ``loss``, ``rate``, ``base``, ``notes``, ``options``, ``versions``,
        ``leaked`` and ``run``.

    Raises:
        InputError: data, settings or output are wrong, or a leak was found.
        ModelRefused: the model cannot be trained here.
        TrainingDiverged: the loss is no number.
        MachineBusy: another process works on this run.
        StorageFull: the disk is full.
        MissingExtra: the libraries of training are not installed.
    """
    _require_places(model=model, output=output)
    require_kind("config", config, (str, Path), "the path of a train.toml")
    require_kind("test", test, (str, Path, Dataset), "a data set or its path")
    require_train_extra()
    place = Path(output)
    run = _run_folder(place)
    prepared = prepare_run(
        model, data, shape=shape, test=test, config=config, leaks=leaks, accept_license=accept_license, **settings
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    from nearfield.training.fine_tuning.pipeline import TrainingRun

    say = report or (lambda _line: None)
    with exclusive_lock(run.with_name(f".{run.name}.lock"), partial(_busy, run), required=False, remove=True):
        return TrainingRun(prepared, place, RunFolder(run), report=say, accept_unproved=accept_unproved).run()


def _require_places(**arguments: object) -> None:
    """Raise InputError if one of the arguments is neither a text nor a path."""
    for name, value in arguments.items():
        if not isinstance(value, (str, Path)):
            raise InputError(f"{name} must be a text or a path, and is {describe(value)}.", param=name)


def _busy(run: Path) -> MachineBusy:
    return MachineBusy(f"Another process works on {run}. Wait for it, or name another output.")


def _run_folder(place: Path) -> Path:
    """Return the folder of the run that writes to a place, after a check that both can be created.

    What is refused later leaves no folder.
    """
    if place.name in ("", ".."):
        raise InputError(f"{str(place)!r} names no new folder: give it a name, such as tuned.", param="output")
    run = place.with_name(f"{place.name}.run")
    if os.path.lexists(place) and not (run / "plan.json").is_file():
        raise InputError(f"{place} is there already: name a new folder.", param="output")
    try:
        probe_writing(place.parent)
    except OSError as error:
        raise InputError(f"{place} cannot be written: {error.strerror or error}.", param="output") from error
    return run


def prepare_run(
    model: str,
    data: TrainingData | str | Path,
    *,
    shape: str | None = None,
    test: Dataset | str | Path | None = None,
    config: str | Path | None = None,
    leaks: str = "refuse",
    accept_license: bool = False,
    **settings: Any,
) -> PreparedRun:
    """Return what a run would work with; arguments and errors as for ``train``."""
    if leaks not in LEAK_POLICIES:
        raise InputError(f"leaks cannot be {leaks!r}. {nearest(leaks, LEAK_POLICIES)}", param="leaks")
    options = read_options(None if config is None else Path(config), **settings)
    rows = data if isinstance(data, TrainingData) else load_training_data(data, shape=shape)
    chosen = test if test is None or isinstance(test, Dataset) else load_dataset(Path(test))
    base = open_base(model, accept_license=accept_license)
    return prepare(base, rows, options, test=chosen, leaks=leaks, accept_license=accept_license)
