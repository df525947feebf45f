import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytransfer.errors import UserError
from raytransfer.tasks import DataSource, load_task, open_dataset, task_label, task_spec
from raytransfer.tasks.draws import stable_permutation, stratified_half


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return open_dataset(DataSource(data="digits", data_dir=str(folder / "none"), cache_dir=str(folder / "cache")))


def rows(part):
    return [image.tobytes() for image in part.images[part.rows]]


def test_a_task_holds_its_classes_and_all_their_test_images(digits):
    spec = task_spec(digits, [9, 3, 5], None, 7)
    task = load_task(digits, spec)
    assert (spec.classes, spec.train_per_class, spec.draw_seed) == ((3, 5, 9), None, 0)
    for part, all_images, all_labels in (
        (task.train, digits.train_images, digits.train_labels),
        (task.test, digits.test_images, digits.test_labels),
    ):
        assert part.images is all_images  # shared by all tasks, none of which copies it
        assert part.rows.tolist() == [i for i, label in enumerate(all_labels) if label in (3, 5, 9)]
        assert part.labels.tolist() == [(3, 5, 9).index(all_labels[i]) for i in part.rows]
        assert part.rows.dtype == part.labels.dtype == np.int64
        for array in (part.images, part.rows, part.labels):
            assert not array.flags.writeable
    assert task.channel_mean is digits.channel_mean


def test_no_image_is_both_training_and_test(digits):
    task = load_task(digits, task_spec(digits, range(10), None, 0))
    train, test = set(rows(task.train)), set(rows(task.test))
    assert len(train | test) == 1797  # scikit-learn's digits hold no image twice
    assert not train & test


@settings(max_examples=40, deadline=None)
@given(
    classes=st.sets(st.integers(0, 9), min_size=2),
    fewer=st.integers(1, 80),
    more=st.integers(1, 80),
    seed=st.integers(0, 10**6),
)
def test_draws_are_nested_and_balanced_and_paired_tasks_draw_the_same(digits, classes, fewer, more, seed):
    fewer, more = sorted((fewer, more))
    small = load_task(digits, task_spec(digits, sorted(classes), fewer, seed, paired_with=range(10)))
    large = load_task(digits, task_spec(digits, range(10), more, seed))
    assert np.bincount(small.train.labels).tolist() == [fewer] * len(classes)
    drawn = dict(zip(rows(large.train), large.train.labels.tolist(), strict=True))
    ascending = sorted(classes)
    for image, label in zip(rows(small.train), small.train.labels, strict=True):
        assert drawn[image] == ascending[label]


def test_another_seed_draws_other_images_and_the_same_seed_the_same(digits):
    one, again, other = (rows(load_task(digits, task_spec(digits, [0, 1], 20, seed)).train) for seed in (1, 1, 2))
    assert one == again
    assert set(one) != set(other)


def test_tasks_of_other_classes_draw_other_images_of_a_class_that_both_have(digits):
    def zeros(*args, **kwargs):
        task = load_task(digits, task_spec(digits, *args, **kwargs))
        return {image for image, label in zip(rows(task.train), task.train.labels, strict=True) if label == 0}

    drawn = zeros([0, 1, 2], 20, 1)
    assert drawn != zeros([0, 1, 3], 20, 1)
    assert drawn == zeros([0, 1, 3], 20, 1, paired_with=[2, 1, 0])
    assert drawn == zeros([0, 1, 2], 20, 1, {"random_labels": 0.0, "merged": 3})
    assert task_spec(digits, [0, 1, 2], 20, 1, paired_with=[2, 0, 1]) == task_spec(digits, [0, 1, 2], 20, 1)


def test_the_order_of_draws_is_pinned():
    # golden: another value here makes every drawn task another one under the same id
    assert stable_permutation(6, 0, "f", 3).tolist() == GOLDEN
    assert stable_permutation(0, "x").tolist() == []


GOLDEN = [3, 2, 4, 5, 0, 1]


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_the_stratified_half_is_half_of_each_class(labels):
    labels = np.array(labels)
    is_test = stratified_half(labels)
    for label in set(labels.tolist()):
        assert is_test[labels == label].sum() == (labels == label).sum() // 2


def test_the_same_images_are_the_same_task(digits):
    counts = np.bincount(digits.train_labels)
    pair = [int(i) for i in np.flatnonzero(counts == counts[0])][:2]
    assert len(pair) == 2
    assert task_spec(digits, pair, int(counts[0]), 5) == task_spec(digits, pair[::-1], None, 9)
    assert task_spec(digits, pair, 5, 5) != task_spec(digits, pair, 5, 9)


@pytest.mark.parametrize(
    ("classes", "per_class", "seed", "message"),
    [
        ([0, 10], None, 0, r"class index 10 is out of range: digits has classes 0\.\.9"),
        ([-1, 3], None, 0, "class index -1 is out of range"),
        ([3], None, 0, "at least 2 different classes"),
        ([3, 3, 4], None, 0, r"task classes \[3, 3, 4\] are no task"),
        (
            [0, 8],
            88,
            0,
            "train_per_class is 88, but class '8' of digits has only 87 training images: ask for at most 87",
        ),
        ([0, 8], 0, 0, "train_per_class is 0: it must be at least 1"),
        ([0, 8], 5, -1, "draw_seed is -1: it must be at least 0"),
    ],
)
def test_impossible_tasks(digits, classes, per_class, seed, message):
    with pytest.raises(UserError, match=message) as error:
        task_spec(digits, classes, per_class, seed)
    assert "\n" not in str(error.value)


def test_a_spec_of_other_data_is_refused(digits):
    spec = dataclasses.replace(task_spec(digits, [0, 1], None, 0), fingerprint="f" * 16)
    with pytest.raises(UserError, match="made for digits with fingerprint ffffffffffffffff, this is digits with"):
        load_task(digits, spec)


def test_labels_are_short_and_tell_tasks_apart(digits):
    assert task_label(digits, task_spec(digits, [9, 0, 3], None, 0)) == "digits[0 3 9]"
    assert task_label(digits, task_spec(digits, [9, 0], 25, 1)) == "digits[0 9] 25/class"
    paired = task_spec(digits, [9, 0], 25, 1, paired_with=[1, 9])
    assert task_label(digits, paired) == "digits[0 9] 25/class drawn as [1 9]"
    spaced = dataclasses.replace(digits, class_names=("Ankle boot", *digits.class_names[1:]))
    assert task_label(spaced, task_spec(spaced, [0, 1], None, 0)) == "digits[Ankle boot, 1]"
    long = dataclasses.replace(digits, class_names=tuple(f"a long class name {i}" for i in range(10)))
    labels = {task_label(long, task_spec(long, classes, None, 0)) for classes in (range(5), range(5, 10))}
    assert len(labels) == 2
    assert all(len(label) < 40 and "[5 classes " in label for label in labels)


def test_importing_tasks_imports_no_torch_and_no_sklearn():
    code = "import raytransfer.tasks, sys; print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
