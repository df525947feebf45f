"""The identity of a spec: the hash of its canonical JSON.

Fields that have their default are left out, so that a new field with a default changes no existing identity; a default
must therefore never change. Specs that can stand where other kinds can carry their kind. Floats are normalised. Fields
with ``metadata=NAME`` are names for people and are left out.
"""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from raytransfer.errors import UserError

HASH_VERSION = 3
"""Raised whenever the same content would no longer give the same result; it starts every identity anew."""

NAME: Mapping[str, Any] = types.MappingProxyType({"name": True})
"""Metadata of a field that is a name for people, and no part of the identity."""

_AS_IT_IS = {str, int, bool, type(None)}  # types of JSON, but of floats
_ID_LENGTH = 16  # 64 bits: a clash among a million trials has a chance of about 3 in 10^8


def identity(spec: Any) -> str:
    """Hash of a spec's content, 16 hexadecimal digits.

    Raises:
        UserError: A float is infinite or not a number.
    """
    canonical = json.dumps(_plain(spec, whole=False), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{HASH_VERSION}{canonical}".encode()).hexdigest()[:_ID_LENGTH]


class Identified:
    """A spec of a trial, which has an identity."""

    @functools.cached_property
    def id(self) -> str:
        """Identity of the trial, from its content."""
        return identity(self)


def to_json(spec: Any) -> str:
    """Canonical JSON of a spec with all its fields: sorted keys, no spaces, floats as floats.

    Raises:
        UserError: A float is infinite or not a number.
    """
    return json.dumps(_plain(spec, whole=True), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(spec: Any, *, whole: bool) -> dict[str, Any]:
    """A dataclass as JSON types, without names and defaults unless ``whole``.

    It is cached with the spec, which is immutable: thousands of trials share a recipe, a task or a base.
    """
    kept: dict[bool, dict[str, Any]] = vars(spec).setdefault("_plain", {})
    if whole not in kept:
        kept[whole] = _made_plain(spec, whole=whole)
    return kept[whole]


def _made_plain(spec: Any, *, whole: bool) -> dict[str, Any]:
    cls: Any = type(spec)
    content: dict[str, Any] = {"kind": spec.kind} if hasattr(spec, "kind") else {}
    for name, hint, for_people, default in _fields(cls):
        value = getattr(spec, name)
        if hint is float or type(value) not in _AS_IT_IS:
            value = _plain_value(value, hint, whole=whole)
        if whole or not (for_people or value == default):
            content[name] = value
    return content


def _plain_value(value: Any, hint: Any, *, whole: bool) -> Any:
    if dataclasses.is_dataclass(value):
        return _plain(value, whole=whole)
    if isinstance(value, tuple):
        return [_plain_value(item, typing.get_args(hint)[0], whole=whole) for item in value]
    if hint is float:  # so that 1 and 1.0 are the same value
        if not math.isfinite(value):
            raise UserError(f"{value} is no value of a spec: its numbers must be finite")
        return float(value) + 0.0  # -0.0 becomes 0.0
    return value


@functools.cache
def _fields(cls: Any) -> list[tuple[str, Any, bool, Any]]:
    """Name, type, whether it is a name for people, and default (in JSON types, or MISSING) of each field."""
    found = []
    for field in dataclasses.fields(cls):
        hint, default = type_hints(cls)[field.name], field.default
        if default is not dataclasses.MISSING:
            default = _plain_value(default, hint, whole=False)
        found.append((field.name, hint, bool(field.metadata.get("name")), default))
    return found


@functools.cache
def type_hints(cls: Any) -> dict[str, Any]:
    """Types of a class's fields by name, cached: ``typing.get_type_hints`` takes a millisecond."""
    return typing.get_type_hints(cls)


def built(hint: Any, value: Any) -> Any:
    """A spec from JSON types; fields that they lack get their defaults.

    Args:
        hint: What it can be: a dataclass, or a union of dataclasses with kinds.
        value: The JSON types.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, list):
        inner = typing.get_args(hint)[0]
        return tuple(built(inner, item) for item in value)
    if not isinstance(value, dict):
        return value
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    content = dict(value)
    kind = content.pop("kind", None)
    found: Any = next((option for option in options if getattr(option, "kind", None) == kind), None)
    if not dataclasses.is_dataclass(found):
        raise ValueError(f"{kind} is no kind of {hint}")
    cls: Any = found
    return cls(**{name: built(type_hints(cls)[name], item) for name, item in content.items()})
