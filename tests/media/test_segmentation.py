"""Segments of films and sounds with known cuts and silences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.errors import InputError, TooLarge
from nearfield.media.audio import Audio
from nearfield.media.segmentation import SplitRule, segments_between, split_audio, split_video
from nearfield.media.sound.silences import find_silences
from nearfield.media.video.track_audio import TrackAudio, open_sound
from nearfield.media.video.video import Video
from tests.support.scene_films import CONTAINERS, RATE, SOUND_RATE, SceneFilm, tone_with_silences, write_scenes

CUTS = (1.2, 2.0, 3.48, 5.0)
SILENCES = ((1.0, 1.8), (3.5, 4.2))
LONG = SplitRule("scene", max_segment_duration=1000)


def times(parts: Sequence[Video | Audio]) -> Array:
    return np.array([(part.start, part.end) for part in parts], float)


def cuts_of(data: bytes, **part: float) -> list[float]:
    return [cut for cuts, _ in Video(data, **part).cuts() for cut in cuts]  # type: ignore[arg-type]


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_cut_is_found_to_the_frame_and_nothing_else(container: str) -> None:
    np.testing.assert_allclose(cuts_of(write_scenes(SceneFilm(CUTS, container=container))), CUTS, atol=1e-3)


def test_cuts_of_a_variable_rate_have_the_times_of_their_frames() -> None:
    shown = np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.1, 0.31], 80)).round(3)
    shown = shown - shown[0]
    cuts = [float(shown[place]) for place in (15, 16, 40, 70)]
    film = SceneFilm(cuts, times=shown.tolist(), container="mkv")
    np.testing.assert_allclose(cuts_of(write_scenes(film)), cuts, atol=2e-3)


def test_a_part_has_the_cuts_within_it() -> None:
    data = write_scenes(SceneFilm(CUTS))
    np.testing.assert_allclose(cuts_of(data, start=1.5, end=4.0), CUTS[1:3], atol=1e-3)
    np.testing.assert_allclose(cuts_of(data, start=2.5), CUTS[2:], atol=1e-3)


def test_moving_things_are_no_cuts_and_arrays_have_none_to_read() -> None:
    frames = np.linspace(0, 255, 50).astype(np.uint8)
    assert cuts_of(write_scenes(SceneFilm((), seconds=4))) == []
    with pytest.raises(InputError, match="array"):
        list(Video(np.tile(frames[:, None, None, None], (1, 16, 16, 3)), rate=25).cuts())


def test_scenes_become_segments_that_cover_the_video() -> None:
    segments = times(split_video(Video(write_scenes(SceneFilm(CUTS))), LONG))
    edges = [0.0, *CUTS, 6.0]
    np.testing.assert_allclose(segments, [*pairwise(edges)], atol=1 / RATE)


@pytest.mark.parametrize("container", CONTAINERS)
def test_silences_of_a_film_are_right_to_a_tenth_of_a_second(container: str) -> None:
    film = SceneFilm(container=container, sounds=[tone_with_silences(6, SILENCES)])
    blocks = Video(write_scenes(film)).sound(16_000)
    np.testing.assert_allclose(find_silences(blocks, 16_000), SILENCES, atol=0.05)


def test_the_sound_of_a_film_is_that_of_its_file_at_the_right_time() -> None:
    sound = tone_with_silences(6, SILENCES)
    blocks = list(Video(write_scenes(SceneFilm(sounds=[sound]))).sound(SOUND_RATE))
    samples = np.concatenate(blocks)
    assert abs(len(samples) - len(sound)) < 2048
    shared = min(len(samples), len(sound))
    assert float(np.corrcoef(samples[:shared], sound[:shared])[0, 1]) > 0.99


def test_the_sound_of_a_part_begins_at_its_start() -> None:
    data = write_scenes(SceneFilm(sounds=[tone_with_silences(6, SILENCES)]))
    samples = np.concatenate(list(Video(data, start=0.5, end=2.5).sound(16_000)))
    assert abs(len(samples) - 32_000) <= 1
    np.testing.assert_allclose(find_silences([samples], 16_000), [(0.5, 1.3)], atol=0.05)


def test_one_of_several_sound_tracks_is_chosen() -> None:
    sounds = [tone_with_silences(6, [gap]) for gap in SILENCES]
    video = Video(write_scenes(SceneFilm(sounds=sounds, container="mkv")))
    for track, gap in enumerate(SILENCES):
        np.testing.assert_allclose(find_silences(video.sound(16_000, track), 16_000), [gap], atol=0.05)
    with pytest.raises(InputError, match="has 2 sound tracks, numbered from 0: there is no 2"):
        list(video.sound(16_000, 2))


def test_the_default_sound_track_is_not_always_the_first() -> None:
    sounds = [tone_with_silences(6, [gap]) for gap in SILENCES]
    sound = TrackAudio(write_scenes(SceneFilm(sounds=sounds, container="mkv", default_sound=1)))
    assert sound.track().chosen == 1
    np.testing.assert_allclose(find_silences([sound.read(16_000).samples], 16_000), [SILENCES[1]], atol=0.05)


def test_silence_cuts_in_the_middle() -> None:
    film = SceneFilm(sounds=[tone_with_silences(6, SILENCES)])
    segments = times(split_video(Video(write_scenes(film)), SplitRule("silence")))
    np.testing.assert_allclose(segments, [(0, 1.4), (1.4, 3.85), (3.85, 6)], atol=0.05)
    audio = Audio(tone_with_silences(6, SILENCES), rate=SOUND_RATE)
    np.testing.assert_allclose(times(split_audio(audio, SplitRule("silence"))), segments, atol=0.05)


def test_recordings_of_hours_are_cut_and_read_in_parts(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    path, rate = tmp_path / "talk.wav", 1000
    minutes = np.arange(90 * 60 * rate) // (60 * rate)
    soundfile.write(path, (minutes / 100).astype(np.float32), rate, subtype="PCM_16")
    with pytest.raises(TooLarge):
        Audio(path).header()
    sound = open_sound(path)
    assert sound.header().seconds == 90 * 60
    parts = split_audio(sound, SplitRule(time_split_interval=1800, max_segment_duration=1800))
    np.testing.assert_allclose(times(parts), [(0, 1800), (1800, 3600), (3600, 5400)])
    np.testing.assert_allclose(open_sound(path, 5000, 5010).read(rate).samples, 0.83, atol=1e-3)
    with pytest.raises(TooLarge):
        open_sound(path, 0, 5400).read(rate)


def test_a_silence_between_two_parts_in_memory_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.media.segmentation._BLOCK_SECONDS", 2.0)
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(path := tmp_path / "talk.wav", tone_with_silences(6, ((1.6, 2.4),)), SOUND_RATE)
    np.testing.assert_allclose(times(split_audio(open_sound(path), SplitRule("silence"))), [(0, 2), (2, 6)], atol=0.05)


def test_a_video_without_sound_has_no_silences() -> None:
    data = write_scenes(SceneFilm(CUTS))
    assert list(Video(data).sound(16_000)) == []
    np.testing.assert_allclose(
        times(split_video(Video(data), SplitRule("silence", max_segment_duration=2))), [(0, 2), (2, 4), (4, 6)]
    )


def test_time_cuts_into_equal_parts_and_long_ones_again() -> None:
    video = Video(write_scenes(SceneFilm(seconds=5)))
    np.testing.assert_allclose(times(split_video(video, SplitRule(time_split_interval=2))), [(0, 2), (2, 4), (4, 5)])
    np.testing.assert_allclose(
        times(split_video(video, SplitRule(time_split_interval=4, max_segment_duration=2))), [(0, 2), (2, 4), (4, 5)]
    )


def test_short_scenes_belong_to_the_one_before_and_long_ones_are_cut_evenly() -> None:
    rule = SplitRule("scene", max_segment_duration=4, min_segment_duration=0.5)
    np.testing.assert_allclose(
        segments_between([1.0, 1.2, 3.0, 9.8], 0.0, 10.0, rule), [(0, 1), (1, 3), (3, 6.5), (6.5, 10)]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_method": "scenes"}, "'scenes' is unknown. Did you mean 'scene'"),
        ({"time_split_interval": 0}, "time_split_interval must be more than 0"),
        ({"max_segment_duration": -1}, "max_segment_duration must be a number"),
        ({"scene_threshold": 300}, "scene_threshold"),
        ({"silence_level": 3}, "silence_level"),
    ],
)
def test_rules_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitRule(**options)  # type: ignore[arg-type]


def test_a_sound_has_no_scenes() -> None:
    with pytest.raises(InputError, match="A sound has no scenes"):
        split_audio(Audio(np.zeros(100, np.float32), rate=8000), SplitRule("scene"))


def test_a_damaged_video_is_named() -> None:
    data = write_scenes(SceneFilm(CUTS))
    with pytest.raises(InputError, match="The video"):
        list(Video(data[:200]).cuts())
