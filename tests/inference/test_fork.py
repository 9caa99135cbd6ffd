"""Processes that are forked after a model was loaded: gunicorn --preload, Celery, multiprocessing, os.fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nearfield.testing import write_tiny_model
from tests.parity.scores import classifier
from tests.support import tiny_pictures

pytestmark = pytest.mark.process

#: What each script begins with: a model that is loaded, and a function that runs another one in a forked process.
_START = """
import asyncio, os, signal, sys, threading, time, traceback, warnings
import numpy as np
import nearfield
from nearfield.errors import ForkedProcess

TEXTS = ["the cat sat on the mat", "a dog", "hello world"]
encoder = nearfield.Encoder(sys.argv[1], compile_cache=False, precision="float32")


def forked(function, seconds=30):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    signal.alarm(seconds)
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def encodes_like_the_parent():
    np.testing.assert_allclose(np.asarray(encoder.encode(TEXTS)), expected, atol=1e-6)


def refused(function):
    try:
        function()
    except ForkedProcess as error:
        assert "fork" in str(error)
    else:
        raise AssertionError("no error")
"""

_CASES = {
    "an encoder that was used": """
expected = np.asarray(encoder.encode(TEXTS))
assert forked(encodes_like_the_parent) == 0
encodes_like_the_parent()
""",
    "an encoder that was only loaded": """
def encode():
    assert encoder.encode(TEXTS).shape == (3, 32)
assert forked(encode) == 0
""",
    "a new encoder in the child": """
expected = np.asarray(encoder.encode(TEXTS))
def encode():
    global encoder
    encoder = nearfield.Encoder(sys.argv[1], compile_cache=False, precision="float32")
    encodes_like_the_parent()
assert forked(encode) == 0
""",
    "a child of a child": """
expected = np.asarray(encoder.encode(TEXTS))
def fork_again():
    encodes_like_the_parent()
    assert forked(encodes_like_the_parent) == 0
assert forked(fork_again) == 0
""",
    "aencode, with texts that threads tokenise": """
texts = [" ".join(TEXTS) * 400] * 40
expected = np.asarray(asyncio.run(encoder.aencode(texts)))
def encode():
    np.testing.assert_allclose(np.asarray(asyncio.run(encoder.aencode(texts))), expected, atol=1e-6)
assert forked(encode) == 0
""",
    "threads that encode while the process forks": """
expected = np.asarray(encoder.encode(TEXTS))
running = True
def work():
    while running:
        encoder.encode(TEXTS * 20)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = [forked(encodes_like_the_parent) for _ in range(10)]
running = False
for thread in threads:
    thread.join()
assert codes == [0] * 10, codes
""",
    "a lock that another thread has": """
expected = np.asarray(encoder.encode(TEXTS))
started, end = threading.Event(), threading.Event()
def hold():
    with encoder.engine._scheduler._state.lock, encoder._model._changing:
        started.set()
        end.wait()
thread = threading.Thread(target=hold)
thread.start()
started.wait()
code = forked(encodes_like_the_parent)
end.set()
assert code == 0
""",
    "what the parent queued": """
stream = encoder.stream(TEXTS * 100, window=10)
first = next(stream)
gate, parent = threading.Event(), os.getpid()
encoder.engine.observers.append(lambda report: os.getpid() == parent and gate.wait())  # before results arrive
ticket = encoder.submit(TEXTS * 2000)
def go_on():
    refused(ticket.result)
    encoder.engine.cancel(ticket)
    encoder.encode(TEXTS)
assert forked(go_on) == 0
gate.set()
assert len(ticket.result()) == 6000
assert sum(map(len, stream)) == 290
""",
    "a child that ends like any other program": """
process = os.fork()
if not process:
    signal.alarm(30)
    encoder.encode(TEXTS)
    nearfield.Encoder(sys.argv[1], compile_cache=False).encode(TEXTS)
    sys.exit(0)
assert os.waitpid(process, 0)[1] == 0
process = os.fork()
if not process:
    signal.alarm(30)
    del encoder
    sys.exit(0)
assert os.waitpid(process, 0)[1] == 0
encoder.encode(TEXTS)
""",
    "an engine with threads of its own, closed models and closed engines": """
own = nearfield.Encoder(sys.argv[1], compile_cache=False, threads=1)
closed = nearfield.Encoder(sys.argv[1], compile_cache=False, threads=1)
closed.close()
def encode():
    own.encode(TEXTS)
    own.close()
    try:
        closed.encode(TEXTS)
    except nearfield.errors.ShuttingDown:
        pass
    else:
        raise AssertionError("no error")
    closed.close()
assert forked(encode) == 0
own.encode(TEXTS)
""",
    "a pool of processes": """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
expected = np.asarray(encoder.encode(TEXTS))
def encode(text):
    return np.asarray(encoder.encode(text))
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    rows = pool.map_async(encode, TEXTS).get(60)
np.testing.assert_allclose(rows, expected, atol=1e-6)
with ProcessPoolExecutor(2, mp_context=context) as executor:
    rows = list(executor.map(encode, TEXTS, timeout=60))
np.testing.assert_allclose(rows, expected, atol=1e-6)
""",
    "an adapter that is loaded and removed in the child": """
def change():
    try:
        encoder.load_adapter("/nowhere")
    except nearfield.errors.NearfieldError:
        pass
    assert encoder.adapters == ()
    encoder.encode(TEXTS)
assert forked(change) == 0
""",
    "a variable that says true": """
os.environ["TOKENIZERS_PARALLELISM"] = "true"
expected = np.asarray(encoder.encode(TEXTS * 100))[:3]
def encode():
    np.testing.assert_allclose(np.asarray(encoder.encode(TEXTS * 100))[:3], expected, atol=1e-6)
assert forked(encode) == 0
assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("forked") / "tiny")


def _run(code: str, *words: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", _CASES)
def test_a_forked_process_encodes(case: str, folder: Path) -> None:
    _run(_START + _CASES[case], folder)


@pytest.mark.slow
def test_a_forked_process_ranks_and_classifies(tmp_path: Path) -> None:
    _run(_SCORES, classifier("bert", 1)(tmp_path / "1"), classifier("bert", 3)(tmp_path / "3"))


_SCORES = """
import os, signal, sys
import nearfield
reranker, labels = (nearfield.load(path, compile_cache=False, precision="float32") for path in sys.argv[1:])
ranking, prediction = reranker.rank("the cat", ["a dog", "the cat sat"]), labels.predict("the cat")
process = os.fork()
if not process:
    signal.alarm(30)
    same = [item.index for item in reranker.rank("the cat", ["a dog", "the cat sat"])] == [r.index for r in ranking]
    os._exit(0 if same and labels.predict("the cat").label == prediction.label else 1)
assert os.waitpid(process, 0)[1] == 0
"""


def test_a_tokenizer_in_a_process_is_not_shared(folder: Path) -> None:
    _run(_TOKENIZER, folder)


_TOKENIZER = """
import os, signal, sys
import tokenizers
from nearfield.checkpoint.tokenizer.tokenizer_process import TokenizerProcess
process = TokenizerProcess(tokenizers.Tokenizer.from_file(sys.argv[1] + "/tokenizer.json"))
texts = ["the cat", "a dog sat"]
encode = lambda: [reply.ids for reply in process.encode(texts, add_special_tokens=True, whole=False)]
expected = encode()
child = os.fork()
if not child:
    signal.alarm(60)
    right = encode() == expected
    del process
    os._exit(0 if right else 1)
assert os.waitpid(child, 0)[1] == 0
running = process._process.peek()
assert encode() == expected and process._process.peek() is running
"""


@pytest.mark.slow
def test_a_forked_process_searches_a_collection(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    _run(_COLLECTION, folder, tmp_path / "home")


_COLLECTION = """
import os, signal, sys, threading, traceback
from pathlib import Path
from nearfield import Collection
from nearfield.errors import ForkedProcess

def forked(function):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    signal.alarm(60)
    try:
        os._exit(0 if function() else 1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)

def write(text):
    return collection.put([{"id": text[:1], "text": text}]).new == 1

def finds(*documents):
    return sorted(hit.document for hit in collection.search("the cat", mode="hybrid")) == [*documents]

def refused():
    try:
        collection.search("the cat")
    except ForkedProcess as error:
        return "LanceDB" in str(error)

def hold():
    with collection._lock, collection.manifest.writing(), collection.folder.write_lock():
        started.set()
        end.wait()

home, config = Path(sys.argv[2]), {"features": {"dense": {"model": sys.argv[1]}}}
assert forked(lambda: Collection.create("notes", config, home=home).name == "notes")
collection = Collection.open("notes", home=home)
assert collection.documents() == []
# LanceDB is not used in this process: forked ones may.
assert forked(lambda: write("a cat")) and forked(lambda: write("big dog"))
started, end = threading.Event(), threading.Event()
thread = threading.Thread(target=hold)
thread.start()
started.wait()
assert forked(lambda: finds("put:#a", "put:#b"))
end.set()
thread.join()
assert finds("put:#a", "put:#b") and collection.text("a") == "a cat"
# Now it is.
assert all(forked(refused) for _ in range(5))
assert finds("put:#a", "put:#b")
"""


def test_a_child_does_not_keep_the_locks_of_its_parent(tmp_path: Path) -> None:
    _run(_LOCKS, tmp_path)


_LOCKS = """
import os, sys
from pathlib import Path
from nearfield.fileio.locks import release_lock, reentrant_lock, try_lock
path = Path(sys.argv[1]) / "lock"
(refusals, refused), (waiting, ready) = os.pipe(), os.pipe()
with reentrant_lock(path, RuntimeError):
    child = os.fork()
    if not child:
        try:
            with reentrant_lock(path, RuntimeError):
                os._exit(1)
        except RuntimeError:
            os.write(refused, b"x")
            os.read(waiting, 1)
            os._exit(0)
    os.read(refusals, 1)
file = try_lock(path)
assert file is not None
assert os.waitpid(child, os.WNOHANG) == (0, 0)
release_lock(file)
os.write(ready, b"x")
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_lazy_model_is_loaded_in_a_child_while_another_thread_of_the_parent_loads_it(folder: Path) -> None:
    _run(_LAZY, folder)


_LAZY = """
import os, signal, sys, threading
from nearfield.integrations.lazy_model import LazyEncoder
lazy = LazyEncoder(sys.argv[1], {"compile_cache": False})
started, end = threading.Event(), threading.Event()

def hold():
    with lazy._lock:
        started.set()
        end.wait()

thread = threading.Thread(target=hold)
thread.start()
started.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if len(lazy.encode(["a cat", "a dog"], "query")) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
end.set()
thread.join()
assert len(lazy.encode(["a cat"], "query")) == 1
"""


def test_the_local_mode_of_qdrant_is_refused_in_a_child(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    _run(_QDRANT, tmp_path)


_QDRANT = """
import os, sys
from nearfield.errors import ForkedProcess
from nearfield.stores.qdrant import QdrantStore
store, other = (QdrantStore.connect(f"qdrant://{sys.argv[1]}/{name}") for name in ("store", "other"))
other.close()
child = os.fork()
if not child:
    assert QdrantStore.connect(f"qdrant://{sys.argv[1]}/other").tables() == []
    try:
        store.tables()
    except ForkedProcess as error:
        os._exit(0 if "Qdrant's local mode" in str(error) else 2)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
assert store.tables() == []
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_other_backends_work_in_a_forked_process(backend: str, folder: Path) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    start = _START.replace('precision="float32"', f'precision="float32", backend="{backend}"')
    _run(start + _CASES["an encoder that was used"] + _CASES["a child that ends like any other program"], folder)


#: The child uses the threads that decode pictures, and a tower that the parent compiled, or the child does.
_PICTURES = """
pictures = [np.full((40, 60, 3), number, np.uint8) for number in range(0, 250, 10)]
inputs = [pictures[0], "a cat", *pictures, "a dog"]
def compile_and_encode():
    assert encoder.encode(inputs).shape == (28, 24)
encoder.encode(TEXTS)
assert forked(compile_and_encode) == 0
expected = np.asarray(encoder.encode(inputs))
def encode():
    np.testing.assert_allclose(np.asarray(encoder.encode(inputs)), expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(asyncio.run(encoder.aencode(inputs))), expected, atol=1e-6)
assert forked(encode) == 0
encode()
"""


@pytest.mark.slow
def test_pictures_in_a_forked_process(tmp_path: Path) -> None:
    folder = tiny_pictures.write_clip(tmp_path / "clip")
    _run(_START + _PICTURES, folder)
