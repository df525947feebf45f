"""How far apart two tasks' classes are in a hierarchy of classes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from raytransfer.errors import UserError

if TYPE_CHECKING:  # a sample holds a tree
    from raytransfer.distances.sample import Sample

_SPLIT = re.compile(r" part \d+ of \d+$")


@dataclass(frozen=True)
class Tree:
    """A hierarchy of classes.

    Attributes:
        paths: The groups around each class, from the widest to the narrowest; empty if there are none.
        longest: Number of edges between the two classes furthest apart, at least 2.
    """

    paths: Mapping[str, tuple[str, ...]]
    longest: int

    def edges(self, one: str, other: str) -> int:
        """Number of edges on the path between two classes."""
        return 0 if one == other else _edges(self.paths[one], self.paths[other])


def parse_tree(nested: object) -> Tree:
    """Parse a hierarchy from nested mappings and lists, as YAML has it.

    Args:
        nested: A mapping from groups to their content, or a list of classes and mappings, such as
            ``{"animals": ["bird", "cat"], "vehicles": {"road": ["truck"], "water": ["ship"]}}``.

    Raises:
        UserError: It has another form, a name is no string, a class occurs twice, a group is empty, or there are fewer
            than 2 classes.
    """
    paths: dict[str, tuple[str, ...]] = {}
    for name, path in _leaves(nested, ()):
        if name in paths:
            places = " and ".join("/".join(groups) or "the top" for groups in (paths[name], path))
            raise UserError(f"tree: class {name!r} is in {places}; a class has one place")
        paths[name] = path
    if len(paths) < 2:
        raise UserError(f"tree: it has only the class {next(iter(paths))!r}; distances need at least 2 classes")
    # Classes of one group have equal paths and are 2 edges apart, which is the default.
    apart = (_edges(one, other) for one, other in combinations(set(paths.values()), 2))
    return Tree(paths, max(apart, default=2))


def check_in_tree(names: Sequence[str], tree: Tree) -> list[list[str]]:
    """Find classes in a tree.

    Args:
        names: Names of a task's classes, such as ``cifar10/cat``, ``cifar10/cat+dog`` or ``cifar10/cat part 1 of 2``.
        tree: The hierarchy.

    Returns:
        The tree's classes in each name.

    Raises:
        UserError: The tree lacks one.
    """
    found = []
    for name in names:
        plain = _SPLIT.sub("", name)
        whole = _end_in_tree(plain, tree)
        parts = [whole] if whole else [_end_in_tree(part, tree) or part for part in plain.split("+")]
        for part in parts:
            if part not in tree.paths:
                part = part.removeprefix(plain.partition("/")[0] + "/")
                known = sorted(tree.paths)
                some = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
                raise UserError(
                    f"tree: it lacks class {part!r} (of {name}); it has {some}; give a tree that has it, or "
                    "tree=null to leave that distance out"
                )
        found.append(parts)
    return found


def _end_in_tree(name: str, tree: Tree) -> str | None:
    """The longest suffix of a name that is a class of the tree and begins at the start or after a slash."""
    first, plus, others = name.partition("+")
    while first + plus + others not in tree.paths:
        _, slash, first = first.partition("/")
        if not slash:
            return None
    return first + plus + others


def tree_distance(source: "Sample", target: "Sample") -> float:
    """Mean distance from a class of one task to the nearest class of the other, averaged over both directions.

    The distance of two classes is the number of edges on the path between them, divided by that of the longest path in
    the tree; a merged class is as near as the nearest of its parts. Classes are looked up by name: ``cifar10/cat`` as
    ``cat``, ``cifar10/cat+dog`` as ``cat`` and ``dog``, ``cifar10/cat part 1 of 2`` as ``cat``, and
    ``fashion_mnist/T-shirt/top`` as ``T-shirt/top`` or else ``top``. So a task has
    distance 0 from itself with classes merged or split.

    Returns:
        0 (each class is also in the other task) to 1.

    Raises:
        UserError: A sample has no tree, the trees differ, or the tree lacks a class.
    """
    if source.tree is None or target.tree is None or source.tree != target.tree:
        raise UserError(f"{source.name} and {target.name}: a tree distance needs one tree of classes for both")
    tree = source.tree
    a, b = (check_in_tree(sample.classes, tree) for sample in (source, target))
    steps = np.array([[min(tree.edges(i, j) for i in one for j in other) for other in b] for one in a])
    return float((steps.min(axis=1).mean() + steps.min(axis=0).mean()) / 2 / tree.longest)


def _leaves(node: object, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Classes below a node, each with its path."""
    place = f"group {'/'.join(path)!r}" if path else "the top"
    if not isinstance(node, Mapping | list | tuple):
        raise UserError(f"tree: {place} holds {node!r}; it must be a list of classes or a mapping of groups")
    if not node:
        raise UserError(f"tree: {place} is empty; name its classes or leave it out")
    for child in node:
        if isinstance(node, Mapping):
            yield from _leaves(node[child], (*path, _name(child, place)))
        elif isinstance(child, Mapping):
            yield from _leaves(child, path)
        else:
            yield _name(child, place), path


def _name(name: object, place: str) -> str:
    if not isinstance(name, str):
        raise UserError(f"tree: {place} names {name!r}, which is no string; put quotes around it")
    return name


def _edges(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Edges between two different classes, given their paths."""
    shared = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        shared += 1
    return len(one) + len(other) - 2 * shared + 2
