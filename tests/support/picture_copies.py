"""Pictures with shapes and texture, and copies of them as people and programs save them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ImageDraw

from tests.support.odd_pictures import smooth


def scene(seed: int, width: int = 480, height: int = 360) -> Any:
    """Return a picture of six discs on a smooth ground; each seed gives another one."""
    random = np.random.default_rng(seed)
    image = smooth(width, height, seed)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = random.integers(0, (width * 5 // 6, height * 5 // 6)).tolist()
        size = int(random.integers(width // 16, width // 4))
        draw.ellipse((x, y, x + size, y + size), fill=tuple(random.integers(0, 256, 3).tolist()))
    return image


def saved(image: Any, kind: str = "JPEG", **options: Any) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cropped(image: Any, left: float, top: float, right: float, bottom: float) -> Any:
    """Return a picture without some shares of its sides."""
    width, height = image.size
    box = (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    return image.crop(box)


def scaled(image: Any, share: float) -> Any:
    """Return a picture at another size."""
    return image.resize((round(image.width * share), round(image.height * share)))


#: How a copy is saved, by name.
COPIES: dict[str, Callable[[Any], bytes]] = {
    "JPEG 95": lambda image: saved(image, quality=95),
    "JPEG 75": lambda image: saved(image, quality=75),
    "JPEG 50": lambda image: saved(image, quality=50),
    "JPEG 30": lambda image: saved(image, quality=30),
    "WebP 50": lambda image: saved(image, "WEBP", quality=50),
    "PNG": lambda image: saved(image, "PNG"),
    "scale 0.5": lambda image: saved(scaled(image, 0.5), quality=85),
    "scale 0.75": lambda image: saved(scaled(image, 0.75), quality=85),
    "scale 1.5": lambda image: saved(scaled(image, 1.5), quality=85),
    "scale 2": lambda image: saved(scaled(image, 2), quality=85),
    "grey": lambda image: saved(image.convert("L"), quality=85),
    "half, grey, JPEG 40": lambda image: saved(scaled(image.convert("L"), 0.5), quality=40),
    "crop 5% at one side": lambda image: saved(cropped(image, 0.05, 0, 0, 0), quality=85),
    "crop 5% at a corner": lambda image: saved(cropped(image, 0.05, 0.05, 0, 0), quality=85),
    "crop 2.5% all around": lambda image: saved(cropped(image, 0.025, 0.025, 0.025, 0.025), quality=85),
    "crop 5% all around": lambda image: saved(cropped(image, 0.05, 0.05, 0.05, 0.05), quality=85),
    "crop 5% at a corner, half, JPEG 50": lambda image: saved(
        scaled(cropped(image, 0, 0.05, 0.05, 0), 0.5), quality=50
    ),
}
