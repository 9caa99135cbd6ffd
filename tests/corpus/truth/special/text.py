"""Text: encodings, front matter, markup that is no content."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.corpus.truth.model import TruthFile

_TEXTS = {
    "koi8_r": "Прохладным утром рыбаки вышли в море и вернулись с богатым уловом к полудню.",
    "cp1251": "Осенью в саду созревают яблоки, и вся семья собирает урожай до первых холодов.",
    "iso8859_2": "Zażółć gęślą jaźń: łódź płynęła wolno, a dzieci śpiewały piosenkę o źródle.",
    "cp1252": "La città è più bella di sera: perché non uscire? L’università apre alle otto, però è già tardi.",
    "mac_roman": "Le café est fermé cet été; le garçon a déjà rangé les chaises près de la fenêtre à côté.",
    "iso2022_jp": "会議は火曜日の午後三時に第二会議室で行います。資料は前日までに配布してください。",
    "shift_jis": "図書館は月曜日が休みです。本は二週間借りることができます。",
    "euc_kr": "도서관은 월요일에 쉽니다. 책은 두 주 동안 빌릴 수 있습니다.",
    "gb18030": "图书馆每周一闭馆。读者一次可以借五本书，期限为三十天。",
    "utf_16": "The ferry leaves at nine – and returns before the tide.",
}
_SHORT = "Größe: 12 m², geprüft"

_TOML = """+++
title = "Wintering boats"
date = 2024-10-02
tags = ["harbour", "winter"]
draft = false
+++

# Before the frost

Drain the engine and lift the boat before the first frost.
"""
_YAML = """---
title: Summer moorings
layout: post
tags: [harbour]
---

Moorings are free of charge until the tenth of June.
"""
_MDX = """import { Chart } from '../components/chart'
export const meta = { draft: true }

# Tides {#tides}

High water is fifty minutes later each day.

<Chart data={rows} width={400} />

Spring tides follow the full moon.
"""
_NESTED = """# Packing list

- Clothes
  - two jumpers
    - one of wool
  - rain coat
- Tools
  1. knife
  2. rope

Term without marks.

> A quoted remark about knots.
"""
_ANCHORS = """# Setup <a name="setup"></a>

Install the pump first. <!-- internal: ask Piet -->

## Wiring {#wiring .wide}

Connect red to red.[^1]

[^1]: Blue is earth on ships built before 1970.
"""
_RST = """.. _pump:

================
The bilge pump
================

:Author: Piet
:Version: 3

Start
=====

The pump starts by itself when water reaches the float.

.. note::

   Test the float every month.

.. code-block:: console

   pump --test

Hose
====

The ``hose`` has a :ref:`valve <pump>` at its end.
"""
_ORG = """#+TITLE: Night watch
#+FILETAGS: :ship:

* TODO First watch :crew:
  SCHEDULED: <2025-03-04 Tue>
  The first watch ends at midnight.
** Lamps
   - [X] red lamp to port
   - [ ] green lamp to starboard
#+BEGIN_SRC sh
lamp --check
#+END_SRC
"""
_ADOC = """= Ropes and knots
:author: Piet
:toc: left

[[bowline]]
== Bowline

include::intro.adoc[]

The bowline makes a loop that does not slip.

NOTE: Never use it with wire.

[source,sh]
----
tie --bowline
----
"""
_LATEX = r"""\documentclass[11pt]{article}
\usepackage[utf8]{inputenc}
\title{Tides in the strait}
\author{Piet Maas}
\begin{document}
\maketitle
\begin{abstract}We measure currents in a narrow strait.\end{abstract}
\section{Method}\label{sec:method}
The \emph{current meter} was moored at \textbf{eleven metres} \cite{maas2020}. % check depth
\begin{equation} v = \frac{d}{t} \end{equation}
See Section~\ref{sec:method}.
\begin{itemize}\item calm days \item storms\end{itemize}
\end{document}
"""
_VTT = """WEBVTT - talk

NOTE edited by hand

STYLE
::cue { color: lime }

1
00:00:01.000 --> 00:00:04.000 align:start
<v Ines>The wind turned at noon,

2
00:00:04.000 --> 00:00:07.000
<i>and nobody</i> had reefed the sail.
"""
_SRT = """1
00:00:01,000 --> 00:00:03,000
Seven boats left the harbour

2
00:00:03,000 --> 00:00:05,500
<font color="#fff">at 06:45 in thick fog.</font>
"""


CLAUSE = "Either party may end this contract in writing with a notice period of six weeks to the end of a quarter."
CONTRACTS = (
    (
        "contract-north.txt",
        "Cleaning of the north wing",
        "The contractor cleans all windows of the wing in April.",
    ),
    ("contract-lift.txt", "Maintenance of the lift", "The lift is inspected monthly and greased twice a year."),
    ("contract-garden.txt", "Care of the garden", "Hedges are cut in June and leaves are removed until December."),
    ("contract-boiler.txt", "Service of the boiler", "The burner is adjusted and the flue is swept each September."),
    ("contract-guard.txt", "Guarding of the depot", "Two guards walk the fence every three hours of the night."),
)


def _file(
    name: str, fault: str, text: str, *pieces: str, headings: tuple[str, ...] = (), absent: str = ""
) -> TruthFile:
    hidden = tuple(absent.split("|")) if absent else ()
    return TruthFile(name, text.encode, pieces, headings, absent=hidden, fault=fault)


def files() -> Iterator[TruthFile]:
    """Yield texts with one fault each."""
    for encoding, text in _TEXTS.items():
        name = encoding.replace("_", "-")
        yield TruthFile(f"{name}.txt", partial(text.encode, encoding), (text,), fault="encodings")
    for name, title, text in CONTRACTS:
        pieces = (title, text, CLAUSE, "Signed in Ghent.")
        yield TruthFile(name, "\n\n".join(pieces).encode, pieces, fault="a clause of many documents")
    yield TruthFile("short-latin1.txt", lambda: _SHORT.encode("latin-1"), (_SHORT,), fault="encodings")
    yield _file(
        "toml-front.md",
        "front matter",
        _TOML,
        *("Before the frost", "Drain the engine and lift the boat before the first frost."),
        headings=("Before the frost",),
    )
    yield _file("yaml-front.md", "front matter", _YAML, "Moorings are free of charge until the tenth of June.")
    yield _file(
        "tides.mdx",
        "MDX",
        _MDX,
        *("Tides", "High water is fifty minutes later each day.", "Spring tides follow the full moon."),
        headings=("Tides",),
    )
    packing = ("Clothes", "two jumpers", "one of wool", "rain coat", "Tools", "knife", "rope")
    yield _file(
        "packing.md",
        "nested lists",
        _NESTED,
        *("Packing list", *packing, "Term without marks.", "A quoted remark about knots."),
        headings=("Packing list",),
    )
    yield _file(
        "anchors.md",
        "anchors of headings",
        _ANCHORS,
        *(
            "Setup",
            "Install the pump first.",
            "Wiring",
            "Connect red to red.",
            "Blue is earth on ships built before 1970.",
        ),
        headings=("Setup", "Wiring"),
    )
    pump = ("The pump starts by itself when water reaches the float.", "Test the float every month.", "pump --test")
    yield _file(
        "pump.rst",
        "directives and roles",
        _RST,
        *("The bilge pump", "Start", *pump, "Hose", "The hose has a valve at its end."),
        headings=("The bilge pump", "Start", "Hose"),
        absent="code-block|====|:ref:|.. note",
    )
    watch = ("First watch", "The first watch ends at midnight.", "Lamps", "red lamp to port", "green lamp to starboard")
    yield _file(
        "watch.org",
        "keywords and drawers",
        _ORG,
        *watch,
        "lamp --check",
        headings=("First watch", "Lamps"),
        absent="#+FILETAGS|BEGIN_SRC|SCHEDULED:",
    )
    yield _file(
        "knots.adoc",
        "attributes and includes",
        _ADOC,
        *("Ropes and knots", "Bowline", "The bowline makes a loop that does not slip.", "Never use it with wire."),
        "tie --bowline",
        headings=("Ropes and knots", "Bowline"),
        absent="include::|[[bowline]]|[source|:toc:",
    )
    method = ("The current meter was moored at eleven metres", "See Section", "calm days", "storms")
    yield _file(
        "tides.tex",
        "commands",
        _LATEX,
        *("Tides in the strait", "We measure currents in a narrow strait.", "Method", *method),
        headings=("Tides in the strait", "Method"),
        absent="usepackage|\\emph|\\begin{itemize}|maketitle|check depth|\\label",
    )
    yield _file(
        "talk.vtt",
        "cues",
        _VTT,
        *("The wind turned at noon,", "and nobody had reefed the sail."),
        absent="00:00|<v|lime|<i>",
    )
    yield _file(
        "fog.srt",
        "cues",
        _SRT,
        *("Seven boats left the harbour", "at 06:45 in thick fog."),
        absent="00:00|<font|-->",
    )
