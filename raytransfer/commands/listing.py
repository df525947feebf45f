"""What there is to choose from, and how a network is cut."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from yaml import YAMLError

from raytransfer.config import TrainingConfig, plain_yaml
from raytransfer.config.rules import choices_of, is_whole_number
from raytransfer.console.definitions import print_definitions
from raytransfer.console.output import print_json
from raytransfer.console.table import NumberTable
from raytransfer.errors import UserError, one_line
from raytransfer.experiments import EXPERIMENTS
from raytransfer.specs import NetworkSpec
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.words import number_of


def print_list(console: Console, what: str, *, as_json: bool = False) -> None:
    """Print one of the project's tables, an entry a line, or as JSON.

    Raises:
        UserError: There is no such table.
    """
    if what not in LISTS:
        raise UserError(f"list {what} is not known; choose from {', '.join(LISTS)}")
    entries = LISTS[what]()
    if as_json:
        print_json(console, [{"name": name, "meaning": meaning} for name, meaning in entries.items()])
    else:
        print_definitions(console, list(entries.items()))


def _experiments() -> dict[str, str]:
    return {name: experiment.question for name, experiment in EXPERIMENTS.items()}


def _treatments() -> dict[str, str]:
    return {name: treatment.meaning for name, treatment in TREATMENTS.items()}


def _networks() -> dict[str, str]:
    from raytransfer.networks import ZOO

    return {name: architecture.meaning for name, architecture in ZOO.items()} | {
        "torchvision/NAME": "any classifier of torchvision, such as torchvision/vit_b_16",
        "timm/NAME": "any of timm, such as timm/convnext_tiny",
        "package.module:function": "one of your own: a function of num_classes that gives a torch.nn.Module",
    }


def _distances() -> dict[str, str]:
    from raytransfer.distances import DISTANCES

    return {name: distance.meaning for name, distance in DISTANCES.items()}


def _scores() -> dict[str, str]:
    from raytransfer.scores import SCORES

    return {name: score.meaning for name, score in SCORES.items()}


def _probes() -> dict[str, str]:
    from raytransfer.probes import PROBES

    return {name: probe.meaning for name, probe in PROBES.items()}


def _columns() -> dict[str, str]:
    from raytransfer.store.schema import TABLES

    return {
        f"{table}.{column.name}": f"{column.type}: {column.meaning}"
        for table, columns in TABLES.items()
        for column in columns
    }


LISTS: dict[str, Callable[[], Mapping[str, str]]] = {
    "experiments": _experiments,
    "treatments": _treatments,
    "networks": _networks,
    "distances": _distances,
    "scores": _scores,
    "probes": _probes,
    "columns": _columns,
}
"""Every table by its name: entries and what they mean."""

_CUT: Mapping[str, Any] = {"network_args": {}, "granularity": "block", "stages": None}
_NETWORK_OPTIONS: Mapping[str, Any] = {"image_size_px": None, "channels": 3, "classes": 1000, **_CUT}


def print_network(console: Console, arguments: Sequence[str]) -> None:
    """Print the stages of a network, as a sweep would cut it.

    Args:
        console: Where to.
        arguments: Its name, then options as ``name=value``.

    Raises:
        UserError: There is no such network, or no such option of it.
    """
    if not arguments or "=" in arguments[0]:
        raise UserError("networks takes the name of a network first, as raytransfer networks torchvision/resnet18")
    name, *rest = arguments
    values = _network_options(rest)
    from raytransfer.experiments.checks import network_spec
    from raytransfer.networks import check_network, default_image_size, describe

    spec = network_spec(TrainingConfig(network=name, **{key: values[key] for key in _CUT}))
    side = values["image_size_px"] or default_image_size(spec)
    network = check_network(spec, image=(values["channels"], side, side), classes=values["classes"])
    rows = describe(network)
    draws, moves = any(row.random for row in rows), any(row.statistics for row in rows)
    headings = ["n", "layer", "parameters", "output", "MFLOPs", *["draws"] * draws, *["moves"] * moves, "parts"]
    table = NumberTable(
        {head: "right" if head in ("n", "parameters", "MFLOPs") else "left" for head in headings}, keys=2, line=False
    )
    for row in rows:
        table.add_row(
            str(row.n) if row.n < len(rows) else "head",
            row.name,
            f"{row.parameters:,}",
            "x".join(map(str, row.output)),
            _mflops(row.mflops),
            *["random" if row.random else ""] * draws,
            *["statistics" if row.statistics else ""] * moves,
            ", ".join(row.parts),
        )
    total = sum(row.parameters for row in rows), sum(row.mflops for row in rows)
    console.print(
        f"{name}: {number_of(len(rows), 'layer')}, {total[0]:,} parameters, {_mflops(total[1])} MFLOPs an image of "
        f"{side} pixels",
        soft_wrap=True,
    )
    console.print(table)
    console.print(
        "In parentheses: what has no weights, or only normalises. A cut at n lies after layer n, never inside a part.",
        soft_wrap=True,
    )


def _network_options(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of ``print_network`` by name, those that are not given at their defaults.

    Raises:
        UserError: There is no such option, or it does not take such a value.
    """
    values = dict(_NETWORK_OPTIONS)
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if key not in values or not equals:
            raise UserError(f"{argument} is no option of networks; there are {', '.join(values)}, as name=value")
        try:
            values[key] = plain_yaml.load(text)
        except (YAMLError, ValueError) as error:
            raise UserError(f"{argument} cannot be read: {one_line(error)}") from error
    for key, least in (("image_size_px", 1), ("channels", 1), ("classes", 2)):
        value = values[key]
        if value is None and key == "image_size_px":  # the network's own
            continue
        if not is_whole_number(value) or value < least:
            raise UserError(f"{key}={value} must be a whole number from {least} on")
    choices = choices_of(NetworkSpec)["granularity"]
    if values["granularity"] not in choices:
        raise UserError(f"granularity={values['granularity']} is not known; choose from {', '.join(choices)}")
    return values


def _mflops(value: float) -> str:
    """Of three digits, or whole."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
