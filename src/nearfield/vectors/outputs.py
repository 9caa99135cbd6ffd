"""Several kinds of vectors of the same inputs (`Outputs`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearfield.arrays import Array
from nearfield.errors import InputError
from nearfield.vectors.dense import Vectors
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors


@dataclass(frozen=True, eq=False)
class Outputs:
    """Several kinds of vectors of the same inputs, computed in one pass; None for a kind that was not requested."""

    dense: Vectors | None = None
    sparse: SparseVectors | None = None
    multivector: MultiVectors | None = None

    def __len__(self) -> int:
        return len(next(iter(self.kinds.values())))

    def __getitem__(self, kind: str) -> Any:
        """Return one kind by its name.

        Raises:
            InputError: the call did not request that kind.
        """
        if kind not in self.kinds:
            raise InputError(f"{kind!r} was not requested; there are {', '.join(self.kinds)}.", param="outputs")
        return self.kinds[kind]

    @property
    def kinds(self) -> Mapping[str, Vectors | SparseVectors | MultiVectors]:
        """The kinds that were requested, by name."""
        named = {"dense": self.dense, "sparse": self.sparse, "multivector": self.multivector}
        return {name: kind for name, kind in named.items() if kind is not None}

    @property
    def tokens(self) -> Array | None:
        """Tokens read of each input."""
        return next(iter(self.kinds.values())).tokens

    @property
    def dropped(self) -> Array | None:
        """Tokens of each input that were truncated."""
        return next(iter(self.kinds.values())).dropped

    @property
    def unknown(self) -> Array | None:
        """Tokens read of each input that the model does not know."""
        return next(iter(self.kinds.values())).unknown
