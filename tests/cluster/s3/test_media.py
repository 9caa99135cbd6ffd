"""``nearfield embed --ray`` of pictures from S3 to S3: the same bytes as on one machine, also after faults."""

from __future__ import annotations

import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from nearfield.fileio.s3.path import S3Path
from tests.support import tiny_pictures
from tests.support.cli_runner import run
from tests.support.cluster_faults import ONCE_TRAILER
from tests.support.media_sets import bad_items, good_items, write_tar
from tests.support.s3_bucket import content, manifest_of, names, put_files, report_of, shard_files
from tests.support.s3_server import BUCKET, Faults

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def embed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, cluster: Any
) -> Any:
    """Run ``nearfield embed`` with a tiny model of pictures and shards of five, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    words = ["--model", clip, "--precision", "float32", "--json", "--quiet", "--skip-unreadable", "--shard-rows", 5]
    return lambda *more: run(capsys, monkeypatch, "embed", *more, *words)


def test_files_are_the_same_bytes_although_requests_fail_and_a_worker_is_killed(
    cluster: Any, embed: Any, faults: Faults, tmp_path: Path, drafts: Path
) -> None:
    """A run is begun on one machine, and continued on the cluster."""
    items = good_items(30) | {f"g0011-{name}.jpg": data for name, data in bad_items().items()}
    mark = tmp_path / "killed"
    put_files({**items, "g0012.png": items["g0012.png"] + ONCE_TRAILER + os.fsencode(mark)}, "photos/a")
    mark.touch()
    source, whole, home = f"s3://{BUCKET}/photos/", S3Path(BUCKET, "media-whole"), S3Path(BUCKET, "media-out")
    assert report_of(embed(source, "-o", f"{whole}/"))["set_aside"] == 5
    assert report_of(embed(source, "-o", f"{home}/", "--shard", "1/4"))["written"] == 2
    mark.unlink()
    faults.refused = 0.2
    report = report_of(embed(source, "-o", f"{home}/", "--ray", cluster.address))
    faults.refused = 0.0
    assert mark.exists() and faults.failures > 5
    assert (report["written"], report["skipped"], report["set_aside"], report["texts"]) == (5, 2, 5, 30)
    assert (report["cluster"]["retries"], report["cluster"]["set_aside"], report["unit"]) == (1, [], "picture")
    assert shard_files(home) == shard_files(whole)
    assert content(home, "_set_aside.jsonl") == content(whole, "_set_aside.jsonl")
    assert sorted(name for shard in manifest_of(home)["shards"] for name in shard["files"]) == [
        name for name in names(home) if name.startswith("part-")
    ]
    assert not list(drafts.glob("nearfield-shards-*"))
    assert report_of(embed(source, "-o", f"{home}/", "--ray", cluster.address, "--retry-set-aside"))["written"] == 2


def test_tables_and_tars_are_the_same_bytes(cluster: Any, embed: Any, tmp_path: Path) -> None:
    items = good_items(12) | bad_items()
    cells = [{"bytes": data, "path": None} for data in items.values()] + [{"bytes": None, "path": "photos/g0001.png"}]
    sink = io.BytesIO()
    parquet.write_table(arrow.table({"image": cells}), sink)
    tar = write_tar(tmp_path / "a.tar", [(f"{name.removesuffix('.png')}.png", data) for name, data in items.items()])
    put_files({"rows.parquet": sink.getvalue(), "photos/g0001.png": items["g0001.png"]}, "table")
    put_files({"a.tar": tar.read_bytes()}, "tars")
    for words, count in ((("table/rows.parquet", "--media", "image"), 13), (("tars/",), 12)):
        source, name = [f"s3://{BUCKET}/{words[0]}", *words[1:]], words[0].partition("/")[0]
        whole, home = (S3Path(BUCKET, f"{name}-{end}") for end in ("whole", "out"))
        assert report_of(embed(*source, "-o", f"{whole}/"))["state"] == "complete"
        report = report_of(embed(*source, "-o", f"{home}/", "--ray", cluster.address))
        assert (report["texts"], report["set_aside"], report["state"]) == (count, 5, "complete")
        assert shard_files(home) == shard_files(whole)
