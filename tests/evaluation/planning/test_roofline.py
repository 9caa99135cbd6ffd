"""The roofline: arithmetic by hand, properties on each machine, and published figures that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.errors import InputError
from nearfield.evaluation.planning.speed import roofline
from nearfield.evaluation.planning.speed.machines import Machine, read_machines
from nearfield.evaluation.planning.speed.model_shapes import ModelShape
from nearfield.evaluation.planning.speed.number_sources import NumberSource
from nearfield.evaluation.planning.speed.published_speeds import (
    PublishedSpeed,
    estimate_ratio,
    is_within_error,
    read_published_speeds,
)
from nearfield.evaluation.planning.speed.roofline import MachineSpeed, flops_per_token
from nearfield.evaluation.planning.speed.speed_model import SpeedModel
from tests.support.paths import ROOT

TABLE = read_machines()
PUBLISHED = read_published_speeds()
CHECKS = [row for row in PUBLISHED if row.use == "check"]
BASE = ModelShape("BERT-base", 768, 12, 3072, 30_522)
SOURCE = NumberSource("a page", "2026-01-02", "vendor", "https://example.org")
CARD = Machine("card", "gpu", 2**33, 1e12, 4, {"float32": 1e13, "float16": 4e13}, SOURCE)


def _ratio(row: PublishedSpeed) -> float:
    return estimate_ratio(row, TABLE)


def _hits(rows: Sequence[PublishedSpeed]) -> float:
    return sum(is_within_error(_ratio(row)) for row in rows) / len(rows)


# -- published figures -------------------------------------------------------------------------------------------------


def test_there_are_enough_published_figures_from_several_machines_and_sources() -> None:
    stated = [row for row in CHECKS if not row.inferred]
    assert len(stated) >= 14 and len({row.machine for row in stated}) >= 6
    assert len({row.source.name for row in stated}) >= 6


@pytest.mark.parametrize("inferred", [False, True])
def test_eight_of_ten_figures_that_nothing_was_fitted_on_are_within_the_stated_factor(inferred: bool) -> None:
    assert _hits([row for row in CHECKS if row.inferred == inferred]) >= 0.8


def test_no_source_is_estimated_by_luck_alone() -> None:
    """Each source with several figures has at least half within the factor, the mean of all is near 1."""
    for source in {row.source for row in CHECKS}:
        rows = [row for row in CHECKS if row.source == source]
        assert len(rows) < 3 or _hits(rows) >= 0.5, source
    product = 1.0
    for row in CHECKS:
        product *= _ratio(row)
    assert 0.7 < product ** (1 / len(CHECKS)) < 1.4


def test_the_misses_are_those_that_have_a_reason() -> None:
    for row in PUBLISHED:
        assert is_within_error(_ratio(row)) == (not row.miss), (row.model, row.machine, _ratio(row))


def test_the_guide_states_the_share_that_is_within_the_factor() -> None:
    stated = [row for row in CHECKS if not row.inferred]
    guide = " ".join((ROOT / "docs/guides/choose-a-model.md").read_text(encoding="utf-8").split())
    hits = {name: sum(not row.miss for row in rows) for name, rows in (("all", CHECKS), ("stated", stated))}
    assert f"{hits['all']} of {len(CHECKS)}" in guide and f"{hits['stated']} of {len(stated)}" in guide


def test_the_constants_fit_the_rows_that_they_were_fitted_on() -> None:
    ratios = [_ratio(row) for row in PUBLISHED if row.use == "fit"]
    assert len(ratios) >= 6 and all(0.85 < ratio < 1.2 for ratio in ratios)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_operations_of_bert_base_by_hand() -> None:
    # 12 layers of 4 x 768 x 768 + 2 x 768 x 3072 = 7,077,888 weights; attention over 100 tokens.
    assert flops_per_token(BASE, 100) == 2 * 12 * 7_077_888 + 12 * 4 * 100 * 768


def test_operations_of_a_gated_model_with_fewer_keys_and_of_scores_over_words() -> None:
    gated = ModelShape("gated", 64, 2, 128, 1000, gated=True, attention=128, keys=32)
    assert gated.layer_weights == 2 * 64 * (128 + 32) + 3 * 64 * 128
    assert flops_per_token(gated, 10) == 2 * 2 * gated.layer_weights + 2 * 4 * 10 * 128
    scores = replace(BASE, scores_words=True)
    assert flops_per_token(scores, 1) - flops_per_token(BASE, 1) == 2 * 768 * (30_522 + 768)


def test_a_text_takes_host_and_device_one_after_the_other() -> None:
    speed = MachineSpeed(CARD)
    share = 0.6 * 768 / 1768
    device = 100 * flops_per_token(BASE, 100) / (4e13 * share)
    host = 6.7e-6 + 100 / (300_000 * 4)
    assert speed.precision == "float16"
    assert speed.seconds_per_text(BASE, 100) == pytest.approx(device + host)
    assert speed.tokens_per_second(BASE, 100) == pytest.approx(100 / (device + host))
    assert speed.requests_per_second(BASE, 100) == pytest.approx(1 / (device + host + 0.8e-3))


def test_a_device_with_slow_memory_is_bound_by_it() -> None:
    slow = MachineSpeed(replace(CARD, bandwidth=1e9))
    weights = 12 * 7_077_888 * 2 / 16_384
    passed = 12 * (8 * 768 + 2 * 3072) * 2
    assert slow.device_seconds(BASE, 10) == pytest.approx(10 * (weights + passed) / 0.7e9)
    assert "memory is the limit" in "\n".join(slow.explain(BASE, 10))


def test_a_static_model_is_bound_by_tokenising() -> None:
    speed, static = MachineSpeed(CARD), ModelShape("static", 256, vocabulary=30_000)
    assert speed.seconds_per_text(static, 12) == pytest.approx(6.7e-6 + 12 / 1.2e6, rel=0.01)


def test_memory_of_model_and_batch_by_hand() -> None:
    speed = MachineSpeed(CARD)
    assert speed.model_bytes(1_000_000) == 600 * 2**20 + 2_000_000
    assert speed.activation_bytes(BASE, 1000) == 1000 * (6 * 768 + 2 * 3072) * 2
    assert speed.activation_bytes(replace(BASE, gated=True), 1) == (6 * 768 + 3 * 3072) * 2
    assert speed.activation_bytes(replace(BASE, scores_words=True), 1) == (6 * 768 + 2 * 3072 + 30_522) * 2
    assert speed.capacity == round(2**33 * 0.9)


def test_the_precision_is_the_one_nearfield_chooses() -> None:
    chosen = {name: MachineSpeed(TABLE.find(name)).precision for name in ("L4", "T4", "M2", "8 vCPU", "8 vCPU AMX")}
    assert chosen == {
        "L4": "bfloat16",
        "T4": "float16",
        "M2": "float32",
        "8 vCPU": "float32",
        "8 vCPU AMX": "bfloat16",
    }


def test_other_software_is_slower_on_a_cpu_only() -> None:
    here, there = (MachineSpeed(TABLE.find("8 vCPU"), engine=engine) for engine in ("nearfield", "fastembed"))
    assert there.share(BASE) == pytest.approx(here.share(BASE) * roofline.OTHER_CPU_ENGINES)
    assert MachineSpeed(CARD, engine="TEI").share(BASE) == MachineSpeed(CARD).share(BASE)


def test_the_explanation_has_each_number_of_the_result() -> None:
    speed = MachineSpeed(TABLE.find("RTX 4090"))
    text = "\n".join(speed.explain(BASE, 128))
    for part in ("12 layers x 7,077,888", "165 T/s in bfloat16", "1,008 GB/s", "16 cores", "factor of 2"):
        assert part in text
    assert f"{speed.tokens_per_second(BASE, 128):,.0f} tokens/s" in text
    assert "none, a static model" in speed.explain(ModelShape("static", 256), 10)[0]


@pytest.mark.parametrize("precision", ["bfloat16", "int9", "float 32"])
def test_a_precision_that_a_machine_lacks_is_refused(precision: str) -> None:
    with pytest.raises(InputError, match=f"card has no peak in '{precision}'"):
        MachineSpeed(CARD, precision)


@pytest.mark.parametrize("tokens", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["tokens_per_second", "requests_per_second", "seconds_per_text", "explain"])
def test_a_text_without_tokens_is_refused(tokens: float, method: str) -> None:
    call: Callable[..., object] = getattr(MachineSpeed(CARD), method)
    with pytest.raises(InputError, match="more than 0 tokens"):
        call(BASE, tokens)


# -- properties --------------------------------------------------------------------------------------------------------

speeds = st.builds(MachineSpeed, st.sampled_from(TABLE.machines))
shapes = st.builds(
    ModelShape,
    st.just("any"),
    hidden=st.integers(32, 8192),
    layers=st.integers(0, 64),
    inner=st.integers(32, 32_768),
    vocabulary=st.integers(1, 300_000),
    gated=st.booleans(),
    scores_words=st.booleans(),
)
tokens_of_text = st.floats(0.5, 40_000)


def _speed_model(speed: MachineSpeed) -> SpeedModel:
    """Type checkers see here that the class implements the protocol."""
    return speed


@settings(deadline=None)
@given(speeds, shapes, tokens_of_text, st.floats(1, 100))
def test_a_longer_text_is_never_faster(speed: MachineSpeed, shape: ModelShape, tokens: float, factor: float) -> None:
    assert speed.seconds_per_text(shape, tokens * factor) >= speed.seconds_per_text(shape, tokens)
    assert _speed_model(speed).tokens_per_second(shape, tokens) > 0


@settings(deadline=None)
@given(speeds, shapes, tokens_of_text, st.sampled_from(["hidden", "layers", "inner"]), st.integers(1, 4000))
def test_a_larger_model_is_never_faster_and_never_smaller(
    speed: MachineSpeed, shape: ModelShape, tokens: float, name: str, more: int
) -> None:
    larger = replace(shape, **{name: getattr(shape, name) + more})
    assert speed.seconds_per_text(larger, tokens) >= speed.seconds_per_text(shape, tokens) * (1 - 1e-12)
    assert speed.model_bytes(larger.parameters) >= speed.model_bytes(shape.parameters)
    assert speed.activation_bytes(larger, 100) >= speed.activation_bytes(shape, 100)


@settings(deadline=None)
@given(speeds, shapes, tokens_of_text, st.floats(1, 10))
def test_a_better_machine_is_never_slower(speed: MachineSpeed, shape: ModelShape, tokens: float, factor: float) -> None:
    machine = speed.machine
    better = replace(
        machine,
        bandwidth=machine.bandwidth * factor,
        cores=round(machine.cores * factor),
        peak={name: rate * factor for name, rate in machine.peak.items()},
    )
    faster = MachineSpeed(better, speed.precision)
    assert faster.seconds_per_text(shape, tokens) <= speed.seconds_per_text(shape, tokens) * (1 + 1e-12)


@settings(deadline=None)
@given(speeds, shapes, st.integers(1, 10**6), st.integers(0, 10**6))
def test_memory_grows_with_the_batch(speed: MachineSpeed, shape: ModelShape, tokens: int, more: int) -> None:
    assert speed.activation_bytes(shape, tokens + more) >= speed.activation_bytes(shape, tokens) > 0
