"""Sources: each lists its documents under keys that stay, in an order that stays, and says what it leaves out."""

from __future__ import annotations

import codecs
import datetime
import gzip
import inspect
import io
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow
import pyarrow.parquet
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nearfield.corpus.collection import Collection
from nearfield.corpus.document import Document, NamedBytes, SourceItem
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.sources import REGISTRY, open_source
from nearfield.corpus.sources.files import compile_patterns
from nearfield.errors import InputError
from nearfield.fileio import tabular, url_safety
from nearfield.testing import write_tiny_model
from tests.support import sample_documents


def keys(source: Any) -> list[str]:
    return [item.key for item in source.items()]


def texts(source: Any) -> dict[str, str]:
    """Return the texts of rows by key; of those that cannot be read, what is wrong."""
    found = {}
    for item in source.items():
        try:
            document = item.read()
        except InputError as error:
            found[item.key] = f"! {error}"
        else:
            assert isinstance(document, Document)
            found[item.key] = document.text
    return found


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


# -- the registry -----------------------------------------------------------------------------------------------------


def test_a_source_can_be_made_again_from_what_it_says(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "a", "t.csv": "body,n\nx,1\n", "urls.txt": "# none\n"})
    for kind, location, options in (
        ("files", tmp_path, {"include": ["*.txt"], "largest": 10}),
        ("table", tmp_path / "t.csv", {"text": "body", "meta": ["n"]}),
        ("urls", tmp_path / "urls.txt", {"allow_private": ["10.0.0.0/8"]}),
    ):
        source = open_source(kind, str(location), **options)
        again = open_source(kind, source.location, **json.loads(json.dumps(source.options)))
        assert (again.name, again.options, keys(again)) == (source.name, source.options, keys(source))
        assert source.name == f"{kind}:{location}" and source.watch()
    assert set(REGISTRY.names()) == {"files", "table", "urls", "stdin"}


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("files", {"exlude": []}, "has no option 'exlude'. Did you mean 'exclude'?"),
        ("files", {"include": "*.md"}, "a list of patterns"),
        ("table", {"meta": "a"}, "a list of columns"),
        ("table", {"text": None}, "The name of a column is a string"),
        ("table", {"form": "xls"}, "unknown format 'xls'"),
        ("stdin", {"form": "parquet"}, "cannot be read as 'parquet'"),
        ("urls", {"allow_private": ["10.0.0.0/40"]}, "allow_private: true, false, or networks"),
        ("flies", {}, "Unknown source 'flies'. Did you mean 'files'?"),
    ],
)
def test_wrong_options_are_refused(kind: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(kind, "a.csv", **options)
    assert told in str(caught.value)


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_folder_in_order_and_what_is_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b.md": "b", "a/z.txt": "z", "a.txt": "a", "a/b/c.py": "c", "Makefile": "all:", "a-b.txt": "-",
            "photo.PNG": b"\x89PNG", "rows.csv": "text\na\n", "rows.parquet": b"PAR1", "odd": "?",
            "x.min.js": "x", "package-lock.json": "{}",
            ".hidden.md": "h", ".git/config.txt": "g", "node_modules/x/readme.md": "n", "a/__pycache__/c.txt": "p",
        },
    )  # fmt: skip
    source = open_source("files", str(tmp_path))
    assert keys(source) == ["Makefile", "a-b.txt", "a.txt", "a/b/c.py", "a/z.txt", "b.md", "rows.csv"] == keys(source)
    assert keys(source) == sorted(keys(source))
    assert dict(source.skipped) == {
        "photo.PNG": "a picture: its text is read with OCR, if the collection has 'ocr = true' (--ocr)",
        "rows.parquet": "a table: add it as a source of kind 'table'",
        "odd": "no extractor for a name without a suffix",
    }
    assert source.name == f"files:{tmp_path}" and source.watch() == [str(tmp_path)]
    hidden = open_source("files", str(tmp_path), hidden=True)
    assert set(keys(hidden)) - set(keys(source)) == {".hidden.md"}


def test_a_file_a_glob_and_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "a", "d/b.md": "b", "d/e/c.md": "c", "d/e/f.txt": "f", "t.csv": "text\n", "new.xyz": "n"})
    assert keys(open_source("files", str(tmp_path / "a.md"))) == ["a.md"]
    # Named by itself, its content may show what it is.
    assert keys(open_source("files", str(tmp_path / "new.xyz"))) == ["new.xyz"]
    assert keys(open_source("files", str(tmp_path / "*.md"))) == ["a.md"]
    assert keys(open_source("files", str(tmp_path / "**/*.md"))) == ["a.md", "d/b.md", "d/e/c.md"]
    assert keys(open_source("files", str(tmp_path / "d" / "?" / "[a-c].md"))) == ["e/c.md"]
    for location, told in ((tmp_path / "none", "There is no file or folder"), (tmp_path / "t.csv", "kind 'table'")):
        with pytest.raises(InputError, match=told):
            keys(open_source("files", str(location)))


def test_include_and_exclude(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(("a.md", "b.txt", "old/a.md", "old/keep.md", "src/old/c.md", "d.py"), "x"))
    assert keys(open_source("files", str(tmp_path), exclude=["old/", "*.py"])) == ["a.md", "b.txt"]
    assert keys(open_source("files", str(tmp_path), exclude=["/old/*", "!/old/keep.md"], include=["*.md"])) == [
        "a.md", "old/keep.md", "src/old/c.md",
    ]  # fmt: skip
    assert keys(open_source("files", str(tmp_path), include=["old/"])) == ["old/a.md", "old/keep.md", "src/old/c.md"]


@pytest.mark.parametrize(
    ("pattern", "path", "folder", "matched"),
    [
        ("*.md", "a/b.md", False, True),
        ("/*.md", "a/b.md", False, False),
        ("a/*.md", "a/b.md", False, True),
        ("a/*.md", "c/a/b.md", False, False),
        ("a/**/b", "a/b", False, True),
        ("a/**/b", "a/x/y/b", False, True),
        ("a/**", "a/x/y", False, True),
        ("a/**", "a", True, False),
        ("**/b", "b", False, True),
        ("b/", "a/b", True, True),
        ("b/", "a/b", False, False),
        ("a?c", "abc", False, True),
        ("a?c", "a/c", False, False),
        ("[!a]b", "cb", False, True),
        ("[!a]b", "ab", False, False),
        ("[a-c]]", "b]", False, True),
        ("a[", "a[", False, False),
        (r"a\[", "a[", False, True),
        ("#a", "#a", False, False),
        (r"\#a", "#a", False, True),
        (r"\!a", "!a", False, True),
        ("a.b", "axb", False, False),
        ("é*", "été", False, True),
    ],
)
def test_patterns(pattern: str, path: str, folder: bool, matched: bool) -> None:
    assert compile_patterns([pattern]).match_file(path + "/" * folder) is matched


def test_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", write(tmp_path / "out", {"secret.txt": "s"})
    write(root, {"a.txt": "a", "d/b.txt": "b"})
    for name, target in {
        "to-a.txt": root / "a.txt", "out.txt": outside / "secret.txt", "loop": root, "d/up": root,
        "self.txt": root / "self.txt", "gone.txt": root / "none.txt", "out": outside,
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe.txt")
    source = open_source("files", str(root))
    assert keys(source) == ["a.txt", "d/b.txt", "to-a.txt"]
    told = dict(source.skipped)
    assert told["out.txt"] == told["out"] == "a link that leaves the folder"
    assert told["loop"] == told["d/up"] == "a link to a folder, whose files are listed at their own paths"
    assert told["gone.txt"] == told["self.txt"] == "a broken link"
    assert told["pipe.txt"] == "not a regular file"


@pytest.mark.slow
def test_what_a_collection_keeps_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x")
    write_tiny_model(tmp_path / "model" / "tiny")
    for name in ("note.txt", "current"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text("x")
    config = {"features": {"dense": {"model": str(tmp_path / "model" / "tiny")}}}
    with Collection.create("inner", config, home=tmp_path / "kept") as collection:
        (tmp_path / "kept" / "inner" / "told.txt").write_text("x")
        collection.put([{"id": "a", "text": "a cat"}])
        source = open_source("files", str(tmp_path), exclude=["model/"])
        assert [item.key for item in source.items()] == ["mine/note.txt", "note.txt"]
        assert ("kept/inner", "a collection of Nearfield's, not documents") in source.skipped


def test_stamps_change_with_the_content(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "one"})

    def stamp() -> str | None:
        return next(iter(open_source("files", str(tmp_path)).items())).stamp

    first = stamp()
    assert first == stamp()
    told = (tmp_path / "a.txt").stat()
    write(tmp_path, {"b": "two"})
    (tmp_path / "b").replace(tmp_path / "a.txt")
    os.utime(tmp_path / "a.txt", ns=(told.st_atime_ns, told.st_mtime_ns))
    assert stamp() != first


def test_large_files_and_files_that_go_away_fail_alone(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "12345", "b.txt": "123456", "c.txt": "1"})
    items = {item.key: item for item in open_source("files", str(tmp_path), largest=5).items()}
    assert items["a.txt"].read() == b"12345"
    with pytest.raises(InputError, match=r"b\.txt: larger than 5 bytes"):
        items["b.txt"].read()
    (tmp_path / "c.txt").unlink()
    with pytest.raises(FileNotFoundError):
        items["c.txt"].read()


def test_a_folder_that_cannot_be_listed_is_reported_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a/x.txt": "x", "b/y.txt": "y", "c.txt": "c"})
    listing = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    met: list[str] = []
    listed = open_source("files", str(tmp_path)).items()
    with pytest.raises(InputError, match=r"Cannot list: .*/a \(Permission denied\)"):
        met.extend(item.key for item in listed)
    assert met == ["b/y.txt", "c.txt"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.txt", "wb") as file:  # noqa: PTH123 - a name that is no text
        file.write(b"odd")
    (item,) = open_source("files", str(tmp_path)).items()
    assert item.key == "\\xff.txt" and item.read() == b"odd"


def test_folders_deeper_than_python_goes(tmp_path: Path) -> None:
    write(tmp_path, {"d/" * 150 + "z.txt": "deep"})
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = keys(open_source("files", str(tmp_path)))
    finally:
        sys.setrecursionlimit(usual)
    assert found == ["d/" * 150 + "z.txt"]


# -- tables --------------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "First text", "title": "One", "year": 2020, "tag": "x"},
    {"id": "b", "text": 'Second\ntext, with "quotes"', "title": None, "year": 2021, "tag": None},
]


def table(folder: Path, form: str) -> Path:
    path = folder / f"t.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif form == "jsonl":
        path.write_text("\ufeff" + "\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="," if form == "csv" else "\t")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet"])
def test_rows_of_each_format(tmp_path: Path, form: str) -> None:
    path = table(tmp_path, form)
    source = open_source("table", str(path), title="title", id="id", meta={"published": "year", "tag": "tag"})
    first, second = source.items()
    year: Any = "2020" if form in ("csv", "tsv") else 2020
    assert first.read() == Document("First text", title="One", meta={"published": year, "tag": "x"})
    assert second.read().text == 'Second\ntext, with "quotes"'  # type: ignore[union-attr]
    assert [item.key for item in (first, second)] == ["a", "b"]
    assert first.name == f"t.{form}#a" and first.stamp and first.stamp != second.stamp
    assert source.name == f"table:{path}"
    with DocumentReader() as reader:
        assert reader.read(first)[1] == "row"


def test_a_bad_row_costs_itself_only(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good", "id": 1}', b"{broken", b'{"id": 3}', b'{"text": 5, "id": 4}', b'{"text": "", "id": 5}',
        b"[1]",
        b'{"text": "\xff", "id": 7}', b'{"text": "\\ud800", "id": 8}', b'{"text": "again", "id": 1}',
        b'{"text": "x", "id": null}', b'{"text": "x", "id": "11", "n": [1]}', b"[" * 100_000,
        b'{"text": "last", "id": "line 2", "n": 0.5}',
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    found = texts(open_source("table", str(tmp_path / "t.jsonl"), id="id", meta=["n"]))
    assert {key: text for key, text in found.items() if not text.startswith("!")} == {"1": "good", "line 2": "last"}
    path = tmp_path / "t.jsonl"
    told = {
        2: "not JSON", 3: "no field 'text'", 4: "holds int, not text", 5: "no text", 6: "list, not an object",
        7: "not UTF-8",
        8: "lone surrogate", 9: f"duplicate id '1'; the first one is in {path}, line 1",
        10: "holds nothing, which is no id",
        11: "holds list", 12: "not JSON",
    }  # fmt: skip
    assert len(found) == len(lines)
    for line, reason in told.items():
        assert found[f"(line {line})"].startswith(f"! {path}, line {line}: ") and reason in found[f"(line {line})"]


def test_rows_without_ids_are_distinguished_by_content(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('"same"\n{"text": "other"}\n"same"\n')
    first = keys(open_source("table", str(path)))
    assert len(set(first)) == 3 and first[2] == f"{first[0]}-2"
    path.write_text('{"text": "new"}\n{"text": "other"}\n"same"\n"same"\n')
    assert set(keys(open_source("table", str(path)))) > set(first)


def test_bad_rows_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'id,text\n1,good\n2,one,more\n3\n4,"two\nlines"\n5,\xff\xfe\n\n6,"open\n7,lost\n')
    found = texts(open_source("table", str(path), id="id"))
    assert found["1"] == "good" and found["4"] == "two\nlines" and found["7"] == "lost"
    assert "never closed" in found["(line 9)"]
    assert "3 cells for 2 columns" in found["(line 3)"]
    assert "holds nothing" in found["(line 4)"]
    assert [text for text in found.values() if "not UTF-8" in text] == [
        f"! {path}, after line 6: not UTF-8. Convert it first."
    ]


def test_rows_without_end_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "MAX_ROW_BYTES", 100)
    (tmp_path / "t.csv").write_text("text\ngood\n" + '"' + "x\n" * 60 + "tail\n")
    found = list(texts(open_source("table", str(tmp_path / "t.csv"))).values())
    assert found[0] == "good" and "is a quote left open" in found[1] and found[-1] == "tail"
    (tmp_path / "t.jsonl").write_text('"' + "x" * 5000 + '"\n"good"\n')
    found = list(texts(open_source("table", str(tmp_path / "t.jsonl"))).values())
    assert "line 1: longer than 100 bytes" in found[0] and found[1:] == ["good"]


def test_tables_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, {"t.csv": "a,b\n1,2\n", "t.parquet": b"PAR1 no", "empty.csv": "", "u.csv": b"text\n\xff"})
    for name, told in (
        ("t.csv", "no column 'text'"),
        ("t.parquet", "cannot be read as Parquet"),
        ("no.csv", "no file"),
    ):
        with pytest.raises(InputError, match=told):
            keys(open_source("table", str(tmp_path / name)))
    assert keys(open_source("table", str(tmp_path / "empty.csv"))) == []


# -- stdin ---------------------------------------------------------------------------------------------------------


def test_stdin_can_be_listed_twice() -> None:
    source = REGISTRY.load("stdin")("-", stream=io.BytesIO("one\n\n  \ntwö\none\r\n\xff".encode("latin-1")))
    first = texts(source)
    assert list(first.values())[:1] == ["one"] and list(first.values())[2] == "one"
    assert sum("not UTF-8" in text for text in first.values()) == 2
    assert texts(source) == first


def test_stdin_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = io.BytesIO(b'{"body": "text", "key": 7, "n": 1}\n')

    monkeypatch.setattr("sys.stdin", Piped)
    source = open_source("stdin", "-", form="jsonl", text="body", id="key", meta=["n"])
    (item,) = source.items()
    assert (item.key, item.read()) == ("7", Document("text", meta={"n": 1}))


# -- URLs ----------------------------------------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    """Pages, redirects, and what servers do at their worst."""

    pages: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}
    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path == "/endless":
            return self._endless(2**16, 0.0)
        if self.path == "/slow":
            return self._endless(1, 0.02)
        status, headers, body = self.pages.get(self.path, (404, {}, b"no"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def _endless(self, size: int, pause: float) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * size)
                time.sleep(pause)
        except OSError:  # who asked has gone
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Quiet(ThreadingHTTPServer):
    """A server of this machine."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of those who hang up."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = Quiet(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    html = b"<html><head><title>T</title></head><body><h1>Hi</h1><p>there</p></body></html>"

    def page(media: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": media}, body

    def moved(to: str, status: int = 302) -> tuple[int, dict[str, str], bytes]:
        return status, {"Location": to}, b""

    Site.pages = {
        "/": page("text/html; charset=UTF-8", html),
        "/page?x=1": page("text/html", html),
        "/file": page("application/pdf", sample_documents.pdf([sample_documents.column("A paper.")])),
        "/raw/readme.md": page("text/plain; charset=utf-8", b"# Title"),
        "/latin": page("text/plain; charset=ISO-8859-1", "Käse \x80".encode("latin-1")),
        "/data.bin": page("application/octet-stream", html),
        "/moved": moved("/"),
        "/moved-far": moved(f"http://localhost:{server.server_port}/", 301),
        "/loop": moved("/loop"),
        "/to-private": moved("http://127.0.0.2:1/"),
        "/to-metadata": moved("http://169.254.169.254/latest/meta-data"),
        "/to-file": moved("file:///etc/passwd"),
        "/error": (500, {}, b"oh"),
        "/bomb": (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(10**7))),
        "/zipped": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, gzip.compress(b"small")),
    }
    yield base
    server.shutdown()
    server.server_close()


def urls(location: str, **options: Any) -> list[SourceItem]:
    return list(open_source("urls", location, **{"allow_private": ["127.0.0.1/32"], **options}).items())


def fetched(location: str, **options: Any) -> NamedBytes:
    (item,) = urls(location, **options)
    data = item.read()
    assert isinstance(data, NamedBytes) and item.stamp is None
    return data


def refused(location: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        fetched(location, **options)
    return str(caught.value)


@pytest.mark.network
@pytest.mark.parametrize(
    ("path", "suffix", "kind"),
    [
        ("/", "/index.html", "html"),
        ("/page?x=1", "/page.html", "html"),
        ("/file", "/file.pdf", "pdf"),
        ("/raw/readme.md", "/raw/readme.md", "markdown"),
        ("/latin", "/latin.txt", "text"),
        ("/data.bin", "/data.bin", "html"),
        ("/moved", "/index.html", "html"),
    ],
)
def test_pages_and_their_types(site: str, path: str, suffix: str, kind: str) -> None:
    from nearfield.corpus.extractors.reader import kind_of

    data = fetched(site + path)
    assert data.name == site + suffix
    assert kind_of(data, data.name) == kind


@pytest.mark.network
def test_headers_of_a_request_and_the_encoding_of_a_page(site: str) -> None:
    Site.asked.clear()
    assert fetched(site + "/latin") == codecs.BOM_UTF8 + "Käse €".encode()
    path, headers = Site.asked[-1]
    assert path == "/latin" and headers["host"] == site.removeprefix("http://")
    assert headers["user-agent"].startswith("nearfield/") and "authorization" not in headers


@pytest.mark.network
def test_a_list_of_urls(site: str, tmp_path: Path) -> None:
    listed = tmp_path / "urls.txt"
    listed.write_text(f"\ufeff# pages\n\n{site}/\n  {site}/file \n{site}/#part\nnonsense\n", encoding="utf-8")
    items = urls(str(listed))
    assert [item.key for item in items] == [f"{site}/", f"{site}/file", "nonsense"]
    with pytest.raises(InputError, match=r"only http:// and https:// URLs are fetched"):
        items[2].read()
    with pytest.raises(InputError, match="There is no file"):
        urls(str(tmp_path / "none.txt"))


@pytest.mark.network
def test_names_are_looked_up_once_and_asked_at_that_address(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere the second time (rebinding) finds no second time."""
    port = site.rpartition(":")[2]
    answers = iter([["127.0.0.1"]])
    monkeypatch.setattr(url_safety, "resolve", lambda host, port: next(answers))
    Site.asked.clear()
    assert fetched(f"http://docs.example:{port}/").name == f"http://docs.example:{port}/index.html"
    assert Site.asked[-1][1]["host"] == f"docs.example:{port}"


@pytest.mark.network
def test_redirects_are_checked_like_the_first(site: str) -> None:
    assert "127.0.0.2, which is no public address" in refused(site + "/to-private")
    assert "169.254.169.254, which is no public address" in refused(site + "/to-metadata")
    assert "only http:// and https:// URLs are fetched" in refused(site + "/to-file")
    assert "more than 5 redirects" in refused(site + "/loop")
    assert "no public address" in refused(site + "/", allow_private=False)
    assert fetched(site + "/moved-far", allow_private=True).name.startswith("http://localhost:")


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:1/", "http://127.0.0.2:1/", "http://2130706433:1/", "http://0x7f.1:1/", "http://[::1]:1/",
        "http://[::ffff:10.0.0.1]:1/", "http://[64:ff9b::a00:1]:1/", "http://0.0.0.0:1/", "http://[fe80::1]:1/",
    ],
)  # fmt: skip
def test_private_addresses_in_any_writing_are_refused(location: str) -> None:
    assert "no public address" in refused(location, allow_private=False)


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("93.184.215.14", "192.168.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert "rebound.example is at 192.168.0.1" in refused("http://rebound.example/", allow_private=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("::ffff:93.184.215.14", True),
        ("64:ff9b::5db8:d70e", True), ("10.1.2.3", False), ("100.64.0.1", False), ("169.254.169.254", False),
        ("172.31.0.1", False), ("192.168.1.1", False), ("198.18.0.1", False), ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False), ("0.1.2.3", False), ("::", False), ("::1", False), ("::127.0.0.1", False),
        ("fc00::1", False),
        ("fe80::1", False), ("fec0::1", False), ("ff02::1", False), ("2001:db8::1", False), ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False), ("::ffff:192.168.0.1", False), ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    import ipaddress

    assert url_safety.is_public(ipaddress.ip_address(address)) is public


@pytest.mark.network
def test_servers_at_their_worst(site: str) -> None:
    assert "larger than 1,000,000 bytes" in refused(site + "/endless", largest=10**6)
    assert fetched(site + "/zipped") == b"small"
    assert "larger than 1,000,000 bytes" in refused(site + "/bomb", largest=10**6)
    assert "not fetched within 0.5 seconds" in refused(site + "/slow", seconds=0.5)
    assert "answered 404 Not Found" in refused(site + "/none")
    assert "answered 500" in refused(site + "/error")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "cannot be fetched" in refused(f"http://127.0.0.1:{port}/")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        port = silent.getsockname()[1]
        assert "not fetched within 0.3 seconds" in refused(f"http://127.0.0.1:{port}/", seconds=0.3)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext, list[Any]]]:
    """Serve docs.example by TLS; give the port, a context that trusts it, and the names that were asked for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "docs.example")])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("docs.example")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = tmp_path / "chain.pem"
    chain.write_bytes(secret + made.sign(key, hashes.SHA256()).public_bytes(pem))
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(chain)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = Quiet(("127.0.0.1", 0), Site)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server.server_port, ssl.create_default_context(cafile=str(chain)), asked
    server.shutdown()
    server.server_close()


@pytest.mark.network
def test_certificates_are_checked_for_the_name(
    site: str, secure: tuple[int, ssl.SSLContext, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, context, asked = secure
    monkeypatch.setattr(url_safety, "resolve", lambda host, port: ["127.0.0.1"])
    monkeypatch.setattr("nearfield.corpus.sources.urls._ssl_context", lambda: context)
    assert fetched(f"https://docs.example:{port}/raw/readme.md") == b"# Title"
    assert asked == ["docs.example"]
    assert "certificate" in refused(f"https://other.example:{port}/")


@pytest.mark.parametrize("location", ["http://", "ftp://x/a", "http://user:secret@127.0.0.1/", "http://[::1"])
def test_what_is_no_url_of_a_page(location: str) -> None:
    assert "fetched" in refused(location) and "secret" not in refused(location)
