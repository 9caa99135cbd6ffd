"""What turns the inputs of a recipe into features: its tokenizer, bounded by the family's tables, or its processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nearfield import families
from nearfield.checkpoint.processors.audio import read_audio_processor
from nearfield.checkpoint.processors.audio_processor import AudioProcessor
from nearfield.checkpoint.processors.frame_processor import FrameProcessor
from nearfield.checkpoint.processors.image import read_image_processor
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.weights.merged import open_weights
from nearfield.errors import InputError, ModelRefused
from nearfield.families import Family
from nearfield.features import Features, FrameFeatures, MelFeatures, PatchFeatures, PatchLayout, TextFeatures
from nearfield.inference.space import space_name
from nearfield.media.audio import Audio
from nearfield.media.image import Image
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, MediaLimits
from nearfield.media.video.video import Video
from nearfield.recipe import Recipe


@dataclass(frozen=True)
class PictureProcessor:
    """What happens to a picture, or to each frame of a video, before the tower reads it.

    ``max_length`` is the number of patches of the largest picture, and of the slots before them.
    """

    modality: ClassVar = "image"
    images: ImageProcessor
    layout: PatchLayout
    max_length: int

    @classmethod
    def load(cls, recipe: Recipe, family: Family) -> PictureProcessor:
        """Return the processor of a tower.

        Raises:
            ModelRefused: its folder does not say how a picture is prepared, or says something unknown.
        """
        images, layout = read_image_processor(recipe.folder), family.patch_layout
        if images is None or layout is None:
            raise ModelRefused(
                f"{recipe.folder} reads pictures, and has no preprocessor_config.json that says how they are prepared."
            )
        return cls(images, layout, family.positions)

    @property
    def digest(self) -> str:
        """What identifies the preparation: pictures that are prepared in another way have vectors of another space."""
        return self.images.digest

    def read(self, medium: Image | Video, limits: MediaLimits = DEFAULT_MEDIA_LIMITS) -> list[PatchFeatures]:
        """Decode and prepare a picture, or the frames of a video, whose vectors are averaged.

        Raises:
            InputError: it cannot be decoded, or has more bytes, pixels, seconds or frames than the limits.
        """
        if isinstance(medium, Video):
            with closing(medium.frames(limits=limits.videos)) as frames:
                return [part for frame in frames for part in self.images.parts(frame.picture, self.layout)]
        return self.images.parts(medium.read(limits.pictures), self.layout)

    def probes(self) -> tuple[PatchFeatures, PatchFeatures]:
        """Return the features of two pictures, a small one first: every model is tested with them when it loads."""
        ramp = np.linspace(0, 255, 64 * 96 * 3).astype(np.uint8)
        small, large = Image(ramp[: 32 * 32 * 3].reshape(32, 32, 3)), Image(ramp.reshape(64, 96, 3))
        return self.read(small)[0], self.read(large)[0]


@dataclass(frozen=True)
class SoundProcessor:
    """What happens to a sound before its tower reads it. ``max_length`` is what one of its windows costs."""

    modality: ClassVar = "audio"
    sounds: AudioProcessor | FrameProcessor
    max_length: int

    @classmethod
    def load(cls, recipe: Recipe, family: Family) -> SoundProcessor:
        """Return the processor of a tower.

        Raises:
            ModelRefused: its folder does not say how a sound is prepared, or says something unknown.
        """
        sounds = read_audio_processor(recipe.folder)
        if sounds is None:
            raise ModelRefused(
                f"{recipe.folder} reads sounds, and has no preprocessor_config.json that says how they are prepared."
            )
        return cls(sounds, family.positions)

    @property
    def digest(self) -> str:
        """What identifies the preparation."""
        return self.sounds.digest

    def read(self, sound: Audio, limits: MediaLimits = DEFAULT_MEDIA_LIMITS) -> Sequence[MelFeatures | FrameFeatures]:
        """Decode a sound and prepare its windows, whose vectors are averaged.

        Raises:
            InputError: it cannot be decoded, or has more bytes, seconds or channels than the limits.
        """
        return self.sounds.prepare(sound.read(self.sounds.rate, limits.sounds))

    def probes(self) -> tuple[Features, Features]:
        """Return the features of two sounds, a short one first: every model is tested with them when it loads."""
        rate = self.sounds.rate
        wave = np.sin(np.linspace(0, 440 * 2 * np.pi, rate, dtype=np.float32))
        return self.read(Audio(wave[: rate // 10], rate=rate))[0], self.read(Audio(wave, rate=rate))[0]


MediaProcessor = PictureProcessor | SoundProcessor
#: The processor of each modality but texts.
_MEDIA: Mapping[str, type[PictureProcessor] | type[SoundProcessor]] = {
    "image": PictureProcessor,
    "audio": SoundProcessor,
}


#: Texts with which every model is tested when it is loaded, a short one first.
_PROBES = ["a", "The probe that every model passes before it serves."]


def load_processor(recipe: Recipe, family: Family, max_length: int | None = None) -> Tokenizer | MediaProcessor:
    """Return what turns the inputs of a model into features.

    Raises:
        InputError: ``max_length`` is set for a model that reads no texts, or is more than there are
            positions.
        ModelRefused: there is no tokenizer, or no description of how inputs are prepared; or it is another model's.
    """
    if recipe.modality == "text":
        return load_tokenizer(recipe, family, max_length)
    if max_length is not None:
        raise InputError(f"{recipe.name} reads no texts, and max_length is for these.", param="max_length")
    return _MEDIA[recipe.modality].load(recipe, family)


def space_of_recipe(recipe: Recipe) -> str:
    """Return the name of the space of a model that is not loaded, as its main tower and the others have it."""
    family = families.resolve(recipe.config)
    weights = family.split_adapters(open_weights(recipe.weights).first_scope(family.weight_prefixes)).weights
    return space_name(recipe, weights.digest, load_processor(recipe, family).digest)


def probe_features(processor: Tokenizer | MediaProcessor) -> tuple[Features, Features]:
    """Return the features of two inputs with which every model is tested when it is loaded."""
    if not isinstance(processor, Tokenizer):
        return processor.probes()
    short, long = processor.encode(_PROBES)
    return TextFeatures(short.ids), TextFeatures(long.ids)


def load_tokenizer(recipe: Recipe, family: Family, max_length: int | None = None) -> Tokenizer:
    """Return the tokenizer of a model; ``max_length`` is the number of tokens to read, if fewer than the model reads.

    Raises:
        InputError: ``max_length`` is more than the model has positions.
        ModelRefused: there is no tokenizer, or it belongs to another model.
    """
    allowed = min(recipe.max_length, family.positions)
    if max_length is not None and not 1 <= max_length <= family.positions:
        raise InputError(
            f"max_length must be from 1 to {family.positions} for {recipe.name}, not {max_length}.", param="max_length"
        )
    options: dict[str, Any] = {"lowercase": recipe.do_lower_case, "settings": recipe.tokenizer_settings}
    options["rules"] = recipe.text_rules
    rows = family.vocab_size
    if recipe.config.get("model_type") == "static":
        own = recipe.config["layout"] == "model2vec"
        rows -= 1  # the last one is for texts without a token
        options.update(bare=True, drop_unknown=own, blank=rows, file_only=True)
        options["settings"] = {"truncation_side": "right"} if own else {}
    return Tokenizer.load(recipe.folder, max_length=max_length or allowed, table_rows=rows, **options)


def processor_warnings(tokenizer: Tokenizer | MediaProcessor) -> tuple[str, ...]:
    """Return what a user must know about the tokenizer of a model that is loaded all the same."""
    warnings: list[str] = []
    if not isinstance(tokenizer, Tokenizer):
        return ()
    if tokenizer.tokens_without_row:
        number, token = min(tokenizer.tokens_without_row.items())
        count = len(tokenizer.tokens_without_row)
        warnings.append(
            f"the embedding table has no row for {count} token{'s' * (count > 1)} of the tokenizer (such as {token!r}, "
            f"id {number}): texts that contain {'one of them' if count > 1 else 'it'} are refused"
        )
    if not tokenizer.is_bounded:
        warnings.append(
            f"the tokenizer may take very long for some texts, because of {tokenizer.backend.slow_part}: it runs in a "
            "process, and a text that takes it more than some seconds is refused"
        )
    return tuple(warnings)


def warnings_before_loading(recipe: Recipe) -> tuple[str, ...]:
    """Return the warnings of a model that is not loaded; the error of a tokenizer that cannot be loaded is one."""
    if recipe.exported_graph is not None:
        return ()
    try:
        return processor_warnings(load_processor(recipe, families.resolve(recipe.config)))
    except families.NoFamily:
        return ()
    except ModelRefused as error:
        return (str(error),)
