"""Office Open XML packages written part by part, for what the libraries that write them cannot express."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    f'xmlns:r="{_OFFICE}" xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
    'xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office"'
)


def word(body: str, parts: Mapping[str, str | bytes] | None = None, *, strict: bool = False) -> bytes:
    """Return a Word file of a body; ``parts`` are further parts by kind, such as "footnotes" or "header:h1".

    The id of a part's relationship is what comes after the colon, or its kind. An id with a dot is a file's name.
    """
    files: dict[str, str | bytes] = {
        "word/document.xml": f"<w:document {_NAMESPACES}><w:body>{body}</w:body></w:document>"
    }
    links = ""
    for name, content in (parts or {}).items():
        kind, _, identity = name.partition(":")
        target = identity if "." in identity else f"{identity or kind}.xml"
        files[f"word/{target}"] = content if isinstance(content, bytes) else content.replace("NS", _NAMESPACES, 1)
        links += f'<Relationship Id="{identity or kind}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
    files["word/_rels/document.xml.rels"] = f'<Relationships xmlns="{_PACKAGE}/relationships">{links}</Relationships>'
    files["_rels/.rels"] = (
        f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" Type="{_OFFICE}/officeDocument" '
        'Target="word/document.xml"/></Relationships>'
    )
    files["[Content_Types].xml"] = _content_types(files)
    return package(files, strict=strict)


def _content_types(files: Mapping[str, str | bytes]) -> str:
    """Return the part that LibreOffice needs to open a Word file."""
    media = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    kinds = {"word/document.xml": "document.main"} | {f"word/{kind}.xml": kind for kind in ("numbering", "styles")}
    types = "".join(
        f'<Override PartName="/{name}" ContentType="{media}.{kind}+xml"/>'
        for name, kind in kinds.items()
        if name in files
    )
    rels = "application/vnd.openxmlformats-package.relationships+xml"
    defaults = f'<Default Extension="rels" ContentType="{rels}"/>'
    defaults += '<Default Extension="xml" ContentType="application/xml"/>'
    return f'<Types xmlns="{_PACKAGE}/content-types">{defaults}{types}</Types>'


def package(files: Mapping[str, str | bytes], *, strict: bool = False) -> bytes:
    """Return a zip file of XML parts, in the strict form if asked for."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            if strict and isinstance(content, str):
                content = content.replace(_OFFICE, "http://purl.oclc.org/ooxml/officeDocument/relationships")
                for language in ("wordprocessingml", "drawingml", "spreadsheetml", "presentationml"):
                    transitional = f"http://schemas.openxmlformats.org/{language}/2006/"
                    content = content.replace(transitional, f"http://purl.oclc.org/ooxml/{language}/")
            file.writestr(name, content)
    return buffer.getvalue()


def paragraph(text: str, properties: str = "") -> str:
    """Return a Word paragraph."""
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}<w:r><w:t>{text}</w:t></w:r></w:p>"


def converted(data: bytes, suffix: str, target: str, folder: Path) -> bytes:
    """Return a file in another format, written by LibreOffice; skip the test without it."""
    program = shutil.which("soffice")
    if program is None:
        pytest.skip("no LibreOffice (soffice)")
    source = folder / f"file{suffix}"
    source.write_bytes(data)
    home = f"-env:UserInstallation=file://{folder}/profile"
    command = [program, home, "--headless", "--convert-to", target, "--outdir", str(folder / "out"), str(source)]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    result = folder / "out" / f"file.{target.partition(':')[0]}"
    if not result.exists():
        pytest.skip(f"LibreOffice wrote no file ({done.stderr.decode(errors='replace')[:200]})")
    return result.read_bytes()
