"""Gauge: lines, longest function and largest file of each room, and the change since the last commit.

It informs; it does not fail.
"""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

SOURCE = Path("src/nearfield")


def main() -> None:
    """Print a line for each room."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.stem.endswith("_pb2"):
            continue  # written by tools/proto.py
        inside = path.relative_to(SOURCE).parts
        rooms.setdefault(inside[0].removesuffix(".py"), []).append(path)
    print(f"{'room':14} {'lines':>6} {'change':>7} {'p95':>4} {'longest function':44} largest file")
    total = changed = 0
    for room, files in rooms.items():
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
        before = sum(lines_at("HEAD~1", path) for path in files)
        sizes = sorted(size for path in files for size in functions(path))
        p95 = sizes[int(len(sizes) * 0.95)][0] if sizes else 0
        longest = f"{sizes[-1][0]} {sizes[-1][1]}" if sizes else "-"
        largest = max(files, key=lambda path: len(path.read_text(encoding="utf-8").splitlines()))
        size = len(largest.read_text(encoding="utf-8").splitlines())
        print(f"{room:14} {lines:6} {lines - before:+7} {p95:4} {longest:44.44} {size} {largest.relative_to(SOURCE)}")
        total, changed = total + lines, changed + lines - before
    print(f"{'all':14} {total:6} {changed:+7}")


def functions(path: Path) -> list[tuple[int, str]]:
    """Return (lines of code, name) of each function; docstrings do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                size -= (first.end_lineno or first.lineno) - first.lineno + 1
            found.append((size, f"{path.stem}.{node.name}"))
    return found


def lines_at(revision: str, path: Path) -> int:
    """Return how many lines a file had at a revision; 0 when it was not there."""
    result = subprocess.run(["git", "show", f"{revision}:{path}"], capture_output=True, text=True, check=False)
    return len(result.stdout.splitlines()) if result.returncode == 0 else 0


if __name__ == "__main__":
    main()
