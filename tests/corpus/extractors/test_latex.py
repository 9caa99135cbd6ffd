"""LaTeX: percent signs in code, macros of the file, title pages, pictures and other files."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nearfield.corpus.document import Document
from nearfield.corpus.extractors.latex import LatexExtractor


def read(text: str) -> Document:
    return LatexExtractor().extract(text.encode(), "a.tex")


def reasons(text: str) -> list[str]:
    return [loss.reason for loss in read(text).losses]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"Save \verb|50%| of it.", "Save `50%` of it."),
        (r"Save \verb*+50 % x+ of it.", "Save `50 % x` of it."),
        (r"See \lstinline{a % b} here.", "See `a % b` here."),
        (r"See \lstinline[language=C]!a % b! here.", "See `a % b` here."),
        (r"See \mintinline{c}{a % b} and \mintinline{c}|x%y| here.", "See `a % b` and `x%y` here."),
        (r"At \url{http://x.y/a%20b_c--d~e} here.", "At http://x.y/a%20b_c--d~e here."),
        (r"In \path{/a%b} and \path|c%d| here.", "In /a%b and c%d here."),
        (r"At \href{http://x.y/a%20b}{this page} here.", "At this page here."),
        (r"At \url{http://x.y/a\%20b} here.", "At http://x.y/a%20b here."),
        (r"A rise of 5\% a year. % no", "A rise of 5% a year."),
        ("A line\\\\% no\nand another.", "A line\nand another."),
        ("Words % no\n  go % no\n% no\n on.", "Words go on."),
        ("One.% no\n\nTwo.", "One.\n\nTwo."),
        ("One.\n% \\begin{verbatim}\nTwo.", "One.\nTwo."),
        ("One.\n\\iffalse hidden \\fi Two.", "One.\nTwo."),
        ("A \\begin{comment}\nno % \n\\end{comment} B", "A B"),
        ("\\begin{Verbatim*}\n50% off\n\\end{Verbatim*}", "```\n50% off\n```"),
        ("\\begin{alltt}\n50% off\n\\end{alltt}", "```\n50% off\n```"),
        (
            "\\begin{lstlisting}[language=C, caption={The 5\\% loop}]\nx % 2\n\\end{lstlisting}",
            "The 5% loop\n\n```\nx % 2\n```",
        ),
        ("\\begin{figure}\\captionof{figure}{A tide}\\end{figure}", "A tide"),
        (
            r"\begin{tikzpicture}[title={Sales}]\addlegendentry{North}\node at (0,0) {Peak};\end{tikzpicture}",
            "Sales North Peak",
        ),
    ],
)  # fmt: skip
def test_percent_signs_begin_comments_outside_code_only(source: str, expected: str) -> None:
    assert read(source).text == expected


def test_text_after_the_end_that_code_shows_is_read() -> None:
    code = "\\begin{verbatim}\n\\end{document}\n\\end{verbatim}"
    text = f"\\begin{{document}}\nFirst.\n\n{code}\n\nLast.\n\\end{{document}}\nnever"
    assert read(text).text == "First.\n\n```\n\\end{document}\n```\n\nLast."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"\newcommand{\firm}{Example Ltd}The \firm{} offers; \firm\ too.", "The Example Ltd offers; Example Ltd too."),
        (r"\newcommand\firm{Example Ltd}By \firm.", "By Example Ltd."),
        (r"\newcommand*{\fee}[2]{#1 costs #2 EUR}Now \fee{Tea}{3}.", "Now Tea costs 3 EUR."),
        (r"\newcommand{\fee}[2][Tea]{#1 costs #2}\fee{3}, \fee[Milk]{4}.", "Tea costs 3, Milk costs 4."),
        (r"\def\who#1{Mr #1}Ask \who{Piet} or \who X.", "Ask Mr Piet or Mr X."),
        (r"\NewDocumentCommand{\who}{o m}{Ms #2}Ask \who{Ada}, \who[x]{Eva}.", "Ask Ms Ada, Ms Eva."),
        (r"\newcommand{\a@b}{no}\newcommand{\x}{\emph{in \y}}\newcommand{\y}{depth}\x.", "in depth."),
        (r"\newcommand{\x}{old}\x\ \renewcommand{\x}{new}\x.", "old new."),
        ("\\newcommand{\\x}{%\n  two\n  lines}A \\x.", "A two lines."),
        (r"\newcommand{\note}[1]{}Seen\note{hidden}.", "Seen."),
        (r"\newcommand{\bi}{\begin{itemize}}\newcommand{\ei}{\end{itemize}}\bi\item a\item b\ei", "- a\n- b"),
        (r"\newcommand{\x}{one & two}\begin{tabular}{ll}\x\\ a & b\end{tabular}",
         "| one | two |\n| --- | --- |\n| a | b |"),
    ],
)  # fmt: skip
def test_macros_are_expanded(source: str, expected: str) -> None:
    assert read(source).text == expected


def test_macros_of_the_preamble_are_expanded() -> None:
    preamble = "\\newcommand{\\firm}{Example\nLtd}\n\\newcommand{\\x}[1]{#1!}\n"
    document = read(f"{preamble}\\begin{{document}}By \\firm, \\x{{now}}.\\end{{document}}")
    assert (document.text, document.visible_words) == ("By Example Ltd, now!.", 2)


@pytest.mark.parametrize(
    "definitions",
    [
        r"\def\a{x\a}",
        r"\def\a{\par x\a}",
        "".join(f"\\def\\{name}{{" + f"\\{below}" * 8 + "}" for name, below in pairwise("abcdefg")) + "\\def\\g{yes}",
    ],
)
def test_macros_end_somewhere(definitions: str) -> None:
    document = read(f"{definitions}Before \\a{{}} after.")
    assert "Before" in document.text and "after." in document.text
    assert len(document.text) < 1_000_000
    for loss in document.losses:
        assert loss.reason.startswith("the text of macros that make the file too long")


def test_the_title_page_is_read() -> None:
    preamble = (
        "\\title{On tides}\\subtitle{A study}\\author{Ada \\and Piet}\\author{Eva\\thanks{Chair}}"
        "\\affil{Example University}\\date{May 2024}\\keywords{moon, water}\\abstract{What 5\\% of it does.}"
    )
    document = read(f"{preamble}\\begin{{document}}\\maketitle Text.\\end{{document}}")
    assert document.text == (
        "# On tides\n\nA study\nAda, Piet\nEva (Chair)\nExample University\nMay 2024\n\nKeywords: moon, water\n\n"
        "Abstract: What 5% of it does.\n\nText."
    )
    assert document.meta == {"author": "Ada, Piet, Eva (Chair)", "date": "May 2024"}
    within = read(f"\\begin{{document}}{preamble}\\maketitle Text.\\end{{document}}")
    assert within.title == "On tides" and "Eva (Chair)" in within.text.split("\n\n")[1]


def test_other_files_and_pictures_are_stated() -> None:
    text = r"A \input{one} \input two.tex \import{dir/}{three} \includepdf{four.pdf} \subfile{five} end."
    assert read(text).text == "A end."
    assert reasons(text) == ["5 files that it includes (one, two.tex, dir/three, ...)"]
    pictures = r"A \includegraphics[width=2cm]{a.png} \includegraphics[alt={A red bridge}, width=2cm]{b.png} end."
    assert read(pictures).text == "A Picture: A red bridge end."
    assert reasons(pictures) == ["1 picture without a description"]
