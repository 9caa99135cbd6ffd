"""Generators of the pages in ``docs/reference``: one module a page, each with ``PAGE`` (its name) and ``render()``.

``python -m tools.reference`` writes all of them. ``docs/reference/parity.md`` is measured by ``tools.parity``.
"""
