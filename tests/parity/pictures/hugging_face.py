"""Models as transformers saves them, against transformers with its processors that use Pillow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from nearfield.features import PatchFeatures
from tests.parity import Array
from tests.parity.pictures.case import PictureCase
from tests.support import tiny_models, tiny_towers

REFERENCE = "transformers"
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP = {"size": {"shortest_edge": 32}, "crop_size": 32}
_DINO = {"size": {"shortest_edge": 48}, "crop_size": 42, **_IMAGENET}


def of_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return transformers' vectors of picture files, prepared and computed as one batch."""
    from transformers import AutoImageProcessor

    processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert type(processor).__name__.endswith("Pil")
    images = [Pillow.open(file).convert("RGB") for file in files]
    return vectors(folder, [dict(processor(images, return_tensors="pt"))])


def of_pixels(folder: Path, pictures: Sequence[PatchFeatures]) -> Array:
    """Return transformers' vectors of prepared pictures, each computed alone."""
    return vectors(folder, [_inputs(picture) for picture in pictures])


def of_texts(folder: Path, texts: Sequence[str], *, full: bool = True) -> Array:
    """Return transformers' vectors of texts, padded to the table's length if ``full``, and to the longest if not."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if full else True
    inputs = dict(tokenizer(list(texts), truncation=True, max_length=16, padding=padding, return_tensors="pt"))
    if full:  # SigLIP attends to its padding; CLIP never sees it
        del inputs["attention_mask"]
    with torch.no_grad():
        return np.asarray(_model(folder).get_text_features(**inputs).pooler_output)


def of_masked_texts(folder: Path, texts: Sequence[str]) -> Array:
    """Return transformers' vectors of texts of which the padding is masked."""
    return of_texts(folder, texts, full=False)


def of_dinov3_files(folder: Path, files: Sequence[Path]) -> Array:
    """Return DINOv3's vectors of picture files: transformers has no processor with Pillow, and this is its order."""
    import torch

    edge = json.loads((folder / "preprocessor_config.json").read_text())["size"]["height"]
    mean, std = (torch.tensor(_IMAGENET[name])[:, None, None] for name in ("image_mean", "image_std"))
    inputs = []
    for file in files:
        values = torch.from_numpy(np.array(Pillow.open(file).convert("RGB"))).permute(2, 0, 1)[None] / 255
        resized = torch.nn.functional.interpolate(values, (edge, edge), mode="bilinear", antialias=True)
        inputs.append({"pixel_values": (resized - mean) / std})
    return vectors(folder, inputs)


def vectors(folder: Path, batches: Sequence[dict[str, Any]]) -> Array:
    """Return transformers' vectors of batches of prepared pictures."""
    import torch

    model = _model(folder)
    with torch.no_grad():
        return np.concatenate([np.asarray(_pooled(model, batch)) for batch in batches])


def _model(folder: Path) -> Any:
    import transformers

    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, kind).from_pretrained(folder).eval()


def _pooled(model: Any, batch: dict[str, Any]) -> Any:
    if hasattr(model, "get_image_features"):
        return model.get_image_features(**batch).pooler_output
    output = model(**batch)
    return output.image_embeds if hasattr(output, "image_embeds") else output.pooler_output


def _inputs(picture: PatchFeatures) -> dict[str, Any]:
    import torch

    if not picture.layout.channels_last:
        return {"pixel_values": tiny_towers.pixel_values(picture)}
    return {
        "pixel_values": torch.from_numpy(picture.arrays()["patches"][None]),
        "pixel_attention_mask": torch.ones(1, picture.cost, dtype=torch.int64),
        "spatial_shapes": torch.tensor([picture.grid]),
    }


def _write(kind: str, processor: str, **options: Any) -> Callable[[Path], Path]:
    """Return a writer of a model without texts, with its processor."""

    def write(folder: Path) -> Path:
        import transformers

        tiny_towers.MODELS[kind](folder)
        getattr(transformers, processor)(**options).save_pretrained(folder)
        return folder

    return write


def _write_naflex(folder: Path) -> Path:
    """Write SigLIP 2 for pictures of any grid: the tokenizer of the fixed one, and at most 20 patches."""
    from transformers import Siglip2ImageProcessorPil

    vocabulary = json.loads((tiny_towers.siglip2_with_tokenizer(folder) / "config.json").read_text())["text_config"]
    for name in ("model.safetensors", "config.json", "processor_config.json", "preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    image = {key: value for key, value in tiny_towers.IMAGE.items() if key != "image_size"}
    text = {**tiny_towers.TEXT, "vocab_size": vocabulary["vocab_size"], "projection_size": 48}
    parts = {"text_config": text, "vision_config": {**image, "num_patches": 16}}
    tiny_towers.write(folder, "Siglip2Model", "Siglip2Config", **parts)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=20).save_pretrained(folder)
    return folder


def _write_dinov3(folder: Path) -> Path:
    tiny_towers.MODELS["dinov3"](folder)
    size = {"height": 32, "width": 32}
    tiny_models.dump(
        folder / "preprocessor_config.json",
        {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": size, **_IMAGENET},
    )
    return folder


def _write_with_texts(model: str, tokenizer: str, **text: Any) -> Callable[[Path], Path]:
    """Return a writer of a model whose text tower is BERT's kin, with the tokenizer of a tiny model of that kind."""

    def write(folder: Path) -> Path:
        import transformers

        texts = transformers.AutoTokenizer.from_pretrained(tiny_models.TINY[tokenizer](folder / "texts"))
        shutil.rmtree(folder / "texts")
        texts.save_pretrained(folder)
        parts = {
            "text_config": {**tiny_towers.BERT_TEXT, "vocab_size": len(texts), **text},
            "vision_config": dict(tiny_towers.IMAGE),
        }
        tiny_towers.write(folder, f"{model}Model", f"{model}Config", projection_dim=24, **parts)
        name = "CLIPImageProcessorPil" if model == "AltCLIP" else f"{model}ImageProcessorPil"
        getattr(transformers, name)(**_CLIP).save_pretrained(folder)
        return folder

    return write


CASES = [
    PictureCase("transformers", "clip", REFERENCE, tiny_towers.clip_with_tokenizer, of_files, of_pixels, of_texts),
    PictureCase(
        "transformers, vocab.json and merges.txt",
        "clip",
        REFERENCE,
        lambda folder: tiny_towers.clip_with_tokenizer(folder, old=True),
        of_files,
        of_pixels,
    ),
    PictureCase(
        "transformers, image tower alone",
        "clip",
        REFERENCE,
        _write("clip-image", "CLIPImageProcessorPil", **_CLIP),
        of_files,
        of_pixels,
    ),
    PictureCase(
        "transformers, image tower without projection",
        "clip",
        REFERENCE,
        _write("clip-image-bare", "CLIPImageProcessorPil", **_CLIP),
        of_files,
        of_pixels,
    ),
    PictureCase(
        "transformers, SigLIP 2 of fixed size",
        "siglip",
        REFERENCE,
        tiny_towers.siglip2_with_tokenizer,
        of_files,
        of_pixels,
        of_texts,
    ),
    PictureCase(
        "transformers, image tower alone",
        "siglip",
        REFERENCE,
        _write("siglip-image", "SiglipImageProcessorPil", size={"height": 32, "width": 32}),
        of_files,
        of_pixels,
    ),
    PictureCase("transformers, NaFlex", "siglip2", REFERENCE, _write_naflex, of_files, of_pixels, of_texts),
    *(
        PictureCase(
            "transformers" + detail,
            family,
            REFERENCE,
            _write(kind, "BitImageProcessorPil", **_DINO),
            of_files,
            of_pixels,
        )
        for kind, family, detail in (
            ("dinov2", "dinov2", ""),
            ("dinov2-giant", "dinov2", ", gated"),
            ("dinov2-registers", "dinov2_with_registers", ""),
        )
    ),
    PictureCase(
        "transformers",
        "dinov3_vit",
        "transformers, resized by torch",
        _write_dinov3,
        of_dinov3_files,
        of_pixels,
    ),
    PictureCase(
        "transformers",
        "chinese_clip",
        REFERENCE,
        _write_with_texts("ChineseCLIP", "bert"),
        of_files,
        of_pixels,
        of_masked_texts,
    ),
    PictureCase(
        "transformers",
        "altclip",
        REFERENCE,
        _write_with_texts("AltCLIP", "xlm-roberta", project_dim=40, pad_token_id=1, max_position_embeddings=18),
        of_files,
        of_pixels,
        of_masked_texts,
    ),
]
