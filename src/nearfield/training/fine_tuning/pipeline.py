"""The order of work of a training run. Each step is stored, so that the same command continues after a kill.

read, split and check for leaks · measure the base · mine negatives · train · average with the base · test once ·
decide · write, open again and compare · card.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nearfield.errors import InputError
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.json_types import JsonDict
from nearfield.fileio.disk_space import explain_full_disk
from nearfield.message_text import count_of
from nearfield.training.fine_tuning import figures, negatives
from nearfield.training.fine_tuning.batches import plan_batches
from nearfield.training.fine_tuning.columns import TrainColumns, build_columns
from nearfield.training.fine_tuning.figures import Verdict, open_system
from nearfield.training.fine_tuning.options import resolve_rate
from nearfield.training.fine_tuning.preparation import PreparedRun
from nearfield.training.fine_tuning.report import card, pages
from nearfield.training.fine_tuning.run_folder import RunFolder, library_versions
from nearfield.training.fine_tuning.torch_training import (
    adapters,
    loss_functions,
    reading_check,
    row_checks,
    saved_model,
)
from nearfield.training.fine_tuning.torch_training import trainable_weights as weights
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve
from nearfield.training.fine_tuning.torch_training.live_model import LiveModel, live_system
from nearfield.training.fine_tuning.torch_training.models import (
    TorchModel,
    open_torch_model,
    reading_whole_texts,
    train_library,
)
from nearfield.training.fine_tuning.torch_training.share_choice import SHARES, ShareChoice, choose_share
from nearfield.training.fine_tuning.torch_training.trainer import TrainingJob, best_weights_file, train_steps
from nearfield.units import format_bytes

#: Share by which the number of weights of sparse vectors may change: denser ones cost more in every search.
MAX_DENSITY_CHANGE = 0.3
#: Copies of the base's weights that a run writes at most: checkpoint, its two moments, best weights, and the result.
_COPIES = 8
_CANDIDATE = "candidate"

#: Losses for which the other rows of a batch are negatives.
_IN_BATCH = ("mnrl", "cached-mnrl", "gist", "label")

Report = Callable[[str], None]


class TrainingRun:
    """One run, from prepared data to a written model or to the reasons why none was written.

    Args:
        prepared: data, base and settings.
        output: the folder to write.
        folder: the run's own folder.
        report: called with a line for people at each step.
        accept_unproved: write a model whose gain on the test set is not significant.
    """

    def __init__(
        self, prepared: PreparedRun, output: Path, folder: RunFolder, *, report: Report, accept_unproved: bool = False
    ) -> None:
        self.prepared, self.output, self.folder, self.report = prepared, output, folder, report
        self.base, self.options = prepared.base, prepared.options
        self.accept_unproved = accept_unproved
        self.rate = resolve_rate(self.base.weight_bytes, self.options)
        #: Weights of a sparse vector at each measurement, the base's first.
        self.densities: list[float] = []

    def run(self) -> JsonDict:
        """Do what is left to do; return the result: verdict, figures, and where the model was written."""
        self._bind()
        with explain_full_disk(self.folder.path), weights.explain_weight_files(self.folder.path):
            base = self.folder.step("base", self._measure_base)
            self._report_base(base)
            mined = self.folder.step("mined", self._mine)
            curve = self._train(mined)
            share = self.folder.step("average", lambda: self._average(curve, base))
            comparisons = self._test(base, share)
            verdict = self._judge(curve, comparisons)
            written = self._write(verdict, comparisons, curve, share)
            return self._finish(verdict, comparisons, curve, share, written)

    def _bind(self) -> None:
        plan = {
            "base": self.base.to_dict(),
            "digests": self.prepared.digests,
            "leaked": self.prepared.leaked,
            "options": self.options.to_dict(),
            "loss": self.prepared.loss.name,
            "rate": self.rate,
            "versions": library_versions(),
        }
        if self.folder.bind(plan):
            self.report(f"Continuing the run in {self.folder.path}.")
        free = shutil.disk_usage(self.folder.path).free
        needed = _COPIES * self.base.weight_bytes
        if free < needed:
            raise InputError(
                f"{self.folder.path}: {format_bytes(free)} are free, and a run of {self.base.name} writes up to "
                f"{format_bytes(needed)}. Free some space, or name another output.",
                param="output",
            )

    # -- steps ----------------------------------------------------------------------------------------------------

    def _measure_base(self) -> JsonDict:
        self.report("Measuring the base")
        with open_system(self.base) as system:
            return figures.measure_sets(system, {"test": self.prepared.test, **self.prepared.guards}, self.options.seed)

    def _report_base(self, base: Mapping[str, Any]) -> None:
        for name, result in base.items():
            low, high = result["interval"]
            self.report(f"  {name}: {result['main']} {result['score']:.2f} (95%: {low:.2f} to {high:.2f})")
        note = figures.ceiling_note(base["test"])
        if note:
            self.report(f"  {note}")

    def _mine(self) -> JsonDict:
        if negatives.wants_mining(self.prepared):
            self.report(f"Mining {count_of(self.options.negatives, 'negative')} for each query")
        mined = negatives.mine(self.prepared, self.folder.path)
        if "scored" in mined:
            left_out = mined["counts"].get("left_out", {}).get("teacher", 0)
            self.report(f"  {mined['teacher']} scored {mined['scored']} pairs, and left {left_out} negatives out")
        return mined

    def _columns(self, mined: JsonDict) -> TrainColumns:
        data = negatives.with_mined(self.prepared.data, self.folder.path, mined)
        return build_columns(
            data,
            self.prepared.loss.name,
            negatives=self.options.negatives,
            pairs_per_class=self.options.pairs_per_class,
            seed=self.options.seed,
        )

    def _open_live(self) -> TorchModel:
        train_library("torch").manual_seed(self.options.seed)
        model = open_torch_model(self.base, max_length=self.options.max_length)
        if self.options.adapter:
            adapters.add_adapter(model, self.options.adapter, self.options.seed)
        return model

    def _dev_figure(self, model: TorchModel) -> float:
        system = live_system(model, self.base)
        result = evaluate(system, self.prepared.dev, samples=0, worst=0, seed=self.options.seed)
        if isinstance(system, LiveModel):
            self.densities.append(system.mean_active)
        return float(result["score"])

    def _has_density_of_base(self) -> bool:
        """Return whether sparse vectors have about as many weights as the base's; True for other kinds."""
        if self.base.kind != "sparse":
            return True
        return abs(self.densities[-1] / self.densities[0] - 1) <= MAX_DENSITY_CHANGE

    def _train(self, mined: JsonDict) -> DevCurve:
        known = self.folder.read("trained")
        if known is not None:
            return DevCurve.from_dict(known)
        columns = self._columns(mined)
        plan = plan_batches(columns, self.options.batch, self.options.epochs, self.options.seed)
        for reason, count in columns.left_out.items():
            self.report(f"  left out: {count} {reason}")
        self.report(
            f"Training: {len(columns)} rows, {len(plan)} steps, loss {self.prepared.loss.name}, rate {self.rate:g}"
        )
        model = self._open_live()
        self._check_reading(model)
        self._check_rows(model, columns, plan)
        if self.base.kind == "sparse":
            self._dev_figure(model)  # the base's density comes first, also where a run continues
        curve = train_steps(self._job(model, columns, plan))
        self.folder.write("trained", curve.to_dict())
        return curve

    def _check_reading(self, model: TorchModel) -> None:
        texts = reading_check.checked_texts(self.prepared.dev)
        with open_system(self.base) as system:
            reading_check.check_tokens(model, system, self.base, texts)
            reading_check.check_base(model, system, self.base, texts)

    def _check_rows(self, model: TorchModel, columns: TrainColumns, plan: list[list[int]]) -> None:
        """Say how easy the rows are for the base, and how many texts are cut off; refuse rows that teach nothing."""
        live = live_system(model, self.base)
        if not isinstance(live, LiveModel) or self.base.kind != "dense":
            return
        cut = row_checks.cut_share(live, columns, self.options.seed)
        if cut:
            self.report(
                f"  {100 * cut:.0f}% of the texts are longer than {model.max_seq_length} tokens, and are cut off"
            )
        if self.prepared.loss.name in _IN_BATCH:
            easy = row_checks.easy_share(live, columns, plan, self.options.seed)
            self.report(f"  In {100 * easy:.0f}% of the rows the base already puts the positive clearly first")

    def _job(self, model: TorchModel, columns: TrainColumns, plan: list[list[int]]) -> TrainingJob:
        options = self.options
        return TrainingJob(
            model=model,
            loss=loss_functions.build_loss(self.prepared.loss.name, model, self.base, options),
            base=self.base,
            columns=columns,
            plan=plan,
            rate=self.rate,
            warmup=options.warmup,
            batch=options.batch,
            seed=options.seed,
            measurements=options.measurements,
            patience=options.patience,
            measure=lambda: self._dev_figure(model),
            metric=_metric(self.prepared),
            folder=self.folder.path,
            usable=self._has_density_of_base,
            report=self._report_point,
        )

    def _report_point(self, point: JsonDict, left: float) -> None:
        self.report(
            f"  step {point['step']}: loss {point['loss']:.4f}, dev {point['dev']:.2f}, about {left / 60:.1f} min left"
        )

    def _average(self, curve: DevCurve, measured: JsonDict) -> JsonDict:
        """Choose the share of the trained weights on the dev set and the guard sets, and write the candidate."""
        best = curve.best
        if best["step"] == 0:
            return {"share": 0.0, "dev": {}, "step": 0}
        model = self._open_live()
        base = {name: tensor.clone() for name, tensor in weights.trained_tensors(model).items()}
        tuned = train_library("safetensors.torch").load_file(best_weights_file(self.folder.path, best["step"]))
        dev = {}
        for share in SHARES if self.options.average == "dev" else (float(self.options.average),):
            weights.apply_share(model, base, tuned, share)
            dev[share] = self._dev_figure(model)

        def falls(share: float) -> dict[str, float]:
            weights.apply_share(model, base, tuned, share)
            return self._guard_falls(model, measured)

        choice = choose_share(dev, curve.points[0]["dev"], falls, self.options.max_fall)
        weights.apply_share(model, base, tuned, choice.share)
        self._report_share(choice, dev)
        candidate = self.folder.path / _CANDIDATE
        sizes = self.options.matryoshka
        saved_model.write_model(model, self.base, candidate, adapter=bool(self.options.adapter), matryoshka=sizes)
        read = reading_check.check_written(model, self.base, candidate, reading_check.checked_texts(self.prepared.dev))
        figures_of = {str(share): value for share, value in dev.items()}
        fell = {str(share): dict(sets) for share, sets in choice.falls.items()}
        first = {"share": choice.share, "dev": figures_of, "guard_falls": fell}
        return {**first, "step": best["step"], "base_dev": curve.points[0]["dev"], "read": read}

    def _guard_falls(self, model: TorchModel, measured: JsonDict) -> dict[str, float]:
        """Return by how many points each guard set is below the base with the present weights."""
        system, falls = live_system(model, self.base), {}
        with reading_whole_texts(model, self.base):
            for name, dataset in self.prepared.guards.items():
                result = evaluate(system, dataset, samples=0, worst=0, seed=self.options.seed)
                falls[name] = float(measured[name]["score"]) - float(result["score"])
        return falls

    def _report_share(self, choice: ShareChoice, dev: Mapping[float, float]) -> None:
        self.report(f"Averaging with the base: {choice.share:g} of the trained weights, dev {dev[choice.share]:.2f}")
        for share, sets in choice.falls.items():
            for name, fall in sets.items():
                if fall > self.options.max_fall:
                    self.report(f"  with {share:g} of them, {name} falls by {fall:.2f} points")

    def _test(self, base: JsonDict, share: JsonDict) -> JsonDict:
        if share["share"] == 0 or max(share["dev"].values()) <= share["base_dev"]:
            return {}
        tuned = self.folder.step("tuned", self._measure_tuned)
        return figures.compare_sets(base, tuned, self.options.seed)

    def _measure_tuned(self) -> JsonDict:
        self.report("Testing once")
        with open_system(self.base, self.folder.path / _CANDIDATE) as system:
            return figures.measure_sets(system, {"test": self.prepared.test, **self.prepared.guards}, self.options.seed)

    def _judge(self, curve: DevCurve, comparisons: JsonDict) -> Verdict:
        if comparisons:
            return figures.judge(comparisons, self.options.max_fall)
        return Verdict(False, False, [_no_gain(curve, self.rate)])

    # -- the result -----------------------------------------------------------------------------------------------

    def _write(self, verdict: Verdict, comparisons: JsonDict, curve: DevCurve, share: JsonDict) -> Path | None:
        """Move the candidate to the output; its card is written first, so that no half-written folder is ever there."""
        if not (verdict.better or (verdict.unproved and self.accept_unproved)):
            return None
        candidate = self.folder.path / _CANDIDATE
        if candidate.exists():
            card.write_card(candidate, self.prepared, comparisons, curve, share, verdict)
            self._move(candidate)
        if not self.output.exists():
            raise InputError(
                f"{self.output} was written by this run and is not there any more. Remove {self.folder.path} to train "
                "again, or name another output.",
                param="output",
            )
        return self.output

    def _move(self, candidate: Path) -> None:
        if os.path.lexists(self.output):
            raise InputError(
                f"{self.output} is there already, and was not when this run began. Move it away, and run the command "
                f"again: the trained model waits in {candidate}.",
                param="output",
            )
        candidate.rename(self.output)

    def _finish(
        self, verdict: Verdict, comparisons: JsonDict, curve: DevCurve, share: JsonDict, written: Path | None
    ) -> JsonDict:
        result = {
            "written": None if written is None else str(written),
            "run": str(self.folder.path),
            "verdict": verdict.to_dict(),
            "leaked": self.prepared.leaked,
            "base": self.base.to_dict(),
            "loss": {"name": self.prepared.loss.name, "reason": self.prepared.loss.reason},
            "rate": self.rate,
            "mined": self.folder.read("mined"),
            "average": share,
            "comparisons": comparisons,
            "curve": curve.to_dict(),
            "notes": list(self.prepared.notes),
            "options": self.options.to_dict(),
            "versions": library_versions(),
        }
        self.folder.write("report", result)
        pages.write_pages(self.folder.path, result)
        self._remove_checkpoints()
        return result

    def _remove_checkpoints(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self.folder.path / "steps", ignore_errors=True)
        for path in self.folder.path.glob("best-*.safetensors"):
            path.unlink()


def _metric(prepared: PreparedRun) -> str:
    return {"retrieval": "nDCG@10", "reranking": "MAP", "sts": "Spearman", "pairs": "AP"}[prepared.dev.task]


def _no_gain(curve: DevCurve, rate: float) -> str:
    start, best = curve.points[0]["dev"], max(point["dev"] for point in curve.points[1:])
    numbers = f"{start:.2f} before, at best {best:.2f}"
    sentence = f"The dev figure ({curve.metric}) did not rise: {numbers}. The test set was not used."
    if curve.fell_at_once:
        return (
            f"{sentence} It fell from the first steps on: the rate ({rate:g}) is too high, or the data contradict it."
        )
    return sentence
