"""Files with many documents: archives, mailboxes, large tables and exported conversations."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.document import Document, SourceItem
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.sources import file_parts, open_source
from nearfield.corpus.sources.archives import archive_listing, tar_members
from nearfield.corpus.sources.files import FileSource
from nearfield.corpus.sources.spec import parse_source
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from tests.support import sample_documents, sample_files


def items(folder: Path, **options: Any) -> dict[str, SourceItem]:
    return {item.key: item for item in open_source("files", str(folder), **options).items()}


def texts(folder: Path, **options: Any) -> dict[str, str]:
    """Return the texts of documents by key; of those that cannot be read, what is wrong."""
    result = {}
    with DocumentReader() as reader:
        for key, item in items(folder, **options).items():
            try:
                result[key] = reader.read(item)[0].text
            except InputError as error:
                result[key] = f"! {error}"
    return result


# -- zip archives --------------------------------------------------------------------------------------------------


@pytest.mark.process
def test_members_of_an_archive(tmp_path: Path) -> None:
    inner = sample_files.zip_file({"deep.txt": "Deep text.", "x/deeper.md": "# Deeper"})
    files: dict[str, bytes | str] = {
        "a.txt": "Text of a member.", "folder/b.md": "# Title\n\nMore.", "photo.xyz": b"\x89PNG\0",
        "page.pdf": sample_documents.pdf([sample_documents.column("A page of it.")]), "inner.zip": inner,
        "__MACOSX/a.txt": "no", ".hidden.txt": "no", "node_modules/x/readme.md": "no", "../up.txt": "Not above.",
        "empty.txt": "", "rows.csv": "city,people\nOslo,700000\n",
    }  # fmt: skip
    (tmp_path / "a.zip").write_bytes(sample_files.zip_file(files))
    source = open_source("files", str(tmp_path))
    listed = [item.key for item in source.items()]
    assert listed == [item.key for item in source.items()]
    assert source.skipped == [("a.zip!/photo.xyz", "no extractor for .xyz")]
    result = texts(tmp_path)
    assert list(result) == listed
    assert result["a.zip!/a.txt"] == "Text of a member." and "A page of it." in result["a.zip!/page.pdf"]
    assert result["a.zip!/inner.zip!/deep.txt"] == "Deep text." and "a.zip!/inner.zip!/x/deeper.md" in result
    assert result["a.zip!/up.txt"] == "Not above." and "the file is empty" in result["a.zip!/empty.txt"]
    assert result["a.zip!/rows.csv"] == "city: Oslo\npeople: 700000"
    assert not any("MACOSX" in key or "hidden" in key or "node_modules" in key for key in result)
    assert texts(tmp_path / "a.zip")["a.zip!/a.txt"] == "Text of a member."
    assert "a.zip!/a.txt" not in texts(tmp_path, exclude=["a.txt"])


def test_stamps_of_members_change_with_their_content(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(sample_files.zip_file({"a.txt": "one", "b.txt": "two"}))
    before = {key: item.stamp for key, item in items(tmp_path).items()}
    path.write_bytes(sample_files.zip_file({"a.txt": "one!", "b.txt": "two"}))
    after = {key: item.stamp for key, item in items(tmp_path).items()}
    assert before["a.zip!/a.txt"] != after["a.zip!/a.txt"]


def test_what_is_beyond_a_limit_is_named_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_listing, "MAX_MEMBERS", 9)
    many = {f"{number:02}.txt": f"Text {number}." for number in range(12)}
    (tmp_path / "many.zip").write_bytes(sample_files.zip_file({**many, "photo.xyz": "x", ".hidden": "x"}))
    (tmp_path / "damaged.zip").write_bytes(sample_files.zip_file({"a.txt": "x"})[:30])
    (tmp_path / "note.txt").write_text("A note.")
    nested = sample_files.zip_file({"a.txt": "too deep"})
    for _ in range(5):
        nested = sample_files.zip_file({"n.zip": nested, "near.txt": "near"})
    (tmp_path / "nested.zip").write_bytes(nested)
    result = texts(tmp_path)
    assert "! many.zip: 3 of its files are not read, since an archive may have 9" in result["many.zip"]
    assert [key for key in result if key.startswith("many.zip!/")] == [f"many.zip!/{n:02}.txt" for n in range(9)]
    assert "damaged" in result["damaged.zip"] and result["note.txt"] == "A note."
    assert result["nested.zip!/near.txt"] == "near"
    assert "more than 3 deep" in result["nested.zip!/n.zip!/n.zip!/n.zip"]


@pytest.mark.process
def test_a_member_that_unpacks_to_much_more_is_read(tmp_path: Path) -> None:
    rows = "name,note\n" + f"Ann,{'word ' * 900}\n" * 1000
    assert len(rows) > 2**22 and len(rows) > 250 * len(sample_files.zip_file({"rows.csv": rows}))
    files: dict[str, bytes | str] = {"rows.csv": rows, "zeros.txt": bytes(2**24), "note.txt": "A note."}
    (tmp_path / "a.zip").write_bytes(sample_files.zip_file(files))
    result = texts(tmp_path)
    assert result["a.zip!/rows.csv"].count("name: Ann\nnote: word") == 1000
    assert result["a.zip!/note.txt"] == "A note." and set(result) == {
        "a.zip!/rows.csv", "a.zip!/zeros.txt", "a.zip!/note.txt",
    }  # fmt: skip


def test_a_member_that_is_too_large_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_listing, "MAX_UNPACKED", 2500)
    monkeypatch.setattr(archive_listing, "_MAX_INNER_BYTES", 900)
    inner = sample_files.zip_file({"d.txt": "inner " * 300}, zipfile.ZIP_STORED)
    files: dict[str, bytes | str] = {"a.txt": "word " * 200, "b.txt": "x" * 5000, "c.txt": "word " * 200}
    (tmp_path / "a.zip").write_bytes(sample_files.zip_file({**files, "e.txt": "word " * 200, "z.txt": "last"}))
    (tmp_path / "b.zip").write_bytes(sample_files.zip_file({"inner.zip": inner, "note.txt": "A note."}))
    result = texts(tmp_path, largest=4000)
    assert result["a.zip!/a.txt"] == result["a.zip!/c.txt"] == "word " * 200 and result["a.zip!/z.txt"] == "last"
    assert "larger than 4,000 bytes" in result["a.zip!/b.txt"]
    assert "! a.zip!/e.txt: not read, since the files of its archive would unpack to more" in result["a.zip!/e.txt"]
    assert "an archive in an archive may have 900 bytes" in result["b.zip!/inner.zip"]
    assert result["b.zip!/note.txt"] == "A note."


def test_members_whose_names_become_the_same_are_all_read(tmp_path: Path) -> None:
    files = [
        ("a.txt", "one"), ("./a.txt", "two"), ("A.txt", "three"), ("x/../a.txt", "four"), ("d/b.txt", "five"),
        ("d\\b.txt", "six"), ("a (2).txt", "seven"), ("e\u0301.txt", "eight"), ("\u00e9.txt", "nine"),
        ("//a.txt", "one"), ("d\\", ""), ("x/a.txt", "ten"),
    ]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, text in files:
            file.writestr(name, text)
    listed = items(tmp_path)
    assert [item.key for item in open_source("files", str(tmp_path)).items()] == list(listed)
    result = texts(tmp_path)
    assert sorted(result.values()) == sorted({text for _, text in files if text})
    assert {key.partition("!/")[2]: text for key, text in result.items()} == {
        "a.txt": "one", "a (3).txt": "two", "A.txt": "three", "x/a.txt": "four", "d/b.txt": "five",
        "d/b (2).txt": "six", "a (2).txt": "seven", "e\u0301.txt": "eight", "\u00e9.txt": "nine", "x/a (2).txt": "ten",
    }  # fmt: skip


def test_members_of_the_same_name_are_all_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.txt", "first version")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.txt", "second version")
    assert texts(tmp_path)["a.zip!/a.txt"] == "first version"
    assert texts(tmp_path)["a.zip!/a (2).txt"] == "second version"


def test_links_in_an_archive_are_named(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "a.txt")
        file.writestr("a.txt", "Text.")
    source = open_source("files", str(tmp_path))
    assert [item.key for item in source.items()] == ["a.zip!/a.txt"]
    assert source.skipped == [("a.zip!/link.txt", "a link")]


def test_encrypted_and_damaged_members(tmp_path: Path) -> None:
    data = bytearray(sample_files.zip_file({"a.txt": "secret text " * 9, "b.txt": "open text"}, zipfile.ZIP_STORED))
    encrypted = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + offset] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    data[data.index(b"secret")] = ord("X")
    (tmp_path / "damaged.zip").write_bytes(data)
    result = texts(tmp_path)
    assert "encrypted. Unpack" in result["encrypted.zip!/a.txt"]
    assert "damaged in the archive" in result["damaged.zip!/a.txt"]
    assert result["encrypted.zip!/b.txt"] == result["damaged.zip!/b.txt"] == "open text"
    assert "larger than 20 bytes" in texts(tmp_path, largest=20)["damaged.zip!/a.txt"]


def test_members_that_cannot_be_unpacked_say_why_and_cost_no_other(tmp_path: Path) -> None:
    inner = sample_files.zip_file({"c.txt": "text c", "d.txt": "text d"})
    plain = sample_files.zip_file({"in.zip": inner, "x.txt": "text x"}, zipfile.ZIP_STORED)
    for name, local, central, value in (("method.zip", 8, 10, 97), ("locked.zip", 6, 8, 1)):
        changed = bytearray(plain)
        changed[local], changed[plain.index(b"PK\x01\x02", len(inner)) + central] = value, value
        (tmp_path / name).write_bytes(changed)
    result = texts(tmp_path)
    assert "compressed by a method that cannot be read" in result["method.zip!/in.zip"]
    assert "encrypted. Unpack the archive" in result["locked.zip!/in.zip"]
    assert result["method.zip!/x.txt"] == result["locked.zip!/x.txt"] == "text x" and len(result) == 4


@pytest.mark.process
def test_a_document_whose_name_says_zip(tmp_path: Path) -> None:
    (tmp_path / "book.zip").write_bytes(sample_files.epub({"one": "<p>The text of a chapter.</p>"}))
    assert texts(tmp_path) == {"book.zip": "The text of a chapter."}


# -- tars ----------------------------------------------------------------------------------------------------------


def tar_file(entries: Sequence[tuple[str, bytes | str, dict[str, Any]]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of entries: name, content, and attributes of the header."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as writer:
        for name, content, header in entries:
            info, data = tarfile.TarInfo(name), content.encode() if isinstance(content, str) else content
            info.size = len(data)
            for field, value in header.items():
                setattr(info, field, value)
            writer.addfile(info, io.BytesIO(data))
    return target.getvalue()


PACKERS: dict[str, Any] = {
    "a.tar": bytes,
    "a.tar.gz": gzip.compress,
    "a.tbz2": bz2.compress,
    "a.tar.xz": lzma.compress,
    "a.tar.zst": lambda data: pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("name", PACKERS)
def test_members_of_a_tar(tmp_path: Path, name: str) -> None:
    """They are listed in their order; names and links lead nowhere, and each can be read again by its key."""
    link: dict[str, Any] = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    entries: list[tuple[str, bytes | str, dict[str, Any]]] = [
        ("z.txt", "The last by name.", {}), ("folder", "", {"type": tarfile.DIRTYPE}), ("folder/b.md", "# Title", {}),
        ("../../up.txt", "Not above.", {}), ("/etc/absolute.txt", "Not from the root.", {}), ("link.txt", "", link),
        ("hard.txt", "", {"type": tarfile.LNKTYPE, "linkname": "z.txt"}), ("pipe.txt", "", {"type": tarfile.FIFOTYPE}),
        ("in.zip", sample_files.zip_file({"deep.txt": "Deep text."}), {}), ("x" * 150 + ".txt", "A long name.", {}),
        ("in.tgz", gzip.compress(tar_file([("deep.txt", "Deeper text.", {})])), {}), ("z.txt", "A second version.", {}),
        ("caf\udce9.txt", "A name in Latin-1.", {}), ("device.txt", "", {"type": tarfile.CHRTYPE}),
    ]  # fmt: skip
    (tmp_path / name).write_bytes(PACKERS[name](tar_file(entries, tarfile.GNU_FORMAT)))
    source = open_source("files", str(tmp_path))
    expected = {
        "z.txt": "The last by name.", "folder/b.md": "# Title", "up.txt": "Not above.",
        "etc/absolute.txt": "Not from the root.", "in.zip!/deep.txt": "Deep text.", "x" * 150 + ".txt": "A long name.",
        "in.tgz!/deep.txt": "Deeper text.", "caf\\xe9.txt": "A name in Latin-1.", "z (2).txt": "A second version.",
    }  # fmt: skip
    read = {item.key: item.read() for item in source.items()}
    assert read == {f"{name}!/{key}": text.encode() for key, text in expected.items()}
    assert next(iter(read)) == f"{name}!/z.txt"
    skipped = {
        "link.txt": "a link",
        "hard.txt": "a link",
        **dict.fromkeys(("pipe.txt", "device.txt"), "not a regular file"),
    }
    assert dict(source.skipped) == {f"{name}!/{key}": reason for key, reason in skipped.items()}
    assert isinstance(source, FileSource)
    for key, data in reversed(read.items()):
        item = source.file_of(key)
        assert item is not None and item.read() == data


def test_tars_that_are_damaged_or_bombs_cost_only_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tar_file([("a.txt", "text a", {}), ("b.txt", "text b", {})])
    blocks = good[:1024]  # the first member, without an end
    huge = tarfile.TarInfo("huge.txt")
    huge.size = 2**40
    negative = bytearray(tarfile.TarInfo("negative.txt").tobuf())
    negative[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in base 256
    negative[148:156] = b"%06o\0 " % (sum(negative) - sum(negative[148:156]) + 8 * 32)
    extension = tarfile.TarInfo("x")
    extension.type, extension.size = tarfile.XHDTYPE, 2**31
    packed = gzip.compress(good)
    cases: dict[str, tuple[bytes, str]] = {
        "cut.tar": (blocks, "cut off at byte 1,024"),
        "damaged.tar": (blocks + b"x" * 1024, "damaged at byte 1,024"),
        "zeros.tar.gz": (gzip.compress(blocks + huge.tobuf() + bytes(2**20)), "has more than 50,000 bytes"),
        "negative.tar": (blocks + bytes(negative) + bytes(1024), "a negative size"),
        "extension.tar": (blocks + extension.tobuf() + bytes(2048), "headers are too large"),
        "many.tar": (tar_file([("a.txt", "text a", {}), *((f"{n}.xyz", "", {}) for n in range(20))]), "10 entries"),
        "cut.tar.gz": (packed[: len(packed) // 2], "damaged, or no tar"),
        "none.tar": (b"no tar at all" * 100, "damaged, or no tar"),
        "memory.tar.xz": (_with_large_dictionary(good), "Memory usage limit exceeded"),
    }
    monkeypatch.setattr(archive_listing, "MAX_UNPACKED", 50_000)
    monkeypatch.setattr(tar_members, "_MAX_ENTRIES", 10)
    for name, (data, _) in cases.items():
        (tmp_path / name).write_bytes(data)
    result = texts(tmp_path)
    for name, (_, problem) in cases.items():
        assert problem in result[name], result[name]
        assert ("no tar" in result[name]) != (result.get(f"{name}!/a.txt") == "text a")


def _with_large_dictionary(data: bytes) -> bytes:
    """Return data as xz that asks for two GiB of memory: the size is in the header of its first block."""
    packed = bytearray(lzma.compress(data))
    end = 12 + 4 * packed[12]
    packed[16] = 38
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    return bytes(packed)


# -- mailboxes -----------------------------------------------------------------------------------------------------


@pytest.mark.process
def test_messages_of_a_mailbox_are_documents(tmp_path: Path) -> None:
    first = b"Message-ID: <1@x>\n" + sample_files.mail("One", "First text here.")
    second = sample_files.mail("Two", "Second text here.")
    path = tmp_path / "in.mbox"
    path.write_bytes(sample_files.mailbox([first, second, first]))
    result = texts(tmp_path)
    assert list(result) == ["in.mbox!/1@x", "in.mbox!/message 2", "in.mbox!/1@x (2)"]
    assert "First text here." in result["in.mbox!/1@x"] and "Second text" in result["in.mbox!/message 2"]
    path.write_bytes(path.read_bytes() + sample_files.mailbox([b"Message-ID: <4@x>\n" + second]))
    assert list(texts(tmp_path))[:3] == list(result) and "in.mbox!/4@x" in items(tmp_path)
    (tmp_path / "none.mbox").write_text("nothing of a mailbox")
    assert "no messages" in texts(tmp_path)["none.mbox"]


# -- tables in a folder --------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.csv", "city,people,note\nOslo,700000,\n\nRome,2800000,\"old, large\"\n",
         "city: Oslo\npeople: 700000\n\ncity: Rome\npeople: 2800000\nnote: old, large"),
        ("a.csv", "city;people\nOslo;700000;extra\nRome\n",
         "city: Oslo\npeople: 700000\ncolumn 3: extra\n\ncity: Rome"),
        ("a.tsv", "2024\t5\t3.5\n2025\t6\t7\n",
         "column 1: 2024\ncolumn 2: 5\ncolumn 3: 3.5\n\ncolumn 1: 2025\ncolumn 2: 6\ncolumn 3: 7"),
        ("a.csv", "Report of May\n\nregion;price\nNorth;3,50\nSouth;4,20\n",
         "Report of May\n\nregion: North\nprice: 3,50\n\nregion: South\nprice: 4,20"),
        ("a.csv", "name\nAnn\nBob, Jr.\n", "name: Ann\n\nname: Bob\ncolumn 2: Jr."),
        ("a.csv", "sep=;\nid;name\n1;Ann\n", "id: 1\nname: Ann"),
        ("a.csv", "sep=,\nid,name\n1,Ann; Bob\n", "id: 1\nname: Ann; Bob"),
        ("a.csv", '"sep=;"\nid;name\n1;Ann, Bob\n', "id: 1\nname: Ann, Bob"),
        ("a.csv", "sep=^\nid^name\n1^Ann, Bob\n", "id: 1\nname: Ann, Bob"),
        ("a.csv", "id,first name\n", "id, first name"),
        ("a.csv", "id;name\n;\n\n", "id, name"),
        ("a.jsonl", '{\n  "a": 1,\n  "b": [2, 3]\n}\n{\n  "a": 4.50\n}\n', "a: 1\nb: 2, 3\n\na: 4.50"),
        ("a.jsonl", '[\n  {"a": 1},\n  {"a": 12345678901234567890.5}\n]\n', "a: 1\n\na: 12345678901234567890.5"),
        ("a.ndjson", '[{"a": 1}, {"a": 2}]\n', "a: 1\n\na: 2"),
        ("a.jsonl", '{"a": 1, "b": {"c": 2, "c": 3}, "a": 4}\n', "a: 1\nb.c: 2\nb.c: 3\na: 4"),
        ("a.csv", "region,2023,2024\nNorth,5,6\n", "region: North\n2023: 5\n2024: 6"),
        ("a.jsonl", '{"name": "Zo\\u00eb", "tags": ["a", "b"], "at": {"city": "Rome"}, "n": null}\n"text alone"\n',
         "name: Zoë\ntags: a, b\nat.city: Rome\n\ntext alone"),
        ("a.ndjson", '{"items": [{"id": 1}, {"id": 2}], "ok": true}\n', "items.id: 1\nitems.id: 2\nok: true"),
    ],
)  # fmt: skip
def test_rows_keep_the_names_of_their_columns(tmp_path: Path, name: str, data: str, text: str) -> None:
    (tmp_path / name).write_text(data)
    assert texts(tmp_path) == {name: text}
    with DocumentReader() as reader:
        document, _ = reader.read(items(tmp_path)[name])
    assert not document.losses and (document.visible_words or 0) <= count_words(document.text)


@pytest.mark.process
def test_rows_that_cannot_be_read_are_declared(tmp_path: Path) -> None:
    (tmp_path / "open_orders.csv").write_text('id,text\n1,"open\n2,second\n3,third\n')
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n{broken\n')
    (tmp_path / "c.jsonl").write_text("{broken\n")
    with DocumentReader() as reader:
        found = items(tmp_path)
        document, kind = reader.read(found["open_orders.csv"])
        assert kind == "delimited" and document.title == "open orders" and document.form == "table"
        assert document.text == 'id: 1\ntext: "open\n\nid: 2\ntext: second\n\nid: 3\ntext: third'
        assert document.losses[0].reason == "the cells of 1 row (damaged, or with an open quote; line 2)"
        assert document.visible_words is not None and document.visible_words == count_words(document.text)
        assert reader.read(found["b.jsonl"])[0].losses[0].reason.endswith("line 2)")
        with pytest.raises(InputError, match="no line of it is JSON"):
            reader.read(found["c.jsonl"])


@pytest.mark.process
def test_a_large_file_of_json_over_several_lines_is_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_parts, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(file_parts, "_GROUP_BYTES", 500)
    rows = [{"id": number, "text": f"Text of {number}."} for number in range(100)]
    (tmp_path / "a.jsonl").write_text("\n" + json.dumps(rows, indent=2))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(row, indent=2) for row in rows))
    result = texts(tmp_path)
    assert list(result) == ["a.jsonl", "b.jsonl"] and result["a.jsonl"] == result["b.jsonl"]
    assert result["a.jsonl"].endswith("id: 99\ntext: Text of 99.")


@pytest.mark.process
def test_large_tables_are_split_into_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_parts, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(file_parts, "_GROUP_BYTES", 500)
    rows = [f'{number},"text of\nrow {number}, with ""quotes"""' for number in range(100)]
    (tmp_path / "big.csv").write_text("id,text\n" + "\n".join(rows) + "\n")
    (tmp_path / "big.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(300)))
    result = texts(tmp_path)
    parts = [text for key, text in result.items() if key.startswith("big.csv!/rows ")]
    assert len(parts) > 3 and next(iter(result)).startswith("big.csv!/rows 1-")
    joined = "\n\n".join(parts)
    assert [f"row {number}, with" in joined for number in range(100)] == [True] * 100
    assert joined.count("id: ") == 100 and 'with "quotes"' in parts[-1]
    lines = "\n\n".join(text for key, text in result.items() if key.startswith("big.jsonl!/rows "))
    assert lines.split("\n\n") == [f"id: {number}" for number in range(300)]


# -- conversations -------------------------------------------------------------------------------------------------

SLACK: dict[str, Any] = {
    "users.json": [{"id": "U1", "name": "ann", "profile": {"real_name": "Ann Miller"}}, {"id": "U2", "name": "bob"}],
    "channels.json": [
        {"id": "C1", "name": "general", "members": ["U1", "U2"], "topic": {"value": "All of us"}, "purpose": {}}
    ],
    "general/2024-03-01.json": [
        {
            "type": "message",
            "user": "U1",
            "ts": "1709287200.000100",
            "text": "Hello <@U2>, see <https://x.org|the plan>",
        },
        {
            "type": "message",
            "user": "U2",
            "ts": "1709287260.000100",
            "thread_ts": "1709287200.000100",
            "text": "A &amp; B",
        },
    ],
    "general/2024-03-02.json": [
        {"type": "message", "user": "U9", "ts": "1709373600.0", "text": "", "files": [{"name": "plan.pdf"}]},
        {"type": "message", "username": "robot", "ts": "1709373700.0", "text": "", "attachments": [{"text": "built"}]},
    ],
    "random/2024-03-02.json": [{"type": "message", "user": "U1", "ts": "1709373600.0", "text": "something else"}],
}
GENERAL = """# #general

All of us

## 2024-03-01

10:00 Ann Miller: Hello @bob, see the plan (https://x.org)

10:01 (reply) bob: A & B

## 2024-03-02

10:00 U9: [file: plan.pdf]

10:01 robot: built"""


def test_channels_of_a_slack_export(tmp_path: Path) -> None:
    for name, data in SLACK.items():
        path = tmp_path / "folder" / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
    (tmp_path / "folder" / "note.txt").write_text("A note.")
    (tmp_path / "export.zip").write_bytes(sample_files.zip_file({k: json.dumps(v) for k, v in SLACK.items()}))
    result = texts(tmp_path)
    assert set(result) == {
        "folder/note.txt", "folder/export/general", "folder/export/random", "export.zip!/general", "export.zip!/random",
    }  # fmt: skip
    assert result["folder/export/general"] == result["export.zip!/general"] == GENERAL
    before = items(tmp_path)["folder/export/general"].stamp
    (tmp_path / "folder" / "export" / "general" / "2024-03-03.json").write_text("[]")
    after = items(tmp_path)
    assert after["folder/export/general"].stamp != before
    with DocumentReader() as reader:
        document, kind = reader.read(after["folder/export/general"])
    assert kind == "slack" and document.losses[0].reason == "1 attached file (the export has links only)"
    (tmp_path / "folder" / "export" / "random" / "2024-03-02.json").write_text("[{")
    assert "2024-03-02.json of the export is damaged" in texts(tmp_path)["folder/export/random"]


ANDROID = """12/31/23, 11:58 PM - Messages and calls are end-to-end encrypted.
12/31/23, 11:59 PM - Ann: Happy new year!
and a second line: yes
1/1/24, 12:01 AM - Bob: <Media omitted>
1/1/24, 12:02 AM - Bob: Thanks, see you at 12:30
"""
IPHONE = """[31.12.23, 23:59:01] Ann: Frohes neues Jahr
\u200e[01.01.24, 00:01:02] Bob: \u200eBild weggelassen
[01.01.24, 00:02:00] Bob: Danke
"""


def test_what_is_beside_an_export_is_not_lost(tmp_path: Path) -> None:
    for name in ("users.json", "channels.json", "rows.json"):
        (tmp_path / name).write_text('{"a": "no export"}')
    assert list(items(tmp_path)) == ["channels.json", "rows.json", "users.json"]
    files = {f"my export/{name}": json.dumps(data) for name, data in SLACK.items()}
    (tmp_path / "x.zip").write_bytes(
        sample_files.zip_file({**files, "my export/note.txt": "A note.", "top.txt": "Top."})
    )
    keys = [key for key in items(tmp_path) if key.startswith("x.zip")]
    assert keys == [
        f"x.zip!/{name}" for name in ("my export/general", "my export/random", "my export/note.txt", "top.txt")
    ]
    assert texts(tmp_path)["x.zip!/my export/general"] == GENERAL
    with zipfile.ZipFile(tmp_path / "x.zip") as archive_file:
        archive_file.extractall(tmp_path)
    listed = items(tmp_path)
    assert "my export/note.txt" in listed and "my export/general" in listed and "my export/users.json" not in listed


FRENCH = """31/12/2023 à 23:59 - Ann: Bonne année
01/01/2024 à 00:01 - Bob: Merci
"""


def test_chats_with_a_word_before_the_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(FRENCH)
    with DocumentReader() as reader:
        document, kind = reader.read(items(tmp_path)["a.txt"])
    assert kind == "whatsapp" and "## 2023-12-31\n\n23:59 Ann: Bonne année" in document.text


@pytest.mark.parametrize(("data", "speaker"), [(ANDROID, "11:59 PM Ann: Happy new year!\nand a second line: yes"),
                                               (IPHONE, "23:59:01 Ann: Frohes neues Jahr")])  # fmt: skip
def test_chats_of_whatsapp(tmp_path: Path, data: str, speaker: str) -> None:
    (tmp_path / "WhatsApp Chat with Ann.txt").write_text(data)
    with DocumentReader() as reader:
        (item,) = items(tmp_path).values()
        document, kind = reader.read(item)
    assert kind == "whatsapp" and document.title == "WhatsApp Chat with Ann"
    headings = [document.text[block.start : block.end] for block in document.blocks if block.level == 2]
    assert headings == ["2023-12-31", "2024-01-01"] and speaker in document.text
    assert document.losses[0].reason == "1 picture or other media that the export leaves out"


def test_texts_that_only_resemble_chats_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("2024-01-02 10:15:00 INFO start\n2024-01-02 10:15:01 INFO end\n")
    (tmp_path / "a.txt").write_text("12/31/23, 11:59 PM - the only line with a time\nand more\nand more\n")
    with DocumentReader() as reader:
        assert {reader.read(item)[1] for item in items(tmp_path).values()} == {"text"}
    (tmp_path / "chat.zip").write_bytes(sample_files.zip_file({"_chat.txt": IPHONE, "x.opus": b"\0"}))
    with DocumentReader() as reader:
        document, kind = reader.read(items(tmp_path)["chat.zip!/_chat.txt"])
    assert (kind, document.title) == ("whatsapp", "chat")


# -- encodings -----------------------------------------------------------------------------------------------------


def test_the_stated_encoding_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Привет".encode("cp866"))
    (tmp_path / "b.txt").write_text("Größe", encoding="utf-8")
    (tmp_path / "c.zip").write_bytes(sample_files.zip_file({"d.md": "Привет".encode("cp866")}))
    source = open_source("files", str(tmp_path), encoding="cp866")
    again = open_source("files", str(tmp_path), **source.options)
    with DocumentReader() as reader:
        documents: dict[str, Document] = {item.key: reader.read(item)[0] for item in again.items()}
    assert {key: document.text for key, document in documents.items()} == {
        "a.txt": "Привет", "b.txt": "Größe", "c.zip!/d.md": "Привет",
    }  # fmt: skip
    assert not any(document.losses for document in documents.values())
    assert items(tmp_path)["a.txt"].stamp != items(tmp_path, encoding="cp866")["a.txt"].stamp
    assert parse_source(str(tmp_path), encoding="cp866").options == source.options
    with pytest.raises(InputError, match="no encoding 'utf-9'"):
        open_source("files", str(tmp_path), encoding="utf-9")
