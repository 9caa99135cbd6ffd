"""The OCR engine: text detection, orientation and recognition by rapidocr's models on OpenVINO.

The pipeline differs from rapidocr's own in two points. Lines are detected in a smaller picture and recognised in the
full one, so that small print is read without the memory of a large detection. The orientation is decided once for the
page, by its longest lines, instead of for each line, where short lines are often turned by mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.extractors.ocr.word_gaps import with_spaces
from nearfield.errors import MissingExtra

#: Maximum pixels of the longer side of a picture in which lines are detected, and in which they are recognised.
DETECTION_SIDE, RECOGNITION_SIDE = 1600, 3200
#: Maximum number of threads. An index run embeds at the same time.
_MAX_THREADS = 4
#: A picture with a shorter side is set on a larger ground, or letters that touch its edge are missed.
_SMALL_SIDE, _BORDER = 256, 32
#: Longer side of a picture relative to the shorter one, above which it gets a ground, or is cut into parts.
_MAX_SHAPE = 3
#: Difference of a pixel from the ground from which it is ink, height in pixels of what may be a line, and the number of
#: places of ink outside all lines that are looked at again.
_INK, _MIN_LINE, _MAX_LINE, _MAX_REGIONS = 60, 7, 80, 6
#: Width relative to the height from which ink without a box is an unseen line, its maximum share of ink (that of bars
#: and rules is higher), and the score of such lines.
_LINE_SHAPE, _MAX_DENSITY, _UNSEEN_SCORE = 5.0, 0.7, 0.4
#: Share of ink from which a box without letters is a drawing.
_SOLID = 0.5
#: Angle of a page in radians up to which its boxes are levelled.
_MAX_TILT = 0.35
#: Minimum pixels of the shorter side of a line.
_MIN_SIDE = 3
#: Lines by which the orientation of a page is decided, and the height of a line relative to its width from which it
#: is vertical.
_SAMPLE, _TALL = 15, 1.5
#: Width relative to the height of the part of a line that the classifier of orientation sees, its score from which it
#: is sure, and the mean score of a page below which the other orientation is tried too.
_CLASSIFIED_SHAPE, _SURE, _DOUBTFUL_SCORE = 4, 0.9, 0.85
#: Width of an average letter relative to the height of its line, above which most letters were not recognised; Latin
#: letters have some 0.45. Letters from ``_FIRST_WIDE`` (Chinese, Japanese) count twice. A line that is narrower than
#: ``_WORD_SHAPE`` is rather a letter or a drawn thing, such as a knob, than a word of another script.
_MAX_CHARACTER_SHAPE, _FIRST_WIDE, _WORD_SHAPE = 1.1, 0x2E80, 2.5
#: Score of a line from which missing spaces are added: in noise, gaps are not to be trusted.
_CLEAR_SCORE = 0.95
#: Greek letters up to which a short line may be a formula.
_MIN_GREEK = 8


@dataclass(frozen=True)
class OcrLine:
    """A recognised line: its text, the model's score of 0 to 1, and its box in pixels of the upright page."""

    text: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """The height of its box."""
        return self.bottom - self.top

    @property
    def is_foreign(self) -> bool:
        """Whether it is of a script that the model does not know: few letters for its width, or Greek ones.

        Of Greek the model has only the letters of formulas.
        """
        letters = sum(2 if ord(letter) > _FIRST_WIDE else 1 for letter in self.text if not letter.isspace())
        greek = sum("\u0370" <= letter <= "\u03ff" for letter in self.text)
        if self.score <= _UNSEEN_SCORE:
            return False
        is_wide = self.shape > max(_WORD_SHAPE, _MAX_CHARACTER_SHAPE * letters)
        return is_wide or greek * 2 > max(letters, _MIN_GREEK)

    @property
    def shape(self) -> float:
        """Its width relative to its height."""
        return (self.right - self.left) / max(self.height, 1.0)


def recognise(pixels: Array) -> list[OcrLine]:
    """Return the lines of text of a picture, in any order; ``pixels`` has rows, columns and three colours.

    The boxes are those of the upright page, in pixels of a picture of some other size.
    """
    lines: list[OcrLine] = []
    offset = 0.0
    for strip in _strips(pixels):
        pixels = _fit(_with_border(strip)[0], RECOGNITION_SIDE)
        lines += (replace(line, top=line.top + offset, bottom=line.bottom + offset) for line in _recognise(pixels))
        offset += pixels.shape[0]
    return lines


def _recognise(pixels: Array) -> list[OcrLine]:
    small = _fit(pixels, DETECTION_SIDE)
    boxes = _detect_all(small)
    unseen = _unseen_lines(small, boxes)
    boxes = boxes * np.float32(pixels.shape[0] / small.shape[0])
    boxes = boxes[np.ptp(boxes, axis=1).min(axis=1) >= _MIN_SIDE] if len(boxes) else boxes
    if not len(boxes):
        return unseen
    pixels, boxes = _upright(pixels, boxes)
    lines = _read(pixels, boxes)
    if _mean_score(lines) < _DOUBTFUL_SCORE:  # perhaps the page is upside down after all
        lines = max(lines, _read(*_turned_over(pixels, boxes)), key=_mean_score)
    return [*lines, *unseen]


def _read(pixels: Array, boxes: Array) -> list[OcrLine]:
    """Return the lines in the boxes of an upright page."""
    crops = _engine().crop_text_regions(pixels, boxes)
    tall = [number for number, box in enumerate(boxes) if _is_tall(box)]
    if tall:  # vertical lines of an upright page, such as a stamp at its edge
        flipped = _are_flipped([crops[number] for number in tall])
        for number, is_flipped in zip(tall, flipped, strict=True):
            crops[number] = crops[number][::-1, ::-1] if is_flipped else crops[number]
    result = _engine().recognize_txt([np.ascontiguousarray(crop) for crop in crops])
    lines = []
    ground = float(np.median(pixels))
    for box, crop, read, score, words in zip(
        _levelled(boxes), crops, result.txts, result.scores, result.word_results, strict=True
    ):
        text = with_spaces(read, _places(words), crop) if score >= _CLEAR_SCORE else read
        if sum(map(str.isalnum, text)) < 2 and _is_solid(crop, ground):
            continue
        (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
        lines.append(OcrLine(text.strip(), float(score), float(left), float(top), float(right), float(bottom)))
    return lines


def _places(words: Any) -> list[float]:
    """Return where the model saw each letter, as shares of the width of the line."""
    return [(column + 0.5) / words.line_txt_len for columns in words.word_cols or () for column in columns]


def _is_solid(crop: Array, ground: float) -> bool:
    """Return whether a box is filled, as a bar of a chart is, and not with letters."""
    return float((np.abs(crop.mean(axis=2) - ground) > _INK).mean()) > _SOLID


def _mean_score(lines: Sequence[OcrLine]) -> float:
    """Return the mean score of the lines by their length."""
    return sum(line.score * line.shape for line in lines) / (sum(line.shape for line in lines) or 1.0)


def identity() -> str:
    """Return a text that changes with everything that the results depend on, besides the pixels."""
    from importlib.metadata import version

    return f"rapidocr {version('rapidocr')} {DETECTION_SIDE} {RECOGNITION_SIDE} gaps 1"


@cache
def _engine() -> Any:
    """Return rapidocr with its shipped models. Their paths are given, so that it never downloads any."""
    import nearfield.backends.openvino_ops  # noqa: F401 - first, since it imports OpenVINO without its telemetry

    try:
        import cv2
        import rapidocr
    except ModuleNotFoundError as error:
        raise MissingExtra(f"OCR needs {error.name!r}: pip install 'nearfield[ocr]'") from error
    threads = max(1, min(_MAX_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1))
    cv2.setNumThreads(threads)
    models = Path(rapidocr.__file__).parent / "models"
    options: dict[str, Any] = {
        "Global.log_level": "critical",
        "Global.use_vertical_padding": False,
        "Global.return_word_box": True,
        "Global.model_root_dir": str(models),
        "EngineConfig.openvino.inference_num_threads": threads,
    }
    for part in ("Det", "Cls", "Rec"):
        options[f"{part}.engine_type"] = rapidocr.EngineType.OPENVINO
        options[f"{part}.model_path"] = str(_model(models, part.lower()))
    return rapidocr.RapidOCR(params=options)


def _model(folder: Path, part: str) -> Path:
    paths = sorted(folder.glob(f"*_{part}_*.onnx"))
    if not paths:
        raise MissingExtra(
            f"OCR needs the models that the package rapidocr has since version 3.10 ({part} is missing): "
            "pip install --force-reinstall 'rapidocr>=3.10'"
        )
    return paths[0]


def _detect_all(pixels: Array) -> Array:
    """Return the corners of all lines, also of isolated short ones, which the model misses on a whole page."""
    boxes = _detect(pixels)
    parts = [boxes]
    for top, bottom, left, right in _uncovered(pixels, boxes):
        part, (down, across) = _with_border(np.ascontiguousarray(pixels[top:bottom, left:right]))
        parts.append(_detect(part) + np.array([left - across, top - down], np.float32))
    return _without_doubles(np.concatenate(parts), len(boxes))


def _without_doubles(boxes: Array, count: int) -> Array:
    """Return the first ``count`` boxes, and those of the others whose centre is in none that comes before."""
    distinct = list(boxes[:count])
    for box in boxes[count:]:
        x, y = box.mean(axis=0)
        inside = ((b[:, 0].min() <= x <= b[:, 0].max()) and (b[:, 1].min() <= y <= b[:, 1].max()) for b in distinct)
        if not any(inside):
            distinct.append(box)
    return np.stack(distinct) if distinct else boxes


def _uncovered(pixels: Array, boxes: Array) -> Iterator[tuple[int, int, int, int]]:
    """Yield the places of ink that may be a line of text and is in no box: top, bottom, left, right."""
    regions, _ = _ink_regions(pixels, boxes)
    for left, top, width, height, _ in sorted(regions, key=lambda region: -region[4])[:_MAX_REGIONS]:
        border = 2 * _MIN_LINE + min(width, height)
        yield max(0, top - border), top + height + border, max(0, left - border), left + width + border


def _unseen_lines(pixels: Array, boxes: Array) -> list[OcrLine]:
    """Return lines without text for ink that looks like lines of text, and in which the model detects none."""
    regions, ink = _ink_regions(pixels, boxes)
    lines = []
    for left, top, width, height, _ in regions:
        density = float(ink[top : top + height, left : left + width].mean())
        if width > _LINE_SHAPE * height and density < _MAX_DENSITY:
            lines.append(OcrLine("", _UNSEEN_SCORE, left, top, left + width, top + height))
    return lines


def _ink_regions(pixels: Array, boxes: Array) -> tuple[list[list[int]], Array]:
    """Return the regions of ink outside all boxes (left, top, width, height, area), and the ink of the picture."""
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    ink = (cv2.absdiff(grey, np.full_like(grey, int(np.median(grey)))) > _INK).astype(np.uint8)
    ink = cv2.medianBlur(ink, 3)
    closed = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((5, 31), np.uint8))
    for box in boxes:
        cv2.fillPoly(closed, [np.round(box).astype(np.int32)], 0)
        left, top = np.floor(box.min(axis=0)).astype(int) - 3
        right, bottom = np.ceil(box.max(axis=0)).astype(int) + 3
        closed[max(0, top) : bottom, max(0, left) : right] = 0
    _, _, regions, _ = cv2.connectedComponentsWithStats(closed)
    lines = [[int(value) for value in region] for region in regions[1:]]
    return [region for region in lines if _MIN_LINE <= min(region[2:4]) <= _MAX_LINE], ink


def _detect(pixels: Array) -> Array:
    """Return the corners of all lines: an array of lines, four corners, and x and y."""
    from rapidocr.main import RapidOCRError

    try:
        _, result = _engine().detect_and_crop(pixels, {})
    except RapidOCRError:  # without text
        return np.empty((0, 4, 2), np.float32)
    return np.asarray(result.boxes, np.float32)


def _upright(pixels: Array, boxes: Array) -> tuple[Array, Array]:
    """Return a page and its boxes, turned so that its lines run from left to right."""
    lengths = np.ptp(boxes, axis=1).max(axis=1)
    tall = np.array([_is_tall(box) for box in boxes])
    if lengths[tall].sum() > lengths[~tall].sum():
        width = pixels.shape[1]
        pixels = np.ascontiguousarray(np.rot90(pixels))
        boxes = _corners(np.stack([boxes[..., 1], width - boxes[..., 0]], axis=-1))
    sample = np.argsort(-np.ptp(boxes[..., 0], axis=1))[:_SAMPLE]
    flipped = _are_flipped(_engine().crop_text_regions(pixels, boxes[sample]))
    upside_down = sum(value is True for value in flipped) > sum(value is False for value in flipped)
    return _turned_over(pixels, boxes) if upside_down else (pixels, boxes)


def _are_flipped(crops: Sequence[Array]) -> list[bool | None]:
    """Return whether each line is upside down; None where the classifier is not sure.

    It sees the middle of a line, in the shape that it was trained for: a whole line would be squeezed too much.
    """
    parts = []
    for crop in crops:
        height, width = crop.shape[:2]
        start = max(0, (width - _CLASSIFIED_SHAPE * height) // 2)
        parts.append(np.ascontiguousarray(crop[:, start : width - start]))
    _, result = _engine().cls_and_rotate(parts)
    return [label == "180" if score >= _SURE else None for label, score in result.cls_res]


def _turned_over(pixels: Array, boxes: Array) -> tuple[Array, Array]:
    """Return a page and its boxes turned by 180 degrees."""
    height, width = pixels.shape[:2]
    turned = np.stack([width - boxes[..., 0], height - boxes[..., 1]], axis=-1)
    return np.ascontiguousarray(pixels[::-1, ::-1]), _corners(turned)


def _levelled(boxes: Array) -> Array:
    """Return boxes without the tilt of the page: turned by the usual angle of their upper edges."""
    edges = boxes[:, 1] - boxes[:, 0]
    wide = edges[:, 0] > 2 * np.ptp(boxes[..., 1], axis=1)
    edges = edges[wide] if wide.any() else edges
    angle = -float(np.median(np.arctan2(edges[:, 1], edges[:, 0])))
    if abs(angle) > _MAX_TILT:
        return boxes
    sine, cosine = np.sin(angle), np.cos(angle)
    x, y = boxes[..., 0], boxes[..., 1]
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=-1)


def _corners(boxes: Array) -> Array:
    """Return boxes with their corners in order: top left, top right, bottom right, bottom left."""
    sums, differences = boxes.sum(axis=2), boxes[..., 1] - boxes[..., 0]
    orders = [sums.argmin(1), differences.argmin(1), sums.argmax(1), differences.argmax(1)]
    rows = np.arange(len(boxes))
    return np.stack([boxes[rows, order] for order in orders], axis=1)


def _is_tall(box: Sequence[Sequence[float]] | Array) -> bool:
    width, height = np.ptp(np.asarray(box), axis=0)
    return bool(height > _TALL * width)


def _strips(pixels: Array) -> Iterator[Array]:
    """Yield a long picture, such as that of a whole web page, in parts that are cut where a row has no text."""
    height, width = pixels.shape[:2]
    part = max(_MAX_SHAPE * width, DETECTION_SIDE)
    while height > part * 1.25:
        rows = pixels[part * 3 // 4 : part].astype(np.int16)
        cut = part * 3 // 4 + int(np.abs(np.diff(rows, axis=1)).sum(axis=(1, 2)).argmin())
        yield pixels[:cut]
        pixels, height = pixels[cut:], height - cut
    yield pixels


def _with_border(pixels: Array) -> tuple[Array, tuple[int, int]]:
    """Return a small or narrow picture on a ground of the colour of its edge, and the height and width of the border.

    Letters at an edge are missed, and the detection enlarges the shorter side, which is costly for a narrow picture.
    """
    import cv2

    height, width = pixels.shape[:2]
    side = max(_SMALL_SIDE, max(height, width) // _MAX_SHAPE)
    if min(height, width) >= side:
        return pixels, (0, 0)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = [float(value) for value in np.median(edge, axis=0)]
    down, across = (max(_BORDER, (side - length + 1) // 2) for length in (height, width))
    return cv2.copyMakeBorder(pixels, down, down, across, across, cv2.BORDER_CONSTANT, value=colour), (down, across)


def _fit(pixels: Array, side: int) -> Array:
    """Return a picture, scaled down if its longer side has more than ``side`` pixels."""
    import cv2

    scale = side / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
