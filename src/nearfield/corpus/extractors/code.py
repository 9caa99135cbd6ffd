"""Extractor for source code and configuration files: their own text; a blank line ends a block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.extractors.text_encoding import decode

#: Languages by suffix, or by whole name.
LANGUAGES = {
    suffix: language
    for language, suffixes in {
        "bash": ".sh .bash .zsh .ksh",
        "c": ".c .h",
        "clojure": ".clj .cljs",
        "cpp": ".cc .cpp .cxx .c++ .hh .hpp .hxx .cu .cuh",
        "csharp": ".cs",
        "css": ".css .scss .less",
        "dart": ".dart",
        "docker": "dockerfile containerfile .dockerfile",
        "elixir": ".ex .exs",
        "erlang": ".erl .hrl",
        "fortran": ".f .f90 .f95",
        "fsharp": ".fs .fsi .fsx",
        "go": ".go",
        "graphql": ".graphql .gql",
        "groovy": ".groovy .gradle jenkinsfile",
        "haskell": ".hs",
        "hcl": ".tf .hcl",
        "ini": ".ini .cfg .conf .properties",
        "java": ".java",
        "javascript": ".js .mjs .cjs .jsx",
        "json": ".json5 .jsonc",
        "julia": ".jl",
        "kotlin": ".kt .kts",
        "lua": ".lua",
        "make": "makefile .mk .mak",
        "nix": ".nix",
        "ocaml": ".ml .mli",
        "perl": ".pl .pm",
        "php": ".php",
        "powershell": ".ps1 .psm1",
        "proto": ".proto",
        "python": ".py .pyi .pyw",
        "r": ".r",
        "ruby": ".rb .rake .gemspec rakefile gemfile",
        "rust": ".rs",
        "scala": ".scala .sbt",
        "sql": ".sql",
        "starlark": ".bzl .bazel build workspace",
        "swift": ".swift",
        "toml": ".toml",
        "tsx": ".tsx",
        "typescript": ".ts .mts .cts",
        "vue": ".vue .svelte",
        "xml": ".xsd .xsl .xslt",
        "yaml": ".yaml .yml",
        "zig": ".zig",
    }.items()
    for suffix in suffixes.split()
}
_MEDIA = {"css": "text/css", "javascript": "text/javascript", "json": "application/json", "xml": "application/xml"}


class CodeExtractor(Extractor):
    """Source code."""

    suffixes: Mapping[str, str] = {
        suffix: _MEDIA.get(language, f"text/x-{language}") for suffix, language in LANGUAGES.items()
    }
    isolated = False

    def parse(self, data: bytes, name: str) -> Document:
        """Return the decoded file as the document's text."""
        text = decode(data, name)
        last = PurePosixPath(name).name.lower()
        language = LANGUAGES.get(last) or LANGUAGES.get(PurePosixPath(last).suffix, "")
        return Document(text, tuple(paragraphs(text, "code")), form="code", language=language)
