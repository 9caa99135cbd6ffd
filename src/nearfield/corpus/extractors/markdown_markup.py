"""Markup in Markdown that is no content: anchors, comments, tags, imports of MDX, directives, includes, escapes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.front_matter import FrontMatter
from nearfield.corpus.extractors.markdown_tables import name_cells
from nearfield.corpus.extractors.text_markup import Edit, TextMarkup

_MATH = re.compile(r"(?<![\\$\w])(\$\$?)(?=[^\s$])[^$\n]{1,500}?(?<=[^\s\\])\1(?![\d$])")
_CODE_OR_OPENING = re.compile(
    r"(?P<code>(?<![`\\])(?P<ticks>`+)(?!`)"
    r"(?:[^`\n]|\n(?![ \t]*\n)|(?!(?P=ticks)(?!`))`){1,2000}?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<open><!--|\{/\*|<(?:script|style)\b[^>]{0,500}>)",
    re.IGNORECASE,
)
#: How what is left out ends, by the first characters of its start.
_ENDS = {
    "<!": re.compile("-->"),
    "{/": re.compile(r"\*/\}"),
    "<s": re.compile(r"</(?:script|style)\s*>", re.IGNORECASE),
}
_IMPORT = re.compile(r"^import\s+(?:[^;'\"`]{1,400}?\sfrom\s+)?(['\"])[^'\"\n]+\1;?[ \t]*$", re.MULTILINE)
_EXPORT = re.compile(
    r"^export\s+(?:default\b|const\b|let\b|function\b|async\b|\{|\*).*?(?=\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL
)
#: Directives that put another file in their place.
_INCLUDE = re.compile(
    r"^[ \t]*(?:\{\{#(?:rustdoc_)?(?:include|playground)\s+(?P<a>[^}\s]+)[^}\n]*\}\}"
    r"|(?:;?-{1,2}8<-{1,2})[ \t]+['\"](?P<b>[^'\"\n]+)['\"]"
    r"|\{[%{]<?[ \t]*(?:include|include-markdown|include_relative|readfile|snippet)\s+"
    r"['\"]?(?P<c>[^'\"\s%}>]+)[^\n]*?>?[%}]\}"
    r"|:::+[ \t]*\{(?:literal)?include\}[ \t]*(?P<d>\S+)|!INCLUDE[ \t]+['\"]?(?P<e>[^'\"\n]+?)['\"]?"
    r"|\[!(?:INCLUDE|code-\w+)[ \t]*\[[^\]\n]*\]\((?P<f>[^)\n]+)\)\])[ \t]*$",
    re.MULTILINE,
)
_EMPTY_FENCE = re.compile(
    r"^([ \t]*)(```+|~~~+)[^\n`]*\n(?:[ \t]*(?:\{\{#[^}\n]*\}\}|-{1,2}8<-{1,2}[^\n]*)?[ \t]*\n)*"
    r"\1\2[ \t]*$",
    re.MULTILINE,
)
#: The anchors of headings, attributes of headings, links and blocks, and marks of a table of contents.
_ATTRIBUTES = re.compile(
    r"(?:(?<=[\w)\]\"'`*>.!?])|^)[ \t]*(?<!\{)\{:?[ \t]*(?:[#.][A-Za-z_]|[\w:-]+=[\"'\w])[^{}\n]{0,300}\}"
    r"(?!\})(?=[ \t]*$|[\s.,;:)])",
    re.MULTILINE,
)
_ANCHOR_LINK = re.compile(r"[ \t]*\[(?:\u00b6|#|\u00a7|\U0001f517|)\]\(#[^)\s]*(?:[ \t]+\"[^\"\n]*\")?\)")
_CONTENTS = re.compile(
    r"^[ \t]*(?:\[toc\]|\[\[_?toc_?\]\]|\{:toc\}|\$\{toc\}|\{\{?[ \t]*toc[ \t]*\}?\})[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_DEFINITION = re.compile(
    r"^ {0,3}\[(?!\^)[^\]\n]{1,200}\]:[ \t]+<?\S+>?(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'|\([^)\n]*\)))?[ \t]*$",
    re.MULTILINE,
)
_DATA_ADDRESS = re.compile(r"(?<=\]\()data:[\w/+.-]+[;,][^)\s]*")
#: Fences of directives and admonitions, with their titles.
_DIRECTIVE = re.compile(
    r"^[ \t]*:{3,}[ \t]*(?:\{?[\w-]+\}?)?(?:[ \t]*(?:\{[^}\n]*\}|\[(?P<b>[^\]\n]*)\]|(?P<t>[^\n{\[]+)))?[ \t]*$",
    re.MULTILINE,
)
_ADMONITION = re.compile(
    r"^(?P<i>[ \t]*)(?:!!!|\?\?\?\+?|===\+?!?)[ \t]+[\w -]*?(?:\"(?P<t>[^\"\n]*)\")?[ \t]*$", re.MULTILINE
)
_TEMPLATE = re.compile(r"\{%-?[^%\n]{0,400}?-?%\}|\{\{[<%][^\n]{0,400}?[>%]\}\}")
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[A-Za-z][\w.:-]*)"
    r"(?P<attributes>(?:\s+[\w:@.-]+(?:\s*=\s*(?:\"[^\"]{0,2000}\"|'[^']{0,2000}'|\{[^{}]{0,2000}\}|[^\s\"'>{}=]+))?"
    r"|\s+\{\.\.\.\w+\})*)\s*/?>"
)
_SHOWN = re.compile(
    r"\b(?:alt|title|label|summary|caption|heading|description)\s*=\s*(?:\{\s*)?(?:\"([^\"]+)\"|'([^']+)')"
)
_ESCAPE = re.compile(r"\\([_*#<>.+!~&`\-])")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,31}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_HTML_TAGS = (
    "a abbr address article aside audio b big blockquote body br button caption center cite code col "
    "colgroup dd del details dfn div dl dt em embed figcaption figure font footer form h1 h2 h3 h4 h5 h6 "
    "head header hr html i iframe img input ins kbd label li link main map mark meta nav noscript object "
    "ol optgroup option p param picture pre q rp rt ruby s samp section select small source span strike "
    "strong style sub summary sup svg table tbody td tfoot th thead time title tr track tt u ul var video "
    "wbr path g circle rect line polygon"
)
_KNOWN = frozenset(_HTML_TAGS.split())
_INLINE = "a abbr b big code em font i kbd mark s samp small span strong sub sup tt u var wbr"
_INLINE_TAGS = frozenset(_INLINE.split())

#: The anchor at the end of a heading.
_ANCHOR = re.compile(r"[ \t]*\{:?[ \t]*[#.][^{}]*\}\s*$|[\u00b6\U0001f517]\s*$")
_ESCAPED = re.compile(r"\\([_*#<>.+!~&`\-])")
_LINK = re.compile(r"!?\[([^\]\[]*)\]\([^()]*\)")
_MARKUP = re.compile(r"<[^<>]*>|(?<!\\)[`*]|(?<![\w\\])_|(?<!\\)_(?!\w)")


def markdown_markup(
    text: str,
    front: FrontMatter,
    code: Iterable[tuple[int, int]],
    *,
    is_mdx: bool,
    tables: Iterable[tuple[int, int]] = (),
) -> tuple[tuple[Edit, ...], list[Loss]]:
    """Return the edits that take out markup, and what is lost: the files that are included.

    The text of the front matter replaces it. ``code`` and ``tables`` are the parts that are code and tables.
    """
    markup = TextMarkup(text)
    markup.replace(0, len(text[: front.end].rstrip()) if front.text else front.end, front.text)
    included = _remove_includes(markup)
    markup.protect(code)
    for first, last in tables:
        name_cells(markup, first, last, strip_markup)
    _remove_comments(markup)
    markup.protect(match.span() for match in _MATH.finditer(text))
    markup.sub(_IMPORT)
    if is_mdx:
        markup.sub(_EXPORT)
    for pattern in (_ANCHOR_LINK, _CONTENTS, _DEFINITION, _DATA_ADDRESS, _ATTRIBUTES):
        markup.sub(pattern)
    markup.sub(_DIRECTIVE, _title_of)
    markup.sub(_ADMONITION, lambda match: match["i"] + match["t"] if match["t"] else _admonition(match))
    markup.sub(_TEMPLATE, _shown)
    markup.sub(_TAG, _without_tag)
    markup.sub(_ESCAPE, lambda match: match[1])
    markup.sub(_ENTITY, lambda match: html.unescape(match[0]))
    return markup.edits(), included


def _remove_includes(markup: TextMarkup) -> list[Loss]:
    names = [next(filter(None, match.groups()), "") for match in _INCLUDE.finditer(markup.text)]
    markup.sub(_EMPTY_FENCE)
    markup.sub(_INCLUDE)
    if not names:
        return []
    shown = ", ".join(dict.fromkeys(names[:3])) + (", ..." if len(names) > 3 else "")
    count = "1 file that it includes" if len(names) == 1 else f"{len(names)} files that it includes"
    return [Loss(f"{count} ({shown})", advice="Index the folder that has them too.")]


def _remove_comments(markup: TextMarkup) -> None:
    """Remove comments, scripts and styles, and protect code within lines."""
    at, unclosed = 0, set()
    while match := _CODE_OR_OPENING.search(markup.text, at):
        start, at = match.span()
        if match["code"]:
            markup.protect([match.span()])
            continue
        kind = match["open"][:2].lower()
        end = None if kind in unclosed else _ENDS[kind].search(markup.text, at)
        if end is None:
            unclosed.add(kind)
        elif markup.replace(start, end.end()):
            at = end.end()


def _title_of(match: re.Match[str]) -> str:
    return (match["b"] or match["t"] or "").strip()


def _admonition(match: re.Match[str]) -> str | None:
    """Return nothing for an admonition without a title; a line of "===" alone belongs to a heading."""
    return None if match[0].strip().strip("=") == "" else ""


def _shown(match: re.Match[str]) -> str:
    """Return the texts of a tag's attributes that a reader sees."""
    return " ".join(first or second for first, second in _SHOWN.findall(match[0]))


def _without_tag(match: re.Match[str]) -> str | None:
    """Return what replaces a tag of HTML or JSX; None if it may be text, such as a placeholder."""
    name, attributes = match["name"], match["attributes"] or ""
    known = name.lower() in _KNOWN
    component = name[0].isupper() and ("=" in attributes or match["end"] or match[0].endswith("/>") or "." in name)
    if not known and not component and "=" not in attributes:
        pair = f"</{name}>" if not match["end"] else f"<{name}"
        if not name[0].isupper() or pair not in match.string:
            return None
    if name in ("sup", "sub"):
        before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
        return "^" if name == "sup" and not match["end"] and before.isalnum() and after.isdigit() else ""
    if name.lower() in _INLINE_TAGS:
        return ""
    shown = _shown(match)
    around = match.string[match.start() - 1 : match.start()] + match.string[match.end() : match.end() + 1]
    return shown or ("" if any(sign.isspace() for sign in around) or len(around) < 2 else " ")


def strip_markup(text: str) -> str:
    """Return a line of Markdown without its markup, approximately, for a title."""
    text = _ANCHOR.sub("", _LINK.sub(r"\1", text))
    return " ".join(_ESCAPED.sub(r"\1", _MARKUP.sub("", text)).split())
