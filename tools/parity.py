"""Write ``docs/reference/parity.md``: differences of each family and head from its reference on tiny checkpoints.

``python -m tools.parity`` measures again; ``--only NAME`` prints the rows whose family or name has it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import transformers

from nearfield.families import NoFamily
from nearfield.hardware import has_bf16
from tests.parity import Array, Case, cases
from tests.parity.measure import inputs, nearness, ours

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "parity.md"
_HEAD = """# Parity

How close each family and head is to its reference implementation, on tiny random checkpoints in the family's
true layout. `python -m tools.parity` measures and writes this page.

- **float32** and **auto** are cosines to the reference, which runs in float32. **difference** is the largest
  difference of any value in float32.
- The inputs have very different lengths; one is empty, and one is too long for the model. Weights are wide, so
  that a missing layer would be noticed. `tests/families/test_parity_cases.py` requires 0.99999 in float32.
- Scores are compared as numbers. The cosine of a single number says little, so **difference** is what counts
  there.
- **auto** is bf16, as on CPUs that support it. When this page is written on a CPU without bf16, torch computes
  that column in bf16.

bf16 has 8 bits of precision, and random wide weights are harder for it than trained ones: all-MiniLM-L6-v2
reaches 0.9997 on real texts (`tests/inference/test_real_weights.py`). Three more comparisons need an
environment with an older transformers: `python -m tools.flagembedding` records what six classes of FlagEmbedding
compute, from which the results of `nearfield.compat.flag_embedding` differ by less than 2e-5
(`tests/compat/test_flag_embedding.py`); `python -m tools.pylate` compares late interaction with PyLate (2e-6); and
`python -m tools.instructor` compares with InstructorEmbedding.
"""
_COLUMNS = (
    *("family", "head", "reference", "padding", "float32, batched", "float32, alone", "float32, over-long"),
    *("difference", "auto, mean"),
)


def rows(case: Case) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each side on which the reference pads."""
    with tempfile.TemporaryDirectory() as place:
        folder = case.write(Path(place))
        items = inputs(case)
        batched = ours(case, folder, items, precision="float32")
        alone = ours(case, folder, items, alone=True, precision="float32")
        auto = rounded(case, folder, items)
        longest = max(range(len(items)), key=lambda at: len(str(items[at])))
        for padding in case.paddings:
            truth = case.expect(folder, items, padding=padding)
            near = nearness(batched, truth)
            long = nearness([batched[longest]], [truth[longest]])
            figures = (near.least, nearness(alone, truth).least, long.least)
            told = [case.family, case.name, case.reference, padding, *(f"{value:.6f}" for value in figures)]
            yield (*told, f"{near.apart:.1e}", f"{nearness(auto, truth).mean:.4f}")


def rounded(case: Case, folder: Path, items: Sequence[Any]) -> list[Array]:
    """Encode as ``auto`` does on a CPU with bf16, also on one without: ``auto`` is float32 there, and says nothing."""
    if has_bf16():
        return ours(case, folder, items)
    try:
        return ours(case, folder, items, backend="torch", precision="bfloat16", device="cpu")
    except NoFamily:
        return ours(case, folder, items, backend="transformers", precision="bfloat16", device="cpu")


def main() -> None:
    """Measure, and write the page or print what was asked for."""
    parser = argparse.ArgumentParser(prog="parity", description=__doc__)
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    transformers.utils.logging.disable_progress_bar()
    chosen = sorted(cases(), key=lambda case: (case.output, case.family, case.name))
    found = [row for case in chosen if only in f"{case.family} {case.name}" for row in _shown(case)]
    if only:
        return
    libraries = ("sentence-transformers", "transformers", "torch", "openvino")
    made = "Measured with " + ", ".join(f"{name} {version(name)}" for name in libraries)
    made += f"; bf16 by {'openvino' if has_bf16() else 'torch'}."
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in found]
    PAGE.write_text(f"{_HEAD}\n{made}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _shown(case: Case) -> Iterator[tuple[str, ...]]:
    for row in rows(case):
        print(" | ".join(row), flush=True)
        yield row


if __name__ == "__main__":
    main()
