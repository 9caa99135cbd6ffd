"""``ChunkEncoder``: the vectors of chunks by all features of a forward pass, in this process or in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nearfield.arrays import Array
from nearfield.corpus.chunkers.late import group_runs
from nearfield.corpus.document import Span
from nearfield.corpus.features import EncodePass, Feature, Vector, token_counter
from nearfield.errors import ExecutionFailed, InputError
from nearfield.inference.preparation.unread_inputs import unread_unlogged
from nearfield.vectors.outputs import Outputs

#: Texts that are tokenised together.
_WINDOW = 512
#: Errors of the model about one input. All other errors (no memory, shutting down) end the run.
INPUT_ERRORS = (InputError, ExecutionFailed)

#: The vectors of one chunk by feature, the number of its tokens, and that of truncated ones.
ChunkVectors = tuple[list[Vector], int, int]


class ChunkEncoder:
    """Encodes chunks.

    Args:
        encode_pass: the forward pass.
        features: the features that share it.
        late: whether the chunks of a document are encoded together.
    """

    def __init__(self, encode_pass: EncodePass, features: Sequence[Feature], *, late: bool) -> None:
        self.features, self.late = features, late
        self._encoder = features[0].encoder
        self._pass = encode_pass
        self._options = encode_pass.encode_options()

    def stream(self, texts: Iterable[str]) -> Iterator[list[ChunkVectors]]:
        """Encode any number of texts in bounded memory, and yield what they give in order.

        Raises:
            InputError, ExecutionFailed: the model refuses one of them.
        """
        for outputs in self._encoder.stream(texts, window=_WINDOW, role="document", **self._options):
            yield list(self._rows(outputs))

    def document(self, texts: Sequence[str]) -> list[ChunkVectors]:
        """Encode the chunks of one document; raises as ``stream`` does."""
        if self.late:
            return encode_late(self._pass, self.features, texts)
        with unread_unlogged():
            outputs = self._encoder.encode(list(texts), role="document", show_progress_bar=False, **self._options)
        return list(self._rows(outputs))

    def _rows(self, outputs: Outputs) -> Iterator[ChunkVectors]:
        """Yield for each input the vectors of all features, the number of tokens, and that of truncated ones."""
        assert outputs.tokens is not None  # both are set in all results of an encoder
        assert outputs.dropped is not None
        columns = [feature.vectors(outputs) for feature in self.features]
        for number, vectors in enumerate(zip(*columns, strict=True)):
            yield list(vectors), int(outputs.tokens[number]), int(outputs.dropped[number])


def encode_late(encode_pass: EncodePass, features: Sequence[Feature], chunks: Sequence[str]) -> list[ChunkVectors]:
    """Embed the chunks of a document together, so that each has its context (late chunking, arXiv:2409.04701).

    Raises:
        InputError: a feature is not dense: late chunking pools dense vectors.
    """
    other = next((feature for feature in features if feature.kind != "dense"), None)
    if other is not None:
        raise InputError(f"Late chunking pools dense vectors, and feature {other.name!r} is {other.kind}.")
    options = {name: value for name, value in encode_pass.encode_options().items() if name != "outputs"}
    rows: list[ChunkVectors] = []
    for vectors in features[0].encoder.encode_late(_runs(features[0], chunks), role="document", **options):
        columns = [feature.shape(vectors.data) for feature in features]
        tokens = vectors.tokens if vectors.tokens is not None else [0] * len(vectors)
        for number in range(len(vectors)):
            rows.append(([column[number] for column in columns], int(tokens[number]), 0))
    return rows


def _runs(feature: Feature, chunks: Sequence[str]) -> list[tuple[str, ...]]:
    """Group consecutive chunks into runs that fit into the model's maximum length; a line break separates chunks."""
    counter = token_counter(feature)
    spans, at = [], 0
    for chunk in chunks:
        spans.append(Span(at, at + len(chunk), tokens=counter.count(chunk)))
        at += len(chunk) + 1
    return [run.texts for run in group_runs("\n".join(chunks), spans, counter)]


def encode_dense(feature: Feature, texts: Sequence[str]) -> Array:
    """Return the dense vectors of sentences, for the semantic chunker: float32 [n, dimensions]."""
    with unread_unlogged():
        outputs = feature.encoder.encode(list(texts), role="document", show_progress_bar=False, outputs=("dense",))
    vectors: Array = outputs["dense"].data
    return vectors
