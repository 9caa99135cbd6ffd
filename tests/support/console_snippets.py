"""Running the code that the console shows for each client, as it is copied."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

#: A folder with ``node_modules`` in which ``npm install openai`` was run; without it that client is left out.
NODE_CLIENTS = os.environ.get("NODE_CLIENTS", "")


def run_snippet(client: str, code: str, folder: Path) -> Any:
    """Run code, as a user in a folder would; return vectors, or indices in the order of a ranking."""
    if client == "curl":
        return _read_reply(json.loads(_run(["bash", "-c", f"{code} --silent --show-error"], folder)))
    if "JavaScript" in client:
        script = Path(NODE_CLIENTS) / "snippet.mjs"
        script.write_text(f"{code}\nconsole.log(JSON.stringify(vectors));\n")
        return json.loads(_run(["node", str(script)], folder))
    names: dict[str, Any] = {}
    exec(code, names)
    return names["vectors"] if "vectors" in names else [document.index for document in names["ranking"]]


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def _read_reply(reply: Any) -> Any:
    if "results" in reply:
        return [result["index"] for result in reply["results"]]
    assert "dense" in reply or "sparse" in reply, reply
    return reply["dense"]["data"] if "dense" in reply else reply["sparse"]["data"]
