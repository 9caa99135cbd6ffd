"""MinHash in blocks: as likely to agree as theory says, and the same pairs as datasketch's index."""

import random
import re

import numpy as np
import pytest

from nearfield.training.overlap.minhash import band_values
from nearfield.training.overlap.near_copies import THRESHOLD, grams, jaccard, near_copies
from nearfield.training.overlap.normalised import normalise

_RANDOM = random.Random(1)
_WORDS = ["".join(_RANDOM.choices("abcdefghijklmnopqrstuvwxyzäπ", k=6)) for _ in range(3000)]
TEXTS = [" ".join(_RANDOM.choices(_WORDS, k=_RANDOM.randint(20, 60))) for _ in range(400)]


def _edit(text: str) -> str:
    words = text.split()
    for place in _RANDOM.sample(range(len(words)), _RANDOM.randint(0, 8)):
        words[place] = _RANDOM.choice(_WORDS)
    return " ".join(words)


EDITED = [_edit(text) for text in TEXTS]


def test_bands_are_equal_as_often_as_the_similarity_says() -> None:
    similarities = np.array([jaccard(grams(first), grams(second)) for first, second in zip(TEXTS, EDITED, strict=True)])
    share = (band_values(TEXTS) == band_values(EDITED)).mean(axis=1)
    for low in (0.3, 0.5, 0.7):
        chosen = (similarities >= low) & (similarities < low + 0.2)
        expected = similarities[chosen] ** 4
        deviation = np.sqrt((expected * (1 - expected) / 32).sum()) / chosen.sum()
        assert abs(share[chosen].mean() - expected.mean()) < 4 * deviation


def test_the_pairs_are_those_of_datasketch_and_all_that_there_are() -> None:
    datasketch = pytest.importorskip("datasketch")
    texts = [*TEXTS, "", "!", "ab", "AB", "\U0001f600\U0001f601"]
    index = datasketch.MinHashLSH(num_perm=128, params=(32, 4))
    signatures = []
    for number, text in enumerate(texts):
        signature = datasketch.MinHash(128)
        signature.update_batch([gram.encode() for gram in grams(text)])
        signatures.append(signature)
        index.insert(number, signature)
    pairs = {(number, other) for number, signature in enumerate(signatures) for other in index.query(signature)}
    similar = {pair for pair in pairs if jaccard(*(grams(texts[number]) for number in pair)) >= THRESHOLD}
    assert {(left, right) for left, right, _ in near_copies(texts, texts)} == similar
    found = [(left, right) for left, right, _ in near_copies(EDITED, TEXTS)]
    every = [jaccard(grams(edited), grams(text)) for edited, text in zip(EDITED, TEXTS, strict=True)]
    assert found == [(number, number) for number, value in enumerate(every) if value >= THRESHOLD]
    assert list(near_copies([], TEXTS[:2])) == list(near_copies(TEXTS[:2], [])) == []


@pytest.mark.parametrize("text", ["", " A_b-C  d\t9\x1f", "!? ", "\x7f~", "word"])
def test_the_short_way_of_ascii_is_the_long_one(text: str) -> None:
    folded = text.casefold()
    assert normalise(text) == (re.sub(r"[\W_]+", " ", folded).strip() or folded.strip())
