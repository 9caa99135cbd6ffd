"""Tiny random retrievers of pages, written as folders by transformers, with tokenizer and processor."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parity.decoder import tokenizer
from tests.support import tiny_models, tiny_multimodal

#: Values of a row.
SIZE = 24
TEXT: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 400,
}
SHARED_KEYS = {**TEXT, "num_key_value_heads": 2}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "vision_use_head": False,
}
_TILE_MARKS = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
_QWEN_MARKS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|endoftext|>"]


def words(marks: Sequence[str], *, begin: bool = False, end: bool = False, **names: str) -> Any:
    """Return a tokenizer with further tokens; ``names`` are its special ones."""
    made = tokenizer(begin=begin, end=end)
    made.add_special_tokens({"additional_special_tokens": list(marks)})
    made.add_special_tokens(names)
    made.model_max_length = 400
    return made


def write(folder: Path, config: Any, kind: str, processor: Any) -> Path:
    """Write a retriever with weights far from zero, and its processor."""
    import transformers

    tiny_multimodal.save(folder, getattr(transformers, kind)(config).eval())
    processor.save_pretrained(folder)
    return folder


def colmodernvbert(folder: Path, *, split: bool = True) -> Path:
    """Write ColModernVBERT: tiles of 32 pixels, of which 2 x 2 patches of 8 become a row, so that a tile has 4."""
    from transformers import ColModernVBertConfig, ColModernVBertProcessor, ModernVBertConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    marks = ["<|begin_of_text|>", "<global-img>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    made = words([*marks, *_TILE_MARKS], begin=True, end=True)
    text = {**TEXT, "model_type": "modernbert", "vocab_size": len(made), "pad_token_id": 0, "local_attention": 8}
    vlm = ModernVBertConfig(
        text_config={**text, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        vision_config=SIGLIP,
        image_token_id=made.convert_tokens_to_ids("<image>"),
        pixel_shuffle_factor=2,
    )
    config = ColModernVBertConfig(vlm_config=vlm, embedding_dim=SIZE)
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 96}, max_image_size={"longest_edge": 32}, do_image_splitting=split
    )
    processor = ColModernVBertProcessor(images, made, image_seq_len=4)
    return write(folder, config, "ColModernVBertForRetrieval", processor)


def colqwen2(folder: Path, *, windows: bool = False) -> Path:
    """Write ColQwen2, or with ``windows`` the same over Qwen2.5-VL, whose layers attend within windows."""
    from transformers import ColQwen2Config, ColQwen2Processor, Qwen2_5_VLConfig, Qwen2VLConfig
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    made = words(_QWEN_MARKS, pad_token="<|endoftext|>")
    text = {**SHARED_KEYS, "vocab_size": len(made)}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
    sizes = {"depth": 3, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
    ids = {"image_token_id": made.convert_tokens_to_ids("<|image_pad|>")}
    ids["vision_start_token_id"] = made.convert_tokens_to_ids("<|vision_start|>")
    if windows:
        own = {"hidden_size": 48, "out_hidden_size": 32, "intermediate_size": 64, "window_size": 16}
        vlm: Any = Qwen2_5_VLConfig(
            text_config=text, vision_config={**sizes, **own, "fullatt_block_indexes": [1]}, **ids
        )
    else:
        vlm = Qwen2VLConfig(text_config=text, vision_config={**sizes, "embed_dim": 48, "hidden_size": 32}, **ids)
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 8 * 8 * 4, "longest_edge": 8 * 8 * 30}
    )
    config = ColQwen2Config(vlm_config=vlm, embedding_dim=SIZE)
    return write(folder, config, "ColQwen2ForRetrieval", ColQwen2Processor(images, made))


def colqwen2_5(folder: Path) -> Path:
    """Write ColQwen2 over Qwen2.5-VL."""
    return colqwen2(folder, windows=True)


def colpali(folder: Path) -> Path:
    """Write ColPali: a picture of 32 pixels in 16 patches, each of which is a row."""
    from transformers import ColPaliConfig, ColPaliProcessor, PaliGemmaConfig
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    made = words(["<image>"], begin=True, bos_token="<s>", pad_token="<pad>")
    text = {**SHARED_KEYS, "model_type": "gemma", "vocab_size": len(made) + 1200, "head_dim": 12}
    vlm = PaliGemmaConfig(
        text_config=text,
        vision_config=SIGLIP,
        projection_dim=32,
        hidden_size=32,
        image_token_index=made.convert_tokens_to_ids("<image>"),
    )
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    config = ColPaliConfig(vlm_config=vlm, embedding_dim=SIZE)
    return write(folder, config, "ColPaliForRetrieval", ColPaliProcessor(images, made))


WRITERS = {
    "colmodernvbert": colmodernvbert,
    "colqwen2": colqwen2,
    "colqwen2.5": colqwen2_5,
    "colpali": colpali,
}


def rows_of_pages(folder: Path, images: Sequence[Any]) -> list[Any]:
    """Return transformers' rows of pages, [tokens, SIZE] each; each page is computed alone."""
    import torch

    model, processor = load(folder)
    found = []
    with torch.no_grad():
        for image in images:
            batch = dict(processor.process_images([image]))
            batch.update(positions(model, batch))
            batch.pop("labels", None)
            found.append(model(**batch).embeddings[0].numpy())
    return found


def rows_of_queries(folder: Path, texts: Sequence[str]) -> list[Any]:
    """Return transformers' rows of queries, each computed alone."""
    import torch

    model, processor = load(folder)
    with torch.no_grad():
        return [model(**dict(processor.process_queries([text]))).embeddings[0].numpy() for text in texts]


def positions(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the triples of positions that Qwen2-VL's pages were trained with.

    Its retriever's class computed them until transformers 5, and leaves them out since.
    """
    if "image_grid_thw" not in batch:
        return {}
    ids = batch["input_ids"]
    kinds = (ids == model.config.vlm_config.image_token_id).int()
    found, _ = model.vlm.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=batch["image_grid_thw"])
    return {"position_ids": found}


def load(folder: Path) -> tuple[Any, Any]:
    """Return the model and the processor."""
    import transformers

    model = getattr(transformers, _architecture(folder)).from_pretrained(folder).eval()
    return model, load_processor(folder)


def load_processor(folder: Path) -> Any:
    """Return the processor, which prepares pictures with Pillow."""
    import transformers

    name = _architecture(folder).replace("ForRetrieval", "Processor")
    return getattr(transformers, name).from_pretrained(folder, backend="pil")


def _architecture(folder: Path) -> str:
    return str(tiny_models.read(folder / "config.json")["architectures"][0])


def places_of(folder: Path, images: Sequence[Any], token: int) -> list[Any]:
    """Return where transformers' sequences of pages have a token, bool [tokens] each."""
    processor = load_processor(folder)
    return [processor.process_images([image])["input_ids"][0].numpy() == token for image in images]


def as_sentence_transformers(folder: Path, target: Path, **mask: Any) -> None:
    """Write what sentence-transformers adds to a retriever: its modules, of which the second is a MultiVectorMask."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    method = {"method": "forward", "method_output_name": "embeddings"}
    settings = {"transformer_task": "retrieval", "module_output_name": "token_embeddings"}
    tiny_models.dump(
        target / "sentence_bert_config.json", {**settings, "modality_config": {"text": method, "image": method}}
    )
    own = "sentence_transformers"
    kinds = {"": f"{own}.base.modules.transformer.Transformer"}
    kinds["1_MultiVectorMask"] = f"{own}.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
    stages = [{"idx": at, "name": str(at), "path": path, "type": kinds[path]} for at, path in enumerate(kinds)]
    tiny_models.dump(target / "modules.json", stages)
    (target / "1_MultiVectorMask").mkdir()
    tiny_models.dump(target / "1_MultiVectorMask" / "config.json", mask)


#: Classes of colpali-engine, by the ``model_type`` of the language model with its tower.
ENGINE_CLASSES = {
    "modernvbert": "ColModernVBert",
    "qwen2_vl": "ColQwen2",
    "qwen2_5_vl": "ColQwen2_5",
    "paligemma": "ColPali",
}


def as_colpali_engine(folder: Path, target: Path) -> str:
    """Write a retriever's weights and config under colpali-engine's names; return its augmentation of a query."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target, dirs_exist_ok=True)
    config = tiny_models.read(folder / "config.json")["vlm_config"]
    kind = config["model_type"]
    weights = {engine_name(kind, name): value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    tiny_models.dump(target / "config.json", {**config, "architectures": [ENGINE_CLASSES[kind]]})
    images = tiny_models.read(folder / "processor_config.json")["image_processor"]
    tiny_models.dump(target / "processor_config.json", {"image_processor": images})
    return {"modernvbert": "<end_of_utterance>", "paligemma": "<pad>"}.get(kind, "<|endoftext|>")


def engine_name(kind: str, name: str) -> str:
    """Return colpali-engine's name of a weight of transformers' retriever."""
    prefix = "model." if kind in ("modernvbert", "paligemma") else ""
    return name.replace("vlm.", prefix).replace("embedding_proj_layer", "custom_text_proj")


def rows_of_engine_pages(folder: Path, images: Sequence[Any]) -> list[Any]:
    """Return transformers' rows of pages as colpali-engine writes them: that of ColPali has one more ``<bos>``."""
    import torch

    model, processor = load(folder)
    if model.config.vlm_config.model_type != "paligemma":
        return rows_of_pages(folder, images)
    words = processor.tokenizer
    text = f"{'<image>' * 16}{words.bos_token}<bos>Describe the image.\n"
    ids = words([text], return_tensors="pt", add_special_tokens=False)["input_ids"]
    found = []
    with torch.no_grad():
        for image in images:
            batch = dict(processor.process_images([image]))
            batch = {"pixel_values": batch["pixel_values"], "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            found.append(model(**batch, token_type_ids=torch.zeros_like(ids)).embeddings[0].numpy())
    return found


def rows_of_engine_queries(folder: Path, texts: Sequence[str], augmentation: str) -> list[Any]:
    """Return transformers' rows of queries as colpali-engine writes them: with neither prefix nor end."""
    begin = "<s>" if augmentation == "<pad>" else ""
    return rows_of_texts(folder, [begin + text + augmentation * 10 for text in texts])


@dataclass(frozen=True)
class AdapterFolders:
    """An adapter beside its base model, both under colpali-engine's names, and both merged by PEFT as one folder."""

    adapter: Path
    base: Path
    merged: Path
    augmentation: str


#: What adapters change, as those of colpali-engine state it, and some of the tower.
_TARGETS = r"(.*(language_model|text_model).*(_proj|Wqkv|Wi|Wo)$|.*(fc1|visual.*qkv)$"


def write_adapter(home: Path, name: str, *, full: bool = False) -> AdapterFolders:
    """Write an adapter by PEFT. With ``full``, it has the last layer in full, and its base model has none."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    whole = WRITERS[name](home / "whole")
    last = "embedding_proj_layer"
    targets = f"{_TARGETS})" if full else f"{_TARGETS}|.*({last})$)"
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, modules_to_save=[last] if full else None)
    model: Any = get_peft_model(load(whole)[0], config)
    torch.manual_seed(3)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key or "modules_to_save" in key:
                value.normal_(0, 0.2)
    folders = AdapterFolders(home / "adapter", home / "base", home / "merged", as_colpali_engine(whole, home / "base"))
    model.save_pretrained(folders.adapter)
    kind = tiny_models.read(folders.base / "config.json")["model_type"]
    file = folders.adapter / "adapter_model.safetensors"
    save_file({engine_name(kind, key): value for key, value in load_file(file).items()}, file)
    tiny_models.edit(folders.adapter / "adapter_config.json", base_model_name_or_path=f"some/{folders.base.name}")
    for path in whole.iterdir():
        if "token" in path.name:
            shutil.copy(path, folders.adapter)
    shutil.copy(folders.base / "processor_config.json", folders.adapter)
    if full:
        _remove_last_layer(folders.base)
    shutil.copytree(whole, folders.merged)
    model.merge_and_unload().save_pretrained(folders.merged)
    return folders


def _remove_last_layer(base: Path) -> None:
    """Leave a base model that is the language model with its tower alone."""
    from safetensors.torch import load_file, save_file

    file = base / "model.safetensors"
    kept = {key: value for key, value in load_file(file).items() if "custom_text_proj" not in key}
    save_file(kept, file, metadata={"format": "pt"})
    tiny_models.edit(base / "config.json", architectures=None)


def rows_of_texts(folder: Path, texts: Sequence[str]) -> list[Any]:
    """Return transformers' rows of whole texts, to which nothing is added but the tokenizer's own tokens."""
    import torch

    model, processor = load(folder)
    with torch.no_grad():
        return [
            model(**dict(processor.tokenizer([text], return_tensors="pt", return_token_type_ids=False)))
            .embeddings[0]
            .numpy()
            for text in texts
        ]
