"""`BaseEncoder`: what an encoder has besides the methods that encode: similarity, and facts about its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nearfield.argument_checks import require_count
from nearfield.errors import InputError, NearfieldError
from nearfield.inference.encode_options import EncodeOptions, OptionDefaults, resolve
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.preparation.inputs import Texts
from nearfield.inference.preparation.unread_inputs import unread_unlogged
from nearfield.vectors import similarity as measures
from nearfield.vectors.dense import Vectors
from nearfield.vectors.vector_map import VectorMap


class BaseEncoder(LoadedModel):
    """The base class of `Encoder`: similarity and facts about the model.

    Some facts have a second name, which sentence-transformers gives them.
    """

    _defaults: OptionDefaults
    if TYPE_CHECKING:
        encode: Callable[..., Any]

    # -- similarity --------------------------------------------------------------------------------------------------

    def similarity(self, a: Any, b: Any) -> Any:
        """Compare all pairs of two sides by the model's own measure: float32 [len(a), len(b)], larger is nearer.

        Args:
            a: results of ``encode``; saved vectors as a NumPy array [n, dim] or [dim], as lists of numbers or as a
                tensor; or texts, which are encoded. Lists of whole numbers are token ids, and so is an array of one
                dimension; an array of saved quantised vectors is refused.
            b: the other side.

        Returns:
            A NumPy array, or a tensor if one of the sides is a tensor.

        Raises:
            SpaceMismatch: the two sides are known to come from different models, dimensions or precisions.
            InputError: vectors have another number of dimensions than the model's, or than the other side's, or
                are quantised and of an unknown space.
        """
        scores = measures.compare(*self._vectors_of(a, b), self.recipe.similarity)
        return measures.like_tensor(scores, a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        """Compare each item of a side with the one in the same place: float32 [n]. Otherwise as ``similarity``.

        Raises:
            SpaceMismatch: the two sides are known to come from different models, dimensions or precisions.
            InputError: as for ``similarity``, or the sides have different numbers of items.
        """
        scores = measures.compare_pairwise(*self._vectors_of(a, b), self.recipe.similarity)
        return measures.like_tensor(scores, a, b)

    def _vectors_of(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return the vectors of both sides; one warning is logged of all texts that the model cannot read."""
        with unread_unlogged() as unread:
            vectors = self._vectors_of_side(a), self._vectors_of_side(b)
        unread.log(self.name)
        return vectors

    def _vectors_of_side(self, side: Any) -> Any:
        vectors = measures.read_vectors(side)
        if vectors is None:
            measures.refuse_quantized(side, self._widths)
            return self.encode(side)
        if isinstance(vectors, Vectors) and not vectors.fingerprint:
            self._check_width(vectors.dim)
        return vectors

    @property
    def _widths(self) -> set[int]:
        """The dimensions that vectors of this model may have."""
        recipe = self.recipe
        return {recipe.dimensions, self.default_dimensions, *(recipe.matryoshka or ())}

    def _check_width(self, width: int) -> None:
        """Raise InputError for vectors of unknown origin that this model cannot have given."""
        recipe = self.recipe
        if recipe.outputs[0] != "dense":
            raise InputError(
                f"{self.name} gives {recipe.outputs[0]} vectors, which cannot be compared as an array: pass what "
                "encode returned.",
                param="vectors",
            )
        if width not in self._widths:
            raise InputError(
                f"These vectors have {width} values, and {self.name} gives vectors of {recipe.dimensions}: they are "
                "another model's. nearfield.similarity compares vectors of any model.",
                param="vectors",
            )

    def _check_query_map(self) -> None:
        """Unload the model and raise SpaceMismatch if its query map was fitted for another one."""
        if self.query_map is None:
            return
        try:
            resolve(EncodeOptions(role="query", outputs="dense"), self._model, self._defaults)
        except NearfieldError:
            self.close(drain=False)
            raise

    # -- properties --------------------------------------------------------------------------------------------------

    @property
    def query_map(self) -> VectorMap | None:
        """The map that moves the dense vectors of queries; None if there is none."""
        return self._defaults.query_map

    @property
    def dimensions(self) -> int:
        """The dimensions of a vector before truncation."""
        return self.recipe.dimensions

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts by name."""
        return dict(self.recipe.prompts)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Valid values of ``task`` in ``encode``: the model's tasks, and its prompts by name."""
        return tuple(sorted({*self.recipe.tasks, *self._model.adapters.named, *self.recipe.prompts}))

    @property
    def device(self) -> str:
        """The device on which the model runs, such as ``cpu``."""
        return self._model.device

    @property
    def max_length(self) -> int:
        """Tokens read of each input, special tokens and prompt included.

        It can be set, to at most the number of positions that the model has. The space of the vectors stays the same.
        """
        return self._model.processor.max_length

    @max_length.setter
    def max_length(self, tokens: int) -> None:
        # Beside the special tokens there must be room for one token, and for the marker of late interaction.
        least = len(self.tokenizer.prefix) + len(self.tokenizer.suffix) + 1 + (self._defaults.formatter is not None)
        self.tokenizer.max_length = require_count("max_length", tokens, least, self.max_positions)

    @property
    def max_seq_length(self) -> int:
        """The same as ``max_length``."""
        return self.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        self.max_length = tokens

    @property
    def default_dimensions(self) -> int:
        """The dimensions of vectors for calls that do not say: those that the folder states, else all."""
        return self._defaults.truncate_dim or self.recipe.dimensions

    def get_embedding_dimension(self) -> int:
        """Return the same as ``default_dimensions``."""
        return self.default_dimensions

    def get_sentence_embedding_dimension(self) -> int:
        """Return the same as ``default_dimensions``."""
        return self.default_dimensions

    def get_max_seq_length(self) -> int:
        """Return the same as ``max_length``."""
        return self.max_length

    # -- several processes -------------------------------------------------------------------------------------------

    def start_multi_process_pool(
        self,
        target_devices: list[str] | None = None,  # noqa: ARG002 - its name in sentence-transformers
    ) -> dict[str, Any]:
        """Return a pool for ``encode_multi_process`` that starts no processes: ``encode`` uses all cores by itself.

        Args:
            target_devices: has no effect.
        """
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Mapping[str, Any]) -> None:
        """Accept the end of a pool, which has no processes."""

    def encode_multi_process(self, texts: Texts, pool: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Encode as ``encode`` does, with its keywords; ``pool`` has no effect."""
        return self.encode(texts, pool=pool, **options)
