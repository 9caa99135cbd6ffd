"""What a GGUF file says of its weights, as llama.cpp and Ollama call it: architecture, type of file, number of values.

They are stored in the model folder, so that the header is read once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from nearfield.hub.gguf.header import GgufHeader

#: The file of the folder, and its key.
META_FILE, FACTS_KEY = "config_sentence_transformers.json", "gguf_facts"
#: Names of the types of files that can be read (``llama_ftype``), by ``general.file_type``.
FILE_TYPES: Mapping[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    32: "BF16",
}


@dataclass(frozen=True)
class GgufFacts:
    """``architecture`` and ``file_type`` as llama.cpp names them; ``parameters`` is the number of values."""

    architecture: str
    file_type: str
    parameters: int

    @classmethod
    def from_header(cls, header: GgufHeader) -> GgufFacts:
        """Return the facts of a file. Where it names no type, it is that of most of its values."""
        values = Counter[str]()
        for entry in header.tensors.values():
            values[entry.type.name] += prod(entry.shape)
        commonest = next((name for name, _ in values.most_common(1)), "")
        number = header.metadata.get("general.file_type")
        named = FILE_TYPES.get(number, commonest) if isinstance(number, int) else commonest
        return cls(header.architecture, named, sum(values.values()))

    @classmethod
    def from_folder(cls, folder: Path) -> GgufFacts | None:
        """Return the facts that a model folder has; None if its weights are in no GGUF file."""
        try:
            facts = json.loads((folder / META_FILE).read_text(encoding="utf-8"))[FACTS_KEY]
            return cls(**facts)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as they are stored."""
        return asdict(self)
