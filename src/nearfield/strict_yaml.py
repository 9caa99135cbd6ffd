"""YAML whose mappings name each value once, and whose anchors give no more values than a file can have.

PyYAML takes the last of several values, merges nested aliases (``<<: [*a, *a]``) in a time that doubles with each of
them, and builds values that contain themselves. Import this module late: PyYAML is an optional dependency.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import ConstructorError

_MERGE = "tag:yaml.org,2002:merge"
#: Values of a text in which each alias stands for a copy of what it names.
_MAX_VALUES = 100_000


def parse_yaml(text: str, *, unique: bool = True) -> Any:
    """Return the value of a YAML text.

    Args:
        text: one document.
        unique: whether a name that occurs twice in a mapping is an error; otherwise the last one counts.

    Raises:
        ValueError: it is not YAML, a mapping has a name twice, or an alias is inside of what it names.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        loader.check_aliases(node, {})
        if unique:
            loader.check_names(node, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (RecursionError, OverflowError) as error:
        raise ValueError(f"it is nested too deeply, or has a number that is too large ({error})") from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's loader of plain values, with checks of the nodes before values are built."""

    def check_aliases(self, node: yaml.Node, sizes: dict[int, int]) -> int:
        """Return the number of values of a node with all its aliases; ``sizes`` has those of the nodes before it."""
        if id(node) not in sizes:
            sizes[id(node)] = 0  # until all its parts are counted
            sizes[id(node)] = 1 + sum(self.check_aliases(part, sizes) for part in _parts(node))
        size = sizes[id(node)]
        if not size:
            raise ConstructorError(None, None, "an alias is inside of what it names", node.start_mark)
        if size > _MAX_VALUES:
            problem = f"its aliases stand for more than {_MAX_VALUES:,} values"
            raise ConstructorError(None, None, problem, node.start_mark)
        return size

    def check_names(self, node: yaml.Node, seen: set[int]) -> None:
        """Raise an error if a mapping has a name twice. Names that it merges from others may be there again."""
        if id(node) in seen:
            return
        seen.add(id(node))
        names: set[Any] = set()
        for key in _keys(node):
            name = key.value if key.tag == _MERGE else self.construct_object(key)
            if name in names:
                problem = f"the name {key.value!r} is there twice in one mapping"
                raise ConstructorError(None, None, problem, key.start_mark)
            names.add(name)
        for part in _parts(node):
            self.check_names(part, seen)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _keys(node: yaml.Node) -> list[yaml.ScalarNode]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [key for key, _ in pairs if isinstance(key, yaml.ScalarNode)]
