import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from raytransfer.errors import UserError
from raytransfer.specs import Dials
from raytransfer.tasks import DataSource, label_names, load_task, open_dataset, sample_task, task_spec
from raytransfer.tasks.dialled import dialled_images, merged_into
from raytransfer.tasks.dials import check_dials

INPUTS = {
    "resolution_px": 4,
    "blur_px": 1.0,
    "inverted": True,
    "noise": 40.0,
    "shuffle_px": 2,
}
LABELS = {"labelling": "brightness", "merged": 3, "split": 2, "random_labels": 0.5}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return open_dataset(DataSource(data="digits", data_dir=str(folder / "none"), cache_dir=str(folder / "cache")))


def loaded(dataset, classes=range(5), per_class=None, seed=3, **dials):
    spec = task_spec(dataset, list(classes), per_class, seed, dials)
    return spec, load_task(dataset, spec)


def images(part):
    return part.images[part.rows]


@pytest.mark.parametrize("dial", INPUTS)
def test_a_dial_of_pixels_changes_pixels_alone(digits, dial):
    _, plain = loaded(digits)
    spec, task = loaded(digits, **{dial: INPUTS[dial]})
    for before, after in ((plain.train, task.train), (plain.test, task.test)):
        assert images(after).shape == images(before).shape
        assert images(after).dtype == np.uint8
        assert (images(after) != images(before)).mean() > 0.05
        assert (after.labels == before.labels).all()
    assert (task.channel_mean == plain.channel_mean).all()
    assert spec.label_count == 5
    assert dial in spec.label


@pytest.mark.parametrize("dial", LABELS)
def test_a_dial_of_labels_changes_labels_alone(digits, dial):
    _, plain = loaded(digits)
    spec, task = loaded(digits, **{dial: LABELS[dial]})
    for before, after in ((plain.train, task.train), (plain.test, task.test)):
        assert (images(after) == images(before)).all()
        assert (after.labels != before.labels).any()
        assert set(after.labels) == set(range(spec.label_count))
    assert len(label_names(digits, spec)) == len(set(label_names(digits, spec))) == spec.label_count
    assert dial in spec.label


def test_blur_and_inversion_are_what_they_say(digits):
    _, plain = loaded(digits)
    blurred = gaussian_filter(images(plain.train)[7, 0].astype(float), 1.5)
    assert np.abs(images(loaded(digits, blur_px=1.5)[1].train)[7, 0] - blurred).max() <= 0.51
    assert (images(loaded(digits, inverted=True)[1].test) == 255 - images(plain.test)).all()


def test_resolution_averages_squares(digits):
    _, plain = loaded(digits)
    one = images(loaded(digits, resolution_px=1)[1].train)
    means = images(plain.train).mean(axis=(2, 3), keepdims=True)
    assert np.abs(one - means).max() <= 0.51

    def enlarged(pixels, axis):
        places = (np.arange(2 * pixels.shape[axis]) + 0.5) / 2 - 0.5
        return np.apply_along_axis(lambda line: np.interp(places, np.arange(len(line)), line), axis, pixels)

    for height, width in ((4, 8), (8, 4)):
        oblong = np.random.default_rng(0).integers(0, 256, (3, 1, height, width), dtype=np.uint8)
        squares = oblong.reshape(3, 1, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
        coarse = dialled_images(oblong, np.arange(3), Dials(resolution_px=2), "x")
        assert np.abs(coarse - enlarged(enlarged(squares, 2), 3)).max() <= 0.51


def test_noise_has_its_spread_and_is_an_image_s_own(digits):
    grey = np.full((400, 1, 8, 8), 128, dtype=np.uint8)
    dials = Dials(noise=20.0, seed=1)
    rows = np.arange(400)
    noisy = dialled_images(grey, rows, dials, "train").astype(float) - 128
    assert abs(noisy.mean()) < 0.5
    assert abs(noisy.std() - 20) < 0.5
    # golden: another value here makes every noisy task another one under the same id
    assert noisy[3, 0, 0].tolist() == [2, 2, -10, -8, -13, 28, 6, -42]
    some = np.array([3, 77, 399])
    assert (dialled_images(grey, some, dials, "train") == dialled_images(grey, rows, dials, "train")[some]).all()
    for other in (dialled_images(grey, rows, dials, "test"), dialled_images(grey, rows, Dials(noise=20.0), "train")):
        assert np.corrcoef(noisy.ravel(), other.ravel())[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_shuffling_moves_whole_blocks_alike_in_all_images(digits, block):
    _, plain = loaded(digits)
    shuffled = images(loaded(digits, shuffle_px=block)[1].train)

    def blocks(image):
        return [image[i : i + block, j : j + block] for i in range(0, 8, block) for j in range(0, 8, block)]

    first, again = (blocks(array[:, 0].transpose(1, 2, 0)) for array in (images(plain.train), shuffled))
    # each block of the shuffled set, seen over all images at once, is one block of the plain set
    places = [next(k for k, old in enumerate(first) if np.array_equal(old, new)) for new in again]
    assert len({first[k].tobytes() for k in places}) == len({old.tobytes() for old in first})
    assert places != sorted(places)


def test_grey_is_luma_and_keeps_three_channels():
    colour = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    grey = dialled_images(colour, np.arange(5), Dials(grey=1.0), "x")
    luma = 0.299 * colour[:, 0] + 0.587 * colour[:, 1] + 0.114 * colour[:, 2]
    for channel in range(3):
        assert np.abs(grey[:, channel] - luma).max() <= 0.51
    half = dialled_images(colour, np.arange(5), Dials(grey=0.5), "x")
    assert np.abs(half - (colour + luma[:, None]) / 2).max() <= 0.51


@settings(max_examples=40)
@given(share=st.floats(0, 1), more=st.floats(0, 1))
def test_random_labels_are_nested(digits, share, more):
    small, large = sorted((share, more))
    plain, some, many = (loaded(digits, random_labels=value)[1].train.labels for value in (0.0, small, large))
    assert (many[some != plain] == some[some != plain]).all()


def test_random_labels_have_their_share(digits):
    plain = loaded(digits, range(10))[1].train.labels
    half, every = (loaded(digits, range(10), random_labels=share)[1].train.labels for share in (0.5, 1))
    changed = [(half != plain).mean(), (every != plain).mean()]
    assert changed == pytest.approx([0.45, 0.9], abs=0.05)  # a tenth draw their own label again
    assert np.bincount(every, minlength=10) / len(every) == pytest.approx(0.1, abs=0.04)


def test_labels_do_not_depend_on_which_images_are_drawn(digits):
    for dials in ({"split": 2}, {"labelling": "brightness"}, {"random_labels": 0.5}, {"merged": 2}):
        _, every = loaded(digits, **dials)
        _, few = loaded(digits, per_class=20, **dials)
        labels = dict(zip(every.train.rows.tolist(), every.train.labels.tolist(), strict=True))
        assert [labels[row] for row in few.train.rows.tolist()] == few.train.labels.tolist()
        assert (few.test.labels == every.test.labels).all()


def test_merging_is_even_and_splitting_halves_each_class(digits):
    assert sorted(np.bincount(merged_into(10, 3, 0))) == [3, 3, 4]
    assert (merged_into(10, 3, 0) != merged_into(10, 3, 1)).any()
    _, plain = loaded(digits)
    spec, split = loaded(digits, split=2)
    assert spec.label_count == 10
    assert (split.train.labels // 2 == plain.train.labels).all()
    share = np.bincount(split.train.labels, minlength=10) / np.repeat(np.bincount(plain.train.labels), 2)
    assert (abs(share - 0.5) < 0.08).all()  # ties keep it from being exact
    assert np.bincount(split.train.labels).tolist() == [46, 43, 46, 45, 46, 43, 46, 46, 46, 45]
    bright = images(split.train).mean(axis=(1, 2, 3))
    for label in range(0, 10, 2):
        assert bright[split.train.labels == label].max() <= bright[split.train.labels == label + 1].min()


def test_label_names_say_what_two_tasks_share(digits):
    names = {
        key: set(label_names(digits, loaded(digits, **dials)[0]))
        for key, dials in {
            "plain": {},
            "noisy": {"noise": 9.0},
            "random": {"random_labels": 0.5},
            "merged": {"merged": 4},
            "split": {"split": 2},
            "bright": {"labelling": "brightness"},
        }.items()
    }
    assert names["plain"] == {f"digits/{i}" for i in range(5)} == names["noisy"] == names["random"]
    assert len(names["merged"] & names["plain"]) == 3  # 5 classes into 4: two of them became one
    assert not (names["split"] | names["bright"]) & names["plain"]


def test_dials_compose(digits):
    _, one = loaded(digits, inverted=True, shuffle_px=2)
    _, inverted = loaded(digits, inverted=True)
    _, shuffled = loaded(digits, shuffle_px=2)
    assert (images(one.train) == 255 - images(shuffled.train)).all()
    assert not np.array_equal(images(one.train), images(inverted.train))
    spec, both = loaded(digits, merged=2, split=3)
    assert spec.label_count == 6
    assert set(both.train.labels) == set(range(6))
    assert set(loaded(digits, merged=2, split=3, random_labels=1.0)[1].train.labels) == set(range(6))


def test_what_changes_nothing_is_the_plain_task(digits):
    plain = task_spec(digits, range(5), None, 3)
    idle = {
        "blur_px": 0,
        "grey": 0.0,
        "noise": 0,
        "shuffle_px": 8,
        "resolution_px": 8,
        "merged": 5,
        "split": None,
        "random_labels": 0.0,
        "labelling": "class",
        "inverted": False,
    }
    assert task_spec(digits, range(5), None, 3, idle) == plain
    assert plain.dials is None


def test_the_seed_counts_only_where_something_is_drawn(digits):
    for dials, drawn in (
        ({"blur_px": 1.0}, False),
        ({"split": 2}, False),
        ({"noise": 9.0}, True),
        ({"merged": 2}, True),
    ):
        one, other = (task_spec(digits, range(5), None, seed, dials) for seed in (0, 1))
        assert (one != other) == drawn


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"sharpen": 1}, "sharpen=1 is no dial; there are resolution_px"),
        ({"noise": -1}, r"noise=-1 must lie in 0\.\.1000"),
        ({"noise": "much"}, "noise=much must lie in"),
        ({"noise": float("nan")}, "noise=nan must lie in"),
        ({"inverted": 1}, "inverted=1 must be true or false"),
        (
            {"shuffle_px": 3},
            "shuffle_px=3 must divide the images' side of 8 x 8 pixels into several blocks: choose from 1, 2, 4",
        ),
        ({"shuffle_px": 1.5}, "shuffle_px=1.5 must be a whole number of at least 1"),
        ({"resolution_px": 9}, "resolution_px=9 must not exceed the images' side of 8"),
        ({"grey": 0.5}, "takes colour out of images that have none"),
        ({"merged": 6}, "merged=6 must not exceed the task's 5 classes"),
        ({"merged": 1}, "merged=1 must be a whole number of at least 2"),
        (
            {"split": 45},
            "leaves fewer than 2 training images a label: the smallest class has 89, which allows at most 44",
        ),
        ({"labelling": "colour"}, "labelling=colour must be class or brightness"),
        ({"labelling": "brightness", "merged": 2}, "leaves no classes to be merged or split"),
        ({"labelling": "brightness", "split": 2}, "leaves no classes to be merged or split"),
        ({"random_labels": 1.5}, r"random_labels=1.5 must lie in 0\.\.1"),
    ],
)
def test_impossible_dials_are_refused(digits, dials, message):
    with pytest.raises(UserError, match=message):
        task_spec(digits, range(5), None, 0, dials)


@pytest.mark.parametrize("shape", [(1, 8, 6), (1, 6, 8)])
def test_dials_fit_both_sides_of_images_that_are_not_square(shape):
    def checked(**dials):
        return check_dials(dials, shape=shape, classes=5, per_class=9, seed=0)

    assert checked(resolution_px=6) is None
    with pytest.raises(UserError, match="resolution_px=7 must not exceed the images' side of 6"):
        checked(resolution_px=7)
    for block in (3, 4, 6, 8):
        with pytest.raises(UserError, match=r"must divide the images' side of .*: choose from 1, 2$"):
            checked(shuffle_px=block)


def test_every_dial_is_felt(digits):
    spec = task_spec(digits, range(5), None, 3)
    for field in dataclasses.fields(Dials):
        assert field.name in (*INPUTS, *LABELS, "grey", "seed")
    arrays = {name: loaded(digits, **{name: value})[1].train for name, value in (INPUTS | LABELS).items()}
    contents = {name: images(part).tobytes() + part.labels.tobytes() for name, part in arrays.items()}
    assert len(set(contents.values())) == len(contents)
    assert spec.dials is None


@pytest.mark.parametrize("dials", [{}, INPUTS, {"merged": 2, "random_labels": 0.5}, {"labelling": "brightness"}])
def test_a_sample_holds_some_of_a_task_s_images_as_the_task_has_them(digits, dials):
    spec, task = loaded(digits, per_class=30, **dials)
    sample = sample_task(digits, spec, 40, 7)
    whole = {image.tobytes(): label for image, label in zip(images(task.train), task.train.labels, strict=True)}
    found = images(sample.train)
    assert len(found) == 40
    assert [whole[image.tobytes()] for image in found] == sample.train.labels.tolist()
    assert len(sample_task(digits, spec, 1000, 7).train.rows) == 150


def test_a_task_and_its_dialled_variants_draw_the_same_images(digits):
    plain, _ = loaded(digits, per_class=30)
    inverted, _ = loaded(digits, per_class=30, inverted=True)
    one, other = (sample_task(digits, spec, 40, 7).train for spec in (plain, inverted))
    assert (images(one) == 255 - images(other)).all()
    assert (images(sample_task(digits, plain, 40, 8).train) != images(one)).any()
