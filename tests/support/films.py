"""Small films that PyAV writes, and what PyAV decodes of them, frame by frame."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.arrays import Array

av = pytest.importorskip("av")

#: Format and encoder of films of each kind.
KINDS: dict[str, tuple[str, str]] = {
    "mp4 h264": ("mp4", "libx264"),
    "mov h264": ("mov", "libx264"),
    "mkv hevc": ("matroska", "libx265"),
    "webm vp9": ("webm", "libvpx-vp9"),
    "webm vp8": ("webm", "libvpx"),
    "avi mjpeg": ("avi", "mjpeg"),
    "mp4 mpeg4": ("mp4", "mpeg4"),
    "ts h264": ("mpegts", "libx264"),
}
#: A kind that is not read.
OLD_KIND = {"avi msmpeg4": ("avi", "msmpeg4")}
_PIXELS = {"mjpeg": "yuvj420p"}
_OPTIONS = {
    "libx264": {"preset": "ultrafast", "x264-params": "bframes=2:b-adapt=0:scenecut=0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:bframes=2:scenecut=0:pools=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
}


@dataclass(frozen=True)
class Film:
    """How a film is written.

    ``times`` are those of its frames in seconds, where they do not follow from the rate. ``turn`` is the angle by which
    it is shown, against the clock, and ``mirrored`` whether it is flipped from left to right after that. ``taken`` is
    when it was recorded.
    """

    kind: str = "mp4 h264"
    count: int = 24
    rate: Fraction = Fraction(12)
    size: tuple[int, int] = (64, 48)
    gop: int = 8
    times: Sequence[float] | None = None
    turn: int = 0
    mirrored: bool = False
    options: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    taken: str = ""


def pictures(film: Film) -> list[Array]:
    """Return the frames before they are coded: smooth, each unlike the others, uint8 [height, width, 3]."""
    return list(_frames(film))


def _frames(film: Film) -> Iterator[Array]:
    random, (width, height) = np.random.default_rng(film.seed), film.size
    coarse = random.integers(0, 256, (film.count, 3, 4, 3))
    rows, columns = np.arange(height) * 3 // height, np.arange(width) * 4 // width
    return (np.ascontiguousarray(one[rows][:, columns], np.uint8) for one in coarse)


def write_film(film: Film = Film()) -> bytes:
    """Return the bytes of a film."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film")
        write_film_file(film, path)
        return path.read_bytes()


def write_film_file(film: Film, path: Path) -> None:
    """Write a film."""
    form, codec = {**KINDS, **OLD_KIND}[film.kind]
    with av.open(path, "w", format=form, options=dict(film.options)) as container:
        container.metadata.update({"creation_time": film.taken} if film.taken else {})
        stream = container.add_stream(codec, rate=film.rate, options=_OPTIONS.get(codec, {}))
        stream.width, stream.height = film.size
        stream.pix_fmt = _PIXELS.get(codec, "yuv420p")
        stream.codec_context.gop_size = film.gop
        stream.codec_context.thread_count = 1
        if film.times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if film.turn or film.mirrored:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV writes no rotation")
            stream.set_display_rotation(film.turn, hflip=film.mirrored)
        for number, picture in enumerate(_frames(film)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if film.times is not None:
                frame.pts, frame.time_base = round(film.times[number] * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def write_sound(form: str = "mp4", start: float = 0.0) -> bytes:
    """Return the bytes of a file of a video format with sound alone, whose times begin at a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream("aac" if form == "mp4" else "libopus", rate=48_000)
        samples = np.zeros((2, 9600), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, round(start * 48_000), Fraction(1, 48_000)
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)
    return file.getvalue()


def decoded(data: bytes) -> tuple[list[Array], list[float]]:
    """Return all frames of a film and their times after the first one, as PyAV decodes them one after another."""
    with av.open(io.BytesIO(data)) as container:
        frames: list[Any] = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        return [frame.to_ndarray(format="rgb24") for frame in frames], [time - times[0] for time in times]
