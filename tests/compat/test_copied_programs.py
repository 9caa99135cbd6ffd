"""Whole programs for sentence-transformers, run twice: unchanged, and with another import.

They have the form in which people copy them. The model is real (all-MiniLM-L6-v2), and what a program computes is
compared variable by variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compat.comparison import assert_equal
from tests.integrations.conftest import assert_close, minilm, splade  # noqa: F401 - fixtures
from tests.parity import m3
from tests.parity.scores import classifier

pytestmark = [
    pytest.mark.slow,
    # The original warns about old names, and torch about its sparse tensors.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning"),
]
pytest.importorskip("sentence_transformers")


@dataclass(frozen=True)
class Program:
    """A program and the names of its results."""

    source: str
    results: tuple[str, ...]


PROGRAMS = {
    "quickstart": Program(
        """
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(MODEL)
sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
embeddings = model.encode(sentences)
shape = embeddings.shape
similarities = model.similarity(embeddings, embeddings)
""",
        ("embeddings", "shape", "similarities"),
    ),
    "semantic search": Program(
        """
import torch
from sentence_transformers import SentenceTransformer, util

embedder = SentenceTransformer(MODEL, device="cpu")
corpus = [
    "A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.",
    "A man is riding a horse.", "A woman is playing violin.", "Two men pushed carts through the woods.",
    "A monkey is playing drums.", "A cheetah is running behind its prey.",
]
corpus_embeddings = embedder.encode_document(corpus, convert_to_tensor=True)
queries = ["A man is eating pasta.", "Someone in a gorilla costume is playing a set of drums."]
top = []
for query in queries:
    query_embedding = embedder.encode_query(query, convert_to_tensor=True)
    scores = embedder.similarity(query_embedding, corpus_embeddings)[0]
    values, indices = torch.topk(scores, k=5)
    top.append((values, indices, [corpus[i] for i in indices]))
hits = util.semantic_search(query_embedding, corpus_embeddings, top_k=5)[0]
hits = sorted(hits, key=lambda hit: hit["score"], reverse=True)
""",
        ("corpus_embeddings", "top", "hits"),
    ),
    "retrieve and rerank": Program(
        """
from sentence_transformers import CrossEncoder, SentenceTransformer, util

bi_encoder = SentenceTransformer(MODEL)
bi_encoder.max_seq_length = 256
cross_encoder = CrossEncoder(RERANKER)
passages = [
    "Mont Blanc rises 4,806 m above sea level.", "The Rhine flows to the North Sea.",
    "Basil grows best in warm and sunny places.", "The Alps stretch across eight countries.",
]
embeddings = bi_encoder.encode(passages, convert_to_tensor=True, show_progress_bar=False)
question_embedding = bi_encoder.encode("How tall is Mont Blanc?", convert_to_tensor=True)
hits = util.semantic_search(question_embedding, embeddings, top_k=3)[0]
pairs = [["How tall is Mont Blanc?", passages[hit["corpus_id"]]] for hit in hits]
scores = cross_encoder.predict(pairs)
for index in range(len(scores)):
    hits[index]["cross-score"] = scores[index]
hits = sorted(hits, key=lambda hit: hit["cross-score"], reverse=True)
ranks = cross_encoder.rank("How tall is Mont Blanc?", passages, return_documents=True, top_k=2)
""",
        ("hits", "scores", "ranks"),
    ),
    "clusters": Program(
        """
from sklearn.cluster import KMeans
from sentence_transformers import SentenceTransformer, util

model = SentenceTransformer(MODEL)
corpus = [
    "A man is eating food.", "A man is eating bread.", "A man is eating pasta.", "A monkey is playing drums.",
    "Someone is playing drums.", "A cheetah chases its prey.", "A cheetah is running behind its prey.",
]
corpus_embeddings = model.encode(corpus, batch_size=64, show_progress_bar=False, normalize_embeddings=True)
labels = KMeans(n_clusters=3, n_init=10, random_state=0).fit(corpus_embeddings).labels_.tolist()
communities = util.community_detection(corpus_embeddings, min_community_size=2, threshold=0.6)
paraphrases = util.paraphrase_mining(model, corpus, top_k=2)
""",
        ("labels", "communities", "paraphrases"),
    ),
    "vectors for a database": Program(
        """
import json
import numpy as np
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(MODEL)
dimension = model.get_sentence_embedding_dimension()
records = [{"id": "1", "text": "Mont Blanc is tall."}, {"id": "2", "text": "The Rhine is long."}]
vectors = model.encode([record["text"] for record in records], normalize_embeddings=True)
points = [{"id": record["id"], "values": vector.tolist()} for record, vector in zip(records, vectors)]
size = len(json.loads(json.dumps(points))[0]["values"])
matrix = np.array([point["values"] for point in points], dtype="float32")
query = model.encode("a high mountain", normalize_embeddings=True)
best = int(np.argmax(matrix @ query))
""",
        ("dimension", "points", "size", "matrix", "best"),
    ),
    "quantised vectors": Program(
        """
from sentence_transformers import SentenceTransformer
from sentence_transformers.quantization import quantize_embeddings

model = SentenceTransformer(MODEL, truncate_dim=256)
embeddings = model.encode(["I am driving to the lake.", "It is a beautiful day."])
binary = quantize_embeddings(embeddings, precision="ubinary")
shapes = [embeddings.shape, binary.shape, str(binary.dtype)]
""",
        ("embeddings", "binary", "shapes"),
    ),
    "sparse": Program(
        """
from sentence_transformers import SparseEncoder

model = SparseEncoder(SPARSE)
queries = ["hello world"]
documents = ["the cat sat on the mat", "hello river"]
query_embeddings = model.encode_query(queries)
document_embeddings = model.encode_document(documents)
similarities = model.similarity(query_embeddings, document_embeddings)
dense = document_embeddings.to_dense()
""",
        ("similarities", "dense"),
    ),
}


@pytest.fixture(scope="module")
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of the models, by their names in the programs."""
    encoder: Any = request.getfixturevalue("minilm")
    sparse: Path = request.getfixturevalue("splade")
    reranker = classifier("bert", 1)(tmp_path_factory.mktemp("reranker"))
    return {"MODEL": str(encoder.recipe.folder), "RERANKER": str(reranker), "SPARSE": str(sparse)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_the_same_when_only_its_import_changes(name: str, models: dict[str, str]) -> None:
    program = PROGRAMS[name]
    changed = program.source.replace("from sentence_transformers", "from nearfield.compat.sentence_transformers")
    assert changed != program.source
    original, ours = _run(program.source, models), _run(changed, models)
    for result in program.results:
        assert_equal(ours[result], original[result], result)


def _run(source: str, models: dict[str, str]) -> dict[str, Any]:
    """Return the variables of a program."""
    variables: dict[str, Any] = dict(models)
    exec(source, variables)
    return variables


# -- libraries whose models or versions are not here: compared with the reference of their recipe --------------------

FASTEMBED = """
from fastembed import TextEmbedding

documents = ["Mont Blanc rises 4,806 m above sea level.", "The Rhine flows to the North Sea."]
embedding_model = TextEmbedding(model_name="sentence-transformers/all-MiniLM-L6-v2")
embeddings_generator = embedding_model.embed(documents)
embeddings_list = list(embedding_model.embed(documents))
query_embedding = list(embedding_model.query_embed("How tall is Mont Blanc?"))[0]
size = len(embeddings_list[0])
"""

FLAG_M3 = """
from FlagEmbedding import BGEM3FlagModel

model = BGEM3FlagModel(M3, use_fp16=False)
sentences = ["the sun is a star", "stone by stone"]
output = model.encode(
    sentences, batch_size=12, max_length=60, return_dense=True, return_sparse=True, return_colbert_vecs=True
)
similarity = output["dense_vecs"] @ output["dense_vecs"].T
"""

FLAG_RERANKER = """
from FlagEmbedding import FlagReranker

reranker = FlagReranker(RERANKER, use_fp16=False)
pairs = [["what is panda?", "hi"], ["what is panda?", "The giant panda is a bear."]]
scores = reranker.compute_score(pairs)
normalized = reranker.compute_score(pairs, normalize=True)
"""


def test_fastembed(models: dict[str, str]) -> None:
    from sentence_transformers import SentenceTransformer

    ours = _run(FASTEMBED.replace("from fastembed", "from nearfield.compat.fastembed"), models)
    reference = SentenceTransformer(models["MODEL"], device="cpu")
    assert_close(ours["embeddings_list"], reference.encode(ours["documents"]))
    assert_close(list(ours["embeddings_generator"]), reference.encode(ours["documents"]))
    assert_close(ours["query_embedding"], reference.encode("How tall is Mont Blanc?"))
    assert ours["size"] == 384


def test_flag_embedding_m3(tmp_path: Path) -> None:
    folder = m3.write(tmp_path)
    ours = _run(FLAG_M3.replace("from FlagEmbedding", "from nearfield.compat.flag_embedding"), {"M3": str(folder)})
    dense, sparse, tokens = (m3.expect(kind)(folder, ours["sentences"]) for kind in ("dense", "sparse", "multivector"))
    assert_close(ours["output"]["dense_vecs"], np.stack(dense))
    assert_close(ours["similarity"], np.stack(dense) @ np.stack(dense).T)
    for number in range(2):
        assert_close(ours["output"]["colbert_vecs"][number], tokens[number])
        weights = {str(place): float(sparse[number][place]) for place in np.flatnonzero(sparse[number])}
        assert ours["output"]["lexical_weights"][number] == pytest.approx(weights, abs=1e-5)


def test_flag_embedding_reranker(models: dict[str, str]) -> None:
    from sentence_transformers import CrossEncoder

    ours = _run(FLAG_RERANKER.replace("from FlagEmbedding", "from nearfield.compat.flag_embedding"), models)
    scores = CrossEncoder(models["RERANKER"], device="cpu").predict(ours["pairs"])  # sigmoid
    assert_close(ours["normalized"], scores)
    assert_close(ours["scores"], np.log(scores / (1 - scores)))
