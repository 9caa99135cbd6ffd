"""Tables of machines and prices that are devices, data or damaged are refused at once, with the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nearfield.errors import SettingsError
from nearfield.evaluation.planning.cost import read_prices
from nearfield.evaluation.planning.speed.machines import read_machines

_READERS = pytest.mark.parametrize("read", [read_machines, read_prices])
_CONTENTS = {"data": b"#" * 4_000_001, "not UTF-8": b"\xff\xfe", "open": b"[[a", "deep": b"a=" + b"[" * 100_000}


@_READERS
@pytest.mark.parametrize("content", _CONTENTS.values(), ids=_CONTENTS.keys())
def test_damaged_tables_are_refused(read: Callable[[Path], object], content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"table\.toml cannot be read as a .*table"):
        read(file)


@_READERS
def test_devices_without_an_end_are_refused(read: Callable[[Path], object]) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("this system has no /dev/zero")
    with pytest.raises(SettingsError, match="it has more than"):
        read(Path("/dev/zero"))
