"""Tokenizer: the ids are the reference's own, whatever files a folder has; nothing is cut or refused in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.checkpoint import model_folder
from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer
from nearfield.errors import InputError, InputTooLong, ModelRefused
from tests.support import tiny_models

pytestmark = pytest.mark.slow

PROMPTS = ("", "query: ", "Represent this sentence for searching: ")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny model of a family into a new folder."""

    def write(family: str, **options: Any) -> Path:
        return tiny_models.TINY[family](tmp_path_factory.mktemp(family), **options)

    return write


@pytest.fixture(scope="module")
def bert(make: Callable[..., Path]) -> Tokenizer:
    return Tokenizer.load(make("bert"), max_length=20)


def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def load(folder: Path) -> Tokenizer:
    recipe = model_folder.read_model_folder(folder)
    return Tokenizer.load(recipe.folder, max_length=recipe.max_length, lowercase=recipe.do_lower_case)


def agree(folder: Path) -> Tokenizer:
    """Compare with sentence-transformers, text by text, with and without prompts, at the model's full length."""
    model, tokenizer = reference(folder), load(folder)
    assert tokenizer.max_length == model.max_seq_length
    for prompt in PROMPTS:
        truth = [model.preprocess([text], prompt=prompt)["input_ids"][0].tolist() for text in tiny_models.TEXTS]
        assert [tokens.ids for tokens in tokenizer.encode(tiny_models.TEXTS, prompt=prompt)] == truth
        assert [tokenizer.encode([text], prompt=prompt)[0].ids for text in tiny_models.TEXTS] == truth
        assert tokenizer.prompt_length(prompt) == model.preprocess(["a"], prompt=prompt).get("prompt_length", 0)
    assert tokenizer.vocab_size == len(model.tokenizer)
    assert tokenizer.pad_id == model.tokenizer.pad_token_id
    return tokenizer


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("family", tiny_models.TINY)
def test_each_family_as_the_reference(make: Callable[..., Path], family: str, old: bool) -> None:
    tokenizer = agree(make(family, old=old, max_seq_length=24))
    assert len(tokenizer.prefix) == len(tokenizer.suffix) == 1


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "mpnet"])
def test_lower_casing_as_the_reference(make: Callable[..., Path], family: str) -> None:
    plain = agree(make(family, old=True))
    lower = agree(make(family, old=True, do_lower_case=True))
    if family in ("roberta", "xlm-roberta", "camembert"):
        assert plain.encode(["STARS"]) != lower.encode(["STARS"]) == plain.encode(["stars"])
    assert plain.digest != lower.digest


def test_lower_casing_saved_in_tokenizer_json(make: Callable[..., Path]) -> None:
    """The file's word counts: sentence-transformers saves its lower-casing there, though it forgets it on loading."""
    plain, lower = load(make("roberta")), load(make("roberta", do_lower_case=True))
    assert lower.encode(["STARS"]) == plain.encode(["stars"])


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {"do_lower_case": False}),
        ("bert", {"strip_accents": False}),
        ("bert", {"strip_accents": True, "do_lower_case": False}),
        ("bert", {"tokenize_chinese_chars": False}),
        ("bert", {"do_lower_case": False, "tokenizer_class": "BertTokenizerFast"}),
        ("bert", {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"}),
        ("bert", {"do_lower_case": False, "tokenizer_class": None}),
        ("distilbert", {"do_lower_case": False}),
        ("mpnet", {"do_lower_case": False}),
        ("roberta", {"add_prefix_space": True}),
        ("roberta", {"add_prefix_space": True, "tokenizer_class": "PreTrainedTokenizerFast"}),
        ("roberta", {"split_special_tokens": True}),
    ],
)
def test_settings_beside_tokenizer_json(make: Callable[..., Path], family: str, settings: dict[str, Any]) -> None:
    folder = make(family)
    before = load(folder)
    tiny_models.edit(folder / "tokenizer_config.json", **settings)
    after = agree(folder)
    assert after.digest != before.digest


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "tokenizer.json"
    content = tiny_models.read(path)
    change(content)
    tiny_models.dump(path, content)


def test_older_unigram_file_without_white_space_split(make: Callable[..., Path]) -> None:
    folder = make("xlm-roberta")
    rewrite(folder, lambda content: content.update(pre_tokenizer=content["pre_tokenizer"]["pretokenizers"][1]))
    agree(folder)


def test_baked_padding_and_truncation_are_not_obeyed(make: Callable[..., Path]) -> None:
    folder = make("bert", max_seq_length=50)
    plain = load(folder).encode(tiny_models.TEXTS)
    padding = {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None}
    rewrite(
        folder,
        lambda content: content.update(
            truncation={"direction": "Right", "max_length": 12, "strategy": "LongestFirst", "stride": 0},
            padding={**padding, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        ),
    )
    assert load(folder).encode(tiny_models.TEXTS) == plain


def as_vocab_txt(folder: Path) -> None:
    vocab = tiny_models.read(folder / "tokenizer.json")["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocab, key=vocab.get)), encoding="utf-8")
    (folder / "tokenizer.json").unlink()


def as_merges(folder: Path) -> None:
    model = tiny_models.read(folder / "tokenizer.json")["model"]
    tiny_models.dump(folder / "vocab.json", model["vocab"])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("family", "older", "settings"),
    [
        ("bert", as_vocab_txt, {}),
        ("bert", as_vocab_txt, {"do_lower_case": False, "tokenizer_class": None}),
        ("electra", as_vocab_txt, {}),
        ("distilbert", as_vocab_txt, {"strip_accents": False}),
        ("mpnet", as_vocab_txt, {}),
        ("roberta", as_merges, {}),
        ("roberta", as_merges, {"add_prefix_space": True}),
    ],
)
def test_older_vocabulary_files(
    make: Callable[..., Path], family: str, older: Callable[[Path], None], settings: dict[str, Any]
) -> None:
    folder = make(family)
    older(folder)
    tiny_models.edit(folder / "tokenizer_config.json", **settings)
    agree(folder)


def test_special_tokens_map_and_added_tokens(make: Callable[..., Path]) -> None:
    folder = make("bert")
    as_vocab_txt(folder)
    size = len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    tiny_models.dump(folder / "added_tokens.json", {"<new>": size, "Bank": size + 1})
    special = {"sep_token": {"content": "[SEP]", "lstrip": False}, "mask_token": "<new>"}
    tiny_models.dump(folder / "special_tokens_map.json", special)
    tokenizer = load(folder)
    truth = reference(folder).tokenizer(["a <new> Bank river [MASK]"])["input_ids"]
    assert [tokenizer.encode(["a <new> Bank river [MASK]"])[0].ids] == truth
    tiny_models.dump(folder / "added_tokens.json", {"<new>": size + 7})
    with pytest.raises(ModelRefused, match=r"added token '<new>' .* should have id"):
        load(folder)


def test_folders_without_a_tokenizer_are_refused(make: Callable[..., Path]) -> None:
    folder = make("xlm-roberta")
    (folder / "tokenizer.json").rename(folder / "saved")
    with pytest.raises(ModelRefused, match=r"no tokenizer: .*save_pretrained"):
        load(folder)
    (folder / "sentencepiece.bpe.model").write_bytes(b"...")
    with pytest.raises(ModelRefused, match=r"It has sentencepiece\.bpe\.model: not enough for"):
        load(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": ')
    with pytest.raises(ModelRefused, match="cannot be read"):
        load(folder)
    saved = json.loads((folder / "saved").read_text(encoding="utf-8"))
    tiny_models.dump(folder / "tokenizer.json", {**saved, "model": {**saved["model"], "unk_id": None}})
    with pytest.raises(ModelRefused, match="fails on a plain text"):
        load(folder)


def test_a_vocabulary_without_its_special_tokens_is_refused(make: Callable[..., Path]) -> None:
    folder = make("bert")
    as_vocab_txt(folder)
    tiny_models.edit(folder / "tokenizer_config.json", sep_token="[NONE]")
    with pytest.raises(ModelRefused, match=r"lacks its own special tokens \[NONE\]"):
        load(folder)


def test_right_truncation_reports_what_was_dropped(bert: Tokenizer) -> None:
    whole = bert.encode(["river " * 30], max_length=20)[0]
    assert len(whole.ids) == 20 and whole.dropped == 12 and whole.ids[-1:] == bert.suffix
    assert bert.encode(["river " * 18])[0].dropped == 0
    assert len(bert.encode(["river " * 30], max_length=3)[0].ids) == 3


def test_left_truncation_keeps_the_prompt_and_the_end(bert: Tokenizer) -> None:
    text = " ".join(tiny_models.WORDS[:40])
    last = bert.encode([" ".join(tiny_models.WORDS[30:40])])[0].ids
    cut = bert.encode([text], truncate="left", max_length=10)[0]
    assert cut.ids == bert.prefix + last[3:] and len(cut.ids) == 10 and cut.dropped == 32
    prompt = bert.encode(["query : "])[0].ids[:-1]
    kept = bert.encode([text], prompt="query: ", truncate="left", max_length=10)[0]
    assert kept.ids == prompt + last[-7:] and len(kept.ids) == 10
    swamped = bert.encode([text], prompt="query " * 30, truncate="left", max_length=10)[0]
    assert len(swamped.ids) == 10 and swamped.ids[-1:] == bert.suffix


def test_left_is_what_the_reference_does_when_the_model_says_left(make: Callable[..., Path]) -> None:
    folder = make("roberta", max_seq_length=12)
    tiny_models.edit(folder / "tokenizer_config.json", truncation_side="left")
    tokenizer, model = load(folder), reference(folder)
    text = " ".join(tiny_models.WORDS[:40])
    truth = model.preprocess([text])["input_ids"][0].tolist()
    assert tokenizer.encode([text])[0].ids == truth == tokenizer.encode([text], truncate="left")[0].ids
    assert tokenizer.encode([text], truncate="right")[0].ids != truth
    assert tokenizer.digest == load(make("roberta")).digest, "what is cut is not how a text becomes tokens"


def test_truncation_may_be_an_error(bert: Tokenizer) -> None:
    with pytest.raises(InputTooLong, match="input 1 has 32 tokens, and the model reads at most 20") as caught:
        bert.encode(["river", "river " * 30], truncate="error")
    assert caught.value.status == 400
    assert bert.encode(["river " * 18], truncate="error")[0].dropped == 0


@pytest.mark.parametrize("bad", [0, -1, 2, 21])
def test_max_length_out_of_range(bert: Tokenizer, bad: int) -> None:
    with pytest.raises(InputError, match="choose 3 to 20"):
        bert.encode(["river"], max_length=bad)


def test_unknown_truncation(bert: Tokenizer) -> None:
    with pytest.raises(InputError, match="choose one of right, left, error"):
        bert.encode(["river"], truncate="middle")  # type: ignore[arg-type]


def test_no_room_for_a_text(make: Callable[..., Path]) -> None:
    with pytest.raises(ModelRefused, match="no room"):
        Tokenizer.load(make("bert"), max_length=2)


def test_ids_from_the_caller(bert: Tokenizer) -> None:
    whole = bert.encode(["the river"])[0].ids
    assert bert.from_ids(whole).ids == whole
    assert bert.from_ids(whole[1:-1]).ids == whole
    assert bert.from_ids(np.array(whole)).ids == whole
    assert bert.from_ids([]).ids == bert.prefix + bert.suffix == bert.encode([""])[0].ids
    assert bert.from_ids(whole[:-1]).ids == whole[:-1], "as they are: the caller has begun with the special token"
    long = bert.from_ids([7] * 40)
    assert long.ids == bert.prefix + [7] * 18 + bert.suffix and long.dropped == 22
    last = bert.from_ids(list(range(5, 45)), truncate="left", max_length=5)
    assert last.ids == [*bert.prefix, 42, 43, 44, *bert.suffix]
    with pytest.raises(InputTooLong, match="the input has 42 tokens"):
        bert.from_ids([7] * 40, truncate="error")


@pytest.mark.parametrize("bad", [[-1], [10**6], [1, 2.0], [True], ["1"], [None], [[1]]])
def test_ids_that_are_none(bert: Tokenizer, bad: Any) -> None:
    with pytest.raises(InputError, match="token id") as caught:
        bert.from_ids(bad)
    assert caught.value.param == "input"


@pytest.mark.parametrize("bad", [3, None, b"bytes", ("a", "b"), ["a"]])
def test_inputs_that_are_no_text(bert: Tokenizer, bad: Any) -> None:
    for prompt in PROMPTS:
        with pytest.raises(InputError, match="input 1 must be a text"):
            bert.encode(["a", bad], prompt=prompt)


def test_one_text_is_no_sequence(bert: Tokenizer) -> None:
    with pytest.raises(InputError, match="sequence of texts"):
        bert.encode("river")


def test_lone_surrogate(bert: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"input 2 is not Unicode: character 1 is a lone surrogate, '\\ud800'"):
        bert.encode(["a", "b", "c\ud800"])
    assert bert.encode(["the next one"])[0].ids


def test_a_megabyte(bert: Tokenizer) -> None:
    for text in ("river " * 170_000, "x" * 2**20, "\0" * 2**20, " " * 2**20):
        tokens = bert.encode([text])[0]
        assert len(tokens.ids) <= 20
    assert bert.encode(["river " * 170_000])[0].dropped == pytest.approx(170_002 - 20, rel=0.001)


def test_nothing(bert: Tokenizer) -> None:
    assert bert.encode([]) == []


def test_many_threads(bert: Tokenizer) -> None:
    texts = [f"{text} {number}" for number in range(40) for text in tiny_models.TEXTS]
    truth = bert.encode(texts)
    with ThreadPoolExecutor(8) as pool:
        for many in pool.map(lambda _: bert.encode(texts), range(16)):
            assert many == truth
        assert [one[0] for one in pool.map(lambda text: bert.encode([text]), texts)] == truth


def test_digest(make: Callable[..., Path]) -> None:
    one, two = load(make("bert")), load(make("bert", seed=5))
    assert len(one.digest) == 64 and one.digest == two.digest, "the same files define the same tokenizer"
    assert load(make("mpnet")).digest != one.digest


def test_ids_with_gaps(make: Callable[..., Path]) -> None:
    folder = make("bert")
    rewrite(folder, lambda content: content["model"]["vocab"].update({"far": 5000}))
    assert load(folder).vocab_size == 5001
