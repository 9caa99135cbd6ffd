"""Writers of formats that are text: plain text, Markdown, HTML, reStructuredText, Org, AsciiDoc, LaTeX, subtitles."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from tests.corpus.truth.model import ContentNode, HeadingNode, ListNode, TableNode, Topic


def _render(topic: Topic, node_text: Callable[[ContentNode], str], gap: str = "\n\n") -> bytes:
    return (gap.join(map(node_text, topic.nodes)) + "\n").encode()


def plain_text(topic: Topic) -> bytes:
    """Return plain text; cells of a row are separated by tabs."""

    def node_text(node: ContentNode) -> str:
        if isinstance(node, ListNode):
            return "\n".join(f"{'  ' * depth}* {text}" for depth, text in node.items)
        if isinstance(node, TableNode):
            return "\n".join("\t".join(row) for row in node.rows)
        return node.text

    return _render(topic, node_text)


def markdown(topic: Topic) -> bytes:
    """Return Markdown."""
    return _render(topic, markdown_text)


def markdown_text(node: ContentNode) -> str:
    """Return the Markdown of a node."""
    if isinstance(node, HeadingNode):
        return f"{'#' * node.level} {node.text}"
    if isinstance(node, ListNode):
        marks = [f"{at}." if node.ordered else "-" for at in range(1, len(node.items) + 1)]
        return "\n".join(f"{'  ' * depth}{mark} {text}" for mark, (depth, text) in zip(marks, node.items, strict=True))
    if isinstance(node, TableNode):
        lines = ["| " + " | ".join(row) + " |" for row in node.rows]
        return "\n".join([lines[0], "|" + " --- |" * len(node.rows[0]), *lines[1:]])
    return node.text


def html(topic: Topic) -> bytes:
    """Return a page."""
    body = "\n".join(map(html_text, topic.nodes))
    head = f'<meta charset="utf-8"><title>{escape(topic.title)}</title><style>p {{ color: teal }}</style>'
    return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head>\n<body>{body}</body></html>\n".encode()


def xhtml(topic: Topic) -> bytes:
    """Return a page in XML, as EPUB has it."""
    body = "\n".join(map(html_text, topic.nodes))
    head = f"<head><title>{escape(topic.title)}</title></head>"
    start = '<?xml version="1.0" encoding="utf-8"?>\n<html xmlns="http://www.w3.org/1999/xhtml">'
    return f"{start}{head}<body>{body}</body></html>\n".encode()


def html_text(node: ContentNode) -> str:
    """Return the HTML of a node."""
    if isinstance(node, HeadingNode):
        return f"<h{node.level}>{escape(node.text)}</h{node.level}>"
    if isinstance(node, ListNode):
        return _html_list(node)
    if isinstance(node, TableNode):
        head = "".join(f"<th>{escape(cell)}</th>" for cell in node.rows[0])
        rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in node.rows[1:]]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<p>{escape(node.text)}</p>"


def _html_list(node: ListNode) -> str:
    tag = "ol" if node.ordered else "ul"
    out, level = f"<{tag}>", 0
    for at, (depth, text) in enumerate(node.items):
        if depth > level:
            out += f"<{tag}>"
        elif at:
            out += "</li>" + f"</{tag}></li>" * (level - depth)
        out += f"<li>{escape(text)}"
        level = depth
    return out + "</li>" + f"</{tag}></li>" * level + f"</{tag}>"


def restructured_text(topic: Topic) -> bytes:
    """Return reStructuredText, with tables as list-table directives."""

    def node_text(node: ContentNode) -> str:
        if isinstance(node, HeadingNode):
            return f"{node.text}\n{'=-~'[node.level - 1] * len(node.text)}"
        if isinstance(node, ListNode):
            mark = "#." if node.ordered else "*"
            lines, last = [], 0
            for depth, text in node.items:
                lines += ([""] if depth != last else []) + [f"{'  ' * depth}{mark} {text}"]
                last = depth
            return "\n".join(lines)
        if isinstance(node, TableNode):
            rows = [
                "\n".join(f"   {'*' if not at else ' '} - {cell}" for at, cell in enumerate(row)) for row in node.rows
            ]
            return ".. list-table::\n   :header-rows: 1\n\n" + "\n".join(rows)
        return node.text

    return _render(topic, node_text)


def org(topic: Topic) -> bytes:
    """Return Org mode's format."""

    def node_text(node: ContentNode) -> str:
        if isinstance(node, HeadingNode):
            return f"{'*' * node.level} {node.text}\n:PROPERTIES:\n:CUSTOM_ID: h{len(node.text)}\n:END:"
        if isinstance(node, TableNode):
            lines = ["| " + " | ".join(row) + " |" for row in node.rows]
            return "\n".join([lines[0], "|" + "+".join(["---"] * len(node.rows[0])) + "|", *lines[1:]])
        return markdown_text(node)

    return b"#+OPTIONS: toc:nil\n\n" + _render(topic, node_text)


def asciidoc(topic: Topic) -> bytes:
    """Return AsciiDoc."""

    def node_text(node: ContentNode) -> str:
        if isinstance(node, HeadingNode):
            return f"{'=' * node.level} {node.text}" + ("\n:toc:" if node.level == 1 else "")
        if isinstance(node, ListNode):
            return "\n".join(f"{('.' if node.ordered else '*') * (depth + 1)} {text}" for depth, text in node.items)
        if isinstance(node, TableNode):
            return '[options="header"]\n|===\n' + "\n".join("|" + " |".join(row) for row in node.rows) + "\n|==="
        return node.text

    return _render(topic, node_text)


def latex(topic: Topic) -> bytes:
    """Return LaTeX."""

    def node_text(node: ContentNode) -> str:
        if isinstance(node, HeadingNode):
            return f"\\{'sub' * (node.level - 1)}section{{{_latex(node.text)}}}\\label{{sec:{len(node.text)}}}"
        if isinstance(node, ListNode):
            kind = "enumerate" if node.ordered else "itemize"
            items = "\n".join(f"\\item {_latex(text)}" for _, text in node.items)
            return f"\\begin{{{kind}}}\n{items}\n\\end{{{kind}}}"
        if isinstance(node, TableNode):
            rows = "\n".join(" & ".join(map(_latex, row)) + " \\\\" for row in node.rows)
            return f"\\begin{{tabular}}{{{'l' * len(node.rows[0])}}}\n\\hline\n{rows}\n\\hline\n\\end{{tabular}}"
        return _latex(node.text)

    body = _render(topic, node_text).decode()
    return (
        f"\\documentclass{{article}}\n\\usepackage{{hyperref}}\n\\begin{{document}}\n{body}\\end{{document}}\n".encode()
    )


def _latex(text: str) -> str:
    for mark in "&%$#_":
        text = text.replace(mark, "\\" + mark)
    return text


def subrip(topic: Topic) -> bytes:
    """Return subtitles in SubRip's format, one sentence at a time."""
    cues = [f"{at}\n{_time(at, ',')} --> {_time(at + 1, ',')}\n{text}" for at, text in enumerate(topic.pieces, 1)]
    return ("\n\n".join(cues) + "\n").encode()


def webvtt(topic: Topic) -> bytes:
    """Return subtitles in WebVTT's format."""
    cues = [f"{_time(at, '.')} --> {_time(at + 1, '.')}\n{text}" for at, text in enumerate(topic.pieces, 1)]
    return ("WEBVTT\n\n" + "\n\n".join(cues) + "\n").encode()


def _time(count: int, mark: str) -> str:
    return f"00:{count // 20:02}:{count % 20 * 3:02}{mark}250"
