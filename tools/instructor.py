"""Compare `INSTRUCTOR` with InstructorEmbedding itself, on a tiny checkpoint.

``python -m tools.instructor PYTHON`` takes the Python of a venv that has InstructorEmbedding, which needs an older
sentence-transformers than the tests do: ``pip install InstructorEmbedding==1.0.1 sentence-transformers==2.2.2
transformers==4.36.2 huggingface-hub==0.25.2``. It prints the largest differences, relative to the largest value, by
kind of output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.compat.instructor import INSTRUCTOR
from tests.parity import t5
from tests.support import tiny_models

QUERY, DOCUMENT = "Represent the question: ", "Represent the small document for the king; "
PAIRS = [
    *([instruction, text] for instruction in (QUERY, DOCUMENT, "") for text in tiny_models.TEXTS),
    [f"{QUERY} {DOCUMENT}" * 30, "an instruction that leaves no room for a text"],
]
#: What runs in the other venv.
THEIRS = """
import json, sys
import numpy as np
from InstructorEmbedding import INSTRUCTOR
folder, pairs, out = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8")), sys.argv[3]
model = INSTRUCTOR(folder, device="cpu")
tokens = model.encode(pairs, output_value="token_embeddings")
np.savez(
    out,
    vectors=model.encode(pairs),
    unit=model.encode(pairs, normalize_embeddings=True),
    **{f"tokens {at}": row.numpy() for at, row in enumerate(tokens)},
)
"""


def write(folder: Path) -> Path:
    """Write a T5 with Instructor's modules, as old versions of the libraries read it."""
    # The original reads 512 tokens, whatever a folder says, and no safetensors of modules.
    save: dict[str, Any] = {"normalize": False, "old": True, "safe": False, "max_seq_length": 512}
    save["dense"] = [{"out": 24, "bias": False, "activation": "Identity"}]
    out = t5.encoder(save)(folder)
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    tiny_models.edit(out / "tokenizer_config.json", model_max_length=512, **own)
    tiny_models.edit(out / "sentence_bert_config.json", max_seq_length=512)
    tiny_models.edit(out / "1_Pooling" / "config.json", include_prompt=None)
    tiny_models.edit(out / "2_Dense" / "config.json", module_input_name=None, module_output_name=None)
    model = tiny_models.read(out / "tokenizer.json")["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    tiny_models.edit(out / "tokenizer.json", model={**model, "merges": merges})
    return out


def compare(python: str) -> dict[str, float]:
    """Return the largest differences of vectors, of vectors of unit length, and of the vectors of tokens."""
    with tempfile.TemporaryDirectory() as place:
        folder, out = write(Path(place) / "model"), Path(place) / "theirs.npz"
        pairs = Path(place) / "pairs.json"
        pairs.write_text(json.dumps(PAIRS), encoding="utf-8")
        subprocess.run([python, "-c", THEIRS, *map(str, (folder, pairs, out))], check=True, stdout=sys.stderr)
        theirs = np.load(out)
        model = INSTRUCTOR(str(folder))
        tokens = model.encode(PAIRS, output_value="token_embeddings")
        return {
            "vectors": _difference(model.encode(PAIRS), theirs["vectors"]),
            "unit": _difference(model.encode(PAIRS, normalize_embeddings=True), theirs["unit"]),
            "tokens": max(_difference(row.numpy(), theirs[f"tokens {at}"]) for at, row in enumerate(tokens)),
        }


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"{ours.shape} here and {theirs.shape} there")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1])))
