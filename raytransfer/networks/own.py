"""Building and checking networks of the user's own, ``package.module:function``."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raytransfer.errors import UserError, first_line
from raytransfer.networks.settings import plain_settings
from raytransfer.networks.stages import Shape
from raytransfer.networks.tracing import all_tensors


def is_own(name: str) -> bool:
    """Whether a network is a function of the user's; ``timm/hf-hub:ORG/NAME`` is not."""
    return ":" in name and not name.startswith(("torchvision/", "timm/"))


def build_own(name: str, args: dict[str, Any], image: Shape, classes: int) -> nn.Module:
    """Build a network with a function of the user's.

    Args:
        name: ``package.module:function``.
        args: Arguments beside ``num_classes`` and, if it takes that, ``image_shape``.
        image: Channels, height and width of its images.
        classes: Outputs of its head.

    Raises:
        UserError: The function cannot be imported, does not take these arguments, raises, or returns no module, or one
            of compiled code.
    """
    path, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:  # Python leaves it out for an installed command
        sys.path.insert(0, str(Path.cwd()))
    try:
        # The first trial of a process, which imports, computes as later ones, and draws at import are the same in all.
        with torch.random.fork_rng(devices=[]), plain_settings():
            torch.default_generator.manual_seed(0)
            imported = importlib.import_module(path)
    except SystemExit as error:
        raise UserError(f"network={name} cannot be imported: importing {path} ends the process") from error
    except Exception as error:  # a module of the user's can raise anything
        hint = f"; a module goes without its ending: {path[:-3]}:{attribute}" if path.endswith(".py") else ""
        raise UserError(f"network={name} cannot be imported: {error}{hint}") from error
    if not hasattr(imported, attribute):
        raise UserError(f"network={name} cannot be imported: {path} has no {attribute}")
    function = getattr(imported, attribute)
    if not callable(function):
        raise UserError(f"network={name} is of type {type(function).__name__}, and no function that builds a network")
    given: dict[str, Any] = {"num_classes": classes}
    signature = inspect.signature(function)
    if "image_shape" in signature.parameters:
        given["image_shape"] = image
    module = called(name, lambda: _built(name, function, signature.bind(**given, **args), image))
    compiled = (path for path, child in module.named_modules() if _is_compiled(child))
    if (part := next(compiled, None)) is not None:
        what = f"its part {part} is" if part else "it is"
        raise UserError(f"network={name}: {what} compiled, and layers of compiled code cannot be told: leave that out")
    if any(map(nn.parameter.is_lazy, all_tensors(module).values())):
        with torch.no_grad():  # lazy layers get shapes and weights from the first images
            module.eval()(torch.zeros(2, *image))
        module.train()
    return module


def called(name: str, make: Callable[[], Any]) -> nn.Module:
    """Call a builder, of a library's or the user's, and check its result.

    Raises:
        UserError: It does not take its arguments, or returns no module.
    """
    try:
        module = make()
    except TypeError as error:
        raise UserError(f"network={name} does not take these arguments: {error}") from error
    if not isinstance(module, nn.Module):
        raise UserError(f"network={name} gives what is of type {type(module).__name__}, and no torch.nn.Module")
    return module


def _built(name: str, function: Callable[..., Any], given: inspect.BoundArguments, image: Shape) -> Any:
    try:
        with plain_settings():
            return function(*given.args, **given.kwargs)
    except Exception as error:  # a function of the user's can raise anything
        told = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"network={name} cannot be built for images of {'x'.join(map(str, image))}: {told}") from error


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module was made by torch.compile or torch.jit."""
    return isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"


@torch.no_grad()
def check_builder(module: nn.Module, build: Callable[[int], nn.Module], image: Shape) -> None:
    """Check a function of the user's that builds networks.

    It must build new layers at each call, with weights that depend on the seed only, and a network's outputs must
    depend on its state dict only.

    Args:
        module: A network that it built with seed 0, after a forward pass.
        build: Builds another one with a seed.
        image: Shape of the images.

    Raises:
        UserError: It does not do so.
    """
    first, again, other = build(0), build(0), build(1)
    given = {id(parameter) for parameter in module.parameters()}
    if any(id(parameter) in given for parameter in again.parameters()):
        raise UserError("its function gives layers that it gave before: it must make new ones at each call")
    weights = dict(first.named_parameters())
    if any(not tensor.equal(weights[name]) for name, tensor in again.named_parameters()):
        raise UserError("its first weights are not told by the seed alone: draw them from torch's random numbers")
    drawn = [name for name, tensor in weights.items() if (tensor != tensor.flatten()[0]).any()]
    if drawn and all(tensor.equal(weights[name]) for name, tensor in other.named_parameters()):
        raise UserError("its first weights are the same for every seed: its function must not set a seed itself")
    for name, parameter in module.named_parameters():
        if parameter.requires_grad != weights[name].requires_grad:  # the others have not run
            raise UserError(f"its forward sets requires_grad of {name}: set it where its layers are made")
    state, tensors = module.state_dict(), all_tensors(module)
    wrong = [name for name, _ in module.named_parameters(remove_duplicate=False) if name not in state]
    wrong += [name for name, value in state.items() if name not in tensors or not isinstance(value, torch.Tensor)]
    if wrong:
        raise UserError(
            f"its state dict must hold its parameters and buffers by their names, and nothing else: {wrong[0]}"
        )
    other.load_state_dict(state)
    outputs = []
    with torch.random.fork_rng(devices=[]):
        images = torch.randn((2, *image), generator=torch.Generator().manual_seed(0))
        for same in (module, other):
            torch.default_generator.manual_seed(0)
            outputs.append(same.eval()(images.clone()))
    if not torch.equal(*outputs):
        raise UserError(
            "with the weights of another it gives other numbers, so that layers cannot be copied: what its layers draw "
            "and keep must be parameters, or buffers that state dicts hold"
        )
