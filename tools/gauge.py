"""Print the size of each package of the source tree: modules, lines, longest function, largest file, uses of ``Any``.

It informs and never fails. The change is counted against the previous commit. ``Any/k`` counts uses of ``Any`` per
thousand lines, ``with/k`` the lines with at least one.
"""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tools.names import Function, function_lines

SOURCE = Path("src/nearfield")


@dataclass
class Totals:
    """Counts of one package."""

    modules: int = 0
    lines: int = 0
    any_uses: int = 0
    any_lines: int = 0
    #: (lines, name) of each function; docstrings do not count.
    functions: list[tuple[int, str]] = field(default_factory=list)
    #: (lines, path) of each file.
    files: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Count a file."""
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = len(text.splitlines())
        self.modules += 1
        self.lines += lines
        self.any_uses += len(any_lines(tree))
        self.any_lines += len(set(any_lines(tree)))
        self.functions += [
            (function_lines(node), f"{path.stem}.{node.name}") for node in ast.walk(tree) if isinstance(node, Function)
        ]
        self.files.append((lines, path.relative_to(SOURCE).as_posix()))

    def row(self, name: str, before: int) -> str:
        """Return the line of the table."""
        sizes = sorted(self.functions)
        p95 = sizes[int(len(sizes) * 0.95)][0] if sizes else 0
        longest = f"{sizes[-1][0]} {sizes[-1][1]}" if sizes else "-"
        uses, lines = 1000 * self.any_uses / max(self.lines, 1), 1000 * self.any_lines / max(self.lines, 1)
        size, largest = max(self.files)
        numbers = f"{self.modules:7} {self.lines:6} {self.lines - before:+7} {uses:6.1f} {lines:6.1f} {p95:4}"
        return f"{name:14} {numbers} {longest:44.44} {size} {largest}"


def main() -> None:
    """Print a line for each package, and one for all."""
    packages: dict[str, Totals] = defaultdict(Totals)
    total = Totals()
    for path in sorted(SOURCE.rglob("*.py")):
        if not generated(path.name):
            for counted in (packages[package_of(path)], total):
                counted.add(path)
    before = lines_at("HEAD~1")
    print(
        f"{'package':14} {'modules':>7} {'lines':>6} {'change':>7} {'Any/k':>6} {'with/k':>6} {'p95':>4} "
        f"{'longest function':44} largest file"
    )
    for name, counted in packages.items():
        print(counted.row(name, before.get(name, 0)))
    gone = {name: lines for name, lines in before.items() if name not in packages}
    for name, lines in sorted(gone.items()):
        print(f"{name:14} {0:7} {0:6} {-lines:+7}")
    print(total.row("all", sum(before.values())))


def package_of(path: Path) -> str:
    """Return the package of a file, or the name of a module at the top."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def generated(name: str) -> bool:
    """Return whether a file is written by tools/proto.py."""
    return name.endswith("_pb2.py")


def any_lines(tree: ast.Module) -> list[int]:
    """Return the line of each use of the name ``Any``, imports not counted."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "Any") or (isinstance(node, ast.Attribute) and node.attr == "Any")
    ]


def lines_at(revision: str) -> dict[str, int]:
    """Return the lines of each package at a revision; none where git does not know it."""
    command = ["git", "grep", "-c", "", revision, "--", f"{SOURCE}/*.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines: dict[str, int] = defaultdict(int)
    for row in result.stdout.splitlines():
        _, path, count = row.rsplit(":", 2)
        if not generated(path):
            lines[package_of(Path(path))] += int(count)
    return dict(lines)


if __name__ == "__main__":
    main()
