"""Whole runs of tiny models: better ones are written and read by others; the rest leaves the base alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.errors import InputError, MachineBusy, ModelRefused, TrainingDiverged
from nearfield.evaluation.datasets.dataset import Dataset
from nearfield.fileio.locks import release_lock, try_lock
from nearfield.training.fine_tuning.evaluation_sets import test_set as held_out_set
from nearfield.training.fine_tuning.torch_training import trainer
from nearfield.training.fine_tuning.torch_training.dev_curve import DevCurve
from nearfield.training.fine_tuning.train import train
from tests.parity import static
from tests.parity.scores import classifier
from tests.support.tiny_training import labelled_rows, ranking_rows, scored_rows, tiny_base

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]
#: Settings with which a tiny model learns topics in some steps.
QUICK: Mapping[str, Any] = {
    "rate": 8e-3,
    "batch": 16,
    "epochs": 3,
    "measurements": 5,
    "test_share": 0.3,
    "patience": 20,
}
TEXTS = ["bade bafi", "ku la", "sate poru goku"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "base", prompts={"query": "ba de ", "document": ""})


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the result of a run on labels."""
    return train(str(base), labelled_rows(), tmp_path_factory.mktemp("tuned") / "tuned", **QUICK)


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def test_a_better_model_is_written_with_its_proof(tuned: dict[str, Any]) -> None:
    assert tuned["verdict"]["better"]
    test = tuned["comparisons"]["test"]
    assert test["difference"] > 0
    assert test["interval"][0] > 0
    card = (Path(tuned["written"]) / "README.md").read_text(encoding="utf-8")
    assert f"{test['before']:.2f} | {test['after']:.2f}" in card
    facts = json.loads((Path(tuned["written"]) / "training.json").read_text(encoding="utf-8"))
    assert facts["data"]["data"] == labelled_rows().digest


def test_the_written_folder_gives_the_same_vectors_in_both_libraries(tuned: dict[str, Any], base: Path) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = np.asarray(SentenceTransformer(tuned["written"], device="cpu").encode_query(TEXTS))
    with Encoder(tuned["written"], precision="float32", compile_cache=False) as encoder:
        ours = np.asarray(encoder.encode(TEXTS, role="query"))
        fingerprint = encoder.fingerprint
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with Encoder(str(base), precision="float32", compile_cache=False) as encoder:
        assert encoder.fingerprint != fingerprint


def test_the_folder_has_the_layout_of_its_base(tuned: dict[str, Any], base: Path) -> None:
    written = Path(tuned["written"])
    assert (written / "modules.json").read_text() == (base / "modules.json").read_text()
    added = {path.name for path in written.iterdir()} - {path.name for path in base.iterdir()}
    assert added == {"README.md", "training.json"}
    assert {path.stat().st_mode & 0o777 for path in written.iterdir() if path.is_file()} == {
        written.stat().st_mode & 0o666
    }


def test_the_run_folder_has_report_and_curve(tuned: dict[str, Any]) -> None:
    run = Path(tuned["run"])
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")
    assert "| test | accuracy |" in (run / "report.md").read_text(encoding="utf-8")


def test_the_same_command_again_reads_the_result(tuned: dict[str, Any], base: Path) -> None:
    again = train(str(base), labelled_rows(), tuned["written"], **QUICK)
    assert again["comparisons"] == tuned["comparisons"]


def test_a_kill_between_the_last_two_steps_loses_nothing(tuned: dict[str, Any], base: Path) -> None:
    run, written = Path(tuned["run"]), Path(tuned["written"])
    written.rename(run / "candidate")
    (run / "report.json").unlink()
    again = train(str(base), labelled_rows(), written, **QUICK)
    assert again["written"] == str(written)
    assert (written / "README.md").is_file()


def test_checkpoints_are_removed_at_the_end(tuned: dict[str, Any]) -> None:
    left = {path.name for path in Path(tuned["run"]).iterdir()}
    assert "steps" not in left
    assert not any(name.startswith("best-") for name in left)
    beside = {path.name for path in Path(tuned["run"]).parent.iterdir()}
    assert beside == {"tuned", "tuned.run"}  # no lock


def test_other_data_in_the_same_place_is_refused(tuned: dict[str, Any], base: Path) -> None:
    with pytest.raises(InputError, match=r"another run \(digests\.data"):
        train(str(base), labelled_rows(seed=1), tuned["written"], **QUICK)


def test_shuffled_labels_write_nothing(base: Path, tmp_path: Path) -> None:
    result = train(str(base), labelled_rows(shuffled=True), tmp_path / "tuned", **{**QUICK, "epochs": 1})
    assert result["written"] is None
    assert not result["verdict"]["better"]
    assert not (tmp_path / "tuned").exists()
    assert "Not better: nothing was written." in (tmp_path / "tuned.run" / "report.md").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_weights_after_an_interruption(
    base: Path, tuned: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, calls = trainer._Recorder.finish_checkpoint, []

    def interrupt(self: Any, step: int) -> None:
        finish(self, step)
        calls.append(step)
        if len(calls) in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer._Recorder, "finish_checkpoint", interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(str(base), labelled_rows(), tmp_path / "tuned", **QUICK)
    result = train(str(base), labelled_rows(), tmp_path / "tuned", **QUICK)
    steps = [(point["step"], point["dev"], point["loss"]) for point in result["curve"]["points"]]
    assert steps == [(point["step"], point["dev"], point["loss"]) for point in tuned["curve"]["points"]]
    expected = weights_of(Path(tuned["written"]))
    for name, tensor in weights_of(tmp_path / "tuned").items():
        np.testing.assert_allclose(tensor, expected[name], atol=1e-6)


def test_a_run_that_stopped_early_and_was_interrupted_does_not_train_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DevCurve, "stops", property(lambda curve: len(curve.points) >= 3))
    finish = trainer._Recorder.finish_checkpoint

    def interrupt(self: Any, step: int) -> None:
        finish(self, step)
        if self.is_done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Recorder, "finish_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(str(base), labelled_rows(), tmp_path / "tuned", **QUICK)
    result = train(str(base), labelled_rows(), tmp_path / "tuned", **QUICK)
    assert len(result["curve"]["points"]) == 3


def test_an_adapter_is_written_for_peft_and_served_beside_its_base(base: Path, tmp_path: Path) -> None:
    options = {**QUICK, "rate": 2e-2, "adapter": 8}
    result = train(str(base), labelled_rows(), tmp_path / "adapter", accept_unproved=True, **options)
    assert result["written"], result["verdict"]
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(base), device="cpu")
    model[0].model = PeftModel.from_pretrained(model[0].model, str(tmp_path / "adapter"))
    expected = np.asarray(model.encode(TEXTS))
    with Encoder(
        str(base), adapters={"mine": tmp_path / "adapter"}, precision="float32", compile_cache=False
    ) as encoder:
        np.testing.assert_allclose(np.asarray(encoder.encode(TEXTS, adapter="mine")), expected, atol=1e-5)
        assert np.abs(np.asarray(encoder.encode(TEXTS)) - expected).max() > 1e-3


def test_a_ranking_is_learnt_with_mined_negatives(base: Path, tmp_path: Path) -> None:
    result = train(str(base), ranking_rows(), tmp_path / "tuned", negatives=1, **QUICK)
    mined = json.loads((tmp_path / "tuned.run" / "mined.json").read_text(encoding="utf-8"))
    assert mined["rows"] > 50
    assert "too close to an answer" in (tmp_path / "tuned.run" / "report.md").read_text(encoding="utf-8")
    assert result["loss"]["name"] == "mnrl"
    assert result["curve"]["metric"] == "nDCG@10"


def test_scored_pairs_are_learnt(base: Path, tmp_path: Path) -> None:
    result = train(str(base), scored_rows(), tmp_path / "tuned", **QUICK)
    assert result["loss"]["name"] == "cosent"
    assert result["curve"]["points"][-1]["loss"] < result["curve"]["points"][1]["loss"]


def test_a_cruel_rate_trips_the_guard_or_the_dev_set(base: Path, tmp_path: Path) -> None:
    result = train(str(base), labelled_rows(), tmp_path / "tuned", **{**QUICK, "rate": 0.1, "epochs": 1})
    assert result["written"] is None


def test_a_loss_that_is_no_number_stops_the_run(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_loss = trainer._Recorder.add_loss
    monkeypatch.setattr(trainer._Recorder, "add_loss", lambda self, _loss, step: add_loss(self, float("nan"), step))
    with pytest.raises(TrainingDiverged, match="The loss at step 1 is nan: training has diverged"):
        train(str(base), labelled_rows(), tmp_path / "tuned", **QUICK)
    assert not (tmp_path / "tuned").exists()


def test_a_test_that_is_the_training_data_is_refused(base: Path, tmp_path: Path) -> None:
    data = ranking_rows()
    test = Dataset("test", "retrieval", data.rows)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"160 rows of the training data are in a set that measures the result"):
        train(str(base), data, tmp_path / "tuned", test=test)


def test_leaked_rows_can_be_left_out(base: Path, tmp_path: Path) -> None:
    data = labelled_rows()
    other = held_out_set(labelled_rows(60, seed=5), data, "dense", 1)
    mixed = labelled_rows(seed=0)
    rows = mixed.rows
    leaked = type(mixed)(
        "topics",
        type(rows)([*rows.texts, *other.rows.test.texts[:7]], [*rows.labels, *other.rows.test.labels[:7]]),  # type: ignore
    )
    with pytest.raises(InputError, match="7 rows of the training data"):
        train(str(base), leaked, tmp_path / "tuned", test=other, **QUICK)
    result = train(str(base), leaked, tmp_path / "tuned", test=other, leaks="drop", **{**QUICK, "epochs": 1})
    assert any("7 rows of the test or guard sets left out" in note for note in result["notes"])


def test_too_few_rows_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="topics has 12 rows: too few to train and to measure"):
        train(str(base), labelled_rows(12), tmp_path / "tuned")


def test_arguments_of_a_wrong_type_are_named(base: Path, tmp_path: Path) -> None:
    good: dict[str, Any] = {"model": str(base), "data": labelled_rows(12), "output": tmp_path / "tuned"}
    for name, value in (("model", 5), ("output", None), ("config", 5), ("test", 5)):
        with pytest.raises(InputError, match=f"^{name} must be "):
            train(**{**good, name: value})


def test_a_place_that_is_taken_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already: name a new folder"):
        train(str(base), labelled_rows(), tmp_path)


@pytest.mark.parametrize("name", ["/", ".", ".."])
def test_an_output_without_a_name_is_refused(base: Path, name: str) -> None:
    with pytest.raises(InputError, match="names no new folder"):
        train(str(base), labelled_rows(), name)


def test_an_output_below_a_file_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written: "):
        train(str(base), labelled_rows(), tmp_path / "file" / "tuned")


def test_a_run_of_another_process_is_not_disturbed(base: Path, tmp_path: Path) -> None:
    lock = try_lock(tmp_path / ".tuned.run.lock")
    assert lock is not None
    try:
        with pytest.raises(MachineBusy, match="Another process works on"):
            train(str(base), labelled_rows(), tmp_path / "tuned")
    finally:
        release_lock(lock)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (static.table, "it looks up static vectors"),
        (classifier("bert", labels=3), "it is a classifier of 3 labels"),
    ],
)
def test_models_of_other_kinds_are_refused(write: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=f"cannot be trained here: {message}"):
        train(str(write(tmp_path / "model")), labelled_rows(), tmp_path / "tuned")
