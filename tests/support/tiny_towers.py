"""Tiny random two-tower models, written as folders by transformers: the truth to compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.features import PatchFeatures, PatchLayout
from tests.support import tiny_models

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {**SIZES, "hidden_size": 48, "intermediate_size": 80}
TEXT = {**SIZES, "vocab_size": 99, "max_position_embeddings": 16, "bos_token_id": 97, "eos_token_id": 98}
IMAGE = {**WIDE, "image_size": 32, "patch_size": 8}
GATED = {**IMAGE, "hidden_act": "silu"}
BERT_TEXT = {**SIZES, "vocab_size": 99, "max_position_embeddings": 16}
DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 42, "patch_size": 14}


def write(folder: Path, model: str, config: str, **fields: Any) -> Path:
    """Write a model of a class with random weights; biases and norms are moved away from zeros and ones."""
    import torch
    import transformers

    torch.manual_seed(len(model))
    made = getattr(transformers, model)(getattr(transformers, config)(**fields)).eval()
    tiny_models.perturb(made)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            # Weights start so small that attention would be the same for all tokens.
            if parameter.ndim > 1:
                parameter.normal_(0, 0.6 if "embedding" in name or "probe" in name else 0.2)
            if name.startswith("logit"):
                parameter.fill_(2.0 if name == "logit_scale" else -3.0)
    made.save_pretrained(folder)
    return folder


def clip(folder: Path, **image: Any) -> Path:
    """Write CLIP: both towers with projections."""
    parts = {"text_config": dict(TEXT), "vision_config": {**IMAGE, **image}}
    return write(folder, "CLIPModel", "CLIPConfig", projection_dim=24, **parts)


def siglip(folder: Path) -> Path:
    """Write SigLIP: a probe head on one side, a linear layer on the other."""
    parts = {"text_config": {**TEXT, "projection_size": 48}, "vision_config": dict(IMAGE)}
    return write(folder, "SiglipModel", "SiglipConfig", **parts)


def naflex(folder: Path) -> Path:
    """Write SigLIP 2 for pictures of any grid, whose table has four rows and four columns."""
    image = {key: value for key, value in IMAGE.items() if key != "image_size"}
    parts = {"text_config": {**TEXT, "projection_size": 48}, "vision_config": {**image, "num_patches": 16}}
    return write(folder, "Siglip2Model", "Siglip2Config", **parts)


MODELS: Mapping[str, Callable[[Path], Path]] = {
    "clip": clip,
    "clip-gelu": lambda folder: clip(folder, hidden_act="gelu"),
    "clip-text": lambda folder: write(folder, "CLIPTextModelWithProjection", "CLIPTextConfig", **TEXT),
    "clip-image": lambda folder: write(folder, "CLIPVisionModelWithProjection", "CLIPVisionConfig", **IMAGE),
    "clip-image-bare": lambda folder: write(folder, "CLIPVisionModel", "CLIPVisionConfig", **IMAGE),
    "siglip": siglip,
    "siglip-image": lambda folder: write(folder, "SiglipVisionModel", "SiglipVisionConfig", **IMAGE),
    "siglip-text": lambda folder: write(folder, "SiglipTextModel", "SiglipTextConfig", **TEXT),
    "naflex": naflex,
    "dinov2": lambda folder: write(folder, "Dinov2Model", "Dinov2Config", **DINO),
    "dinov2-giant": lambda folder: write(folder, "Dinov2Model", "Dinov2Config", **DINO, use_swiglu_ffn=True),
    "dinov2-registers": lambda folder: write(
        folder, "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", **DINO, num_register_tokens=3
    ),
}


MODELS = {
    **MODELS,
    "dinov3": lambda folder: write(folder, "DINOv3ViTModel", "DINOv3ViTConfig", **IMAGE, num_register_tokens=2),
    "dinov3-gated": lambda folder: write(
        folder, "DINOv3ViTModel", "DINOv3ViTConfig", **GATED, num_register_tokens=2, use_gated_mlp=True
    ),
    "chinese-clip": lambda folder: write(
        folder,
        "ChineseCLIPModel",
        "ChineseCLIPConfig",
        projection_dim=24,
        text_config=dict(BERT_TEXT),
        vision_config=dict(IMAGE),
    ),
    "altclip": lambda folder: write(
        folder,
        "AltCLIPModel",
        "AltCLIPConfig",
        projection_dim=24,
        text_config={**BERT_TEXT, "project_dim": 40, "pad_token_id": 1, "max_position_embeddings": 18},
        vision_config=dict(IMAGE),
    ),
}


def picture(seed: int, layout: PatchLayout, rows: int, columns: int) -> PatchFeatures:
    """Return a picture of random pixels, with that many rows and columns of patches."""
    shape = (rows * layout.patch, columns * layout.patch, 3)
    return PatchFeatures(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), layout)


def pixel_values(features: PatchFeatures) -> Any:
    """Return a picture as transformers' models read it: float tensor [1, 3, H, W]."""
    import torch

    return torch.from_numpy(features.layout.normalised(features.pixels).transpose(2, 0, 1)[None].copy())


def clip_with_tokenizer(folder: Path, *, old: bool = False) -> Path:
    """Write CLIP with its processor; ``old`` writes vocab.json and merges.txt in place of tokenizer.json."""
    from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

    vocab, merges = _word_end_vocab()
    text = {**TEXT, "vocab_size": len(vocab), "bos_token_id": len(vocab) - 2, "eos_token_id": len(vocab) - 1}
    write(folder, "CLIPModel", "CLIPConfig", projection_dim=24, text_config=text, vision_config=dict(IMAGE))
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=16)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    if old:
        (folder / "tokenizer.json").unlink()
        tiny_models.dump(folder / "vocab.json", vocab)
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)), encoding="utf-8")
    return folder


def siglip2_with_tokenizer(folder: Path) -> Path:
    """Write SigLIP with the tokenizer of SigLIP 2, which lower-cases in its code and pads on the right."""
    from tokenizers.processors import TemplateProcessing
    from transformers import Siglip2Tokenizer, SiglipImageProcessor, SiglipProcessor

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    vocab = {piece: number for number, piece in enumerate([*pieces, *map(chr, range(33, 127))])}
    tokenizer = Siglip2Tokenizer(vocab=vocab, merges=[], model_max_length=16, padding_side="right")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    parts = {"text_config": {**TEXT, "vocab_size": len(vocab), "projection_size": 48}, "vision_config": dict(IMAGE)}
    write(folder, "SiglipModel", "SiglipConfig", **parts)
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def _word_end_vocab() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return CLIP's kind of vocabulary: bytes, bytes that end a word, and merges of whole words."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters)])
    merges: dict[tuple[str, str], None] = {}
    for word in tiny_models.WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = None
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            tokens[pieces[0]] = None
    names = [*tokens, "<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(names)}, list(merges)
