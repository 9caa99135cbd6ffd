"""Run the test suites of other libraries with the classes of `nearfield.compat` in place of theirs.

    python -m tools.suites LIBRARY FOLDER [--original] [--record] [pytest arguments]

LIBRARY is a module of this package, FOLDER a checkout of the library with its tests; the library itself is the one
installed, and the result has both versions. No code of theirs is part of this repository. pytest runs in a process in
FOLDER, with `tools.suites.plugin`, which replaces classes and functions in all modules of the library before a test is
imported. ``--original`` replaces nothing: a test that fails then says nothing about Nearfield. ``--record`` writes the
result of a whole suite into the folder ``results``, from which ``python -m tools.reference`` renders it; not if a test
failed that is not known to fail. A path among the pytest arguments replaces ``TESTS``.

A module of this package that describes a library (`tools.suites.library.Library` reads it) has the names below. It is
imported in both processes, and in that of pytest the package ``tests`` is theirs: functions import ours themselves.

``PACKAGE``: the name of the library's package.
``TESTS``: paths of test files or folders, relative to FOLDER.
``MODULES``: module of theirs -> module of ours. What our module names in ``__all__`` and theirs has too is replaced,
    wherever a module of the library refers to it; the rest of the library stays.
``MODELS``: id on the Hub -> function that writes a tiny checkpoint with the reference library into a given folder,
    which exists and is empty. The checkpoints are put into a temporary cache of the Hub (``HF_HUB_CACHE``), and
    ``HF_HUB_OFFLINE`` is set, so that ids resolve without a network in every library that uses ``huggingface_hub``.
``LEFT_OUT``: regular expression, searched in the test's id ("tests/test_x.py::test_y[z]") -> why it is not run.
``EXPECTED_FAILURES``: regular expression -> why a test that is run fails.
``NOTE``: optional; what the page with the results says beside them.
``prepare(folder)``: optional; called in the process of the tests before they are collected, with the folder of the
    checkpoints (``folder / "org--name"`` for the id "org/name"): for what the tables cannot say.
"""
