"""Films of known scenes, with a sound of known silences."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from nearfield.arrays import Array

av = pytest.importorskip("av")

#: Format, encoder of pictures and encoder of sound, by the name of a container.
CONTAINERS = {
    "mp4": ("mp4", "libx264", "aac"),
    "webm": ("webm", "libvpx", "libopus"),
    "mkv": ("matroska", "mpeg4", "libmp3lame"),
}
RATE, SOUND_RATE = 25, 48_000
#: Colours of a scene from left to right; those of the next scene differ clearly.
_GROUNDS = (
    ((20, 40, 110), (60, 100, 180)),
    ((230, 200, 120), (250, 230, 190)),
    ((10, 70, 20), (40, 110, 60)),
    ((240, 130, 200), (250, 180, 230)),
)


@dataclass(frozen=True)
class SceneFilm:
    """A film: the seconds at which its scenes begin after the first, its length, and its sound.

    ``times`` are those of its frames, where the rate is not constant. ``default_sound`` is the number of the sound that
    the file calls default, if it is not the first.
    """

    cuts: Sequence[float] = ()
    seconds: float = 6.0
    container: str = "mp4"
    times: Sequence[float] | None = None
    sounds: Sequence[Array] = ()
    default_sound: int = 0

    @property
    def frame_times(self) -> Sequence[float]:
        """When each frame is shown."""
        return self.times if self.times is not None else [n / RATE for n in range(round(self.seconds * RATE))]


def write_scenes(film: SceneFilm) -> bytes:
    """Return the bytes of a film; within a scene a bright square moves over a smooth ground."""
    form, codec, sound_codec = CONTAINERS[film.container]
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE, options={"preset": "ultrafast", "deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        tracks = [(container.add_stream(sound_codec, rate=SOUND_RATE, layout="mono"), sound) for sound in film.sounds]
        if film.default_sound:
            tracks[film.default_sound][0].disposition = av.stream.Disposition.default
        for seconds in film.frame_times:
            frame = av.VideoFrame.from_ndarray(_picture(film, seconds), format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track, sound in tracks:
            _write_sound(container, track, sound)
    return file.getvalue()


def _picture(film: SceneFilm, seconds: float) -> Array:
    scene = sum(seconds >= cut - 1e-6 for cut in film.cuts)
    ground = np.linspace(*_GROUNDS[scene % len(_GROUNDS)], 96)
    picture = np.repeat(ground[None], 64, 0).astype(np.uint8)
    left = int(seconds * 40) % 80
    picture[20:36, left : left + 16] = 255
    return picture


def _write_sound(container: object, track: object, sound: Array) -> None:
    step = 1024
    for start in range(0, len(sound), step):
        frame = av.AudioFrame.from_ndarray(sound[None, start : start + step].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        container.mux(track.encode(frame))  # type: ignore[attr-defined]
    container.mux(track.encode(None))  # type: ignore[attr-defined]


def tone_with_silences(seconds: float, silences: Sequence[tuple[float, float]]) -> Array:
    """Return a tone of 440 Hz with silences, float32 [n], at ``SOUND_RATE``."""
    times = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    sound = 0.3 * np.sin(2 * np.pi * 440 * times)
    for start, end in silences:
        sound[(times >= start) & (times < end)] = 0
    return sound.astype(np.float32)
