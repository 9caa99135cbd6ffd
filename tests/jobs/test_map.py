"""The map of texts: places, regions, and a file that opens without a network and runs nothing of the texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nearfield import draw_map
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.jobs.map import layout
from nearfield.jobs.map.text_map import TextMap
from tests.support.cli_runner import run

pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")

ATTACK = "</script><img src=x onerror=alert(1)>"
TEXTS = [f"{word} {number}" for word in ("card", "rate", ATTACK) for number in range(20)]
VECTORS = np.repeat(np.eye(8)[:3], 20, axis=0) + 0.02 * np.random.default_rng(1).standard_normal((60, 8))


def _draw(monkeypatch: pytest.MonkeyPatch, landmarks: int) -> TextMap:
    monkeypatch.setattr(layout, "MAX_LANDMARKS", landmarks)
    return draw_map(TEXTS, vectors=VECTORS, count=3, fields={"team": [ATTACK, "b"] * 30})


@pytest.mark.parametrize("landmarks", [100, 40], ids=["all", "some"])
def test_near_texts_have_near_places(monkeypatch: pytest.MonkeyPatch, landmarks: int) -> None:
    places = _draw(monkeypatch, landmarks).places
    assert places.shape == (60, 2) and places.min() == 0 and places.max() == 1
    centres = np.stack([np.median(places[start : start + 20], axis=0) for start in (0, 20, 40)])
    distances = np.linalg.norm(places[:, None] - centres, axis=2)
    assert (distances.argmin(1) == np.repeat([0, 1, 2], 20)).mean() > 0.9


def test_the_file_fetches_nothing_and_texts_in_it_are_data(monkeypatch: pytest.MonkeyPatch) -> None:
    page = _draw(monkeypatch, 100).to_html(title=ATTACK)
    assert "<img" not in page and page.count("</script>") == 2 and "&lt;img" in page
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    assert not re.findall(
        r"(?:src|href)\s*=|https?:|@import|url\(|innerHTML", page.replace(data, "").replace("src=x", "")
    )
    read = json.loads(data)
    assert read["texts"] == TEXTS and read["fields"]["team"]["values"] == [ATTACK, "b"]
    assert {region["name"].split(",")[0] for region in read["regions"]} >= {"card", "rate"}


def test_half_of_a_character_is_written_as_its_number(tmp_path: Path) -> None:
    draw_map([*TEXTS[:19], "\ud800"], tmp_path / "map.html", vectors=VECTORS[:20], count=2)
    assert '"\\ud800"' in (tmp_path / "map.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="is a folder: name a file"):
        draw_map(TEXTS, tmp_path, vectors=VECTORS)


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.jobs.map.text_map.MAX_TEXTS", 50)
    for texts, fields, message in (
        (TEXTS[:3], {}, "A map needs at least 10 texts, and there are 3"),
        (TEXTS, {}, "at most 50 texts"),
        (TEXTS[:20], {"team": ["a"]}, "'team' has 1 values for 20 texts"),
    ):
        with pytest.raises(InputError, match=message):
            draw_map(texts, fields=fields)


def test_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, tmp_path: Path
) -> None:
    path, output = tmp_path / "rows.jsonl", tmp_path / "map.html"
    rows = [{"text": text, "team": text[-1]} for text in ["the cat sat", "a blue hat", "hello world"] * 5]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("map", path, "-o", output, "--colour-by", "team", "--count", 3, "-m", tiny.recipe.folder)
    ran = run(capsys, monkeypatch, *words, "--json")
    assert len({json.loads(line)["topic"] for line in ran.out.splitlines()}) == 3, ran.err
    assert '"team"' in output.read_text(encoding="utf-8")
