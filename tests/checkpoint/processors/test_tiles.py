"""Pictures cut into tiles: the pixels are those of transformers' own processor with Pillow, to the last bit."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from nearfield.checkpoint.processors.image import create_image_processor, read_image_processor
from nearfield.checkpoint.processors.tiles import TileSplit
from nearfield.errors import ModelRefused
from nearfield.features import PatchLayout
from nearfield.media.image import read_picture
from tests.support import odd_pictures as odd

#: Width and height: a point, narrow, flat, exactly one tile, odd sizes, larger than all tiles.
SIZES = ((1, 1), (7, 1), (20, 1000), (1000, 20), (32, 32), (33, 31), (97, 61), (223, 225), (640, 427))
OPTIONS: dict[str, dict[str, Any]] = {
    "tiles": {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}},
    "tiles of an odd edge": {"size": {"longest_edge": 101}, "max_image_size": {"longest_edge": 28}},
    "one tile": {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}},
    "one size for all": {"size": {"height": 70, "width": 40}, "max_image_size": {"longest_edge": 32}},
    "no first resize": {"do_resize": False, "max_image_size": {"longest_edge": 64}},
    "the whole alone": {
        "size": {"longest_edge": 96},
        "max_image_size": {"longest_edge": 32},
        "do_image_splitting": False,
    },
}


@pytest.fixture(scope="module", params=OPTIONS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TileSplit]:
    """A processor of transformers, and ours of the file that it saved."""
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    theirs = Idefics3ImageProcessorPil(**OPTIONS[request.param])
    theirs.save_pretrained(folder := tmp_path_factory.mktemp("processor"))
    ours = read_image_processor(folder)
    assert isinstance(ours, TileSplit)
    return theirs, ours


def test_tiles(pair: tuple[Any, TileSplit]) -> None:
    theirs, ours = pair
    for width, height in SIZES:
        data = odd.encode(odd.smooth(width, height, width), "PNG")
        batch = theirs(Pillow.open(io.BytesIO(data)), return_tensors="np", return_row_col_info=True)
        grid, parts = ours.process_tiles(read_picture(data), PatchLayout(4))
        assert grid == (batch["rows"][0][0], batch["cols"][0][0])
        expected = batch["pixel_values"][0].transpose(0, 2, 3, 1)
        found = np.stack([part.layout.normalised(part.pixels) for part in parts])
        np.testing.assert_array_equal(found, expected, err_msg=f"{width} x {height}")


def test_each_tile_is_another_input_of_the_tower(pair: tuple[Any, TileSplit]) -> None:
    data = odd.encode(odd.smooth(640, 427), "PNG")
    parts = pair[1].parts(read_picture(data), PatchLayout(4))
    assert len({part.digest() for part in parts}) == len(parts)


def test_all_tiles_below_each_other(pair: tuple[Any, TileSplit]) -> None:
    picture = read_picture(odd.encode(odd.smooth(640, 427), "PNG"))
    tiles = pair[1].tiles(picture.pixels)[1]
    np.testing.assert_array_equal(pair[1].prepare(picture.pixels), np.concatenate(tiles))
    assert {tile.shape[:2] for tile in tiles} == {pair[1].size}


@pytest.mark.parametrize(
    "values",
    [
        {"max_image_size": {"height": 3}},
        {"max_image_size": 512},
        {"size": {"shortest_edge": 5}},
        {"size": {"longest_edge": -1}},
        {"do_image_splitting": "yes"},
    ],
)
def test_values_of_another_form_are_refused_by_name(values: dict[str, Any]) -> None:
    config = {"image_processor_type": "Idefics3ImageProcessorFast", **values}
    with pytest.raises(ModelRefused, match=next(iter(values))):
        create_image_processor(config, "preprocessor_config.json")


def test_the_digest_depends_on_what_changes_pixels() -> None:
    config = {"image_processor_type": "Idefics3ImageProcessor", "max_image_size": {"longest_edge": 512}}
    digests = {
        create_image_processor({**config, **change}, "file").digest
        for change in ({}, {"do_image_splitting": False}, {"max_image_size": {"longest_edge": 256}})
    }
    assert len(digests) == 3
