"""Finding a network's weights in a checkpoint from elsewhere, by name and shape."""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from raytransfer.errors import UserError
from raytransfer.words import some_of

Tensors = dict[str, torch.Tensor]

_DEPTH = 3  # levels of nested dicts that are searched
_SHOWN = 3  # names in a message
_COUNTER = "num_batches_tracked"  # of batch normalisation since PyTorch 0.4.1; unused if it has a momentum
# Last parts of names that do not tell architectures apart: tensors that are not learned, and those of masked
# autoencoders.
_HARMLESS = {
    _COUNTER,
    "attn_mask",
    "decoder_pos_embed",
    "mask_token",
    "relative_coords_table",
    "relative_position_index",
    "total_ops",
    "total_params",
}
# Dtypes that may be converted into each other. Others, such as quantised ones, would need their scales.
_KINDS = (
    {torch.float16, torch.bfloat16, torch.float32, torch.float64},
    {torch.int32, torch.int64},
)


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a checkpoint holds of a network.

    Attributes:
        tensors: Tensors of the body and, if ``head``, of the head, by the network's state-dict names, in its shapes and
            dtypes; contiguous on the CPU, without shared memory. Counters in ``missing`` are zero, as in PyTorch.
        path: Keys that lead to the state dict in the file, joined by dots; empty for the top level.
        prefix: Prefix of the network's names there, such as ``module.encoder_q.``.
        head: Whether the whole head is there in the network's shapes.
        unused: Path and name of each tensor that is not used, such as those of optimisers; not those that ``rename``
            leaves out.
        missing: Names of the body that the file lacks, which are counters of batch normalisation only.
        head_shapes: Shapes in the file of tensors with names of the head.
    """

    tensors: Tensors
    path: str
    prefix: str
    head: bool
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    head_shapes: dict[str, tuple[int, ...]]


def match(
    content: Any,
    expected: Mapping[str, torch.Tensor],
    *,
    head: Collection[str],
    name: str,
    key: str | None = None,
    prefix: str | None = None,
    rename: Mapping[str, str | None] | None = None,
) -> Match:
    """Find the weights of a network in a checkpoint by name, shape and dtype.

    Nested dicts are searched down to the third level, with every prefix before a name of the body. A place fits if it
    holds all of the body, and no sign of another architecture: other tensors inside the body's modules, tensors without
    a module beside them, or modules that continue their numbering (ResNet-34 has all names and shapes of ResNet-18, and
    more blocks). A tensor with several names in the network is there by any of them, with the same numbers by all. The
    order of tensors never matters. Modules with other names beside the body, such as projection heads and decoders, are
    ignored. Architectures that differ only in what they compute are not told apart, such as timm's
    ``efficientnet_lite0`` and ``tf_efficientnet_lite0``, whose padding differs.

    Args:
        content: What ``raytransfer.networks.checkpoint_files.read_file`` returned.
        expected: State dict of the network, for shapes and dtypes; it may be on the meta device.
        head: Names of tensors of the head, which may be absent or have other shapes.
        name: Name of the checkpoint in messages, such as its path.
        key: The only place to search, as in ``Match.path``; None for all.
        prefix: The only prefix to try; None for all.
        rename: Applied first: from regular expressions to replacements in the file's names (``re.sub``), or to None to
            leave out the tensors that match. The first that matches a name is applied, and each must be the first for
            some name.

    Raises:
        UserError: No place fits, and the message says what comes closest; several fit and hold different tensors; there
            is no such key or prefix; or a renaming is no regular expression, changes nothing or makes two names equal.
    """
    places = _renamed(list(_places(content)), rename or {}, name)
    if not places:
        raise UserError(f"{name} holds no tensors by name: it must be a state dict, or dicts with one inside")
    wanted = _Wanted(expected, head)
    best = _best(_candidates(places, wanted, name, key, prefix), wanted, places, name)
    taken = best.take()
    used = {best.prefix + own for own in taken}
    return Match(
        tensors=taken,
        path=best.path,
        prefix=best.prefix,
        head=best.has_head,
        unused=tuple(
            _joined(path, full)
            for path, tensors in places
            for full in tensors
            if tensors is not best.tensors or full not in used
        ),
        missing=tuple(best.missing),
        head_shapes=best.head_shapes,
    )


Place = tuple[str, Tensors]
"""Keys that lead to a dict, joined by dots, and the tensors directly in it."""


def _places(content: Any, path: str = "", depth: int = 0) -> Iterator[Place]:
    if not isinstance(content, Mapping):
        return
    tensors = {k: v.detach() for k, v in content.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    if depth < _DEPTH:
        for k, v in content.items():
            yield from _places(v, _joined(path, str(k)), depth + 1)


def _renamed(places: list[Place], rename: Mapping[str, str | None], name: str) -> list[Place]:
    rules = {pattern: _compiled(pattern) for pattern in rename}
    first: set[str | None] = set()  # patterns that were the first to match some name
    renamed = []
    for path, tensors in places:
        origins: dict[str, str] = {}
        for old in tensors:
            pattern = next((pattern for pattern, rule in rules.items() if rule.search(old)), None)
            first.add(pattern)
            new = old if pattern is None else _replaced(rules[pattern], rename[pattern], old)
            if new is None:
                continue
            if new in origins:
                raise UserError(f"rename would make two tensors of {name} one: {origins[new]} and {old}, both {new}")
            origins[new] = old
        if origins:
            renamed.append((path, {new: tensors[old] for new, old in origins.items()}))
    for pattern in rename:
        if pattern not in first:
            raise UserError(f"rename={pattern} changes no name of {name} that an earlier pattern does not")
    return renamed


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"rename={pattern} is no regular expression: {error}") from error


def _replaced(rule: re.Pattern[str], replacement: str | None, old: str) -> str | None:
    try:
        return None if replacement is None else rule.sub(replacement, old)
    except (re.error, IndexError) as error:
        raise UserError(f"rename={rule.pattern}: {replacement} cannot replace it: {error}") from error


class _Wanted:
    """What a network expects, and which other tensors show another architecture."""

    def __init__(self, expected: Mapping[str, torch.Tensor], head: Collection[str]) -> None:
        self.body = {own: tensor for own, tensor in expected.items() if own not in head}
        self.head = {own: tensor for own, tensor in expected.items() if own in head}
        self.all = {**expected}
        by_memory: dict[tuple[int, torch.Size], list[str]] = {}
        for own, tensor in expected.items():
            if tensor.numel() and not tensor.is_meta:
                by_memory.setdefault((tensor.data_ptr(), tensor.shape), []).append(own)
        self.tied = [names for names in by_memory.values() if len(names) > 1]  # each names one tensor of the network
        self._modules = {start for own in self.body for start in _starts(own)}
        self._head_modules = tuple({_starts(own)[-1] for own in self.head} - {""})
        shared = [start for start in self._modules if all(own.startswith(start) for own in self.body)]
        self._root = max(shared, key=len, default="")  # the module with all of the body: "", or "features." of a VGG
        self._numbered = {_unnumbered(self._part(own, self._root)) for own in self.body} - {None}

    def prefixes(self, tensors: Iterable[str]) -> list[str]:
        """Prefixes before names of the body."""
        return list(
            dict.fromkeys(start for full in tensors for start in _starts(full) if full[len(start) :] in self.body)
        )

    def is_intruder(self, own: str) -> bool:
        """Whether an unexpected tensor shows that the weights belong to another architecture."""
        if _last(own) in _HARMLESS or own.startswith(self._head_modules):
            return False
        module = max((start for start in _starts(own) if start in self._modules), key=len)
        if module == self._root:
            part = self._part(own, module)
            is_bare = module + part == own  # in no module, such as position embeddings
            return is_bare or _unnumbered(part) in self._numbered
        return len(module) > len(self._root)

    @staticmethod
    def _part(own: str, module: str) -> str:
        return own[len(module) :].partition(".")[0]


class _Candidate:
    """A place and a prefix, and how well what is there fits."""

    def __init__(self, wanted: _Wanted, path: str, prefix: str, tensors: Tensors) -> None:
        self.path, self.prefix, self.tensors = path, prefix, tensors
        self._wanted = wanted
        self._own = {full[len(prefix) :]: tensor for full, tensor in tensors.items() if full.startswith(prefix)}
        self.torn: list[str] = []
        for names in wanted.tied:  # which safetensors' save_model saves by one name
            there = [own for own in names if own in self._own]
            self._own |= {own: self._own[there[0]] for own in names if there and own not in self._own}
            if all(self._agrees(own, wanted.all[own]) for own in there):
                self.torn += [f"{there[0]} and {own}" for own in there[1:] if not self._are_equal(there[0], own)]
        self.missing = [own for own in wanted.body if own not in self._own]
        self.unlike = [own for own, tensor in wanted.body.items() if own in self._own and not self._agrees(own, tensor)]
        self.matched = len(wanted.body) - len(self.missing) - len(self.unlike)
        self.has_head = bool(wanted.head) and all(self._agrees(own, tensor) for own, tensor in wanted.head.items())
        self.lacking = [own for own in self.missing if _last(own) != _COUNTER]
        whole = not self.lacking and not self.unlike and self.matched > 0
        expected = wanted.body.keys() | wanted.head.keys()
        self.intruders = [own for own in self._own if own not in expected and wanted.is_intruder(own)] if whole else []
        self.fits = whole and not self.intruders and not self.torn

    @property
    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of tensors with names of the head."""
        return {own: tuple(self._own[own].shape) for own in self._wanted.head if own in self._own}

    @property
    def place(self) -> str:
        """Where it is, as options of the user's."""
        return f'key="{self.path}" prefix="{self.prefix}"'

    def _agrees(self, own: str, wanted: torch.Tensor) -> bool:
        tensor = self._own.get(own)
        return (
            tensor is not None
            and tensor.shape == wanted.shape
            and tensor.layout == torch.strided
            and not tensor.is_meta
            and (tensor.dtype == wanted.dtype or any({tensor.dtype, wanted.dtype} <= kind for kind in _KINDS))
        )

    def _are_equal(self, one: str, other: str) -> bool:
        a, b = self._own[one], self._own[other]
        return a.dtype == b.dtype and torch.equal(a, b)

    def differences(self) -> list[str]:
        """Each tensor of another shape or dtype, and what the network expects."""
        return [
            f"{own} is {_shape(self._own[own])}, not {_shape(self._wanted.body[own])}"
            if self._own[own].shape != self._wanted.body[own].shape
            else f"{own} holds {_kind(self._own[own])}, not {_dtype(self._wanted.body[own])}"
            for own in self.unlike
        ]

    def equals(self, other: "_Candidate") -> bool:
        """Whether both hold the same tensors: the body, and the head if both have one."""
        names = [*self._wanted.body, *(self._wanted.head if self.has_head and other.has_head else ())]
        mine, theirs = self._own, other._own
        return all(
            mine[own].dtype == theirs[own].dtype and torch.equal(mine[own], theirs[own])
            if own in mine and own in theirs
            else own not in mine and own not in theirs
            for own in names
        )

    def take(self) -> Tensors:
        """Copies of the tensors for the network; those of the file may share memory, or be memory-mapped."""
        expected = self._wanted.body | (self._wanted.head if self.has_head else {})
        return {
            own: torch.empty(wanted.shape, dtype=wanted.dtype).copy_(self._own[own])
            if own in self._own
            else torch.zeros(wanted.shape, dtype=wanted.dtype)
            for own, wanted in expected.items()
        }


def _candidates(
    places: list[Place], wanted: _Wanted, name: str, key: str | None, prefix: str | None
) -> list[_Candidate]:
    """All places and prefixes, or the chosen ones, which must exist."""
    paths = [path for path, _ in places]
    if key not in (None, *paths):
        there = [path or '"" (the top level)' for path in paths]
        raise UserError(f"key={key} is not in {name}; choose from {some_of(there, _SHOWN)}")
    found = [
        _Candidate(wanted, path, start, tensors)
        for path, tensors in places
        if key in (None, path)
        for start in wanted.prefixes(tensors)
    ]
    prefixes = list(dict.fromkeys(candidate.prefix for candidate in found))
    if prefix not in (None, *prefixes):
        there = [start or '"" (none)' for start in prefixes]
        choices = f"choose from {some_of(there, _SHOWN)}" if there else "there is none before a name of the network"
        raise UserError(f"prefix={prefix} is not in {name}: {choices}")
    return [candidate for candidate in found if prefix in (None, candidate.prefix)]


def _best(found: list[_Candidate], wanted: _Wanted, places: list[Place], name: str) -> _Candidate:
    """The candidate that fits, preferably with a head; others that fit must hold the same tensors."""
    fitting = sorted((candidate for candidate in found if candidate.fits), key=lambda c: not c.has_head)
    if not fitting:
        raise UserError(f"{name} does not fit the network: {_shortfall(found, wanted, places)}")
    if not all(candidate.equals(fitting[0]) for candidate in fitting[1:]):
        choices = "; ".join(candidate.place for candidate in fitting)
        raise UserError(f"{name} holds {len(fitting)} networks that fit: choose one by key= or prefix=: {choices}")
    return fitting[0]


def _shortfall(found: list[_Candidate], wanted: _Wanted, places: list[Place]) -> str:
    """The candidate that comes closest, and what it lacks, in words."""
    if not found:
        there = some_of([full for _, tensors in places for full in tensors], _SHOWN)
        return f"it has none of its names; it has {there}, and the network {some_of(list(wanted.body), _SHOWN)}"
    best = max(found, key=lambda candidate: candidate.matched)
    if best.intruders:
        return (
            f"{best.place} has all of it, and {len(best.intruders)} more inside, as another architecture would: "
            f"{some_of(best.intruders, _SHOWN)}; if they do not matter, leave them out with rename={{PATTERN: null}}"
        )
    if best.torn and not best.lacking and not best.unlike:
        return f"{best.place} has other numbers for {some_of(best.torn, _SHOWN)}, one tensor in the network"
    parts = [f"{best.place} comes closest, with {best.matched} of {len(wanted.body)} tensors"]
    if best.lacking:
        parts.append(f"it lacks {some_of(best.lacking, _SHOWN)}")
    if best.unlike:
        parts.append(some_of(best.differences(), _SHOWN))
    return "; ".join(parts)


def _starts(name: str) -> list[str]:
    """Prefixes of the modules around a tensor, each with its dot, from the outermost, which is empty."""
    return ["", *itertools.accumulate(part + "." for part in name.split(".")[:-1])]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _unnumbered(part: str) -> str | None:
    """``layer`` of ``layer4``; None if there is no number."""
    stem = part.rstrip("0123456789")
    return None if stem == part else stem


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_meta:
        return "no numbers"
    return _dtype(tensor) if tensor.layout == torch.strided else f"{_dtype(tensor)} in a sparse layout"
