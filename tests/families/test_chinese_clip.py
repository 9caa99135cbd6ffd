"""Chinese-CLIP from the folder to the vector, against transformers: BERT's tokenizer, no end token, CLIP's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfield import Encoder
from tests.support import tiny_models, tiny_pictures, tiny_towers

pytestmark = pytest.mark.slow


def test_texts_and_pictures_as_in_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import BertTokenizer, ChineseCLIPModel
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil

    words = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny_models.WORDS])
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)}, model_max_length=16)
    parts = {"text_config": {**tiny_towers.BERT_TEXT, "vocab_size": len(words)}, "vision_config": tiny_towers.IMAGE}
    folder = tiny_towers.write(tmp_path, "ChineseCLIPModel", "ChineseCLIPConfig", projection_dim=24, **parts)
    tokenizer.save_pretrained(folder)
    edge = {"height": 32, "width": 32}
    images = ChineseCLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=edge)
    images.save_pretrained(folder)
    texts, pictures = tiny_models.TEXTS[:4], tiny_pictures.pictures()
    model = ChineseCLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ids = tokenizer(list(texts), padding=True, truncation=True, max_length=16, return_tensors="pt")
        of_texts = model.get_text_features(**ids).pooler_output
        of_pictures = model.get_image_features(**images(pictures, return_tensors="pt")).pooler_output
    expected = torch.nn.functional.normalize(torch.cat([of_texts, of_pictures]), dim=-1).numpy()
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        assert np.abs(np.asarray(encoder.encode([*texts, *pictures])) - expected).max() < 5e-6
