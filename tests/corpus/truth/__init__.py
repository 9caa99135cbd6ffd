"""A test corpus with truth: files of many formats, each with the text, headings and tables that must be extracted.

``topics.txt`` has thirty short texts, each with a question. ``topics.py`` parses them, and the modules of ``writers``
render them as files. The modules of ``special`` have files for single faults, such as balances at the edges of pages.
``catalogue.py`` lists all files, ``score.py`` compares an extracted document with the truth.
"""
