"""Training with sentence-transformers' trainers: the only file that knows them.

Added to them are: batches that were planned before, a dev figure at chosen steps, a stop at a loss that is no number,
and checkpoints that are whole or absent, from which a run continues with the same weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfield.errors import TrainingDiverged
from nearfield.evaluation.json_types import JsonDict
from nearfield.training.fine_tuning.base_model import BaseModel
from nearfield.training.fine_tuning.batches import PlannedBatches
from nearfield.training.fine_tuning.columns import TrainColumns
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve
from nearfield.training.fine_tuning.torch_training.models import (
    TorchModel,
    quiet,
    train_library,
    trainer_classes,
)
from nearfield.training.fine_tuning.torch_training.step_store import CURVE_FILE, StepStore, read_curve
from nearfield.training.fine_tuning.torch_training.trainable_weights import (
    WEIGHTS_FILE,
    load_weights,
    save_weights,
)

#: Measurements of a short run, and the fewest steps between two of them in a longer one: measuring takes time too.
_SHORT_RUN, _APART = 4, 2


@dataclass(frozen=True)
class TrainingJob:
    """What is trained, and how.

    Args:
        model: the live model, with its adapter if one is trained.
        loss: a module of torch.
        base: the model before training.
        columns: what is learnt from.
        plan: row numbers of each batch.
        rate: highest learning rate.
        warmup: share of the steps in which the rate rises.
        batch: rows of a full batch.
        seed: of dropout.
        measurements: of the dev set, at most.
        patience: measurements without a new best one after which training stops.
        measure: returns the dev figure of the live model, in points.
        metric: its name.
        usable: returns whether the weights may be written, after each measurement.
        folder: where checkpoints and the best weights lie.
        report: called with each measurement, and the seconds that are left.
    """

    model: TorchModel
    loss: Any
    base: BaseModel
    columns: TrainColumns
    plan: Sequence[Sequence[int]]
    rate: float
    warmup: float
    batch: int
    seed: int
    measurements: int
    patience: int
    measure: Callable[[], float]
    metric: str
    folder: Path
    usable: Callable[[], bool] = field(default=lambda: True)
    report: Callable[[JsonDict, float], None] = field(default=lambda _point, _left: None)


def best_weights_file(folder: Path, step: int) -> Path:
    """Return the file with the weights of a measured step."""
    return folder / f"best-{step}.safetensors"


def train_steps(job: TrainingJob) -> DevCurve:
    """Train, or continue from the newest checkpoint; return the curve. The best weights are in ``best_weights_file``.

    Raises:
        TrainingDiverged: the loss is no number.
    """
    store = StepStore(job.folder / "steps")
    store.remove_partial()
    newest = store.newest()
    recorder = _Recorder(job, store, _start_curve(job, newest))
    if recorder.is_done:  # interrupted between the last measurement and the next step of the run
        return recorder.curve
    with quiet():
        _build_trainer(job, recorder).train(resume_from_checkpoint=None if newest is None else str(newest))
    return recorder.curve


def _start_curve(job: TrainingJob, newest: Path | None) -> DevCurve:
    if newest is not None:
        return DevCurve.from_dict(read_curve(newest))
    curve = DevCurve(job.metric, job.patience)
    curve.add(0, job.measure(), None, 0.0)
    return curve


class _Recorder:
    """Measures at chosen steps, stores the best weights, and decides when to stop."""

    def __init__(self, job: TrainingJob, store: StepStore, curve: DevCurve) -> None:
        self.job, self.store, self.curve = job, store, curve
        self._losses: list[float] = []
        self._spent = curve.points[-1]["seconds"]
        self._started = time.perf_counter()
        self._steps = _measured_steps(len(job.plan), job.measurements)

    def add_loss(self, loss: float, step: int) -> None:
        """Note the loss of a step.

        Raises:
            TrainingDiverged: it is no number.
        """
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss at step {step + 1} is {loss}: training has diverged, and nothing was written. Lower the "
                f"rate (now {self.job.rate:g}), and look for empty or odd texts in the data."
            )
        self._losses.append(loss)

    def after_step(self, step: int) -> tuple[bool, bool]:
        """Measure if it is time; return whether to save a checkpoint, and whether to stop."""
        if step not in self._steps:
            return False, False
        loss = sum(self._losses) / max(1, len(self._losses))
        self._losses.clear()
        seconds = self._spent + time.perf_counter() - self._started
        if self.curve.add(step, self.job.measure(), loss, seconds, usable=self.job.usable()):
            save_weights(self.job.model, best_weights_file(self.job.folder, step))
        self.job.report(self.curve.points[-1], seconds / step * (len(self.job.plan) - step))
        return True, self.is_done

    @property
    def is_done(self) -> bool:
        """Whether training ends with the last measurement: it was the last step, or nothing more is gained."""
        curve = self.curve
        return curve.points[-1]["step"] >= len(self.job.plan) or curve.stops or curve.fell_at_once

    def finish_checkpoint(self, step: int) -> None:
        """Give a checkpoint its name; what it does not refer to is removed."""
        self.store.finish(step)
        needed = best_weights_file(self.job.folder, self.curve.best["step"])
        for path in self.job.folder.glob("best-*.safetensors"):
            if path != needed:
                path.unlink()

    def write_checkpoint(self, folder: Path) -> None:
        """Write weights and curve into a checkpoint's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.job.model, folder / WEIGHTS_FILE)
        (folder / CURVE_FILE).write_text(json.dumps(self.curve.to_dict()), encoding="utf-8")


def _measured_steps(steps: int, measurements: int) -> frozenset[int]:
    """Return the steps after which the dev set is measured; the last one is among them."""
    count = min(measurements, steps, max(_SHORT_RUN, steps // _APART))
    return frozenset(round(steps * (number + 1) / count) for number in range(count))


def _build_trainer(job: TrainingJob, recorder: _Recorder) -> Any:
    trainer_class, arguments_class = trainer_classes(job.base.kind)
    subclass = _recording_trainer(trainer_class, recorder)
    trainer = subclass(
        model=job.model,
        args=arguments_class(**_arguments(job)),
        train_dataset=_dataset(job.columns),
        loss=job.loss,
        callbacks=[_callback(recorder)],
    )
    for name in ("PrinterCallback", "ProgressCallback"):
        trainer.remove_callback(getattr(train_library("transformers.trainer_callback"), name))
    return trainer


def _arguments(job: TrainingJob) -> JsonDict:
    prompts = {column: job.base.prompts[role] for column, role in job.columns.roles.items()}
    return {
        "output_dir": str(job.folder / "steps"),
        "max_steps": len(job.plan),
        "per_device_train_batch_size": job.batch,
        "learning_rate": job.rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(job.warmup * len(job.plan)),
        "seed": job.seed,
        "batch_sampler": lambda *_, **__: PlannedBatches(job.plan, job.batch),
        "prompts": {column: prompt for column, prompt in prompts.items() if prompt},
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _dataset(columns: TrainColumns) -> Any:
    values: dict[str, Sequence[object]] = {name: list(column) for name, column in columns.texts.items()}
    labels: Mapping[str, Sequence[object]] = {"label": list(columns.labels)} if columns.labels else {}
    return train_library("datasets").Dataset.from_dict({**values, **labels})


def _recording_trainer(trainer_class: Any, recorder: _Recorder) -> Any:
    class RecordingTrainer(trainer_class):  # type: ignore[misc]
        """A trainer whose checkpoints hold the trained weights alone, and that writes no card."""

        def training_step(self, *args: Any, **options: Any) -> Any:
            loss = super().training_step(*args, **options)
            recorder.add_loss(float(loss), self.state.global_step)
            return loss

        def add_model_card_callback(self, _: Any) -> None:
            """Add none: Nearfield writes the card."""

        def _save(self, output_dir: str | None = None, **_: Any) -> None:
            recorder.write_checkpoint(Path(output_dir or self.args.output_dir))

        def _load_from_checkpoint(self, path: str, **_: Any) -> None:
            load_weights(self.model, Path(path) / WEIGHTS_FILE)

    return RecordingTrainer


def _callback(recorder: _Recorder) -> Any:
    class RecordingCallback(train_library("transformers").TrainerCallback):  # type: ignore[misc]
        """Calls the recorder after each step, and gives a written checkpoint its name."""

        def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
            save, stop = recorder.after_step(state.global_step)
            control.should_save, control.should_training_stop = save, control.should_training_stop or stop
            return control

        def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            recorder.finish_checkpoint(state.global_step)

    return RecordingCallback()
