"""Values of a processor file, checked: a key that is unknown, or has another type, is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearfield.checkpoint.processors.resizing import CropRule, ResizeRule
from nearfield.errors import ModelRefused

#: Keys that move no pixel of a single picture. Pictures are RGB when they get here, whatever ``do_convert_rgb`` says:
#: the models have three channels.
_NEUTRAL = frozenset(
    (
        *("image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "data_format"),
        *("input_data_format", "device", "return_tensors", "disable_grouping", "image_seq_length"),
        "_valid_processor_keys",
    )
)
#: Keys of all processors of transformers, with the defaults of their base class.
_BASE: Mapping[str, Any] = {
    "do_resize": False,
    "size": None,
    "default_to_square": True,
    "resample": 2,
    "do_center_crop": False,
    "crop_size": None,
    "do_rescale": False,
    "rescale_factor": 1 / 255,
    "do_normalize": False,
    "image_mean": None,
    "image_std": None,
    "do_pad": False,
    "pad_size": None,
}


@dataclass(frozen=True)
class ImageConfig:
    """The values of a processor file, with a class's defaults for those that are absent or null.

    Args:
        values: the file's values by name.
        source: the file's name, for messages.
    """

    values: Mapping[str, Any]
    source: str

    @classmethod
    def create(cls, config: Mapping[str, Any], source: str, defaults: Mapping[str, Any]) -> ImageConfig:
        """Return the values, after a check of their names.

        Raises:
            ModelRefused: a name is unknown.
        """
        known = {**_BASE, **defaults}
        stated = {key: value for key, value in config.items() if value is not None and key not in _NEUTRAL}
        unknown = sorted(set(stated) - set(known))
        if unknown:
            raise ModelRefused(
                f"{source}: unknown key {unknown[0]!r} (value {stated[unknown[0]]!r:.100}). It may change "
                "pixels, and vectors with them."
            )
        return cls({**known, **stated}, source)

    def flag(self, key: str) -> bool:
        """Return a truth value."""
        value = self.values[key]
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def whole(self, key: str) -> int:
        """Return a positive whole number."""
        value = self.values[key]
        if not _is_size(value):
            raise self.error(key, "a positive whole number")
        return int(value)

    def channels(self, key: str) -> tuple[float, float, float]:
        """Return a number for each channel; one number is for all."""
        value = self.values[key]
        numbers = value if isinstance(value, (list, tuple)) else [value] * 3
        if len(numbers) != 3 or not all(_is_number(number) for number in numbers):
            raise self.error(key, "a number, or three")
        first, second, third = (float(number) for number in numbers)
        return first, second, third

    def error(self, key: str, expected: str) -> ModelRefused:
        """Return the error for a value of another type."""
        return ModelRefused(f"{self.source}: {key} must be {expected}, and is {self.values[key]!r:.200}")

    def normalisation(self) -> dict[str, Any]:
        """Return ``resample``, ``rescale``, ``mean`` and ``std``; what is off has no effect."""
        rescale = self.values["rescale_factor"] if self.flag("do_rescale") else 1.0
        if not _is_number(rescale):
            raise self.error("rescale_factor", "a number")
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if self.flag("do_normalize"):
            mean, std = self.channels("image_mean"), self.channels("image_std")
            if 0 in std:
                raise self.error("image_std", "numbers other than zero")
        if self.values["resample"] not in range(6) or isinstance(self.values["resample"], bool):
            raise self.error("resample", "one of Pillow's filters, 0 to 5")
        return {"resample": int(self.values["resample"]), "rescale": float(rescale), "mean": mean, "std": std}

    def resize_rule(self) -> ResizeRule | None:
        """Return how pictures are resized; None if they are not."""
        if not self.flag("do_resize"):
            return None
        size = self.values["size"]
        if _is_size(size):
            size = {"height": size, "width": size} if self.flag("default_to_square") else {"shortest_edge": size}
        if isinstance(size, (list, tuple)) and len(size) == 2:
            size = dict(zip(("height", "width"), size, strict=True))
        for keys, mode in (
            (("height", "width"), "squash"),
            (("shortest_edge",), "shortest_edge"),
            (("shortest_edge", "longest_edge"), "shortest_and_longest_edge"),
            (("max_height", "max_width"), "inside"),
        ):
            edges = self._edges(size, keys)
            if edges:
                return ResizeRule(mode, edges)
        raise self.error("size", "height and width, shortest_edge (and longest_edge), or max_height and max_width")

    def crop_rule(self) -> CropRule | None:
        """Return how pictures are cropped; None if they are not."""
        return CropRule(*self._area("crop_size")) if self.flag("do_center_crop") else None

    def pad_area(self) -> tuple[int, int] | None:
        """Return the height and width to which pictures are padded at the bottom and right; None if they are not."""
        if not self.flag("do_pad"):
            return None
        if self.values["pad_size"] is None:
            raise ModelRefused(
                f"{self.source}: do_pad without pad_size pads to the largest picture of a batch. Vectors would "
                "depend on the other pictures."
            )
        return self._area("pad_size")

    def _area(self, key: str) -> tuple[int, int]:
        size = self.values[key]
        if _is_size(size):
            return size, size
        if isinstance(size, (list, tuple)) and len(size) == 2:
            size = dict(zip(("height", "width"), size, strict=True))
        edges = self._edges(size, ("height", "width"))
        if edges is None:
            raise self.error(key, "a positive whole number, or height and width")
        return edges[0], edges[1]

    @staticmethod
    def _edges(size: object, keys: tuple[str, ...]) -> tuple[int, ...] | None:
        """Return the values of exactly these keys; None if there are others, or one is no number of pixels."""
        if not isinstance(size, Mapping):
            return None
        values = {key: value for key, value in size.items() if value is not None}
        if set(values) != set(keys) or not all(map(_is_size, values.values())):
            return None
        return tuple(int(values[key]) for key in keys)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 2**15


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
