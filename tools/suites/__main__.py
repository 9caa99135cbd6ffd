"""Command line of ``python -m tools.suites``; the package's docstring describes it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import tools.suites
from tools.suites.runner import run_suite

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run a suite and print the table; return 1 if none ran, or one failed that was not known to fail."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.suites",
        description=tools.suites.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("library", help="a module of tools.suites, such as sentence_transformers")
    parser.add_argument("folder", type=Path, help="a checkout of the library, with its tests")
    parser.add_argument("--original", action="store_true", help="run the tests with the library's own classes")
    parser.add_argument("--record", action="store_true", help="write the result for docs/reference/compat.md")
    options, arguments = parser.parse_known_args()
    if options.record and (options.original or arguments):
        parser.error("--record writes the result of a whole suite: leave out --original and the pytest arguments.")
    result = run_suite(options.library, options.folder.resolve(), arguments, original=options.original)
    print(result.to_text())
    if not result.run or result.unexpected:
        if options.record:
            print("Not recorded: no test ran, or some failed that are not known to fail.", file=sys.stderr)
        return 1
    if options.record:
        file = RESULTS / f"{options.library}.json"
        file.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
