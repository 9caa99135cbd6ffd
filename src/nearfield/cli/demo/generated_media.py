"""A video of known scenes and three sounds, which are computed: for machines on which no package ships any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageDraw import ImageDraw

#: Seconds of each scene, frames a second, and sides in pixels.
SCENE_SECONDS, _RATE, _SIDES = 4, 10, (320, 240)
_SOUND_RATE, _SOUND_SECONDS = 32_000, 5.0


def write_film(path: Path) -> None:
    """Write a video of the ``SCENES``, one after the other.

    Raises:
        MissingExtra: PyAV is not installed.
    """
    from nearfield.media.video.video_packets import require_pyav

    with require_pyav().open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE)
        stream.width, stream.height = _SIDES
        stream.pix_fmt = "yuv420p"
        for picture in _frames():
            container.mux(stream.encode(require_pyav().VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def _frames() -> Iterator[PillowImage]:
    from PIL import Image, ImageDraw

    count = SCENE_SECONDS * _RATE
    for ground, draw in SCENES.values():
        for number in range(count):
            picture = Image.new("RGB", _SIDES, ground)
            draw(ImageDraw.Draw(picture), number / count)
            yield picture


def _ball(pen: ImageDraw, moment: float) -> None:
    left = 20 + 200 * moment
    pen.rectangle((0, 170, 320, 240), fill=(40, 120, 40))
    pen.ellipse((left, 110, left + 80, 190), fill=(210, 30, 30))


def _night(pen: ImageDraw, moment: float) -> None:
    for x, y in np.random.default_rng(1).integers(0, (320, 150), (60, 2)).tolist():
        pen.ellipse((x, y, x + 3, y + 3), fill="white")
    pen.ellipse((220, 20 + 40 * moment, 280, 80 + 40 * moment), fill=(245, 240, 200))


def _house(pen: ImageDraw, moment: float) -> None:
    pen.rectangle((90, 110, 230, 230), fill=(150, 80, 40))
    pen.polygon(((70, 110), (160, 40), (250, 110)), fill=(90, 30, 20))
    pen.rectangle((110, 140, 150, 180), fill=(255, 255, round(120 * moment)))


#: What each scene shows, with the colour of its ground and what is drawn on it at a moment from 0 to 1.
SCENES: Mapping[str, tuple[tuple[int, int, int], Callable[[ImageDraw, float], None]]] = {
    "a red ball on green grass": ((140, 190, 240), _ball),
    "the moon and stars at night": ((10, 10, 40), _night),
    "a brown house with a roof": ((235, 225, 200), _house),
}


def write_sounds(folder: Path) -> None:
    """Write the ``SOUNDS`` as WAV files."""
    from nearfield.media.sound.sound_decoding import encode_sound

    times = np.arange(round(_SOUND_SECONDS * _SOUND_RATE)) / _SOUND_RATE
    for name, (_, sound) in SOUNDS.items():
        samples = np.asarray(0.5 * sound(times), np.float32)
        (folder / name).write_bytes(encode_sound(samples, _SOUND_RATE, "WAV"))


def _bell(times: Array) -> Array:
    partials = [np.sin(2 * np.pi * 520 * ratio * times) / ratio for ratio in (1, 2.76, 5.4, 8.93)]
    return sum(partials) * np.exp(-2 * (times % 1.25)) / 2


def _siren(times: Array) -> Array:
    return np.sin(2 * np.pi * (700 * times + 90 * np.sin(2 * np.pi * times)))


def _rain(times: Array) -> Array:
    return np.convolve(np.random.default_rng(2).normal(0, 0.3, len(times)), np.full(9, 1 / 9), "same")


#: Computed sounds by the names of their files, with words that describe them.
SOUNDS: Mapping[str, tuple[str, Callable[[Array], Array]]] = {
    "bell.wav": ("a bell", _bell),
    "siren.wav": ("a siren", _siren),
    "rain.wav": ("rain", _rain),
}
