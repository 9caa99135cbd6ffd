"""The commands of LaTeX that the extractor knows: headings, symbols, accents, and those without text."""

from __future__ import annotations

#: The levels of headings.
LEVELS = {
    "part": 1,
    "chapter": 1,
    "section": 2,
    "subsection": 3,
    "subsubsection": 4,
    "paragraph": 5,
    "subparagraph": 6,
}
#: Commands without text for readers, and the number of their arguments in braces.
_SILENT = (
    "label:1 ref:0 cite:1 citep:1 citet:1 autocite:1 parencite:1 footcite:1 nocite:1 usepackage:1 "
    "documentclass:1 bibliography:1 bibliographystyle:1 vspace:1 hspace:1 pagestyle:1 "
    "thispagestyle:1 newenvironment:3 renewenvironment:3 setlength:2 addtolength:2 "
    "setcounter:2 addtocounter:2 hypersetup:1 graphicspath:1 definecolor:3 color:1 fontsize:2 pagenumbering:1 "
    "addcontentsline:3 index:1 theoremstyle:1 newtheorem:2 DeclareMathOperator:2 ifthenelse:0 setstretch:1 "
    "geometry:1 captionsetup:1 cline:1 cmidrule:1 rule:2 phantom:1 vphantom:1 hphantom:1 hypertarget:1 "
    "pagecolor:1 rowcolor:1 cellcolor:1 columncolor:1 lstset:1 tikzset:1 usetikzlibrary:1 selectlanguage:1 "
    "fancyhf:1 lhead:1 rhead:1 cfoot:1 rowcolors:3 arraystretch:0 linespread:1 addbibresource:1 markboth:2 "
    "markright:1 stepcounter:1 refstepcounter:1 let:0 bibitem:1 raisebox:1 resizebox:2 scalebox:1 "
    "textcolor:1 colorbox:1 href:1 makebox:0 parbox:1 foreignlanguage:1 multirow:2 multicolumn:2 input:1 "
    "include:1 subfile:1 subfileinclude:1 lstinputlisting:1 verbatiminput:1 includepdf:1 import:2 "
    "subimport:2 eqref:1 pageref:1 autoref:1 cref:1 Cref:1 nameref:1 "
    "vref:1"
)
#: The number of arguments of commands without text.
ARGUMENTS = {name: int(count) for name, _, count in (entry.partition(":") for entry in _SILENT.split())} | {"ref": 1}
#: Commands that stand for the content of a file.
INCLUDES = frozenset((
    "input", "include", "subfile", "subfileinclude", "lstinputlisting", "verbatiminput", "includepdf", "import",
    "subimport",
))  # fmt: skip
#: The combining characters of accents.
ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328", "r": "\u030a", "d": "\u0323",
    "b": "\u0331",
}  # fmt: skip
#: What commands stand for.
SYMBOLS = {
    "ss": "\u00df", "o": "\u00f8", "O": "\u00d8", "l": "\u0142", "L": "\u0141", "ae": "\u00e6", "AE": "\u00c6",
    "oe": "\u0153", "OE": "\u0152", "aa": "\u00e5", "AA": "\u00c5", "i": "i", "j": "j", "dots": "...", "ldots": "...",
    "textellipsis": "...", "S": "\u00a7", "P": "\u00b6", "copyright": "\u00a9", "pounds": "\u00a3", "euro": "\u20ac",
    "texteuro": "\u20ac", "textdegree": "\u00b0", "textbackslash": "\\", "textasciitilde": "~", "textbar": "|",
    "textasciicircum": "^", "textendash": "\u2013", "textemdash": "\u2014", "quad": " ", "qquad": " ", "LaTeX": "LaTeX",
    "TeX": "TeX", "today": "", "textquotesingle": "'", "textless": "<", "textgreater": ">", "newline": "\n", " ": " ",
    "\n": " ", ",": " ", ";": " ", ":": " ", "!": "", "/": "", "-": "", "@": "", "&": "&", "%": "%", "$": "$", "#": "#",
    "_": "_", "{": "{", "}": "}", "par": "\n\n", "tabularnewline": "\n", "and": ", ",
}  # fmt: skip
