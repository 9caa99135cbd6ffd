"""Rows that a tiny model can learn from: words of one topic are unrelated until the model has learnt them."""

import random
from pathlib import Path

from nearfield.evaluation.datasets.dataset import Labelled, PairRows, Retrieval
from nearfield.testing import write_tiny_model
from nearfield.training.training_data import TrainingData

_SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te")
WORDS = tuple(first + second for first in _SYLLABLES for second in _SYLLABLES)
TOPICS, _WORDS_PER_TOPIC = 8, 6
_FILLERS = WORDS[TOPICS * _WORDS_PER_TOPIC :]


def topic_text(topic: int, draw: random.Random) -> str:
    """Return two words of a topic among two that say nothing."""
    start = topic * _WORDS_PER_TOPIC
    words = draw.sample(WORDS[start : start + _WORDS_PER_TOPIC], 2) + draw.sample(_FILLERS, 2)
    draw.shuffle(words)
    return " ".join(words)


def labelled_rows(count: int = 320, seed: int = 0, *, shuffled: bool = False) -> TrainingData:
    """Return texts with their topics as labels; ``shuffled`` gives each text the label of another one."""
    draw = random.Random(seed)
    topics = [number % TOPICS for number in range(count)]
    texts = [topic_text(topic, draw) for topic in topics]
    if shuffled:
        draw.shuffle(topics)
    return TrainingData("topics", Labelled(texts, [f"topic {topic}" for topic in topics]))


def ranking_rows(queries: int = 160, seed: int = 0) -> TrainingData:
    """Return queries, each with one relevant document of its topic; documents are a topic's, and many."""
    draw = random.Random(seed)
    texts = {f"q{number}": topic_text(number % TOPICS, draw) for number in range(queries)}
    documents = {f"d{number}": topic_text(number % TOPICS, draw) for number in range(queries)}
    relevant = {f"q{number}": {f"d{number}": 1} for number in range(queries)}
    return TrainingData("questions", Retrieval(documents, texts, relevant))


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
