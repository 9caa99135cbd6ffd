"""OpenDocument packages: the XML parts of a zip file or of a flat file, styles of lists, and visible words."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nearfield.corpus.document import Loss
from nearfield.corpus.extractors.embedded.picture_texts import MAX_PICTURE_BYTES
from nearfield.corpus.extractors.office.numbering import written
from nearfield.corpus.extractors.office.package import (
    Element,
    attribute,
    descendants,
    local_name,
    parse_damaged,
    parse_xml,
)
from nearfield.corpus.extractors.zip_safety import ZIP, ArchiveFiles
from nearfield.corpus.word_count import count_words
from nearfield.errors import InputError
from nearfield.media.formats import find_format

#: Elements whose text is no text of the document: deleted text, facts about comments, and marks of notes.
#: Fields and buttons of forms.
_CONTROLS = (
    "text", "textarea", "formatted-text", "number", "date", "time", "combobox", "listbox", "checkbox", "radio",
    "button", "fixed-text",
)  # fmt: skip
_NOT_SEEN = frozenset({
    "tracked-changes", "creator", "date", "date-string", "meta-creator-initials", "note-citation", "desc", "title",
    "sender-initials", "forms", "settings", "event-listeners", "script", "calculation-settings", "page-number",
    "page-count", "sequence-decls", "variable-decls",
})  # fmt: skip
#: Damaged parts that a loss names.
_MAX_NAMED = 3
_FORMS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}


class OdfPackage:
    """The parts of an OpenDocument file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        self._files = ArchiveFiles(data, name) if data.startswith(ZIP) else None
        #: Parts of which only the beginning could be read, or nothing.
        self.damaged: set[str] = set()
        if self._files is not None:
            self._check_encryption()
            content = self.tree("content.xml")
            self.roots = [
                root for root in (content, self.tree("styles.xml"), self.tree("meta.xml")) if root is not None
            ]
        else:
            content = self._parse(data, "its text")
            self.roots = [content]
        if content is None:
            raise InputError(f"{name}: damaged, or no OpenDocument file (its content.xml is missing).")
        self.content = content

    def _check_encryption(self) -> None:
        if b"encryption-data" in self.read("META-INF/manifest.xml"):
            raise InputError(f"{self._name}: encrypted with a password. Save it without one.")

    def read(self, part: str) -> bytes:
        """Return the bytes of a part; empty without it."""
        return self._files.read(part) if self._files is not None else b""

    def tree(self, part: str) -> Element | None:
        """Return the root element of a part, of a damaged one as far as it can be read; None if nothing can be."""
        data = self.read(part)
        if self._files is not None and part in self._files.damaged:
            self.damaged.add(part)
        return self._parse(data, part) if data else None

    def _parse(self, data: bytes, part: str) -> Element | None:
        try:
            return parse_xml(data)
        except SyntaxError:
            self.damaged.add(part)
            return parse_damaged(data)

    @cached_property
    def _controls(self) -> Mapping[str, Element]:
        """The fields and buttons of forms by their ids."""
        forms = () if self.content is None else self.content.iter("{*}forms")
        return {attribute(item, "id"): item for form in forms for item in descendants(form, *_CONTROLS)}

    def control_text(self, identity: str) -> str:
        """Return the label and the value of a field or button of a form; empty if there is none of this id."""
        item = self._controls.get(identity)
        if item is None:
            return ""
        value = attribute(item, "current-value") or attribute(item, "value")
        if local_name(item) in ("checkbox", "radio"):
            value = "[x]" if "checked" in (attribute(item, "current-state"), attribute(item, "state")) else "[ ]"
            value = "[x]" if "true" in (attribute(item, "current-selected"), attribute(item, "selected")) else value
        chosen = [option for option in descendants(item, "option") if attribute(option, "current-selected") == "true"]
        lines = ["".join(line.itertext()) for line in descendants(item, "p")]
        values = [*(attribute(option, "label") for option in chosen), *(lines or [value])]
        return " ".join(" ".join(filter(None, (attribute(item, "label"), *values))).split())

    def losses(self) -> list[Loss]:
        """Return the loss of what is damaged."""
        if not self.damaged:
            return []
        names = ", ".join(sorted(self.damaged)[:_MAX_NAMED])
        return [Loss(f"what is damaged in the file ({names})", advice="Open and save it in its program.")]

    def picture(self, image: Element) -> tuple[str, bytes]:
        """Return the name and the bytes of a picture in the file; none of one elsewhere, or of a very large one."""
        for item in image:
            if local_name(item) == "binary-data":  # of a flat file
                return _flat_picture(item.text or "")
        name = attribute(image, "href").removeprefix("./")
        if self._files is None or self._files.size(name) > MAX_PICTURE_BYTES:
            return name, b""
        return name, self.read(name)

    def object_tree(self, frame: Element) -> Element | None:
        """Return the content of an object that a frame contains or links to, such as a chart."""
        for item in frame:
            if local_name(item) == "object":
                inside = next((child for child in item if local_name(child) in ("document", "math")), None)
                href = attribute(item, "href").removeprefix("./").strip("/")
                return inside if inside is not None else self.tree(f"{href}/content.xml")
        return None

    def body(self, kind: str) -> Element:
        """Return the body of a document of a kind: text, spreadsheet or presentation.

        Raises:
            InputError: it has no such body.
        """
        body = next(descendants(self.content, "body"), None)
        for child in body if body is not None else ():
            if local_name(child) in (kind, "drawing" if kind == "presentation" else kind):
                return child
        raise InputError(f"{self._name}: damaged, or not of the type that its name says (it is no {kind} document).")

    def facts(self) -> tuple[str, dict[str, str]]:
        """Return the title and the facts that filters use."""
        facts: dict[str, str] = {}
        for root in self.roots:
            for meta in descendants(root, "meta"):
                for item in meta:
                    facts.setdefault(local_name(item), " ".join((item.text or "").split()))
        author = facts.get("initial-creator") or facts.get("creator", "")
        return facts.get("title", ""), {"author": author} if author else {}

    def elements(self, *names: str) -> Iterator[Element]:
        """Yield the elements of all parts with one of these local names."""
        for root in self.roots:
            yield from descendants(root, *names)


def _flat_picture(text: str) -> tuple[str, bytes]:
    """Return a name for a picture that is written in base64, and its bytes; no bytes if it is damaged."""
    if len(text) > MAX_PICTURE_BYTES * 4 // 3:
        return "", b""
    try:
        data = base64.b64decode(text)
    except ValueError:
        return "", b""
    return f"picture.{(find_format(data) or 'none').lower()}", data


@dataclass
class ListLevel:
    """How a level of a list is numbered; a bullet has no form."""

    form: str = ""
    prefix: str = ""
    suffix: str = ""
    shown: int = 1
    start: int = 1


@dataclass
class ListCounter:
    """Counts the items of a list by level from 0."""

    levels: dict[int, ListLevel] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def next_label(self, level: int, start: str = "") -> str:
        """Return the label of the next item; a dash for bullets, nothing for a level without numbers."""
        style = self.levels.get(level)
        for deeper in [at for at in self.counts if at > level]:
            del self.counts[deeper]
        first = int(start) if start.isdigit() else None
        begin = style.start if style else 1
        self.counts[level] = self.counts.get(level, begin - 1) + 1 if first is None else first
        if style is None or style.form == "bullet":
            return "-"
        if not style.form:
            return (style.prefix + style.suffix).strip()
        numbers = []
        for at in range(max(level - style.shown + 1, 0), level + 1):
            form = self.levels.get(at, ListLevel("1")).form
            if form and form != "bullet":
                numbers.append(written(self.counts.get(at, 1), _FORMS.get(form, "decimal")))
        label = f"{style.prefix}{'.'.join(numbers)}{style.suffix}".strip()
        if label.startswith("(") and level and style.shown == 1:
            above = ListCounter(self.levels, dict(self.counts))._label_above(level)
            return above.rstrip(".-") + label
        return label

    def _label_above(self, level: int) -> str:
        """Return the label of the level above, which completes a label such as "(a)"."""
        at = level - 1
        self.counts[at] = self.counts.get(at, 1) - 1
        return self.next_label(at)


def read_list_styles(package: OdfPackage) -> dict[str, dict[int, ListLevel]]:
    """Return the levels of each list style by its name; those of headings under an empty name."""
    styles: dict[str, dict[int, ListLevel]] = {}
    for style in package.elements("list-style", "outline-style"):
        name = "" if local_name(style) == "outline-style" else attribute(style, "name")
        levels = styles.setdefault(name, {})
        for item in style:
            number = attribute(item, "level")
            if not number.isdigit():
                continue
            if local_name(item) in ("list-level-style-bullet", "list-level-style-image"):
                levels[int(number) - 1] = ListLevel("bullet")
                continue
            shown, start = attribute(item, "display-levels"), attribute(item, "start-value")
            levels[int(number) - 1] = ListLevel(
                attribute(item, "num-format"),
                attribute(item, "num-prefix"),
                attribute(item, "num-suffix"),
                int(shown) if shown.isdigit() else 1,
                int(start) if start.isdigit() else 1,
            )
    return styles


def count_odf_words(trees: Iterable[Element]) -> int:
    """Return the number of words in all text nodes of OpenDocument trees, whatever their structure."""
    return sum(count_words("".join(_text_nodes(tree))) for tree in trees)


def _text_nodes(tree: Element) -> Iterator[str]:
    stack: list[tuple[Element, bool]] = [(tree, False)]
    while stack:
        element, ended = stack.pop()
        if ended:
            yield element.tail or ""
            continue
        name = local_name(element)
        stack.append((element, True))
        if not name or name in _NOT_SEEN:
            continue
        if name not in ("span", "a", "bookmark", "soft-page-break"):
            yield " "
        yield element.text or ""
        stack.extend((child, False) for child in reversed(element))
        if name in ("p", "h", "note", "annotation", "table-cell"):
            yield " "
