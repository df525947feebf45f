"""From a module to its stages: trace it, group its atoms, and check the result by running it."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from raytransfer.errors import UserError
from raytransfer.networks.cuts import Atom, find_atoms, owners
from raytransfer.networks.expansion import expandable, is_norm
from raytransfer.networks.stages import Network, Stage, untouched
from raytransfer.networks.tracing import TraceError, all_tensors, record, trace

Granularity = Literal["block", "fine", "coarse"]
Table = Mapping[str, Sequence[str]]
"""Stages by name, each with paths of modules or patterns for names of modules and tensors."""

_BEFORE_HEAD = re.compile(r"pool|flatten|drop|mean|view|reshape|select|getitem")
_NOT_BEFORE_HEAD = re.compile(r"maxpool")


@dataclass(frozen=True, eq=False)
class _Piece:
    """An atom in both modes, and the tensors that it owns."""

    evaluation: Atom
    training: Atom
    owned: tuple[str, ...]


def find_stages(
    module: nn.Module, image: tuple[int, ...], granularity: Granularity = "block", table: Table | None = None
) -> tuple[Stage, ...]:
    """Trace a module and cut it into stages, the last of which is its head.

    Args:
        module: It is run a few times and left unchanged; on the meta device this is cheap.
        image: Shape of one input, as (C, H, W).
        granularity: ``block`` cuts wherever only one tensor passes, but leaves norms and parts without weights with the
            layer before them; ``fine`` and ``coarse`` cut only between groups of timm's ``group_matcher``.
        table: Stages to cut into, in place of a granularity.

    Raises:
        UserError: The module cannot be traced or cut, or the table or granularity does not fit it.
    """
    if table is not None and granularity != "block":
        raise UserError(
            f"granularity={granularity} would change nothing, as its stages are given by name: leave it out"
        )
    try:
        pieces = _pieces(module, image)
    except TraceError as error:
        raise UserError(str(error)) from error
    if table is not None:
        groups = _by_table(pieces, table)
    elif granularity == "block":
        groups = _by_block(module, pieces)
    else:
        groups = _by_matcher(module, pieces, coarse=granularity == "coarse")
    owned = [tuple(tensor for i in group for tensor in pieces[i].owned) for group in groups]
    names = _names(owned) if table is None else list(table)
    return tuple(
        Stage(
            name=name,
            tensors=tensors,
            evaluation=tuple(pieces[i].evaluation for i in group),
            training=tuple(pieces[i].training for i in group),
        )
        for name, tensors, group in zip(names, owned, groups, strict=True)
    )


def check_exact(network: Network) -> None:
    """Check on noise, in both modes, that a network's stages in sequence do what its module does.

    Raises:
        UserError: They differ in outputs, buffers, random draws, or in which parameters change or get gradients; or a
            buffer below the head changes in eval mode, or in training mode through code outside of any layer.
    """
    module = network.module
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with untouched(module), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        images = torch.randn(4, *network.image)
        for training in (False, True):
            module.train(training)
            results = []
            for run in (module, network.through):
                with untouched(module):
                    torch.default_generator.manual_seed(1)
                    versions = _versions(module)
                    outputs = run(images.clone())
                    changed = {name for name, version in _versions(module).items() if version != versions[name]}
                    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
                    results.append((outputs, buffers, changed, torch.get_rng_state()))
            (whole, moved, changed, drawn), (staged_too, moved_too, changed_too, drawn_too) = results
            mode = "training" if training else "eval"
            if whole.isnan().any():
                raise UserError(
                    f"on images of noise its output has NaN in {mode} mode, such as from the logarithm or the root of "
                    "a negative number"
                )
            if not torch.equal(whole, staged_too):
                raise UserError(f"stage by stage it gives other numbers than as a whole, in {mode} mode")
            if other := [name for name, buffer in moved.items() if not torch.equal(buffer, moved_too[name])]:
                raise UserError(
                    f"its buffer {other[0]} moves when it runs as a whole, and not stage by stage, in {mode} mode: "
                    "move it in the forward of a layer whose output is used"
                )
            if lost := sorted(changed - changed_too):
                raise UserError(
                    f"its forward changes the weights {lost[0]} when it runs as a whole, and not stage by stage: "
                    "change them in the forward of the layer that they are of"
                )
            below = [name for name in moved if name not in network.stages[-1].tensors]
            moving = [name for name in below if not torch.equal(moved[name], before[name])]
            if moving and not training:
                raise UserError(f"its buffer {moving[0]} moves in eval mode, too: its layer cannot be frozen")
            bare = {name for stage in network.stages for atom in stage.training for name in atom.bare}
            if outside := [name for name in moving if name in bare]:
                raise UserError(
                    f"its buffer {outside[0]} moves in training by code outside of its layers, which cannot be frozen "
                    "by itself: make it a module of its own, such as BatchNorm2d"
                )
            if not torch.equal(drawn, drawn_too):
                raise UserError(f"stage by stage it draws other random numbers than as a whole, in {mode} mode")
        with untouched(module), torch.enable_grad():  # still in training mode
            trained, trained_too = (
                _with_gradients(module, run(images[:2].clone())) for run in (module, network.through)
            )
        if kept := [name for name in trained_too if name not in trained]:
            raise UserError(
                f"its forward keeps {kept[0]} out of training, as torch.no_grad() does, and stage by stage it would "
                "train: set requires_grad=False on such parameters instead"
            )


def _versions(module: nn.Module) -> dict[str, tuple[int, int]]:
    """For each parameter, a value that changes when it is modified in place or replaced."""
    return {name: (parameter._version, parameter.data_ptr()) for name, parameter in module.named_parameters()}


def _with_gradients(module: nn.Module, outputs: torch.Tensor) -> list[str]:
    """Names of the parameters on which a module's outputs depend differentiably."""
    nodes: set[Any] = set()
    waiting: set[Any] = {outputs.grad_fn} - {None}
    while waiting:
        nodes |= waiting
        waiting = {before for node in waiting for before, _ in node.next_functions} - nodes - {None}
    reached = {id(node.variable) for node in nodes if hasattr(node, "variable")}
    return [name for name, parameter in module.named_parameters() if id(parameter) in reached]


def _pieces(module: nn.Module, image: tuple[int, ...]) -> list[_Piece]:
    """The atoms of a module, with the same cuts in both modes."""
    tensors = all_tensors(module)
    _check_memory(module)
    like = next(module.parameters(), torch.zeros(()))
    expand: set[str] | None = None
    by_mode = []
    with untouched(module):
        for training in (False, True):
            module.train(training)
            levels = []
            for batch in (2, 3):
                inputs = torch.zeros(batch, *image, device=like.device, dtype=like.dtype)
                drawn = _foreign_random_state()
                calls = record(module, inputs)
                if _foreign_random_state() != drawn:
                    raise TraceError(
                        "it draws random numbers of Python or NumPy, which no seed sets: draw them of torch"
                    )
                if expand is None:
                    expand = expandable(module, calls)
                levels.append(trace(module, "", expand, calls))
            by_mode.append(find_atoms(*levels))
    evaluation, training_atoms = by_mode
    for atom in (*evaluation, *training_atoms):
        if unknown := sorted(atom.tensors - tensors.keys()):
            raise TraceError(_unknown(unknown[0]))
    owned, owned_too = (owners(atoms, tensors) for atoms in by_mode)
    if owned != owned_too:
        raise TraceError("its layers are not the same in eval and in training mode")
    return [_Piece(a, b, tuple(c)) for a, b, c in zip(evaluation, training_atoms, owned, strict=True)]


def _foreign_random_state() -> tuple[Any, ...]:
    """The state of Python's and NumPy's global random generators."""
    numpys: Any = np.random.get_state(legacy=True)
    return random.getstate(), numpys[1].tobytes(), *numpys[2:]


def _check_memory(module: nn.Module) -> None:
    """Check that no two parameters share memory: training one would change the other in a frozen layer.

    Raises:
        TraceError: Two share memory.
    """
    names: dict[tuple[int, torch.Size], str] = {}
    for name, parameter in module.named_parameters():
        if parameter.is_meta or not parameter.numel():
            continue
        other = names.setdefault((parameter.data_ptr(), parameter.shape), name)
        if other != name:
            raise TraceError(
                f"{other} and {name} are two parameters in one memory: to share it, assign the same Parameter"
            )


def _unknown(name: str) -> str:
    """Why a tensor that is neither parameter nor buffer is refused."""
    what = "a tensor that it makes of numbers or keeps in a list" if name.startswith("_tensor_constant") else name
    return (
        f"its forward uses {what}, which is neither a parameter nor a buffer, so that it belongs to no layer: make it "
        "one with register_buffer"
    )


def _by_block(module: nn.Module, pieces: Sequence[_Piece]) -> list[list[int]]:
    """A stage for each piece with a layer, together with the pieces after it up to the next layer."""
    kinds = [_kind(module, piece) for piece in pieces]
    groups: list[list[int]] = [[0]]
    has_layer = kinds[0] == "layer"
    for i, kind in enumerate(kinds[1:], start=1):
        if kind == "layer" and has_layer:
            groups.append([i])
        else:
            groups[-1].append(i)
            has_layer = has_layer or kind == "layer"
    if len(groups) > 1:
        _move_to_head(module, pieces, kinds, groups)
    return groups


def _kind(module: nn.Module, piece: _Piece) -> str:
    if not piece.owned:
        return "no weights"
    inside = {name.rpartition(".")[0] for name in piece.owned if name not in piece.evaluation.bare}
    return "norm" if all(is_norm(module.get_submodule(path)) for path in inside) else "layer"


def _move_to_head(module: nn.Module, pieces: Sequence[_Piece], kinds: Sequence[str], groups: list[list[int]]) -> None:
    """Move pooling, flattening and dropout right before the head into its stage."""
    before = groups[-2]
    first = len(before)
    while first > 1 and kinds[before[first - 1]] == "no weights":
        first -= 1
    for place in range(first, len(before)):
        atom = pieces[before[place]].evaluation
        types = [type(module.get_submodule(path)).__name__ for path in atom.modules]
        said = " ".join([*types, *atom.functions]).lower()
        if _BEFORE_HEAD.search(said) and not _NOT_BEFORE_HEAD.search(said):
            groups[-1] = before[place:] + groups[-1]
            groups[-2] = before[:place]
            return


def _by_matcher(module: nn.Module, pieces: Sequence[_Piece], *, coarse: bool) -> list[list[int]]:
    """Stages that keep timm's groups of parameters whole."""
    matcher = getattr(module, "group_matcher", None)
    if matcher is None:
        raise UserError("granularity=fine and coarse are groups that only timm's networks have: give stages={...}")
    from timm.models import group_parameters

    numbers: dict[str, int] = group_parameters(module, matcher(coarse=coarse), reverse=True)
    labels = [[numbers[name] for name in piece.owned if name in numbers] for piece in pieces]
    return _between(labels)


def _by_table(pieces: Sequence[_Piece], table: Table) -> list[list[int]]:
    """The stages of a table."""
    labels = [
        [i for i, patterns in enumerate(table.values()) if any(_matches(piece, pattern) for pattern in patterns)]
        for piece in pieces
    ]
    groups = _between(labels)
    found = [sorted({label for i in group for label in labels[i]}) for group in groups]
    for number, name in enumerate(table):
        holders = [numbers for numbers in found if number in numbers]
        if not holders:
            raise UserError(f"the stage {name} of the table matches nothing: {', '.join(table[name])}")
        if len(holders[0]) > 1:
            others = " and ".join(list(table)[i] for i in holders[0])
            raise UserError(f"the stages {others} of the table cannot be cut apart: more than one tensor passes there")
    return groups


def _matches(piece: _Piece, pattern: str) -> bool:
    names = {*piece.evaluation.tensors.intersection(piece.owned), *piece.evaluation.modules}
    return any(name.startswith(f"{pattern}.") or fnmatchcase(name, pattern) for name in names)


def _between(labels: Sequence[Sequence[int]]) -> list[list[int]]:
    """Group pieces by labels: cut before a labelled piece if all labels before it are smaller than all from it on."""
    groups: list[list[int]] = [[0]]
    for i in range(1, len(labels)):
        before = [label for piece in labels[:i] for label in piece]
        after = [label for piece in labels[i:] for label in piece]
        if labels[i] and before and max(before) < min(after):
            groups.append([i])
        else:
            groups[-1].append(i)
    return groups


def _names(owned: Sequence[Sequence[str]]) -> list[str]:
    """Names of stages: the shortest prefix of the first module's path that no other stage shares."""
    names = []
    for i, tensors in enumerate(owned):
        others = [name for j, group in enumerate(owned) if j != i for name in group]
        inside = [name for name in tensors if "." in name] or list(tensors)
        parts = inside[0].split(".") if inside else [f"stage{i + 1}"]
        prefixes = [".".join(parts[: length + 1]) for length in range(max(1, len(parts) - 1))]
        unique = (p for p in prefixes if not any(o == p or o.startswith(f"{p}.") for o in others))
        names.append(next(unique, prefixes[-1]))
    return [name if name not in names[:i] else f"{name} {i + 1}" for i, name in enumerate(names)]
