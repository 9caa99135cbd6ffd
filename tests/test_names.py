"""Names, sizes and wording of the source tree: no package has more violations of a rule than the baseline records."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools import names
from tools.names import BASELINE, PACKAGE, ROOT, RULES, SourceFile, Violation


@pytest.fixture(scope="module")
def violations() -> list[Violation]:
    """The violations of the whole repository."""
    return names.check_repository(ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_no_package_exceeds_the_baseline(rule: str, violations: list[Violation]) -> None:
    current = names.counts(violations).get(rule, {})
    recorded = names.read_baseline(BASELINE).get(rule, {})
    grown = {package for _, package in names.growth({rule: current}, {rule: recorded})}
    is_class = rule == "duplicate-class"
    report = [
        str(v) for v in violations if v.rule == rule and (v.detail.split()[0] if is_class else v.package) in grown
    ]
    assert not grown, (
        "More violations than recorded, or moved from another package (`python -m tools.names --write-baseline`):\n"
        + "\n".join([f"{key}: {current[key]}, recorded {recorded.get(key, 0)}" for key in sorted(grown)] + report[:100])
    )


# -- the rules, each on a source that breaks it and on one that does not ----------------------------------------------


def _file(text: str, path: str = "corpus/search/plan.py") -> SourceFile:
    return SourceFile((PACKAGE / path).as_posix(), text, ast.parse(text))


#: A class with a documented method.
BASE = 'class A:\n    """A."""\n    def f(self):\n        """Do."""\n'


def _details(violations: list[Violation], rule: str) -> list[str]:
    return [violation.detail for violation in violations if violation.rule == rule]


def test_a_class_is_defined_in_one_module() -> None:
    files = [
        _file("class Hit: ..."),
        _file("class Hit: ...\nclass _Hit: ...", "stores/store.py"),
        _file("class Row: ...", "a.py"),
    ]
    found = names.check_duplicate_classes(files)
    assert [(v.path, v.line) for v in found] == [(files[0].path, 1), (files[1].path, 1)]
    assert names.counts(found) == {"duplicate-class": {"Hit": 2}}
    assert not names.check_duplicate_classes([files[0], _file("class StoreHit: ...", "stores/store.py")])
    # The other branch of a condition is the same module.
    assert not names.check_duplicate_classes([_file("if X:\n    class Hit: ...\nelse:\n    class Hit: ...")])
    frameworks = [_file("class Hit: ...", f"integrations/{name}.py") for name in ("langchain", "haystack")]
    assert not names.check_duplicate_classes(frameworks)


@pytest.mark.parametrize("name", ["told", "_kept", "batch_books", "utils", "http_helpers", "base", "line", "seams"])
def test_file_names_that_are_refused(name: str) -> None:
    assert names.check_file_name(f"src/nearfield/corpus/{name}.py")
    folders = names.check_folders([f"src/nearfield/corpus/{name.lstrip('_')}/plan.py"])
    assert _details(folders, "file-name")


@pytest.mark.parametrize("name", ["plan", "line_handler", "document_builder", "loaded_model", "database", "indexing"])
def test_file_names_that_are_taken(name: str) -> None:
    assert not names.check_file_name(f"src/nearfield/corpus/{name}.py")
    assert not names.check_folders([f"src/nearfield/corpus/{name}/plan.py"])


def test_folders_have_at_most_15_entries_unless_they_are_registries() -> None:
    def modules(folder: str, count: int) -> list[str]:
        return [f"src/nearfield/{folder}/{name}.py" for name in ["__init__", *(f"m{i}" for i in range(count))]]

    assert not names.check_folders(modules("corpus/search", 15))
    assert [v.path for v in names.check_folders(modules("corpus/search", 16))] == [
        "src/nearfield/corpus/search/__init__.py"
    ]
    # A subfolder is an entry as a module is.
    subfolder = ["src/nearfield/corpus/search/inner/plan.py"]
    assert _details(names.check_folders(modules("corpus/search", 15) + subfolder), "folder-size")
    assert not names.check_folders(modules("server/dialects", 30) + modules("stores", 30))


@pytest.mark.parametrize(
    "text",
    [
        "def told(x): ...",
        "def _of(x): ...",
        "async def forget(x): ...",
        "class A:\n    def alone(self): ...",
        "class A:\n    @classmethod\n    def of(cls): ...",
        "def read(path): ...",
        "def f():\n    def made(): ...",
    ],
)
def test_function_names_that_are_refused(text: str) -> None:
    assert names.check_functions(_file(text))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("def to_dict(x): ...", "corpus/search/plan.py"),
        ("class A:\n    def read(self): ...", "corpus/search/plan.py"),
        ("def find(): ...", "corpus/search/plan.py"),
        ("class Collection:\n    def forget(self, source): ...", "corpus/collection.py"),
        ("def forget(name): ...", "cli/collections.py"),
    ],
)
def test_function_names_that_are_taken(text: str, path: str) -> None:
    assert not names.check_functions(_file(text, path))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("found = 1", "found"),
        ("for each in x: ...", "each"),
        ("y = [each for each in x]", "each"),
        ("def f(told): ...", "told"),
        ("f = lambda given: 1", "given"),
        ("def f(*, most): ...", "most"),
        ("def f(**wanted): ...", "wanted"),
        ("class A:\n    kept: int", "kept"),
        ("class A:\n    def f(self):\n        self._held = 1", "_held"),
        ("_AT_ONCE = 100", "_AT_ONCE"),
        ("with x as made: ...", "made"),
        ("if (asked := x): ...", "asked"),
        ("try: ...\nexcept X as told: ...", "told"),
        ("match x:\n    case [found, *_]: ...", "found"),
    ],
)
def test_variables_that_are_refused(text: str, name: str) -> None:
    (violation,) = names.check_variables(_file(text))
    assert violation.detail.split(".")[-1].split()[-1] == name


@pytest.mark.parametrize(
    "text",
    [
        "for chunk in chunks: ...",
        "most = 1",  # as a variable it may be; as a parameter it says nothing
        "f(found=1)\nx.told",
        "kept_chunk = found_at = 1",
        "_BATCH_SIZE = 100",
        "class Collection:\n    def configure(self, told): ...",
    ],
)
def test_variables_that_are_taken(text: str) -> None:
    assert not names.check_variables(_file(text))


def test_a_variable_counts_once_in_each_scope() -> None:
    text = "def f():\n    found = 1\n    found = 2\n\ndef g():\n    found = 3"
    assert [v.line for v in names.check_variables(_file(text))] == [2, 6]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("tell", "The client is told."),
        ("tell", "What tells one from another"),
        ("whoever", "Whoever asks first"),
        ("whose (starting a sentence)", "A file. Whose it is"),
        ("whose (starting a sentence)", "Whose it is"),
        ("in whose", "It is known in whose words"),
        ("anew", "Read it anew."),
        ("meanwhile", "Meanwhile it waits"),
        ("let go of", "Let go of files"),
        ("let go of", "A model is let\n    go of"),
        ("give back", "What it gives back"),
        ("of its own", "A thread of its own"),
        ("of its own", "Threads of their own"),
        ("as it is", "It is copied as it is."),
        ("as it is", "They are taken as they are"),
        ("what stands", "What stands below"),
        ("stands there", "The row stands there"),
        ("what is there", "Keep what is there"),
        ("nobody", "Nobody uses it"),
        ("dear", "How dear a model is"),
        ("the books", "Write the books"),
        ("at the door", "Refused at the door"),
        ("goes in", "What goes in"),
        ("comes out", "What comes out"),
        ("made", "It was made once"),
        ("kept", "It is kept"),
        ("held", "It is held in memory"),
        ("what was found", "Return what was found"),
        ("what was found", "What a search found"),
        ("shelf", "A shelf of models"),
        ("door", "Open the door"),
        ("desk", "A desk"),
        ("seat", "The seats"),
        ("hire", "Hire a lane"),
        ("bury", "Bury a lane"),
        ("room (for a package)", "Each room of the source"),
    ],
)
def test_words_that_are_refused(label: str, text: str) -> None:
    assert label in names.WORDS
    assert label in [violation.detail.split(": ...")[0] for violation in names.check_text("x.py", 1, text)]


def test_each_word_has_an_example_above() -> None:
    (marker,) = [mark for mark in test_words_that_are_refused.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {label for label, _ in marker.args[1]} == set(names.WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "No index was found in the folder, or it could not be found.",
        "The lock is held until the file is written; a process that holds it writes.",
        "Texts held out for the test; a held-out set.",
        "A model whose weights are shared.",
        "As long as it is loaded. As it is defined now.",
        "``told`` and `kept` are columns, kept_chunk too.",
        "The pattern stands for any name.",
        "Make room for the model. There is room for one.",
        "It goes into the queue. Return the lease. Remake it.",
        "Return the vectors, in order.",
    ],
)
def test_words_that_are_taken(text: str) -> None:
    assert not names.check_text("x.py", 1, text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""Nothing.\n\nIt is kept.\n"""', 3),
        ('def f():\n    """Return what is kept."""', 2),
        ("x = 1  # it is kept", 1),
        ("x = 1\n# a model is let\n# go of\n", 2),
        ("#: it is kept\nx = 1", 1),
        ('raise X("it is kept")', 1),
        ('raise X(f"{name} is kept")', 1),
        ('raise X(\n    "a text that is "\n    "kept"\n)', 2),
    ],
)
def test_words_are_looked_for_in_docstrings_comments_and_messages(text: str, line: int) -> None:
    assert [violation.line for violation in names.check_words(_file(text))] == [line]


@pytest.mark.parametrize(
    "text",
    [
        'x["kept"]',
        'run("SELECT kept, told FROM chunks")',
        "kept = told.kept",
        'x = "#" + y.kept',
        'def f(told):\n    """Change it.\n\n    Args:\n        told: the definition.\n    """',
    ],
)
def test_words_are_not_looked_for_in_code(text: str) -> None:
    assert not names.check_words(_file(text))


def test_strings_of_tests_are_sample_texts() -> None:
    file = _file('"""It is kept."""\nx = "a cat kept a door"')
    assert len(names.check_words(file, strings=False)) == 1
    assert len(names.check_words(file)) == 3


def test_words_of_markdown_are_those_of_its_prose() -> None:
    text = "# It is kept\n\n```bash\nit is kept\n```\nThe `kept` one, [here](https://example.org/kept).\n\nTold.\n"
    assert [violation.line for violation in names.check_markdown("docs/x.md", text)] == [1, 8]


def test_words_of_templates_and_of_comments_in_toml(tmp_path: Path) -> None:
    folder = tmp_path / PACKAGE
    folder.mkdir(parents=True)
    (folder / "page.html.j2").write_text("<style>/* it is kept */</style>\n<p class='kept'>It is {{ kept }} told</p>\n")
    (folder / "models.toml").write_text("# It is kept\nname = 'it is kept'\n")
    assert [(v.path, v.line) for v in names.check_data_files(tmp_path)] == [
        ("src/nearfield/page.html.j2", 2),
        ("src/nearfield/models.toml", 1),
    ]


def test_the_change_log_counts_up_to_its_second_version(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n\n- Kept\n\n## 0.1.0\n\n- Kept\n")
    assert [v.line for v in names.check_documents(tmp_path)] == [5]


def test_files_have_at_most_500_lines() -> None:
    assert _details(names.check_sizes(_file("x = 1\n" * 501)), "file-length")
    assert not names.check_sizes(_file("x = 1\n" * 500))


def test_functions_have_at_most_60_lines_outside_of_commands() -> None:
    docstring = '    """Do it.\n' + "\n" * 20 + '    """\n'
    short, long = ("def f():\n" + docstring + "    x = 1\n" * count for count in (59, 60))
    assert not names.check_sizes(_file(short))
    assert _details(names.check_sizes(_file(long)), "function-length")
    assert not names.check_sizes(_file(long, "cli/serve.py"))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("def f(): ...", ["f"]),
        ("class A: ...", ["A"]),
        ('class A:\n    """A."""\n    def f(self): ...', ["A.f"]),
        ('class A(Protocol):\n    """A."""\n    def f(self): ...', ["A.f"]),
        ('def f():\n    """Do it."""', []),
        ("def _f(): ...\nclass _A:\n    def f(self): ...", []),
        ('class A:\n    """A."""\n    def _f(self): ...\n    def __len__(self): ...', []),
        # What a base class or a protocol documents, or a base class of another project.
        (
            BASE + 'class B(A):\n    """B."""\n    def f(self): ...',
            [],
        ),
        (
            BASE.replace("A:", "A(Protocol):") + 'class B:\n    """B."""\n    def f(self): ...',
            [],
        ),
        ('class A(HTMLParser):\n    """A."""\n    def handle_data(self, data): ...', []),
    ],
)
def test_docstrings(text: str, detail: list[str]) -> None:
    assert _details(names.check_docstrings([_file(text)]), "missing-docstring") == detail


# -- the baseline -----------------------------------------------------------------------------------------------------


def test_the_baseline_may_only_shrink(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data/baseline.json"
    two = [Violation("src/nearfield/corpus/a.py", line, "word", "told") for line in (1, 2)]
    moved = [Violation("src/nearfield/stores/a.py", 1, "word", "told"), two[0]]
    assert names.read_baseline(path) == {}
    assert names.write_baseline(two, path) == 1 and "word" in capsys.readouterr().err and not path.exists()
    assert names.write_baseline(two, path, force=True) == 0
    assert names.read_baseline(path) == {"word": {"corpus": 2}}
    # What moves to another package is not more.
    assert names.growth(names.counts(moved), names.read_baseline(path)) == {("word", "stores"): 1}
    assert names.write_baseline(moved, path) == 0
    assert names.write_baseline(moved[:1], path) == 0 and names.write_baseline(moved, path) == 1
    assert names.growth(names.counts(moved), {}) == {("word", "corpus"): 1, ("word", "stores"): 1}


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        Violation("src/nearfield/corpus/a.py", 3, "word", "made: ..."),
        Violation("src/nearfield/stores/b.py", 4, "file-length", "501 lines"),
    ]
    monkeypatch.setattr(names, "check_repository", lambda root: lines)
    assert names.main([str(ROOT / "src/nearfield/corpus")]) == 1
    assert capsys.readouterr().out == "src/nearfield/corpus/a.py:3: word: made: ...\n"
    assert names.main(["--rule", "file-length"]) == 1
    assert capsys.readouterr().out == "src/nearfield/stores/b.py:4: file-length: 501 lines\n"
    assert names.main(["--summary"]) == 1
    assert capsys.readouterr().out.splitlines()[1].split()[:1] == ["corpus"]
    monkeypatch.setattr(names, "check_repository", lambda root: [])
    assert names.main([]) == 0
