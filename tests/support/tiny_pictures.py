"""Whole tiny models of texts and pictures, as transformers writes them: weights, tokenizer and image processor."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tests.support import tiny_towers

START, END = "<|startoftext|>", "<|endoftext|>"
#: Pixels of the edge of the models' pictures.
EDGE = 32


def write_clip(folder: Path) -> Path:
    """Write CLIP whose tokens are characters: a byte-level vocabulary without merges."""
    from transformers import CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    letters = [chr(number) for number in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    special = {"vocab_size": len(tokens), "bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END]}
    parts: dict[str, Any] = {"text_config": {**tiny_towers.TEXT, **special}, "vision_config": dict(tiny_towers.IMAGE)}
    tiny_towers.write(folder, "CLIPModel", "CLIPConfig", projection_dim=24, **parts)
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE}).save_pretrained(
        folder
    )
    return folder


def clip_vectors(folder: Path, texts: list[str], pictures: list[PIL.Image.Image]) -> tuple[Any, Any]:
    """Return the vectors of texts and pictures that transformers gives, of unit length."""
    import torch
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(
        texts, return_tensors="pt", padding=True, truncation=True, max_length=16
    )
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt")
    with torch.no_grad():
        of_texts = model.get_text_features(**tokens).pooler_output
        of_pictures = model.get_image_features(**pixels).pooler_output
    return tuple(torch.nn.functional.normalize(rows, dim=-1).numpy() for rows in (of_texts, of_pictures))


def pictures() -> list[PIL.Image.Image]:
    """Return pictures of random pixels, of several sizes."""
    random = np.random.default_rng(0)
    sizes = ((40, 60), (100, 33), (EDGE, EDGE), (7, 90), (33, 34))
    return [PIL.Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def png_files() -> list[bytes]:
    """Return ``pictures`` as the bytes of PNG files."""
    files = [io.BytesIO() for _ in pictures()]
    for file, picture in zip(files, pictures(), strict=True):
        picture.save(file, "PNG")
    return [file.getvalue() for file in files]


def reference_scale(folder: Path) -> float:
    """Return the scale of a model's scores, from its weights."""
    from safetensors.numpy import load_file

    return float(np.exp(load_file(folder / "model.safetensors")["logit_scale"]))


def config_of(folder: Path) -> dict[str, Any]:
    """Return the model's config.json."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config
