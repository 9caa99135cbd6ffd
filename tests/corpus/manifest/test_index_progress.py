"""How far an index run is: read by others while it goes on, and not believed once it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.manifest.index_progress import SharedProgress, read_index_progress
from nearfield.encoder import Encoder


def test_others_see_the_counts_until_the_end(tmp_path: Path) -> None:
    assert read_index_progress(tmp_path) is None
    with SharedProgress(tmp_path, label="pets: listing", shown=False) as progress:
        begun = read_index_progress(tmp_path)
        assert begun is not None and begun.share is None
        progress.advance(1.5, 40)
        progress.set_total(4)
        seen = read_index_progress(tmp_path)
        assert seen is not None
        assert (seen.documents, seen.total, seen.tokens, seen.share) == (1.5, 4, 40, 0.375)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_not_believed(tmp_path: Path) -> None:
    with SharedProgress(tmp_path, label="pets", shown=False):
        left = (tmp_path / "indexing.json").read_bytes()
    (tmp_path / "indexing.json").write_bytes(left)
    assert read_index_progress(tmp_path) is None


def test_a_run_is_in_the_description_of_its_collection(
    tmp_path: Path, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    with Collection.create(
        "pets", {"features": {"dense": {"model": "tiny"}}}, home=tmp_path, encoder_of=lambda _: tiny
    ) as pets:
        advance = SharedProgress.advance

        def watched(progress: SharedProgress, *counts: float) -> None:
            advance(progress, *counts)  # type: ignore[arg-type]
            seen.append(pets.info()["indexing"])

        monkeypatch.setattr(SharedProgress, "advance", watched)
        pets.put([{"id": str(number), "text": f"cat {number}"} for number in range(3)])
        assert seen[0]["total"] == 3 and 0 <= seen[-1]["share"] <= 1
        assert pets.info()["indexing"] is None
