"""Generator of ``python.md``: signatures and docstrings of everything in ``nearfield.__all__``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import nearfield
from tools.reference.markdown import docstring_to_markdown, join_page

PAGE = "python.md"
_INTRO = """Everything that `nearfield` exports. These names and their parameters are the public interface: they change only with
a new major version. This page is generated from the docstrings by `python -m tools.reference`."""
_WIDTH = 92


def render() -> str:
    """Return the whole page."""
    names = [name for name in nearfield.__all__ if not name.startswith("_")]
    parts = [part for name in names for part in _render_object(name, getattr(nearfield, name))]
    return join_page("Python", _INTRO, *parts)


def _render_object(name: str, item: Any) -> Iterator[str]:
    """Yield the heading, signature and docstring of a class or function, and of a class's public members."""
    yield f"## {name}"
    if not inspect.isclass(item):
        yield _render_signature(f"nearfield.{name}", item)
        yield docstring_to_markdown(inspect.getdoc(item) or "")
        return
    yield _render_signature(f"class nearfield.{name}", item)
    yield docstring_to_markdown(_own_docstring(item))
    if "__init__" in vars(item):
        yield docstring_to_markdown(inspect.getdoc(item.__init__) or "") if item.__init__.__doc__ else ""
    for member, attribute in sorted(_public_members(item)):
        yield from _render_member(name, member, attribute)


def _own_docstring(item: type) -> str:
    """Return a class's docstring, without the one that ``dataclass`` writes (the signature)."""
    text = inspect.getdoc(item) or ""
    return "" if text.startswith(f"{item.__name__}(") else text


def _public_members(item: type) -> Iterator[tuple[str, Any]]:
    """Yield methods and properties with docstrings that the project defines, inherited ones included."""
    for member in dir(item):
        attribute = inspect.getattr_static(item, member)
        owner = next((base for base in item.__mro__ if member in vars(base)), item)
        if not member.startswith("_") and owner.__module__.startswith("nearfield") and _docstring(attribute):
            yield member, attribute


def _docstring(attribute: Any) -> str:
    if isinstance(attribute, property):
        attribute = attribute.fget
    elif isinstance(attribute, (classmethod, staticmethod)):
        attribute = attribute.__func__
    return (inspect.getdoc(attribute) or "") if inspect.isfunction(attribute) else ""


def _render_member(owner: str, name: str, attribute: Any) -> Iterator[str]:
    if isinstance(attribute, property):
        yield f"### {owner}.{name}"
        yield f"*Property.* {docstring_to_markdown(_docstring(attribute))}"
        return
    function = attribute.__func__ if isinstance(attribute, (classmethod, staticmethod)) else attribute
    prefix = "classmethod " if isinstance(attribute, classmethod) else ""
    yield f"### {owner}.{name}"
    yield _render_signature(f"{prefix}{owner}.{name}", function)
    yield docstring_to_markdown(_docstring(attribute))


def _render_signature(name: str, item: Any) -> str:
    """Return a code block with the signature, on one line or with a line for each parameter."""
    signature = inspect.signature(item)
    parameters = [parameter for key, parameter in signature.parameters.items() if key not in ("self", "cls")]
    words = list(_parameter_words(parameters))
    result = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    if name.startswith("class "):
        result = ""
    line = f"{name}({', '.join(words)}){result}"
    if len(line) > _WIDTH:
        line = f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}"
    return f"```py\n{line}\n```"


def _parameter_words(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Yield each parameter as source code, with the marks for positional-only and keyword-only ones."""
    starred = False
    for at, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            yield "*"
            starred = True
        starred = starred or parameter.kind is inspect.Parameter.VAR_POSITIONAL
        yield _parameter_word(parameter)
        following = parameters[at + 1].kind if at + 1 < len(parameters) else None
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and following is not parameter.kind:
            yield "/"


def _parameter_word(parameter: inspect.Parameter) -> str:
    marks: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    mark = marks.get(parameter.kind, "")
    word = mark + parameter.name
    annotated = parameter.annotation is not inspect.Parameter.empty
    if annotated:
        kind = parameter.annotation
        word += f": {kind if isinstance(kind, str) else inspect.formatannotation(kind)}"
    if parameter.default is not inspect.Parameter.empty:
        default = parameter.default
        text = repr(default) if isinstance(default, (str, int, float, bool, tuple, type(None))) else "..."
        word += f" = {text}" if annotated else f"={text}"
    return word
