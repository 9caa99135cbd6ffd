"""Image processors read from a folder: their pixels are those of transformers' own processors, to the last bit."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from nearfield.checkpoint.processors.image import TYPES, create_image_processor, read_image_processor
from nearfield.checkpoint.processors.image_processor import ImageProcessor
from nearfield.checkpoint.processors.patch_budget import PatchBudget, SmartResize, SoftTokenBudget
from nearfield.checkpoint.processors.resize_and_crop import ResizeAndCrop
from nearfield.checkpoint.processors.resizing import CropRule, ResizeRule, resize_and_crop
from nearfield.errors import InputError, ModelRefused
from nearfield.features import PatchLayout
from nearfield.media.image import read_picture
from tests.support import odd_pictures as odd

pytestmark = [pytest.mark.slow]
ODD = dict(odd.odd_pictures())
TRANSPARENT = dict(odd.transparent_pictures())
ORIENTED = {f"orientation {number}": odd.with_orientation(number) for number in range(1, 9)}
DINO = {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
#: Class of transformers, options that differ from its defaults, and patch size.
PROCESSORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "CLIP": ("CLIPImageProcessorPil", {}, 32),
    "CLIP 336": ("CLIPImageProcessorPil", {"size": 336, "crop_size": 336}, 14),
    "CLIP odd crop": ("CLIPImageProcessorPil", {"size": {"shortest_edge": 97}, "crop_size": 64}, 16),
    "CLIP crop larger than picture": ("CLIPImageProcessorPil", {"size": 50, "crop_size": [96, 64]}, 16),
    "CLIP crop alone": ("CLIPImageProcessorPil", {"do_resize": False, "crop_size": 64}, 16),
    "CLIP both edges": (
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": 100, "longest_edge": 160}, "crop_size": 96},
        16,
    ),
    "CLIP inside": (
        "CLIPImageProcessorPil",
        {"size": {"max_height": 100, "max_width": 160}, "do_center_crop": False, "do_pad": True, "pad_size": 160},
        16,
    ),
    "CLIP not normalised": ("CLIPImageProcessorPil", {"do_normalize": False}, 32),
    "CLIP not rescaled": ("CLIPImageProcessorPil", {"do_rescale": False}, 32),
    "CLIP Lanczos": ("CLIPImageProcessorPil", {"resample": 1}, 32),
    "Chinese-CLIP": ("ChineseCLIPImageProcessorPil", {}, 16),
    "SigLIP": ("SiglipImageProcessorPil", {}, 16),
    "SigLIP bilinear": ("SiglipImageProcessorPil", {"resample": 2, "size": {"height": 96, "width": 160}}, 16),
    "ViT": ("ViTImageProcessorPil", {"do_convert_rgb": True}, 16),
    "DINOv2": ("BitImageProcessorPil", DINO, 14),
}


def reference(name: str) -> Any:
    """Return a processor of transformers."""
    import transformers

    kind, options, _ = PROCESSORS[name]
    return getattr(transformers, kind)(**options)


@pytest.fixture(scope="module", params=PROCESSORS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ImageProcessor, int]:
    """A processor of transformers, ours of the folder that it saved, and the patch size."""
    folder = tmp_path_factory.mktemp("processor")
    theirs = reference(request.param)
    theirs.save_pretrained(folder)
    ours = read_image_processor(folder)
    assert ours is not None
    return theirs, ours, PROCESSORS[request.param][2]


def opened(data: bytes) -> Pillow.Image:
    """Return a file as Pillow opens it."""
    return Pillow.open(io.BytesIO(data))


def test_pixels(pair: tuple[Any, ImageProcessor, int]) -> None:
    """More than 40 pictures. The normalised values are equal to the last bit, so the uint8 pixels are, too."""
    theirs, ours, patch = pair
    pictures = {**ODD, **TRANSPARENT}
    assert len(pictures) > 40
    layout = PatchLayout(patch, lead=1)
    for name, data in pictures.items():
        expected = theirs(opened(data), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        features = ours.process(read_picture(data), layout)
        rows, columns = features.grid
        expected = expected[: rows * patch, : columns * patch]
        np.testing.assert_array_equal(features.layout.normalised(features.pixels), expected, err_msg=name)
        assert features.cost == 1 + rows * columns == len(features.arrays()["patches"])


def test_patches_are_the_convolution_of_the_reference(pair: tuple[Any, ImageProcessor, int]) -> None:
    import torch

    theirs, ours, patch = pair
    data = ODD["640x427"]
    kernel = torch.randn(8, 3, patch, patch, generator=torch.Generator().manual_seed(0))
    values = theirs(opened(data), return_tensors="pt")["pixel_values"].float()
    expected = torch.nn.functional.conv2d(values, kernel, stride=patch)[0].flatten(1).T.numpy()
    rows = ours.process(read_picture(data), PatchLayout(patch)).arrays()["patches"]
    np.testing.assert_allclose(rows @ kernel.reshape(8, -1).numpy().T, expected, rtol=1e-4, atol=2e-2)


def test_size(pair: tuple[Any, ImageProcessor, int]) -> None:
    _, ours, _ = pair
    shapes = {ours.prepare(read_picture(ODD[name]).pixels).shape[:2] for name in ("640x427", "20x1000", "7x1")}
    assert ours.size is None or shapes == {ours.size}


def test_orientation_differs_from_the_reference() -> None:
    """The processors of transformers ignore EXIF: ours are theirs on the upright picture."""
    theirs = reference("CLIP")
    ours = create_image_processor(theirs.to_dict(), "file")
    for name, data in ORIENTED.items():
        expected = theirs(ImageOps.exif_transpose(opened(data)), do_rescale=False, do_normalize=False)
        prepared = ours.prepare(read_picture(data).pixels)
        np.testing.assert_array_equal(prepared, expected["pixel_values"][0].transpose(1, 2, 0), err_msg=name)
        ignored = theirs(opened(data), do_rescale=False, do_normalize=False)["pixel_values"][0].transpose(1, 2, 0)
        assert np.array_equal(prepared, ignored) == (name == "orientation 1")


def test_16_bits_differ_from_the_reference() -> None:
    """Pillow's conversion, which transformers uses, clips 16 bits to 255: nearly all of a ramp becomes white."""
    theirs = reference("SigLIP")
    ours = create_image_processor(theirs.to_dict(), "file")
    data = odd.encode(odd.ramp16(), "PNG")
    clipped = theirs(opened(data), do_rescale=False, do_normalize=False)["pixel_values"][0]
    assert (clipped == 255).mean() > 0.95
    grey = Pillow.fromarray((np.asarray(odd.ramp16()) // 256).astype(np.uint8))
    right = theirs(grey, do_rescale=False, do_normalize=False)["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_array_equal(ours.prepare(read_picture(data).pixels), right)


def test_largest_picture() -> None:
    theirs = reference("CLIP")
    data = odd.encode(odd.smooth(*odd.LARGE), "JPEG", quality=50)
    expected = theirs(opened(data), do_rescale=False, do_normalize=False)["pixel_values"][0].transpose(1, 2, 0)
    ours = create_image_processor(theirs.to_dict(), "file")
    np.testing.assert_array_equal(ours.prepare(read_picture(data).pixels), expected)


# -- SigLIP 2 NaFlex


@pytest.mark.parametrize("budget", [256, 49, 1024])
def test_naflex(budget: int, tmp_path: Path) -> None:
    from transformers import Siglip2ImageProcessorPil

    theirs = Siglip2ImageProcessorPil(max_num_patches=budget, do_convert_rgb=True)
    theirs.save_pretrained(tmp_path)
    ours = read_image_processor(tmp_path)
    assert isinstance(ours, PatchBudget) and ours.size is None
    for name, data in {**ODD, **TRANSPARENT}.items():
        expected = theirs(opened(data), return_tensors="np")
        features = ours.process(read_picture(data), PatchLayout(16, channels_last=True))
        assert features.grid == tuple(expected["spatial_shapes"][0]), name
        patches = expected["pixel_values"][0][: features.cost]
        np.testing.assert_allclose(features.arrays()["patches"], patches, atol=1e-6, err_msg=name)
    with pytest.raises(ModelRefused, match="patches of 14 pixels, and its processor of 16"):
        ours.process(read_picture(ODD["1x1"]), PatchLayout(14))


def test_naflex_sizes() -> None:
    from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches as theirs

    random = np.random.default_rng(0)
    for height, width in random.integers(1, 9000, (300, 2)).tolist():
        budget = int(random.integers(1, 2000))
        ours = PatchBudget(2, 1.0, (0, 0, 0), (1, 1, 1), patch_size=16, resize=True, max_patches=budget)
        assert ours.target(height, width) == theirs(height, width, 16, budget)


# -- Qwen2-VL


def test_smart_resize(tmp_path: Path) -> None:
    from transformers import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    theirs = Qwen2VLImageProcessorPil(patch_size=16, min_pixels=4096, max_pixels=100_000)
    theirs.save_pretrained(tmp_path)
    ours = read_image_processor(tmp_path)
    assert isinstance(ours, SmartResize) and (ours.patch_size, ours.merge, ours.max_pixels) == (16, 2, 100_000)
    for name, data in {**ODD, **TRANSPARENT}.items():
        expected = theirs(opened(data), return_tensors="np")
        features = ours.process(read_picture(data), PatchLayout(16))
        assert (1, *features.grid) == tuple(expected["image_grid_thw"][0]), name
        values = np.sort(expected["pixel_values"][:, : 16 * 16].ravel())  # the first channel of the first half
        red = features.layout.normalised(features.pixels)[..., 0]
        assert len(values) == red.size
        np.testing.assert_allclose(np.sort(red.ravel()), values, atol=1e-6, err_msg=name)
    for height, width in np.random.default_rng(0).integers(50, 9000, (300, 2)).tolist():
        assert ours.target(height, width) == smart_resize(height, width, 32, 4096, 100_000)
    with pytest.raises(InputError, match="too long and narrow"):
        ours.process(read_picture(np.zeros((2, 500, 3), np.uint8)), PatchLayout(16))


def test_pixels_of_old_qwen_files() -> None:
    config = {"image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 3136, "max_pixels": 12845056}
    ours = create_image_processor(config, "file")
    assert isinstance(ours, SmartResize) and (ours.min_pixels, ours.max_pixels) == (3136, 12845056)
    for size in ({"height": 3, "width": 3}, {"shortest_edge": 0, "longest_edge": 9}, 224):
        with pytest.raises(ModelRefused, match="size must be"):
            create_image_processor({"image_processor_type": "Qwen2VLImageProcessor", "size": size}, "file")


# -- Gemma 4


def test_gemma(tmp_path: Path) -> None:
    from transformers import Gemma4ImageProcessorPil
    from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

    theirs = Gemma4ImageProcessorPil(max_soft_tokens=70)
    theirs.save_pretrained(tmp_path)
    ours = read_image_processor(tmp_path)
    assert isinstance(ours, SoftTokenBudget) and ours.size is None
    for name, data in {**ODD, **TRANSPARENT}.items():
        expected = theirs(opened(data), return_tensors="np")
        features = ours.process(read_picture(data), PatchLayout(16, channels_last=True))
        assert features.cost == 9 * expected["num_soft_tokens_per_image"][0], name
        patches = expected["pixel_values"][0][: features.cost]
        np.testing.assert_array_equal(features.arrays()["patches"], patches, err_msg=name)
    for height, width in [(1, 32000), (32000, 1), *np.random.default_rng(0).integers(1, 9000, (300, 2)).tolist()]:
        assert ours.target(height, width) == get_aspect_ratio_preserving_size(height, width, 16, 630, 3)
    with pytest.raises(ModelRefused, match="max_soft_tokens must be one of 70"):
        create_image_processor({"image_processor_type": "Gemma4ImageProcessor", "max_soft_tokens": 71}, "file")


# -- DINOv3: its processor needs torchvision, whose resize of floats is this function of torch


def test_dinov3() -> None:
    import torch

    config = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 224, "width": 224}}
    ours = create_image_processor(config, "file")
    assert ours.size == (224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    for name in ("640x427", "223x225", "1x7", "20x1000", "JPEG RGB"):
        pixels = read_picture(ODD[name]).pixels
        values = torch.from_numpy(pixels).permute(2, 0, 1).float()[None] * (1 / 255)
        resized = torch.nn.functional.interpolate(values, (224, 224), mode="bilinear", antialias=True)[0]
        expected = ((resized - mean) / std).permute(1, 2, 0).numpy()
        prepared = ours.prepare(pixels)
        assert prepared.dtype == np.float32
        np.testing.assert_allclose(prepared, expected, atol=3e-5, err_msg=name)  # torch's weights are float32


# -- open_clip


def open_clip(folder: Path, preprocess: dict[str, Any], image_size: int = 224) -> ImageProcessor | None:
    """Return the processor of an open_clip folder."""
    file = {"model_cfg": {"vision_cfg": {"image_size": image_size}}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(file))
    return read_image_processor(folder)


def test_open_clip_shortest(tmp_path: Path) -> None:
    """torchvision rounds odd margins to the even number: 225 - 224 = 1 is cut off at the end, 227 - 224 = 3 on both."""
    ours = open_clip(tmp_path, {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]})
    assert isinstance(ours, ResizeAndCrop) and ours.size == (224, 224) and ours.mean == (0.5, 0.5, 0.5)
    for width, left in ((224, 0), (225, 0), (226, 1), (227, 2), (229, 2), (231, 4)):
        picture = odd.smooth(width, 224)
        np.testing.assert_array_equal(ours.prepare(np.asarray(picture)), np.asarray(picture)[:, left : left + 224])
    expected = odd.smooth(640, 427).resize((335, 224), Pillow.Resampling.BICUBIC).crop((56, 0, 280, 224))
    np.testing.assert_array_equal(ours.prepare(np.asarray(odd.smooth(640, 427))), np.asarray(expected))


def test_open_clip_modes(tmp_path: Path) -> None:
    picture = odd.smooth(200, 100)
    squash = open_clip(tmp_path, {"size": [64, 96], "resize_mode": "squash", "interpolation": "bilinear"})
    assert squash is not None
    expected = picture.resize((96, 64), Pillow.Resampling.BILINEAR)
    np.testing.assert_array_equal(squash.prepare(np.asarray(picture)), np.asarray(expected))
    inside = open_clip(tmp_path, {"size": 64, "resize_mode": "longest", "fill_color": 7})
    assert inside is not None
    padded = Pillow.new("RGB", (64, 64), (7, 7, 7))
    padded.paste(picture.resize((64, 32), Pillow.Resampling.BICUBIC), (0, 16))
    np.testing.assert_array_equal(inside.prepare(np.asarray(picture)), np.asarray(padded))
    cover = open_clip(tmp_path, {"size": [64, 96], "resize_mode": "shortest"})
    assert cover is not None
    expected = picture.resize((128, 64), Pillow.Resampling.BICUBIC).crop((16, 0, 112, 64))
    np.testing.assert_array_equal(cover.prepare(np.asarray(picture)), np.asarray(expected))
    default = open_clip(tmp_path, {}, image_size=64)
    assert isinstance(default, ResizeAndCrop) and default.size == (64, 64) and default.mean[0] == 0.48145466


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sharpen": 2}, "unknown key 'sharpen'"),
        ({"resize_mode": "tile"}, "resize_mode must be"),
        ({"interpolation": "nearest"}, "interpolation must be"),
        ({"mode": "L"}, "mode must be 'RGB'"),
        ({"fill_color": 300}, "fill_color must be"),
        ({"size": "big"}, "size must be"),
        ({"std": [1, 2]}, "std must be"),
    ],
)
def test_open_clip_refusals(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        open_clip(tmp_path, config)


# -- files


def test_files_and_their_order(tmp_path: Path) -> None:
    assert read_image_processor(tmp_path) is None
    open_clip(tmp_path, {"size": 64})
    preprocessor = tmp_path / "preprocessor_config.json"
    preprocessor.write_text('{"feature_extractor_type": "ClapFeatureExtractor", "sampling_rate": 48000}')
    only_open_clip = read_image_processor(tmp_path)
    assert only_open_clip is not None and only_open_clip.size == (64, 64)
    preprocessor.write_text('{"feature_extractor_type": "CLIPFeatureExtractor", "size": 96, "crop_size": 80}')
    old = read_image_processor(tmp_path)
    assert isinstance(old, ResizeAndCrop) and old.resize == ResizeRule("shortest_edge", (96,)) and old.size == (80, 80)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert read_image_processor(tmp_path) == old
    nested = {"image_processor": {"image_processor_type": "SiglipImageProcessorFast", "size": [48, 32]}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    first = read_image_processor(tmp_path)
    assert isinstance(first, ResizeAndCrop) and first.size == (48, 32) and first.crop is None
    preprocessor.write_text("{")
    with pytest.raises(ModelRefused, match="cannot be read as JSON"):
        read_image_processor(tmp_path)


@pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
@pytest.mark.parametrize("name", TYPES)
def test_suffixes(name: str, suffix: str) -> None:
    assert create_image_processor({"image_processor_type": name + suffix}, "file") == create_image_processor(
        {"image_processor_type": name}, "file"
    )


def test_old_files_without_a_type(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": 224, "do_resize": true, "crop_size": 224}')
    with pytest.raises(ModelRefused, match="no image_processor_type"):
        read_image_processor(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert read_image_processor(tmp_path) == create_image_processor({"image_processor_type": "CLIPImageProcessor"}, "")


def test_files_with_nulls() -> None:
    """Version 5 of transformers writes all keys, most of them null."""
    nulls = dict.fromkeys(("crop_size", "do_center_crop", "do_pad", "pad_size", "device", "return_tensors", "size"))
    config = {"image_processor_type": "SiglipImageProcessorFast", "data_format": "channels_first", **nulls}
    assert create_image_processor(config, "file") == create_image_processor(
        {"image_processor_type": "SiglipImageProcessor"}, "file"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sharpen": True}, "unknown key 'sharpen'"),
        ({"image_processor_type": "SamImageProcessor"}, "unknown image_processor_type 'SamImageProcessor'"),
        ({"image_processor_type": "CLIPImageProcesor"}, "Did you mean 'CLIPImageProcessor'"),
        ({"auto_map": {"AutoImageProcessor": "x.Y"}}, "auto_map"),
        ({"size": {"longest_edge": 224}}, "size must be"),
        ({"size": -1}, "size must be"),
        ({"size": {"height": 10}}, "size must be"),
        ({"crop_size": {"shortest_edge": 3}}, "crop_size must be"),
        ({"resample": 9}, "resample must be"),
        ({"resample": "bicubic"}, "resample must be"),
        ({"do_resize": "yes"}, "do_resize must be true or false"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std must be"),
        ({"image_std": float("inf")}, "image_std must be"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be"),
        ({"do_pad": True}, "do_pad without pad_size"),
        ({"image_processor_type": 3}, "no image_processor_type"),
        ({"max_num_patches": 256}, "unknown key 'max_num_patches'"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        create_image_processor({"image_processor_type": "CLIPImageProcessor", **values}, "file")


def test_one_number_for_all_channels() -> None:
    ours = create_image_processor({"image_processor_type": "CLIPImageProcessor", "image_mean": 0.5}, "file")
    assert ours.mean == (0.5, 0.5, 0.5)


# -- digest, layout, limits


def test_digest_has_all_that_moves_a_pixel() -> None:
    configs: list[dict[str, Any]] = [
        {},
        {"resample": 2},
        {"size": 225},
        {"size": [224, 224]},
        {"crop_size": 223},
        {"do_center_crop": False},
        {"image_mean": 0.5},
        {"image_std": 0.5},
        {"rescale_factor": 0.5},
        {"do_pad": True, "pad_size": 500},
        {"image_processor_type": "DINOv3ViTImageProcessor"},
        {"image_processor_type": "ViTImageProcessor"},
        {"image_processor_type": "Siglip2ImageProcessor"},
        {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 100},
        {"image_processor_type": "Qwen2VLImageProcessor"},
    ]
    digests = {
        create_image_processor({"image_processor_type": "CLIPImageProcessor", **config}, "file").digest
        for config in configs
    }
    assert len(digests) == len(configs)
    same = {
        "do_convert_rgb": True,
        "processor_class": "CLIPProcessor",
        "image_processor_type": "CLIPImageProcessorFast",
    }
    assert create_image_processor(same, "file").digest in digests


@pytest.mark.parametrize(
    ("resample", "digest"),
    [
        (0, "d20389f7c991e80f"),
        (1, "5e886904ad5c3dab"),
        (2, "90e252e085c4b8f4"),
        (3, "c8c6c09ff1c39359"),
        (4, "c4f147b87bbd5bad"),
        (5, "9c695639919cbcad"),
    ],
)
def test_pillow_resizes_as_it_did(resample: int, digest: str) -> None:
    """If this fails with a new Pillow, stored vectors of pictures no longer compare: raise ``_DECODING``."""
    rows, columns = np.mgrid[0:90, 0:130]
    pixels = np.stack([rows * 2 + columns, rows * columns % 251, (rows ^ columns) * 3], -1).astype(np.uint8)
    config = {"image_processor_type": "CLIPImageProcessor", "resample": resample}
    prepared = create_image_processor(config, "file").process(read_picture(pixels), PatchLayout(32)).pixels
    assert hashlib.sha256(prepared.tobytes()).hexdigest()[:16] == digest


def test_layout_is_one_object() -> None:
    ours = create_image_processor({"image_processor_type": "CLIPImageProcessor"}, "file")
    first = ours.process(read_picture(ODD["2x3"]), PatchLayout(32, lead=1))
    second = ours.process(read_picture(ODD["1x7"]), PatchLayout(32, lead=1))
    assert first.layout is second.layout and first.layout.mean == ours.mean and first.layout.lead == 1
    assert first.digest() == read_picture(ODD["2x3"]).content != second.digest()


def test_picture_smaller_than_a_patch() -> None:
    config = {"image_processor_type": "CLIPImageProcessor", "do_resize": False, "do_center_crop": False}
    with pytest.raises(InputError, match="2 x 3 pixels is smaller than a patch"):
        create_image_processor(config, "file").process(read_picture(ODD["2x3"]), PatchLayout(16))


def test_long_and_narrow_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the cropped part is resized where all of it would be huge. Where both are possible, they agree."""
    rule, crop = ResizeRule("shortest_edge", (64,)), CropRule(64, 64)
    pictures = [np.asarray(odd.smooth(*size)) for size in ((30, 700), (701, 31), (64, 900), (1, 999), (3, 2))]
    expected = [resize_and_crop(pixels, rule, crop, 3) for pixels in pictures]
    monkeypatch.setattr("nearfield.checkpoint.processors.resizing.MAX_RESIZED", 1)
    for pixels, whole in zip(pictures, expected, strict=True):
        part = resize_and_crop(pixels, rule, crop, 3)
        assert np.abs(part.astype(int) - whole).max() <= 1
    with pytest.raises(InputError, match="too long and narrow"):
        resize_and_crop(pictures[0], rule, None, 3)


def test_thinnest_picture() -> None:
    ours = create_image_processor({"image_processor_type": "CLIPImageProcessor"}, "file")
    assert ours.prepare(np.full((1, 32_000, 3), 9, np.uint8)).tolist() == np.full((224, 224, 3), 9).tolist()
