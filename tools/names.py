"""Check names, sizes and wording of the source tree against the project's naming rules.

The lists in this file are the rules. Nothing is imported from the package: files are parsed only.

    python -m tools.names                          # every violation, as path:line: rule: detail
    python -m tools.names src/nearfield/corpus     # those of one folder or file
    python -m tools.names --summary                # counts by rule and package
    python -m tools.names --write-baseline         # record today's counts; they may only shrink

``tests/test_names.py`` fails when a package has more violations of a rule than the baseline records. Without a baseline
file the limit is zero everywhere.
"""

from __future__ import annotations

import argparse
import ast
import gc
import io
import json
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/nearfield")
BASELINE = ROOT / "tests/data/names_baseline.json"
INTEGRATIONS = (PACKAGE / "integrations").as_posix() + "/"

#: Rules in the order in which they are printed.
RULES = (
    "duplicate-class",
    "file-name",
    "folder-size",
    "function-name",
    "word",
    "variable-name",
    "file-length",
    "function-length",
    "missing-docstring",
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- file-name --------------------------------------------------------------------------------------------------------

#: Names that no module or folder may have.
FILE_NAMES = _words(
    """
    told given asked found wanted kept held made apart seams seam line work parts pieces marking filling reading writing
    searching judging watching cutting locking loading listing shipping loaded listed served metered timed published
    standing pictures books book ruler door desk seat belt shell shelf shelves machine draft memo
    utils util helpers helper common base manager managers misc stuff
    """
)
#: Folders whose names are those of another library: path in the package -> reason.
ALLOWED_FOLDERS = {"compat/sentence_transformers/util": "sentence_transformers.util"}
#: Words that may not be part of a module's name either (``batch_books``, ``file_utils``).
FILE_NAME_PARTS = _words(
    """
    told asked wanted kept seams books ruler door desk seat belt shelf utils util helpers helper manager misc
    """
)

# -- folder-size ------------------------------------------------------------------------------------------------------

MAX_ENTRIES = 15
#: Folders that grow by one file for each thing that is added. The package's root follows the documented tree.
REGISTRIES = frozenset(
    {
        "",  # the root: one entry for each package
        "backends",
        "catalog",
        "cli",
        "corpus/chunkers",
        "corpus/extractors",
        "corpus/sources",
        "evaluation/tasks",
        "families",
        "heads",
        "server/dialects",
        "stores",
    }
)

# -- function-name ----------------------------------------------------------------------------------------------------

#: Names that no function or method may have, with or without leading underscores.
FUNCTION_NAMES = _words(
    """
    told tell telling of made begun anew found asked wanted given described kept held alone let_go forget give_back
    gave_back hire bury cut note most least longest called
    """
)
#: Names that no public function of a module may have: the call must be clear without the module's name.
BARE_FUNCTION_NAMES = frozenset({"read"})
#: Functions whose names are public and stay: path and qualified name -> reason.
ALLOWED_FUNCTIONS = {
    "Collection.forget": "public method",
    "Engine.forget": "public method of a class in nearfield.__all__",
    "RemoteEngine.forget": "the same method as Engine.forget",
    "ClusterEngine.forget": "the same method as Engine.forget",
    "MultiVectors.of": "public constructor of a class in nearfield.__all__",
    "SparseVectors.of": "public constructor of a class in nearfield.__all__",
    **dict.fromkeys(("ForwardFile.tell", "_BoundedFile.tell", "UnpackedFile.tell"), "a method of Python's files"),
    "cli:forget": "the command `nearfield collections forget` takes its name from the function",
}

# -- variable-name ----------------------------------------------------------------------------------------------------

#: Catch-all names of variables, parameters, fields and attributes, with or without leading underscores.
VARIABLE_NAMES = _words("told found given asked wanted each kept held made called longest")
#: Names that no parameter may have: max_x and min_x say what is limited.
PARAMETER_NAMES = frozenset({"most", "least"})
CONSTANT_NAMES = frozenset({"_AT_ONCE", "AT_ONCE"})
#: Variables whose names are public and stay: qualified name of the scope and variable -> reason.
ALLOWED_VARIABLES = {
    "Answer.found": "field of what Collection.ask returns, and of its JSON",
    "AskReply.found": "field of a JSON reply",
    "Collection.configure.told": "public keyword",
    "Collection.plan.told": "public keyword",
}

# -- word -------------------------------------------------------------------------------------------------------------

#: Words and phrases for docstrings, comments, messages and Markdown: what it is -> what matches it.
WORDS = {
    "tell": r"(?:told|tells?|telling)",
    "whoever": r"whoever",
    "whose (starting a sentence)": r"(?:(?<=[.!?:;]\s)|(?<=\A))(?-i:Whose)",
    "in whose": r"in\s+whose",
    "anew": r"anew",
    "meanwhile": r"meanwhile",
    "let go of": r"let(?:s|ting)?\s+go\s+of",
    "give back": r"(?:giv(?:e|es|en|ing)|gave)\s+(?:(?:it|them)\s+)?back",
    "of its own": r"of\s+(?:its|their|his|her)\s+own",
    "as it is": r"(?<!long\s)(?<!soon\s)(?<!far\s)(?<!much\s)as\s+(?:it\s+is|they\s+are)(?=\s*(?:[.,;:)(!?]|\Z))",
    "what stands": r"what\s+(?:\w+\s+)?stands",
    "stands there": r"stands?\s+(?:there|here|in|on|at|below|above|before|after|by|beside|behind|everywhere|alone)",
    "what is there": r"what\s+is\s+there",
    "nobody": r"nobody",
    "dear": r"dear(?:er|est)?",
    "the books": r"the\s+books",
    "at the door": r"at\s+the\s+door",
    "goes in": r"goes\s+in",
    "comes out": r"comes\s+out",
    "made": r"made",
    "kept": r"kept",
    "held": r"held(?!-out|\s+out|\s+by)",
    "what was found": r"(?:what(?:\s+(?!not\b)\w+){0,2}\s+found|the\s+found)",
    "shelf": r"(?:shelf|shelves)",
    "door": r"doors?",
    "desk": r"desks?",
    "seat": r"seats?",
    "hire": r"hires?",
    "bury": r"bur(?:y|ies|ied)",
    "room (for a package)": r"(?:(?:this|each|every|another|other|which|one|own)\s+room|rooms)(?!\s+(?:for|to|left)\b)",
}
_WORD = re.compile(
    "|".join(f"(?P<w{number}>(?<![\\w-]){pattern}(?![\\w-]))" for number, pattern in enumerate(WORDS.values())), re.I
)
#: One of these is in each match: a quick test for texts without any.
_STEMS = (
    *("told", "tell", "whoever", "whose", "anew", "meanwhile", "go", "back", "own", "as", "stand", "what", "nobody"),
    *("dear", "books", "door", "comes", "made", "kept", "held", "found", "shel", "desk", "seat", "hire", "bur", "room"),
)
_WORD_LABELS = {f"w{number}": label for number, label in enumerate(WORDS)}
#: A lock is held: that is the term.
_LOCK = re.compile(r"\block(?:s|ed|file)?\b", re.I)
_NEAR_LOCK = 60  # characters around the word
#: Texts that other projects wrote and that are repeated literally: text -> reason.
ALLOWED_TEXTS: dict[str, str] = {}
_SQL = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|WITH|BEGIN|REPLACE|ATTACH)\b")
_SPAN = re.compile(r"``[^`]*``|`[^`]*`")
#: An argument of a public function, as a docstring lists it.
_ARGUMENT = re.compile(
    r"(?m)^[ \t]+(?:" + "|".join({name.rsplit(".", 1)[1] for name in ALLOWED_VARIABLES} or {"-"}) + r"):"
)

# -- sizes ------------------------------------------------------------------------------------------------------------

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
#: Bases that bring no documented methods.
_PLAIN_BASES = _words(
    """
    object Protocol Generic ABC Struct NamedTuple TypedDict Enum IntEnum StrEnum Flag Exception RuntimeError ValueError
    """
)

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (*Function, ast.ClassDef)


@dataclass(frozen=True, order=True)
class Violation:
    """One place that breaks a rule."""

    path: str
    line: int
    rule: str
    detail: str

    @property
    def package(self) -> str:
        """The top-level folder of the package or of the repository."""
        return package_of(self.path)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.detail}"


@dataclass(frozen=True)
class SourceFile:
    """A parsed Python file of the package."""

    path: str  # from the repository's root
    text: str
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[tuple[tuple[str, ...], ast.AST]]:
        """Each node with the names of the classes and functions around it."""
        return scoped_nodes(self.tree)


def main(arguments: list[str] | None = None) -> int:
    """Print violations or counts, or write the baseline; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.names", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("paths", nargs="*", help="folders or files to report; all by default")
    parser.add_argument("--summary", action="store_true", help="print counts by rule and package only")
    parser.add_argument("--rule", action="append", choices=RULES, help="report this rule only; may be repeated")
    parser.add_argument("--write-baseline", action="store_true", help="record the counts in tests/data")
    parser.add_argument("--force", action="store_true", help="write the baseline even if a rule's count grows")
    options = parser.parse_args(arguments)
    violations = check_repository(ROOT)
    if options.write_baseline:
        return write_baseline(violations, BASELINE, options.force)
    if options.paths:
        selected = [Path(path).resolve().relative_to(ROOT).as_posix() for path in options.paths]
        violations = [v for v in violations if any(_is_below(v.path, folder) for folder in selected)]
    if options.rule:
        violations = [v for v in violations if v.rule in options.rule]
    if options.summary:
        print(summary(violations))
    else:
        for violation in violations:
            print(violation)
        print(f"{len(violations)} violations", file=sys.stderr)
    return 1 if violations else 0


# -- the repository ---------------------------------------------------------------------------------------------------


def check_repository(root: Path) -> list[Violation]:
    """Return all violations in a repository, in order of path and line."""
    gc.disable()  # syntax trees are many objects that stay: each collection would visit them all in vain
    try:
        return _check_repository(root)
    finally:
        gc.enable()


def _check_repository(root: Path) -> list[Violation]:
    files = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        if not path.stem.endswith(("_pb2", "_pb2_grpc")):  # generated
            text = path.read_text(encoding="utf-8")
            files.append(SourceFile(path.relative_to(root).as_posix(), text, ast.parse(text)))
    violations = check_sources(files)
    violations += check_folders([file.path for file in files])
    violations += check_data_files(root)
    violations += check_other_code(root)
    violations += check_documents(root)
    return sorted(violations)


def check_sources(files: list[SourceFile]) -> list[Violation]:
    """Return the violations of the package's files, folders aside."""
    violations = check_duplicate_classes(files) + check_docstrings(files)
    for file in files:
        violations += check_file_name(file.path)
        violations += check_functions(file)
        violations += check_variables(file)
        violations += check_words(file)
        violations += check_sizes(file)
    return violations


def check_data_files(root: Path) -> list[Violation]:
    """Return the words in the package's HTML templates and in comments of its TOML files."""
    violations = []
    for path in sorted((root / PACKAGE).rglob("*.j2")):
        text = _blank(r"(?s)<(style|script)\b.*?</\1>|<[^>]*>|\{[{%#].*?[}%#]\}", path.read_text(encoding="utf-8"))
        violations += check_text(path.relative_to(root).as_posix(), 1, text)
    for path in sorted((root / PACKAGE).rglob("*.toml")):
        text = _blank(r"(?m)^(?!\s*#).*$", path.read_text(encoding="utf-8")).replace("#", " ")
        violations += check_text(path.relative_to(root).as_posix(), 1, text)
    return violations


def check_other_code(root: Path) -> list[Violation]:
    """Return the words in docstrings and comments of tests, tools, benchmarks and examples.

    Strings of tests, benchmarks and examples are mostly sample texts, so they are checked in tools only.
    """
    violations = []
    for folder in ("tests", "tools", "benchmarks", "examples"):
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(root).as_posix()
            strings = folder == "tools" and path != Path(__file__)  # this file's strings are the lists
            violations += check_words(SourceFile(name, text, ast.parse(text)), strings)
    return violations


def check_documents(root: Path) -> list[Violation]:
    """Return the words in the prose of Markdown files; of the change log, in its first section only."""
    violations = []
    documents = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (root / name).exists()]
    for path in [*documents, *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        if path.name == "CHANGELOG.md":
            text = _first_section(text)
        violations += check_markdown(path.relative_to(root).as_posix(), text)
    return violations


def package_of(path: str) -> str:
    """Return the package of a file: a folder of the package or of the repository, or the file itself."""
    parts = Path(path).parts
    if parts[:2] == PACKAGE.parts:
        return parts[2] if len(parts) > 3 else "nearfield"
    return parts[0]


# -- rules ------------------------------------------------------------------------------------------------------------


def check_duplicate_classes(files: list[SourceFile]) -> list[Violation]:
    """Return the top-level classes that several modules define; names are compared as written.

    Components for frameworks are named by the rules of their framework, and no module imports those of two.
    """
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for file in files:
        if file.path.startswith(INTEGRATIONS):
            continue
        for node in _top_level(file.tree):
            if isinstance(node, ast.ClassDef) and (file.path not in [path for path, _ in places[node.name]]):
                places[node.name].append((file.path, node.lineno))
    violations = []
    for name, definitions in places.items():
        for path, line in definitions if len(definitions) > 1 else []:
            others = ", ".join(other for other, _ in definitions if other != path)
            violations.append(Violation(path, line, "duplicate-class", f"{name} is also defined in {others}"))
    return violations


def check_file_name(path: str) -> list[Violation]:
    """Return the violation of a module's name."""
    stem = Path(path).stem.lstrip("_")
    if stem in FILE_NAMES or FILE_NAME_PARTS & set(stem.split("_")):
        return [Violation(path, 1, "file-name", f"{stem}: name a module by a noun of the field")]
    return []


def check_folders(paths: list[str]) -> list[Violation]:
    """Return the violations of folders' names, and of folders with too many modules and subfolders."""
    entries: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        inside = Path(path).relative_to(PACKAGE)
        if inside.name != "__init__.py":
            entries[inside.parent].add(inside.name)
        for folder in inside.parents:
            if folder != Path():
                entries[folder.parent].add(folder.name)
    violations = []
    folders = set(entries) | {folder / name for folder in entries for name in entries[folder] if "." not in name}
    for folder in folders:
        path = (PACKAGE / folder / "__init__.py").as_posix()
        name = "" if folder == Path() else folder.as_posix()
        allowed = name in ALLOWED_FOLDERS
        if name and not allowed and (folder.name in FILE_NAMES or FILE_NAME_PARTS & set(folder.name.split("_"))):
            violations.append(Violation(path, 1, "file-name", f"{folder.name}: name a folder by a noun of the field"))
        if name not in REGISTRIES and len(entries[folder]) > MAX_ENTRIES:
            count = len(entries[folder])
            violations.append(Violation(path, 1, "folder-size", f"{count} entries, more than {MAX_ENTRIES}"))
    return violations


def check_functions(file: SourceFile) -> list[Violation]:
    """Return the functions and methods with a reserved name."""
    violations = []
    for scope, node in file.nodes:
        if not isinstance(node, Function):
            continue
        bare = not scope and node.name in BARE_FUNCTION_NAMES
        if not bare and node.name.strip("_") not in FUNCTION_NAMES:
            continue
        qualified = ".".join([*scope, node.name])
        if qualified not in ALLOWED_FUNCTIONS and f"{package_of(file.path)}:{qualified}" not in ALLOWED_FUNCTIONS:
            violations.append(Violation(file.path, node.lineno, "function-name", f"{qualified}()"))
    return violations


def check_variables(file: SourceFile) -> list[Violation]:
    """Return the catch-all names of variables, parameters, fields and attributes, one for each scope and name."""
    first: dict[str, tuple[int, str]] = {}
    for scope, node in file.nodes:
        for name, kind in _bindings(node):
            plain = name.strip("_")
            is_parameter = kind == "parameter" and plain in PARAMETER_NAMES
            if not (is_parameter or plain in VARIABLE_NAMES or name in CONSTANT_NAMES):
                continue
            qualified = ".".join([*scope, name])
            if qualified not in ALLOWED_VARIABLES:
                first.setdefault(qualified, (getattr(node, "lineno", 1), f"{kind} {qualified}"))
    return [Violation(file.path, line, "variable-name", detail) for line, detail in first.values()]


def check_sizes(file: SourceFile) -> list[Violation]:
    """Return the file if it is too long, and its functions that are; commands' functions may be of any length."""
    violations = []
    lines = len(file.text.splitlines())
    if lines > MAX_FILE_LINES:
        violations.append(Violation(file.path, 1, "file-length", f"{lines} lines, more than {MAX_FILE_LINES}"))
    if package_of(file.path) == "cli":
        return violations
    for scope, node in file.nodes:
        if isinstance(node, Function) and (size := function_lines(node)) > MAX_FUNCTION_LINES:
            qualified = ".".join([*scope, node.name])
            detail = f"{qualified}: {size} lines, more than {MAX_FUNCTION_LINES}"
            violations.append(Violation(file.path, node.lineno, "function-length", detail))
    return violations


def check_docstrings(files: list[SourceFile]) -> list[Violation]:
    """Return public functions, classes and methods without a docstring, unless a base class or protocol does so."""
    classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
    for node in (node for file in files for node in _top_level(file.tree)):
        if isinstance(node, ast.ClassDef):
            classes[node.name].append(node)
    documented = _protocol_methods(files)
    violations = []
    for file in files:
        for node in _top_level(file.tree):
            if not isinstance(node, _DEFINITIONS) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node, clean=False):
                violations.append(Violation(file.path, node.lineno, "missing-docstring", node.name))
            if isinstance(node, ast.ClassDef):
                for method in _undocumented_methods(node, classes):
                    if method.name in documented[package_of(file.path)]:
                        continue
                    detail = f"{node.name}.{method.name}"
                    violations.append(Violation(file.path, method.lineno, "missing-docstring", detail))
    return violations


def check_words(file: SourceFile, strings: bool = True) -> list[Violation]:
    """Return the words in docstrings and comments, and with ``strings`` in strings that hold a space."""
    violations = []
    for node, value, is_docstring in _strings(file):
        if is_docstring:
            value = _ARGUMENT.sub("", value)
        elif not strings or " " not in value or _SQL.match(value):
            continue
        for violation in check_text(file.path, node.lineno, value):
            line = min(violation.line, node.end_lineno or node.lineno)
            violations.append(Violation(file.path, line, "word", violation.detail))
    for line, block in _comments(file.text):
        violations += check_text(file.path, line, block)
    return violations


def check_markdown(path: str, text: str) -> list[Violation]:
    """Return the words in the prose of a Markdown text, outside code and addresses."""
    text = _blank(r"(?ms)^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", text)
    return check_text(path, 1, _blank(r"\]\([^)]*\)|<[^>\n]*>", text))


def check_text(path: str, line: int, text: str) -> list[Violation]:
    """Return the words in a text that begins at a line."""
    lower = text.lower()
    if not any(stem in lower for stem in _STEMS):
        return []
    violations = []
    for match in _WORD.finditer(_blank(_SPAN, text)):
        label = _WORD_LABELS[match.lastgroup or "w0"]
        around = text[max(0, match.start() - _NEAR_LOCK) : match.end() + _NEAR_LOCK]
        if label == "held" and _LOCK.search(around):
            continue
        excerpt = " ".join(around.split())
        if any(allowed in " ".join(text.split()) for allowed in ALLOWED_TEXTS):
            continue
        number = line + text.count("\n", 0, match.start())
        violations.append(Violation(path, number, "word", f"{label}: ...{excerpt}..."))
    return violations


# -- reading of syntax trees ------------------------------------------------------------------------------------------


def function_lines(node: AnyFunction) -> int:
    """Return the number of lines of a function, its docstring not counted."""
    size = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        size -= (first.end_lineno or first.lineno) - first.lineno + 1
    return size


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Return the statements of a module, also those below a condition."""
    for node in tree.body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            yield from node.body
            yield from node.orelse


def scoped_nodes(tree: ast.Module) -> list[tuple[tuple[str, ...], ast.AST]]:
    """Return each node of a module with the names of the classes and functions around it, outer nodes first."""
    nodes: list[tuple[tuple[str, ...], ast.AST]] = []
    stack: list[tuple[tuple[str, ...], ast.AST]] = [((), tree)]
    while stack:
        scope, node = stack.pop()
        nodes.append((scope, node))
        inner = (*scope, node.name) if isinstance(node, _DEFINITIONS) else scope
        children: list[tuple[tuple[str, ...], ast.AST]] = []
        for field in node._fields:
            value = getattr(node, field, None)
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, ast.AST) and not isinstance(child, ast.expr_context):
                    children.append((inner, child))
        stack += reversed(children)
    return nodes


def _bindings(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Return the (name, kind) that a node binds."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id, "variable"
    elif isinstance(node, ast.arg):
        yield node.arg, "parameter"
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr, "attribute"
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name, "variable"


def _undocumented_methods(node: ast.ClassDef, classes: dict[str, list[ast.ClassDef]]) -> Iterator[AnyFunction]:
    """Return the public methods that have no docstring and inherit none."""
    for method in node.body:
        if not isinstance(method, Function) or method.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator).rsplit(".", 1)[-1] for decorator in method.decorator_list}
        if decorators & {"overload", "setter", "deleter", "override"} or ast.get_docstring(method, clean=False):
            continue
        if not _inherits_docstring(method.name, node, classes):
            yield method


def _protocol_methods(files: list[SourceFile]) -> dict[str, set[str]]:
    """Return the methods that protocols document, by package: classes implement them without naming the protocol."""
    methods: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for node in _top_level(file.tree):
            if isinstance(node, ast.ClassDef) and "Protocol" in [ast.unparse(base) for base in node.bases]:
                documented = {m.name for m in node.body if isinstance(m, Function) and ast.get_docstring(m)}
                methods[package_of(file.path)] |= documented
    return methods


def _inherits_docstring(name: str, node: ast.ClassDef, classes: dict[str, list[ast.ClassDef]]) -> bool:
    """Return whether a base class documents a method, or is not of this project so that it may."""
    for base in node.bases:
        base_name = ast.unparse(base.value if isinstance(base, ast.Subscript) else base).rsplit(".", 1)[-1]
        if base_name in _PLAIN_BASES:
            continue
        parents = [parent for parent in classes.get(base_name, []) if parent is not node]
        if not parents:
            return True
        for parent in parents:
            methods = [m for m in parent.body if isinstance(m, Function) and m.name == name]
            if any(ast.get_docstring(method) for method in methods) or _inherits_docstring(name, parent, classes):
                return True
    return False


def _strings(file: SourceFile) -> Iterator[tuple[ast.expr, str, bool]]:
    """Return (node, text, whether it is a docstring) of each string; fields of f-strings become ``{}``."""
    docstrings: set[int] = set()
    inner: set[int] = set()
    for _, node in file.nodes:
        if isinstance(node, (ast.Module, *_DEFINITIONS)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr):
                docstrings.add(id(first.value))
        elif isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            values = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node, "".join(values), False
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node, node.value, id(node) in docstrings


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Return (first line, text) of each comment; comments on lines that follow each other are one."""
    block: list[str] = []
    start = column = 0
    for line, offset, comment in _comment_tokens(text):
        if block and line == start + len(block) and offset == column:
            block.append(comment)
            continue
        if block:
            yield start, "\n".join(block)
        start, column, block = line, offset, [comment]
    if block:
        yield start, "\n".join(block)


def _comment_tokens(text: str) -> Iterator[tuple[int, int, str]]:
    """Return (line, column, text without the mark) of each comment."""
    # Tokenising is slow: most files have no such word after any "#".
    if not _WORD.search("\n".join(line.partition("#")[2].lstrip("#:").strip() for line in text.splitlines())):
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.start[1], token.string.lstrip("#:").strip()


def _blank(pattern: str | re.Pattern[str], text: str) -> str:
    """Return the text with what matches replaced by bars, line by line."""
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", "|", match[0]), text)


def _first_section(text: str) -> str:
    """Return a change log up to its second version."""
    headings = [match.start() for match in re.finditer(r"(?m)^## ", text)]
    return text[: headings[1]] if len(headings) > 1 else text


def _is_below(path: str, folder: str) -> bool:
    return folder == "." or path == folder or path.startswith(folder + "/")


# -- counts and the baseline ------------------------------------------------------------------------------------------


def counts(violations: Iterable[Violation]) -> dict[str, dict[str, int]]:
    """Return the violations of each rule by package; those of duplicate classes by the name of the class."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for violation in violations:
        is_class = violation.rule == "duplicate-class"
        table[violation.rule][violation.detail.split()[0] if is_class else violation.package] += 1
    return {rule: dict(sorted(table[rule].items())) for rule in RULES if rule in table}


def summary(violations: list[Violation]) -> str:
    """Return a table of counts: a line for each package, a column for each rule."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for violation in violations:
        table[violation.package][violation.rule] += 1
        table["all"][violation.rule] += 1
    widths = [max(len(rule), 6) for rule in RULES]
    lines = ["  ".join([f"{'package':16}", *(f"{rule:>{width}}" for rule, width in zip(RULES, widths, strict=True))])]
    for package in [*sorted(set(table) - {"all"}), "all"]:
        cells = [f"{table[package][rule] or '-':>{width}}" for rule, width in zip(RULES, widths, strict=True)]
        lines.append("  ".join([f"{package:16}", *cells]))
    return "\n".join(lines)


def read_baseline(path: Path) -> dict[str, dict[str, int]]:
    """Return the recorded counts; none where there is no file."""
    if not path.exists():
        return {}
    recorded: dict[str, dict[str, int]] = json.loads(path.read_text(encoding="utf-8"))
    return recorded


def growth(current: dict[str, dict[str, int]], recorded: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    """Return by how much each (rule, package) exceeds its record."""
    return {
        (rule, package): count - recorded.get(rule, {}).get(package, 0)
        for rule, packages in current.items()
        for package, count in packages.items()
        if count > recorded.get(rule, {}).get(package, 0)
    }


def write_baseline(violations: list[Violation], path: Path, force: bool = False) -> int:
    """Write the counts; refuse with status 1 when a rule has more violations than recorded in all packages together."""
    current, recorded = counts(violations), read_baseline(path)
    grown = [rule for rule in current if sum(current[rule].values()) > sum(recorded.get(rule, {}).values())]
    if grown and not force:
        print(f"More violations than recorded: {', '.join(grown)}. The baseline may only shrink.", file=sys.stderr)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(current, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
