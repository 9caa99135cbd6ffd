"""Folder: a recipe says what sentence-transformers says of the same folder, and what the catalogue adds; or refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nearfield import catalog, hub
from nearfield.checkpoint import model_folder
from nearfield.errors import ModelRefused, SourceUnavailable, WeightsError
from nearfield.recipe import ClassScores, EncodeTask, Normalize, Pooling, Recipe, RerankPrompt
from tests.support import tiny_models
from tests.support.requirements import missing


@dataclass(frozen=True)
class Entry:
    """What a catalogue could say."""

    pooling: str | None = "cls"
    normalize: bool | None = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity: str = "dot"
    matryoshka: tuple[int, ...] = (8, 16)
    max_length: int = 48
    licence: str = "apache-2.0"
    kind: str = "dense"
    instruction: str | None = None
    tail: str = ""
    answer: RerankPrompt | None = None
    tasks: Mapping[str, EncodeTask] = field(default_factory=dict)
    exclude_prompt: bool = False
    centre: bool = False
    is_causal: bool | None = None
    forbid: tuple[str, ...] = ()


def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.tiny_bert(
        tmp_path_factory.mktemp("models") / "tiny-bert", pooling="mean", prompts={"query": "query: "}
    )


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    """A copy to change: files are linked, and replaced when written."""
    copy = tmp_path / source.name
    for path in source.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return copy


def config(folder: Path, **changes: Any) -> None:
    tiny_models.edit(folder / "config.json", **changes)


def meta(folder: Path, **changes: Any) -> None:
    tiny_models.edit(folder / "config_sentence_transformers.json", **changes)


def bert(folder: Path, **changes: Any) -> None:
    tiny_models.edit(folder / "sentence_bert_config.json", **changes)


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("family", tiny_models.TINY)
def test_as_the_reference(tmp_path: Path, family: str, old: bool) -> None:
    options: dict[str, Any] = {"max_seq_length": 30} if old else {}
    prompts = {"query": "query: ", "passage": "passage: ", "task": "do: "}
    folder = tiny_models.TINY[family](
        tmp_path / "tiny", old=old, dense=[{"out": 20}], prompts=prompts, similarity="dot", truncate_dim=12, **options
    )
    recipe, model = model_folder.read_model_folder(folder), reference(folder)
    assert recipe.name == "tiny" and recipe.folder == folder
    assert recipe.config["model_type"] == family
    assert recipe.dimensions == model[2].out_features == 20
    assert recipe.max_length == model.max_seq_length
    assert recipe.similarity == "dot" and recipe.normalized and not recipe.warnings
    assert recipe.prompts == {name: text for name, text in model.prompts.items() if name != "document"}
    assert recipe.role_prompt_name("document") == "passage" and recipe.role_prompt_name("query") == "query"


def test_empty_placeholders(folder: Path) -> None:
    """sentence-transformers pre-seeds both roles; an empty document beside a passage is no choice of the model's."""
    meta(folder, prompts={"query": "q: ", "document": "", "passage": "p: "})
    assert model_folder.read_model_folder(folder).prompts == {"query": "q: ", "passage": "p: "}
    meta(folder, prompts={"query": "q: ", "document": "", "passage": ""})
    assert model_folder.read_model_folder(folder).role_prompt_name("document") == "document"
    meta(folder, prompts={"query": "q: ", "document": "d: ", "passage": "p: "})
    assert model_folder.read_model_folder(folder).role_prompt_name("document") == "document"
    meta(folder, prompts={"clustering": None})
    assert model_folder.read_model_folder(folder).prompts == {"query": "", "document": "", "clustering": ""}


def test_the_folder_has_the_first_word(folder: Path) -> None:
    entry = Entry(prompts={"query": "other: ", "document": "passage: "})
    recipe = model_folder.read_model_folder(folder, name="org/model", revision="abc", entry=entry)
    assert recipe.name == "org/model" and recipe.revision == "abc"
    assert recipe.modules == (Pooling(("mean",)), Normalize())
    assert recipe.prompts == {"query": "query: ", "document": "passage: "}
    assert recipe.similarity == "cosine" and recipe.matryoshka == (8, 16) and recipe.licence == "apache-2.0"
    assert recipe.origins == {"prompts": "catalogue", "max_length": "tokenizer_config.json"}
    assert recipe.warnings == (
        "the folder pools by mean, the catalogue says cls",
        "up to 66 tokens are read, and the model was trained on 48",
    )


def test_the_catalogue_supplies_what_is_omitted(folder: Path) -> None:
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    tiny_models.edit(folder / "tokenizer_config.json", model_max_length=10**30)
    recipe = model_folder.read_model_folder(folder, entry=Entry(prompts={"query": "q: "}, default_prompt_name="query"))
    assert recipe.modules == (Pooling(("cls",)), Normalize())
    assert recipe.max_length == 48 and recipe.similarity == "dot" and recipe.default_prompt_name == "query"
    assert recipe.prompts["query"] == "q: " and not recipe.warnings
    catalogue = {"pooling", "normalize", "max_length", "prompts", "default_prompt_name", "similarity"}
    assert recipe.origins == dict.fromkeys(catalogue, "catalogue")


def test_without_modules_json_mean_is_assumed_aloud(folder: Path) -> None:
    (folder / "modules.json").unlink()
    recipe = model_folder.read_model_folder(folder)
    assert recipe.modules == (Pooling(("mean",)),)
    assert recipe.origins["pooling"] == "assumed" and "mean pooling" in recipe.warnings[0]
    config(folder, architectures=["SomeForCausalLM"])
    assert model_folder.read_model_folder(folder).modules == (Pooling(("lasttoken",)),)
    config(folder, is_causal=False)
    assert model_folder.read_model_folder(folder).modules == (Pooling(("mean",)),)


def test_licence_of_the_card(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    recipe = model_folder.read_model_folder(folder)
    assert recipe.licence == "cc-by-nc-4.0" and recipe.origins["licence"] == "README.md"
    (folder / "README.md").write_text("# A model\nlicense: none of these\n")
    assert model_folder.read_model_folder(folder).licence is None


@pytest.mark.parametrize(
    ("settings", "tokenizer", "changes", "length"),
    [
        ({"max_seq_length": 20}, 40, {}, 20),
        ({"max_seq_length": 20}, 10**30, {}, 20),
        ({"max_seq_length": 500}, 40, {}, 66),
        ({"max_seq_length": None}, 40, {}, 40),
        ({"tokenizer_args": {"model_max_length": 30}}, 40, {}, 30),
        ({"processor_kwargs": {"model_max_length": 30}}, 40, {}, 30),
        ({}, 10**30, {}, 66),
        ({}, 1e30, {}, 66),
        ({}, 512, {"model_type": "roberta", "pad_token_id": 1}, 64),
        ({}, 512, {"model_type": "xlm-roberta", "pad_token_id": 0}, 65),
        ({}, 512, {"model_type": "mpnet", "pad_token_id": 0}, 64),
        ({"max_seq_length": 514}, 512, {"model_type": "camembert", "pad_token_id": 1}, 64),
        ({}, 10**30, {"max_position_embeddings": -1}, 512),
    ],
)
def test_lengths(folder: Path, settings: Any, tokenizer: float, changes: Any, length: int) -> None:
    bert(folder, **settings)
    tiny_models.edit(folder / "tokenizer_config.json", model_max_length=tokenizer)
    config(folder, **changes)
    assert model_folder.read_model_folder(folder).max_length == length


def test_arguments_change_the_config(folder: Path) -> None:
    bert(folder, config_args={"hidden_act": "relu", "trust_remote_code": True}, model_args={"add_pooling_layer": False})
    recipe = model_folder.read_model_folder(folder)
    assert recipe.config["hidden_act"] == "relu" and "trust_remote_code" not in recipe.config


def test_a_transformer_in_a_folder_of_its_own(folder: Path) -> None:
    home = folder / "0_Transformer"
    home.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        if path.name != "config_sentence_transformers.json":
            path.rename(home / path.name)
    modules = tiny_models.read(folder / "modules.json")
    modules[0]["path"] = "0_Transformer"
    tiny_models.dump(folder / "modules.json", modules)
    recipe = model_folder.read_model_folder(folder)
    assert recipe.folder == home and recipe.name == "tiny-bert" and recipe.prompts["query"] == "query: "


def test_a_recipe_is_frozen(source: Path) -> None:
    recipe = model_folder.read_model_folder(source)
    for mapping in (recipe.config, recipe.prompts, recipe.origins):
        with pytest.raises(TypeError):
            mapping["new"] = 1  # type: ignore[index]


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def change(what: Callable[..., None], **changes: Any) -> Callable[[Path], None]:
    return lambda folder: what(folder, **changes)


def only_onnx(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / "onnx" / "model.onnx")


def write(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("config.json"), r"no config\.json"),
        (remove("model.safetensors"), "has no weights"),
        (only_onnx, r"onnx.model\.onnx: that format is not read"),
        (write("config.json", "{"), r"config\.json cannot be read as JSON"),
        (write("config.json", "[]"), r"config\.json must hold a JSON object"),
        (write("adapter_config.json", "{}"), "PEFT adapter"),
        (change(meta, model_type="CrossEncoder"), "a reranker of Transformer, Pooling"),
        (change(meta, model_type="SparseEncoder"), "a sparse model of Transformer, Pooling"),
        (change(meta, model_type="MultiVectorEncoder"), "a late-interaction model may list"),
        (change(meta, similarity_fn_name="MaxSim"), "a late-interaction model may list"),
        (change(meta, similarity_fn_name="cosin"), "unknown similarity 'cosin'. Did you mean 'cosine'"),
        (change(meta, prompts=["query: "]), "must map names to texts"),
        (change(meta, prompts={"query": 3}), "must map names to texts"),
        (change(meta, default_prompt_name="qery"), "default prompt 'qery' .* Did you mean 'query'"),
        (change(meta, truncate_dim=-1), "sets truncate_dim to -1"),
        (change(meta, truncate_dim="12"), "sets truncate_dim to '12'"),
        (change(meta, max_active_dims=True), "sets max_active_dims to True"),
        (change(config, hidden_size=48), "what reaches it has 48 dimensions"),
        (change(config, hidden_size="32"), "no size of a token's vector"),
        (change(bert, max_seq_length=-3), "max_seq_length is -3"),
        (change(bert, transformer_task="fill-mask"), "its transformer_task is 'fill-mask'"),
        (change(bert, transformer_task="sequence-classification"), "its transformer_task is 'sequence-classification'"),
        (change(bert, modality_config={"message": {}}), "sets modality_config to"),
        (change(bert, query_length=32), "sets query_length or query_expansion"),
        (change(bert, max_length=32), "setting 'max_length', which is not understood. Did you mean"),
        (change(bert, tokenizer_args={"add_eos_token": True}), "passes add_eos_token=True to its tokenizer"),
        (change(bert, tokenizer_name_or_path="a/b"), "sets tokenizer_name_or_path to 'a/b', which is not supported"),
        (change(bert, model_args={"lambda": 3}), "passes lambda=3 to its model"),
        (change(bert, model_args=[3]), "must be an object"),
    ],
)
def test_refusals(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelRefused, match=message):
        model_folder.read_model_folder(folder)


def test_the_architecture_tells_the_kind(folder: Path) -> None:
    (folder / "modules.json").unlink()
    (folder / "config_sentence_transformers.json").unlink()
    config(folder, architectures=["BertForSequenceClassification"], id2label={"0": "no", "1": "yes"})
    assert model_folder.read_model_folder(folder).heads == (ClassScores(("no", "yes")),)
    config(folder, architectures=["HF_ColBERT"])
    with pytest.raises(WeightsError, match=r"lacks the weight linear\.weight"):
        model_folder.read_model_folder(folder)
    with pytest.raises(ModelRefused, match="no classification head"):
        model_folder.read_model_folder(folder, kind="scores")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"no config\.json"):
        model_folder.read_model_folder(tmp_path)
    assert issubclass(WeightsError, ModelRefused)


def test_the_default_model() -> None:
    entry = catalog.find("minilm")
    assert entry is not None
    try:
        located = hub.locate("minilm", pin=entry.pin)
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    recipe: Recipe = model_folder.read_model_folder(located.folder, entry=entry)
    assert (recipe.dimensions, recipe.max_length, recipe.licence) == (384, 256, "apache-2.0")
    assert recipe.modules == (Pooling(("mean",)), Normalize()) and not recipe.warnings
