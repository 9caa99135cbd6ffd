"""Pictures on the command line: compared, classified and embedded, with the vectors that Python gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Image
from nearfield.cli.terminal.picture_arguments import PICTURE_MODEL, is_picture_file
from tests.support import cli_runner, tiny_pictures
from tests.support.cli_runner import Ran

pytestmark = pytest.mark.slow

Run = Callable[..., Ran]


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    return lambda *words: cli_runner.run(capsys, monkeypatch, *words)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def encoder(clip: Path) -> Encoder:
    return Encoder(str(clip))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``photos`` of pictures in the current one, and a file without a suffix beside it."""
    folder = tmp_path / "photos"
    (folder / "2024").mkdir(parents=True)
    names = ("b.png", "a.JPG", "2024/c.webp", "2024/d.bmp", "e.gif")
    for name, picture in zip(names, tiny_pictures.pictures(), strict=True):
        picture.save(folder / name)
    tiny_pictures.pictures()[0].save(tmp_path / "a red shoe", "PNG")
    monkeypatch.chdir(tmp_path)
    return folder


def scores_of(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    result: dict[str, Any] = json.loads(ran.out)
    return result


def test_similarity_of_a_picture_and_texts(nearfield: Run, clip: Path, encoder: Encoder, photos: Path) -> None:
    words = ("similarity", "photos/b.png", "a cat", "photos/e.gif", "photos/none.png", "--model", clip)
    report = scores_of(nearfield(*words, "--json"))
    others = ["a cat", Image(path=photos / "e.gif"), "photos/none.png"]
    expected = encoder.similarity(encoder.encode([Image(path=photos / "b.png")]), encoder.encode(others))[0]
    assert report["image"] == "photos/b.png"
    assert [next(iter(row)) for row in report["scores"]] == ["text", "image", "text"]
    np.testing.assert_allclose([row["score"] for row in report["scores"]], expected, atol=1e-3)
    assert len(nearfield(*words).out.splitlines()) == 3


def test_what_a_file_holds_decides_and_not_its_name(nearfield: Run, clip: Path, photos: Path) -> None:
    (photos / "text.jpg").write_text("a text")
    assert "image" in scores_of(nearfield("similarity", "a red shoe", "photos/text.jpg", "--model", clip, "--json"))
    report = scores_of(nearfield("similarity", "photos/text.jpg", "a red shoe", "--model", clip, "--json"))
    assert report["text"] == "photos/text.jpg" and report["scores"][0]["image"] == "a red shoe"
    words = ("similarity", "a red shoe", "photos/b.png", "--model", clip, "--json", "--texts-only")
    assert scores_of(nearfield(*words))["scores"][0]["text"] == "photos/b.png"
    assert not any(map(is_picture_file, ("photos", "x" * 5000, "a\0b", "", "photos/text.jpg")))


def test_a_model_without_pictures_is_named(nearfield: Run, tiny: Encoder, photos: Path) -> None:
    ran = nearfield("similarity", "photos/b.png", "a cat", "--model", tiny.recipe.folder)
    assert ran.code == 2 and "photos/b.png is a picture" in ran.err and "--texts-only" in ran.err
    ran = nearfield("similarity", "photos/b.png", "a cat", "--model", tiny.recipe.folder, "--texts-only")
    assert ran.code == 0


def test_the_default_model_is_one_of_pictures(
    nearfield: Run, clip: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.cli.terminal.picture_arguments.PICTURE_MODEL", str(clip))
    assert scores_of(nearfield("similarity", "photos/b.png", "a cat", "--json"))["model"] == "clip"
    assert PICTURE_MODEL == "google/siglip2-base-patch16-224"


@pytest.mark.parametrize("templates", [(), ("a {}", "one {}!")])
def test_classify(nearfield: Run, clip: Path, encoder: Encoder, photos: Path, templates: tuple[str, ...]) -> None:
    options = [word for template in templates for word in ("--template", template)]
    words = ("classify", "photos/b.png", "photos/e.gif", "-l", "cat, dog", "-l", "hat", *options, "--model", clip)
    rows = [json.loads(line) for line in nearfield(*words, "--json").out.splitlines()]
    pictures = [Image(path=photos / "b.png"), Image(path=photos / "e.gif")]
    expected = encoder.zero_shot(pictures, ["cat", "dog", "hat"], templates=templates or None)
    assert [row["label"] for row in rows] == [one.label for one in expected]
    for row, one in zip(rows, expected, strict=True):
        assert row["scores"] == pytest.approx(one.scores, abs=2e-3)
    assert nearfield(*words).out.splitlines()[0] == "photos/b.png"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("photos/none.png", "--labels", "a"), "none.png"),
        (("photos", "--labels", "a"), "photos holds no file that ends in"),
        (("photos/b.png", "--labels", ","), "labels is empty"),
        (("photos/b.png", "--labels", "a", "--template", "b"), "has no {}"),
    ],
)
def test_what_classify_refuses(nearfield: Run, clip: Path, photos: Path, words: tuple[str, ...], message: str) -> None:
    ran = nearfield("classify", *words, "--model", clip)
    assert ran.code == 2 and message in ran.err and "Traceback" not in ran.err
