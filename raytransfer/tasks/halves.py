"""Splits of a data set's classes into two halves, A and B: random, named or listed."""

import csv
import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from raytransfer.errors import UserError
from raytransfer.tasks.dataset import Dataset
from raytransfer.tasks.draws import stable_permutation
from raytransfer.words import number_of, some_of

Halves = tuple[tuple[int, ...], tuple[int, ...]]

_CIFAR100_NATURAL = """
    beaver dolphin otter seal whale aquarium_fish flatfish ray shark trout orchid poppy rose sunflower tulip
    apple mushroom orange pear sweet_pepper bee beetle butterfly caterpillar cockroach bear leopard lion tiger wolf
    cloud forest mountain plain sea camel cattle chimpanzee elephant kangaroo fox porcupine possum raccoon skunk
    crab cra lobster snail spider worm baby boy girl man woman crocodile dinosaur lizard snake turtle
    hamster mouse rabbit shrew squirrel maple_tree oak_tree palm_tree pine_tree willow_tree
"""  # "cra" is how the copy on the Hugging Face hub spells crab
_CIFAR100_MAN_MADE = """
    bottle bowl can cup plate clock keyboard lamp telephone television bed chair couch table wardrobe
    bridge castle house road skyscraper bicycle bus motorcycle pickup_truck train
    lawn_mower rocket streetcar tank tractor
"""


def random_halves(n_classes: int, index: int) -> Halves:
    """Split the classes into two random halves.

    The same arguments always give the same split; different indices give different ones, even if A and B are swapped.

    Args:
        n_classes: Number of classes, at least 4.
        index: Number of the split, from 0.

    Returns:
        Classes of A and of B, ascending; A has one more if the number of classes is odd.

    Raises:
        UserError: There are too few classes, or fewer different splits than ``index`` + 1.
    """
    if n_classes < 4:
        raise UserError(f"random halves of {number_of(n_classes, 'class')}: it takes at least 4, two a half")
    size = (n_classes + 1) // 2
    different = math.comb(n_classes, size) // (2 if n_classes % 2 == 0 else 1)
    if not 0 <= index < different:
        raise UserError(
            f"split {index} of {n_classes} classes: there are {different} different ones, 0..{different - 1}; "
            f"splits={different} asks for all"
        )
    seen: set[frozenset[tuple[int, ...]]] = set()
    attempt = 0
    while True:
        order = stable_permutation(n_classes, "random halves", attempt).tolist()
        a, b = tuple(sorted(order[:size])), tuple(sorted(order[size:]))
        seen.add(frozenset((a, b)))
        if len(seen) == index + 1:
            return a, b
        attempt += 1


def halves(dataset: Dataset, wanted: str | Mapping[str, Sequence[str | int]]) -> Halves:
    """Find the halves that a name or two lists stand for; ``random_halves`` makes random ones.

    Args:
        dataset: The data set.
        wanted: Name of a pair, or ``{"A": [...], "B": [...]}`` of class names (text) and class indices (numbers); the
            lists need not name every class.

    Returns:
        Classes of A and of B, ascending.

    Raises:
        UserError: The pair is unknown or does not fit this data set; a list holds an unknown or repeated class, or
            fewer than 2; or the lists share a class.
    """
    if isinstance(wanted, str):
        return _named(dataset, wanted)
    if set(wanted) != {"A", "B"}:
        raise UserError(f"halves have keys {', '.join(map(str, wanted)) or 'none'}: they must be A and B")
    a, b = (class_indices(dataset, f"half {half}", wanted[half]) for half in ("A", "B"))
    shared = [dataset.class_names[index] for index in a if index in b]
    if shared:
        raise UserError(f"halves A and B overlap: both hold {', '.join(shared)}; a class belongs to one half")
    return a, b


@functools.cache
def named_pairs() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Class names in the two halves of each named pair; one pair may serve several data sets."""
    ilsvrc12: dict[str, list[str]] = {"natural": [], "man-made": []}  # by WordNet id
    with files("raytransfer.tasks").joinpath("ilsvrc12_natural_manmade.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            ilsvrc12[row["half"]].append(row["wordnet_id"])
    pairs = {
        "animals/vehicles": ("bird cat deer dog frog horse", "airplane automobile ship truck"),
        "natural/man-made": (
            _CIFAR100_NATURAL + " ".join(ilsvrc12["natural"]),
            _CIFAR100_MAN_MADE + " ".join(ilsvrc12["man-made"]),
        ),
        # handwritten digits with and without a closed loop: they look different, as far as 8x8 pixels can
        "loops/no-loops": ("0 6 8 9", "1 2 3 4 5 7"),
    }
    return {name: (frozenset(a.split()), frozenset(b.split())) for name, (a, b) in pairs.items()}


def _named(dataset: Dataset, name: str) -> Halves:
    fitting = {}
    # torchvision's MNIST names its classes "0 - zero" and so on
    class_names = [class_name.split(" - ")[0] for class_name in dataset.class_names]
    for pair, (a, b) in named_pairs().items():
        both = tuple(tuple(i for i, class_name in enumerate(class_names) if class_name in half) for half in (a, b))
        if len(both[0]) + len(both[1]) == len(class_names) and min(map(len, both)) >= 2:
            fitting[pair] = (both[0], both[1])
    if name not in fitting:
        fault = f"does not fit the classes of {dataset.name}" if name in named_pairs() else "is no pair of halves"
        raise UserError(
            f"halves {name!r} {fault}: {dataset.name} takes {', '.join(['random', *fitting])}, "
            "or lists A and B of its classes"
        )
    return fitting[name]


def class_indices(dataset: Dataset, what: str, classes: Sequence[str | int]) -> tuple[int, ...]:
    """Find the classes in a list of the user's.

    Names take precedence over indices. A number that is the name of one class and the index of another is refused; in
    quotes it is a name.

    Args:
        dataset: The data set.
        what: What errors call the list, such as "half A".
        classes: Class names (text, or numbers that are names) and class indices (numbers).

    Returns:
        Their indices, ascending.

    Raises:
        UserError: A class is unknown, ambiguous or listed twice, or there are fewer than 2.
    """
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        raise UserError(f"{what} is {classes!r}: it must be a list of class names or indices")
    indices = [_class_index(dataset, what, wanted) for wanted in classes]
    twice = [dataset.class_names[index] for index in sorted(set(indices)) if indices.count(index) > 1]
    if twice:
        raise UserError(f"{what} names {', '.join(twice)} more than once")
    if len(indices) < 2:
        raise UserError(f"{what} has {number_of(len(indices), 'class')}: it needs at least 2")
    return tuple(sorted(indices))


def _class_index(dataset: Dataset, what: str, wanted: str | int) -> int:
    names = dataset.class_names
    if isinstance(wanted, str):
        if wanted in names:
            return names.index(wanted)
        close = difflib.get_close_matches(wanted, names, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"its classes are {some_of(names, 20)}"
        raise UserError(f"{what} names class {wanted!r}, which {dataset.name} does not have: {hint}")
    is_number = isinstance(wanted, int) and not isinstance(wanted, bool)
    is_index = is_number and 0 <= wanted < len(names)
    if is_number and str(wanted) in names:
        named = names.index(str(wanted))
        if is_index and wanted != named:
            raise UserError(
                f"{what} holds {wanted}, which is the name of one class of {dataset.name} and the index of another, "
                f"{names[wanted]!r}: write '{wanted}' in quotes for the first, and name the other by its own name"
            )
        return named
    if not is_index:
        raise UserError(
            f"{what} holds class index {wanted}: {dataset.name} has {len(names)} classes, 0..{len(names) - 1}; in "
            "quotes it is a name"
        )
    return int(wanted)
