"""`BGEM3FlagModel`: dense, lexical and token vectors of bge-m3 in one pass, and scores from all three."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.compat.flag_embedding.embedder import AbsEmbedder, Sentences
from nearfield.compat.flag_embedding.model_loading import load_embedder
from nearfield.compat.inputs import read_pairs, read_texts
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.tensors import array_to_tensor, torch_is_installed
from nearfield.vectors.dense import normalize
from nearfield.vectors.outputs import Outputs

LexicalWeights = Mapping[str, float]
SCORES = ("colbert", "sparse", "dense", "sparse+dense", "colbert+sparse+dense")

#: The arguments that ask for the outputs of a model.
_ARGUMENTS = {"dense": "return_dense", "sparse": "return_sparse", "multivector": "return_colbert_vecs"}


class BGEM3FlagModel(AbsEmbedder):
    """The three outputs of bge-m3. Arguments as in FlagEmbedding; those without effect as for ``FlagModel``.

    ``colbert_dim`` must be that of the folder, or -1.
    """

    def __init__(
        self,
        model_name_or_path: str,
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "{}{}",
        devices: str | list[str] | None = None,
        pooling_method: str = "cls",
        trust_remote_code: bool = False,
        cache_dir: str | None = None,
        colbert_dim: int = -1,
        batch_size: int = 256,
        query_max_length: int = 512,
        passage_max_length: int = 512,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        del cache_dir
        self.pooling_method = pooling_method
        self.return_dense = return_dense
        self.return_sparse = return_sparse
        self.return_colbert_vecs = return_colbert_vecs
        super().__init__(
            model_name_or_path,
            normalize_embeddings,
            use_fp16,
            use_bf16,
            query_instruction_for_retrieval,
            query_instruction_format,
            devices,
            batch_size,
            query_max_length,
            passage_max_length,
            truncate_dim=truncate_dim,
            pooling_method=pooling_method,
            trust_remote_code=trust_remote_code,
            **kwargs,
        )
        self._check_colbert_dim(colbert_dim)

    def _load(self, pooling: str) -> Encoder:
        return load_embedder(
            self.model_name_or_path,
            pooling=pooling,
            normalize=self.normalize_embeddings,
            half=self.use_fp16 or self.use_bf16,
            min_length=max(self.query_max_length, self.passage_max_length),
            heads=True,
        )

    def _check_colbert_dim(self, colbert_dim: int) -> None:
        head = self.model.recipe.head("multivector")
        own = getattr(head, "dimensions", colbert_dim)
        if colbert_dim > 0 and colbert_dim != own:
            raise InputError(f"colbert_dim={colbert_dim}, and the folder's weights have {own}.", param="colbert_dim")

    def _require(self, kinds: Sequence[str]) -> None:
        """Raise InputError unless the model gives these outputs."""
        missing = [_ARGUMENTS[kind] for kind in kinds if kind not in self.model.recipe.outputs]
        if missing:
            raise InputError(
                f"{self.model.name} has no weights for {' and '.join(missing)}: these are outputs of BAAI/bge-m3 and "
                "of models trained from it. Load this model with FlagModel, for dense vectors.",
                param=missing[0],
            )

    # -- encoding ------------------------------------------------------------------------------------------------

    def encode_queries(  # type: ignore[override]
        self,
        queries: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        return_dense: bool | None = None,
        return_sparse: bool | None = None,
        return_colbert_vecs: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Encode queries, with the instruction of the constructor; see ``encode``."""
        kinds = {
            "return_dense": return_dense,
            "return_sparse": return_sparse,
            "return_colbert_vecs": return_colbert_vecs,
        }
        result: dict[str, Any] = super().encode_queries(queries, batch_size, max_length, **kinds, **kwargs)
        return result

    def encode_corpus(  # type: ignore[override]
        self,
        corpus: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        return_dense: bool | None = None,
        return_sparse: bool | None = None,
        return_colbert_vecs: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Encode documents; see ``encode``."""
        kinds = {
            "return_dense": return_dense,
            "return_sparse": return_sparse,
            "return_colbert_vecs": return_colbert_vecs,
        }
        result: dict[str, Any] = super().encode_corpus(corpus, batch_size, max_length, **kinds, **kwargs)
        return result

    def encode(  # type: ignore[override]
        self,
        sentences: Sentences,
        batch_size: int | None = None,
        max_length: int | None = None,
        return_dense: bool | None = None,
        return_sparse: bool | None = None,
        return_colbert_vecs: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the outputs that are requested; None in place of the others.

        ``dense_vecs`` is float32 [n, dim]; ``lexical_weights`` has for each text the weights of token ids, which are
        strings; ``colbert_vecs`` has for each text float32 [tokens, dim]. Of one text they are not in lists.

        Raises:
            InputError: the folder has no weights for an output, or none is requested.
        """
        del batch_size
        texts = self._with_instruction(
            sentences, kwargs.pop("instruction", None), kwargs.pop("instruction_format", None)
        )
        return self.encode_single_device(
            texts,
            max_length=self.passage_max_length if max_length is None else max_length,
            return_dense=self.return_dense if return_dense is None else return_dense,
            return_sparse=self.return_sparse if return_sparse is None else return_sparse,
            return_colbert_vecs=self.return_colbert_vecs if return_colbert_vecs is None else return_colbert_vecs,
        )

    def encode_single_device(  # type: ignore[override]
        self,
        sentences: Sentences,
        batch_size: int = 256,
        max_length: int = 512,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
        device: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the outputs of texts, without an instruction; see ``encode``."""
        del batch_size, device, kwargs
        texts = read_texts(sentences, "sentences")
        single = isinstance(texts, str)
        requested = {"dense": return_dense, "sparse": return_sparse, "multivector": return_colbert_vecs}
        kinds = [kind for kind, wants in requested.items() if wants]
        outputs = self._outputs([texts] if isinstance(texts, str) else texts, kinds, max_length)
        result: dict[str, Any] = {
            "dense_vecs": outputs.dense,
            "lexical_weights": self._lexical_weights(outputs),
            "colbert_vecs": self._token_vectors(outputs),
        }
        return {name: value[0] if single and value is not None else value for name, value in result.items()}

    def _outputs(self, texts: Sequence[str], kinds: Sequence[str], max_length: int) -> Outputs:
        self._require(kinds)
        outputs: Outputs = self.model.encode(texts, outputs=kinds, **self.call_options(max_length))
        return outputs

    @staticmethod
    def _lexical_weights(outputs: Outputs) -> list[defaultdict[str, Any]] | None:
        if outputs.sparse is None:
            return None
        rows = [zip(map(str, ids.tolist()), values, strict=True) for ids, values in outputs.sparse]
        return [defaultdict(int, row) for row in rows]

    def _token_vectors(self, outputs: Outputs) -> list[Array] | None:
        if outputs.multivector is None:
            return None
        rows = list(outputs.multivector)
        if self.truncate_dim is None:
            return rows
        short = [row[:, : self.truncate_dim] for row in rows]
        return [normalize(row) for row in short] if self.normalize_embeddings else short

    # -- scores --------------------------------------------------------------------------------------------------

    def convert_id_to_token(self, lexical_weights: Any) -> Any:
        """Return weights with tokens in place of their ids; a list of one is not returned as a list."""
        rows = [lexical_weights] if isinstance(lexical_weights, Mapping) else lexical_weights
        named = [{self._token(number): weight for number, weight in row.items()} for row in rows]
        return named[0] if len(named) == 1 else named

    def _token(self, number: str | int) -> str:
        token: str = self.tokenizer.decode([int(number)], skip_special_tokens=False)
        return token

    def compute_lexical_matching_score(self, lexical_weights_1: Any, lexical_weights_2: Any) -> Any:
        """Return the dot product of two texts' weights; of two lists an array of all with all.

        Raises:
            InputError: one of them is a list, and the other is not.
        """
        first, second = lexical_weights_1, lexical_weights_2
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            return _dot(first, second)
        if isinstance(first, list) and isinstance(second, list):
            return np.array([[_dot(a, b) for b in second] for a in first])
        raise InputError("Give the lexical weights of two texts, or two lists of them.", param="lexical_weights_1")

    def colbert_score(self, q_reps: Array, p_reps: Array) -> Any:
        """Return the mean of the best matches of a query's vectors: a tensor if torch is installed."""
        score = np.asarray((np.asarray(q_reps) @ np.asarray(p_reps).T).max(-1).mean(), np.float32)
        return array_to_tensor(score) if torch_is_installed() else score

    def compute_score(
        self,
        sentence_pairs: Any,
        batch_size: int | None = None,
        max_query_length: int | None = None,
        max_passage_length: int | None = None,
        weights_for_different_modes: list[float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score pairs of texts by each output and by weighted means: lists of numbers, by the names in ``SCORES``.

        Args:
            sentence_pairs: pairs, or one pair, which gives numbers in place of lists.
            batch_size: has no effect.
            max_query_length: tokens to read of first texts.
            max_passage_length: tokens to read of second texts.
            weights_for_different_modes: of dense, sparse and token vectors; by default all 1.
            kwargs: have no effect.
        """
        del batch_size
        return self.compute_score_single_device(
            sentence_pairs,
            max_query_length=self.query_max_length if max_query_length is None else max_query_length,
            max_passage_length=self.passage_max_length if max_passage_length is None else max_passage_length,
            weights_for_different_modes=weights_for_different_modes,
            **kwargs,
        )

    def compute_score_single_device(
        self,
        sentence_pairs: Any,
        batch_size: int = 256,
        max_query_length: int = 512,
        max_passage_length: int = 512,
        weights_for_different_modes: list[float] | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score pairs of texts; see ``compute_score``."""
        del batch_size, device, kwargs
        pairs, single = read_pairs(sentence_pairs, "sentence_pairs")
        require_count("max_query_length", max_query_length)
        require_count("max_passage_length", max_passage_length)
        if not pairs:
            return []
        weights = [1.0, 1.0, 1.0] if weights_for_different_modes is None else weights_for_different_modes
        if len(weights) != 3:
            raise InputError(
                f"weights_for_different_modes has {len(weights)} numbers, and must have 3: dense, sparse, colbert.",
                param="weights_for_different_modes",
            )
        firsts = self._read_once([pair[0] for pair in pairs], max_query_length)
        seconds = self._read_once([pair[1] for pair in pairs], max_passage_length)
        scores = {name: values.tolist() for name, values in _weighted(_all_scores(firsts, seconds), weights).items()}
        return {name: values[0] for name, values in scores.items()} if single else scores

    def _read_once(self, texts: Sequence[str], max_length: int) -> list[tuple[Array, LexicalWeights, Array]]:
        """Return each text's dense vector, weights and token vectors; equal texts are encoded once."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        options = {**self.call_options(max_length), "truncate_dim": None}
        self._require(("dense", "sparse", "multivector"))
        outputs = self.model.encode(list(places), outputs=("dense", "sparse", "multivector"), **options)
        dense, weights, tokens = np.asarray(outputs.dense), outputs.sparse.to_dicts(), outputs.multivector
        return [(dense[places[text]], weights[places[text]], tokens[places[text]]) for text in texts]


def _dot(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> Any:
    return sum(weight * second[token] for token, weight in first.items() if token in second)


def _all_scores(firsts: Sequence[Any], seconds: Sequence[Any]) -> tuple[Array, Array, Array]:
    """Return dense, sparse and token scores of pairs, float32."""
    rows = [
        (q[0] @ p[0], _dot(q[1], p[1]), (q[2] @ p[2].T).max(1).sum() / max(1, len(q[2])) if len(p[2]) else 0.0)
        for q, p in zip(firsts, seconds, strict=True)
    ]
    dense, sparse, tokens = np.array(rows, np.float32).reshape(-1, 3).T
    return dense, sparse, tokens


def _weighted(scores: tuple[Array, Array, Array], weights: Sequence[float]) -> dict[str, Array]:
    dense, sparse, tokens = scores
    both = (dense * weights[0] + sparse * weights[1]) / (weights[0] + weights[1])
    everything = (dense * weights[0] + sparse * weights[1] + tokens * weights[2]) / sum(weights)
    return dict(zip(SCORES, (tokens, sparse, dense, both, everything), strict=True))
