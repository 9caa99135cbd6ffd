"""Classes of sentence-transformers where torch and transformers are not installed: arrays in place of tensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.parity.dense import pooled
from tests.parity.multivector import own
from tests.parity.scores import classifier
from tests.parity.sparse import masked

#: The library that writes the checkpoints takes more than two seconds to import.
pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.filterwarnings("ignore:Sparse CSR tensor")]

pytest.importorskip("sentence_transformers")

#: Hides torch and transformers from everything that is imported later, and prints what the classes return.
SCRIPT = """
import importlib.util, json, sys
import numpy as np

HIDDEN = {"torch", "transformers", "sentence_transformers"}
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name.split(".")[0] in HIDDEN else find_spec(name, *args)

class Hidden:
    def find_spec(self, name, *args):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
from nearfield.compat.sentence_transformers import (
    CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder, util
)
from nearfield.errors import InputError

TEXTS = ["a river by night", "the moon"]
result = {}
reranker = CrossEncoder(sys.argv[1])
scores = reranker.predict([("river", text) for text in TEXTS])
result["scores"] = scores.tolist()
result["ranked"] = [item["corpus_id"] for item in reranker.rank("river", TEXTS)]
doubled = reranker.predict(("river", TEXTS[0]), activation_fn=lambda logits: logits * 0 + 2)
result["activation"] = float(doubled)
result["own"] = reranker.activation_fn(np.zeros((1, 1), np.float32)).tolist()
result["device"] = reranker.device
try:
    reranker.predict(("river", TEXTS[0]), convert_to_tensor=True)
except InputError as error:
    result["tensor"] = str(error)
sparse = SparseEncoder(sys.argv[2])
vectors, one = sparse.encode(TEXTS), sparse.encode_query(TEXTS[0])
result["sparse"] = np.asarray(vectors).tolist()
result["decoded"] = sparse.decode(one, top_k=2) == sparse.decode(vectors, top_k=2)[0]
result["sparse similarity"] = np.asarray(sparse.similarity(one, vectors)).tolist()
late = MultiVectorEncoder(sys.argv[3])
queries, documents = late.encode_query(TEXTS[:1]), late.encode_document(TEXTS)
result["kinds"] = [type(queries[0]).__name__, type(late.encode(TEXTS[0])).__name__]
result["late"] = np.asarray(late.similarity(queries, documents)).tolist()
dense = SentenceTransformer(sys.argv[4])
vectors = dense.encode(TEXTS)
result["dense"] = vectors.tolist()
result["dense similarity"] = dense.similarity(vectors, vectors[0]).tolist()
result["dense pairwise"] = dense.similarity_pairwise(vectors, vectors).tolist()
result["states"] = [type(item).__name__ for item in dense.encode(TEXTS, output_value="token_embeddings")]
result["found"] = [hit["corpus_id"] for hit in util.semantic_search(vectors[1], vectors)[0]]
result["facts"] = [str(dense.device), str(dense.dtype), dense.tokenizer.encode(TEXTS[0]).ids]
try:
    dense.encode(TEXTS, convert_to_tensor=True)
except InputError as error:
    result["dense tensor"] = str(error)
result["loaded"] = sorted(HIDDEN & set(sys.modules))
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    writers = (classifier("bert"), masked("bert"), own("bert"), pooled("bert"))
    return [str(write(tmp_path_factory.mktemp(str(number)))) for number, write in enumerate(writers)]


def test_arrays_take_the_place_of_tensors(folders: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", SCRIPT, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["loaded"] == [] and result["device"] == "cpu" and "pip install torch" in result["tensor"]
    assert result["activation"] == 2.0 and result["own"] == [[0.5]] and result["decoded"]
    assert result["kinds"] == ["ndarray", "ndarray"]
    assert result["ranked"] == list(np.argsort(-np.array(result["scores"]), kind="stable"))
    assert result["states"] == ["ndarray", "ndarray"] and result["found"] == [1, 0]
    assert result["facts"][:2] == ["cpu", "float32"] and "pip install torch" in result["dense tensor"]
    _compare_with_originals(result, folders)
    _compare_dense_with_original(result, folders[3])


def _compare_with_originals(result: dict[str, Any], folders: list[str]) -> None:
    from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder

    texts = ["a river by night", "the moon"]
    scores = CrossEncoder(folders[0], device="cpu").predict([("river", text) for text in texts])
    np.testing.assert_allclose(result["scores"], scores, atol=2e-5)
    sparse = SparseEncoder(folders[1], device="cpu")
    vectors = sparse.encode(texts)
    np.testing.assert_allclose(result["sparse"], vectors.to_dense(), atol=2e-4)
    np.testing.assert_allclose(result["sparse similarity"], sparse.similarity(vectors[0], vectors), rtol=1e-4)
    late = MultiVectorEncoder(folders[2], device="cpu")
    expected = late.similarity(late.encode_query(texts[:1]), late.encode_document(texts))
    np.testing.assert_allclose(result["late"], expected, rtol=1e-4)


def _compare_dense_with_original(result: dict[str, Any], folder: str) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    vectors = model.encode(["a river by night", "the moon"])
    np.testing.assert_allclose(result["dense"], vectors, atol=2e-5)
    np.testing.assert_allclose(result["dense similarity"], model.similarity(vectors, vectors[0]), atol=2e-5)
    np.testing.assert_allclose(result["dense pairwise"], model.similarity_pairwise(vectors, vectors), atol=2e-5)
    assert result["facts"][2] == model.tokenizer("a river by night")["input_ids"]
