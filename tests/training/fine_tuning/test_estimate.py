"""The forecast of a run: which texts its measurements encode."""

from types import SimpleNamespace
from typing import Any, cast

from nearfield.evaluation.datasets.dataset import Dataset, PairRows, Retrieval
from nearfield.training.fine_tuning.estimate import _measured_texts

DEV = Dataset("dev", "retrieval", Retrieval({"d": "text", "e": "other"}, {"q": "ask"}, {"q": {"d": 1}}))
TEST = Dataset("test", "sts", PairRows(["a", "b"], ["c", "d"], [0.0, 1.0]))


def texts(steps: int, measurements: int, guards: dict[str, Dataset]) -> int:
    options = SimpleNamespace(measurements=measurements)
    return _measured_texts(cast(Any, SimpleNamespace(dev=DEV, test=TEST, guards=guards, options=options)), steps)


def test_the_dev_set_is_measured_for_the_base_at_steps_and_for_each_share() -> None:
    assert texts(100, 20, {}) == 3 * (1 + 20 + 4) + 2 * 4


def test_a_run_of_few_steps_has_few_measurements() -> None:
    assert texts(5, 20, {}) == 3 * (1 + 5 + 4) + 2 * 4


def test_guard_sets_are_measured_before_and_after() -> None:
    assert texts(5, 20, {"one": TEST, "two": TEST}) == 3 * (1 + 5 + 4) + 2 * 4 * 3
