"""Settings of a run: train.toml, options in their place, and refusals with the file's name."""

from pathlib import Path

import pytest

from nearfield.errors import InputError
from nearfield.training.fine_tuning.options import DEFAULT_RANK, TrainOptions, read_options


def write(folder: Path, text: str) -> Path:
    path = folder / "train.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_options_overrule_the_file_and_what_is_in_neither_has_a_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'rate = 1e-4\nepochs = 2\nmatryoshka = [16, 8]\nguard = ["stsb.tsv"]\naverage = 0.5\n')
    options = read_options(path, epochs=3, seed=None)
    assert (options.rate, options.epochs, options.seed) == (1e-4, 3, TrainOptions().seed)
    assert (options.matryoshka, options.guard, options.average) == ((16, 8), ("stsb.tsv",), 0.5)


@pytest.mark.parametrize(
    ("text", "rank"), [("adapter = true", DEFAULT_RANK), ("adapter = false", 0), ("adapter = 4", 4)]
)
def test_an_adapter_is_a_rank_or_true(tmp_path: Path, text: str, rank: int) -> None:
    assert read_options(write(tmp_path, text)).adapter == rank


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 1", "there is no 'epoch'.*Did you mean 'epochs'"),
        ("rate = 3.0", "'rate' must be at most 0.1"),
        ('loss = "triplet"', "'loss' cannot be 'triplet'"),
        ("batch = 1", "'batch' must be at least 2"),
        ("rate = ", "is no TOML"),
        ("average = 1.5", "'average' must be at most 1"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"train\.toml.*{message}"):
        read_options(write(tmp_path, text))


@pytest.mark.parametrize(("name", "reason"), [("none.toml", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"cannot be read: {reason}"):
        read_options(tmp_path / name)
