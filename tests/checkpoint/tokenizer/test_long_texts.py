"""Texts far longer than a model reads: the same ids as those of the whole text, without reading all of it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers

from nearfield.checkpoint.tokenizer import long_texts
from nearfield.checkpoint.tokenizer.builder import TokenizerFiles
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer, Tokens
from nearfield.checkpoint.tokenizer.truncation import UntruncatedIds
from nearfield.errors import InputError, InputTooLong
from tests.support import tiny_models

pytestmark = pytest.mark.slow

LENGTH = 60
LETTERS = "aeiounrstöé日,.-'4"


def _unigram(prepend: str, *, split: bool) -> Backend:
    """A unigram vocabulary as sentencepiece converts it, with the space before the first word put there in two ways."""
    pieces = tiny_models._unigram_vocab(("<s>", "<pad>", "</s>", "<unk>"))
    backend = Backend(models.Unigram(pieces, unk_id=3))
    if prepend == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=split)
    return backend


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    made = {}
    for family in ("bert", "roberta", "xlm-roberta"):
        made[family] = Tokenizer.load(tiny_models.TINY[family](tmp_path_factory.mktemp(family)), max_length=LENGTH)
    for prepend, split in (("normalizer", False), ("first", True), ("always", False)):
        backend = _unigram(prepend, split=split)
        made[f"{prepend} {split}"] = Tokenizer(TokenizerFiles(backend, 1, "right", ""), max_length=LENGTH)
    return made


NAMES = ("bert", "roberta", "xlm-roberta", "normalizer False", "first True", "always False")


def _prose(seed: int, characters: int, spaces: str = " ") -> str:
    chance = random.Random(seed)
    words: list[str] = []
    size = 0
    while size < characters:
        made = "".join(chance.choices(LETTERS, k=chance.randint(1, 12)))
        words += [chance.choice(tiny_models.WORDS) if chance.random() < 0.6 else made, chance.choice(spaces)]
        size += len(words[-2]) + 1
    return "".join(words)


TEXTS: dict[str, Callable[[], str]] = {
    "prose": lambda: _prose(1, 2_000_000),
    "lines and runs of spaces": lambda: _prose(2, 500_000, spaces=" \n\t\u3000") + "  " * 9,
    "one endless word": lambda: "x" * 1_000_000,
    "an endless word within prose": lambda: _prose(3, 100_000) + "y" * 200_000 + " " + _prose(4, 100_000),
    "letters without a space": lambda: "".join(random.Random(5).choices(LETTERS, k=300_000)),
    "unknown characters": lambda: "🦊" * 200_000,
    "special tokens": lambda: "the [MASK]<mask> river</s>" * 10_000,
    "accents": lambda: "e\u0301" * 100_000,
    "a letter with accents without end": lambda: "a" + "\u0301\u0316" * 100_000 + _prose(9, 100_000),
    "Chinese without a space": lambda: "".join(random.Random(6).choices("日本語河川石星月夜。", k=200_000)),
    "emoji of several characters": lambda: (
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 the \U0001f1e9\U0001f1ea" * 30_000
    ),
    "spaces, and few words": lambda: (" " * 3_000 + "river") * 100,
}


SIDES: tuple[Literal["right", "left"], ...] = ("right", "left")


def _truth(tokenizer: Tokenizer, text: str, prompt: str, *sides: Any) -> list[Tokens]:
    """Cut what the tokenizer makes of the whole text."""
    ids = list(tokenizer._backend.encode(prompt + text).ids)
    if len(ids) <= LENGTH:
        return [Tokens(ids, 0) for _ in sides]
    return [tokenizer._truncate(UntruncatedIds(ids), LENGTH, side, prompt, 0) for side in sides]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_ids_are_those_of_the_whole_text(tokenizers: dict[str, Tokenizer], name: str, text: str) -> None:
    tokenizer, long_text = tokenizers[name], TEXTS[text]()
    for side, truth in zip(SIDES, _truth(tokenizer, long_text, "", *SIDES), strict=True):
        [tokens] = tokenizer.encode([long_text], truncate=side)
        assert tokens.ids == truth.ids
        assert (tokens.dropped > 0) == (truth.dropped > 0)
        if text in ("prose", "letters without a space", "unknown characters", "accents"):
            assert tokens.dropped == pytest.approx(truth.dropped, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_any_long_text(tokenizers: dict[str, Tokenizer], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts this short begin and end within words, accents and special tokens."""
    monkeypatch.setattr(long_texts, "_MIN_WHOLE", 700)
    monkeypatch.setattr(long_texts, "_WHOLE_PER_TOKEN", 1)
    tokenizer = tokenizers[name]
    unit = st.sampled_from([*tiny_models.WORDS[:20], *TRICKY]) | st.text(max_size=12)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(unit, max_size=40), st.sampled_from(["", " ", "\n"]), st.integers(1, 30))
    def check(units: list[str], space: str, times: int) -> None:
        text = space.join(units * times)
        right, left = _truth(tokenizer, text, "", "right", "left")
        assert tokenizer.encode([text], truncate="right")[0].ids == right.ids
        assert tokenizer.encode([text], truncate="left")[0].ids == left.ids

    check()


TRICKY = (
    "e\u0301",
    "\U0001f468\u200d\U0001f469",
    "日本語",
    "<mask>",
    "[MASK]",
    "</s>",
    "x" * 90,
    "x" * 150,
    "\u0301",
    "  ",
    "\0",
)


def test_a_prompt_before_a_long_text(tokenizers: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers.values():
        text = _prose(8, 150_000)
        right, left = _truth(tokenizer, text, "query: ", "right", "left")
        assert tokenizer.encode([text], prompt="query: ", truncate="right")[0].ids == right.ids
        assert tokenizer.encode([text], prompt="query: ", truncate="left")[0].ids == left.ids


def test_a_long_text_among_short_ones(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer, long = tokenizers["bert"], _prose(7, 300_000)
    texts = ["the river", long, "", "a dog", long, "the moon"]
    assert tokenizer.encode(texts) == [tokenizer.encode([text])[0] for text in texts]


def test_many_texts_are_not_tokenised_at_once(
    tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, sizes = tokenizers["bert"], []
    run = tokenizer._run

    def watched(texts: list[str], **options: Any) -> Any:
        sizes.append(sum(map(len, texts)))
        return run(texts, **options)

    monkeypatch.setattr(tokenizer, "_run", watched)
    found = tokenizer.encode(["river " * 10_000] * 100)
    assert len(found) == 100
    assert {tokens.dropped for tokens in found} == {10_002 - LENGTH}
    assert sum(sizes) == 6_000_000
    assert max(sizes) <= 2**20


def test_of_a_long_text_a_part_is_read(tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, sizes = tokenizers["bert"], []
    run = tokenizer._run

    def watched(texts: list[str], **options: Any) -> Any:
        sizes.append(sum(map(len, texts)))
        return run(texts, **options)

    monkeypatch.setattr(tokenizer, "_run", watched)
    [tokens] = tokenizer.encode(["river " * 5_000_000])
    assert tokens.dropped == pytest.approx(5_000_000, rel=0.01)
    assert sum(sizes) < 70_000
    # A text without tokens is read up to a megabyte, in parts that grow.
    assert tokenizer.encode([" " * 3_000_000 + "river"]) == [Tokens([*tokenizer.prefix, *tokenizer.suffix], 1)]
    assert sum(sizes) < 2_200_000


def test_too_long_is_known_before_all_of_it_is_read(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(InputTooLong, match="input 1 has more than 60 tokens, and the model reads at most 60"):
        tokenizers["bert"].encode(["river", "river " * 5_000_000], truncate="error")
    assert tokenizers["bert"].encode(["x" * 1_000_000], truncate="error")[0].dropped == 0  # one unknown word
    with pytest.raises(InputTooLong, match="input 0 has about 4 tokens"):  # more than a megabyte of it
        tokenizers["bert"].encode(["x" * 2_000_000], truncate="error")


def test_a_prompt_without_end(tokenizers: dict[str, Tokenizer]) -> None:
    assert tokenizers["bert"].prompt_length("river " * 100_000) == tokenizers["bert"].prompt_length("river " * 100)
    assert len(tokenizers["bert"].encode(["dog"], prompt="river " * 100_000, truncate="left")[0].ids) == LENGTH


def test_a_lone_surrogate_far_into_a_text(tokenizers: dict[str, Tokenizer]) -> None:
    with pytest.raises(InputError, match="input 1 is not Unicode: character 600000 is a lone surrogate"):
        tokenizers["bert"].encode(["a", "river " * 100_000 + "\ud800" + " river" * 100_000])


_MEASURE = """
import resource, sys
from pathlib import Path
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
tokenizer = Tokenizer.load(Path(sys.argv[1]), max_length=60)
text = "the river runs by a small red stone house, " * 700_000
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
found = tokenizer.encode([text])[0]
assert len(found.ids) == 60 and found.dropped > 5_000_000, found.dropped
print(peak() - before)
"""


@pytest.mark.process
def test_thirty_megabytes_take_little_memory(tmp_path: Path) -> None:
    folder = tiny_models.tiny_bert(tmp_path / "bert")
    command = [sys.executable, "-c", _MEASURE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 300
