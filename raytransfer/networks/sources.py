"""Building networks by name: the project's own, torchvision's, timm's or the user's."""

import difflib
import functools
import hashlib
import json
import os
import re
import socket
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from raytransfer.errors import UserError, first_line
from raytransfer.networks.own import build_own, called, check_builder, is_own
from raytransfer.networks.own_sources import imported_anew, sources_of
from raytransfer.networks.partition import Table, check_exact, find_stages
from raytransfer.networks.stages import Network, Shape, Stage
from raytransfer.networks.tracing import all_tensors
from raytransfer.networks.zoo import ZOO, initialise
from raytransfer.specs import NetworkSpec

_HUB = "huggingface.co", 443
_HUB_NAMES = ("hf-hub:", "hf_hub:", "local-dir:")  # timm's prefixes for networks that a hub or a folder describes
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in memory, which differs between processes
_CLASSES = 10  # outputs of the network whose structure is hashed, for every task
_FOUND: dict[tuple[NetworkSpec, Shape, frozenset[str]], tuple[Stage, ...]] = {}
"""The stages that this process has found, by network, image and names of tensors.

They depend neither on the weights nor on the number of classes; ``check_network`` runs them for every number.
"""


def build(spec: NetworkSpec, *, image: Shape, classes: int, seed: int) -> Network:
    """Build a network with new random weights.

    Args:
        spec: Which network, and its initialisation.
        image: Channels, height and width of the images the network sees, after cropping.
        classes: Outputs of the head.
        seed: Seed of the weights; torch's global generator is left as it was.

    Raises:
        UserError: There is no such network, it does not take such arguments, or it has no stages.
        ValueError, RuntimeError: It does not take such images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = module_of(spec, image, classes)
        if spec.init != "network":
            initialise(module, spec.init)
    if imported_anew():
        _FOUND.clear()
    key = replace(spec, init="network", structure=None), image, frozenset(all_tensors(module))
    if key not in _FOUND:
        try:
            _FOUND[key] = find_stages(module, image, spec.granularity, _table(spec))
        except UserError as error:
            raise UserError(f"network={spec.name}: {error}") from error
    return Network(module, _FOUND[key], image)


def check_network(spec: NetworkSpec, *, image: Shape, classes: int) -> Network:
    """Build a network, run it on blank images, and check that its stages in sequence do the same.

    Raises:
        UserError: There is no such network, it does not take such images, or it cannot be cut into stages.
    """
    try:
        network = build(spec, image=image, classes=classes, seed=0)
        with torch.no_grad():
            logits = network.module.eval()(torch.zeros(2, *image))
        if logits.shape != (2, classes):
            raise UserError(f"network={spec.name} gives {tuple(logits.shape)} for 2 images, and not (2, {classes})")
        check_exact(network)
    except UserError as error:
        raise UserError(_named(spec, str(error))) from error
    except Exception as error:  # whatever a network of the user's raises
        size = "x".join(map(str, image))
        reason = first_line(error)
        hint = "; give channels=3" if image[0] != 3 and "channels" in reason else ""
        raise UserError(f"network={spec.name} does not take images of {size}: {reason}{hint}") from error
    if len(network.stages) < 2:
        raise UserError(
            f"network={spec.name} has no cut: nowhere between its layers does one tensor alone pass, or it is one layer"
        )
    return network


def _named(spec: NetworkSpec, said: str) -> str:
    """A message about a network, with the network's name in front unless it is there."""
    return said if said.startswith("network=") else f"network={spec.name}: {said}"


def image_size_of_args(spec: NetworkSpec) -> int | None:
    """Side of the images that a network's arguments name, in pixels; None if they name none.

    Raises:
        UserError: It is invalid.
    """
    args: dict[str, Any] = json.loads(spec.args)
    key = "img_size" if "img_size" in args else "image_size"
    given = args.get(key)
    if given is None:
        return None
    side = given[0] if isinstance(given, list) and given else given
    if not isinstance(side, int) or side < 1:
        raise UserError(f"network_args={args} have {key}={given}: it must be a whole number from 1 on, or list two")
    return side


def default_image_size(spec: NetworkSpec) -> int:
    """Side of a network's default images, in pixels.

    Raises:
        UserError: There is no such network, or its arguments hold an invalid size.
    """
    family, _, name = spec.name.partition("/")
    if (side := image_size_of_args(spec)) is not None:
        return side
    if family == "timm":
        return int(timm_config(name).input_size[-1])
    return {"convnet8": 32, "caffenet": 227, "torchvision/inception_v3": 299}.get(spec.name, 224)


def resolved(spec: NetworkSpec, image: Shape) -> NetworkSpec:
    """Add a digest of a network's structure and code to its spec, unless it is the project's own.

    Two networks of one name whose layers, widths or code differ must not share trials.

    Raises:
        UserError: As for ``check_network``.
    """
    if spec.name in ZOO:
        return spec
    network = check_network(spec, image=image, classes=_CLASSES)
    if is_own(spec.name):

        def anew(seed: int) -> nn.Module:
            return build(spec, image=image, classes=_CLASSES, seed=seed).module

        try:
            check_builder(network.module, anew, image)
        except Exception as error:  # whatever a network of the user's raises
            raise UserError(_named(spec, first_line(error))) from error
    tensors = all_tensors(network.module)
    content = [[stage.name, [[name, [*tensors[name].shape]] for name in stage.tensors]] for stage in network.stages]
    digest = hashlib.sha256(json.dumps(content).encode())
    if spec.name.removeprefix("timm/").startswith(_HUB_NAMES):  # its description may change on the hub
        digest.update(_ADDRESS.sub("", repr(network.module)).encode())
    for name, text in sorted(sources_of(spec).items()):
        digest.update(f"{name}\n{text}".encode())
    return replace(spec, structure=digest.hexdigest()[:16])


def _table(spec: NetworkSpec) -> Table | None:
    if spec.table:
        table: Table = json.loads(spec.table)
        return table
    return ZOO[spec.name].stages if spec.name in ZOO else None


def module_of(spec: NetworkSpec, image: Shape, classes: int, **more: Any) -> nn.Module:
    """Build a module with its own initialisation, drawn from torch's global generator.

    Args:
        spec: Which network.
        image: Channels, height and width of its images.
        classes: Outputs of its head.
        more: Further arguments for its builder.

    Raises:
        UserError: There is no such network, or it does not take such arguments.
    """
    family, slash, name = spec.name.partition("/")
    args: dict[str, Any] = {**json.loads(spec.args), **more}
    if spec.name in ZOO:
        if args:
            raise UserError(f"network={spec.name} takes no network_args, and got {', '.join(args)}")
        return ZOO[spec.name].build(image, classes)
    if is_own(spec.name):
        return build_own(spec.name, args, image, classes)
    libraries = {"torchvision": _from_torchvision, "timm": _from_timm}
    if slash and family in libraries:
        return called(spec.name, lambda: libraries[family](name, args, image, classes))
    raise UserError(
        f"network={spec.name} is not known; choose one of {', '.join(ZOO)}, or torchvision/NAME, timm/NAME, or "
        "package.module:function"
    )


def _from_torchvision(name: str, args: dict[str, Any], image: Shape, classes: int) -> Any:
    from torchvision import models  # slow to import, and most sweeps do without

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"network=torchvision/{name} is not known{_nearest('torchvision', name, known)}")
    defaults: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        defaults = {"aux_logits": False, "init_weights": True}  # auxiliary heads would be more outputs
    if name.startswith("vit_"):
        defaults = {"image_size": image[1]}
    return models.get_model(name, weights=None, num_classes=classes, **{**defaults, **args})


def _from_timm(name: str, args: dict[str, Any], image: Shape, classes: int) -> Any:
    timm = timm_module(hub=name.startswith(_HUB_NAMES))
    defaults: dict[str, Any] = {}
    if not name.startswith(_HUB_NAMES) and timm_config(name).fixed_input_size:
        defaults = {"img_size": image[1:]}
    given = {"num_classes": classes, "in_chans": image[0], **defaults, **args}
    return timm.create_model(name, **given)


def timm_module(*, hub: bool = False) -> Any:
    """Import timm, which is slow.

    Unless the Hugging Face hub is needed and answers, its client is told to stay offline: it would try for a minute.

    Args:
        hub: Whether weights or a description may be needed from the hub.
    """
    if "timm" not in sys.modules and not (hub and _answers(_HUB)):  # its client reads this when it is imported
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import timm

    return timm


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=3):
            return True
    except OSError:
        return False


@functools.cache  # a network on a hub is built for it
def timm_config(name: str) -> Any:
    """Timm's configuration of a network and, with a tag or on a hub, of its weights.

    Raises:
        UserError: Timm does not know it.
    """
    hub = name.startswith(_HUB_NAMES)
    timm = timm_module(hub=hub)
    known = timm.list_models()
    if not hub and name.partition(".")[0] not in known:
        raise UserError(f"network=timm/{name} is not known{_nearest('timm', name, known)}")
    try:
        if hub:
            return SimpleNamespace(**{"fixed_input_size": False, **timm.create_model(name).pretrained_cfg})
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(f"network=timm/{name} is not known to timm: {first_line(error)}") from error
    if config is None:
        raise UserError(f"network=timm/{name} is not known to timm")
    return config


def _nearest(library: str, name: str, known: list[str]) -> str:
    near = [f"{library}/{close}" for close in difflib.get_close_matches(name, known, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(near)}?" if near else ""
