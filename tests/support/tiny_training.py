"""Rows that a tiny model can learn from: words of one topic are unrelated until the model has learnt them."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.testing import write_tiny_model
from nearfield.training.training_data import TrainingData

_SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te")
WORDS = tuple(first + second for first in _SYLLABLES for second in _SYLLABLES)
TOPICS, _WORDS_PER_TOPIC = 8, 6


def topic_text(topic: int, draw: random.Random, words: Sequence[str] = WORDS) -> str:
    """Return two words of a topic among two that say nothing."""
    start = topic * _WORDS_PER_TOPIC
    chosen = draw.sample(words[start : start + _WORDS_PER_TOPIC], 2)
    chosen += draw.sample(words[TOPICS * _WORDS_PER_TOPIC :], 2)
    draw.shuffle(chosen)
    return " ".join(chosen)


def labelled_rows(count: int = 320, seed: int = 0, *, shuffled: bool = False) -> TrainingData:
    """Return texts with their topics as labels; ``shuffled`` gives each text the label of another one."""
    draw = random.Random(seed)
    topics = [number % TOPICS for number in range(count)]
    texts = [topic_text(topic, draw) for topic in topics]
    if shuffled:
        draw.shuffle(topics)
    return TrainingData("topics", Labelled(texts, [f"topic {topic}" for topic in topics]))


def ranking_rows(queries: int = 160, seed: int = 0, words: Sequence[str] = WORDS) -> TrainingData:
    """Return queries, each with one relevant document of its topic; documents are a topic's, and many."""
    draw = random.Random(seed)
    texts = {f"q{number}": topic_text(number % TOPICS, draw, words) for number in range(queries)}
    documents = {f"d{number}": topic_text(number % TOPICS, draw, words) for number in range(queries)}
    relevant = {f"q{number}": {f"d{number}": 1} for number in range(queries)}
    return TrainingData("questions", Retrieval(documents, texts, relevant))


def translated_rows(words: Sequence[str] = WORDS, queries: int = 240, seed: int = 0) -> TrainingData:
    """Return documents of 4 of 16 words, and queries of their 4 translations: the next 16 words, in another order."""
    draw = random.Random(seed)
    documents, texts = {}, {}
    for number in range(queries):
        places = draw.sample(range(16), 4)
        documents[f"d{number}"] = " ".join(words[place] for place in places)
        draw.shuffle(places)
        texts[f"q{number}"] = " ".join(words[16 + place] for place in places)
    relevant = {f"q{number}": {f"d{number}": 1} for number in range(queries)}
    return TrainingData("translated", Retrieval(documents, texts, relevant))


def marked_rows(words: Sequence[str], queries: int = 160, seed: int = 0) -> TrainingData:
    """Return queries with a relevant document, which has the last word, and three others, which have the one before."""
    draw, others = random.Random(seed), words[:-2]
    texts = {f"q{number}": " ".join(draw.sample(others, 4)) for number in range(queries)}
    documents, relevant = {}, {}
    for query in texts:
        for place, mark in enumerate((words[-1], words[-2], words[-2], words[-2])):
            chosen = [*draw.sample(others, 4), mark]
            draw.shuffle(chosen)
            documents[f"{query} d{place}"] = " ".join(chosen)
        relevant[query] = {f"{query} d{place}": int(place == 0) for place in range(4)}
    return TrainingData("marked", Retrieval(documents, texts, relevant))


def scored_rows(count: int = 160, seed: int = 0) -> TrainingData:
    """Return pairs with 1 if both are of one topic, some 0.5, and else 0."""
    draw = random.Random(seed)
    first, second, gold = [], [], []
    for number in range(count):
        topic, other = number % TOPICS, (number + number % 3) % TOPICS
        first.append(topic_text(topic, draw))
        second.append(topic_text(other, draw))
        gold.append(1.0 if topic == other else 0.1 * (number % 3))
    return TrainingData("pairs", PairRows(first, second, gold))


def tiny_base(folder: Path, **options: object) -> Path:
    """Write a tiny model that knows the words, one token each; return its folder."""
    return write_tiny_model(folder, words=WORDS, layers=1, spread=0.05, **options)  # type: ignore[arg-type]


def tiny_splade(folder: Path) -> Path:
    """Write a SPLADE model of these layers, whose head gives some weight to each word of a text; return its folder."""
    import torch
    import transformers
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling, Transformer

    base = tiny_base(folder / "base")
    torch.manual_seed(1)
    model: Any = transformers.AutoModelForMaskedLM.from_pretrained(base)
    head = model.cls.predictions
    with torch.no_grad():
        head.transform.dense.weight.copy_(2 * torch.eye(32))
        head.bias.fill_(-4)
        head.decoder.bias.fill_(-4)
    model.save_pretrained(folder / "mlm")
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder / "mlm")
    modules = [Transformer(str(folder / "mlm"), transformer_task="fill-mask", max_seq_length=40), SpladePooling()]
    SparseEncoder(modules=modules, device="cpu").save(str(folder / "out"), create_model_card=False)
    return folder / "out"


def tiny_late(folder: Path) -> Path:
    """Write a late-interaction model of the same layers, with 16 dimensions for each token; return its folder."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    tokens = {"module_input_name": "token_embeddings"}
    torch.manual_seed(1)
    modules: list[Any] = [
        Transformer(str(tiny_base(folder / "base"))),
        Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), **tokens),
        MultiVectorMask(skiplist_words=[","]),
        Normalize(**tokens),
    ]
    MultiVectorEncoder(modules=modules, device="cpu").save(str(folder / "out"), create_model_card=False)
    return folder / "out"
