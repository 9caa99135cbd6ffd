"""Chunkers: nothing is lost, nothing is longer than the model reads, and cuts are where a text allows them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.chunking import Pieces, score
from nearfield.corpus.chunkers import (
    BY_FORM,
    DEFAULT,
    REGISTRY,
    Chunker,
    boundaries,
    open_chunker,
    optimal_split,
    sections,
)
from nearfield.corpus.chunkers.code import GRAMMARS
from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.chunkers.token_counter import TokenCounter
from nearfield.corpus.document import Block, Document, Form, Span
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.testing import tiny_encoder
from tests.support.paths import SHARED_FOLDER

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = REGISTRY.names()
SHARED = SHARED_FOLDER / "data"


def embed(texts: Sequence[str]) -> Array:
    """Return unit vectors that separate cats, dogs and all else."""
    rows = np.array([[text.count("cat"), text.count("dog"), 0.1] for text in texts], np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def ruler(tiny: Encoder) -> TokenCounter:
    """Counts a token for each letter but for those of a dozen words."""
    return TokenCounter(tiny.tokenizer)


@pytest.fixture(scope="module")
def byte_ruler(tmp_path_factory: pytest.TempPathFactory) -> TokenCounter:
    """A byte-level tokenizer, whose tokens hold the space before them, and letters may be several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from nearfield.checkpoint.tokenizer.tokenizer import Tokenizer as Ours

    folder = tmp_path_factory.mktemp("bytes")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["the cat sat on the mat " * 9, "search the world for a blue dog"],
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    return TokenCounter(Ours.load(folder, max_length=64))


def make(name: str, ruler: TokenCounter, size: int = 24, overlap: int = 0) -> Chunker:
    tokenizer: Chunker = REGISTRY.load(name)(ruler, size, overlap, embed=embed)
    return tokenizer


def check(document: Document, spans: Sequence[Span], ruler: TokenCounter, size: int) -> None:
    """All that is promised of spans."""
    text = document.text
    covered = np.zeros(len(text), bool)
    for span in spans:
        piece = text[span.start : span.end]
        assert piece
        assert piece == piece.strip()
        assert 0 < ruler.count(piece) == span.tokens <= size
        covered[span.start : span.end] = True
    assert [span.start for span in spans] == sorted({span.start for span in spans})
    assert [span.end for span in spans] == sorted({span.end for span in spans})
    lost = "".join(text[at] for at in np.flatnonzero(~covered))
    assert not lost.strip() or (not spans and not ruler.count(text))


PROSE = """The cat sat on the mat. It was a blue cat, and it sat. Hello world!

A dog came: the red dog. "Where is the cat?" it asked. "On the mat." The dog sat on the cat.

Dr. Cat had 3.5 mats, e.g. a blue one. The end of it."""
MIXED = "猫は青い。犬は赤い、と言った。次の文です！ 😀😀 مرحبا بك. كيف حالك؟ Ünï cödé. हिन्दी में। ภาษาไทยไม่มีช่องว่าง " * 3
MARKDOWN = """# Cats

The cat sat on the mat.

## Blue cats

A blue cat is a cat. It sat on the blue mat.

- one cat
- two cats

```python
def cat():
    return "mat"
```

## Red cats

| cat | mat |
| --- | --- |
| a   | b   |

### On mats

The red cat sat on it.
"""
CODE = '''"""Cats."""
import mat


# What a cat says.
@loud
def say(word):
    """Say a word."""
    if word:
        print(word)
    return word


class Cat:
    """A cat."""

    legs = 4

    def sit(self, mat):
        """Sit on a mat."""
        self.mat = mat
        return self

    # It may stand.
    def stand(self):
        self.mat = None
        return self
'''
LONG_WORD = f"a cat {'x' * 150} sat on {'y' * 90}. {'z' * 60}"
TEXTS = {
    "prose": PROSE,
    "mixed": MIXED,
    "code": CODE,
    "long words": LONG_WORD,
    "no ends": "cat dog " * 200,
    "lines": "a | b | 12\n" * 40,
    "windows": PROSE.replace("\n", "\r\n"),
    "white": " \n\t \u3000\n",
    "empty": "",
    "short": "cat",
    "spaces": "cat" + " " * 5000 + "dog",
    "unseen": "\u200b\u200b cat \u200b",
    "nothing but unseen": "\u200b \u200b",
    "quotes": '"' + "He said so. She did not. " * 30 + '"',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("size", "overlap"), [(8, 0), (24, 0), (24, 9), (40, 20)])
def test_nothing_is_lost_and_nothing_too_long(
    name: str, text: str, size: int, overlap: int, ruler: TokenCounter
) -> None:
    form: Form = "code" if name == "code" else "prose"
    document = Document(text, form=form, language="python" if text == CODE else "")
    spans = make(name, ruler, size, overlap).split(document)
    check(document, spans, ruler, size)
    assert spans == make(name, ruler, size, overlap).split(document)
    assert bool(spans) == bool(ruler.count(text))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_tokens_with_spaces_in_them_are_counted_too(name: str, text: str, byte_ruler: TokenCounter) -> None:
    document = Document(text)
    spans = make(name, byte_ruler, 12, 4).split(document)
    check(document, spans, byte_ruler, 12)


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.sampled_from("ab .,\n猫。!\u0301é{}()\"'\t|#-1"), max_size=300),
    st.sampled_from(NAMES),
    st.integers(8, 30),
    st.data(),
)
def test_any_text(ruler: TokenCounter, text: str, name: str, size: int, data: st.DataObject) -> None:
    document = Document(text, language=data.draw(st.sampled_from(["", "python", "c", "bash"])))
    overlap = data.draw(st.integers(0, size // 2))
    check(document, make(name, ruler, size, overlap).split(document), ruler, size)


@pytest.mark.parametrize("name", NAMES)
def test_words_stay_whole(name: str, ruler: TokenCounter) -> None:
    text = PROSE.replace("blue", "elephantine") * 2
    for span in make(name, ruler, 16, 5).split(Document(text)):
        for at in (span.start, span.end):
            assert not (text[at - 1 : at].isalnum() and text[at : at + 1].isalnum()), text[at - 9 : at + 9]


def test_a_word_is_cut_only_where_it_is_longer_than_a_chunk(ruler: TokenCounter) -> None:
    text = f"cat {'q' * 20} dog {'w' * 50} mat"
    pieces = [text[span.start : span.end] for span in make("sentence", ruler, 24).split(Document(text))]
    assert sum("q" * 20 in piece for piece in pieces) == 1
    assert sum("w" in piece for piece in pieces) == 3


def test_an_accent_stays_with_its_letter(ruler: TokenCounter) -> None:
    text = "e\u0301" * 60
    for span in make("sentence", ruler, 8).split(Document(text)):
        assert text[span.start] == "e"


# -- sentences ---------------------------------------------------------------------------------------------------


def cut(name: str, ruler: TokenCounter, document: Document, size: int, overlap: int = 0) -> list[str]:
    return [document.text[span.start : span.end] for span in make(name, ruler, size, overlap).split(document)]


def test_places_are_characters_whatever_the_script() -> None:
    text = "😀 Cats. 猫です。犬です。 مرحبا بك. كيف حالك؟ Über älle. End."
    starts = [0, *boundaries.sentences(text, 0, len(text))]
    results = [text[low:high].strip() for low, high in zip(starts, [*starts[1:], len(text)], strict=True)]
    assert results == ["😀 Cats.", "猫です。", "犬です。", "مرحبا بك.", "كيف حالك؟", "Über älle.", "End."]


def test_abbreviations_end_no_sentence_in_their_language() -> None:
    assert boundaries.sentences("Dr. Cat sat. It sat.", 0, 20) == [13]
    german = "Am 3. Mai kam er. Ende."
    assert boundaries.sentences(german, 0, len(german), "de") == [german.index("Ende")]


def test_chunks_end_with_sentences_and_rather_with_paragraphs(ruler: TokenCounter) -> None:
    text = "The cat sat on the mat. A dog sat.\n\nHello world. Hello cat. The mat.\n\nSearch the world. Search."
    assert cut("sentence", ruler, Document(text), 13) == text.split("\n\n")


def test_a_small_rest_does_not_stand_alone(ruler: TokenCounter) -> None:
    text = " ".join(["The cat sat on the mat."] * 7)
    sizes = [span.tokens for span in make("sentence", ruler, 42).split(Document(text))]
    assert sizes == [28, 21] or sizes == [21, 28]


def test_overlap_is_of_whole_sentences(ruler: TokenCounter) -> None:
    text = " ".join(f"The {word} sat on the mat." for word in ("cat", "dog", "world", "blue", "red", "search"))
    pieces = cut("sentence", ruler, Document(text), 21, 8)
    assert len(pieces) > 2
    for before, after in itertools.pairwise(pieces):
        assert after.startswith(before.rsplit(". ", 1)[1])
    assert all(piece.startswith("The ") for piece in pieces)
    assert cut("sentence", ruler, Document(text), 21, 6) == cut("sentence", ruler, Document(text), 21, 0)


def test_a_heading_stays_with_its_text_and_names_what_follows(ruler: TokenCounter) -> None:
    below = "The dog sat on the mat. The dog sat. The red dog sat. A dog sat."
    text = f"Cats\n\nThe cat sat on the mat. A cat sat.\n\nDogs\n\n{below}"
    starts = [text.index(part) for part in ("Cats", "The cat", "Dogs", "The dog")]
    kinds: Any = ["heading", "paragraph", "heading", "paragraph"]
    blocks = tuple(
        Block(at, end, kind, 1 if kind == "heading" else 0, page)
        for at, end, kind, page in zip(starts, [4, 41, 46, len(text)], kinds, [1, 1, 2, 2], strict=True)
    )
    spans = make("sentence", ruler, 16, 8).split(Document(text, blocks))
    firsts = [text[span.start : span.start + 4] for span in spans]
    assert firsts[0] == "Cats"
    assert firsts.count("Dogs") == 1
    second = firsts.index("Dogs")
    assert all("Dogs" not in text[span.start + 4 : span.end] for span in spans[:second])
    assert {span.headings for span in spans[:second]} == {("Cats",)}
    assert [span.headings for span in spans[second:]] == [("Dogs",)] * (len(spans) - second)
    assert len(spans) - second > 1
    assert [span.page for span in spans] == [1] * second + [2] * (len(spans) - second)


def test_paths_of_headings_go_down_and_up() -> None:
    text = "# A #\n## B\n### C\nD\n=\n"
    places = [(0, 5, 1), (6, 10, 2), (11, 16, 3), (17, 20, 1)]
    document = Document(text, tuple(Block(start, end, "heading", level) for start, end, level in places))
    assert document.headings() == [(0, ("A",)), (6, ("A", "B")), (11, ("A", "B", "C")), (17, ("D",))]


def test_a_text_that_is_not_ascii_takes_no_square_of_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    find = boundaries._sentence_library()

    def watched(language: str, text: str) -> Any:
        nonlocal longest
        longest = max(longest, len(text))
        return find(language, text)

    monkeypatch.setattr(boundaries, "_sentence_library", lambda: watched)
    text = "Ünï cödé sat. " * 5000
    assert len(boundaries.sentences(text, 0, len(text))) == pytest.approx(4999, abs=20)
    assert longest <= 4096


# -- filling -----------------------------------------------------------------------------------------------------


def brute(weights: list[float], costs: list[float], size: int) -> float:
    """Return the least cost of all ways to cut."""
    count = len(weights) - 1
    best = float("inf")
    for chosen in range(2 ** (count - 1)):
        ends = [at for at in range(1, count) if chosen >> (at - 1) & 1] + [count]
        starts = [0, *ends[:-1]]
        if any(costs[at] == boundaries.ALWAYS and at not in ends for at in range(1, count)):
            continue
        fills = [(weights[end] - weights[start]) / size for start, end in zip(starts, ends, strict=True)]
        if max(fills) <= 1:
            best = min(best, sum((1 - fill) ** 2 for fill in fills) + sum(max(0.0, costs[at]) for at in starts[1:]))
    return best


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 10), st.sampled_from([0.0, 0.1, 0.35, 1.0, boundaries.ALWAYS])), min_size=1, max_size=9
    )
)
def test_no_other_way_to_cut_is_cheaper(units: list[tuple[int, float]]) -> None:
    weights = [0.0, *np.cumsum([float(weight) for weight, _ in units]).tolist()]
    costs = [0.0, *(cost for _, cost in units[1:])]
    results = optimal_split.split_optimally(weights, costs, 10, 0)
    assert [0, *(end for _, end in results)] == [*(start for start, _ in results), len(units)]
    cost = sum((1 - (weights[end] - weights[start]) / 10) ** 2 for start, end in results)
    assert cost + sum(max(0.0, costs[start]) for start, _ in results[1:]) == pytest.approx(brute(weights, costs, 10))


# -- markdown ----------------------------------------------------------------------------------------------------


def marked(text: str) -> Document:
    """Return a document with a block for each heading, fence, table and paragraph, as the extractor would."""
    blocks, at = [], 0
    for piece in text.split("\n\n"):
        start, at = at, at + len(piece) + 2
        kind: Any = "paragraph"
        level = len(piece) - len(piece.lstrip("#"))
        for mark, name in (("#", "heading"), ("```", "code"), ("|", "table"), ("- ", "list")):
            kind = name if piece.startswith(mark) else kind
        blocks.append(Block(start, start + len(piece.rstrip()), kind, level))
    return Document(text, tuple(blocks), form="markdown")


def test_sections_that_fit_stay_whole(ruler: TokenCounter) -> None:
    document = marked(MARKDOWN)
    check(document, make("markdown", ruler, 60).split(document), ruler, 60)
    pieces = cut("markdown", ruler, document, 60)
    assert any(piece.startswith("## Red cats") and piece.endswith("sat on it.") for piece in pieces)
    assert all(piece.count("```") in (0, 2) for piece in pieces)
    assert all(("| cat" in piece) == ("| a " in piece) for piece in pieces)


def test_a_table_that_does_not_fit_is_cut_between_lines(ruler: TokenCounter) -> None:
    row = "| a cat | a dog |"
    document = marked("# Cats\n\n" + "\n".join([row] * 12))
    pieces = cut("markdown", ruler, document, 40)
    assert len(pieces) > 2
    assert all(line in (row, "# Cats", "") for piece in pieces for line in piece.split("\n"))


def test_small_sections_are_joined_with_those_beside_them_and_with_no_others(ruler: TokenCounter) -> None:
    small = [f"## {word}\n\nThe {word} sat." for word in ("cat", "dog", "mat", "red")]
    large = "# Blue\n\n" + "\n\n".join(["The cat sat on the blue mat. A dog sat on it."] * 4)
    document = marked("\n\n".join(["# World", *small, large]))
    spans = make("markdown", ruler, 26).split(document)
    pieces = [document.text[span.start : span.end] for span in spans]
    assert not any("## red" in piece and "# Blue" in piece for piece in pieces)
    assert len([piece for piece in pieces if "##" in piece]) == 2
    last = spans[-1]
    assert last.headings == ("Blue",)


def test_an_intro_before_a_large_section_does_not_stand_alone(ruler: TokenCounter) -> None:
    large = "## Blue\n\n" + "\n\n".join(["The cat sat on the blue mat. A dog sat on it."] * 4)
    pieces = cut("markdown", ruler, marked(f"# World\n\n{large}"), 36)
    assert pieces[0].startswith("# World\n\n## Blue\n\nThe cat")


# -- code --------------------------------------------------------------------------------------------------------


def test_code_is_cut_between_definitions(ruler: TokenCounter) -> None:
    document = Document(CODE, form="code", language="python")
    spans = make("code", ruler, 60).split(document)
    check(document, spans, ruler, 60)
    pieces = [CODE[span.start : span.end] for span in spans]
    assert any(piece.startswith("# What a cat says.\n@loud\ndef say") for piece in pieces)
    assert any(piece.startswith("# It may stand.\n    def stand") for piece in pieces)
    named = {CODE[span.start : span.end].split("(")[0].split()[-1]: span.headings for span in spans}
    assert named["stand"] == ("Cat",)


def test_names_go_inwards(ruler: TokenCounter) -> None:
    body = "\n".join(f"        self.cat{number} = mat" for number in range(12))
    text = f"class Cat:\n    def sit(self):\n{body}\n\n    def stand(self):\n        return self\n\nworld = 1\n"
    spans = make("code", ruler, 60).split(Document(text, form="code", language="python"))
    inner = [span.headings for span in spans if text[span.start : span.end].startswith("self.")]
    assert inner
    assert set(inner) == {("Cat", "sit")}
    assert [span.headings for span in spans if text[span.start :].startswith("def stand")] == [("Cat",)]
    after = [span for span in spans if "world" in text[span.start : span.end]]
    assert after[0].headings in ((), ("Cat",))


SNIPPETS = {
    "python": ("def {name}(a):\n    cat = a\n    return cat\n", "class Cat:\n{}"),
    "javascript": ("  {name}(a) {{\n    const cat = a;\n    return cat;\n  }}\n", "class Cat {{\n{}}}\n"),
    "typescript": (
        "  {name}(a: number) {{\n    const cat = a;\n    return cat;\n  }}\n",
        "export class Cat {{\n{}}}\n",
    ),
    "tsx": ("  {name}(a: number) {{\n    const cat = a;\n    return cat;\n  }}\n", "class Cat {{\n{}}}\n"),
    "rust": ("    fn {name}(a: u8) -> u8 {{\n        let cat = a;\n        cat\n    }}\n", "impl Cat {{\n{}}}\n"),
    "go": ("func {name}(a int) int {{\n\tcat := a\n\treturn cat\n}}\n", "{}"),
    "java": ("    int {name}(int a) {{\n        int cat = a;\n        return cat;\n    }}\n", "class Cat {{\n{}}}\n"),
    "c": ("int {name}(int a) {{\n    int cat = a;\n    return cat;\n}}\n", "{}"),
    "c++": (
        "    int {name}(int a) {{\n        int cat = a;\n        return cat;\n    }}\n",
        "namespace Cat {{\n{}}}\n",
    ),
    "c#": ("    int {name}(int a) {{\n        int cat = a;\n        return cat;\n    }}\n", "class Cat {{\n{}}}\n"),
    "ruby": ("  def {name}(a)\n    cat = a\n    cat\n  end\n", "class Cat\n{}end\n"),
    "bash": ("{name}() {{\n  cat=$1\n  echo $cat\n}}\n", "{}"),
}


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_each_grammar_keeps_functions_whole(language: str, ruler: TokenCounter) -> None:
    same = {"jsx": "javascript", "cpp": "c++", "csharp": "c#", "sh": "bash", "shell": "bash"}
    function, around = SNIPPETS[same.get(language, language)]
    functions = [function.format(name=name) for name in ("sat", "dog", "mat", "red", "blue", "world")]
    if language == "python":
        functions = ["    " + function.replace("\n", "\n    ").rstrip(" ") for function in functions]
    inside = "\n".join(functions)
    text = around.replace("{{", "{").replace("}}", "}").replace("{}", inside)
    document = Document(text, form="code", language=language)
    spans = make("code", ruler, 44).split(document)
    check(document, spans, ruler, 44)
    assert len(spans) > 2
    for function in functions:
        whole = [span for span in spans if function.strip() in text[span.start : span.end]]
        assert len(whole) == 1, function
    if "Cat" in around:
        assert spans[-1].headings == ("Cat",)


def test_other_languages_are_cut_by_blank_lines_and_indentation(ruler: TokenCounter) -> None:
    block = "sub cat\n  the mat\n  a blue dog\n"
    text = "\n".join([block] * 5)
    assert set(cut("code", ruler, Document(text, form="code", language="perl"), 12)) == {block.strip()}


def test_broken_and_deep_code_is_cut_all_the_same(ruler: TokenCounter) -> None:
    for text in (
        "def (((:\n  x" * 50,
        "(" * 3000 + "\n" + ")" * 3000,
        "if a:\n" + "".join(" " * n + "if a:\n" for n in range(1, 300)),
    ):
        document = Document(text, form="code", language="python")
        check(document, make("code", ruler, 24).split(document), ruler, 24)


# -- the rest ----------------------------------------------------------------------------------------------------


def test_subjects_are_separated(ruler: TokenCounter) -> None:
    text = "The cat sat. A cat sat on it. The blue cat. The dog sat on it. The red dog sat. A dog."
    assert cut("semantic", ruler, Document(text), 24) == [
        text[: text.index("The dog")].strip(),
        text[text.index("The dog") :],
    ]


def test_semantic_needs_a_model(ruler: TokenCounter) -> None:
    with pytest.raises(InputError, match="model"):
        REGISTRY.load("semantic")(ruler, 24, 0).split(Document(PROSE))


def test_fixed_chunks_are_full(ruler: TokenCounter) -> None:
    spans = make("fixed", ruler, 20, 6).split(Document("cat dog mat " * 50))
    assert {span.tokens for span in spans[:-2]} == {20}
    for before, after in itertools.pairwise(spans):
        assert before.end - after.start == len("cat dog mat cat dog mat") or after is spans[-1]


def test_runs_join_to_the_text_and_fit(ruler: TokenCounter) -> None:
    document = Document(PROSE * 3)
    chunker = make("late", ruler, 20, 9)
    assert (chunker.late, chunker.overlap) == (True, 0)
    spans = chunker.split(document)
    results = group_runs(document.text, spans, ruler)
    assert [run.first for run in results] == [0, *(run.stop for run in results[:-1])]
    assert results[-1].stop == len(spans)
    for run in results:
        joined = "".join(run.texts)
        assert joined == document.text[spans[run.first].start : spans[run.stop - 1].end]
        assert ruler.count(joined) <= ruler.length
    assert len(results) < len(spans)
    assert max(len(run.texts) for run in results) - min(len(run.texts) for run in results) <= 1


@pytest.mark.parametrize(
    "text", [text for text in TEXTS.values() if text.strip()], ids=[k for k, v in TEXTS.items() if v.strip()]
)
def test_each_chunk_of_a_run_gets_a_vector(text: str, tiny: Encoder, ruler: TokenCounter) -> None:
    spans = make("late", ruler, 20).split(Document(text))
    results = tiny.encode_late([run.texts for run in group_runs(text, spans, ruler)]) if spans else []
    vectors = [row for vectors in results for row in np.asarray(vectors)]
    assert len(vectors) == len(spans)
    assert np.allclose(np.linalg.norm(vectors, axis=1) if vectors else 1, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "overlap", "named"), [(7, 0, "7 tokens"), (63, 0, "63 tokens"), (20, 11, "11 tokens"), (20, -1, "-1")]
)
def test_sizes_that_do_not_fit_are_refused(size: int, overlap: int, named: str, ruler: TokenCounter) -> None:
    with pytest.raises(InputError, match=named):
        make("sentence", ruler, size, overlap)


def test_a_chunker_is_chosen_by_form_and_by_what_the_model_reads(ruler: TokenCounter) -> None:
    assert isinstance(open_chunker("auto", "prose", ruler), REGISTRY.load(DEFAULT))
    for form, name in BY_FORM.items():
        assert isinstance(open_chunker("auto", form, ruler), REGISTRY.load(name))
    assert open_chunker("fixed", "code", ruler).size == ruler.length
    assert open_chunker("fixed", "code", ruler, 30, 3).overlap == 3
    with pytest.raises(InputError, match="Did you mean 'sentence'"):
        open_chunker("sentense", "prose", ruler)


def test_parts_hold_all_of_a_document() -> None:
    document = marked(MARKDOWN)
    results = sections.flat_sections(document)
    assert "".join(document.text[part.start : part.end] for part in results) == document.text
    for part in sections.section_tree(document):
        assert not part.parts or (part.parts[0].start, part.parts[-1].end) == (part.start, part.end)


@pytest.mark.slow
def test_real_text_is_cut_whole() -> None:
    path = SHARED / "longdocs" / "rust-book" / "ch03-02-data-types.md"
    if not path.exists():
        pytest.skip("the long documents are not there")
    with tiny_encoder() as encoder:
        counted = TokenCounter(encoder.tokenizer)
        document = Document(path.read_text(encoding="utf-8")[:5000])
        for name in NAMES:
            check(document, make(name, counted, 60, 12).split(document), counted, 60)


def test_chunks_are_judged_by_what_they_show_of_the_passages() -> None:
    spans = [Span(0, 40, tokens=10), Span(30, 70, tokens=10), Span(0, 40, tokens=10)]
    pieces = Pieces(["a", "a", "b"], spans, np.zeros((3, 2)))
    expected = np.zeros(100, bool)
    expected[20:60] = True
    assert score(expected, "a", pieces, [0], 10) == (0.5, 0.5, 20 / 60)
    assert score(expected, "a", pieces, [0, 1, 2], 20) == (1.0, 0.5, 40 / 80)
    assert score(expected, "a", pieces, [2, 1, 0], 15) == (0.5, 20 / 60, 20 / 80)
    assert score(expected, "b", pieces, [0, 1], 100) == (0.0, 0.0, 0.0)
