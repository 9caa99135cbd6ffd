"""Videos of several formats, turned, cut off, of variable rate: frames bit by bit as PyAV decodes them, and errors."""

from __future__ import annotations

import base64
import hashlib
import logging
import pickle
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from nearfield.arrays import Array
from nearfield.errors import InputError, MissingExtra, TooLarge
from nearfield.media.decoder_process import pool
from nearfield.media.decoder_process.pool import DecoderPool
from nearfield.media.limits import VideoLimits
from nearfield.media.video.frame_choice import FrameRule
from nearfield.media.video.track_audio import TrackAudio
from nearfield.media.video.video import Video
from nearfield.media.video.video_packets import require_pyav
from tests.support import films
from tests.support.films import KINDS, Film, decoded, write_film

pytestmark = pytest.mark.process

EVERY = FrameRule(fps=1000, max_frames=1000)


@pytest.fixture(scope="module")
def clip() -> bytes:
    """Two seconds of 12 frames."""
    return write_film()


def read(video: Video, rule: FrameRule = EVERY) -> tuple[list[Array], list[float]]:
    frames = list(video.frames(rule))
    return [frame.picture.pixels for frame in frames], [frame.seconds for frame in frames]


def assert_same(video: Video, data: bytes, chosen: list[int] | None = None, rule: FrameRule = EVERY) -> None:
    """Compare the frames of a video with those of the same numbers that PyAV decodes of a file."""
    frames, times = read(video, rule)
    pixels, seconds = decoded(data)
    chosen = list(range(len(pixels))) if chosen is None else chosen
    assert len(frames) == len(chosen)
    for frame, number in zip(frames, chosen, strict=True):
        np.testing.assert_array_equal(frame, pixels[number])
    assert times == pytest.approx([seconds[number] for number in chosen], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_each_format(kind: str) -> None:
    data = write_film(Film(kind))
    assert_same(Video(data), data)
    assert_same(Video(data), data, [0, 12], FrameRule())
    header = Video(data).header()
    assert (header.width, header.height, header.frames) == (64, 48, 24)
    assert header.seconds == pytest.approx(2.0, abs=0.05) and header.rate == pytest.approx(12, rel=0.03)
    assert header.warnings == ()


@pytest.mark.slow
def test_frames_are_those_of_transformers(clip: bytes, tmp_path: Path) -> None:
    from transformers.video_utils import load_video

    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    for fps in (1, 3, 5):
        expected, metadata = load_video(str(path), fps=fps, backend="pyav")
        assert_same(Video(path, fps=fps), clip, metadata.frames_indices.tolist(), FrameRule())
        np.testing.assert_array_equal(np.stack(read(Video(path, fps=fps), FrameRule())[0]), expected)


@pytest.mark.parametrize("kind", ["mp4 h264", "webm vp9", "ts h264", "avi mjpeg", "mkv hevc"])
def test_parts_of_a_video(kind: str) -> None:
    data = write_film(Film(kind, count=40, gop=6))
    _, seconds = decoded(data)
    for start, end in ((0, 1), (1.1, 2), (2.26, 2.3), (3, None)):
        last = len(seconds) if end is None else sum(time < end - 1e-3 for time in seconds)
        first = sum(time < start - 1e-3 for time in seconds)
        assert_same(Video(data, start=start, end=end), data, list(range(min(first, last - 1), last)))
    parts = Video(data).segments(1.0)
    assert [(part.start, part.end) for part in parts[:3]] == [(0, 1), (1, 2), (2, 3)]
    assert parts[-1].end == pytest.approx(40 / 12, abs=0.05)
    assert sum(len(read(part)[0]) for part in parts) == 40


def test_a_short_rest_belongs_to_the_segment_before(clip: bytes) -> None:
    assert [(part.start, part.end) for part in Video(clip).segments(0.95)] == [(0, 0.95), (0.95, 1.9), (1.9, 2.0)]
    assert [(part.start, part.end) for part in Video(clip).segments(0.99)] == [(0, 0.99), (0.99, 2.0)]
    assert [(part.start, part.end) for part in Video(clip, start=0.5).segments(9)] == [(0.5, 2.0)]
    for wrong in (0, -1, float("nan"), "ten"):
        with pytest.raises(InputError, match="seconds must be"):
            Video(clip).segments(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_frames_are_upright(turn: int, mirrored: bool) -> None:
    data = write_film(Film(count=3, turn=turn, mirrored=mirrored))
    plain = decoded(data)[0]
    expected = [np.rot90(frame, turn // 90) for frame in plain]  # rot90 turns against the clock
    expected = [frame[:, ::-1] for frame in expected] if mirrored else expected
    frames, _ = read(Video(data))
    for frame, one in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame, one)
    header = Video(data).header()
    assert (header.width, header.height) == ((48, 64) if turn in (90, 270) else (64, 48))


@pytest.mark.parametrize("kind", ["mp4 h264", "webm vp9"])
def test_the_times_of_frames_count_where_the_rate_varies(kind: str) -> None:
    times = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 3.0, 3.5, 5.0]
    data = write_film(Film(kind, count=len(times), times=times))
    assert decoded(data)[1] == pytest.approx(times, abs=2e-3)
    assert_same(Video(data), data, [0, 5, 5, 6, 7], FrameRule(max_frames=5))
    assert_same(Video(data, start=0.5, end=5), data, [5, 5, 7], FrameRule(max_frames=4))


def test_frames_come_one_at_a_time(clip: bytes) -> None:
    frames = Video(clip).frames(EVERY)
    first = next(frames)
    frames.close()
    np.testing.assert_array_equal(first.picture.pixels, decoded(clip)[0][0])
    assert_same(Video(clip), clip)


def test_forms_of_a_video(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no name of a video"
    path.write_bytes(clip)
    uri = "data:video/mp4;base64," + base64.b64encode(clip).decode()
    forms = [Video(path), Video(path=str(path)), Video(bytearray(clip)), Video(memoryview(clip)), Video(uri=uri)]
    forms += [Video(forms[0]), pickle.loads(pickle.dumps(forms[0]))]
    for form in forms:
        assert_same(form, clip, [0, 12], FrameRule())
    digests = [[frame.picture.content for frame in form.frames()] for form in forms]
    assert digests == [digests[0]] * len(forms)
    assert digests[0][0] != digests[0][1]
    assert repr(Video(path, fps=2, end=3)) == f"Video(path={str(path)!r}, fps=2, end=3)"


def test_arrays_of_frames() -> None:
    pixels = np.stack(films.pictures(Film(count=50)))
    for source in (pixels, list(pixels)):
        frames, times = read(Video(source, rate=25), FrameRule(fps=5))
        np.testing.assert_array_equal(np.stack(frames), pixels[::5])
        assert times == pytest.approx([number / 5 for number in range(10)])
    frames, _ = read(Video(pixels, rate=25, start=1, end=1.2))
    np.testing.assert_array_equal(np.stack(frames), pixels[25:30])
    assert [part.start for part in Video(pixels, rate=25).segments(0.5)] == [0, 0.5, 1.0, 1.5]
    other = Video(pixels[::-1], rate=25)
    assert next(other.frames()).picture.content != next(Video(pixels, rate=25).frames()).picture.content


def test_a_changed_file_is_not_taken_for_the_one_before(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    video = Video(path)
    before = [frame.picture.content for frame in video.frames()]
    path.write_bytes(write_film(Film(seed=1)))
    assert [frame.picture.content for frame in video.frames()] != before


# -- what is not as it should be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of"),
        ({"source": "clip.mp4"}, "A string is a text"),
        ({"source": b"x", "rate": 25}, "rate= is for arrays"),
        ({"source": b"x", "fps": 0}, "fps is 0"),
        ({"source": b"x", "fps": -1}, "fps must be"),
        ({"source": b"x", "fps": float("inf")}, "fps must be"),
        ({"source": b"x", "max_frames": 0}, "max_frames"),
        ({"source": b"x", "max_frames": 2.5}, "max_frames"),
        ({"source": b"x", "start": 2, "end": 2}, "must be after start"),
        ({"source": b"x", "start": True}, "start must be"),
        ({"source": np.zeros((2, 4, 4, 3), np.uint8)}, "needs rate="),
        ({"source": np.zeros((2, 4, 4, 3), np.float32), "rate": 5}, "float32"),
        ({"source": np.zeros((4, 4, 3), np.uint8), "rate": 5}, "[4, 4, 3]"),
        ({"source": np.zeros((0, 4, 4, 3), np.uint8), "rate": 5}, "[0, 4, 4, 3]"),
        ({"source": [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "rate": 5}, "one size"),
        ({"source": np.zeros((2, 4, 4, 3), np.uint8), "rate": 0}, "rate must be"),
        ({"source": b"", "fps": 10**400}, "fps must be a number from 0 to 1,000,000,000"),
        ({"source": b"", "start": 1e300}, "start must be a number from 0 to"),
        ({"source": 5}, "not int"),
        ({"uri": b"data:"}, "uri must be a string"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Video(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"a text, renamed", "no known video"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a picture (JPEG)"),
        (b"\0\0\0\x20ftypavif" + bytes(100), "a picture"),
        (b"\0\0\0\x20ftypM4A " + bytes(100), "a sound (M4A)"),
        (b"RIFF\0\0\0\0WAVE" + bytes(100), "a sound (WAV)"),
        (b"#EXTM3U\nfile:///etc/passwd", "a playlist"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "cannot be read as MP4"),
        (b"\x1aE\xdf\xa3" + bytes(1000), "Matroska"),
        (b"\x1aE\xdf\xa3" + b"\xff" * 1000, "Matroska"),
    ],
)
def test_what_is_no_video(data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        list(Video(data).frames())
    assert message in str(caught.value) and str(caught.value).startswith("The video")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.mp4"):
        with pytest.raises(InputError, match=path.name):
            list(Video(path).frames())


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_sound_alone(form: str) -> None:
    with pytest.raises(InputError, match="has no frames: there is sound alone"):
        list(Video(films.write_sound(form)).frames())


@pytest.mark.parametrize("kind", ["webm vp9", "avi mjpeg", "ts h264"])
def test_of_a_video_that_is_cut_off_what_is_left_is_read(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    data = write_film(Film(kind, count=80))
    cut = data[: len(data) // 2]
    with caplog.at_level(logging.WARNING):
        frames, _ = read(Video(cut))
    whole = decoded(data)[0]
    assert 20 <= len(frames) < 60
    for frame, other in zip(frames[:-2], whole, strict=False):
        np.testing.assert_array_equal(frame, other)
    if kind != "ts h264":  # which states no length
        assert "of the 6.7 seconds that its header states" in caplog.text


def test_a_recording_that_begins_late_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    late = write_film(Film("webm vp8", count=8, times=[100 + number / 4 for number in range(8)]))
    frames, _ = read(Video(late))
    assert len(frames) == 8 and not caplog.text
    assert TrackAudio(films.write_sound("matroska", start=100)).track().seconds < 1


def test_an_mp4_that_is_cut_off(clip: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="The video cannot be read as MP4"):
        list(Video(clip[: len(clip) // 2]).frames())
    streamed = write_film(Film(count=60, options=(("movflags", "faststart"),)))
    with caplog.at_level(logging.WARNING):
        frames, _ = read(Video(streamed[: len(streamed) * 2 // 3]))
    assert 15 < len(frames) < 60 and "its frames end after" in caplog.text


def test_frames_that_cannot_be_decoded_are_named(clip: bytes, caplog: pytest.LogCaptureFixture) -> None:
    start = clip.index(b"mdat") + 4
    damaged = bytearray(clip)
    end = clip.index(b"moov") - 4
    damaged[start:end] = hashlib.sha256(clip).digest() * ((end - start) // 32) + bytes((end - start) % 32)
    with pytest.raises(InputError, match=r"none of the frames to be read is whole|cannot be read"):
        list(Video(bytes(damaged)).frames())
    half = bytearray(clip)
    half[(start + end) // 2 : end] = bytes(end - (start + end) // 2)
    with caplog.at_level(logging.WARNING):
        frames, _ = read(Video(bytes(half)))
    np.testing.assert_array_equal(frames[0], decoded(clip)[0][0])
    if len(frames) < 24:
        assert "of the 24 frames to be read cannot be decoded" in caplog.text


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(max_bytes=1000), "bytes"),
        (VideoLimits(max_seconds=1), "2 seconds"),
        (VideoLimits(max_pixels=64 * 48 - 1), "64 x 48 pixels"),
        (VideoLimits(max_side=63), "64 x 48 pixels"),
        (VideoLimits(max_frames=31), "max_frames is 32"),
    ],
)
def test_limits(clip: bytes, limits: VideoLimits, message: str, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip)
    arrays = Video(np.zeros((24, 48, 64, 3), np.uint8), rate=12)
    sources = [Video(clip), Video(tmp_path / "clip.mp4")] + [arrays] * (limits.max_bytes > 1000)
    for video in sources:
        with pytest.raises(TooLarge, match=message):
            list(video.frames(limits=limits))


def test_codecs_that_are_hardly_used_stay_off() -> None:
    data = write_film(Film("avi msmpeg4", count=2))
    with pytest.raises(InputError, match="coded with msmpeg4"):
        list(Video(data).frames())


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"nearfield\[video\]"):
        require_pyav()


def test_fractions_of_a_rate() -> None:
    data = write_film(Film(count=61, rate=Fraction(30_000, 1001)))
    assert_same(Video(data), data, [0, 30], FrameRule())
    assert Video(data).header().rate == pytest.approx(29.97, abs=0.01)


def test_frames_of_a_long_video_start_no_threads_that_stay() -> None:
    data = write_film(Film(count=80, gop=40))
    assert len(read(Video(data))[0]) == 80
    idle = pool._pool.get(DecoderPool)._idle
    assert max(psutil.Process(one.process.pid).num_threads() for one in idle) < 20
