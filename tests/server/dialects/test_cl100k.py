"""cl100k_base: the table equals tiktoken's, and LangChain's client, which sends its ids, gets the right vectors."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.server.dialects.openai import cl100k
from tools.cl100k import HASH, pack

TEXTS = ["the cat sat on the mat", "Zürich – naïve café, 東京 🚀", "", "  two  spaces\n", "hello world " * 400]


def _tiktoken_file() -> bytes:
    """Return the table in tiktoken's file format."""
    return b"".join(b"%s %d\n" % (b64encode(token), number) for number, token in enumerate(cl100k.table()))


@pytest.mark.slow
def test_table_equals_tiktoken_s() -> None:
    assert hashlib.sha256(_tiktoken_file()).hexdigest() == HASH
    packed = Path(cl100k.__file__).with_suffix(".xz").read_bytes()
    assert pack(_tiktoken_file()) == packed


@pytest.fixture
def tiktoken_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the table into tiktoken's cache, under the name that it uses, so that it downloads nothing."""
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(_tiktoken_file())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("tiktoken_cache")
def test_decoding_equals_tiktoken_s() -> None:
    import tiktoken

    encoding = tiktoken.get_encoding("cl100k_base")
    for text in TEXTS:
        assert cl100k.decode(encoding.encode(text)) == text
    assert {encoding.encode_single_token(text): text for text in encoding.special_tokens_set} == cl100k.SPECIAL
    halves = encoding.encode("🚀")
    assert cl100k.decode(halves[:1]) == encoding.decode(halves[:1])


@pytest.mark.network
@pytest.mark.usefixtures("tiktoken_cache")
def test_langchain_with_and_without_token_ids(url: str, tiny: Encoder) -> None:
    from langchain_openai import OpenAIEmbeddings

    settings = {"model": "tiny", "base_url": url + "/v1", "api_key": "none"}
    texts = TEXTS[:4]
    expected = np.stack([np.asarray(tiny.encode(text)) for text in texts])
    for checked in (True, False):
        embeddings = OpenAIEmbeddings(**settings, check_embedding_ctx_length=checked)  # type: ignore[arg-type]
        np.testing.assert_allclose(embeddings.embed_documents(texts), expected, atol=1e-6)
        np.testing.assert_allclose(embeddings.embed_query(texts[0]), expected[0], atol=1e-6)
