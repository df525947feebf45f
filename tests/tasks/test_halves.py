import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytransfer.errors import UserError
from raytransfer.tasks import Dataset, halves, random_halves

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple("0123456789")


def named(class_names, name="some set"):
    """A data set of which only the class names matter."""
    images, labels = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64)
    moment = np.ones(1, np.float32)
    return Dataset(
        name=name,
        fingerprint="0" * 16,
        class_names=tuple(class_names),
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        channel_mean=moment,
        channel_std=moment,
    )


@given(n_classes=st.integers(4, 300), index=st.integers(0, 2))
def test_random_halves_partition_the_classes(n_classes, index):
    a, b = random_halves(n_classes, index)
    assert sorted(a + b) == list(range(n_classes))
    assert list(a) == sorted(a)
    assert list(b) == sorted(b)
    assert len(a) - len(b) == n_classes % 2
    assert random_halves(n_classes, index) == (a, b)


@pytest.mark.parametrize("n_classes", [4, 5, 6, 7, 8])
def test_random_halves_run_through_every_partition_once(n_classes):
    size = (n_classes + 1) // 2
    every = {
        frozenset((frozenset(a), frozenset(range(n_classes)) - frozenset(a)))
        for a in itertools.combinations(range(n_classes), size)
    }
    drawn = [frozenset(map(frozenset, random_halves(n_classes, index))) for index in range(len(every))]
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) == every
    with pytest.raises(UserError, match=f"there are {len(every)} different ones, .*; splits={len(every)} asks for all"):
        random_halves(n_classes, len(every))


def test_random_halves_stay_what_they_are():
    # golden: another value here makes every published split another one
    assert random_halves(10, 0) == GOLDEN[0]
    assert random_halves(10, 1) == GOLDEN[1]


GOLDEN = [((1, 2, 4, 6, 7), (0, 3, 5, 8, 9)), ((0, 3, 4, 7, 9), (1, 2, 5, 6, 8))]


def test_random_halves_are_random():
    together = [sum(i in half and j in half for half in random_halves(10, s)) for s in range(60) for i, j in [(0, 1)]]
    assert sum(together) / 60 == pytest.approx(4 / 9, abs=5 * math.sqrt(4 / 9 * 5 / 9 / 60))


@pytest.mark.parametrize("n_classes", [0, 1, 3])
def test_too_few_classes_for_halves(n_classes):
    with pytest.raises(UserError, match=f"random halves of {n_classes} class(es)?: it takes at least 4"):
        random_halves(n_classes, 0)


def test_a_negative_split_is_refused():
    with pytest.raises(UserError, match="split -1 of 10 classes: there are 126 different ones"):
        random_halves(10, -1)


def test_named_pairs():
    assert halves(named(CIFAR10), "animals/vehicles") == ((2, 3, 4, 5, 6, 7), (0, 1, 8, 9))
    assert halves(named(DIGITS), "loops/no-loops") == ((0, 6, 8, 9), (1, 2, 3, 4, 5, 7))
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    torchvision_mnist = [f"{i} - {word}" for i, word in enumerate(words)]
    assert halves(named(torchvision_mnist), "loops/no-loops") == ((0, 6, 8, 9), (1, 2, 3, 4, 5, 7))


def test_natural_man_made_of_cifar100_and_ilsvrc12():
    from raytransfer.tasks.halves import _CIFAR100_MAN_MADE, _CIFAR100_NATURAL, named_pairs

    cifar100 = sorted({*_CIFAR100_NATURAL.split(), *_CIFAR100_MAN_MADE.split()} - {"cra"})
    assert len(cifar100) == 100
    natural, man_made = halves(named(cifar100), "natural/man-made")
    assert (len(natural), len(man_made)) == (70, 30)
    assert {cifar100[i] for i in man_made} >= {"bottle", "clock", "bed", "castle", "train", "tractor"}
    wnids = sorted(name for half in named_pairs()["natural/man-made"] for name in half if re.fullmatch(r"n\d{8}", name))
    natural, man_made = halves(named(wnids), "natural/man-made")
    assert (len(natural), len(man_made)) == (449, 551)
    assert wnids[natural[0]] == "n01440764"  # tench


def test_explicit_lists_take_names_and_indices():
    assert halves(named(CIFAR10), {"A": ["dog", 3], "B": ["truck", 0, "ship"]}) == ((3, 5), (0, 8, 9))


def test_a_named_pair_fits_a_part_of_its_data_set_that_has_both_halves():
    assert halves(named(["cat", "truck", "dog", "ship"]), "animals/vehicles") == ((0, 2), (1, 3))
    with pytest.raises(UserError, match="does not fit the classes of some set: some set takes random, or lists"):
        halves(named(["cat", "truck", "dog"]), "animals/vehicles")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("loops/no-loops", "does not fit the classes of cifar10: cifar10 takes random, animals/vehicles"),
        ("cats", "halves 'cats' is no pair of halves: cifar10 takes random, animals/vehicles, or lists A and B"),
        ({"A": ["dog", "catt"], "B": [0, 1]}, "half A names class 'catt', which cifar10 does not have: did you mean"),
        ({"A": ["dog", "xyzzy"], "B": [0, 1]}, "'xyzzy', which cifar10 does not have: its classes are airplane, auto"),
        ({"A": [0, 10], "B": [1, 2]}, r"half A holds class index 10: cifar10 has 10 classes, 0\.\.9"),
        ({"A": [0, 1], "B": [-1, 2]}, r"half B holds class index -1: cifar10 has 10 classes, 0\.\.9"),
        ({"A": [0, True], "B": [1, 2]}, "half A holds class index True"),
        ({"A": [0, 1, 2], "B": [1, "bird", 3]}, "halves A and B overlap: both hold automobile, bird"),
        ({"A": [0, 1, "airplane"], "B": [2, 3]}, "half A names airplane more than once"),
        ({"A": [], "B": [2, 3]}, "half A has 0 classes: it needs at least 2"),
        ({"A": [0, 1], "B": ["dog"]}, "half B has 1 class: it needs at least 2"),
        ({"A": "cat", "B": [0, 1]}, "half A is 'cat': it must be a list"),
        ({"A": [0, 1]}, "halves have keys A: they must be A and B"),
        ({}, "halves have keys none: they must be A and B"),
    ],
)
def test_wrong_halves(wanted, message):
    with pytest.raises(UserError, match=message) as error:
        halves(named(CIFAR10, "cifar10"), wanted)
    assert "\n" not in str(error.value)


def test_a_class_that_is_named_so_comes_before_an_index():
    numbered = named(sorted(map(str, range(12))))  # 0, 1, 10, 11, 2, ...
    assert halves(numbered, {"A": ["2", "3"], "B": [0, 1]}) == ((4, 5), (0, 1))
    assert halves(numbered, {"A": [0, "10"], "B": ["4", "5"]}) == ((0, 2), (6, 7))
    assert halves(named(["7", "8", "9", "10"]), {"A": [7, 8], "B": [9, 10]}) == ((0, 1), (2, 3))
    assert halves(named(DIGITS), {"A": [0, 1, 2], "B": [7, 8]}) == ((0, 1, 2), (7, 8))


def test_a_number_that_may_be_a_name_or_an_index_is_refused():
    numbered = named(sorted(map(str, range(12))))
    message = "half A holds 2, which is the name of one class of some set and the index of another, '10': write '2' in"
    with pytest.raises(UserError, match=re.escape(message)):
        halves(numbered, {"A": [2, 3], "B": ["5", "6"]})


@pytest.mark.parametrize("wanted", [10.5, True, None, 12, -1])
def test_what_is_neither_a_name_nor_an_index_is_refused(wanted):
    numbered = named(sorted(map(str, range(12))))
    message = f"half A holds class index {wanted}: some set has 12 classes, 0..11; in quotes it is a name"
    with pytest.raises(UserError, match=re.escape(message)):
        halves(numbered, {"A": [wanted, "3"], "B": ["5", "6"]})
