"""A folder of image classes: ``path/train/<class>/*`` with ``path/test``, or just ``path/<class>/*``."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from raytransfer.errors import UserError
from raytransfer.tasks.decode import Encoded, Raw

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
TEST_NAMES = ("test", "val", "valid", "validation")


def holds_classes(path: Path) -> bool:
    """Whether the folder looks like one of image classes: a ``train`` folder, or two folders directly of images."""
    if (path / "train").is_dir():
        return True
    holding = (folder for folder in _class_folders(path) if any(_is_image(file.name) for file in folder.iterdir()))
    return len(list(islice(holding, 2))) == 2


class FolderSource:
    """Reads a folder of image classes; each class is a folder, whose images may lie in folders below it.

    Attributes:
        files: (class name, path) of each image, the training part first, classes and files in alphabetical order.
        n_train: How many of them are training images, or None where the folder has no test part.
    """

    def __init__(self, path: Path) -> None:
        """List the images.

        Args:
            path: The folder.

        Raises:
            UserError: It holds no classes, a class holds no images, or train and test differ in classes.
        """
        self.path = path
        if not (path / "train").is_dir():
            self.files = _images(path)
            self.n_train = None
            return
        self.files = _images(path / "train")
        test = next((path / name for name in TEST_NAMES if (path / name).is_dir()), None)
        self.n_train = None if test is None else len(self.files)
        if test is not None:
            test_files = _images(test)
            _check_same_classes(path / "train", _names(self.files), test, _names(test_files))
            self.files += test_files

    def identity(self) -> dict[str, Any]:
        """Kind, path, and each file's path, size and time."""
        stats = [(str(file.relative_to(self.path)), file.stat()) for _, file in self.files]
        return {
            "kind": "folder",
            "path": str(self.path),
            "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        }

    def read(self) -> Raw:
        """Give the images, still encoded."""
        names = _names(self.files)
        index = {name: i for i, name in enumerate(names)}
        return Raw(
            class_names=names,
            labels=np.array([index[name] for name, _ in self.files], dtype=np.int64),
            is_test=None if self.n_train is None else np.arange(len(self.files)) >= self.n_train,
            images=self._encoded,
        )

    def _encoded(self) -> Iterator[tuple[str, Encoded]]:
        return ((str(file), file) for _, file in self.files)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _class_folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _images(path: Path) -> list[tuple[str, Path]]:
    folders = _class_folders(path)
    if len(folders) < 2:
        raise UserError(
            f"{path} holds {len(folders)} class folders and no Parquet files: "
            "a data set is Parquet files or a folder of at least 2 classes, each a folder of images"
        )
    return [(folder.name, file) for folder in folders for file in _class_images(folder)]


def _class_images(folder: Path) -> list[Path]:
    def unreadable(error: OSError) -> None:  # os.walk would take the folder for an empty one
        raise error

    found = [
        Path(base, name)
        for base, _, names in os.walk(folder, onerror=unreadable, followlinks=True)
        for name in names
        if _is_image(name)
    ]
    if not found:
        raise UserError(f"class folder {folder} holds no images ({' '.join(SUFFIXES)})")
    return sorted(found)


def _names(files: list[tuple[str, Path]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in files))


def _check_same_classes(train: Path, train_names: tuple[str, ...], test: Path, test_names: tuple[str, ...]) -> None:
    for one, one_names, other, other_names in (
        (train, train_names, test, test_names),
        (test, test_names, train, train_names),
    ):
        missing = sorted(set(one_names) - set(other_names))
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise UserError(f"{other} lacks class folders that {one} has: {shown}; both need the same classes")
