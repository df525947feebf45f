"""A folder of image classes: ``path/train/<class>/*`` with ``path/test``, or just ``path/<class>/*``."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from raytransfer.errors import UserError
from raytransfer.tasks.decode import Raw
from raytransfer.tasks.image import Encoded
from raytransfer.tasks.parts import (
    HALVED,
    Contents,
    Parts,
    choices,
    nearly_says_a_part,
    part_of,
    placed,
    says_only_its_part,
    unread,
)
from raytransfer.tasks.places import REQUESTS, Place, RemotePath, full_name
from raytransfer.tasks.threads import ahead
from raytransfer.tasks.walking import SUFFIXES, Walk, holds_images, is_image, is_part
from raytransfer.words import some_of

_WRAP = "if the folders here are the classes, put all of them into a folder named train"
_SHOWN = 5  # names listed at most


def folders_of_images(path: Place) -> list[Place]:
    """The folders in a folder that look like parts or classes, whatever else lies beside them.

    They are those that are named like parts and hold images, else those with images directly in them if there are
    several.
    """
    folders = Walk(path).folders(path)
    parts = [folder for folder in folders if part_of(folder.name) is not None and holds_images(folder)]
    direct = [folder for folder in folders if any(is_image(entry.name) for entry in folder.iterdir())]
    return parts or (direct if len(direct) > 1 else [])


def holds_classes(path: Place) -> bool:
    """Whether a folder has a training part, or at least two folders with images directly in them."""
    folders = Walk(path).folders(path)
    if any(part_of(folder.name) == "train" and is_part(folder) for folder in folders):
        return True
    holding = (folder for folder in folders if any(is_image(file.name) for file in folder.iterdir()))
    return len(list(islice(holding, 2))) == 2


class FolderSource:
    """Reads a folder of image classes; each class is a folder, whose images may lie in folders below it.

    Hidden folders, folders of tools and stores of results are skipped at every depth. Every folder is read once: below
    a class folder, links to this folder, to a class, to anything inside these or to a folder that holds them are
    skipped, and so is a second link to one folder elsewhere. Only regular files are images.

    Attributes:
        files: (class name, path or address) of each image, the training part first, classes and files in alphabetical
            order. Paths are text: for a million files, Path objects take a gigabyte and half a minute.
        n_train: How many of them are training images; None if the folder has no test part.
    """

    def __init__(self, path: Place) -> None:
        """List the images.

        Args:
            path: The folder.

        Raises:
            UserError: It holds no classes, a class holds no images, a folder is of no part, or train and test differ in
                classes.
        """
        self.path = path
        self._walk = Walk(path)
        self._parts = self._sorted()
        self.n_train: int | None = None
        if self._parts is None:
            (self.files,) = self._walk.images(path)
            return
        (train,) = self._parts.train
        self.files, *tests = self._walk.images(train, *self._parts.test)
        for test, test_files in zip(self._parts.test, tests, strict=True):
            self.n_train = len(self.files)
            _check_same_classes(train, _names(self.files), test, _names(test_files))
            self.files += test_files

    def _sorted(self) -> Parts | None:
        """The folders by part; None if they are classes.

        A folder that is named like a part is one if at least two folders below it hold images. Otherwise ``train``
        beside ``car`` is taken for a class, but ``test`` beside ``car`` is refused: it may hold test images without
        labels.
        """
        folders = self._walk.folders(self.path)
        parts = [folder for folder in folders if part_of(folder.name) is not None and is_part(folder)]
        if not parts:
            _check_names(self.path, folders)
            _check_are_classes(folders)
            return None
        self._walk.pass_over_images(self.path)
        for folder in list(folders):
            if folder not in parts and not holds_images(folder):
                self._walk.pass_over(folder, "no images")
                folders.remove(folder)
        found = placed(folders, self.path)
        for same in (found.train, found.test) if found else ():
            if len(same) > 1:
                names = ", ".join(folder.name for folder in same)
                raise UserError(f"{self.path} has several folders for one part, {names}: remove or rename all but one")
        return found

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.files)

    def contents(self) -> Contents:
        """What is used for what."""
        # of folders and images the walk has told
        told: set[Place] = {entry for entry in self.path.iterdir() if not entry.is_file() or is_image(entry.name)}
        left_out = self._walk.passed_over() + unread(self.path, [self.path], told)
        if self._parts is None:
            return Contents(train="all class folders", test=HALVED, left_out=left_out)
        aside = tuple(f"{folder.name}/ (a held-out part beside the test part)" for folder in self._parts.set_aside)
        test = f"{self._parts.test[0].name}/" if self._parts.test else HALVED
        return Contents(train=f"{self._parts.train[0].name}/", test=test, left_out=aside + left_out)

    def identity(self) -> dict[str, Any]:
        """Kind, path, and each file's path and stamp, as ``raytransfer.tasks.places.stamp`` has them."""
        start = len(str(self.path / "_")) - 1
        files: list[tuple[Any, ...]]
        if isinstance(self.path, RemotePath):
            files = [(file[start:], *(self.path / file[start:]).stamp()) for _, file in self.files]
        else:
            stats = [(file[start:], os.stat(file)) for _, file in self.files]  # noqa: PTH116 - text
            files = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats]
        return {
            "kind": "folder",
            "path": full_name(self.path),
            "n_train": self.n_train,  # the same files may have been read as classes before
            "files": files,
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
        if isinstance(self.path, RemotePath):
            path, start = self.path, len(str(self.path / "_")) - 1
            return ahead(lambda named: (named[1], (path / named[1][start:]).read_bytes()), self.files, REQUESTS)
        return ((file, Path(file)) for _, file in self.files)


def _check_names(path: Place, folders: list[Place]) -> None:
    """Check that folders that will be read as classes are not named like parts.

    Raises:
        UserError: All are; or one has the name of a test or held-out part and holds images.
    """
    named = [folder for folder in folders if part_of(folder.name) is not None]
    if named and named == folders:
        if not any(holds_images(folder) for folder in folders):
            there = some_of([folder.name for folder in folders], _SHOWN)
            raise UserError(f"{path} holds no images ({' '.join(SUFFIXES)}) in its folders {there}")
        raise UserError(
            f"{path} holds {', '.join(folder.name for folder in named)}, which may be parts of a data set or classes: "
            f"a part holds a folder for each class; {choices()}"
        )
    for folder in named:
        if part_of(folder.name) != "train" and says_only_its_part(folder.name) and holds_images(folder):
            other = next(other.name for other in folders if other != folder)
            raise UserError(
                f"{folder} may be a part of a data set or a class like {other} beside it: a part holds a folder for "
                f"each class; {_WRAP}"
            )


def _check_are_classes(folders: list[Place]) -> None:
    """Check that folders that will be read as classes do not hold classes or parts themselves.

    Raises:
        UserError: A folder with folders of images has a name close to that of a part, or holds a part; or all folders
            hold folders of the same names.
    """
    if len(folders) < 2:  # which is refused as too few
        return
    deep = [folder for folder in folders if is_part(folder)]
    inner = {folder: [below.name for below in Walk(folder).folders(folder)] for folder in deep}
    for folder in deep:
        if nearly_says_a_part(folder.name):
            raise UserError(f"{folder} has a name that may or may not say a part of a data set: {choices()}; {_WRAP}")
        for name in inner[folder]:
            if part_of(name) is not None:
                raise UserError(
                    f"{folder / name} is named like a part of a data set, and lies in what would be a class: put parts "
                    f"above the classes, as train/{folder.name}; {_WRAP}"
                )
    if deep == folders and all(names == inner[folders[0]] for names in inner.values()):
        there = some_of([str(folder) for folder in folders], _SHOWN)
        raise UserError(
            f"{there} all hold the folders {some_of(inner[folders[0]], _SHOWN)}, which may be the classes: then name "
            f"what holds them as a part; {choices()}; {_WRAP}"
        )


def _names(files: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in files))


def _check_same_classes(train: Place, train_names: tuple[str, ...], test: Place, test_names: tuple[str, ...]) -> None:
    for one, one_names, other, other_names in (
        (train, train_names, test, test_names),
        (test, test_names, train, train_names),
    ):
        missing = sorted(set(one_names) - set(other_names))
        if missing:
            raise UserError(
                f"{other} lacks class folders that {one} has: {some_of(missing, _SHOWN)}; both need the same classes"
            )
