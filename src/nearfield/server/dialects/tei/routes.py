"""TEI's API, that of Hugging Face's Text Embeddings Inference: https://huggingface.github.io/text-embeddings-inference/

A TEI server has one model, and its bodies name none. Here the first loaded model that fits is used, unless the field
``model``, which is our addition, names one. What that model cannot do is refused with the same kinds of error.
"""

from __future__ import annotations

from nearfield.errors import NearfieldError
from nearfield.server.dialects import Reply, Route
from nearfield.server.dialects.tei.info import get_info, ping
from nearfield.server.dialects.tei.requests import (
    read_any,
    read_decode,
    read_embed,
    read_embed_all,
    read_embed_sparse,
    read_predict,
    read_rerank,
    read_similarity,
    read_tokenize,
    read_vertex,
)
from nearfield.server.dialects.tei.responses import (
    error_reply,
    write_predictions,
    write_reply,
    write_texts,
    write_tokens,
)
from nearfield.server.dialects.tei.schemas import (
    AnyList,
    LabelLists,
    RankList,
    ScoreList,
    SparseRows,
    TeiAnyRequest,
    TeiDecodeRequest,
    TeiEmbedAllRequest,
    TeiEmbedRequest,
    TeiError,
    TeiInfo,
    TeiPredictions,
    TeiPredictRequest,
    TeiRerankRequest,
    TeiSimilarityRequest,
    TeiTokenizeRequest,
    TeiVertexRequest,
    TextList,
    TokenLists,
    TokenRows,
    VectorRows,
)

_INPUTS_EXAMPLE = {"inputs": "What is Deep Learning?"}
_RERANK_EXAMPLE = {"query": "What is Deep Learning?", "texts": ["Deep Learning is ..."]}
_SIMILARITY_EXAMPLE = {
    "inputs": {"source_sentence": "What is Deep Learning?", "sentences": ["What is Machine Learning?"]}
}


class TeiDialect:
    """TEI's API."""

    name = "tei"
    error_type = TeiError
    routes = (
        Route(
            "/embed",
            "Embed texts",
            read_embed,
            write_reply,
            TeiEmbedRequest,
            VectorRows,
            example=_INPUTS_EXAMPLE,
        ),
        Route(
            "/embed_all",
            "Embed texts: one vector for each token",
            read_embed_all,
            write_reply,
            TeiEmbedAllRequest,
            TokenRows,
        ),
        Route(
            "/embed_sparse",
            "Embed texts as sparse vectors",
            read_embed_sparse,
            write_reply,
            TeiEmbedAllRequest,
            SparseRows,
        ),
        Route(
            "/rerank",
            "Rank texts by a query",
            read_rerank,
            write_reply,
            TeiRerankRequest,
            RankList,
            example=_RERANK_EXAMPLE,
        ),
        Route(
            "/predict",
            "Classify texts, or pairs of texts",
            read_predict,
            write_reply,
            TeiPredictRequest,
            LabelLists,
            example=_INPUTS_EXAMPLE,
        ),
        Route(
            "/similarity",
            "Compare a sentence with others",
            read_similarity,
            write_reply,
            TeiSimilarityRequest,
            ScoreList,
            example=_SIMILARITY_EXAMPLE,
        ),
        Route(
            "/tokenize",
            "Tokenise texts",
            read_tokenize,
            write_tokens,
            TeiTokenizeRequest,
            TokenLists,
            example=_INPUTS_EXAMPLE,
        ),
        Route("/decode", "Decode token ids to texts", read_decode, write_texts, TeiDecodeRequest, TextList),
        *(
            Route(
                path,
                "Embed, classify or rank, by the kind of the first model",
                read_any,
                write_reply,
                TeiAnyRequest,
                AnyList,
                example=_INPUTS_EXAMPLE,
            )
            for path in ("/", "/invocations")
        ),
        Route(
            "/vertex",
            "Run several requests of POST /",
            read_vertex,
            write_predictions,
            TeiVertexRequest,
            TeiPredictions,
        ),
        Route("/info", "Describe the first model", get_info, response_type=TeiInfo, method="GET"),
        Route("/ping", "Liveness probe", ping, method="GET", public=True),
    )

    def refuse(self, error: NearfieldError) -> Reply:
        """Return TEI's error body, with the status that TEI sends."""
        return error_reply(error)
