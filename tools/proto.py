"""Generate the message modules from their ``.proto`` files. A test fails when they are stale.

``python -m tools.proto`` writes them again, with the compiler of grpcio-tools.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILES = ("nearfield/server/rpc/tei.proto",)


def modules() -> Iterator[tuple[Path, str]]:
    """Yield the path of each module and what it is to hold.

    Raises:
        ModuleNotFoundError: grpcio-tools is not installed.
        ValueError: a file is not valid; the compiler has said why.
    """
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            if protoc.main(["protoc", f"-I{SOURCE}", f"--python_out={folder}", name]) != 0:
                raise ValueError(f"{name} cannot be compiled")
            made = Path(name.replace(".proto", "_pb2.py"))
            yield SOURCE / made, (folder / made).read_text(encoding="utf-8")


if __name__ == "__main__":
    for path, content in modules():
        path.write_text(content, encoding="utf-8")
