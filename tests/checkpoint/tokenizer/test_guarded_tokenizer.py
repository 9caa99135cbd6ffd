"""What a tokenizer fails on, or takes too long for, is the error of one input."""

from __future__ import annotations

import json
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from nearfield import Encoder
from nearfield.checkpoint.tokenizer import tokenizer_process
from nearfield.checkpoint.tokenizer.guarded_tokenizer import GuardedTokenizer, UntokenizableError
from nearfield.checkpoint.tokenizer.regex_patterns import is_linear, slow_part
from nearfield.checkpoint.tokenizer.tokenizer_process import TokenizerProcess
from nearfield.errors import InputError, ModelUnavailable
from nearfield.testing import write_tiny_model

#: The library panics on the first text after 0.2 s, and takes minutes for the second.
PANIC, SLOW = "a" * 44 + "!", ("a" * 22 + "! ") * 2_000


def _backtracking() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace(Regex("(a+)+$"), "b")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


_ENGLISH = r"'s|'t|'re|'ve|'m|'ll|'d"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LLAMA = rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:{_ENGLISH})?|"
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:{_ENGLISH})?|"
    rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    + _SPACES
)
LINEAR = (
    r"\s+",
    " {2,}",
    r"\s{2,}|[\n\r\t]",
    r"\p{N}{1,3}",
    "[0-9][0-9][0-9]",
    "[一-龥぀-ゟ゠-ヿ]+",
    rf"{_ENGLISH}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
    LLAMA,
    O200K,
    DEEPSEEK,
    rf"<\|startoftext\|>|<\|endoftext\|>|{_ENGLISH}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+",
)
UNKNOWN = (
    *("(a+)+$", r"\s+$", " +▁", r"\s*[\r\n]+", r"\s+(?!\S)", "(a|a)*b", "a*a*b", r"(.)\1+"),
    *("a?" * 4 + "b", "[a", "a+?b", r"\w+\b"),
)


def test_patterns_of_known_tokenizers_are_linear() -> None:
    assert [pattern for pattern in LINEAR if not is_linear(pattern)] == []
    assert [pattern for pattern in UNKNOWN if is_linear(pattern)] == []


def test_a_word_of_any_length_is_slow() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=100))
    assert slow_part(tokenizer) is None
    tokenizer.model.max_input_chars_per_word = 10**9
    assert slow_part(tokenizer) == "max_input_chars_per_word 1000000000"


def test_linear_patterns_need_no_process() -> None:
    tokenizer = _backtracking()
    assert GuardedTokenizer(tokenizer).slow_part == "the pattern '(a+)+$'"
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(LLAMA), "isolated")
    assert GuardedTokenizer(tokenizer).slow_part is None


def test_a_panic_in_this_process_is_an_error_of_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.checkpoint.tokenizer.guarded_tokenizer.slow_part", lambda _: None)
    guarded = GuardedTokenizer(_backtracking())
    assert guarded._process is None
    with pytest.raises(UntokenizableError, match=r"input 2 cannot be tokenised: .*retry-limit-in-match over") as raised:
        guarded.encode_batch_fast(["a", "b", PANIC, "a"])
    assert raised.value.index == 2
    assert raised.value.status == 400
    with pytest.raises(UntokenizableError):
        guarded.encode(PANIC)
    assert [encoding.ids for encoding in guarded.encode_batch_fast(["b", "q"])] == [[2], [0]]


@pytest.mark.process
def test_a_process_for_patterns_that_may_backtrack(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    tokenizer = _backtracking()
    guarded = GuardedTokenizer(tokenizer)
    texts = ["a b a", "", "é ☃ b", "a" * 15]
    for add in (True, False):
        truth = tokenizer.encode_batch(texts, add_special_tokens=add)
        for encode in (guarded.encode_batch, guarded.encode_batch_fast):
            assert [item.ids for item in encode(texts, add_special_tokens=add)] == [item.ids for item in truth]
    encoding, expected = guarded.encode(texts[2]), tokenizer.encode(texts[2])
    for name in ("tokens", "offsets", "type_ids", "special_tokens_mask"):
        assert getattr(encoding, name) == getattr(expected, name)
    assert guarded.decode([1, 2]) == tokenizer.decode([1, 2])
    with pytest.raises(UntokenizableError, match=r"input 1 cannot be tokenised: .*retry-limit-in-match over"):
        guarded.encode_batch_fast(["b", PANIC])
    with pytest.raises(TypeError):
        guarded.encode_batch_fast(["\ud800"])
    monkeypatch.setattr(guarded._process, "_seconds", 0.5)
    started = time.monotonic()
    with pytest.raises(UntokenizableError, match=r"input 1 cannot be tokenised: it takes more than 0\.5 s"):
        guarded.encode_batch_fast(["b", SLOW, "a"])
    assert time.monotonic() - started < 30
    monkeypatch.setattr(guarded._process, "_seconds", 60)
    copy = pickle.loads(pickle.dumps(guarded))
    assert [item.ids for item in copy.encode_batch_fast(["b"])] == [[2]]
    assert capfd.readouterr().err == ""  # what the library prints of a panic is not in the log


@pytest.mark.process
def test_threads_do_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    process = TokenizerProcess(_backtracking(), seconds=0.2)
    locked, unlock = threading.Event(), threading.Event()

    def work() -> None:
        with process._lock:
            locked.set()
            unlock.wait()

    other = threading.Thread(target=work)
    other.start()
    locked.wait()
    with pytest.raises(ModelUnavailable, match="busy"):
        process.encode(["a"], add_special_tokens=False, whole=False)
    unlock.set()
    other.join()
    process = TokenizerProcess(_backtracking(), seconds=30)
    monkeypatch.setattr(tokenizer_process, "CHARACTERS_PER_REQUEST", 10)
    results: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(process.encode(["a b"] * 9, add_special_tokens=False, whole=False))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[item.ids for item in replies] for replies in results] == [[[1, 2]] * 9] * 3
    child = process._process.peek()
    process._kill()
    assert child is not None
    assert child.poll() is not None


@pytest.mark.process
async def test_a_model_whose_tokenizer_backtracks(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}
    path.write_text(json.dumps(tokenizer))
    with Encoder(str(folder), compile_cache=False, precision="float32") as encoder:
        assert "the tokenizer may take very long for some texts" in encoder.recipe.warnings[-1]
        assert (await encoder.aencode(["fine", "aaa"])).shape == (2, 32)
        with pytest.raises(InputError, match="input 1 cannot be tokenised"):
            await encoder.aencode(["fine", PANIC])
        assert (await encoder.aencode(["fine"])).shape == (1, 32)
