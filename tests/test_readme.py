"""The examples of the README and the guides, executed unchanged."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from nearfield import Encoder, settings
from nearfield.cli import app
from nearfield.cli.demo import text as demo
from nearfield.errors import SourceUnavailable
from tests.parity import m3
from tests.parity.scores import classifier
from tests.support import scene_films, tiny_pictures, tiny_retrievers, tiny_sounds
from tests.support.paths import ROOT
from tests.support.requirements import missing
from tests.support.serving import serving

GUIDES = ROOT / "docs" / "guides"
COMMAND_PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/index.md", "docs/contributing.md")),
    *sorted(GUIDES.glob("*.md")),
)
#: Programs of others that the pages show beside ours.
OTHER_PROGRAMS = {
    "cat",
    "curl",
    "chmod",
    "cp",
    "docker",
    "export",
    "grpcurl",
    "kubectl",
    "mkdir",
    "pip",
    "podman",
    "python3",
    "systemctl",
}


def _blocks(page: Path, kind: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


EXAMPLES = _blocks(ROOT / "README.md", "python")
SWITCH = [
    *(block for kind in ("python", "py") for block in _blocks(GUIDES / "switch.md", kind)),
    # Of a difference, the new lines.
    *(re.sub(r"^-.*\n|^[+ ]", "", block, flags=re.M) for block in _blocks(GUIDES / "switch.md", "diff")),
]
PICTURES = _blocks(GUIDES / "pictures.md", "python")
PAGES = next(block for block in PICTURES if "colmodernvbert" in block)
ENCODE, RERANK, SERVE = (_blocks(GUIDES / f"{name}.md", "python") for name in ("encode", "rerank", "serve"))


def _command_lines() -> Iterator[str]:
    """Yield every command line of the pages, without its comment."""
    for page in COMMAND_PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        yield from re.findall(r"^\$ (.+?)(?:\s+#.*)?$", text, re.M)


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    """The default model."""
    try:
        return Encoder("all-MiniLM-L6-v2")
    except SourceUnavailable as error:
        return missing(f"the model cannot be fetched: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("example", [EXAMPLES[0], ENCODE[0]], ids=["readme", "guide"])
def test_the_python_example(minilm: Encoder, example: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(example, names)
    scores = np.array(re.findall(r"[\d.]+", capsys.readouterr().out), float)
    promised = np.array(re.findall(r"\d\.\d+", example.split("# about [[")[1]), float)
    np.testing.assert_allclose(scores, promised, atol=0.02)
    assert np.asarray(names["documents"]).shape == (2, 384)
    assert np.asarray(names["documents"]).dtype == np.float32


@pytest.mark.slow
@pytest.mark.usefixtures("minilm")
def test_the_example_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(ENCODE[1], {})
    counts, part, kind, *rows = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[\s*\d+\s+\d+\s+\d+\]", counts)
    assert part.endswith("] True")
    assert kind == "<class 'numpy.ndarray'>"
    scores = [float(score) for score in re.findall(r"-?\d\.\d+", " ".join(rows))]
    assert len(scores) == 3 and scores[0] == max(scores)


@pytest.mark.slow
@pytest.mark.parametrize("example", [EXAMPLES[3], ENCODE[2] + RERANK[0]], ids=["readme", "guides"])
def test_the_example_of_several_outputs(example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = {
        "BAAI/bge-m3": m3.write(tmp_path),
        "cross-encoder/ms-marco-MiniLM-L6-v2": classifier("bert", activation="Identity")(tmp_path),
    }
    code = example
    for name, folder in tiny.items():
        assert name in code
        code = code.replace(name, str(folder))
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("(1, 32) {") and re.fullmatch(r"[01] -?\d+\.\d+", second)


@pytest.mark.slow
@pytest.mark.parametrize("example", PICTURES[:2], ids=["search", "labels"])
def test_the_examples_of_pictures(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tiny_pictures.write_clip(tmp_path / "clip")
    (tmp_path / "photos").mkdir()
    for name, picture in zip(("hat", "shoe"), tiny_pictures.pictures(), strict=False):
        picture.save(tmp_path / "photos" / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    assert "google/siglip2-base-patch16-224" in example
    exec(example.replace("google/siglip2-base-patch16-224", str(clip)), {})
    first, second = capsys.readouterr().out.split(maxsplit=1)
    assert (first in ("shoe", "hat") and "'hat'" in second) or second.strip() == "photos/hat.jpg"


@pytest.mark.slow
def test_the_example_of_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "walk.mp4").write_bytes(scene_films.write_scenes(scene_films.SceneFilm((2.0,), seconds=5)))
    monkeypatch.chdir(tmp_path)
    exec(next(block for block in PICTURES if "SplitRule" in block), {})
    assert capsys.readouterr().out == "0.0 2.0\n2.0 5.0\n"


@pytest.mark.slow
def test_the_example_of_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_retrievers.colpali(tmp_path / "model")
    (tmp_path / "pages").mkdir()
    for name, picture in zip(("1", "2"), tiny_pictures.pictures(), strict=False):
        picture.save(tmp_path / "pages" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    exec(PAGES.replace("colmodernvbert", str(folder)), {})
    assert re.fullmatch(r"pages/[12]\.png 32", capsys.readouterr().out.strip())


@pytest.mark.slow
def test_the_example_of_sounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile  # type: ignore[import-untyped]

    (tmp_path / "sounds").mkdir()
    for name, pitch in (("rain", 5000), ("bell", 700)):
        soundfile.write(tmp_path / "sounds" / f"{name}.wav", tiny_sounds.tone(0.5, pitch), tiny_sounds.RATE)
    monkeypatch.chdir(tmp_path)
    (example,) = [code for code in _blocks(GUIDES / "pictures.md", "python") if "laion/clap" in code]
    clap = tiny_sounds.write_clap(tmp_path / "clap")
    exec(example.replace("laion/clap-htsat-unfused", str(clap)), {})
    place, label = capsys.readouterr().out.split()
    assert place in ("0", "1") and label in ("rain", "bell")


@pytest.mark.slow
def test_the_example_of_a_collection(
    minilm: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path))
    exec(EXAMPLES[2], {})
    assert capsys.readouterr().out.strip().endswith("Mont Blanc rises 4,806 m above sea level.")


@pytest.mark.network
@pytest.mark.parametrize("example", [EXAMPLES[1], SERVE[0], demo.CLIENT], ids=["readme", "guide", "demo"])
def test_the_client_example(minilm: Encoder, example: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving([minilm]) as url:
        assert "http://127.0.0.1:8080" in example
        names: dict[str, Any] = {}
        exec(example.replace("http://127.0.0.1:8080", url), names)
        names["client"].close()
    assert capsys.readouterr().out.startswith(("384", "["))


@pytest.mark.parametrize("example", SWITCH)
def test_the_examples_of_a_switch_compile_and_import_what_is_there(example: str) -> None:
    """The rest of them needs models: tests/compat and tests/integrations run the same calls on tiny ones."""
    tree = ast.parse(example)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert any((node.module or "").startswith("nearfield.") for node in imports)
    for node in imports:
        package = (node.module or "").partition(".")[0]
        if package != "nearfield":
            pytest.importorskip(package)
        module = importlib.import_module(node.module or "")
        assert not [name.name for name in node.names if not hasattr(module, name.name)]


def test_every_command_in_the_pages_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    lines = list(_command_lines())
    assert len(lines) > 50
    for line in lines:
        first, *words = shlex.split(line.split(" | ")[-1])
        first = first.removeprefix("/opt/nearfield/bin/")
        if first == "make":
            assert set(words) <= set(targets), line
        elif first == "nearfield":
            _parse(commands[words[0]], words[1:])
        else:
            assert first in OTHER_PROGRAMS, line


def _parse(command: Any, words: list[str]) -> None:
    """Read a command's words without running it: an unknown option or a wrong value raises."""
    if hasattr(command, "commands"):
        first = words[0] if words else ""
        name = first if first in command.commands else getattr(command, "default_command", first)
        command, words = command.commands[name], words[1:] if name == first else words
    command.make_context(command.name, words)


def test_the_settings_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = _blocks(GUIDES / "serve.md", "toml")
    (tmp_path / "nearfield.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert settings.load().models == ("all-MiniLM-L6-v2",)
