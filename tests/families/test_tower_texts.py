"""Texts of two-tower models from the folder to the vector, against transformers and sentence-transformers."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import ModelRefused
from nearfield.recipe import Normalize, TextRules
from tests.support import tiny_models, tiny_towers

pytestmark = pytest.mark.slow

TEXTS = [*tiny_models.TEXTS, "It's the river's bank 42", "The RED fox", "read <|endoftext|> write <eos> song"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers.clip_with_tokenizer(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers.siglip2_with_tokenizer(tmp_path_factory.mktemp("siglip"))


def expected(folder: Path, texts: Sequence[str], **padding: Any) -> Any:
    """Return transformers' vectors, as they come."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    ids = tokenizer(list(texts), truncation=True, max_length=16, return_tensors="pt", **padding)["input_ids"]
    with torch.no_grad():
        return np.asarray(model.get_text_features(ids).pooler_output)


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_clip_pools_at_the_first_end_token_without_padding(clip: Path) -> None:
    wanted = expected(clip, TEXTS, padding="max_length")
    with Encoder(str(clip), precision="float32") as encoder:
        raw = encoder.encode(TEXTS, normalize_embeddings=False)
        alone = encoder.encode(TEXTS[0], normalize_embeddings=False)
        np.testing.assert_allclose(encoder.encode(TEXTS), unit(wanted), atol=1e-5)
        assert encoder.encode(TEXTS[:1]).fingerprint != raw.fingerprint
    np.testing.assert_allclose(raw, wanted, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(alone, wanted[0], atol=1e-5 * np.abs(wanted).max())


def test_clip_cuts_long_texts_and_counts_what_it_cuts(clip: Path) -> None:
    with Encoder(str(clip), precision="float32") as encoder:
        vectors = encoder.encode(["river " * 40, "red fox", "read <|endoftext|> write"])
        rest = encoder.encode(["write"]).tokens[0] - 2
    assert vectors.dropped.tolist() == [26, 0, rest]
    assert vectors.tokens.tolist() == [16, 4, 3]
    assert vectors.unknown.tolist() == [0, 0, 0]


def test_siglip_pads_to_its_table_and_attends_to_the_padding(siglip: Path) -> None:
    wanted = expected(siglip, TEXTS, padding="max_length")
    with Encoder(str(siglip), precision="float32") as encoder:
        np.testing.assert_allclose(encoder.encode(TEXTS), unit(wanted), atol=1e-5)
        np.testing.assert_allclose(encoder.encode(["The Red FOX"]), encoder.encode(["the red fox"]), atol=1e-6)
        long = encoder.encode("the red fox jumps over the lazy dog", truncate="chunk")
        assert long.dropped.tolist() == [0]
    assert np.isfinite(long).all()


def test_clip_in_the_layouts_of_sentence_transformers(clip: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(clip), device="cpu")
    new, old = tmp_path / "new", tmp_path / "old"
    model.save(str(new), create_model_card=False)
    shutil.copytree(tiny_towers.clip_with_tokenizer(tmp_path / "plain", old=True), old / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    tiny_models.dump(old / "modules.json", modules)
    wanted = model.encode(TEXTS[-3:-1])
    for folder in (new, old):
        assert read_model_folder(folder).modalities == ("text", "image")
        with Encoder(str(folder), precision="float32") as encoder:
            found = encoder.encode(TEXTS[-3:-1], normalize_embeddings=False)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_normalize_module_goes_for_both_towers(clip: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize as Unit

    model = SentenceTransformer(str(clip), device="cpu")
    model.append(Unit())
    model.save(str(tmp_path), create_model_card=False)
    recipe = read_model_folder(tmp_path)
    assert isinstance(recipe.modules[-1], Normalize)
    assert isinstance(recipe.towers["image"].modules[-1], Normalize)
    assert not recipe.normalize_by_default


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modality_config", {"text": {"method": "get_text_states"}}),
        ("modality_config", {"video": {"method": "get_video_features"}}),
        ("modality_config", "text"),
        ("processing_kwargs", {"text": {"padding": False}}),
    ],
)
def test_settings_that_are_not_understood_are_refused(field: str, value: Any, clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "model"))
    tiny_models.dump(folder / "sentence_bert_config.json", {field: value})
    with pytest.raises(ModelRefused, match=field):
        read_model_folder(folder)


def test_punctuation_and_spaces_as_siglips_first_tokenizer_has_them(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", ModuleType("sentencepiece"))  # not needed for this part of it
    from transformers.models.siglip.tokenization_siglip import SiglipTokenizer

    itself = SimpleNamespace(do_lower_case=True)
    itself.remove_punctuation = lambda text: SiglipTokenizer.remove_punctuation(itself, text)
    tokenizer = Tokenizer.load(clip, max_length=16, lowercase=True, rules=TextRules(canonicalize=True))
    texts = [*TEXTS, "a  b\t c!?", " (tight) ", "don't-stop_me [now] {1} ~`^|\\", "«Guillemets» – dash"]
    for text in texts:
        wanted = SiglipTokenizer.canonicalize_text(itself, text)
        normalizer: Any = tokenizer.backend.normalizer
        assert re.sub("^ ", "", normalizer.normalize_str(text)) == wanted
    assert tokenizer.is_bounded
