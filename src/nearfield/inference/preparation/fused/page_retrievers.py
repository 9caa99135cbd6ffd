"""Sequences of visual document retrievers: a picture within the short text that the model was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.patch_budget import SmartResize
from nearfield.checkpoint.processors.tiles import TileSplit
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.checkpoint.towers.page_retrievers import read_page_retriever
from nearfield.errors import InputError, InputTooLong, ModelRefused
from nearfield.features import PatchFeatures, PatchLayout
from nearfield.fused_features import FusedFeatures, MediaPart
from nearfield.inference.preparation.fused import FusedInput, FusedOptions, FusedProcessor
from nearfield.inference.preparation.fused.qwen3_vl import rotary_positions
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.limits import MediaLimits
from nearfield.recipe import Multivector, Recipe

if TYPE_CHECKING:
    from nearfield.inference.processors import MediaProcessor

#: Sizes of pages whose ids are cached.
_MAX_SIZES = 256
#: Rows and columns of tiles, or of the rows that the tower gives.
Grid = tuple[int, int]


class PageProcessor(FusedProcessor):
    """Turns a page into a sequence. Queries are texts, and go the way of all texts.

    A page is never cut: one that is too long is an error.
    """

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, media: Mapping[str, MediaProcessor]) -> None:
        super().__init__(recipe, tokenizer, media)
        head = recipe.head("multivector")
        self._keep = head.document.keep if isinstance(head, Multivector) else ()
        self._format = read_page_retriever(recipe.folder, None, recipe.merged).format
        self._placeholder = self.token(self._format.image_token)
        stated = recipe.config.get("image_token_id")
        if stated not in (None, self._placeholder):
            raise ModelRefused(
                f"config.json: the placeholder of pictures is {stated!r}, and the tokenizer's "
                f"{self._format.image_token} has the id {self._placeholder}"
            )
        images, layout = getattr(media["image"], "images", None), getattr(media["image"], "layout", None)
        if not isinstance(images, ImageProcessor) or not isinstance(layout, PatchLayout):
            raise ModelRefused(f"{recipe.folder} has no description of how pages are prepared")
        self._images, self._layout = images, layout
        self._check_images()
        self._pages: dict[Grid, list[int]] = {}

    def read(self, content: MixedContent, options: FusedOptions) -> FusedInput:
        pictures = content.parts_of(Image)
        if len(pictures) != 1 or len(content.parts) != 1:
            raise InputError(
                "This model reads a page, which is one picture, or a query, which is a text: not several parts in one "
                "input.",
                param="input",
            )
        if options.prompt.removeprefix(self._format.query_prefix):
            raise InputError("A page has no prompt: leave out prompt, prompt_name and instruction.", param="prompt")
        grid, features = self._read(pictures[0], options.media)
        ids = self._page(grid)
        if len(ids) > options.max_length:
            raise InputTooLong(
                f"its picture makes a page of {len(ids)} tokens, and at most {options.max_length} are read: send a "
                "smaller one, or raise max_length",
                param="input",
            )
        places = np.flatnonzero(np.asarray(ids) == self._placeholder).astype(np.int32)
        counts = [part.cost // self._layout.merge**2 for part in features]
        split = np.split(places, np.cumsum(counts)[:-1])
        parts = tuple(MediaPart("image", part, own) for part, own in zip(features, split, strict=True))
        # As in sentence-transformers, a picture that is a query has all of its vectors.
        keeps_some = self._keep and options.role != "query"
        tokens = np.flatnonzero(np.isin(np.asarray(ids), self._keep)) if keeps_some else None
        return FusedInput(FusedFeatures(ids, parts, self._positions(len(ids), parts)), kept_tokens=tokens)

    def _check_images(self) -> None:
        """Refuse a processor of pictures that is another architecture's."""
        if isinstance(self._images, TileSplit) or self._images.size is None:
            raise ModelRefused("the processor of pictures does not give them the size that the model reads")

    def _read(self, picture: Image, limits: MediaLimits) -> tuple[Grid, Sequence[PatchFeatures]]:
        """Return what the tower reads of a picture, and the rows and columns of what it gives."""
        features = self._images.process(picture.read(limits.pictures), self._layout)
        rows, columns = features.grid
        return (rows // self._layout.merge, columns // self._layout.merge), [features]

    def _placeholders(self, grid: Grid) -> str:
        """Return what takes the place of the placeholder in the text of a page."""
        return self._format.image_token * (grid[0] * grid[1])

    def _positions(self, length: int, parts: tuple[MediaPart, ...]) -> Array | None:  # noqa: ARG002 - of subclasses
        """Return the rotary positions of the tokens, where a model has triples of them."""
        return None

    def _page(self, grid: Grid) -> list[int]:
        """Return the ids of a page, special tokens included."""
        ids = self._pages.get(grid)
        if ids is None:
            text = self._format.page.replace(self._format.image_token, self._placeholders(grid))
            backend = self.tokenizer.backend
            ids = list(backend.encode(text, add_special_tokens=False).ids)
            if self._format.framed:
                # Queries are augmented before the tokenizer's own last tokens, and pages are not.
                augmentation = len(backend.encode(self._format.rules.end, add_special_tokens=False).ids)
                ids = [*self.tokenizer.prefix, *ids, *self.tokenizer.suffix[augmentation:]]
            if len(self._pages) < _MAX_SIZES:
                self._pages[grid] = ids
        return ids


class TiledPageProcessor(PageProcessor):
    """Pages of ModernVBERT: a mark before the rows of each tile says its row and column; the whole picture is last."""

    _AROUND, _WHOLE = "<fake_token_around_image>", "<global-img>"

    def _check_images(self) -> None:
        if not isinstance(self._images, TileSplit) or self._images.tile % (self._layout.patch * self._layout.merge):
            raise ModelRefused("the processor of pictures must be Idefics3ImageProcessor, with tiles of whole rows")

    def _read(self, picture: Image, limits: MediaLimits) -> tuple[Grid, Sequence[PatchFeatures]]:
        assert isinstance(self._images, TileSplit)
        return self._images.process_tiles(picture.read(limits.pictures), self._layout)

    def _placeholders(self, grid: Grid) -> str:
        assert isinstance(self._images, TileSplit)
        edge = self._images.tile // self._layout.patch // self._layout.merge
        rows = self._format.image_token * edge**2
        whole = f"{self._AROUND}{self._WHOLE}{rows}{self._AROUND}"
        if grid == (0, 0):
            return whole
        lines = (
            "".join(f"{self._AROUND}<row_{row}_col_{column}>{rows}" for column in range(1, grid[1] + 1))
            for row in range(1, grid[0] + 1)
        )
        return "".join(f"{line}\n" for line in lines) + f"\n{whole}"


class QwenPageProcessor(PageProcessor):
    """Pages of Qwen2-VL and Qwen2.5-VL, whose positions are triples of time, row and column."""

    def _check_images(self) -> None:
        if not isinstance(self._images, SmartResize) or self._images.merge != self._layout.merge:
            raise ModelRefused(
                "the processor of pictures must be Qwen2VLImageProcessor, with the merge_size of the config's "
                "spatial_merge_size"
            )

    def _positions(self, length: int, parts: tuple[MediaPart, ...]) -> Array:
        return rotary_positions(length, parts, self._layout.merge)
