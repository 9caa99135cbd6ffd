"""Record what FlagEmbedding computes on tiny checkpoints, and compare the classes of `nearfield.compat` with it.

``python -m tools.flagembedding PYTHON`` takes the Python of a venv that has FlagEmbedding, which needs an older
transformers than the tests do: ``pip install "transformers<5" FlagEmbedding``. It writes the results of the library to
``tests/compat/flag_golden.json``, with which the tests compare, and prints the largest difference of each class.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.compat import flag_cases

MODULE = "nearfield.compat.flag_embedding"
#: What runs in the other venv: for each case a class on a folder, and calls of its methods; the results as JSON.
THEIRS = """
import json, sys
import numpy as np
import FlagEmbedding
def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if value is None else round(float(value), 6)
results = {}
for name, case in json.load(open(sys.argv[1])).items():
    results[name] = []
    for call in case["calls"]:
        model = getattr(FlagEmbedding, case["kind"])(case["folder"], use_fp16=False, devices="cpu", **call["settings"])
        results[name].append(plain(getattr(model, call["method"])(*call["arguments"], **call["keywords"])))
json.dump(results, open(sys.argv[2], "w"))
"""


def record(python: str, folders: Mapping[str, Path], place: Path) -> dict[str, Any]:
    """Return the weights' digest and the results of FlagEmbedding for each case, whose checkpoints are in folders."""
    cases = {
        name: {"kind": case.kind, "folder": str(folders[name]), "calls": [asdict(call) for call in case.calls]}
        for name, case in flag_cases.CASES.items()
    }
    (place / "cases.json").write_text(json.dumps(cases))
    command = [python, "-c", THEIRS, str(place / "cases.json"), str(place / "theirs.json")]
    subprocess.run(command, check=True, stdout=sys.stderr)
    results = json.loads((place / "theirs.json").read_text())
    return {name: {"digest": flag_cases.digest(folders[name]), "results": results[name]} for name in cases}


def _write(case: flag_cases.FlagCase, place: Path) -> Path:
    """Write a checkpoint that an older transformers reads too."""
    place.mkdir()
    folder = case.write(place)
    file = folder / "tokenizer_config.json"
    file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    return folder


def main(python: str) -> None:
    """Record all cases, and print how far ours are from them."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: _write(case, Path(place) / name) for name, case in flag_cases.CASES.items()}
        golden = record(python, folders, Path(place))
        flag_cases.GOLDEN.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
        for name, case in flag_cases.CASES.items():
            ours = flag_cases.run(case, folders[name], MODULE)
            pairs = zip(ours, golden[name]["results"], strict=True)
            print(name, [f"{flag_cases.difference(*pair):.1e}" for pair in pairs])


if __name__ == "__main__":
    main(sys.argv[1])
