"""Compare late interaction with the PyLate library, on a tiny checkpoint that PyLate creates.

``python -m tools.pylate PYTHON`` takes the Python of a venv that has PyLate, which needs an older sentence-transformers
than the tests do: ``pip install pylate``. It prints the largest differences, by role.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nearfield import Encoder
from tests.support import tiny_models

#: What runs in the other venv: the library makes a model over a plain encoder, saves it, and encodes in both roles.
THEIRS = """
import json, sys
import numpy as np
import torch
from pylate import models
base, folder, texts, out = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
torch.manual_seed(5)
lengths = {"query_length": 12, "document_length": 24}
model = models.ColBERT(base, embedding_size=16, device="cpu", skiplist_words=[",", ".", "the"], **lengths)
model.save_pretrained(folder)
found = {
    f"{role} {at}": row
    for role in ("query", "document")
    for at, row in enumerate(model.encode(texts, is_query=role == "query", convert_to_numpy=True))
}
np.savez(out, **found)
"""


def plain(folder: Path) -> Path:
    """Return the folder with nothing but the encoder left, which the older sentence-transformers there can read."""
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "1_Pooling", ignore_errors=True)
    return folder


def compare(python: str) -> dict[str, float]:
    """Return the largest difference in each role, over the parity cases' texts.

    Raises:
        ValueError: a text has another number of vectors there.
    """
    texts = [text for text in tiny_models.TEXTS if text.strip()]
    with tempfile.TemporaryDirectory() as place:
        base, folder, out = (
            plain(tiny_models.tiny_bert(Path(place) / "base")),
            Path(place) / "theirs",
            Path(place) / "theirs.npz",
        )
        arguments = [str(base), str(folder), json.dumps(texts), str(out)]
        subprocess.run([python, "-c", THEIRS, *arguments], check=True, stdout=sys.stderr)
        theirs = np.load(out)
        with Encoder(str(folder), precision="float32") as encoder:
            ours = {role: encoder.encode(texts, role=role) for role in ("query", "document")}
        apart = dict.fromkeys(ours, 0.0)
        for role, rows in ours.items():
            for at, row in enumerate(rows):
                other = theirs[f"{role} {at}"]
                if row.shape != other.shape:
                    raise ValueError(f"{role} {at}: {row.shape} here and {other.shape} there")
                apart[role] = max(apart[role], float(np.abs(row - other).max(initial=0)))
    return apart


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1])))
