"""YAML as people read it: a word is text unless it is plainly a number, true, false or null.

YAML 1.1, which PyYAML speaks, reads 0123 as 83, 2024_11_26 as 20241126, 1:30 as 90 and no as false.
"""

import math
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

_MAX_DEPTH = 20  # far beyond what an option takes, and far below where Python's stack ends
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def _named(loader: Any, node: Any, deep: bool = False) -> dict[str, Any]:
    """How loaders make a mapping: its keys are names, each there once."""
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if not isinstance(key, str):
            raise yaml.YAMLError("a list or mapping stands where a name must be")
        if keys.count(key) > 1:
            raise yaml.YAMLError(f"{key} is there twice")
    return {key.value: loader.construct_object(value, deep=deep) for key, value in node.value}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types here
    """The scalars of YAML 1.2's core schema, in decimal."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    construct_mapping = _named


class _TextLoader(yaml.BaseLoader):  # type: ignore[misc]
    """Every scalar as the text that stands there."""

    construct_mapping = _named


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Quotes text that this module, or YAML 1.1, would read as anything else; a list that two options share is two."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> Any:
        # Unquoted, the line breaks of Unicode would be read as spaces.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)


for _tag, _pattern in (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT)):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, None)


def load(text: str) -> Any:
    """Read a value. The keys of a mapping are names: text, whatever they look like.

    Raises:
        yaml.YAMLError: It is no YAML, names a key twice, or holds tags (!), anchors (&) or aliases (*), of which
            values that look plain could be made into others.
    """
    return _load(text, _Loader)


def load_texts(text: str) -> Any:
    """Read a value in which every scalar is text.

    Raises:
        yaml.YAMLError: As for ``load``.
    """
    return _load(text, _TextLoader)


def dump(value: Any) -> str:
    """Write a value so that ``load`` gives it again."""
    written: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    return written


def one_line(value: Any) -> str:
    """Write a value on one line, for people: text that looks like a number is in quotes."""
    written: str = yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=True, width=math.inf
    )
    return written.removesuffix("...\n").rstrip()


def _load(text: str, loader: Any) -> Any:
    depth = 0
    for token in yaml.scan(text):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(token, yaml.TagToken | yaml.AnchorToken | yaml.AliasToken):
            raise yaml.YAMLError("!, & and * have no meaning here: put quotes around text that starts with one")
    return yaml.load(text, loader)
