"""YAML as people read it: a word is text unless it is plainly a number, true, false or null.

YAML 1.1, which PyYAML speaks, reads 0123 as 83, 2024_11_26 as 20241126, 1:30 as 90 and no as false.
"""

import re
from typing import Any, ClassVar

import yaml

_NULL = re.compile(r"^(?:null|~|)$")
_BOOL = re.compile(r"^(?:true|false|True|False)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"
)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types here
    """The scalars of YAML 1.2's core schema, in decimal; keys once each."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} is there twice")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


for _tag, _pattern in (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)


def load(text: str) -> Any:
    """Read a value.

    Raises:
        yaml.YAMLError: It is no YAML, or names a key twice.
    """
    return yaml.load(text, _Loader)


def load_texts(text: str) -> Any:
    """Read a value in which every scalar is text.

    Raises:
        yaml.YAMLError: It is no YAML.
    """
    return yaml.load(text, yaml.BaseLoader)
