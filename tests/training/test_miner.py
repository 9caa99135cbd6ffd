"""The precision in which negatives are mined."""

from pathlib import Path

import pytest

from nearfield.hardware import has_int8
from nearfield.testing import write_tiny_model
from nearfield.training import miner
from nearfield.training.miner import open_miner
from tests.parity.static import table


@pytest.mark.skipif(not has_int8(), reason="the CPU has no instructions for int8")
def test_int8_mines_where_the_cpu_multiplies_it_and_not_bf16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = str(write_tiny_model(tmp_path / "bert"))
    monkeypatch.setattr(miner, "has_bf16", lambda: False)
    with open_miner(model) as encoder:
        assert encoder.precision == "int8-dynamic"
    monkeypatch.setattr(miner, "has_bf16", lambda: True)
    with open_miner(model) as encoder:
        assert encoder.precision != "int8-dynamic"


def test_other_cpus_and_tables_of_words_mine_as_they_encode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(miner, "has_int8", lambda: False)
    with open_miner(str(write_tiny_model(tmp_path / "bert"))) as encoder:
        assert encoder.precision in ("float32", "bf16")
    monkeypatch.setattr(miner, "has_int8", lambda: True)
    monkeypatch.setattr(miner, "has_bf16", lambda: False)
    with open_miner(str(table(tmp_path / "static"))) as encoder:
        assert encoder.precision in ("float32", "bf16")
