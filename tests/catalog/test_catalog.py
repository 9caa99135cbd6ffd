"""The catalogue: consistent in itself, and in agreement with the table that it comes from."""

from __future__ import annotations

import csv
import re

import pytest

from nearfield import Encoder, catalog, families
from nearfield.catalog import CatalogEntry
from nearfield.errors import LicenceRefused, SettingsError
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing

TABLE = SHARED_FOLDER / "reference" / "catalogue.tsv"
POOLINGS = {"cls", "mean", "lasttoken", None}
#: No revision of these is known to us: their newest is taken.
UNPINNED = {
    "sentence-transformers/multi-qa-mpnet-base-cos-v1",
    "Alibaba-NLP/gte-large-en-v1.5",
    "Alibaba-NLP/gte-reranker-modernbert-base",
    "BAAI/bge-reranker-base",
    "BAAI/bge-reranker-large",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L12-v2",
    "answerdotai/answerai-colbert-small-v1",
    "opensearch-project/opensearch-neural-sparse-encoding-v2-distill",
    "naver/splade-cocondenser-selfdistil",
    "naver/splade-cocondenser-ensembledistil",
    "naver/splade-v3",
    "prithivida/Splade_PP_en_v2",
    "ibm-granite/granite-embedding-30m-sparse",
    "hkunlp/instructor-base",
    "hkunlp/instructor-large",
    "hkunlp/instructor-xl",
    "ModernVBERT/colmodernvbert-merged",
    "vidore/colpali-v1.3-hf",
    "vidore/colqwen2-v1.0-hf",
    "sentence-transformers/clip-ViT-B-32-multilingual-v1",
}
#: Not in the table, which is of models that read texts, and older.
NEWER = {
    "google/embeddinggemma-2",
    "google/siglip2-base-patch16-naflex",
    "google/siglip2-so400m-patch16-naflex",
    "Qwen/Qwen3-VL-Reranker-2B",
    "vidore/colpali-v1.3",
    "vidore/colqwen2-v1.0",
    "vidore/colqwen2.5-v0.2",
}
#: Read less than the table says: what their folders, cards or papers set.
SHORTER = {
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
    "nomic-ai/nomic-embed-text-v1-ablated",
    "nomic-ai/nomic-embed-text-v1-unsupervised",
    "Qwen/Qwen3-Reranker-0.6B",
    "Qwen/Qwen3-Reranker-4B",
    "Qwen/Qwen3-Reranker-8B",
    "Qwen/Qwen3-VL-Embedding-2B",
    "Qwen/Qwen3-VL-Embedding-8B",
}
#: In the table, and not run here: pictures, sound, unknown custom code, or an unknown template.
ELSEWHERE = re.compile(
    r"clap|jina-clip|vision|multimodal|mmE5|Omni|-VL-|omni|jina-embeddings-v5|jina-colbert|"
    r"jina-reranker|gte-Qwen1\.5|rerank-(base|large)-v2|splade-code|nomic-embed-code"
)


def test_there_are_enough_of_them() -> None:
    assert len(catalog.entries()) >= 120


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda entry: entry.id)
def test_each_entry_is_whole(entry: CatalogEntry) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.id)
    assert entry.family in families.REGISTRY.names()
    assert entry.pooling in POOLINGS
    assert entry.dimensions == 1 if entry.kind == "scores" else 48 <= entry.dimensions <= 50265
    assert entry.max_length == 16 if entry.id == "google/siglip-so400m-patch14-224" else 64 <= entry.max_length <= 32768
    assert entry.modalities in (
        ("text",),
        ("text", "image"),
        ("image",),
        ("text", "audio"),
        ("text", "image", "audio"),
    )
    assert entry.image_size is None or "image" in entry.modalities  # pictures of some models have any size
    assert entry.image_size is None or 224 <= entry.image_size <= 512
    assert (entry.pooling is None) or entry.kind == "dense"
    assert entry.commercial != ("-nc" in entry.licence or entry.licence == "qwen-research")
    assert entry.licence
    assert entry.languages
    assert entry.parameters is not None and entry.parameters > 1_000_000
    assert all(dim <= entry.dimensions for dim in entry.matryoshka)
    assert (entry.revision is None) == (entry.id in UNPINNED)
    assert entry.revision is None or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert all(name and text for name, text in entry.prompts.items())


def test_every_name_finds_its_entry() -> None:
    for entry in catalog.entries():
        for name in entry.names:
            assert catalog.find(name) is entry
            assert catalog.find(name.upper()) is entry
    assert catalog.find("no-such-model") is None


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("bge-small", "Represent this sentence for searching relevant passages: ", None),
        ("e5-base", "query: ", "passage: "),
        ("minilm", None, None),
        ("bge-m3", None, None),
        ("arctic-l-v2", "query: ", None),
    ],
)
def test_the_prompts_that_folders_omit(name: str, query: str | None, document: str | None) -> None:
    entry = catalog.find(name)
    assert entry is not None
    assert (entry.prompts.get("query"), entry.prompts.get("document")) == (query, document)


def test_mistakes_in_a_file_name_the_nearest() -> None:
    whole = '[[model]]\nid = "a/b"\nfamily = "bert"\ndimensions = 8\nmax_length = 9\npooling = "cls"\nlicence = "mit"\n'
    assert catalog.read_entries("x.toml", whole)[0].id == "a/b"
    with pytest.raises(SettingsError, match="Did you mean 'dimensions'"):
        catalog.read_entries("x.toml", whole + "dimension = 5\n")
    with pytest.raises(SettingsError, match="Did you mean 'model'"):
        catalog.read_entries("x.toml", "[[models]]\n")
    with pytest.raises(SettingsError, match="licence"):
        catalog.read_entries("x.toml", whole.replace('licence = "mit"\n', ""))


def test_it_agrees_with_the_table_it_was_made_from() -> None:
    if not TABLE.exists():
        missing(f"the table is not here ({TABLE})")
        return
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    checked = 0
    for entry in catalog.entries():
        row = rows.get(entry.id)
        if row is None:
            assert entry.id in UNPINNED | NEWER or entry.modalities == ("image",)
            continue
        checked += 1
        assert entry.revision == row["revision"], entry.id
        if row["correction"]:
            continue  # the table says that its own figure is wrong, and what is right
        listed = re.findall(r"\d+", row["embed_dim"])
        if listed and entry.kind != "scores":
            assert str(entry.dimensions) in listed or entry.id.endswith("bge-small-zh-v1.5"), entry.id
        if re.fullmatch(r"[\d.]+", row["max_tokens"]) and entry.id not in SHORTER:
            assert entry.max_length == int(float(row["max_tokens"])), entry.id
    assert checked >= 100
    left_out = [name for name in rows if catalog.find(name) is None]
    assert all(ELSEWHERE.search(name) for name in left_out), [name for name in left_out if not ELSEWHERE.search(name)]


def test_corrections_are_applied() -> None:
    facts = {
        "BAAI/bge-small-en-v1.5": (384, 512),
        "Alibaba-NLP/gte-Qwen2-1.5B-instruct": (1536, 32768),
        "thenlper/gte-small-zh": (512, 512),
        "thenlper/gte-base-zh": (768, 512),
        "mixedbread-ai/mxbai-embed-2d-large-v1": (1024, 512),
        "intfloat/multilingual-e5-large": (1024, 512),
        "nomic-ai/nomic-embed-text-v1.5": (768, 2048),
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2": (768, 128),
    }
    for name, expected in facts.items():
        entry = catalog.find(name)
        assert entry is not None and (entry.dimensions, entry.max_length) == expected, name


@pytest.mark.parametrize(
    ("name", "modalities", "size", "revision"),
    [
        ("openai/clip-vit-large-patch14", ("text", "image"), 224, "32bd64288804d66eefd0ccbe215aa642df71cc41"),
        ("clip", ("text", "image"), 224, "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"),
        ("siglip2", ("text", "image"), 224, "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2"),
        ("siglip2-so400m", ("text", "image"), 384, "e8e487298228002f3d8a82e0cd5c8ea9c567f57f"),
        ("clap", ("text", "audio"), None, "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a"),
        ("siglip2-naflex", ("text", "image"), None, "b53b807d3a2d5e2b3911292f2d69e5341cdc064c"),
        ("dinov2-giant", ("image",), 224, "611a9d42f2335e0f921f1e313ad3c1b7178d206d"),
        ("minilm", ("text",), None, "8b3219a92973c328a8e22fadcfa821b5dc75636a"),
    ],
)
def test_what_models_read(name: str, modalities: tuple[str, ...], size: int | None, revision: str) -> None:
    entry = catalog.find(name)
    assert entry is not None
    assert (entry.modalities, entry.image_size, entry.revision) == (modalities, size, revision)


def test_what_folders_leave_out() -> None:
    nomic, gte, instructor = (catalog.find(name) for name in ("nomic-embed-text", "gte-qwen2-7b", "instructor-xl"))
    assert nomic is not None and nomic.centre and nomic.prompts["query"] == "search_query: "
    assert gte is not None and gte.is_causal is False and gte.instruction == "Instruct: {instruction}\nQuery: "
    assert instructor is not None and instructor.exclude_prompt
    qwen, reranker, jina = (catalog.find(name) for name in ("qwen3-embedding", "qwen3-reranker", "jina-v3"))
    assert qwen is not None and qwen.instruction == "Instruct: {instruction}\nQuery:"
    assert reranker is not None and reranker.answer is not None and reranker.answer.template is not None
    assert reranker.answer.template.tail.endswith("<think>\n\n</think>\n\n")
    assert jina is not None and jina.tasks["retrieval.query"].adapter == "retrieval.query"


def test_licences_that_forbid_commercial_use(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog.find("jina-v3")
    assert entry is not None and not entry.commercial
    with pytest.raises(LicenceRefused, match=r"jina-embeddings-v3 is under cc-by-nc-4\.0"):
        catalog.check_licence(entry)
    catalog.check_licence(entry, accepted=True)
    for value in ("1", "jina-v3", "a/b, jinaai/jina-embeddings-v3"):
        monkeypatch.setenv("NEARFIELD_ACCEPT_LICENSE", value)
        catalog.check_licence(entry)
    monkeypatch.setenv("NEARFIELD_ACCEPT_LICENSE", "a/b")
    with pytest.raises(LicenceRefused, match="--accept-license"):
        Encoder("jina-v3")
