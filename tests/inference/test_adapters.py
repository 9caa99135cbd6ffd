"""LoRA adapters, against peft over the same base: alone, several in one batch, loaded and unloaded while serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Reranker
from nearfield.checkpoint.weights import lora as adapters
from nearfield.errors import InputError, ModelRefused, WeightsError
from tests.parity import decoder, t5
from tests.parity.scores import classifier
from tests.support import tiny_models

# peft's own call into transformers.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
TEXTS = ["The quick brown fox", "river bank water " * 30, "a", ""]
Write = Callable[..., Path]


def lora(base: Path, folder: Path, seed: int = 0, task: bool = False, **options: Any) -> Path:
    """Write an adapter by peft, both factors random."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    kind = transformers.AutoModelForSequenceClassification if task else transformers.AutoModel
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], **options}
    model: Any = get_peft_model(kind.from_pretrained(base), LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def reference(base: Path, adapter: Path, texts: list[str]) -> np.ndarray:
    """Encode with sentence-transformers, whose transformer peft has changed."""
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(base), device="cpu")
    model[0].auto_model = PeftModel.from_pretrained(model[0].auto_model, str(adapter))
    return np.asarray(model.encode(texts, batch_size=len(texts)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.tiny_bert(tmp_path_factory.mktemp("base") / "base")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"target_modules": "all-linear"},
        {"target_modules": ["word_embeddings", "query"]},
        {"target_modules": ["query", "dense"], "rank_pattern": {"query": 2}, "alpha_pattern": {"query": 3}},
        {"fan_in_fan_out": False, "lora_dropout": 0.1},
    ],
    ids=["plain", "rslora", "all-linear", "embeddings", "patterns", "dropout"],
)
def test_agrees_with_peft(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    folder = lora(base, tmp_path / "a", **options)
    with Encoder(str(base), precision="float32", adapters={"a": folder}) as encoder:
        actual, plain = encoder.encode(TEXTS, adapter="a"), encoder.encode(TEXTS)
    np.testing.assert_allclose(actual, reference(base, folder, TEXTS), atol=2e-5)
    assert float(np.abs(np.asarray(actual) - np.asarray(plain)).max()) > 0.05
    assert actual.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("write", "targets"),
    [
        (lambda folder: decoder.model("Qwen3Config")(folder), ["q_proj", "v_proj", "gate_proj"]),
        (lambda folder: tiny_models.tiny_modernbert(folder / "m"), ["Wqkv", "Wi", "Wo"]),
        (lambda folder: t5.encoder()(folder), ["q", "wo"]),
        (lambda folder: tiny_models.tiny_albert(folder / "a"), ["query", "ffn"]),
    ],
    ids=["qwen3", "modernbert, fused layers", "t5", "albert, shared layers"],
)
def test_on_any_family(tmp_path: Path, write: Any, targets: list[str]) -> None:
    base = write(tmp_path)
    folder = lora(base, tmp_path / "adapter", target_modules=targets)
    with Encoder(str(base), precision="float32", adapters={"a": folder}) as encoder:
        vectors = encoder.encode(TEXTS, adapter="a")
    np.testing.assert_allclose(vectors, reference(base, folder, TEXTS), atol=5e-5)


def test_several_adapters_in_one_batch(base: Path, tmp_path: Path) -> None:
    folders = {name: lora(base, tmp_path / name, seed, r=seed + 2) for seed, name in enumerate("abc")}
    with Encoder(str(base), precision="float32", adapters=folders) as encoder:
        assert encoder.adapters == ("a", "b", "c")
        tickets = [encoder.submit([text], adapter=name) for text in TEXTS for name in (None, "a", "b", "c")]
        rows = [ticket.result(30)[0] for ticket in tickets]
        plain = np.asarray(encoder.encode(TEXTS))
    rows = [row["dense"] if isinstance(row, dict) else row for row in rows]
    np.testing.assert_allclose(rows[::4], plain, atol=2e-6)
    for place, (_, folder) in enumerate(folders.items(), 1):
        np.testing.assert_allclose(rows[place::4], reference(base, folder, TEXTS), atol=2e-5)


def test_loaded_and_unloaded_while_serving(base: Path, tmp_path: Path) -> None:
    first, second = lora(base, tmp_path / "a", 1), lora(base, tmp_path / "b", 2)
    with Encoder(str(base), precision="float32") as encoder:
        before = encoder.encode(TEXTS)
        assert encoder.load_adapter(first) == "a" and encoder.load_adapter(second, "other") == "other"
        np.testing.assert_allclose(encoder.encode(TEXTS, adapter="other"), reference(base, second, TEXTS), atol=2e-5)
        encoder.remove_adapter("a")
        with pytest.raises(InputError, match="no adapter 'a'"):
            encoder.encode(TEXTS, adapter="a")
        np.testing.assert_allclose(encoder.encode(TEXTS, adapter="other"), reference(base, second, TEXTS), atol=2e-5)
        np.testing.assert_allclose(encoder.encode(TEXTS), before, atol=2e-6)
        with pytest.raises(InputError, match="no adapter 'a'"):
            encoder.remove_adapter("a")


def test_an_adapters_own_folder_loads_its_base(base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig
    from sentence_transformers import SentenceTransformer

    model: Any = SentenceTransformer(str(base), device="cpu")
    model.add_adapter(LoraConfig(r=4, lora_alpha=16, target_modules=["query"], init_lora_weights=False))
    expected = model.encode(TEXTS)
    model.save(str(tmp_path / "whole"), create_model_card=False)
    config = tmp_path / "whole" / "adapter_config.json"
    tiny_models.edit(config, base_model_name_or_path=str(base))
    with Encoder(str(tmp_path / "whole"), precision="float32") as encoder:
        np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=2e-5)


def test_an_adapter_of_a_task_model(tmp_path: Path) -> None:
    base = classifier("bert", new=False)(tmp_path)
    folder = lora(base, tmp_path / "a", task=True)
    pairs = [("what is it", text) for text in TEXTS]
    with Reranker(str(base), precision="float32", adapters={"a": folder}) as reranker:
        plain = reranker.score("what is it", TEXTS)
        assert reranker.adapters == ("a",)
        adapted = reranker.score("what is it", TEXTS, adapter="a")
    from peft import PeftModel
    from sentence_transformers import CrossEncoder

    model: Any = CrossEncoder(str(base), device="cpu")
    model[0].auto_model = PeftModel.from_pretrained(model[0].auto_model, str(folder))
    np.testing.assert_allclose(adapted, model.predict(pairs), atol=2e-5)
    assert float(np.abs(np.asarray(adapted) - np.asarray(plain)).max()) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"modules_to_save": ["pooler"]}, "modules_to_save"),
        ({"bias": "all"}, "bias is 'all'"),
    ],
)
def test_more_than_plain_lora_is_refused(base: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    folder = lora(base, tmp_path / "a", **options)
    with pytest.raises(ModelRefused, match=message):
        adapters.read_adapter(folder, "a")


def test_adapters_that_fit_no_layer_are_refused(base: Path, tmp_path: Path) -> None:
    other = lora(tiny_models.tiny_mpnet(tmp_path / "other"), tmp_path / "a", target_modules=["q"])
    with pytest.raises(WeightsError, match="changes layers that this model does not have"):
        Encoder(str(base), adapters={"a": other})
    with Encoder(str(base)) as encoder:
        with pytest.raises(WeightsError, match="trained for another one"):
            encoder.load_adapter(other)
        assert encoder.adapters == ()
    wide = lora(tiny_models.tiny_bert(tmp_path / "wide", hidden_size=64), tmp_path / "b")
    with pytest.raises(
        WeightsError, match=r"of shape \[64, 64\], and that of this model has \[32, 32\]: it was trained"
    ):
        Encoder(str(base), adapters={"a": wide})
    tiny_models.edit(other / "adapter_config.json", peft_type="IA3")
    with pytest.raises(ModelRefused, match="peft_type is 'IA3'"):
        adapters.read_adapter(other, "a")
    with pytest.raises(ModelRefused, match=r"no adapter_config\.json"):
        adapters.read_adapter(base, "a")


def test_an_adapter_that_changed_on_disk_is_not_taken_for_the_one_loaded(base: Path, tmp_path: Path) -> None:
    with Encoder(str(base), adapters={"a": lora(base, tmp_path / "a")}) as encoder:
        before = encoder.encode(TEXTS, adapter="a")
        lora(base, tmp_path / "a", seed=7)
        with pytest.raises(WeightsError, match="another adapter than when it was loaded"):
            encoder.load_adapter(lora(base, tmp_path / "b"), "b")
        assert encoder.adapters == ("a",)
        np.testing.assert_array_equal(encoder.encode(TEXTS, adapter="a"), before)
