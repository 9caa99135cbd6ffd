"""Tiny random models of several kinds of input, written as folders by transformers, with a tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parity.decoder import tokenizer
from tests.support import tiny_models
from tests.support.video_reference import gemma_text

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
GEMMA_TEXT = {
    **TEXT,
    "num_hidden_layers": 4,
    "sliding_window_pattern": 2,
    "sliding_window": 3,
    "global_head_dim": 24,
    "num_global_key_value_heads": 1,
    "hidden_size_per_layer_input": 12,
    "embedding_dim": 40,
    "max_position_embeddings": 96,
}
GEMMA_IMAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "patch_size": 4,
    "position_embedding_size": 40,
}
QWEN_TEXT = {
    **TEXT,
    "num_hidden_layers": 3,
    "max_position_embeddings": 96,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]},
}
QWEN_IMAGE = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "depth": 4,
    "num_heads": 4,
    "patch_size": 4,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 2],
}


def save(folder: Path, model: Any, words: Any | None = None, *, pooling: str = "mean", size: int = 0) -> Path:
    """Write a model with weights far from zero, and where there are ``words`` what sentence-transformers adds."""
    import torch

    torch.manual_seed(7)
    tiny_models.perturb(model)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(0, 0.6 if "embed" in name and "projection" not in name else 0.2)
            if name.endswith("layer_scalar"):
                tensor.fill_(0.9)
            if name.endswith(("put_min", "put_max")):
                # Bounds that are not the same on both sides, and that many values exceed.
                tensor.fill_(-0.8 if name.endswith("min") else 1.1)
            if name.endswith(("std_bias", "std_scale")):
                tensor.normal_(0.5, 0.3)
    model.save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
        own = "sentence_transformers.sentence_transformer.modules"
        kinds = {"": f"{own}.Transformer", "1_Pooling": f"{own}.Pooling", "2_Normalize": f"{own}.Normalize"}
        stages = [{"idx": at, "name": str(at), "path": path, "type": kinds[path]} for at, path in enumerate(kinds)]
        tiny_models.dump(folder / "modules.json", stages)
        (folder / "1_Pooling").mkdir()
        pooled = {"embedding_dimension": size, "pooling_mode": pooling, "include_prompt": True}
        tiny_models.dump(folder / "1_Pooling" / "config.json", pooled)
    return folder


def embedding_gemma2(folder: Path, *, towers: bool = True, **image: Any) -> Path:
    """Write EmbeddingGemma 2 with its vision tower, or the text part alone, as its own architecture."""
    import transformers

    words = tokenizer(begin=True)
    text = {**GEMMA_TEXT, "vocab_size": len(words)}
    config = transformers.EmbeddingGemma2Config(
        text_config=text, vision_config={**GEMMA_IMAGE, **image} if towers else None, audio_config=None
    )
    model = transformers.EmbeddingGemma2Model(config).eval()
    return save(folder, model if towers else model.language_model, words, size=40)


#: Tokens of Qwen's chats and media.
CHAT_TOKENS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def qwen3_vl_embedding(folder: Path, *, modules: bool = True, **image: Any) -> Path:
    """Write Qwen3-VL-Embedding: the tokens of a chat, and the processor of pictures."""
    import transformers
    from transformers import Qwen2VLImageProcessorPil

    words = tokenizer(end=False)
    words.add_special_tokens({"additional_special_tokens": CHAT_TOKENS})
    words.model_max_length = 400
    ids = {name: words.convert_tokens_to_ids(f"<|{token}|>") for name, token in QWEN_TOKENS.items()}
    text = {**QWEN_TEXT, "vocab_size": len(words), "max_position_embeddings": 512}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config={**QWEN_IMAGE, **image}, **ids)
    model = transformers.Qwen3VLForConditionalGeneration(config).eval()
    save(folder, model, words if modules else None, pooling="lasttoken", size=32)
    words.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, min_pixels=64, max_pixels=1600, image_mean=half, image_std=half
    ).save_pretrained(folder)
    return folder


QWEN_TOKENS = {
    "image_token_id": "image_pad",
    "video_token_id": "video_pad",
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
}


def qwen3_vl_vectors(
    folder: Path, inputs: Any, instruction: str = "Represent the user's input.", **processing: Any
) -> Any:
    """Return what transformers computes of inputs, one after the other: each a text, and a list of pictures."""
    import numpy as np

    head = f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n"
    chats = [[head, *pictures, text, "<|im_end|>\n<|im_start|>assistant\n"] for text, pictures in inputs]
    states = qwen3_vl_states(folder, chats, **processing)
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def qwen3_vl_scores(folder: Path, pairs: Any, answer: Any) -> Any:
    """Return the scores of pairs, each of a query and a document, each of them a text and pictures."""
    import numpy as np
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    template = answer.template
    chats = []
    for pair in pairs:
        query, document = ([*pictures, text] if text or pictures else ["NULL"] for text, pictures in pair)
        asked = f"<Instruct>: {template.instruction}<Query>:"
        chats.append([template.head, asked, *query, "\n<Document>:", *document, template.tail])
    words = AutoTokenizer.from_pretrained(folder)
    layer = load_file(folder / "model.safetensors")["lm_head.weight"]
    yes, no = (layer[words.convert_tokens_to_ids(word)] for word in (answer.true, answer.false))
    return 1 / (1 + np.exp(-(qwen3_vl_states(folder, chats) @ (yes - no))))


def qwen3_vl_states(folder: Path, chats: Any, **processing: Any) -> Any:
    """Return the last state of sequences of texts and pictures as transformers computes it, one after the other."""
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer, Qwen2VLImageProcessorPil

    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor, place = Qwen2VLImageProcessorPil.from_pretrained(folder), "<|image_pad|>"
    states = []
    for chat in chats:
        pictures = [part for part in chat if not isinstance(part, str)]
        media: dict[str, Any] = dict(processor(pictures, return_tensors="pt", **processing)) if pictures else {}
        sizes = iter([int(grid.prod()) // 4 for grid in media.get("image_grid_thw", ())])
        shown = [
            part if isinstance(part, str) else f"<|vision_start|>{place * next(sizes)}<|vision_end|>" for part in chat
        ]
        ids = words("".join(shown), return_tensors="pt").input_ids
        kinds = (ids == words.convert_tokens_to_ids(place)).int()
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds, **media}
        with torch.no_grad():
            states.append(model(**given).last_hidden_state[0, -1].numpy())
    return np.stack(states)


GEMMA_AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "subsampling_conv_channels": [16, 8],
    "conv_kernel_size": 3,
    "attention_chunk_size": 4,
    "attention_context_left": 5,
    "attention_logit_cap": 5.0,
    "output_proj_dims": 24,
}
#: Tokens that stand for media, and those around them, by their names in a tokenizer of transformers.
GEMMA_TOKENS = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "video_token": "<|video|>",
}


def embedding_gemma2_with_media(folder: Path, *, sounds: bool = False, videos: Any = None, **image: Any) -> Path:
    """Write EmbeddingGemma 2 with its vision tower, the tokens of media, and how these are prepared.

    ``videos`` are the values of its processor of videos.
    """
    import transformers

    words = tokenizer(begin=True)
    words.add_special_tokens({"additional_special_tokens": list(GEMMA_TOKENS.values())})
    ids = {f"{name}_id": words.convert_tokens_to_ids(token) for name, token in GEMMA_TOKENS.items()}
    ids["eoa_token_index"] = ids.pop("eoa_token_id")
    config = transformers.EmbeddingGemma2Config(
        text_config={**GEMMA_TEXT, "vocab_size": len(words), "max_position_embeddings": 1024},
        # As long as a picture of one row can be: 70 blocks of three patches.
        vision_config={**GEMMA_IMAGE, "position_embedding_size": 210, **image},
        audio_config=GEMMA_AUDIO if sounds else None,
        **ids,
    )
    words.model_max_length = 1000 if sounds or videos else 300
    save(folder, transformers.EmbeddingGemma2Model(config).eval(), words, size=40)
    pictures = transformers.Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70)
    processor = {"processor_class": "EmbeddingGemma2Processor", "image_processor": pictures.to_dict()}
    if sounds:
        extractor = transformers.Gemma4AudioFeatureExtractor(feature_size=16)
        processor["feature_extractor"] = json.loads(extractor.to_json_string())
    if videos:
        processor["video_processor"] = videos
    tiny_models.dump(folder / "processor_config.json", processor)
    return folder


@dataclass(frozen=True)
class ChosenFrames:
    """The frames of a video that are read, and their times in seconds."""

    pictures: list[Any]
    seconds: list[float]


def embedding_gemma2_vectors(folder: Path, inputs: Any, **processing: Any) -> Any:
    """Return what transformers computes of inputs, one after the other: each a sequence of texts and media.

    Sounds are arrays of samples at 16 kHz, videos `ChosenFrames`, and all others are pictures.
    """
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, words = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    vectors = []
    for parts in inputs:
        media, sizes = _gemma_media(folder, parts, processing)
        shown = []
        for part in parts:
            if isinstance(part, ChosenFrames):
                shown.append(next(sizes["video"]))
                continue
            kind = "" if isinstance(part, str) else "audio" if isinstance(part, np.ndarray) else "image"
            begin, end = (GEMMA_TOKENS.get(f"{side}o{kind[:1]}_token", "") for side in "be")
            shown.append(part if not kind else f"{begin}{GEMMA_TOKENS[f'{kind}_token'] * next(sizes[kind])}{end}")
        ids = words("".join(shown), return_tensors="pt").input_ids
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids), **media).last_hidden_state[0]
        vectors.append(states.mean(0).numpy())
    rows = np.stack(vectors)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _gemma_media(folder: Path, parts: Any, processing: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the model reads of pictures and sounds, and how many tokens each of them has."""
    import numpy as np
    from transformers import EmbeddingGemma2Processor, Gemma4AudioFeatureExtractor, Gemma4ImageProcessorPil

    stored = json.loads((folder / "processor_config.json").read_text())
    sounds = [part for part in parts if isinstance(part, np.ndarray)]
    pictures = [part for part in parts if not isinstance(part, (str, np.ndarray, ChosenFrames))]
    media: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    if videos := [part for part in parts if isinstance(part, ChosenFrames)]:
        added, texts = _gemma_videos(stored["video_processor"], videos)
        media |= added
        sizes["video"] = iter(texts)
    if pictures:
        media |= Gemma4ImageProcessorPil(**{**stored["image_processor"], **processing})(pictures, return_tensors="pt")
        sizes["image"] = iter([int(size) for size in media.pop("num_soft_tokens_per_image")])
    if sounds:
        media |= Gemma4AudioFeatureExtractor(**stored["feature_extractor"])(sounds, return_tensors="pt")
        masks = media["input_features_mask"].numpy()
        sizes["audio"] = iter([EmbeddingGemma2Processor.compute_sscp(mask) for mask in masks])
    return media, sizes


def _gemma_videos(stored: Any, videos: list[ChosenFrames]) -> tuple[dict[str, Any], list[str]]:
    """Return what the model reads of videos, and what is written for each of them."""
    import torch
    from transformers import Gemma4ImageProcessorPil

    keys = ("do_normalize", "image_mean", "image_std", "max_soft_tokens", "patch_size", "pooling_kernel_size")
    processor = Gemma4ImageProcessorPil(**{key: stored[key] for key in keys})
    frames = processor([one for video in videos for one in video.pictures], return_tensors="pt")
    rows = iter(frames["num_soft_tokens_per_image"])
    texts = []
    for video in videos:
        counts = [int(next(rows)) for _ in video.pictures]
        texts.append(gemma_text(video.seconds, counts[0], GEMMA_TOKENS, add_timestamps=stored["add_timestamps"]))
    media = {
        "pixel_values_videos": frames["pixel_values"],
        "video_position_ids": frames["image_position_ids"],
        "num_frames_per_video": torch.tensor([len(video.pictures) for video in videos]),
    }
    return media, texts


def qwen3_vl(folder: Path, *, head: bool = True, end: bool = True) -> Path:
    """Write Qwen3-VL, with or without the language model's last layer; its names differ between the two."""
    import transformers

    words = tokenizer(end=end)
    config = transformers.Qwen3VLConfig(text_config={**QWEN_TEXT, "vocab_size": len(words)}, vision_config=QWEN_IMAGE)
    kind = transformers.Qwen3VLForConditionalGeneration if head else transformers.Qwen3VLModel
    return save(folder, kind(config).eval(), words, pooling="lasttoken", size=32)
