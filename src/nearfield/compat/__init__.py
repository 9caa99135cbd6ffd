"""Classes with the names and signatures of other libraries, so that only the import changes; one file for each.

Each class is thin: it translates arguments, calls `Encoder` or `Reranker`, and translates the result. Its module lists
in ``ARGUMENTS`` what happens to every argument (see `nearfield.compat.arguments`).
"""
