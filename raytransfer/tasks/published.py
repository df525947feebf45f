"""Data sets that come with a library: scikit-learn's digits, and torchvision's by name."""

import difflib
import inspect
import operator
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raytransfer.errors import UserError, one_line
from raytransfer.tasks.decode import Labels, Raw
from raytransfer.tasks.image import Encoded
from raytransfer.tasks.parts import HALVED, Contents

_TRAIN_SPLITS = ("train", "trainval", "train-standard")
_TEST_SPLITS = ("test", "val", "valid")
_GENERIC = ("VisionDataset", "DatasetFolder", "ImageFolder")
# labels are attributes, pairs, captions or boxes: refused before a large download; others once labels are read
_NOT_ONE_CLASS = ("CelebA", "LFWPairs", "LSUNClass", "SBU", "WIDERFace")


class DigitsSource:
    """scikit-learn's digits: 1797 grey images of 8x8 pixels, part of its wheel, without a test part."""

    def identity(self) -> dict[str, Any]:
        """Kind and version."""
        return {"kind": "digits", "version": version("scikit-learn")}

    def contents(self) -> Contents:
        """What is used for what."""
        return Contents(train="scikit-learn's digits", test=HALVED)

    def read(self) -> Raw:
        """Give the images, their 17 grey values spread over 0..255."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
        return Raw(
            class_names=tuple(str(digit) for digit in range(10)),
            labels=digits.target.astype(np.int64),
            is_test=None,
            images=lambda: ((f"digits image {i}", Image.fromarray(image)) for i, image in enumerate(pixels)),
        )


class TorchvisionSource:
    """Reads a torchvision classification data set, downloading it where torchvision can.

    torchvision keeps CIFAR as pickles, which its own code loads; it compares their MD5 first.
    """

    def __init__(self, name: str, data_dir: Path) -> None:
        """Nothing is imported yet.

        Args:
            name: Class name in ``torchvision.datasets``, in any case.
            data_dir: torchvision's ``root``.
        """
        self.name = name.lower()
        self.folder = data_dir / name
        self.data_dir = data_dir

    def identity(self) -> dict[str, Any]:
        """Kind, name, folder and version: what was published under the name does not change."""
        return {"kind": "torchvision", "name": self.name, "root": str(self.data_dir), "version": version("torchvision")}

    def contents(self) -> Contents:
        """What is used for what."""
        return Contents(train="torchvision's training part", test="torchvision's test part, or half where it has none")

    def read(self) -> Raw:
        """Read the labels; give the images still encoded.

        Raises:
            UserError: There is no such data set, it is not one of whole images with one label each, or its files are
                neither there nor to be downloaded.
        """
        parts = _opened(_find(self.name, self.folder), self.data_dir)
        labels = [_labels(self.name, part) for part in parts]
        lengths = [len(part) for part in labels]
        every = np.concatenate(labels)
        return Raw(
            class_names=_class_names(parts[0], every),
            labels=every,
            is_test=np.arange(len(every)) >= lengths[0] if len(parts) == 2 else None,
            images=lambda: _encoded(self.name, parts, lengths),
        )


def _classification_sets() -> dict[str, Any]:
    """List torchvision's labelled image data sets that need nothing but a folder, by lower-case name."""
    from torchvision import datasets

    found = {name: getattr(datasets, name) for name in datasets.__all__ if name not in _GENERIC + _NOT_ONE_CLASS}
    return {name.lower(): cls for name, cls in found.items() if inspect.isclass(cls) and _is_classification(cls)}


def _is_classification(cls: Any) -> bool:
    parameters = _parameters(cls)
    required = [name for name, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    # joint transforms of image and target mark detection and segmentation; target_types, that a label can be had
    joint = "transforms" in parameters and "target_types" not in parameters
    return "target_transform" in parameters and not joint and set(required) <= {"root"}


def _parameters(cls: Any) -> dict[str, inspect.Parameter]:
    """Parameters of the constructor, with those of base classes that its ``**kwargs`` reach."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters
        found = {**{name: p for name, p in parameters.items() if name != "self"}, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return found


def _find(name: str, folder: Path) -> Any:
    found = _classification_sets()
    if name in found:
        return found[name]
    if folder.is_dir():
        raise UserError(
            f"{folder} holds no Parquet files, no tar shards and not 2 folders of images, and torchvision has no "
            f"classification set {name!r}: it is no data set"
        )
    from torchvision import datasets

    if name in map(str.lower, datasets.__all__):
        raise UserError(
            f"torchvision's {name} cannot be opened by name: it is not a set of whole images with one class each, or "
            f"it needs more than a folder; those that can are {', '.join(sorted(found))}"
        )
    close = difflib.get_close_matches(name, ["digits", *found], n=3)
    here = [f"./{folder.name}"] if Path(folder.name).exists() else []  # a path has a slash
    meant = " or ".join([*here, *close])
    raise UserError(
        f"unknown data set {name!r}{f': did you mean {meant}?' if meant else ';'} data is digits, a "
        f"path, a folder under data_dir, or one of torchvision's classification sets: {', '.join(sorted(found))}"
    )


def _opened(cls: Any, root: Path) -> list[Any]:
    """Open the data set's training and test part, or the one part there is."""
    parameters = _parameters(cls)
    options: dict[str, Any] = {"root": str(root)} if "root" in parameters else {}
    if "download" in parameters:
        options["download"] = True
    if "loader" in parameters:  # images are then paths, which are decoded here: in parallel, and grey stays grey
        options["loader"] = str
    if "train" in parameters:
        return [_constructed(cls, {**options, "train": train}) for train in (True, False)]
    if "split" in parameters:
        return [_first_split(cls, options, names) for names in (_TRAIN_SPLITS, _TEST_SPLITS)]
    return [_constructed(cls, options)]


def _first_split(cls: Any, options: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        try:
            return _constructed(cls, {**options, "split": name})
        except _NoSuchSplitError:
            continue
    raise UserError(f"torchvision's {cls.__name__} has no split named {' or '.join(names)}: it cannot be read by name")


class _NoSuchSplitError(Exception):
    """The data set has no split of this name."""


def _constructed(cls: Any, options: dict[str, Any]) -> Any:
    try:
        return cls(**options)
    except Exception as error:  # network, checksums, missing files, a missing library: torchvision has no one type
        if isinstance(error, ValueError) and "for argument split" in str(error):
            raise _NoSuchSplitError from None
        raise UserError(
            f"torchvision cannot open {cls.__name__} in data_dir {options.get('root')}: {one_line(error)}; "
            "put its files there, or run once where there is a network"
        ) from None


def _item(name: str, part: Any, i: int) -> Any:
    try:
        return part[i]
    except Exception as error:  # whatever the data set's own reading code raises
        raise UserError(f"torchvision's {name} cannot read its item {i}: {one_line(error)}") from None


def _labels(name: str, part: Any) -> Labels:
    found = []
    for i in range(len(part)):
        label = _item(name, part, i)[1]
        try:
            found.append(operator.index(label))
        except (TypeError, ValueError, RuntimeError):
            raise UserError(
                f"torchvision's {name} is not a classification set: label {i} is {type(label).__name__}, "
                "not a whole number"
            ) from None
    return np.array(found, dtype=np.int64)


def _class_names(part: Any, labels: Labels) -> tuple[str, ...]:
    count = int(labels.max(initial=-1)) + 1
    for attribute in ("wnids", "classes"):  # ImageNet's classes are tuples of synonyms; its WordNet ids are names
        names = getattr(part, attribute, None)
        if isinstance(names, list | tuple) and len(names) >= count:
            return tuple(map(str, names))
    return tuple(str(i) for i in range(count))


def _encoded(name: str, parts: list[Any], lengths: list[int]) -> Iterator[tuple[str, Encoded]]:
    for part, length in zip(parts, lengths, strict=True):
        for i in range(length):
            image = _item(name, part, i)[0]
            if isinstance(image, str):
                yield image, Path(image)
            elif isinstance(image, Image.Image):
                yield f"torchvision's {name} image {i}", image
            else:
                raise UserError(f"torchvision's {name} is not a set of images: item {i} is {type(image).__name__}")
