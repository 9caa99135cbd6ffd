"""Calibration: the costs of a token are solved from timed runs of small random models."""

from __future__ import annotations

import pytest

from nearfield.errors import InputError
from nearfield.evaluation.planning.speed.calibration import Calibration, Clock, WidthTiming, _solve, calibrate
from nearfield.evaluation.planning.speed.model_shapes import ModelShape

MEASURED = Calibration(
    (WidthTiming(384, 1e-5, 1.2e-11, 6e-11), WidthTiming(1024, 2e-5, 1e-11, 5e-11)),
    4e-6,
    8.0,
    100 * 2**20,
    "float32",
    20.0,
    0.9,
)


def test_the_costs_are_solve_for_exactly() -> None:
    shape = ModelShape("", 384, inner=1536)
    token, weight, meeting = 7e-6, 1.3e-11, 4e-11

    def cost(layers: int, tokens: float) -> float:
        return token + layers * (shape.layer_weights * weight + tokens * 384 * meeting)

    runs = {(layers, length): (cost(layers, length), float(length)) for layers, length in ((1, 32), (3, 32), (3, 256))}
    found = _solve(shape, runs)
    assert found.fixed == pytest.approx(token)
    assert found.weight == pytest.approx(weight)
    assert found.meeting == pytest.approx(meeting)
    told = Calibration((found,), 0.0, 4.0, 0, "float32", 0.0)
    assert told.seconds_per_token(ModelShape("", 384, 12, 1536), 100) == pytest.approx(cost(12, 100))


def test_between_widths_costs_lie_between() -> None:
    inner, outer = (MEASURED._at(width)[1] for width in (384, 1024))
    assert outer < MEASURED._at(600)[1] < inner
    assert MEASURED._at(4096) == MEASURED._at(1024) and MEASURED._at(64) == MEASURED._at(384)


@pytest.mark.slow
def test_a_calibration_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.evaluation.planning.speed.calibration._MIN_RUN_TOKENS", 256)
    monkeypatch.setattr("nearfield.evaluation.planning.speed.calibration._RUN_TOKENS", 256)
    stages: list[str] = []
    told = calibrate(widths=(64,), rounds=1, on_stage=stages.append, precision="float32")
    assert stages == ["width 64", "a table of vectors"]
    (width,) = told.widths
    assert width.weight > 0 and told.table > 0 and told.precision == "float32" and told.bytes_per_parameter >= 2
    assert told.share is not None and told.share > 0
    deep, wide = ModelShape("", 64, 12, 256), ModelShape("", 64, 12, 512)
    assert told.tokens_per_second(deep, 64) > told.tokens_per_second(wide, 64)


def test_a_device_of_its_own_is_timed_by_the_wall() -> None:
    assert Clock.for_options({"backend": "torch"}).share is None
    clock = Clock.for_options({"threads": 1})
    with clock.timing() as passed:
        sum(range(200_000))
    assert passed[0] > 0 and clock.share is not None and clock.share > 0


def test_widths_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 32"):
        calibrate(widths=(100,))
