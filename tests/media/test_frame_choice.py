"""Which frames of a video are read: compared with the functions of transformers, and by times where these differ."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError
from nearfield.media.video.frame_choice import FrameRule, Timeline
from tests.support.video_reference import gemma_indices

RATES = [
    Fraction(25),
    Fraction(30),
    Fraction(30_000, 1001),
    Fraction(24_000, 1001),
    Fraction(60),
    Fraction(10),
    Fraction(1),
]
TOTALS = [1, 2, 3, 7, 24, 25, 100, 299, 300, 301, 1801]


def timeline(total: int, rate: Fraction, tick: Fraction, stated: bool = True) -> Timeline:
    """Return the times of frames of one rate, rounded to ticks as a container does."""
    times = np.array([round(number / rate / tick) for number in range(total)])
    return Timeline(times, float(tick), float(rate) if stated else 0.0)


#: Ticks of MP4 (exact), of Matroska (a millisecond), and of MPEG-TS.
TICKS = {"exact": None, "millisecond": Fraction(1, 1000), "mpegts": Fraction(1, 90_000)}


@pytest.mark.slow
@pytest.mark.parametrize("tick", TICKS)
@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0, 24.0, 1000.0])
def test_frames_of_one_rate_are_those_of_transformers(tick: str, fps: float) -> None:
    from transformers.video_utils import VideoMetadata, default_sample_indices_fn

    for rate in RATES:
        for total in TOTALS:
            count = max(1, int(total / float(rate) * fps))
            metadata = VideoMetadata(total_num_frames=total, fps=float(rate))
            # transformers refuses more frames than there are.
            expected = default_sample_indices_fn(metadata, num_frames=min(count, total, 32))
            if count <= min(total, 32):
                assert expected.tolist() == default_sample_indices_fn(metadata, fps=fps).tolist()
            times = timeline(total, rate, TICKS[tick] or 1 / rate / 512)
            assert times.choose(FrameRule(fps=fps)).tolist() == expected.tolist(), (rate, total)


@pytest.mark.slow
@pytest.mark.parametrize("total", [2, 5, 24, 300, 1801])
def test_both_ends_are_read_as_the_processor_of_qwen3_vl_does(total: int) -> None:
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    processor: Any = SimpleNamespace(fps=2, min_frames=4, max_frames=64)
    metadata: Any = SimpleNamespace(total_num_frames=total, fps=25.0)
    expected = Qwen3VLVideoProcessor.sample_frames(processor, metadata)
    rule = FrameRule(fps=2, max_frames=64, min_frames=4, reaches_end=True)
    assert timeline(total, Fraction(25), Fraction(1, 12_800)).choose(rule).tolist() == expected.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["uniform", "truncate"])
@pytest.mark.parametrize("fps", [0.3, 1.0, 2.0, 40.0])
def test_frames_at_steps_are_those_of_the_processor_of_embedding_gemma_2(fps: float, strategy: str) -> None:
    for rate in RATES:
        for total in TOTALS:
            expected = gemma_indices(total, float(rate), fps=fps, max_frames=9, overflow_strategy=strategy)
            rule = FrameRule(fps=fps, max_frames=9, stepped=True, cut=strategy == "truncate")
            for tick in (1 / rate / 512, Fraction(1, 90_000)):
                assert timeline(total, rate, tick).choose(rule).tolist() == expected, (rate, total)


def test_steps_are_times_where_frames_are_shown_for_different_times() -> None:
    times = Timeline(np.array([*range(0, 900, 100), 1000]), 0.001, 10.0, last=3000)
    assert times.choose(FrameRule(fps=2, stepped=True)).tolist() == [0, 5, 9, 9, 9, 9, 9, 9]
    assert times.choose(FrameRule(fps=2, max_frames=3, stepped=True)).tolist() == [0, 9, 9]
    assert times.choose(FrameRule(fps=2, max_frames=3, stepped=True, cut=True)).tolist() == [0, 5, 9]
    assert times.choose(FrameRule(stepped=True), start=1.0).tolist() == [9, 9, 9]


@pytest.mark.parametrize(("total", "count"), [(1, 2), (2, 2), (3, 2), (75, 2), (100, 4), (125, 4), (2000, 64)])
def test_pairs(total: int, count: int) -> None:
    rule = FrameRule(max_frames=64, min_frames=2, multiple=2, reaches_end=True)
    chosen = timeline(total, Fraction(25), Fraction(1, 12_800)).choose(rule).tolist()
    assert len(chosen) == count and chosen[0] == 0 and chosen[-1] == total - 1


def test_a_rate_that_the_container_does_not_state_is_that_of_the_times() -> None:
    for rate in RATES:
        for total in (2, 3, 100, 1801):
            stated, fitted = (timeline(total, rate, Fraction(1, 1000), stated=known) for known in (True, False))
            assert fitted.constant_rate == pytest.approx(float(rate), rel=0.02)
            assert fitted.choose(FrameRule(fps=3)).tolist() == stated.choose(FrameRule(fps=3)).tolist()


def test_where_frames_are_shown_for_different_times_the_times_count() -> None:
    # Nine frames in the first second, then one that is shown for three seconds.
    times = Timeline(np.array([*range(0, 900, 100), 1000]), 0.001, 10.0, last=3000)
    assert times.constant_rate == 0 and times.end == 4.0
    assert times.choose(FrameRule(fps=2)).tolist() == [0, 5, 9, 9, 9, 9, 9, 9]
    assert times.choose(FrameRule(fps=1, reaches_end=True)).tolist() == [0, 9, 9, 9]


def test_parts() -> None:
    whole = timeline(100, Fraction(10), Fraction(1, 1000))
    every = FrameRule(fps=1000, max_frames=1000)
    assert whole.choose(every, 2.0, 3.0).tolist() == list(range(20, 30))
    assert whole.choose(every, 9.5).tolist() == list(range(95, 100))
    assert whole.choose(FrameRule(), 2.0, 5.0).tolist() == [20, 30, 40]
    # No frame begins here: the one that is shown.
    assert whole.choose(every, 2.01, 2.09).tolist() == [20]
    assert whole.choose(FrameRule(multiple=2), 2.01, 2.09).tolist() == [20, 20]
    with pytest.raises(InputError, match="start is 10 s, and the video ends at 10 s"):
        whole.choose(every, 10.0)


@pytest.mark.parametrize("last", [0, 40])
def test_one_frame(last: int) -> None:
    one = Timeline(np.array([0]), 0.001, 25.0, last)
    assert one.end == 0.04 and one.choose(FrameRule()).tolist() == [0]
