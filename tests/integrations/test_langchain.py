"""LangChain: components in a vector store, a retriever that reranks, and a chain with a chat model."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.integrations.langchain import NearfieldEmbeddings, NearfieldRerank, NearfieldSparseEmbeddings
from nearfield.reranker import Reranker
from tests.integrations.conftest import FACTS, QUESTION, Reference, assert_close

pytestmark = pytest.mark.slow
later = pytest.mark.skipif(sys.version_info < (3, 11), reason="langchain-classic needs Python 3.11 here")
LOAD: Any = {"precision": "float32", "compile_cache": False}


def _documents() -> list[Document]:
    return [Document(text, id=str(number), metadata={"number": number}) for number, text in enumerate(FACTS)]


async def test_vectors_are_those_of_the_reference(minilm: Encoder, minilm_reference: Reference) -> None:
    embeddings = NearfieldEmbeddings(minilm)
    expected = minilm_reference.documents(FACTS)
    assert_close(embeddings.embed_documents(FACTS), expected)
    assert_close(await embeddings.aembed_documents(FACTS), expected)
    assert_close(embeddings.embed_query(QUESTION), minilm_reference.query(QUESTION))
    assert_close(await embeddings.aembed_query(QUESTION), minilm_reference.query(QUESTION))


async def test_queries_and_documents_get_their_prompts(prompted: Encoder, prompted_reference: Reference) -> None:
    embeddings = NearfieldEmbeddings(prompted)
    assert_close(embeddings.embed_documents(["a cat"]), prompted_reference.documents(["a cat"]))
    assert_close(embeddings.embed_query("a cat"), prompted_reference.query("a cat"))
    assert_close(await embeddings.aembed_query("a cat"), prompted_reference.query("a cat"))
    assert np.abs(np.array(embeddings.embed_query("a cat")) - embeddings.embed_documents(["a cat"])[0]).max() > 0.01


def test_results_are_lists_of_plain_numbers(tiny: Encoder) -> None:
    embeddings = NearfieldEmbeddings(tiny)
    (row,) = embeddings.embed_documents(["a cat"])
    assert type(row) is list and type(row[0]) is float and len(row) == 32
    assert embeddings.embed_documents([]) == []
    with pytest.raises(InputError, match="texts must be a list of texts, and is one text"):
        embeddings.embed_documents("a cat")  # type: ignore[arg-type]
    codes = NearfieldEmbeddings(tiny, encode_options={"precision": "ubinary"})
    assert (
        codes.embed_query("a cat") == np.asarray(tiny.encode(["a cat"], role="query", precision="ubinary"))[0].tolist()
    )


def test_options_reach_the_model(tiny: Encoder) -> None:
    folder = str(tiny.recipe.folder)
    embeddings = NearfieldEmbeddings(folder, max_length=8, encode_options={"truncate": "left"}, **LOAD)
    long = "a cat sat on the mat " * 5
    expected = tiny.encode([long], role="document", truncate="left", max_length=8)
    assert_close(embeddings.embed_documents([long]), expected)
    assert embeddings.model == folder and folder in repr(embeddings)
    again = pickle.loads(pickle.dumps(embeddings))
    assert_close(again.embed_documents([long]), expected)
    for component in (embeddings, again):
        component.close()


def test_model_name_is_another_name_of_model(tiny: Encoder) -> None:
    folder = str(tiny.recipe.folder)
    assert NearfieldEmbeddings(model_name=folder).model == NearfieldEmbeddings(model=folder).model == folder
    assert NearfieldSparseEmbeddings(model_name=folder).model == folder
    assert NearfieldEmbeddings(model_name=tiny).embed_query("a cat") == NearfieldEmbeddings(tiny).embed_query("a cat")
    with pytest.raises(InputError, match=r"model is 'other' and model_name is .*: pass one"):
        NearfieldEmbeddings("other", model_name=folder)


def test_dimensions_can_be_forced(tiny: Encoder) -> None:
    embeddings = NearfieldEmbeddings(str(tiny.recipe.folder), truncate_dim=7, force_truncate_dim=True, **LOAD)
    expected = tiny.encode(["a cat"], role="document", truncate_dim=7, force_truncate_dim=True)
    assert_close(embeddings.embed_documents(["a cat"]), expected)
    embeddings.close()


def test_a_vector_store_finds_what_the_reference_finds(minilm: Encoder, minilm_reference: Reference) -> None:
    store = InMemoryVectorStore(NearfieldEmbeddings(minilm))
    store.add_documents(_documents())
    results = store.similarity_search_with_score(QUESTION, k=len(FACTS))
    scores = minilm_reference.documents(FACTS) @ minilm_reference.query(QUESTION)
    order = np.argsort(-scores)
    assert [document.metadata["number"] for document, _ in results] == order.tolist()
    assert_close([score for _, score in results], scores[order])


@later
async def test_a_chain_answers_from_reranked_documents(minilm: Encoder, reranker: Reranker, pair_scores: Any) -> None:
    from langchain_classic.retrievers import ContextualCompressionRetriever
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough

    store = InMemoryVectorStore(NearfieldEmbeddings(minilm))
    store.add_documents(_documents())
    retriever = ContextualCompressionRetriever(
        base_compressor=NearfieldRerank(reranker, top_n=2), base_retriever=store.as_retriever(search_kwargs={"k": 4})
    )
    best = np.argsort(-pair_scores(QUESTION, FACTS), kind="stable")[:2].tolist()
    retrieved = retriever.invoke(QUESTION)
    assert [document.metadata["number"] for document in retrieved] == best
    assert_close([document.metadata["relevance_score"] for document in retrieved], pair_scores(QUESTION, FACTS)[best])
    assert [document.metadata["number"] for document in await retriever.ainvoke(QUESTION)] == best

    prompts: list[str] = []
    prompt = ChatPromptTemplate.from_template("Context: {context}\nQuestion: {question}")

    def join(documents: list[Document]) -> str:
        return "\n".join(document.page_content for document in documents)

    def record(value: Any) -> Any:
        prompts.append(value.to_string())
        return value

    chat = FakeListChatModel(responses=["4,806 m", "4,806 m"])
    inputs: Any = {"context": retriever | RunnableLambda(join), "question": RunnablePassthrough()}
    chain = inputs | prompt | RunnableLambda(record) | chat | StrOutputParser()
    assert chain.invoke(QUESTION) == await chain.ainvoke(QUESTION) == "4,806 m"
    assert prompts[0] == prompts[1] == f"Human: Context: {FACTS[best[0]]}\n{FACTS[best[1]]}\nQuestion: {QUESTION}"


async def test_reranking_leaves_the_documents_unchanged(reranker: Reranker, pair_scores: Any) -> None:
    documents, ranker = _documents(), NearfieldRerank(reranker, top_n=None)
    ranked = ranker.compress_documents(documents, QUESTION)
    assert documents == _documents()
    assert [document.id for document in ranked] == [
        str(number) for number in np.argsort(-pair_scores(QUESTION, FACTS), kind="stable")
    ]
    assert [document.id for document in await ranker.acompress_documents(documents, QUESTION)] == [
        document.id for document in ranked
    ]
    assert ranker.compress_documents([], QUESTION) == []


def test_a_reranker_is_copied_dumped_and_pickled(reranker: Reranker, reranker_folder: str, pair_scores: Any) -> None:
    ranker = NearfieldRerank(reranker_folder, top_n=1, rerank_options={"activation": "identity"}, **LOAD)
    data = ranker.model_dump()
    assert data == {
        "model": reranker_folder,
        "top_n": 1,
        "load_options": LOAD,
        "rerank_options": {"activation": "identity"},
    }
    assert NearfieldRerank.model_validate_json(ranker.model_dump_json()).model_dump() == data
    expected = reranker.rank(QUESTION, FACTS, activation="identity")[0].score
    again = pickle.loads(pickle.dumps(ranker))
    copies = [ranker, copy.copy(ranker), copy.deepcopy(ranker), ranker.model_copy(update={"top_n": 1}), again]
    for component in copies:
        (document,) = component.compress_documents(_documents(), QUESTION)
        assert document.metadata["relevance_score"] == pytest.approx(expected, abs=1e-5)
        assert component.model_dump() == data
    for component in copies:
        component.close()
    with pytest.raises(InputError, match="loaded Reranker"):
        pickle.dumps(NearfieldRerank(reranker))
    assert NearfieldRerank(reranker).model_dump()["model"] == reranker.name


def test_fields_that_chose_the_model_cannot_be_changed(reranker: Reranker) -> None:
    ranker = NearfieldRerank(reranker, top_n=3)
    ranker.top_n = 1
    assert len(ranker.compress_documents(_documents(), QUESTION)) == 1
    with pytest.raises(ValueError, match="frozen"):
        ranker.model = "another"
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        NearfieldRerank(reranker, top_n=0)


async def test_sparse_vectors_are_those_of_the_reference(splade: Path, splade_rows: Any) -> None:
    sparse = NearfieldSparseEmbeddings(splade, **LOAD)
    texts = ["the cat sat", "hello world"]
    documents, expected = sparse.embed_documents(texts), splade_rows(texts)
    for vector, row in zip(documents, expected, strict=True):
        dense = np.zeros_like(row)
        dense[vector.indices] = vector.values
        assert_close(dense, row)
        assert type(vector.indices) is list and type(vector.values[0]) is float
    query = sparse.embed_query(texts[0])
    assert query.indices == documents[0].indices
    assert (await sparse.aembed_query(texts[0])).indices == query.indices
    assert [vector.indices for vector in await sparse.aembed_documents(texts)] == [
        vector.indices for vector in documents
    ]
    sparse.close()


def test_a_class_of_langchain_recognises_them(tiny: Encoder) -> None:
    assert isinstance(NearfieldEmbeddings(tiny), Embeddings)
