"""Files of the demo: pictures and sounds that installed packages ship, and files that are drawn here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

#: The pages of the scan, each by its lines; the first is the heading.
SCAN = (
    (
        "Harbour office",
        "Berths are let by the month, from March to October.",
        "Visitors pay by the night, in the office or at the machine.",
        "The lighthouse key hangs in the hall: please bring it back by six.",
    ),
    (
        "Ferry timetable",
        "Monday to Friday the boat sails at 08:15 and at 17:40.",
        "At weekends it sails at 09:30, and back at 18:05.",
        "Bicycles travel on the ferry free of charge, dogs on a lead.",
    ),
)
#: What is said in the spoken file.
SPOKEN = "The museum opens at nine. Please leave your umbrella in the cloakroom."
SPEAKER = "espeak-ng"


@dataclass(frozen=True)
class ShippedFile:
    """A file that a package ships: its path in there, and words that describe it."""

    path: str
    words: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(self.path).name


@dataclass(frozen=True)
class SamplePackage:
    """A package with files: the name by which it is installed, that of its module, and the files.

    ``is_needed`` says that the extra of the demo installs it; others are used where they are installed anyway.
    """

    name: str
    module: str
    files: Sequence[ShippedFile]
    is_needed: bool = True


PACKAGES = (
    SamplePackage(
        "scikit-image",
        "skimage",
        (
            ShippedFile("data/astronaut.png", "an astronaut in an orange suit"),
            ShippedFile("data/chelsea.png", "a cat"),
            ShippedFile("data/coffee.png", "a cup of coffee"),
            ShippedFile("data/rocket.jpg", "a rocket on its launch pad"),
            ShippedFile("data/hubble_deep_field.jpg", "galaxies in deep space"),
            ShippedFile("data/moon.png", "craters of the moon"),
            ShippedFile("data/coins.png", "old coins"),
            ShippedFile("data/retina.jpg", "the retina of an eye"),
            ShippedFile("data/motorcycle_left.png", "a motorcycle in a garage"),
        ),
    ),
    SamplePackage(
        "scikit-learn",
        "sklearn",
        (
            ShippedFile("datasets/images/china.jpg", "a Chinese palace"),
            ShippedFile("datasets/images/flower.jpg", "a flower"),
        ),
    ),
    SamplePackage(
        "matplotlib",
        "matplotlib",
        (ShippedFile("mpl-data/sample_data/grace_hopper.jpg", "a woman in a navy uniform"),),
        is_needed=False,
    ),
    SamplePackage("plotext", "plotext", (ShippedFile("_data/puppy.jpg", "a puppy"),), is_needed=False),
    SamplePackage(
        "pygame-ce",
        "pygame",
        (
            ShippedFile("examples/data/house_lo.wav", "house music"),
            ShippedFile("examples/data/car_door.wav", "a car that is being shut"),
            ShippedFile("examples/data/boom.wav", "an explosion"),
            ShippedFile("examples/data/punch.wav", "a punch"),
        ),
    ),
)
#: The extra that installs all that the demo uses.
EXTRA = "pip install 'nearfield[demo]'"


def copy_shipped(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Copy the files of packages to a folder; return the words of each by its name, and needed packages without any.

    The packages are not imported.
    """
    words: dict[str, str] = {}
    missing = []
    for package in PACKAGES:
        files = [file for file in package.files for root in _folders(package.module) if _copy(root, file, folder)]
        words |= {file.name: file.words for file in files}
        if package.is_needed and not files:
            missing.append(package.name)
    return words, missing


def _folders(module: str) -> Iterable[Path]:
    spec = find_spec(module)
    return () if spec is None else map(Path, spec.submodule_search_locations or ())


def _copy(root: Path, file: ShippedFile, folder: Path) -> bool:
    """Copy a file of a package, unless it lacks the file; return whether it is there."""
    source = root / file.path
    if source.is_file():
        shutil.copyfile(source, folder / file.name)
    return source.is_file()


def write_scan(path: Path) -> None:
    """Write a PDF of pages without a text layer: their text is a picture, as a scanner gives it."""
    from PIL import Image, ImageDraw, ImageFont

    pages = []
    for number, lines in enumerate(SCAN):
        page = Image.new("RGB", (1240, 1754), "white")
        pen = ImageDraw.Draw(page)
        for row, line in enumerate(lines):
            size = 64 if row == 0 else 32
            pen.text((140, 180 + 500 * number + 130 * row), line, "black", ImageFont.load_default(size))
        pages.append(page)
    pages[0].save(path, "PDF", save_all=True, append_images=pages[1:], resolution=150)


def speak(path: Path) -> bool:
    """Write a spoken file with espeak-ng; return whether it is installed."""
    program = shutil.which(SPEAKER)
    if program is not None:
        subprocess.run([program, "-s", "140", "-w", str(path), SPOKEN], check=True, capture_output=True)
    return program is not None
