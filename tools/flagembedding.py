"""Compare bge-m3's three outputs with those of the FlagEmbedding library, on a tiny checkpoint.

``python -m tools.flagembedding PYTHON`` takes the Python of a venv that has FlagEmbedding, which needs an older
transformers than the tests do: ``pip install "transformers<5" FlagEmbedding``. It prints the largest differences.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nearfield import Encoder
from tests.parity import m3
from tests.support.tiny_models import SHIFTED, TEXTS

#: What runs in the other venv: the library on the folder and texts given, its results to a file.
THEIRS = """
import json, sys
import numpy as np
from FlagEmbedding import BGEM3FlagModel
folder, texts, length, out = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
model = BGEM3FlagModel(folder, use_fp16=False, devices="cpu")
found = model.encode(texts, return_dense=True, return_sparse=True, return_colbert_vecs=True, max_length=length)
sparse = [{key: float(weight) for key, weight in one.items()} for one in found["lexical_weights"]]
np.savez(out, found["dense_vecs"], json.dumps(sparse), *found["colbert_vecs"])
"""


def compare(python: str) -> dict[str, float]:
    """Return the largest difference of each output, over the parity cases' texts."""
    with tempfile.TemporaryDirectory() as place:
        folder, out = m3.write(Path(place)), Path(place) / "theirs.npz"
        arguments = [str(folder), json.dumps(TEXTS), str(SHIFTED), str(out)]
        subprocess.run([python, "-c", THEIRS, *arguments], check=True, stdout=sys.stderr)
        dense, listed, *colbert = np.load(out).values()
        with Encoder(str(folder), precision="float32") as encoder:
            ours = encoder.encode(list(TEXTS), outputs=("dense", "sparse", "multivector"))
    sparse = [{int(key): weight for key, weight in one.items()} for one in json.loads(str(listed))]
    pairs = list(zip(ours.sparse.to_dicts(), sparse, strict=True))
    rows = list(zip(ours.multivector, colbert, strict=True))
    return {
        "dense": float(np.abs(np.asarray(ours.dense) - dense).max()),
        "sparse": max(abs(a.get(key, 0) - b.get(key, 0)) for a, b in pairs for key in {*a, *b}),
        "multivector": max(float(np.abs(a - b).max(initial=0)) for a, b in rows),
    }


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1])))
