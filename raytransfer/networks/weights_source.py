"""Where pretrained weights come from: an entry of the option ``weights``, parsed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from raytransfer.errors import UserError

_TEXTS = ("network", "weights", "key", "prefix", "label")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Where weights come from, as the user said.

    Attributes:
        network: Their network.
        network_args: Arguments of its builder.
        weights: A file, a name of torchvision's weights, a tag of timm's, or ``default`` for the library's default.
        key: Where in the file they lie; None to search.
        prefix: Prefix of their names there; None to search.
        rename: From names in the file to names of the network, as for ``raytransfer.networks.foreign.match``.
        mean: For each channel, what is subtracted from pixels of 0..1; empty for the publisher's.
        std: For each channel, what the difference is divided by; empty likewise.
        accuracy: Published top-1 accuracy on their training data set, 0..1; None if unknown.
        label: Their name in tables.
    """

    network: str
    network_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str
    key: str | None = None
    prefix: str | None = None
    rename: Mapping[str, str | None] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    accuracy: float | None = None
    label: str

    @property
    def is_file(self) -> bool:
        """Whether they are a file."""
        return "/" in self.weights or self.weights.endswith(_SUFFIXES)

    @property
    def full_label(self) -> str:
        """Their default label if ``short_label`` is ambiguous."""
        return f"{self.network}@{Path(self.weights).name if '/' in self.weights else self.weights}"

    @property
    def short_label(self) -> str:
        """Their default label, without the network's library."""
        return self.full_label.rpartition("/")[2]


def parse(entry: Any, network: str, network_args: Mapping[str, Any]) -> WeightsSource:
    """Parse one entry of the option ``weights``.

    Args:
        entry: ``WEIGHTS`` for the option ``network``, ``NETWORK@WEIGHTS``, or a mapping of ``weights`` and other fields
            of ``WeightsSource``.
        network: The option ``network``.
        network_args: The option ``network_args``.

    Raises:
        UserError: It is none of these, or has an invalid value.
    """
    if isinstance(entry, str):
        name, at, weights = entry.partition("@")
        entry = {"network": name, "weights": weights} if at and name else {"weights": entry}
    if not isinstance(entry, Mapping) or not entry.get("weights"):
        raise UserError(f"weights={entry} must be WEIGHTS, NETWORK@WEIGHTS or a mapping {{network: ..., weights: ...}}")
    known = [of.name for of in fields(WeightsSource)]
    for key in entry:
        if key not in known:
            raise UserError(f"weights={entry} has the key {key}: it takes {', '.join(known)}")
    for key in _TEXTS:
        if not isinstance(entry.get(key, ""), str):
            raise UserError(f"weights={entry} has {key}={entry[key]}: it must be text, which quotes make of a number")
    if not isinstance(entry.get("network_args", {}), Mapping):
        raise UserError(f"weights={entry} has network_args={entry['network_args']}: they must map names to values")
    values = dict(entry)
    own = "network" not in values or values["network"] == network
    values.setdefault("network", network)
    values.setdefault("network_args", network_args if own else {})
    for key in ("mean", "std"):
        given = values.get(key, [])
        if not isinstance(given, list) or not all(map(_is_number, given)):
            raise UserError(f"weights={entry} has {key}={given}: it must list one number for each channel")
        values[key] = tuple(map(float, given))
    on_scale = all(0 <= mean <= 1 for mean in values["mean"]) and all(0 < std <= 1 for std in values["std"])
    if len(values["mean"]) != len(values["std"]) or not on_scale:
        raise UserError(f"weights={entry} must have mean and std together, on a scale of 0..1, std above 0")
    if len(values["mean"]) not in (0, 1, 3):
        raise UserError(f"weights={entry} must have mean and std of 3 channels, or of 1 for grey images")
    accuracy = values.get("accuracy")
    if accuracy is not None and not (isinstance(accuracy, float) and 0 < accuracy < 1):
        raise UserError(f"weights={entry} has accuracy={accuracy}: it must lie between 0 and 1")
    values["rename"] = _renaming(values.get("rename"))
    source = WeightsSource(**{"label": "", **values})
    return source if source.label else replace(source, label=source.short_label)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _renaming(given: Any) -> Mapping[str, str | None] | None:
    """A renaming, given as a mapping or as the path of a JSON file.

    Raises:
        UserError: It is neither.
    """
    rules = given
    if isinstance(given, str):
        try:
            path = Path(given).expanduser()
            if path.exists() and not path.is_file():  # reading a named pipe would never end
                raise ValueError("it is no regular file")
            rules = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"rename={given} is no JSON file that can be read: {error}") from error
    if rules is None or (isinstance(rules, Mapping) and all(isinstance(v, str | None) for v in rules.values())):
        return rules
    raise UserError(f"rename={given} must map patterns of names in the file to what replaces them, or to null")
