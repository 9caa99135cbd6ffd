"""The comparison of both readers of a model, where training reads fewer tokens than the engine."""

from pathlib import Path

import pytest

from nearfield.errors import ModelRefused
from nearfield.training.fine_tuning.base_model import open_base
from nearfield.training.fine_tuning.figures import open_system
from nearfield.training.fine_tuning.torch_training import models, reading_check, saved_model
from tests.support.tiny_training import WORDS, tiny_base

pytestmark = pytest.mark.slow
#: Texts of 22 tokens, of which training reads 8.
LONG = [" ".join(WORDS[start : start + 20]) for start in range(0, 80, 20)]


def test_texts_longer_than_training_reads_are_no_difference(tmp_path: Path) -> None:
    base = open_base(str(tiny_base(tmp_path / "base")))
    model = models.open_torch_model(base, max_length=8)
    with open_system(base) as system:
        assert reading_check.check_base(model, system, base, LONG) >= reading_check.MIN_COSINE
    saved_model.write_model(model, base, tmp_path / "written", adapter=False)
    read = reading_check.check_written(model, base, tmp_path / "written", LONG)
    assert set(read) == {"nearfield", "sentence-transformers"}
    assert min(read.values()) >= reading_check.MIN_COSINE
    assert model.max_seq_length == 8


def test_another_model_in_the_folder_is_refused(tmp_path: Path) -> None:
    base = open_base(str(tiny_base(tmp_path / "base")))
    other = open_base(str(tiny_base(tmp_path / "other", size=64)))
    model = models.open_torch_model(base)
    with pytest.raises(ModelRefused, match=r"reads the written folder .* as another model"):
        reading_check.check_written(model, base, other.folder, LONG)
