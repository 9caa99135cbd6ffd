"""Write ``docs/reference/parity.md``: differences of each family and head from its reference on tiny checkpoints.

``python -m tools.parity`` measures again; ``--only NAME`` prints the rows whose family or name has it, and
``--pictures`` measures and writes the part about pictures alone.
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
from nearfield.hardware import auto_precision
from tests.parity import Array, Case, cases
from tests.parity.measure import inputs, nearness, ours
from tests.parity.pictures import CASES as PICTURES
from tests.parity.pictures import sounds, videos
from tests.parity.pictures.case import PictureCase
from tests.parity.pictures.measure import encode, measure, scaled, write_files

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
_PICTURES = """## Pictures

From picture files on disk to vectors. The files are JPEG, PNG and WebP of the model's own size, smaller, larger,
narrow, flat and grey. CLAP's are sounds of up to ten seconds: WAV and FLAC, a tenth of a second, noise and stereo.
Videos are MP4, MOV, WebM and AVI of up to four seconds.
`python -m tools.parity --pictures` measures and writes this part.

- **same pixels**: the reference's model reads the pixels, or mel spectrograms, that Nearfield prepared, one at a time.
  Of pages it is left out: a page is read in several parts. `tests/checkpoint/processors/test_tiles.py` compares their
  pixels.
- **files**: the reference prepares the files itself, with Pillow. Nearfield reads them in one call, in a call for each,
  and in one call with texts between them. Where the reference has no preparation with Pillow, torch resizes.
- **texts** are those of that last call. **difference** is the largest of all, relative to the largest value.

`tests/inference/test_picture_parity.py` requires 0.99999 in all of them.
`tests/checkpoint/processors/test_image.py` compares the pixels of odd pictures (modes, orientation, transparency, 16
bits, sizes) with the reference's, `tests/checkpoint/processors/test_audio.py` the mel spectrograms of sounds.
"""
_AUTO_IS_BF16 = auto_precision() == "bf16"
_WAYS = ("same pixels, batched", "files, batched", "files, alone", "files, mixed", "texts, mixed")
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
    if _AUTO_IS_BF16:
        return ours(case, folder, items)
    try:
        return ours(case, folder, items, backend="torch", precision="bfloat16", device="cpu")
    except NoFamily:
        return ours(case, folder, items, backend="transformers", precision="bfloat16", device="cpu")


def picture_row(case: PictureCase, files: Sequence[Path], place: Path) -> tuple[str, ...]:
    """Return the row of a model that reads pictures, which is written to a folder."""
    folder = case.write(place)
    near = measure(case, folder, files)
    options: dict[str, Any] = {} if _AUTO_IS_BF16 else {"backend": "torch", "device": "cpu"}
    auto = encode(folder, [files], "auto" if _AUTO_IS_BF16 else "bfloat16", **options)[0]
    figures = [f"{near[way].least:.6f}" if way in near else "" for way in _WAYS]
    apart = max(one.apart for one in near.values())
    bf16 = scaled(auto, case.of_files(folder, files)).mean
    return (case.family, case.name, case.reference, *figures, f"{apart:.1e}", f"{bf16:.4f}")


def picture_rows(only: str) -> Iterator[tuple[str, ...]]:
    """Yield the rows of models that read pictures, whose family or name has ``only``."""
    with tempfile.TemporaryDirectory() as place:
        files = {
            "image": write_files(Path(place) / "pictures"),
            "audio": sounds.write_files(Path(place) / "sounds"),
            "video": videos.write_files(Path(place) / "films"),
        }
        for number, case in enumerate(sorted(PICTURES, key=lambda case: (case.family, case.name))):
            if only in f"{case.family} {case.name}":
                (folder := Path(place) / str(number)).mkdir()
                yield picture_row(case, files[case.modality], folder)


def main() -> None:
    """Measure, and write the page or print what was asked for."""
    parser = argparse.ArgumentParser(prog="parity", description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--pictures", action="store_true", help="the part about pictures alone")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    texts = [] if arguments.pictures else list(_shown(_text_rows(arguments.only)))
    pictures = list(_shown(picture_rows(arguments.only)))
    if arguments.only:
        return
    before = PAGE.read_text(encoding="utf-8").partition("\n## Pictures")[0]
    if texts:
        made = _made("sentence-transformers", "transformers", "torch", "openvino")
        before = f"{_HEAD}\n{made}\n\n{_table(_COLUMNS, texts)}"
    columns = ("family", "layout", "reference", *_WAYS, "difference", "auto, mean")
    made = _made("sentence-transformers", "transformers", "torch", "openvino", "pillow")
    PAGE.write_text(f"{before}\n{_PICTURES}\n{made}\n\n{_table(columns, pictures)}", encoding="utf-8")


def _text_rows(only: str) -> Iterator[tuple[str, ...]]:
    for case in sorted(cases(), key=lambda case: (case.output, case.family, case.name)):
        if only in f"{case.family} {case.name}":
            yield from rows(case)


def _made(*libraries: str) -> str:
    """Return with which versions the figures were measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"Measured with {versions}; bf16 by {'openvino' if _AUTO_IS_BF16 else 'torch'}."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _shown(rows: Iterator[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        print(" | ".join(row), flush=True)
        yield row


if __name__ == "__main__":
    main()
