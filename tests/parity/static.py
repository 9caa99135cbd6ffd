"""Static embeddings, against sentence-transformers and model2vec, each in its own layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case, dense
from tests.support import tiny_models


def table(folder: Path) -> Path:
    """Write sentence-transformers' layout."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    words: Any = transformers.AutoTokenizer.from_pretrained(tiny_models.tiny_bert(folder / "base"))
    torch.manual_seed(8)
    module: Any = StaticEmbedding(words, embedding_dim=20)
    SentenceTransformer(modules=[module, Normalize()], device="cpu").save(str(folder / "out"), create_model_card=False)
    return folder / "out"


def distilled(normalize: bool, shared: bool) -> Callable[[Path], Path]:
    """Return a writer of model2vec's layout; ``shared`` rows stand for several tokens, each with a weight."""

    def write(folder: Path) -> Path:
        from model2vec import StaticModel
        from tokenizers import Tokenizer

        words = Tokenizer.from_file(str(tiny_models.tiny_bert(folder / "base") / "tokenizer.json"))
        random, count = np.random.default_rng(9), words.get_vocab_size()
        rows = 50 if shared else count
        options: dict[str, Any] = {}
        if shared:
            options["token_mapping"] = random.integers(0, rows, count)
            options["weights"] = random.uniform(0.1, 2, count).astype(np.float32)
        vectors = random.standard_normal((rows, 24)).astype(np.float32)
        model = StaticModel(vectors, words, normalize=normalize, max_length=40, **options)
        model.save_pretrained(folder / "out")
        return folder / "out"

    return write


def expect(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Encode with model2vec."""
    from model2vec import StaticModel

    model = StaticModel.from_pretrained(folder)
    # Before it tokenises, it cuts texts at so many characters a token, to save time: ours reads all that fits.
    model.median_token_length = 1000
    return list(np.asarray(model.encode(list(texts))))


CASES = [
    Case("table, normalised", "static", dense.REFERENCE, table, dense.expect),
    Case("table", "static", "model2vec", distilled(normalize=False, shared=False), expect),
    Case("shared rows with weights, normalised", "static", "model2vec", distilled(normalize=True, shared=True), expect),
]
