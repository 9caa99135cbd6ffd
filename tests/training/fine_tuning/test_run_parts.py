"""Parts of a run without torch: curve, checkpoints, the folder of a run, verdict, and models that cannot be trained."""

import json
from pathlib import Path

import pytest
from safetensors import SafetensorError

from nearfield.errors import InputError, ModelRefused, StorageFull
from nearfield.fileio.disk_space import explain_full_disk
from nearfield.testing import write_tiny_model
from nearfield.training.fine_tuning.base_model import open_base
from nearfield.training.fine_tuning.figures import ceiling_note, judge
from nearfield.training.fine_tuning.run_folder import RunFolder
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve
from nearfield.training.fine_tuning.torch_training.step_store import StepStore
from nearfield.training.fine_tuning.torch_training.trainable_weights import explain_weight_files


def curve(*figures: float, patience: int = 3) -> DevCurve:
    result = DevCurve("nDCG@10", patience)
    for step, figure in enumerate(figures):
        result.add(step, figure, None, 0.0)
    return result


def test_a_curve_stops_after_measurements_without_a_new_best_one() -> None:
    assert not curve(50, 52, 51, 51).stops
    assert curve(50, 52, 51, 51, 52).stops  # an equal one is no new best
    assert curve(50, 52, 51, 51, 52).best["step"] == 1


def test_a_curve_that_falls_at_once_says_so() -> None:
    assert curve(50, 48, 45, 40).fell_at_once
    assert not curve(50, 48, 51, 40).fell_at_once
    assert not curve(50, 48, 45).fell_at_once


def test_a_curve_survives_json() -> None:
    values = json.loads(json.dumps(curve(50, 52).to_dict()))
    assert DevCurve.from_dict(values) == curve(50, 52)


def test_checkpoints_are_whole_or_absent(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    assert store.newest() is None
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text(str(step))
        store.finish(step)
    (tmp_path / "checkpoint-11").mkdir()
    newest = StepStore(tmp_path).newest()
    assert newest == tmp_path / "step-10"
    store.remove_partial()
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]


def test_a_step_that_is_written_again_replaces_the_first(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    for content in ("old", "new"):
        (tmp_path / "checkpoint-3").mkdir()
        (tmp_path / "checkpoint-3" / "weights").write_text(content)
        store.finish(3)
    assert (tmp_path / "step-3" / "weights").read_text() == "new"


def test_a_run_continues_with_the_same_plan_alone(tmp_path: Path) -> None:
    plan = {"digests": {"data": "abc"}, "options": {"rate": 1e-5, "guard": ("a",)}}
    assert not RunFolder(tmp_path / "run").bind(plan)
    assert RunFolder(tmp_path / "run").bind(plan)
    changed = {"digests": {"data": "abd"}, "options": {"rate": 2e-5, "guard": ("a",)}}
    with pytest.raises(InputError, match=r"another run \(digests.data abc → abd, options.rate 1e-05 → 2e-05\)"):
        RunFolder(tmp_path / "run").bind(changed)


def test_a_step_is_computed_once(tmp_path: Path) -> None:
    folder, calls = RunFolder(tmp_path / "run"), []

    def compute() -> dict[str, int]:
        calls.append(1)
        return {"value": 3}

    assert folder.step("base", compute) == folder.step("base", compute) == {"value": 3}
    assert len(calls) == 1


def test_a_folder_whose_plan_was_being_written_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".plan.json.partial").write_text("{")
    assert not RunFolder(tmp_path / "run").bind({"options": {}})


def test_a_damaged_step_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run" / "base.json").write_text('{"test": ')
    with pytest.raises(InputError, match=r"base\.json is damaged .* Remove .*run to begin again"):
        folder.read("base")


@pytest.mark.parametrize(
    ("reason", "error"), [("File too large (os error 27)", OSError), ("No space left on device", StorageFull)]
)
def test_weights_that_cannot_be_written_are_one_sentence(tmp_path: Path, reason: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=reason.split(" (")[0]), explain_full_disk(tmp_path), explain_weight_files(tmp_path):
        raise SafetensorError(f"I/O error: {reason}")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="no folder of a training run"):
        RunFolder(tmp_path / "photos")


# -- verdict -----------------------------------------------------------------------------------------------------------


def row(difference: float, *, significant: bool = False) -> dict[str, object]:
    p = 0.001 if significant else 0.4
    figures = {"metric": "accuracy", "before": 50.0, "after": 50.0 + difference, "difference": difference}
    return {**figures, "interval": [difference - 1, difference + 1], "p": p, "significant": significant}


def test_a_significant_gain_without_a_fallen_guard_is_better() -> None:
    verdict = judge({"test": row(4, significant=True), "stsb": row(-0.5, significant=True)}, 1.0)
    assert verdict.better
    assert "rose from 50.00 to 54.00: +4.00 points, 95% interval +3.00 to +5.00" in verdict.reasons[0]


def test_a_guard_that_fell_forbids_writing() -> None:
    verdict = judge({"test": row(4, significant=True), "stsb": row(-2.5)}, 1.0)
    assert (verdict.better, verdict.unproved) == (False, False)
    assert verdict.reasons == ["stsb fell from 50.00 to 47.50, by 2.50 points; 1 are allowed."]


def test_a_gain_that_may_be_chance_is_unproved() -> None:
    verdict = judge({"test": row(0.5)}, 1.0)
    assert (verdict.better, verdict.unproved) == (False, True)
    assert "may be chance" in verdict.reasons[0]


def test_a_gain_that_may_be_chance_with_a_fallen_guard_cannot_be_accepted() -> None:
    assert not judge({"test": row(0.5), "stsb": row(-2.5)}, 1.0).unproved


def test_a_loss_is_not_better_and_not_unproved() -> None:
    verdict = judge({"test": row(-0.5)}, 1.0)
    assert (verdict.better, verdict.unproved) == (False, False)


def test_a_base_that_finds_nearly_all_is_noted() -> None:
    assert ceiling_note({"metrics": {"recall@10": 98.2}}) == (
        "The base finds 98.2% of what is relevant among the first 10 (recall@10): little can be gained."
    )
    assert ceiling_note({"metrics": {"recall@10": 90.0}}) is None
    assert ceiling_note({"metrics": {"accuracy": 99.0}}) is None


# -- models that cannot be trained -------------------------------------------------------------------------------------


def test_a_dense_model_can_be_trained_with_the_prompts_of_its_roles(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", prompts={"query": "search: ", "document": "text: "})
    base = open_base(str(folder))
    assert base.kind == "dense"
    assert base.prompts == {"query": "search: ", "document": "text: ", "symmetric": ""}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.gguf", "its weights are in a GGUF file. Train the model that it was converted from"),
        ("onnx/model.onnx", "has no weights .*It has onnx/model.onnx: that format is not read"),
    ],
)
def test_a_folder_without_weights_to_train_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelRefused, match=reason):
        open_base(str(folder))
